//! A run as a page.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::SMALL_CROZE;
use crate::program::Scratch;

/// Most bytes of a page, and most seconds that it takes.
const LARGEST: usize = 2_000_000;
const SECONDS: u64 = 1;

/// What must hold of every page: it fetches nothing, has no script, and no number that is none.
fn is_sound(page: &str) {
    let known = "http://www.w3.org/2000/svg";
    for scheme in ["http:", "https:", "file:", "ftp:", "src=\"/", "href=\"/", "@import", "url("] {
        let (found, allowed) =
            (page.matches(scheme).count(), known.matches(scheme).count() * page.matches(known).count());
        assert!(found == allowed, "{scheme} stands {found} times");
    }
    for word in ["<script", "javascript:", "onload", "NaN", "\"inf", ">inf<", ">None<", "Some("] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"), "not whole");
    assert!(page.contains("default-src 'none'") && page.len() < LARGEST, "{} bytes", page.len());
    // Whatever is gone to is there, once.
    let parts = |start: &str| -> Vec<String> {
        page.split(start).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let ids = parts(" id=\"");
    let mut once = ids.clone();
    once.sort();
    once.dedup();
    assert!(once.len() == ids.len(), "an id stands twice");
    let missing = parts("href=\"#").into_iter().find(|link| once.binary_search(link).is_err());
    assert!(missing.is_none(), "nothing is at {missing:?}");
}

/// Points that lead to the row of a candidate.
fn points(page: &str) -> usize {
    page.split("<a href=\"#c").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())).count()
}

/// Rows of candidates.
fn rows(page: &str) -> usize {
    let is_row = |rest: &&str| rest.split('>').next().is_some_and(|tag| tag.contains(" id=\"c"));
    page.split("<tr").skip(1).filter(is_row).count()
}

fn page(scratch: &Scratch, name: &str) -> String {
    let page = String::from_utf8(scratch.read(name)).unwrap();
    is_sound(&page);
    page
}

fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let settings = "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.kept_back = 100\n";
    scratch.write("small.toml", settings);
    scratch
}

/// A search with two arms.
fn search<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SMALL_CROZE[..], &["--epochs", "1", "--arms", "proxy,random"], more].concat()
}

