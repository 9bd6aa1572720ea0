//! `altiplano correlate` from outside: its figures on tables whose answer is known, and what it says about bad ones.

use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::Value;

/// Architectures with 0 to 6 3x3 convolutions, of different classes each.
const ARCHS: [&str; 7] = ["111111", "311111", "331111", "333111", "333311", "333331", "333333"];

struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// A folder with `s.csv` and `t.csv`.
    fn new(scores: &str, truth: &str) -> Self {
        let scratch = Scratch { folder: tempfile::tempdir().unwrap() };
        std::fs::write(scratch.path("s.csv"), scores).unwrap();
        std::fs::write(scratch.path("t.csv"), truth).unwrap();
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code, stdout and stderr.
    fn run(&self, options: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
            .args(["correlate", "--scores", "s.csv", "--truth", "t.csv"])
            .args(options)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .timeout(std::time::Duration::from_secs(120))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let error = text(output.stderr);
        assert!(!error.contains("panicked"), "{options:?} panicked: {error}");
        (output.status.code().unwrap_or(-1), text(output.stdout), error)
    }

    #[track_caller]
    fn good(&self, options: &[&str]) -> String {
        let (code, out, error) = self.run(options);
        assert_eq!(code, 0, "{options:?}: {error}");
        out
    }

    #[track_caller]
    fn json(&self, options: &[&str]) -> Value {
        serde_json::from_str(&self.good(&[options, &["--json"]].concat())).unwrap()
    }

    /// Must fail with code 2 and one message that holds all of `parts`, and write nothing.
    #[track_caller]
    fn bad(&self, options: &[&str], parts: &[&str]) {
        let (code, out, error) = self.run(&[options, &["--out", "o.csv", "--heat-map", "h.svg"]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{options:?}: {error}");
        parts.iter().for_each(|part| assert!(error.contains(part), "{options:?}: `{part}` is not in: {error}"));
        assert_eq!(error.matches("error: ").count(), 1, "{error}");
        assert!(!self.path("o.csv").exists() && !self.path("h.svg").exists());
    }
}

/// A table of [`ARCHS`] with one column.
fn table(name: &str, values: [&str; 7]) -> String {
    let rows = ARCHS.iter().zip(values).map(|(arch, value)| format!("{arch},{value}\n"));
    format!("arch,{name}\n") + &rows.collect::<String>()
}

const RISING: [&str; 7] = ["10", "20", "30", "40", "50", "60", "70"];

#[track_caller]
fn close(value: &Value, expected: f64) {
    assert!((value.as_f64().unwrap() - expected).abs() < 1e-9, "{value} instead of {expected}");
}

#[test]
fn figures_by_hand() {
    // Two failures, which tie below the rest: ranks 1.5 1.5 3 4 5 6 7 against 1 to 7.
    let scratch = Scratch::new(&table("mine", ["inf", "nan", "3", "4", "5", "6", "7"]), &table("acc", RISING));
    let answer = scratch.json(&["--bootstrap", "50"]);
    let mine = &answer["proxies"]["mine"]["acc"];
    close(&mine["spearman"], 27.5 / f64::sqrt(27.5 * 28.0));
    close(&mine["kendall"], 20.0 / f64::sqrt(20.0 * 21.0));
    assert_eq!((&mine["invalid"], &mine["n"], &mine["regret"]["1"]), (&2.into(), &7.into(), &0.0.into()));
    assert!(mine["regret"]["10"].is_null() && mine["low"].as_f64().unwrap() <= 0.0);
    // So does what `score` writes for one.
    let written = Scratch::new(&table("mine", ["-100000000", "nan", "3", "4", "5", "6", "7"]), &table("acc", RISING));
    let written = &written.json(&["--bootstrap", "50"])["proxies"]["mine"]["acc"];
    assert_eq!((&written["invalid"], &written["spearman"]), (&mine["invalid"], &mine["spearman"]));
    // Parameters grow with the truth, as flops do; given one of them nothing is left of the truth.
    close(&answer["proxies"]["params"]["acc"]["spearman"], 1.0);
    close(&answer["proxies"]["flops"]["acc"]["spearman"], 1.0);
    assert!(answer["proxies"]["params"]["acc"]["low"].is_null() && mine["partial"].is_null());
    assert!(answer["proxies"]["random"]["acc"]["spearman"].as_f64().unwrap() < 1.0);
    assert_eq!((&answer["n"], &answer["unique"], &answer["bootstrap"]), (&7.into(), &7.into(), &50.into()));
    assert_eq!(answer, scratch.json(&["--bootstrap", "50"]));
    let other = scratch.json(&["--bootstrap", "50", "--seed", "2"]);
    assert_ne!(answer["proxies"]["random"], other["proxies"]["random"]);
    // Higher is better, and no sign is dropped.
    let falling = Scratch::new(&table("mine", ["7", "6", "5", "4", "3", "2", "1"]), &table("acc", RISING));
    let mine = &falling.json(&["--bootstrap", "0"])["proxies"]["mine"]["acc"];
    close(&mine["spearman"], -1.0);
    close(&mine["regret"]["1"], 60.0);
    assert!(mine["low"].is_null());
}

#[test]
fn joins_by_class_and_counts_what_is_left_out() {
    // 311111 by its long name.
    let same = "|nor_conv_3x3~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|";
    let scores = table("s", ["1", "2", "3", "4", "5", "6", "7"]) + "333333,7\n411111,8\n";
    let truth = table("acc", ["10", "", "30", "40", "nan", "60", "70"]).replace("311111", same) + "311111,\n";
    let scratch = Scratch::new(&scores, &truth);
    let answer = scratch.json(&[]);
    let joined = &answer["dropped"]["scores"]["all"];
    assert_eq!((&joined["duplicate_scores"], &joined["scores_without_truth"]), (&1.into(), &1.into()));
    assert_eq!(answer["dropped"]["duplicate_truths"], 1);
    assert_eq!((&answer["columns"]["acc"]["n"], &answer["columns"]["acc"]["missing"]), (&5.into(), &2.into()));
    assert_eq!(answer["proxies"]["s"]["acc"]["spearman"], 1.0);

    // What ends in a node without a way out does not count: these two are one class.
    let (one, other) = ("003000", "004000");
    let truth = table("acc", RISING) + &format!("{one},5\n");
    let scores = table("s", ["2", "3", "4", "5", "6", "7", "8"]) + &format!("{other},9\n{one},1\n");
    let scratch = Scratch::new(&scores, &truth);
    let answer = scratch.json(&[]);
    assert_eq!((&answer["n"], &answer["unique"]), (&9.into(), &8.into()));
    assert_eq!(answer["dropped"]["scores"]["all"]["isomorphic_scores"], 1);
    // The very architecture that has the truth stays, although it is not the first.
    assert_eq!(answer["proxies"]["s"]["acc"]["spearman"], 1.0);
    assert_eq!(scratch.json(&["--keep-isomorphs"])["proxies"]["s"]["acc"]["n"], 9);
}

#[test]
fn several_data_sets_in_one_file_go_to_their_truths() {
    let mut scores = String::from("dataset,arch,s,s_sec\n");
    let mut truth = String::from("index,arch,cifar10_acc,adv_imagenet_acc,cifar10_params\n");
    for (i, arch) in ARCHS.iter().enumerate() {
        scores += &format!("cifar10,{arch},{i},0.5\nImageNet16-120,{arch},-{i},1.5\n");
        truth += &format!("{i},{arch},{i},{i},{i}\n");
    }
    let scratch = Scratch::new(&scores, &truth);
    let answer = scratch.json(&["--bootstrap", "0"]);
    assert_eq!(answer["proxies"]["s"]["cifar10_acc"]["spearman"], 1.0);
    assert_eq!(answer["proxies"]["s"]["adv_imagenet_acc"]["spearman"], -1.0);
    assert_eq!(answer["columns"].as_object().unwrap().len(), 2);
    assert_eq!(answer["seconds"]["s"], 1.0);
    let chosen = scratch.json(&["--bootstrap", "0", "--dataset", "cifar10", "--columns", "index"]);
    assert_eq!((&chosen["proxies"]["s"]["index"]["spearman"], &chosen["seconds"]["s"]), (&1.0.into(), &0.5.into()));
    scratch.bad(&["--columns", "index"], &["--dataset", "cifar10, ImageNet16-120", "`index`"]);
    scratch.bad(&["--dataset", "cifar"], &["did you mean `cifar10`?"]);
}

#[test]
fn constant_columns_have_no_correlation_and_files_are_written() {
    let scores = table("flat", ["5"; 7]).replace("arch,flat", "arch,\"a,<b\"");
    let scratch = Scratch::new(&scores, &table("acc", RISING));
    let flags = ["--out", "o.csv", "--heat-map", "h.svg", "--bootstrap", "20"];
    let text = scratch.good(&flags);
    assert!(
        text.contains('–')
            && text.contains("7 architectures")
            && !text.lines().any(|line| line.starts_with("a,<b") && line.contains("NaN")),
        "{text}"
    );
    let json = scratch.good(&[&flags[..], &["--json", "--force"]].concat());
    assert!(
        !json.contains("NaN")
            && serde_json::from_str::<Value>(&json).unwrap()["proxies"]["a,<b"]["acc"]["spearman"].is_null()
    );
    let csv = std::fs::read_to_string(scratch.path("o.csv")).unwrap();
    assert!(csv.starts_with(
        "proxy,column,n,invalid,spearman,low,high,kendall,kendall_error,partial,top,regret_1,regret_10,regret_100,seconds\n"
    ));
    assert!(csv.contains("\"a,<b\",acc,7,0,,,,,,") && csv.lines().count() == 5, "{csv}");
    let svg = std::fs::read_to_string(scratch.path("h.svg")).unwrap();
    assert!(svg.contains("a,&lt;b") && svg.contains(">params</text>") && svg.contains(">100.0</text>"));
}

#[test]
fn bad_tables_are_refused() {
    let good = table("acc", RISING);
    let scores = |text: &str, parts: &[&str]| Scratch::new(text, &good).bad(&[], parts);
    scores("arch,s\n000000,1\n222222,2\n", &["s.csv", "t.csv", "no architecture in common"]);
    scores("arch,s\n111111,1\n333333,2\n", &["2 different architecture(s) in common, expected at least 3"]);
    scores("name,s\n111111,1\n", &["s.csv", "line 1", "no column `arch`", "name, s"]);
    scores(&(good.replace("acc", "s") + "111111,11\n"), &["s.csv", "line 9", "11, but line 2 has 10"]);
    let typo = good.replace("acc", "s").replace("30", "3O");
    scores(&typo, &["s.csv", "line 4, column `s`", "`3O` is no number"]);
    scores("arch,s\n111117,1\n", &["s.csv", "line 2, column `arch`", "digit 6"]);
    scores("", &["s.csv", "is empty"]);
    let scratch = Scratch::new(&table("s", RISING), &good);
    scratch.bad(&["--columns", "ac"], &["t.csv", "did you mean `acc`?"]);
    scratch.bad(&["--proxies", "z"], &["s.csv", "`z` is unknown"]);
    scratch.bad(&["--space", "nasbench201"], &["--space", "did you mean `nas-bench-201`?"]);
    scratch.bad(&["--dataset", "cifar10"], &["no column `dataset`"]);
    scratch.bad(&["--bootstrap", "1000000"], &["expected 0 to 100000"]);
    let (code, _, error) = scratch.run(&["--out", "none/o.csv"]);
    assert!(code == 2 && error.contains("does not exist"), "{error}");
    Scratch::new(&table("s", RISING), "arch,word\n111111,a\n").bad(&[], &["t.csv", "no column with numbers"]);
}
