//! The program in a folder of its own, as tests run it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

pub const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|";

/// A folder to run in.
pub struct Scratch {
    folder: tempfile::TempDir,
}

/// What a run left behind.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Scratch {
    pub fn new() -> Self {
        Scratch { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn run(&self, args: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_altiplano"))
            .args(args)
            .current_dir(self.folder.path())
            // Drivers complain about a desktop's folder that is not there.
            .env("XDG_RUNTIME_DIR", self.folder.path())
            // Whatever has been tuned on this machine is not for tests.
            .env("ALTIPLANO_CACHE", self.path("cache"))
            .env_remove("RUST_LOG")
            .timeout(std::time::Duration::from_secs(300))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let output = Output {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!output.stderr.contains("panicked"), "{args:?} panicked: {}", output.stderr);
        output
    }

    /// What [`Scratch::run`] runs, for tests that do more with it.
    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_altiplano"));
        command.args(args).current_dir(self.folder.path()).env("XDG_RUNTIME_DIR", self.folder.path());
        command.env("ALTIPLANO_CACHE", self.path("cache")).env_remove("RUST_LOG");
        command
    }

    /// The bytes of a file.
    #[track_caller]
    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Writes images of some classes as a folder: in each class as many for training, and two for testing.
    pub fn image_folder(&self, name: &str, classes: &[&str], each: u32) {
        for (part, count) in [("train", each), ("test", 2)] {
            for (number, class) in classes.iter().enumerate() {
                for i in 0..count {
                    let value = |x: u32, y: u32| (40 * number as u32 + 7 * i + 13 * x * (y + number as u32)) as u8;
                    let image = image::GrayImage::from_fn(8, 8, |x, y| image::Luma([value(x, y)]));
                    let path = self.path(&format!("{name}/{part}/{class}/{i}.png"));
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    image.save(path).unwrap();
                }
            }
        }
    }

    /// Runs what must succeed; stdout.
    #[track_caller]
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
        output.stdout
    }

    /// Runs what must succeed and print one JSON document.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.good(args)).unwrap()
    }

    /// Runs what must fail with this code and one message that holds all of `parts`. Nothing may be written.
    #[track_caller]
    pub fn bad(&self, code: i32, args: &[&str], parts: &[&str]) {
        let before = self.files();
        self.stops(code, args, parts);
        assert_eq!(self.files(), before, "{args:?} left something behind");
    }

    /// The same, but files may be there afterwards.
    #[track_caller]
    pub fn stops(&self, code: i32, args: &[&str], parts: &[&str]) {
        let output = self.run(args);
        assert_eq!(output.code, code, "{args:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{args:?} prints a result");
        let all: Vec<&str> = output.stderr.lines().filter(|line| !line.starts_with("error: XDG_RUNTIME_DIR")).collect();
        let messages: Vec<usize> = (0..all.len()).filter(|&i| all[i].starts_with("error: ")).collect();
        assert_eq!(messages.len(), 1, "{args:?}: not one message: {}", output.stderr);
        let message = all[messages[0]..].join("\n");
        for part in parts {
            assert!(message.contains(part), "{args:?}: `{part}` is not in: {message}");
        }
    }

    /// All files and folders with their sizes.
    pub fn files(&self) -> BTreeMap<PathBuf, u64> {
        fn list(folder: &Path, into: &mut BTreeMap<PathBuf, u64>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let data = path.metadata().unwrap();
                into.insert(path.clone(), if data.is_dir() { 0 } else { data.len() });
                if data.is_dir() {
                    list(&path, into);
                }
            }
        }
        let mut files = BTreeMap::new();
        list(self.folder.path(), &mut files);
        files
    }
}

/// `altiplano train` on the digits with options.
pub fn train<'a>(options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--quiet", "--data", "digits", "--arch", ARCH, "--channels", "4", "--out", "out"];
    args.extend(options);
    args
}

/// A training of seconds: two steps of a network of four channels.
pub fn short<'a>(out: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--arch", ARCH, "--channels", "4", "--cells", "1", "--out", out];
    if !options.contains(&"--data") {
        args.extend(["--data", "digits", "--images", "64", "--batch", "32"]);
    }
    args.extend(if options.contains(&"--epochs") { &[][..] } else { &["--epochs", "1"] });
    args.extend(options);
    args
}

/// A golden case of the repository.
pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nb201/1_mixed").join(name)
}

/// `altiplano step` on the golden case with these weights.
pub fn step<'a>(weights: &'a str, options: &[&'a str]) -> Vec<String> {
    let info: Value = serde_json::from_slice(&std::fs::read(golden("case.json")).unwrap()).unwrap();
    let batch = golden("batch.safetensors").display().to_string();
    let mut args = vec!["step", "--arch", info["arch"].as_str().unwrap(), "--weights", weights, "--batch", &batch];
    args.extend(["--out", "step.safetensors"]);
    args.extend(options);
    args.into_iter().map(str::to_owned).collect()
}

pub fn refs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
