//! What the program says to somebody who has just built it: its first page, why there is no adapter, completions and manual
//! pages.

use std::process::Command;

use crate::program::{Scratch, short};

#[test]
fn without_a_command_it_says_what_to_do_next() {
    let scratch = Scratch::new();
    let name = scratch.json(&["devices", "--json"])[0]["name"].as_str().unwrap().to_owned();
    let text = scratch.good(&[]);
    for part in
        [name.as_str(), "search --method genas --data digits", "--out runs/demo\n", "data verify FOLDER", "--help"]
    {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    assert!(!text.contains("newest run"), "{text}");
    assert!(text.lines().count() < 30, "{text}");
    // Commands are written as the program was called, and can be copied.
    let demo = text.lines().find(|line| line.contains("search --method genas")).unwrap().trim();
    let demo: Vec<&str> = demo.split(' ').skip(1).collect();
    assert!(scratch.good(&[&demo[..], &["--dry-run"]].concat()).contains("genas"));
    let page = scratch.json(&["--json"]);
    assert_eq!((&page["adapter"]["name"], &page["newest_run"]), (&name.as_str().into(), &serde_json::Value::Null));
    assert!(page["adapter"]["software"].is_boolean() && page["own_data"].as_array().unwrap().len() == 3, "{page}");
    assert_eq!(scratch.files().len(), 0);
}

#[test]
fn the_newest_run_is_on_the_first_page() {
    let scratch = Scratch::new();
    scratch.good(&short("runs/demo", &["--quiet"]));
    let text = scratch.good(&[]);
    // Where the demo's place is taken, there is another one.
    for part in [
        "newest run here: runs/demo (finished; its page is runs/demo/report.html)",
        "report runs/demo\n",
        "--out runs/demo-2\n",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    std::fs::remove_file(scratch.path("runs/demo/result.json")).unwrap();
    let run = &scratch.json(&["--json"])["newest_run"];
    assert_eq!(run["finished"], false);
    let command = run["commands"][1].as_str().unwrap();
    assert!(command.ends_with("train --resume --out runs/demo"), "{command}");
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    scratch.good(&args);
    assert_eq!(scratch.json(&["--json"])["newest_run"]["finished"], true);
}

/// The program with these variables, without those that say which drivers are to be used.
#[cfg(target_os = "linux")]
fn run(scratch: &Scratch, args: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = scratch.command(args);
    for name in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES", "ALTIPLANO_DEVICE"] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[cfg(target_os = "linux")]
#[test]
fn a_missing_adapter_is_explained() {
    let scratch = Scratch::new();
    // What somebody has asked for is told, and respected: no manifest is made beside it.
    let none = [("VK_DRIVER_FILES", "/nonexistent.json")];
    let (code, text, _) = run(&scratch, &["devices", "--explain"], &none);
    assert_eq!(code, 0);
    for part in [
        "missing  no adapter was found",
        "VK_DRIVER_FILES is set",
        "/nonexistent.json",
        "what to do\n  1. ",
        "unset VK_DRIVER_FILES",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let (code, text, stderr) = run(&scratch, &["devices", "--explain", "--json"], &none);
    let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &explained["chosen"]), (0, &serde_json::Value::Null), "{stderr}");
    assert!(explained["findings"].as_array().unwrap().iter().any(|own| own["state"] == "missing"), "{explained}");
    assert!(explained["advice"][0]["do"][0].as_str().unwrap().contains("VK_DRIVER_FILES"), "{explained}");
    // The first page never fails, and leads there; what needs an adapter fails, and leads there.
    let (code, text, _) = run(&scratch, &[], &none);
    assert!(code == 0 && text.contains("adapter: none") && text.contains("devices --explain"), "{text}");
    let (code, _, stderr) = run(&scratch, &["selftest"], &none);
    assert!(code == 2 && stderr.contains("devices --explain"), "{stderr}");
    assert!(scratch.files().is_empty(), "{:?}", scratch.files());
    // A choice that there is not.
    let (code, text, _) = run(&scratch, &["--device", "no such"], &[]);
    assert!(code == 0 && text.contains("no adapter matches --device `no such`"), "{text}");
    let (code, text, _) = run(&scratch, &["devices", "--explain", "--device", "no such"], &[]);
    assert!(code == 0 && text.contains("is not the one chosen: no adapter matches"), "{text}");
}

/// Mesa's software adapter with all manifests hidden, in a view of the disk of the program's own. Only root can make such a view;
/// the decision is tested without it beside its code.
#[cfg(target_os = "linux")]
#[test]
fn a_driver_without_a_manifest_is_used_all_the_same() {
    let scratch = Scratch::new();
    let hide = "for folder in /usr/share /etc /usr/local/share; do \
                [ ! -d $folder/vulkan/icd.d ] || mount -t tmpfs none $folder/vulkan/icd.d || exit 77; done; exec \"$0\" \"$@\"";
    let hidden = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", hide, env!("CARGO_BIN_EXE_altiplano")]).args(args);
        command
            .current_dir(scratch.path(""))
            .env("XDG_RUNTIME_DIR", scratch.path(""))
            .env("HOME", scratch.path("home"));
        for name in
            ["VK_ICD_FILENAMES", "VK_DRIVER_FILES", "VK_ADD_DRIVER_FILES", "XDG_DATA_DIRS", "ALTIPLANO_OWN_MANIFEST"]
        {
            command.env_remove(name);
        }
        let output =
            command.env("ALTIPLANO_CACHE", scratch.path("cache")).envs(variables.iter().copied()).output().ok()?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        let refused = output.status.code() == Some(77) || stderr.contains("unshare: ");
        (!refused).then_some((output.status.code(), stdout, stderr))
    };
    let lavapipe = |list: &str| list.contains("llvmpipe");
    // What is the user's own choice stays: no driver.
    let Some((_, list, _)) = hidden(&["devices", "--json"], &[("VK_ICD_FILENAMES", "/nonexistent")]) else {
        println!("no view of the disk of one's own can be made here");
        return;
    };
    assert!(!lavapipe(&list), "{list}");
    if !lavapipe(&scratch.good(&["devices", "--json"])) {
        println!("Mesa's software adapter is not here");
        return;
    }
    let (code, list, stderr) = hidden(&["devices", "--json"], &[]).unwrap();
    assert!(code == Some(0) && lavapipe(&list), "{list}{stderr}");
    assert!(serde_json::from_str::<serde_json::Value>(&list).unwrap().is_array());
    assert_eq!(stderr.lines().filter(|line| line.contains("no manifest of libvulkan")).count(), 1, "{stderr}");
    assert!(scratch.path("cache/icd.d/libvulkan_lvp.so.json").is_file());
    // It trains, with its arguments as they were, and explains itself.
    let train = short("out", &["--quiet", "--json"]);
    let (code, result, stderr) = hidden(&train, &[]).unwrap();
    assert!(code == Some(0) && serde_json::from_str::<serde_json::Value>(&result).is_ok(), "{result}{stderr}");
    assert!(!stderr.contains("manifest"), "{stderr}");
    let (_, text, _) = hidden(&["devices", "--explain"], &[]).unwrap();
    assert!(text.contains("goes on with its own of") && text.contains("libvulkan_lvp.so"), "{text}");
    // Where there is no place for the file there is no adapter, as before.
    scratch.write("file", "in the way");
    let place = scratch.path("file").display().to_string();
    let (code, list, stderr) = hidden(&["devices", "--json"], &[("ALTIPLANO_CACHE", &place)]).unwrap();
    assert!(code == Some(0) && list.trim() == "[]" && stderr.contains("cannot create"), "{list}{stderr}");
}

#[test]
fn shells_complete_all_commands() {
    let scratch = Scratch::new();
    let help = scratch.good(&["--help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 15 && commands.contains(&"search"), "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = scratch.good(&["completions", shell]);
        for word in commands.iter().copied().chain(["dry-run", "severities"]) {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
        assert_eq!(scratch.json(&["completions", shell, "--json"])["shell"], shell);
        scratch.write(shell, script);
    }
    // As the shells that are here read it.
    for shell in ["bash", "zsh", "fish"] {
        match Command::new(shell).arg("-n").arg(scratch.path(shell)).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => println!("{shell} is not here"),
        }
    }
    scratch.bad(2, &["completions", "csh"], &["csh", "bash"]);

    let pages = scratch.json(&["man", "--out", "man/man1", "--json"]);
    assert!(pages["pages"].as_array().unwrap().len() > commands.len());
    for command in commands.iter().filter(|command| **command != "help") {
        let page = String::from_utf8(scratch.read(&format!("man/man1/altiplano-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS") && page.contains("json"), "{page}");
    }
    assert!(scratch.path("man/man1/altiplano-data-verify.1").is_file());
    let whole = String::from_utf8(scratch.read("man/man1/altiplano.1")).unwrap();
    assert!(
        commands.iter().filter(|own| **own != "help").all(|own| whole.contains(&format!("altiplano\\-{own}"))),
        "{whole}"
    );
    scratch.bad(2, &["man", "--out", "man/man1"], &["altiplano", ".1", "exists", "--force"]);
    std::fs::remove_file(scratch.path("man/man1/altiplano.1")).unwrap();
    scratch.write("man/man1/other.1", "another's");
    scratch.good(&["man", "--out", "man/man1", "--force"]);
    assert_eq!(scratch.read("man/man1/other.1"), b"another's");
    assert!(scratch.path("man/man1/altiplano.1").is_file());
    scratch.bad(2, &["man", "--out", "bash"], &["bash", "is a file"]);
}
