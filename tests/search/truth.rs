//! `altiplano search --truth` from outside: searches in a table, and input that cannot be used.

use std::fmt::Write;
use std::path::Path;

use altiplano::space::nas_bench_201::{Cell, Macro, Op, params};
use assert_cmd::Command;
use serde_json::Value;

fn search(folder: &Path, more: &[&str]) -> (i32, String, String) {
    let args = [&["search", "--truth", "truth.csv", "--maximize", "accuracy", "--evaluations", "40"], more].concat();
    let output = Command::new(env!("CARGO_BIN_EXE_altiplano")).args(&args).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    (output.status.code().unwrap(), out, err)
}

/// Every ninth class, with an accuracy that grows with convolutions and falls with pools.
fn table(folder: &Path) {
    let sizes = Macro::benchmark(32, 32, 10).unwrap();
    let mut text = String::from("arch,accuracy,cost,name\n");
    for arch in Cell::all().filter(|a| a.representative() == *a).step_by(9) {
        let live = arch.live_edges();
        let count = |op: Op| arch.0.iter().zip(live).filter(|(o, live)| **o == op && *live).count() as f64;
        let accuracy = 50.0 + 9.0 * count(Op::Conv3x3).sqrt() + 3.0 * count(Op::Conv1x1) - count(Op::AvgPool3x3);
        writeln!(text, "{arch},{accuracy},{},x", params(&arch, &sizes)).unwrap();
    }
    std::fs::write(folder.join("truth.csv"), text).unwrap();
}

#[test]
fn methods_are_compared_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    table(folder);
    let all = ["--minimize", "cost", "--method", "all", "--seeds", "5", "--surrogate", "trees", "--json"];
    let (code, out, err) = search(folder, &[&all[..], &["--plot", "curve.svg"]].concat());
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    let curves = answer["curves"].as_array().unwrap();
    assert_eq!(
        curves.iter().map(|c| c["proposer"].as_str().unwrap()).collect::<Vec<_>>(),
        ["random", "nsga2", "surrogate"]
    );
    for curve in curves {
        for shares in curve["shares"].as_array().unwrap() {
            let shares: Vec<f64> = shares.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            assert!(shares.len() == 40 && shares.windows(2).all(|w| w[0] <= w[1] + 1e-12) && shares[39] <= 1.0 + 1e-12);
        }
    }
    assert!(answer["comparisons"][0]["wins"].as_u64().unwrap() >= 4, "{}", answer["comparisons"]);
    assert!(answer["front"].as_array().unwrap().len() > 2);
    let svg = std::fs::read_to_string(folder.join("curve.svg")).unwrap();
    assert!(svg.contains("nsga2") && svg.contains("5 seeds"));
    // The same seeds, the same curves; costs that are counted are those of the column here.
    let (_, again, _) = search(folder, &[&all[..], &["--minimize", "params"][..0], &["--force"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap()["curves"], answer["curves"]);
    let counted = ["--minimize", "params", "--method", "random", "--json"];
    let counted: Value = serde_json::from_str(&search(folder, &counted).1).unwrap();
    assert_eq!(counted["curves"][0]["shares"][0], curves[0]["shares"][0]);
}

#[test]
fn a_network_proposes_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    table(folder);
    let args = ["--minimize", "cost", "--surrogate", "mlp", "--json"];
    let (code, out, err) = search(folder, &args);
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["settings"]["surrogate"], "mlp");
    let shares = answer["curves"][0]["shares"][0].as_array().unwrap();
    let at = |n: usize| shares[n].as_f64().unwrap();
    assert!(shares.len() == 40 && at(39) > at(19), "{shares:?}");
    // It opens the adapter; others do not.
    let (code, _, err) = search(folder, &[&args[..], &["--device", "no such adapter"]].concat());
    assert!(code != 0 && err.contains("no such adapter"), "{code} {err}");
    let rbf = ["--minimize", "cost", "--surrogate", "rbf", "--device", "no such adapter"];
    assert_eq!(search(folder, &rbf).0, 0);
}

