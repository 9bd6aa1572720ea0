//! The one error type of the library.
//!
//! Every variant says what was wrong, where, and what to do about it. [`Error::exit_code`] maps it to
//! the command line's convention: 2 for wrong arguments or input, 1 for a failure while running.

use std::path::{Path, PathBuf};

/// What every fallible function of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that a caller or user gave cannot be used.
    #[error("{what}: {why}")]
    Invalid {
        /// The argument, option or field, as the user knows it.
        what: String,
        /// What is wrong with it and what would be right.
        why: String,
    },
    /// The contents of a file are not what they should be.
    #[error("{}{}: {why}", path.display(), offset.map(|o| format!(" at byte {o}")).unwrap_or_default())]
    File {
        /// The file (inside an archive: `archive.tar.gz/member`).
        path: PathBuf,
        /// Where in the (decompressed) file, when that is known.
        offset: Option<u64>,
        /// What is wrong and what was expected.
        why: String,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb: `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be fetched.
    #[error("{address}: {why}")]
    Download {
        /// Where it should have come from.
        address: String,
        /// What was answered, or happened on the way.
        why: String,
    },
    /// Tensors do not fit together.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// The layer or operation.
        op: String,
        /// The shape that it needs.
        expected: String,
        /// The shape that it was given.
        got: String,
    },
    /// No adapter, or none that matches.
    #[error("{0}")]
    Adapter(String),
    /// The device or its driver failed.
    #[error("{doing} on {adapter}: {why}")]
    Gpu {
        /// What was being done.
        doing: String,
        /// The adapter's name.
        adapter: String,
        /// The driver's or the validation's words.
        why: String,
    },
    /// A shader does not preprocess or validate.
    #[error("shader {shader}: {why}")]
    Shader {
        /// Its name and permutation.
        shader: String,
        /// Position and reason.
        why: String,
    },
    /// A plan does not fit in memory.
    #[error("{what} needs {needed} MiB of {limit} MiB; {advice}")]
    Memory {
        /// What was to be placed.
        what: String,
        /// Mebibytes needed.
        needed: u64,
        /// Mebibytes at hand.
        limit: u64,
        /// What to do, with the largest size that fits.
        advice: String,
    },
    /// Training left the finite numbers.
    #[error("{what} became {value} at {at}; lower the learning rate (--lr) or rho, or check the data")]
    NotFinite {
        /// `loss`, usually.
        what: String,
        /// `NaN` or `inf`.
        value: f32,
        /// Epoch and step, or candidate.
        at: String,
    },
    /// A job over many files is done, but for some that were bad and have been listed.
    #[error("{failed} of {all} files could not be used; they are listed above, and the others are done")]
    Incomplete {
        /// Bad ones.
        failed: usize,
        /// All of them.
        all: usize,
    },
    /// The caller's progress callback or a signal asked to stop.
    #[error(
        "stopped on request; a search, training or download keeps what it has saved, other commands leave nothing behind"
    )]
    Cancelled,
}

impl Error {
    /// A value that cannot be used.
    pub fn invalid(what: impl Into<String>, why: impl Into<String>) -> Self {
        Error::Invalid { what: what.into(), why: why.into() }
    }

    /// A file whose contents are wrong.
    pub fn file(path: impl Into<PathBuf>, offset: Option<u64>, why: impl Into<String>) -> Self {
        Error::File { path: path.into(), offset, why: why.into() }
    }

    /// Wraps an I/O error: `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Shapes that do not fit.
    pub fn shape(op: impl Into<String>, expected: impl ToString, got: impl ToString) -> Self {
        Error::Shape { op: op.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// What is wrong, without the path of the file: for lists in which that stands already.
    pub fn reason(&self) -> String {
        match self {
            Error::File { offset: Some(at), why, .. } => format!("at byte {at}: {why}"),
            Error::File { why, .. } => why.clone(),
            Error::Io { action, source, .. } => format!("cannot {action}: {source}"),
            other => other.to_string(),
        }
    }

    /// 2 for wrong arguments or input, 1 for a failure while running.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Invalid { .. } | Error::File { .. } | Error::Shape { .. } | Error::Adapter(_) => 2,
            Error::Io { action: "read" | "open", .. } => 2,
            _ => 1,
        }
    }
}

