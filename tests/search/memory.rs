//! Little device memory: what is too little is said with what would do, and what does changes no result.

use crate::SMALL_CROZE;
use crate::program::Scratch;

/// The number after `needs` and before a word.
fn before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let place = words.windows(3).position(|own| own[0] == "needs" && own[2] == word);
    place.and_then(|place| words[place + 1].parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// Runs with as little memory as will do, which each refusal says more of; how much that was, and how often it was refused.
fn with_least(scratch: &Scratch, args: &[&str]) -> (u64, usize) {
    let (mut memory, mut refused) = (1, 0);
    loop {
        let text = memory.to_string();
        let out = scratch.run(&[args, &["--force", "--memory", &text]].concat());
        if out.code == 0 {
            return (memory, refused);
        }
        let needed = before(&out.stderr, "MiB");
        assert!(needed > memory && out.stderr.contains(&format!("of {memory} MiB")), "{}", out.stderr);
        assert!(refused < 20, "{}", out.stderr);
        (memory, refused) = (needed, refused + 1);
    }
}

#[test]
fn less_memory_changes_no_result() {
    let scratch = Scratch::new();
    scratch.write("small.toml", "finals.judged_images = 20\nfinals.noise.draws = 2\nfinals.kept_back = 100\n");
    let search = [&SMALL_CROZE[..], &["--epochs", "1", "--arms", "proxy,random", "--batch", "128"]].concat();
    scratch.good(&[&search[..], &["--out", "whole"]].concat());
    let (memory, refused) = with_least(&scratch, &[&search[..], &["--out", "less"]].concat());
    assert!(refused > 0, "{memory} MiB are enough for everything");
    for file in ["history.jsonl", "best.safetensors", "table.csv"] {
        assert!(scratch.read(&format!("whole/{file}")) == scratch.read(&format!("less/{file}")), "{file}");
    }
    // Those side by side want more.
    let trained = ["train", "--quiet", "--data", "digits", "--arch", "333333", "--channels", "8", "--epochs", "1"];
    let (alone, _) = with_least(&scratch, &[&trained[..], &["--batch", "64", "--out", "trained"]].concat());
    let alone = alone.to_string();
    let large = [&trained[..], &["--batch", "256", "--out", "large", "--memory", &alone]].concat();
    scratch.bad(1, &large, &["MiB", "the largest --batch that fits is"]);
    // What is said to fit does.
    let refusal = scratch.run(&large).stderr;
    let batch = refusal.rsplit(' ').next().unwrap().trim();
    scratch.good(&[&trained[..], &["--batch", batch, "--out", "fits", "--memory", &alone]].concat());
    // A population around a network, of which as many are held as fit.
    let around =
        ["landscape", "--model", "whole/best.safetensors", "--data", "digits", "--images", "64", "--size", "5"];
    scratch.good(&[&around[..], &["--out", "around"]].concat());
    scratch.good(&[&around[..], &["--out", "around-less", "--memory", "1"]].concat());
    assert!(scratch.read("around/landscape.npy") == scratch.read("around-less/landscape.npy"));
    scratch.bad(2, &["train", "--memory", "0"], &["--memory"]);
}
