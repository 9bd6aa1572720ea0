//! The house rules, checked from the sources: who may use whom, and what no file may hold.

use std::path::{Path, PathBuf};

/// Each module and the modules that it may name. The way down is one way:
///
/// `cli -> search -> measure, train -> nn, space -> graph -> kernels -> gpu, shader`
///
/// with these readings. The graph's compiled half (`schedule`, `plan`, `store`) uses `kernels` and `gpu`; `kernels` lowers the
/// graph's representation, so it names its types, and the adapter's report to choose tiles; `gpu` compiles
/// `shader::Variant`. At the side stand `error`, `philox`, `data`, `corrupt`, `report` and `reference`; whoever needs
/// them may use them, and `reference` sees nothing but the graph and the numbers of `philox`. `report` draws the graphs that `space`
/// describes.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("philox", &[]),
    ("shader", &["error"]),
    ("gpu", &["error", "shader"]),
    ("kernels", &["error", "shader", "gpu", "graph"]),
    ("graph", &["error", "shader", "gpu", "kernels"]),
    ("reference", &["error", "philox", "graph"]),
    ("data", &["error", "philox"]),
    ("corrupt", &["error", "philox"]),
    ("report", &["error", "philox", "space"]),
    ("progress", &["error"]),
    ("space", &["error", "philox"]),
    ("nn", &["error", "philox", "data", "space", "graph", "gpu"]),
    ("export", &["error", "nn", "graph"]),
    ("train", &["error", "philox", "data", "report", "progress", "space", "nn", "graph", "kernels", "gpu"]),
    // One proxy is beyond f32 and is computed by the interpreter.
    (
        "measure",
        &[
            "error",
            "philox",
            "reference",
            "data",
            "corrupt",
            "report",
            "progress",
            "space",
            "nn",
            "graph",
            "kernels",
            "gpu",
            "train",
        ],
    ),
    (
        "search",
        &[
            "error", "philox", "data", "corrupt", "report", "progress", "space", "nn", "graph", "kernels", "gpu",
            "train", "measure",
        ],
    ),
    // What checks and times the layers stands beside the command line and may see all that lies below it.
    ("selftest", &["error", "philox", "reference", "space", "nn", "graph", "kernels", "gpu", "train"]),
    (
        "bench",
        &[
            "error", "philox", "corrupt", "data", "report", "progress", "shader", "space", "nn", "graph", "kernels",
            "gpu", "train", "measure",
        ],
    ),
    (
        "cli",
        &[
            "error",
            "philox",
            "data",
            "corrupt",
            "report",
            "progress",
            "selftest",
            "bench",
            "reference",
            "space",
            "nn",
            "graph",
            "kernels",
            "gpu",
            "shader",
            "train",
            "measure",
            "search",
            "export",
        ],
    ),
    // The front page and the program name everything.
    ("lib", &[]),
    ("main", &[]),
];

/// Files of the graph that may name kernels, the device and shaders: the compiled half, and operations that bring a shader.
const COMPILED: [&str; 5] = ["graph/custom", "graph/merge", "graph/plan", "graph/schedule", "graph/store"];

/// Most lines of a file.
const RUST_LINES: usize = 600;
const WGSL_LINES: usize = 260;

struct Source {
    /// Path below `src`, such as `graph/plan.rs`.
    name: String,
    lines: usize,
    /// Without comments, without what is in quotes, and without tests.
    code: String,
}

impl Source {
    /// `graph` of `graph/plan.rs`, `error` of `error.rs`.
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap()
    }
}

fn files(folder: &Path, extension: &str, list: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, list);
        } else if path.extension().is_some_and(|e| e == extension) {
            list.push(path);
        }
    }
    list.sort();
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut list = vec![];
    files(&root().join("src"), "rs", &mut list);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().replace('\\', "/");
        let stem = name.trim_end_matches(".rs").rsplit('/').next().unwrap().to_owned();
        let whole_test =
            stem == "tests" || stem.ends_with("_tests") || stem.starts_with("tests_") || name.contains("/tests/");
        let code = if whole_test { String::new() } else { without_tests(&without_comments(&text)) };
        Source { name, lines: text.lines().count(), code }
    };
    let sources: Vec<Source> = list.into_iter().map(read).collect();
    assert!(sources.len() > 30, "only {} files below src", sources.len());
    sources
}

