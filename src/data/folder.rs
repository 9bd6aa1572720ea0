//! One folder of pictures per class: `train/<class>/*.png`, and `test/` or `val/` likewise.
//!
//! All pictures must have one size, or be brought to one (`reading.rs`). They become one grey channel if every one of them is grey, else RGB; 16-bit
//! values are reduced to 8, transparency is dropped (as by Pillow's `convert`), and orientation tags are followed. Classes and files go by sorted
//! name. Only files directly inside a class folder count, or in its folder `images` where it has none itself, as in
//! Tiny-ImageNet; that set's list of labels is read for its validation part, and a part without labels is not used.
//! Links to folders below a class are not followed, since they may lead in circles. Pictures that are not read are told
//! in a note, those that cannot be read one by one; hidden files, and those that are no pictures by their names, are passed over.

use super::decode::{Decoder, Headed, Labelled, labels};
use super::images::MAX_CLASSES;
use super::left_out::LeftOut;
use super::picture::{READ, other_ending};
use super::reading::Reading;
use super::split::split_labels;
use super::{Dataset, Format, Origin, Parts, SplitSize, annotations, is_picture, pictures_below};
use crate::error::{Error, Result, path_text};
use std::path::{Path, PathBuf};

/// The share of each class that is held out when there is no test folder.
const HELD_OUT: f64 = 0.2;
const NO_LABELS: &str = "without labels";

/// Whether `root` has a `train` folder with at least one folder in it.
pub(super) fn detect(root: &Path) -> bool {
    sorted(&root.join("train")).is_ok_and(|entries| entries.iter().any(|entry| entry.is_dir()))
}

/// Reads the set.
pub(super) fn load(root: &Path, reading: &Reading) -> Result<Dataset> {
    let mut left_out = LeftOut::new(reading.strict);
    let Tree { classes, files: train } = Tree::list(root, "train", &mut left_out)?;
    let TestPart { files: test, list, mut notes } = TestPart::find(root, &classes, &mut left_out)?;
    let mut decoder = Decoder { root, fit: reading.fit()?, left_out: &mut left_out };
    let mut train = decoder.heads(train)?;
    let held_out = test.is_none();
    let test = match test {
        Some(test) => decoder.heads(test)?,
        None => hold_out(root, &mut train, classes.len())?,
    };
    // One shape over both parts, so that one coloured test image does not make the parts differ.
    let shape = decoder.shape(&[&train, &test])?;
    let (train, test) = (decoder.pixels(shape, train, &classes)?, decoder.pixels(shape, test, &classes)?);
    if held_out {
        notes.push(format!(
            "no test/ or val/ with labels: {} of {} images, a fixed 20% of each class, were held out as the test part",
            test.images.len(),
            train.images.len() + test.images.len()
        ));
    }
    let in_train = train.images.per_class();
    if let Some(class) = classes.iter().zip(in_train).find_map(|(class, count)| (count == 0).then_some(class))
        && let Some(bad) = left_out.unreadable().iter().find(|bad| bad.file.starts_with(Path::new("train").join(class)))
    {
        let why = format!("no picture of the class `{class}` can be read; {}: {}", path_text(&bad.file), bad.why);
        return Err(Error::file(root, None, why));
    }
    let name = root.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned());
    Dataset::assemble(Parts {
        name,
        format: Format::ImageFolder,
        train: train.images,
        test: test.images,
        source: Origin::Path(root.into()),
        files: train.files.into_iter().chain(test.files).chain(list).collect(),
        left_out,
        notes,
        test_path: root.into(),
    })
}