#[test]
fn a_search_ends_in_a_page_that_says_what_was_found() {
    let scratch = scratch();
    scratch.good(&search(&["--out", "run"]));
    let whole = page(&scratch, "run/report.html");
    let result: Value = serde_json::from_slice(&scratch.read("run/result.json")).unwrap();
    let finalists = result["finalists"].as_array().unwrap();
    let kept = finalists.iter().find(|own| own["kept"] == true).unwrap();
    let number = |value: &Value| value.as_f64().unwrap();
    let right = |name: &str| format!("<b>{:.1} %</b>", 100.0 - number(&kept[name]["mean"]));
    assert!(whole.contains(&right("clean_error")) && whole.contains(&right("mean_corrupted_error")));
    for own in finalists {
        assert!(whole.contains(&format!(">{}</td>", own["role"].as_str().unwrap())));
        assert!(whole.contains(&format!(">{:.2}</td>", number(&own["clean_error"]["mean"]))));
        assert!(whole.contains(&format!(">{}</td>", own["params"])));
    }
    // A row and a point for each candidate of both arms; the map has a cell for each corruption and severity.
    let history = String::from_utf8(scratch.read("run/history.jsonl")).unwrap();
    let count = history.lines().count();
    assert_eq!((count, rows(&whole)), (12, 12));
    assert_eq!(points(&whole), count);
    let grid = kept["by_corruption"].as_object().unwrap();
    let errors = grid.values().flat_map(|errors| errors.as_array().unwrap());
    let cells: Vec<String> = errors.map(|error| format!(">{:.1}</text>", 100.0 - number(error))).collect();
    assert!(cells.len() == 75 && cells.iter().all(|cell| whole.contains(cell)));
    // What was not done is said, what was is too.
    for words in [
        "<li class=\"not\"><b>several searches</b>",
        "<li class=\"not\"><b>errors under attack</b>",
        "<li class=\"partly\"><b>errors under corruption</b>",
        "<b>chance with the same budget</b>",
        "100 were kept back to choose by",
        "altiplano search --config run/config.toml --out run-searched",
        "altiplano train --config run/train.toml --out run-again",
        "altiplano classify picture.png --model run/best.safetensors",
        "altiplano evaluate --model run/best.safetensors --data digits --attacks pgd:8/255:10",
        "what the search itself picked",
        "altiplano export run/best.safetensors --onnx run.onnx --card run.md",
    ] {
        assert!(whole.contains(words), "{words}");
    }
    assert!(!whole.contains("has not ended"));
    // A result that does not say which network is kept has a page all the same.
    let mut other = result.clone();
    other["finalists"].as_array_mut().unwrap().iter_mut().for_each(|own| own["kept"] = false.into());
    scratch.write("run/result.json", other.to_string());
    scratch.good(&["report", "run", "--out", "copy.html"]);
    assert!(page(&scratch, "copy.html").contains("Kept is <b>proxy</b>"));
    std::fs::remove_file(scratch.path("copy.html")).unwrap();
    // Whether the search paid is said, and not where no choice was made.
    let paid = match kept["role"].as_str().unwrap() {
        "largest" => "the search did not pay",
        "proxy" => "own pick is the network that is kept",
        _ => "own pick is not what is kept, but",
    };
    assert!(whole.contains(paid), "{paid}");
    other = result.clone();
    other["config"]["finals"]["kept_back"] = 0.into();
    scratch.write("run/result.json", other.to_string());
    scratch.good(&["report", "run", "--out", "copy.html"]);
    let copy = page(&scratch, "copy.html");
    assert!(copy.contains("whatever it is held against") && !copy.contains(paid));
    scratch.write("run/result.json", serde_json::to_vec_pretty(&result).unwrap());
    std::fs::remove_file(scratch.path("copy.html")).unwrap();
    // An arm that has fewer candidates is no match.
    let fewer: Vec<&str> = history.lines().take(count - 1).collect();
    scratch.write("run/history.jsonl", fewer.join("\n") + "\n");
    scratch.good(&["report", "run", "--out", "copy.html"]);
    assert!(page(&scratch, "copy.html").contains("<li class=\"partly\"><b>chance with the same budget</b>"));
    scratch.write("run/history.jsonl", &history);
    std::fs::remove_file(scratch.path("copy.html")).unwrap();
    // From the folder alone the same page is made, wherever it is to go.
    scratch.good(&["report", "run", "--out", "copy.html"]);
    assert!(scratch.read("copy.html") == scratch.read("run/report.html"));
    scratch.bad(2, &["report", "run", "--out", "copy.html"], &["--out", "--force replaces it"]);
    scratch.good(&["report", "run", "--out", "copy.html", "--force"]);
    scratch.bad(2, &["report", "run", "--out", "copy.pdf"], &["--out", ".html"]);

    // Several runs, of which one has not ended.
    scratch.good(&search(&["--out", "other", "--seed", "7"]));
    scratch.bad(2, &["report", "run", "other"], &["--out", "several runs"]);
    scratch.good(&["report", "run", "other", "--out", "two.html"]);
    let two = page(&scratch, "two.html");
    assert!(two.contains("croze seed 1") && two.contains("croze seed 7") && two.matches(">ended</td>").count() == 2);
    assert!(two.contains("the best of any") && two.contains("2 runs beside each other"));
    // Curves are those of the searches themselves, of six candidates each.
    let curves = two.split("aria-label=\"best so far").nth(1).unwrap().split("</svg>").next().unwrap();
    assert!(curves.contains("text-anchor=\"middle\">6</text>") && !curves.contains("text-anchor=\"middle\">10</text>"));
    std::fs::remove_file(scratch.path("other/result.json")).unwrap();
    scratch.good(&["report", "run", "other", "--out", "two.html", "--force"]);
    assert!(page(&scratch, "two.html").contains(">not ended</td>"));
}

#[test]
fn a_run_that_has_not_ended_is_shown_as_far_as_it_came() {
    let scratch = scratch();
    scratch.good(&search(&["--out", "run"]));
    let history = String::from_utf8(scratch.read("run/history.jsonl")).unwrap();
    let lines: Vec<&str> = history.lines().collect();
    // Killed amid a line; another line was damaged.
    let torn = format!("{}\n{{\"arch\": 3}}\n{}\n{}", lines[0], lines[1], &lines[2][..20]);
    scratch.write("run/history.jsonl", torn);
    std::fs::remove_file(scratch.path("run/result.json")).unwrap();
    let answer = scratch.json(&["report", "run", "--json"]);
    let faults = answer["faults"].as_array().unwrap();
    assert!(faults.len() == 2, "{faults:?}");
    assert!(faults[0].as_str().unwrap().contains("line 2") && faults[1].as_str().unwrap().contains("line 4"));
    let partial = page(&scratch, "run/report.html");
    assert!(partial.contains("<li class=\"partly\"><b>the largest network within the limits</b>"));
    assert!(partial.contains("2 of 6 candidates") && partial.contains("has not ended"));
    assert_eq!(rows(&partial), 2);
    // Nothing is evaluated yet, or what is there is no result.
    std::fs::remove_file(scratch.path("run/history.jsonl")).unwrap();
    scratch.write("run/result.json", "{\"method\": 3}");
    let out = scratch.run(&["report", "run"]);
    assert!(out.code == 0 && out.stdout.contains("result.json"), "{}", out.stderr);
    assert!(page(&scratch, "run/report.html").contains("None is evaluated yet"));
    // No run, or one of another version.
    scratch.write("empty/a.txt", "");
    scratch.bad(2, &["report", "empty"], &["empty", "no config.toml"]);
    scratch.bad(2, &["report", "nowhere"], &["nowhere"]);
    let config = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    let newer = config.replacen("method = ", "novelty = 3\nmethod = ", 1);
    scratch.write(
        "run/config.toml",
        newer.replace(&format!("version = \"{}\"", env!("CARGO_PKG_VERSION")), "version = \"99.0.0\""),
    );
    scratch.bad(2, &["report", "run"], &["run/config.toml", "novelty", "99.0.0"]);
    scratch.write("run/config.toml", "[[");
    scratch.bad(2, &["report", "run"], &["run/config.toml"]);
}