/// A path as text; bytes that are no UTF-8 stand there as `\xFF` does.
pub(crate) fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02X}"));
    }
    text
}

/// Writes a path as [`path_text`] gives it: `#[serde(serialize_with = "crate::error::serialize_path")]`. By itself serde refuses
/// paths that are no UTF-8, and with them the whole document.
pub(crate) fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

/// Most names that are suggested at once.
const MAX_SUGGESTED: usize = 6;

/// `given` is not one of `known`: names those that are likely meant.
pub(crate) fn unknown(what: &str, given: &str, known: &[&str]) -> Error {
    let near: Vec<String> = suggestions(given, known).iter().map(|name| format!("`{name}`")).collect();
    let hint = match near.split_last() {
        None => String::new(),
        Some((last, [])) => format!("; did you mean {last}?"),
        Some((last, others)) => format!("; did you mean {} or {last}?", others.join(", ")),
    };
    Error::invalid(what, format!("`{given}` is unknown{hint} (known: {})", known.join(", ")))
}

/// Whether a name may have been meant.
pub(crate) fn is_near(given: &str, name: &str) -> bool {
    !suggestions(given, &[name]).is_empty()
}

/// The names that begin with what was given, else those that contain it, else the one with the fewest letters to change.
fn suggestions<'a>(given: &str, known: &[&'a str]) -> Vec<&'a str> {
    let given = given.to_lowercase();
    let which = |fits: &dyn Fn(&str) -> bool| known.iter().copied().filter(|name| fits(name)).collect::<Vec<_>>();
    // One letter begins or is in too much.
    if given.len() > 1 {
        for list in [which(&|name| name.starts_with(&given)), which(&|name| name.contains(&given))] {
            if (1..=MAX_SUGGESTED).contains(&list.len()) {
                return list;
            }
        }
    }
    let nearest = known.iter().copied().min_by_key(|name| edit_distance(&given, name));
    nearest.filter(|name| edit_distance(&given, name) <= name.len().div_ceil(2)).into_iter().collect()
}

/// Edit distance for suggestions; two neighbouring letters in the wrong order count as one mistake.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                        .then(|| table[i - 2][j - 2] + 1);
                    replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1).min(swapped.unwrap_or(usize::MAX))
                }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn every_path_can_be_written() {
        use std::os::unix::ffi::OsStrExt;

        #[derive(serde::Serialize)]
        struct One {
            #[serde(serialize_with = "crate::error::serialize_path")]
            file: PathBuf,
        }
        for (bytes, want) in
            [(&b"a/\xc3\xa4.png"[..], "a/\u{e4}.png"), (b"a\xff\xfeb\xc3", "a\\xFF\\xFEb\\xC3"), (b"", "")]
        {
            let one = One { file: std::ffi::OsStr::from_bytes(bytes).into() };
            assert_eq!(serde_json::to_value(&one).unwrap()["file"], want);
        }
    }

    #[test]
    fn suggests_the_nearest_name() {
        let message = unknown("space", "nas-bench201", &["nas-bench-201", "darts"]).to_string();
        assert!(message.contains("did you mean `nas-bench-201`?"), "{message}");
        assert!(unknown("optimizer", "sma", &["sgd", "sam"]).to_string().contains("did you mean `sam`?"));
        let kinds = ["gaussian_noise", "defocus_blur", "gaussian_blur", "fog"];
        let hint = |given: &str| unknown("kind", given, &kinds).to_string();
        assert!(hint("Gauss").contains("did you mean `gaussian_noise` or `gaussian_blur`?"), "{}", hint("Gauss"));
        assert!(hint("blur").contains("did you mean `defocus_blur` or `gaussian_blur`?"), "{}", hint("blur"));
        assert!(hint("frog").contains("did you mean `fog`?"));
        assert!(!unknown("space", "zzz", &["nas-bench-201"]).to_string().contains("did you mean"));
    }
}