/// Takes the test part out of the training files.
fn hold_out(root: &Path, train: &mut Vec<Headed>, classes: usize) -> Result<Vec<Headed>> {
    let parts = split_labels(&labels(train), classes, &SplitSize::Fractions(vec![1.0 - HELD_OUT, HELD_OUT]), 0)?;
    let [_, held_out] = parts.as_slice() else {
        return Err(Error::file(root, None, "expected two parts of the split"));
    };
    let mut held = held_out.iter().copied().peekable();
    let (test, kept) = std::mem::take(train)
        .into_iter()
        .enumerate()
        .partition::<Vec<_>, _>(|(place, _)| held.next_if_eq(place).is_some());
    let files = |part: Vec<(usize, Headed)>| part.into_iter().map(|(_, headed)| headed).collect();
    *train = files(kept);
    Ok(files(test))
}

/// The visible entries of a folder, sorted by name.
fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let entry = entry.map_err(Error::io("read", folder))?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// Leaves out a file or folder; `why` is what a picture that is read is left out for.
fn leave(root: &Path, path: &Path, why: &str, left_out: &mut LeftOut) {
    let place = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    if path.is_dir() {
        match path.is_symlink() {
            true => left_out.add(place, "link", "to a folder, which is not followed"),
            false => left_out.add(place, "folder", "cannot be read"),
        }
    } else if is_picture(path) {
        left_out.add(place, "picture", why);
    } else if let Some(ending) = other_ending(path) {
        left_out.add(place, &format!(".{ending} file"), &format!("{READ} are read"));
    }
}

/// Leaves out all pictures of a part.
fn leave_part(root: &Path, part: &str, why: &str, left_out: &mut LeftOut) -> Result<()> {
    let folder = root.join(part);
    let found = pictures_below(&folder)?;
    for file in found.files.iter().chain(found.unusable.iter().map(|unusable| &unusable.file)) {
        leave(root, &folder.join(file), why, left_out);
    }
    Ok(())
}

/// The pictures directly in a folder, or in its folder `images` if there are none. Others are left out.
fn pictures_in(root: &Path, folder: &Path, left_out: &mut LeftOut) -> Result<Vec<PathBuf>> {
    let found = pictures_below(folder)?;
    let lies_in = |file: &Path, place: &str| file.parent() == Some(Path::new(place));
    let place = if found.files.iter().any(|file| lies_in(file, "")) { "" } else { "images" };
    let below = "in sub-folders of a class";
    for unusable in &found.unusable {
        let path = folder.join(&unusable.file);
        if is_picture(&path) && !path.is_dir() && lies_in(&unusable.file, place) {
            left_out.add_unreadable(root, &path, Error::file(&path, None, unusable.why.clone()))?;
            continue;
        }
        leave(root, &path, below, left_out);
    }
    let mut taken = Vec::with_capacity(found.files.len());
    for file in found.files {
        let path = folder.join(&file);
        if lies_in(&file, place) { taken.push(path) } else { leave(root, &path, below, left_out) }
    }
    Ok(taken)
}

/// Class names, and files with their label.
struct Tree {
    classes: Vec<String>,
    files: Vec<Labelled>,
}

impl Tree {
    fn list(root: &Path, part: &str, left_out: &mut LeftOut) -> Result<Tree> {
        let folder = root.join(part);
        let mut tree = Tree { classes: Vec::new(), files: Vec::new() };
        for class in sorted(&folder)? {
            if !class.is_dir() {
                leave(root, &class, "in no class folder", left_out);
                continue;
            }
            let Ok(label) = u16::try_from(tree.classes.len()) else {
                return Err(Error::file(folder, None, format!("more than {MAX_CLASSES} class folders")));
            };
            let pictures = pictures_in(root, &class, left_out)?;
            if pictures.is_empty() {
                let others = if left_out.is_empty() { String::new() } else { format!("; {left_out}") };
                let why = format!("no picture in this class folder{others}");
                return Err(Error::file(class, None, why));
            }
            tree.files.extend(pictures.into_iter().map(|path| (path, label)));
            tree.classes.push(path_text(Path::new(class.file_name().unwrap_or_default())));
        }
        match tree.classes.is_empty() {
            true => Err(Error::file(folder, None, "expected one folder of images per class")),
            false => Ok(tree),
        }
    }
}

