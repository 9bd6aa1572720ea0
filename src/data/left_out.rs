//! What lies where a data set is and is not read, told in one note.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Files that were left out, counted by the reason and by what they are.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut {
    groups: BTreeMap<String, Group>,
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
    /// Adds a file. `kind` says what it is, in words whose plural ends in `s`; `why` stands in brackets.
    pub fn add(&mut self, file: PathBuf, kind: &str, why: &str) {
        let group =
            self.groups.entry(why.to_owned()).or_insert_with(|| Group { kinds: BTreeMap::new(), first: file.clone() });
        *group.kinds.entry(kind.to_owned()).or_insert(0) += 1;
        if file < group.first {
            group.first = file;
        }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.groups.values().flat_map(|group| group.kinds.values()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left out: ")?;
        for (i, (why, group)) in self.groups.iter().enumerate() {
            let plural =
                |(kind, &count): (&String, &usize)| format!("{count} {kind}{}", if count == 1 { "" } else { "s" });
            let kinds: Vec<String> = group.kinds.iter().map(plural).collect();
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{} ({why}; first {})", kinds.join(" and "), group.first.display())?;
        }
        Ok(())
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
        assert_eq!(left.len(), 4);
        let want =
            "left out: 1 .bmp file and 2 .gif files (are not read; first a/7.gif); 1 link (to a folder; first up)";
        assert_eq!(left.to_string(), want);
    }
}
