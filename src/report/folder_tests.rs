//! Tests of the run folder, among them its faults.

use super::*;

fn folder() -> (tempfile::TempDir, RunFolder) {
    let temp = tempfile::tempdir().unwrap();
    let mut run = RunFolder::create(temp.path().join("deep/run"), Existing::Refuse).unwrap();
    // So that tests may open it again.
    run._lock = None;
    (temp, run)
}

#[cfg(unix)]
#[test]
fn a_folder_belongs_to_one_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("run");
    let run = RunFolder::create(&path, Existing::Refuse).unwrap();
    run.write("config.toml", b"").unwrap();
    for existing in [Existing::Resume, Existing::Force] {
        let why = RunFolder::create(&path, existing).unwrap_err().to_string();
        assert!(why.contains("another process") && path.join("config.toml").exists(), "{why}");
    }
    drop(run);
    assert!(RunFolder::create(&path, Existing::Resume).is_ok());
}

#[test]
fn seconds_go_on() {
    let (_temp, run) = folder();
    assert!(run.seconds() < 60.0);
    run.save(SECONDS, &100.5f64.to_le_bytes()).unwrap();
    let seconds = RunFolder::create(run.path(), Existing::Resume).unwrap().seconds();
    assert!((100.5..160.0).contains(&seconds), "{seconds}");
    for forged in [&b"short"[..], &f64::NAN.to_le_bytes(), &f64::INFINITY.to_le_bytes(), &(-1e9f64).to_le_bytes()] {
        run.save(SECONDS, forged).unwrap();
        let seconds = RunFolder::create(run.path(), Existing::Resume).unwrap().seconds();
        assert!((0.0..60.0).contains(&seconds), "{forged:?}: {seconds}");
    }
}

fn listing(path: &Path) -> Vec<String> {
    let mut all = names(path).unwrap();
    all.sort();
    all
}

#[test]
fn an_empty_folder_is_taken_and_a_full_one_refused() {
    let (_temp, run) = folder();
    assert!(RunFolder::create(run.path(), Existing::Refuse).is_ok());
    run.write("config.toml", b"a = 1\n").unwrap();
    let why = RunFolder::create(run.path(), Existing::Refuse).unwrap_err().to_string();
    assert!(why.contains("--resume") && why.contains("--force"), "{why}");
    assert!(RunFolder::create(run.path(), Existing::Resume).is_ok());
    assert_eq!(listing(run.path()), ["config.toml"]);
    let why = RunFolder::create(run.path().join("config.toml"), Existing::Force).unwrap_err().to_string();
    assert!(why.contains("expected a folder"), "{why}");
}

#[test]
fn force_removes_our_files_alone() {
    let (_temp, run) = folder();
    for name in FILES {
        run.write(name, b"{}").unwrap();
    }
    fs::remove_file(run.path().join(HISTORY)).unwrap();
    run.append_history("{}").unwrap();
    run.checkpoint("last", b"x").unwrap();
    run.write(&kept_supernet(3), b"weights").unwrap();
    for own in ["thesis.docx", "supernet-epoch-best.safetensors", "supernet-epoch-03.safetensors"] {
        fs::write(run.path().join(own), b"years").unwrap();
    }
    fs::create_dir(run.path().join("photos")).unwrap();
    fs::write(run.path().join(".x.altiplano-tmp"), b"left over").unwrap();
    fs::write(run.path().join("checkpoint/notes.txt"), b"mine").unwrap();
    RunFolder::create(run.path(), Existing::Force).unwrap();
    let foreign = ["photos", "supernet-epoch-03.safetensors", "supernet-epoch-best.safetensors", "thesis.docx"];
    assert_eq!(listing(run.path()), [&["checkpoint"], &foreign[..]].concat());
    assert_eq!(listing(&run.path().join(CHECKPOINTS)), ["notes.txt"]);
    fs::remove_file(run.path().join("checkpoint/notes.txt")).unwrap();
    RunFolder::create(run.path(), Existing::Force).unwrap();
    assert_eq!(listing(run.path()), foreign);
}

#[cfg(unix)]
#[test]
fn force_does_not_follow_links() {
    let (temp, run) = folder();
    let elsewhere = temp.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("other.ckpt"), b"of another run").unwrap();
    std::os::unix::fs::symlink(&elsewhere, run.path().join(CHECKPOINTS)).unwrap();
    RunFolder::create(run.path(), Existing::Force).unwrap();
    assert_eq!(listing(&elsewhere), ["other.ckpt"]);
}

