//! Labels of pictures that lie in one folder, as Tiny-ImageNet's validation part has them: `val/val_annotations.txt`
//! beside `val/images/`. A line is a file, its class and the four numbers of a box, separated by tabs.

use super::source::Reader;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where the labels of a part are.
pub(super) fn place(root: &Path, part: &str) -> PathBuf {
    root.join(part).join(format!("{part}_annotations.txt"))
}

/// Whether a file is such a list by its name and place.
pub(super) fn is_named_so(path: &Path) -> bool {
    let part = path.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    part.is_some_and(|part| {
        path.file_name().is_some_and(|name| name.to_str() == Some(&format!("{part}_annotations.txt")))
    })
}

/// Line and label of each file.
pub(super) type Labels = BTreeMap<String, (usize, u16)>;

/// Reads the list; labels are places in `classes`.
pub(super) fn read(path: &Path, classes: &[String]) -> Result<Labels> {
    let text = Reader::of_file(path)?.text("a line per picture")?;
    parse(&text, classes).map_err(|(line, why)| Error::file(path, None, format!("line {line}: {why}")))
}

/// Errors with the line and what is wrong.
fn parse(text: &str, classes: &[String]) -> Result<Labels, (usize, String)> {
    let labels: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, class)| (class.as_str(), i)).collect();
    let mut found = Labels::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line_number = i + 1;
        let wrong = |why: String| (line_number, why);
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        let [file, class, sides @ ..] = fields.as_slice() else {
            return Err(wrong("expected a file, its class and four numbers, separated by tabs".into()));
        };
        if sides.len() != 4 || sides.iter().any(|side| side.parse::<f64>().is_err()) {
            return Err(wrong(format!("expected four numbers behind file and class, found `{}`", sides.join(" "))));
        }
        if Path::new(file).file_name() != Some(OsStr::new(file)) {
            return Err(wrong(format!("`{file}` is not the name of a file in the folder of pictures")));
        }
        let label = labels.get(class).and_then(|&label| u16::try_from(label).ok());
        let label = label.ok_or_else(|| wrong(format!("class `{class}` has no folder in train/")))?;
        if let Some((before, _)) = found.insert((*file).to_owned(), (line_number, label)) {
            return Err(wrong(format!("`{file}` stands in line {before} already")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lines_are_named() {
        let classes = ["a".to_owned(), "b".to_owned()];
        let good = "v0.JPEG\tb\t0\t1\t2\t3\n\nv1.JPEG\ta\t0\t1\t2\t3\n";
        let labels = parse(good, &classes).unwrap();
        assert_eq!((labels["v0.JPEG"], labels["v1.JPEG"]), ((1, 1), (3, 0)));
        for (line, why) in [
            ("v2.JPEG", "expected a file"),
            ("v2.JPEG\tb\t0\t1\t2", "expected four numbers"),
            ("v2.JPEG\tb\t0\t1\t2\tx", "expected four numbers"),
            ("v2.JPEG\tc\t0\t1\t2\t3", "class `c` has no folder"),
            ("../v2.JPEG\tb\t0\t1\t2\t3", "not the name of a file"),
            ("..\tb\t0\t1\t2\t3", "not the name of a file"),
            ("v0.JPEG\tb\t0\t1\t2\t3", "stands in line 1 already"),
        ] {
            let (at, found) = parse(&format!("{good}{line}"), &classes).unwrap_err();
            assert!(at == 4 && found.contains(why), "{line}: {at} {found}");
        }
    }
}
