//! What lies where a data set is and is not read, told in one note.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::picture::Unusable;
use crate::error::{Error, Result, path_text};

/// Files that were left out, counted by the reason and by what they are.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    /// Whether pictures that cannot be read are refused instead.
    strict: bool,
    groups: BTreeMap<String, Group>,
    /// Pictures that cannot be read, each with its own reason.
    unreadable: Vec<Unusable>,
}

/// Files that were left out for the same reason.
#[derive(Debug, Clone)]
struct Group {
    /// How many of each kind, by its name in the singular.
    kinds: BTreeMap<String, usize>,
    /// The first by its path.
    first: PathBuf,
}

impl LeftOut {
    /// Nothing yet; where a reader is `strict`, a picture that cannot be read will not be left out.
    pub fn new(strict: bool) -> Self {
        LeftOut { strict, ..LeftOut::default() }
    }

    /// Adds a file. `kind` says what it is, in words whose plural ends in `s`; `why` stands in brackets.
    pub fn add(&mut self, file: PathBuf, kind: &str, why: &str) {
        let group =
            self.groups.entry(why.to_owned()).or_insert_with(|| Group { kinds: BTreeMap::new(), first: file.clone() });
        *group.kinds.entry(kind.to_owned()).or_insert(0) += 1;
        if file < group.first {
            group.first = file;
        }
    }

    /// Adds a picture below `root` that cannot be read.
    ///
    /// # Errors
    /// The one that says why, where the reader is strict.
    pub fn add_unreadable(&mut self, root: &Path, file: &Path, error: Error) -> Result<()> {
        if self.strict {
            return Err(error);
        }
        let place = file.strip_prefix(root).unwrap_or(file).to_path_buf();
        self.unreadable.push(Unusable { file: place, why: error.reason() });
        Ok(())
    }

    /// Pictures that cannot be read.
    pub fn unreadable(&self) -> &[Unusable] {
        &self.unreadable
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.groups.values().flat_map(|group| group.kinds.values()).sum::<usize>() + self.unreadable.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.unreadable.is_empty()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |kind: &str, count: usize| format!("{count} {kind}{}", if count == 1 { "" } else { "s" });
        let mut all = vec![];
        for (why, group) in &self.groups {
            let kinds: Vec<String> = group.kinds.iter().map(|(kind, &count)| plural(kind, count)).collect();
            all.push(format!("{} ({why}; first {})", kinds.join(" and "), group.first.display()));
        }
        if let Some(first) = self.unreadable.iter().min() {
            let pictures = plural("picture", self.unreadable.len());
            all.push(format!("{pictures} (cannot be read; first {}: {})", path_text(&first.file), first.why));
        }
        write!(f, "left out: {}", all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_by_reason_with_an_example_each() {
        let mut left = LeftOut::default();
        assert!(left.is_empty());
        for (file, kind, why) in [
            ("b/9.gif", ".gif file", "are not read"),
            ("b/8.bmp", ".bmp file", "are not read"),
            ("a/7.gif", ".gif file", "are not read"),
            ("up", "link", "to a folder"),
        ] {
            left.add(file.into(), kind, why);
        }
        for (file, why) in [("in/b.png", "is cut off"), ("in/a.png", "is a GIF")] {
            let (root, file) = (Path::new("in"), Path::new(file));
            left.add_unreadable(root, file, Error::file(file, None, why)).unwrap();
            assert!(LeftOut::new(true).add_unreadable(root, file, Error::file(file, None, why)).is_err());
        }
        assert_eq!((left.len(), left.unreadable().len()), (6, 2));
        let want = "left out: 1 .bmp file and 2 .gif files (are not read; first a/7.gif); 1 link (to a folder; first up); \
                    2 pictures (cannot be read; first a.png: is a GIF)";
        assert_eq!(left.to_string(), want);
    }
}