#[test]
fn every_strategy_searches_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    table(folder);
    let args =
        ["--minimize", "cost", "--method", "evolution,moves,nsga2,random,surrogate", "--surrogate", "rbf", "--json"];
    let (code, out, err) = search(folder, &args);
    assert_eq!(code, 0, "{err}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    let curves = answer["curves"].as_array().unwrap();
    assert_eq!((curves.len(), answer["comparisons"].as_array().unwrap().len()), (5, 10));
    assert!(curves.iter().all(|curve| curve["shares"][0].as_array().unwrap().len() == 40));
}

#[test]
fn what_cannot_be_searched_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    table(folder);
    std::fs::write(folder.join("there.svg"), "mine").unwrap();
    for (args, message) in [
        (&[][..], "--minimize"),
        (&["--minimize", "coast"], "did you mean `cost`"),
        (&["--minimize", "name"], "`x` is no number"),
        (&["--minimize", "cost", "--surrogate", "tree"], "did you mean `trees`"),
        (&["--minimize", "cost", "--method", "crozy"], "did you mean `croze`"),
        (&["--minimize", "cost", "--method", "random,random"], "twice"),
        (&["--minimize", "cost", "--seeds", "0"], "1 to 10000 seeds"),
        (&["--minimize", "cost", "--initial", "1"], "at least 2"),
        (&["--minimize", "cost", "--plot", "curve.svg"], "--method all"),
        (&["--minimize", "cost", "--method", "all", "--plot", "there.svg"], "--force replaces it"),
        (&["--minimize", "cost", "--method", "all", "--plot", "truth.csv", "--force"], "--plot"),
        (&["--minimize", "cost", "--out", "run"], "--out: is for searches that train"),
        (&["--minimize", "cost", "--max-params", "9000"], "--max-params: is for searches that train"),
        (&["--minimize", "cost", "--dry-run"], "--dry-run: is for searches that train"),
        (&["--minimize", "cost", "--data", "digits"], "--data: is for searches that train"),
        (&["--minimize", "cost", "--method", "all", "--surrogate", "none"], "plain NSGA-II"),
        (&["--minimize", "cost", "--seed", "18446744073709551615"], "beyond the largest number"),
    ] {
        let (code, _, err) = search(folder, args);
        assert!(code == 2 && err.contains(message), "{args:?}: {code} {err}");
    }
    let huge = "arch,accuracy,cost\n333333,1e300,1e300\n333332,-1e300,-1e300\n333331,0,0\n";
    std::fs::write(folder.join("truth.csv"), huge).unwrap();
    let (code, _, err) = search(folder, &["--minimize", "cost"]);
    assert!(code == 2 && err.contains("too large"), "{err}");
    std::fs::write(folder.join("truth.csv"), "arch,accuracy,cost\n333333,1,2\n").unwrap();
    let (code, _, err) = search(folder, &["--minimize", "cost"]);
    assert!(code == 2 && err.contains("nothing to choose"), "{err}");
    assert_eq!(std::fs::read_to_string(folder.join("there.svg")).unwrap(), "mine");
    let without = Command::new(env!("CARGO_BIN_EXE_altiplano"))
        .args(["search", "--data", "digits", "--maximize", "accuracy", "--out", "run"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&without.stderr).contains("--truth"));
}

#[test]
fn values_are_those_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    table(folder);
    let path = folder.join("truth.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    // The best has no cost, and so no part in the search.
    std::fs::write(&path, format!("{text}333330,99.5,,x\n")).unwrap();
    let (_, out, err) = search(folder, &["--minimize", "cost", "--method", "random", "--json"]);
    let answer: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    for found in answer["front"].as_array().unwrap() {
        let line = text.lines().find(|line| line.split(',').next() == found["arch"].as_str()).unwrap();
        let cells: Vec<f64> = line.split(',').skip(1).filter_map(|cell| cell.parse().ok()).collect();
        assert!((found["value"].as_f64().unwrap() - cells[0]).abs() < 1e-9, "{found} {line}");
        assert_eq!(found["cost"].as_f64().unwrap(), cells[1]);
    }
}