#[test]
fn a_thousand_candidates_fit_on_a_page_and_names_stay_text() {
    let scratch = scratch();
    scratch.good(&search(&["--out", "run"]));
    std::fs::remove_file(scratch.path("run/result.json")).unwrap();
    let history = String::from_utf8(scratch.read("run/history.jsonl")).unwrap();
    let line: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    let hostile = "<script>alert('\u{202e}')</script>\"";
    let (mut all, mut first) = (String::new(), String::new());
    for number in 0..1_000u32 {
        let mut own = line.clone();
        own["arch"] = format!(
            "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|",
            name(number),
            name(number / 5),
            name(number / 25),
            name(number / 125),
            name(number / 625),
            name(number / 3)
        )
        .into();
        own["arm"] = ["proxy", "random"][number as usize % 2].into();
        own["params"] = (1_000 + 37 * number).into();
        own["measures"]["croze"] = (f64::from(number) * 0.37).sin().into();
        if number == 1 {
            // The other arm has met the network of fewest parameters too, which is on the front of the search itself.
            own["arch"] = first.clone().into();
        }
        if number == 0 {
            first = own["arch"].as_str().unwrap().to_owned();
        }
        if number == 500 {
            own["arch"] = hostile.into();
            own["measures"][hostile] = 1.0.into();
        }
        all += &format!("{own}\n");
    }
    scratch.write("run/history.jsonl", all);
    let config = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    scratch.write("run/config.toml", config.replacen("classes = [", &format!("classes = ['''{hostile}''', "), 1));
    let begin = Instant::now();
    scratch.good(&["report", "run"]);
    assert!(begin.elapsed() < Duration::from_secs(SECONDS), "{:?}", begin.elapsed());
    let long = page(&scratch, "run/report.html");
    assert!(long.matches("&lt;script&gt;").count() >= 3 && long.contains("\\u{202e}") && !long.contains('\u{202e}'));
    assert_eq!(points(&long), 1_000);
    let on_front = |page: &str, arm: &str| {
        let cell = format!(">{arm}</td>");
        let rows = page.split("<tr").filter(|row| row.contains(">front</td>") && row.contains(&cell));
        rows.map(str::to_owned).collect::<Vec<String>>()
    };
    assert!(!on_front(&long, "proxy").is_empty() && on_front(&long, "random").is_empty());
    // Limits hold for what is shown of a run that goes on: all candidates but one take too long.
    let config = String::from_utf8(scratch.read("run/config.toml")).unwrap();
    scratch.write("run/config.toml", config.replacen("max_latency = 0.0", "max_latency = 5.0", 1));
    let slow = |(number, line): (usize, &str)| {
        let mut own: Value = serde_json::from_str(line).unwrap();
        own["measures"]["latency"] = if number == 4 { 4.0 } else { 6.0 }.into();
        format!("{own}\n")
    };
    let history = String::from_utf8(scratch.read("run/history.jsonl")).unwrap();
    scratch.write("run/history.jsonl", history.lines().enumerate().map(slow).collect::<String>());
    scratch.good(&["report", "run"]);
    let left = on_front(&page(&scratch, "run/report.html"), "proxy");
    assert!(left.len() == 1 && left[0].contains(">1148</td>"), "{left:?}");
}

/// An operation by a number.
fn name(number: u32) -> &'static str {
    ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"][number as usize % 5]
}

#[test]
fn a_training_has_a_page_too() {
    let scratch = scratch();
    scratch.good(&crate::program::train(&["--epochs", "2", "--images", "200"]));
    let whole = page(&scratch, "out/report.html");
    let result: Value = serde_json::from_slice(&scratch.read("out/result.json")).unwrap();
    let right = 100.0 * result["final"]["clean_accuracy"].as_f64().unwrap();
    assert!(whole.contains(&format!("<b>{right:.1} %</b>")) && whole.contains(crate::program::ARCH));
    assert!(whole.contains("Training loss.") && whole.contains("altiplano train --config out/config.toml"));
    scratch.write("out/result.json", "[]");
    scratch.good(&["report", "out"]);
    assert!(page(&scratch, "out/report.html").contains("has not ended"));
    scratch.bad(2, &["report", "out", "out", "--out", "x.html"], &["out", "is a training"]);
}