/// Where the labels of a part are.
enum Labels {
    Folders,
    List,
    Nowhere,
}

impl Labels {
    fn of(root: &Path, part: &str, classes: &[String]) -> Result<Labels> {
        if annotations::place(root, part).is_file() {
            return Ok(Labels::List);
        }
        let (folders, files): (Vec<_>, Vec<_>) =
            sorted(&root.join(part))?.into_iter().partition(|entry| entry.is_dir());
        let unlabelled = match folders.as_slice() {
            [] => files.iter().any(|file| is_picture(file)),
            [one] => one.ends_with("images") && !classes.iter().any(|class| class == "images"),
            _ => false,
        };
        Ok(if unlabelled { Labels::Nowhere } else { Labels::Folders })
    }
}

/// The part that only the final evaluation opens.
#[derive(Default)]
struct TestPart {
    /// `None` if no part has labels.
    files: Option<Vec<Labelled>>,
    /// The list of labels, if they are not the folders' names.
    list: Option<PathBuf>,
    notes: Vec<String>,
}

impl TestPart {
    /// `test/` if it is there and has labels, else `val/`.
    fn find(root: &Path, classes: &[String], left_out: &mut LeftOut) -> Result<TestPart> {
        let mut found = TestPart::default();
        for part in ["test", "val"].into_iter().filter(|part| root.join(part).is_dir()) {
            let labels = Labels::of(root, part, classes)?;
            if matches!(labels, Labels::Nowhere) {
                leave_part(root, part, NO_LABELS, left_out)?;
                continue;
            }
            if found.files.is_some() {
                leave_part(root, part, "val/ is not read, as test/ is the test part", left_out)?;
                continue;
            }
            if part == "val" {
                let test = if root.join("test").is_dir() { "test/ has no labels" } else { "there is no test/" };
                found.notes.push(format!("test part: val/, as {test}"));
            }
            found.files = Some(match labels {
                Labels::List => {
                    let list = annotations::place(root, part);
                    found.list = Some(list.clone());
                    listed(root, part, &list, classes, left_out)?
                }
                _ => in_folders(root, part, classes, left_out)?,
            });
        }
        Ok(found)
    }
}

/// The pictures of a part whose labels are folders, which must be those of the training part.
fn in_folders(root: &Path, part: &str, classes: &[String], left_out: &mut LeftOut) -> Result<Vec<Labelled>> {
    let tree = Tree::list(root, part, left_out)?;
    if tree.classes == classes {
        return Ok(tree.files);
    }
    let lacks = |some: &[String], all: &[String]| all.iter().find(|class| !some.contains(class)).cloned();
    let (class, other) = match lacks(classes, &tree.classes) {
        Some(extra) => (extra, "train"),
        // Names that are not Unicode may look alike.
        None => (lacks(&tree.classes, classes).unwrap_or_default(), part),
    };
    let why = format!("class folder `{class}` is missing in {other}/; both need the same classes");
    Err(Error::file(root.join(part), None, why))
}

/// The pictures of a part whose labels are in a list; by class, and by name within.
fn listed(root: &Path, part: &str, list: &Path, classes: &[String], left_out: &mut LeftOut) -> Result<Vec<Labelled>> {
    let mut labels = annotations::read(list, classes)?;
    let mut files = Vec::with_capacity(labels.len());
    for file in pictures_in(root, &root.join(part).join("images"), left_out)? {
        match file.file_name().and_then(|name| name.to_str()).and_then(|name| labels.remove(name)) {
            Some((_, label)) => files.push((file, label)),
            None => leave(root, &file, NO_LABELS, left_out),
        }
    }
    if let Some((name, (line, _))) = labels.into_iter().min_by_key(|(_, (line, _))| *line) {
        return Err(Error::file(list, None, format!("line {line}: no picture `{name}` in {part}/images/")));
    }
    files.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    Ok(files)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