/// Blanks comments and the insides of strings and of characters, keeping lines.
fn without_comments(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    let starts = |i: usize, what: &str| what.chars().enumerate().all(|(k, c)| bytes.get(i + k) == Some(&c));
    while i < bytes.len() {
        if starts(i, "//") {
            while i < bytes.len() && bytes[i] != '\n' {
                i += 1;
            }
        } else if starts(i, "r\"") || starts(i, "r#") && (starts(i, "r#\"") || starts(i, "r##\"")) {
            let hashes = bytes[i + 1..].iter().take_while(|c| **c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            i += 2 + hashes;
            while i < bytes.len() && !starts(i, &end) {
                if bytes[i] == '\n' {
                    out.push('\n');
                }
                i += 1;
            }
            i += end.len();
            out.push_str("\"\"");
        } else if bytes[i] == '"' {
            i += 1;
            while i < bytes.len() && bytes[i] != '"' {
                if bytes[i] == '\n' {
                    out.push('\n');
                }
                i += if bytes[i] == '\\' && bytes.get(i + 1) != Some(&'\n') { 2 } else { 1 };
            }
            i += 1;
            out.push_str("\"\"");
        } else if bytes[i] == '\'' && (bytes.get(i + 1) == Some(&'\\') || bytes.get(i + 2) == Some(&'\'')) {
            // A character, not a lifetime.
            i += if bytes[i + 1] == '\\' { 3 } else { 2 };
            while i < bytes.len() && bytes[i] != '\'' {
                i += 1;
            }
            i += 1;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    out
}

/// Leaves out every item behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let (mut depth, mut end) = (0usize, item.len());
        for (i, c) in item.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => {
                    end = i + 1;
                    break;
                }
                '}' => depth -= 1,
                ';' if depth == 0 => {
                    end = i + 1;
                    break;
                }
                _ => {}
            }
        }
        rest = &item[end..];
    }
    out + rest
}

/// Modules that a file names with `crate::module` or in `use crate::{module, ...}`.
fn named_modules(code: &str) -> Vec<String> {
    let mut modules = vec![];
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            // Names at depth one of the braces.
            Some(inner) => {
                let (mut depth, mut names) = (0usize, vec![String::new()]);
                for c in inner.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(String::new()),
                        c if depth == 0 => names.last_mut().unwrap().push(c),
                        _ => {}
                    }
                }
                names
            }
            None => vec![rest.to_owned()],
        };
        for name in list {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            modules.push(name);
        }
    }
    modules.retain(|name| !name.is_empty());
    modules.sort();
    modules.dedup();
    modules
}

