//! What commands write, from outside: nothing that is there is lost unless `--force` says so, and then only what may be
//! replaced.

use crate::program::{ARCH, Scratch, golden, refs, step};
use serde_json::Value;

fn picture(seed: u32) -> Vec<u8> {
    let image = image::RgbImage::from_fn(20, 10, |x, y| image::Rgb([(6 * x) as u8, (8 * y) as u8, (seed * x) as u8]));
    let mut bytes = std::io::Cursor::new(vec![]);
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Commands without one of their outputs, its option, and a name that it may have.
fn commands(scratch: &Scratch) -> Vec<(Vec<String>, &'static str, &'static str)> {
    let table = "arch,x\n111111,1\n222222,2\n333333,3\n";
    scratch.write("scores.csv", table);
    scratch.write("truth.csv", table);
    scratch.write("in.png", picture(1));
    scratch.write("in/a.png", picture(1));
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let correlate = words("correlate --scores scores.csv --truth truth.csv --bootstrap 0");
    let score = words("score --quiet --arch 333132 --data digits --channels 4 --cells 1 --proxies croze");
    let weights = golden("weights.safetensors").display().to_string();
    let mut step = step(&weights, &[]);
    let out = step.iter().position(|arg| arg == "--out").unwrap();
    step.drain(out..out + 2);
    vec![
        (correlate.clone(), "--heat-map", "h.svg"),
        (correlate, "--out", "t.csv"),
        (words("corrupt --quiet --kind fog --severity 2 --input in.png"), "--out", "one.png"),
        (words("corrupt --quiet --kind fog --severity 2 --input in --out c"), "--sheet", "s.png"),
        (score.clone(), "--explain", "e.csv"),
        (score, "--out", "o.csv"),
        (step, "--out", "step.safetensors"),
    ]
}

#[test]
fn single_files_are_not_replaced_by_accident() {
    let scratch = Scratch::new();
    for (command, option, name) in commands(&scratch) {
        let with = |place: &str, more: &[&str]| -> Vec<String> {
            let more = [&[option, place], more].concat();
            command.iter().cloned().chain(more.into_iter().map(str::to_owned)).collect()
        };
        let refuse = |place: &str, why: &str| scratch.bad(2, &refs(&with(place, &["--force"])), &[option, place, why]);
        scratch.write(name, "mine");
        scratch.bad(2, &refs(&with(name, &[])), &[option, name, "exists", "--force"]);
        // What is no file of its own stays, forced or not.
        let ending = name.rsplit('.').next().unwrap();
        refuse(&format!("none/x.{ending}"), "does not exist");
        if name != "one.png" {
            std::fs::create_dir_all(scratch.path(&format!("folder.{ending}"))).unwrap();
            refuse(&format!("folder.{ending}"), "is a folder");
            refuse("table.txt", &format!("does not end in .{ending}"));
        }
        #[cfg(unix)]
        {
            let (link, socket) = (format!("link.{ending}"), format!("socket.{ending}"));
            let place = |name: &str| {
                let _ = std::fs::remove_file(scratch.path(name));
                scratch.path(name)
            };
            std::os::unix::fs::symlink("/dev/null", place(&link)).unwrap();
            refuse(&link, "is a link");
            let _held = std::os::unix::net::UnixListener::bind(place(&socket)).unwrap();
            refuse(&socket, "no regular file");
        }
        assert_eq!(std::fs::read(scratch.path(name)).unwrap(), b"mine");
        scratch.good(&refs(&with(name, &["--force"])));
        assert_ne!(std::fs::read(scratch.path(name)).unwrap(), b"mine", "{command:?}");
    }
}

#[test]
fn inputs_and_other_outputs_are_no_places() {
    let scratch = Scratch::new();
    commands(&scratch);
    let run = |args: &str, parts: &[&str]| {
        let args = format!("{args} --force");
        scratch.bad(2, &args.split(' ').collect::<Vec<_>>(), parts);
    };
    run("correlate --scores scores.csv --truth truth.csv --out truth.csv", &["--out", "truth.csv", "overlap"]);
    run(
        "correlate --scores scores.csv --truth truth.csv --out ./in/../scores.csv",
        &["--out", "scores.csv", "overlap"],
    );
    run("corrupt --input in.png --kind fog --severity 1 --out in.png", &["--out", "in.png", "overlap"]);
    run("corrupt --input in --kind fog --out c --sheet in/a.png", &["--sheet", "in/a.png", "overlap"]);
    run("corrupt --input in.png --kind fog --severity 1 --out o.png --sheet ./o.png", &["--sheet", "--out too"]);
    std::fs::create_dir(scratch.path("c")).unwrap();
    run("corrupt --input in --kind fog --out c --sheet c/s.png", &["--sheet", "c/s.png", "folder for results"]);
    run("score --archs scores.csv --data digits --out scores.csv", &["--out", "scores.csv", "overlap"]);
    scratch.write("o.settings.json", "mine");
    scratch.bad(
        2,
        &["score", "--arch", "333132", "--data", "digits", "--out", "o.csv"],
        &["settings of --out", "o.settings.json", "exists"],
    );
    scratch.write("model.safetensors", "mine");
    for (option, name) in [("--csv", "m.csv"), ("--heatmap", "m.svg")] {
        scratch.write(name, "mine");
        let args = ["evaluate", "--model", "model.safetensors", "--data", "digits", option, name];
        scratch.bad(2, &args, &[option, name, "exists", "--force"]);
        scratch.bad(2, &[&args[..6], &["m.txt", "--force"]].concat(), &[option, "m.txt", "does not end in"]);
    }
}

#[test]
fn explained_layers_go_on_with_their_scores() {
    let scratch = Scratch::new();
    let args = ["score", "--quiet", "--data", "digits", "--channels", "4", "--cells", "1", "--proxies", "croze"];
    let args = [&args[..], &["--out", "o.csv", "--explain", "e.csv", "--arch", "333132"]].concat();
    scratch.good(&args);
    scratch.good(&[&args[..], &["111111", "--resume"]].concat());
    scratch.write("e.csv", "mine");
    scratch.bad(2, &[&args[..], &["222222", "--resume"]].concat(), &["--explain", "e.csv", "exists"]);
}

/// `altiplano corrupt` from `in` to `out`.
fn into(out: &str, more: &[&'static str]) -> Vec<String> {
    let args = [&["corrupt", "--quiet", "--input", "in", "--out", out], more].concat();
    args.into_iter().map(str::to_owned).collect()
}

#[test]
fn results_replace_what_was_written_and_nothing_else() {
    let scratch = Scratch::new();
    scratch.write("in/a.png", picture(1));
    scratch.write("in/deep/b.png", picture(2));
    let fog = ["--kind", "fog", "--severity", "2", "--force"];
    let frost_too = ["--kind", "fog,frost", "--severity", "1-3"];
    scratch.good(&refs(&into("out", &frost_too)));
    let list: Value =
        serde_json::from_slice(&std::fs::read(scratch.path("out/.altiplano-corrupt.json")).unwrap()).unwrap();
    let run = &list["runs"][0];
    assert_eq!((&run["seed"], &run["constants"], &run["frost"]), (&1.into(), &"cifar".into(), &"procedural".into()));
    assert_eq!(run["names"], serde_json::json!(["a.png.png", "deep/b.png.png"]));
    // Of a group everything is made anew; what an input no longer has goes, and other groups and files stay.
    scratch.write("out/fog/2/mine.png", "mine");
    scratch.write("out/fog/notes.txt", "mine");
    scratch.write("out/letter.png", "mine");
    std::fs::remove_file(scratch.path("in/deep/b.png")).unwrap();
    scratch.write("in/c.png", picture(3));
    scratch.good(&refs(&into("out", &fog)));
    for name in ["fog/2/mine.png", "fog/notes.txt", "letter.png", "fog/1/deep/b.png.png", "frost/2/deep/b.png.png"] {
        assert!(scratch.path("out").join(name).exists(), "{name}");
    }
    assert!(scratch.path("out/fog/2/c.png.png").exists() && !scratch.path("out/fog/2/deep").exists());
    // In the way: a file, a folder, a link.
    scratch.write("out/snow/1/a.png.png", "mine");
    let snow = |more: &[&'static str]| into("out", &[&["--kind", "snow", "--force", "--severity"], more].concat());
    scratch.bad(2, &refs(&snow(&["1"])), &["out", "snow/1/a.png.png", "in the way"]);
    scratch.write("out/snow/2/a.png.png/x", "mine");
    scratch.bad(2, &refs(&snow(&["2"])), &["snow/2/a.png.png", "in the way"]);
    scratch.write("out/snow/3", "mine");
    scratch.bad(2, &refs(&snow(&["3"])), &["snow/3", "in the way"]);
    #[cfg(unix)]
    {
        scratch.write("elsewhere/a.png.png", "mine");
        std::os::unix::fs::symlink(scratch.path("elsewhere"), scratch.path("out/snow/4")).unwrap();
        scratch.bad(2, &refs(&snow(&["4"])), &["snow/4", "in the way"]);
        std::fs::remove_dir_all(scratch.path("out/fog/1")).unwrap();
        std::os::unix::fs::symlink(scratch.path("elsewhere"), scratch.path("out/fog/1")).unwrap();
        scratch.bad(2, &refs(&into("out", &["--kind", "fog", "--severity", "1", "--force"])), &["fog/1", "in the way"]);
    }
    scratch.good(&refs(&snow(&["5"])));
    // Results of other settings cannot stand side by side; if nothing of the old is left they are taken.
    let other = ["--kind", "fog", "--severity", "2", "--force", "--seed", "2"];
    scratch.bad(2, &refs(&into("out", &other)), &["out", "seed 1", "seed 2"]);
    scratch.good(&refs(&into("two", &["--kind", "fog", "--severity", "2"])));
    scratch.good(&refs(&into("two", &other)));
    // A list that leads elsewhere is not believed.
    let list = std::fs::read_to_string(scratch.path("two/.altiplano-corrupt.json")).unwrap();
    scratch.write("two/.altiplano-corrupt.json", list.replace("a.png.png", "../../../in/a.png"));
    scratch.bad(2, &refs(&into("two", &other)), &["altiplano-corrupt.json", "leads out"]);
    scratch.write("two/.altiplano-corrupt.json", "{}");
    scratch.bad(2, &refs(&into("two", &other)), &["altiplano-corrupt.json", "is not the list"]);
}

#[test]
fn folders_of_others_are_refused() {
    let scratch = Scratch::new();
    scratch.write("in/a.png", picture(1));
    scratch.write("in/deep/b.png", picture(2));
    scratch.write("mine/fog/2/a.png.png", "mine");
    scratch.write("out.txt", "mine");
    let fog = ["--kind", "fog", "--severity", "2", "--force"];
    let bad = |out: &str, parts: &[&str]| scratch.bad(2, &refs(&into(out, &fog)), parts);
    bad("mine", &["mine", "holds fog", "did not write"]);
    bad("out.txt", &["--out", "out.txt", "is a file"]);
    bad("in", &["in", "overlap"]);
    bad("in/deep/new", &["overlap"]);
    bad("in/new/out", &["overlap"]);
    bad("new/../in/out", &["overlap"]);
    bad(".", &["no name of its own"]);
    bad("in/..", &["no name of its own"]);
    scratch.bad(2, &["corrupt", "--input", "in/a.png", "--out", "in"], &["--out", "overlap"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(scratch.path("mine"), scratch.path("link")).unwrap();
        bad("link", &["link"]);
        std::os::unix::fs::symlink(scratch.path("in"), scratch.path("way")).unwrap();
        bad("way/new/out", &["overlap"]);
    }
    // Parents are made, and taken back if the run fails.
    scratch.write("in/bad.npy", "nothing");
    scratch.bad(2, &["corrupt", "--input", "in/bad.npy", "--out", "far/away/out"], &["bad.npy"]);
    std::fs::create_dir(scratch.path("empty")).unwrap();
    scratch.bad(2, &["corrupt", "--input", "empty", "--out", "far/away/out"], &["empty"]);
    scratch.good(&refs(&into("far/away/out", &["--kind", "fog", "--severity", "1"])));
    let args = ["train", "--data", "digits", "--arch", ARCH, "--out", "out.txt"];
    scratch.bad(2, &args, &["out.txt", "need a folder"]);
}

#[test]
fn sets_of_arrays_are_not_mixed() {
    let scratch = Scratch::new();
    let corrupt = |input: &'static str, more: &[&'static str]| {
        [&["corrupt", "--quiet", "--input", input, "--out", "c"], more].concat()
    };
    scratch.good(&corrupt("digits", &["--kind", "fog,contrast"]));
    scratch.good(&corrupt("digits", &["--kind", "saturate", "--force"]));
    let other = |more: &[&'static str]| corrupt("digits", &[&["--kind", "saturate", "--force"], more].concat());
    scratch.bad(2, &other(&["--seed", "2"]), &["fog.npy", "seed 1", "seed 2"]);
    scratch.bad(2, &other(&["--constants", "imagenet"]), &["constants cifar", "constants imagenet"]);
    scratch.bad(2, &other(&["--jpeg85"]), &["--jpeg85"]);
    let head = format!("{:<117}\n", "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 8, 8, 1), }");
    scratch.write("two.npy", [b"\x93NUMPY\x01\x00\x76\x00", head.as_bytes(), &[5; 128]].concat());
    scratch.bad(2, &corrupt("two.npy", &["--kind", "fog", "--force"]), &["355 images of 8x8x1", "2 images of 8x8x1"]);
    scratch.write("c/snow.npy", "mine");
    scratch.bad(2, &corrupt("digits", &["--kind", "snow", "--force"]), &["snow.npy", "in the way"]);
    assert!(scratch.path("c/labels.npy").exists());
    // All anew.
    scratch.good(&corrupt("digits", &["--kind", "fog,contrast,saturate", "--force", "--seed", "2"]));
}
