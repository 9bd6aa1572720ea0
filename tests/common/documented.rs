//! The commands that README.md and the pages of `docs/` show.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;

/// What a line begins with that shows a command of this program: as it is installed, as it is built, and as the example with a
/// space of one's own.
const PROGRAMS: [&str; 3] = ["altiplano ", "target/release/altiplano ", "cargo run --release --example own_space -- "];

/// A command on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Such as `docs/search.md`.
    pub page: String,
    /// Its line, from 1.
    pub line: usize,
    /// Which of [`PROGRAMS`].
    pub program: usize,
    pub args: Vec<String>,
}

/// All commands of a page: lines of its blocks of code (those for a shell, or of no language), joined where they end in a backslash.
pub fn commands(root: &Path, page: &str) -> Vec<Shown> {
    let text = std::fs::read_to_string(root.join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
    let mut all = vec![];
    let mut block: Option<bool> = None;
    let mut joined = String::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(["", "sh"].contains(&language.trim())) };
            joined.clear();
        } else if block == Some(true) {
            joined += line.trim();
            if let Some(begun) = joined.strip_suffix('\\') {
                joined = begun.to_owned();
                continue;
            }
            let whole = std::mem::take(&mut joined);
            let program = PROGRAMS.iter().position(|program| whole.starts_with(program));
            all.extend(program.map(|program| Shown {
                page: page.to_owned(),
                line: number + 1,
                program,
                args: words(whole[PROGRAMS[program].len()..].trim()),
            }));
        }
    }
    assert!(block.is_none(), "{page}: a block of code does not end");
    all
}

/// Words as a shell takes them, up to a comment, a redirection or another command.
pub fn words(line: &str) -> Vec<String> {
    let mut all: Vec<String> = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(own), c) if c == own => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (None, ' ') => all.extend(word.take()),
            (None, '#') if word.is_none() => break,
            (None, '>' | '|' | ';' | '&') => break,
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

/// README.md and the pages of `docs/`.
pub fn pages(root: &Path) -> Vec<String> {
    let names = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
    let mut all: Vec<String> = names.map(|name| format!("docs/{name}")).chain(["README.md".to_owned()]).collect();
    all.sort();
    all
}
