//! `altiplano score` from outside: a file of scores that goes on, and bad input.

use std::path::Path;

use assert_cmd::Command;

fn score(folder: &Path, more: &[&str]) -> (i32, String) {
    let mut args = vec!["score", "--data", "digits", "--channels", "4", "--cells", "1", "--proxies", "snip,naswot"];
    args.extend(["--out", "scores.csv"]);
    args.extend(more);
    let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
        .args(&args)
        .current_dir(folder)
        .env("XDG_RUNTIME_DIR", folder)
        .env("ALTIPLANO_CACHE", folder.join("cache"))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    (output.status.code().unwrap(), stderr)
}

#[test]
fn a_file_of_scores_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("scores.csv"));
    assert_eq!(score(folder, &["--arch", "333132", "000000"]).0, 0);
    let first = std::fs::read_to_string(&out).unwrap();
    assert!(first.starts_with("arch,params,flops,snip,naswot,seconds\n"), "{first}");
    assert_eq!(first.lines().count(), 3);
    let (code, why) = score(folder, &["--arch", "333132"]);
    assert!(code == 2 && why.contains("--resume"), "{why}");
    // A torn line is scored again, whole ones are not.
    std::fs::write(&out, format!("{first}|skip_connect~0|+|sk")).unwrap();
    assert_eq!(score(folder, &["--resume", "--arch", "333132", "111111", "000000"]).0, 0);
    let second = std::fs::read_to_string(&out).unwrap();
    assert!(second.starts_with(&first) && second.lines().count() == 4, "{second}");
    std::fs::write(folder.join("empty.csv"), "arch,params\n").unwrap();
    // What cannot be done leaves the file as it is.
    for (bad, message) in [
        (&["--resume", "--seed", "2", "--arch", "444444"][..], "other settings"),
        (&["--resume", "--batch-size", "17", "--arch", "444444"], "other settings"),
        (&["--force", "--arch", "333132", "--archs", "empty.csv"], "empty.csv: holds no architecture"),
        (&["--force", "--arch", "33313"], "33313"),
        (&["--force", "--arch", "333132", "--batch-size", "1"], "at least 2"),
        (&["--force", "--arch", "333132", "--population", "0"], "--population"),
        (&["--force", "--sample", "9999"], "6466 different"),
        (&["--force", "--archs", "nothing.csv"], "nothing.csv"),
        (&["--force"], "--sample"),
    ] {
        let (code, why) = score(folder, bad);
        assert!(code != 0 && why.contains(message), "{bad:?}: {why}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), second, "{bad:?}");
    }
}

#[test]
fn an_unknown_proxy_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
        .args(["score", "--arch", "333132", "--data", "digits", "--proxies", "synflw"])
        .env("ALTIPLANO_CACHE", folder.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && stderr.contains("did you mean `synflow`"), "{stderr}");
}

#[test]
fn scores_of_other_tensors_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/nb201/1_mixed");
    let [batch, weights] = ["batch", "weights"].map(|name| folder.path().join(format!("{name}.safetensors")));
    std::fs::copy(format!("{golden}/batch.safetensors"), &batch).unwrap();
    std::fs::copy(format!("{golden}/weights.safetensors"), &weights).unwrap();
    let arch = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|none~0|avg_pool_3x3~1|skip_connect~2|";
    let run = |arch: &str, batch: &Path, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
            .args(["score", "--proxies", "l2_norm", "--out", "s.csv", "--weights", "weights.safetensors", "--batch"])
            .arg(batch)
            .args(["--arch", arch])
            .args(more)
            .current_dir(folder.path())
            .env("XDG_RUNTIME_DIR", folder.path())
            .env("ALTIPLANO_CACHE", folder.path().join("cache"))
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(run(arch, &batch, &[]).0, Some(0));
    // The same tensors by another name.
    let other = folder.path().join("other.safetensors");
    std::fs::copy(&batch, &other).unwrap();
    let (code, why) = run("|skip_connect~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|", &other, &["--resume"]);
    assert_eq!(code, Some(0), "{why}");
    // Other tensors by the same name: the last pixel's lowest bit.
    let mut bytes = std::fs::read(&other).unwrap();
    let (named, _) = altiplano::nn::tensors::load(&other).unwrap();
    let last = named["x"].data.last().unwrap().to_le_bytes();
    let at = bytes.windows(4).rposition(|window| window == last).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&other, bytes).unwrap();
    let (code, why) = run(arch, &other, &["--resume"]);
    assert!(code == Some(2) && why.contains("other settings"), "{why}");
}

/// Architectures come in tables and lists as programs write them.
#[test]
fn tables_and_lists_are_read_alike() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, out) = (folder.path(), folder.path().join("scores.csv"));
    let name = "|nor_conv_1x1~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|";
    for text in [
        format!("\u{feff}acc,arch\r\n50,\"{name}\"\r\n60,000000\r\n"),
        format!("\u{feff}\"{name}\"\r\n\r\n\"000000\"\r\n"),
        format!("{name}\n000000"),
    ] {
        std::fs::write(folder.join("a.csv"), &text).unwrap();
        let (code, why) = score(folder, &["--force", "--archs", "a.csv"]);
        assert_eq!(code, 0, "{text}: {why}");
        let scores = std::fs::read_to_string(&out).unwrap();
        assert!(scores.lines().count() == 3 && scores.contains(&format!("\n{name},")), "{scores}");
    }
    let before = std::fs::read(&out).unwrap();
    for (text, more, parts) in [
        ("000000\n\n|none~0|\n", &[][..], &["a.csv", "line 3", "`arch`"][..]),
        ("name,acc\n000000,3\n", &[], &["a.csv", "line 1", "no column `arch`", "list of architectures"]),
        ("arch,acc\n000000,3\n111111,\n", &["--sample", "1", "--stratify", "acc"], &["a.csv", "line 3", "`acc`"]),
        ("arch,acc\n000000,3\n", &["--sample", "1", "--stratify", "acv"], &["--stratify", "did you mean `acc`?"]),
    ] {
        std::fs::write(folder.join("a.csv"), text).unwrap();
        let (code, why) = score(folder, &[&["--force", "--archs", "a.csv"], more].concat());
        assert_eq!(code, 2, "{text}: {why}");
        parts.iter().for_each(|part| assert!(why.contains(part), "`{part}` is not in: {why}"));
        assert_eq!(std::fs::read(&out).unwrap(), before, "{text}");
    }
}