#[test]
fn writing_replaces_and_leaves_nothing_behind() {
    let (_temp, run) = folder();
    let path = run.path().join("result.json");
    for bytes in [&b"first"[..], b"", b"the third and longest"] {
        atomic_write(&path, bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(listing(run.path()), ["result.json"]);
    }
    // A folder in the way.
    fs::create_dir_all(run.path().join("report.html/inside")).unwrap();
    let why = run.write("report.html", b"x").unwrap_err().to_string();
    assert!(why.contains("cannot write") && why.contains("report.html"), "{why}");
    assert_eq!(listing(run.path()), ["report.html", "result.json"]);
    // Below a file nothing can be written.
    let why = atomic_write(path.join("below"), b"x").unwrap_err().to_string();
    assert!(why.contains("cannot write") && why.contains("result.json"), "{why}");
    assert!(RunFolder::create(path.join("below"), Existing::Refuse).unwrap_err().to_string().contains("cannot create"));
    assert!(atomic_write("/", b"x").unwrap_err().to_string().contains("has no name"));
}

#[test]
fn a_run_that_never_began_leaves_no_folder() {
    let (temp, run) = folder();
    run.write(CONFIG, b"x").unwrap();
    run.abandon();
    assert!(listing(temp.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn links_are_neither_replaced_nor_followed() {
    let (_temp, run) = folder();
    fs::write(run.path().join("own.txt"), b"own").unwrap();
    std::os::unix::fs::symlink("own.txt", run.path().join("link.csv")).unwrap();
    let why = atomic_write(run.path().join("link.csv"), b"x").unwrap_err().to_string();
    assert!(why.contains("link.csv") && why.contains("no regular file"), "{why}");
    // Nor where the scratch file goes.
    std::os::unix::fs::symlink("own.txt", run.path().join(".table.csv.altiplano-tmp")).unwrap();
    atomic_write(run.path().join("table.csv"), b"x").unwrap();
    assert_eq!(fs::read(run.path().join("own.txt")).unwrap(), b"own");
    assert_eq!(listing(run.path()), ["link.csv", "own.txt", "table.csv"]);
}

#[test]
fn a_failed_checkpoint_keeps_the_one_before() {
    let (_temp, run) = folder();
    assert_eq!(run.read_checkpoint("last").unwrap(), None);
    run.checkpoint("last", b"one").unwrap();
    let scratch = run.path().join("checkpoint/.last.ckpt.altiplano-tmp");
    fs::create_dir(&scratch).unwrap();
    assert!(run.checkpoint("last", b"two").is_err());
    assert_eq!(run.read_checkpoint("last").unwrap().unwrap(), b"one");
    fs::remove_dir(&scratch).unwrap();
    // A crash before the rename leaves a scratch file, which the next opening removes.
    fs::write(&scratch, b"half").unwrap();
    let run = RunFolder::create(run.path(), Existing::Resume).unwrap();
    assert_eq!(listing(&run.path().join(CHECKPOINTS)), ["last.ckpt"]);
    run.checkpoint("last", b"two").unwrap();
    run.checkpoint("other_1", b"").unwrap();
    assert_eq!(run.read_checkpoint("last").unwrap().unwrap(), b"two");
    assert_eq!(run.read_checkpoint("other_1").unwrap().unwrap(), b"");
    for name in ["", "../last", "a/b", "a.b", "\u{e9}"] {
        assert!(run.checkpoint(name, b"x").is_err() && run.read_checkpoint(name).is_err(), "{name}");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_is_detected() {
    let (_temp, run) = folder();
    let payload: Vec<u8> = (0..256 - HEADER).map(|i| (i * 37 % 251) as u8).collect();
    run.checkpoint("last", &payload).unwrap();
    let path = run.path().join("checkpoint/last.ckpt");
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), 256);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let why = run.read_checkpoint("last").unwrap_err().to_string();
        assert!(why.contains("last.ckpt at byte") && why.contains("remove the file"), "{why}");
    }
    for bit in 0..8 * whole.len() {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(unseal(&damaged).is_err(), "bit {bit}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(unseal(&longer).is_err());
    fs::write(&path, &whole).unwrap();
    assert_eq!(run.read_checkpoint("last").unwrap().unwrap(), payload);
}

#[test]
fn a_torn_history_is_cut_at_every_byte() {
    let (_temp, run) = folder();
    let lines = [r#"{"arch":"a","fitness":1.5}"#, r#"{"arch":"b"}"#, r#"{"arch":"caf\u00e9"}"#];
    for line in lines {
        run.append_history(line).unwrap();
    }
    let path = run.path().join(HISTORY);
    let whole = fs::read(&path).unwrap();
    assert_eq!(run.history().unwrap(), lines);
    for length in 0..=whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let opened = RunFolder::create(run.path(), Existing::Resume).unwrap();
        let kept = whole[..length].iter().filter(|b| **b == b'\n').count();
        assert_eq!(opened.history().unwrap(), lines[..kept]);
        assert_eq!(opened.torn_bytes() as usize, length - lines[..kept].iter().map(|l| l.len() + 1).sum::<usize>());
        opened.append_history("{\"arch\":\"next\"}").unwrap();
        assert_eq!(opened.history().unwrap().len(), kept + 1);
    }
    // A finished last line of zeros, as some file systems leave it, is torn too.
    fs::write(&path, [&whole[..], &[0, 0, 0, b'\n']].concat()).unwrap();
    assert_eq!(RunFolder::create(run.path(), Existing::Resume).unwrap().torn_bytes(), 4);
    // Damage before the end is not to be cut away.
    fs::write(&path, [b"{]\n", &whole[..]].concat()).unwrap();
    let why = RunFolder::create(run.path(), Existing::Resume).unwrap_err().to_string();
    assert!(why.contains("history.jsonl at byte 0"), "{why}");
}

#[test]
fn history_takes_lines_of_json_alone() {
    let (_temp, run) = folder();
    assert!(run.append_history("{}\n{}").is_err());
    assert!(run.append_history("plain words").is_err());
    assert!(run.history().unwrap().is_empty());
    fs::create_dir(run.path().join(HISTORY)).unwrap();
    assert!(run.append_history("{}").unwrap_err().to_string().contains("cannot write"));
}