#[test]
fn modules_use_only_what_lies_below() {
    let mut wrong = vec![];
    for source in sources() {
        let own = source.module();
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == own) else {
            wrong.push(format!("{}: the module {own} has no row in the table", source.name));
            continue;
        };
        for used in named_modules(&source.code) {
            // `crate::Error` and `crate::Result` are those of `error`.
            let used = if used == "Error" || used == "Result" { "error" } else { used.as_str() };
            if used != own && own != "lib" && own != "main" && !allowed.contains(&used) {
                wrong.push(format!("{} uses {used}", source.name));
            }
            let compiled = COMPILED.iter().any(|name| source.name.starts_with(name));
            if own == "graph" && !compiled && used != "graph" && used != "error" {
                wrong.push(format!("{} uses {used}, which only {COMPILED:?} may", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Files outside of `allowed` whose code has `word`, with the line.
fn offenders(allowed: impl Fn(&Source) -> bool, has: impl Fn(&str) -> bool) -> Vec<String> {
    let mut list = vec![];
    for source in sources().into_iter().filter(|source| !allowed(source)) {
        let lines = source.code.lines().filter(|line| has(line));
        list.extend(lines.map(|line| format!("{}: {}", source.name, line.trim())));
    }
    list
}

/// Whether `word` stands in `line` as a word of its own.
fn word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back().is_some_and(part);
        let after = line[at + word.len()..].chars().next().is_some_and(part);
        !before && !after
    })
}

#[test]
fn only_gpu_names_the_graphics_library() {
    let list = offenders(|source| source.module() == "gpu", |line| word(line, "wgpu"));
    assert!(list.is_empty(), "{list:#?}");
}

/// How a space is called: as a module, as a type, on the command line.
fn names_of_space(module: &str) -> [String; 3] {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    [module.to_owned(), module.split('_').map(word).collect(), module.replace('_', "-")]
}

#[test]
fn spaces_are_named_where_they_are_built_and_nowhere_else() {
    let sources = sources();
    let own = |source: &Source| source.name.strip_prefix("space/")?.strip_suffix(".rs").map(str::to_owned);
    // Files beside them say what holds for all spaces.
    let spaces = sources.iter().filter(|source| source.code.contains("impl Space for "));
    let modules = spaces.filter_map(own).filter(|module| !module.contains('/'));
    let names: Vec<String> = modules.flat_map(|module| names_of_space(&module)).collect();
    assert!(["nas-bench-201", "NasBench201"].iter().all(|name| names.iter().any(|own| own == name)), "{names:?}");
    let named = |line: &&str| names.iter().any(|name| word(line, name));
    let mut list = vec![];
    for source in &sources {
        let builds = ["space/", "nn/", "bench/", "selftest.rs"].iter().any(|place| source.name.starts_with(place));
        if builds || source.code.is_empty() {
            continue;
        }
        // The name of the command line stands in texts, which the code here is without.
        let text = std::fs::read_to_string(root().join("src").join(&source.name)).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//")).chain(source.code.lines());
        list.extend(lines.filter(named).map(|line| format!("{}: {}", source.name, line.trim())));
    }
    assert!(list.is_empty(), "{list:#?}");
}

#[test]
fn unsafe_stands_in_gpu_alone() {
    let list = offenders(|source| source.module() == "gpu", |line| word(line, "unsafe"));
    assert!(list.is_empty(), "{list:#?}");
}

#[test]
fn nothing_panics_on_purpose() {
    // A parser may have an `expect` of its own, which takes no text.
    let calls =
        [".unwrap()", ".expect(\"", ".expect(&", "panic!(", "todo!(", "unimplemented!(", "unreachable!(", "dbg!("];
    let list = offenders(|_| false, |line| calls.iter().any(|call| line.contains(call)));
    assert!(list.is_empty(), "{list:#?}");
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let mut long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines > RUST_LINES)
        .map(|source| format!("src/{}: {} lines", source.name, source.lines))
        .collect();
    let mut shaders = vec![];
    files(&root().join("shaders"), "wgsl", &mut shaders);
    assert!(shaders.len() > 10);
    for path in shaders {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        if lines > WGSL_LINES {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_reader_of_sources_reads_right() {
    let code = without_comments("a // unsafe\n\"wgpu:: \\\" // x\" 'b' '\\'' &'a r#\"panic!(\"#; c");
    assert_eq!(code, "a \n\"\"   &'a \"\"; c");
    assert_eq!(without_tests("a #[cfg(test)]\nmod t { b { c } } d #[cfg(test)] mod e; f"), "a  d  f");
    assert_eq!(
        named_modules("use crate::{gpu::{Gpu, Slab}, error}; crate::nn::x(crate::error::E)"),
        ["error", "gpu", "nn"]
    );
    assert!(word("pub use wgpu;", "wgpu") && !word("from_wgpu()", "wgpu"));
}
