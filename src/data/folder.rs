//! One folder of pictures per class: `train/<class>/*.png`, and `test/` or `val/` likewise.
//!
//! All pictures must have one size, or be brought to one (`reading.rs`). They become one grey channel if every one of them is grey, else RGB; 16-bit
//! values are reduced to 8, transparency is dropped (as by Pillow's `convert`), and orientation tags are followed. Classes and files go by sorted
//! name. Where `test/` is there, `val/` is trained on; else it is the test part. A folder may also have the classes itself. Only files
//! directly inside a class folder count, or in its folder `images` where it has none itself, as in
//! Tiny-ImageNet; that set's list of labels is read for its validation part, and a part without labels is not used.
//! Links to folders below a class are not followed, since they may lead in circles. Pictures that are not read are told
//! in a note, those that cannot be read one by one; hidden files, and those that are no pictures by their names, are passed over.

use super::decode::Labelled;
use super::images::MAX_CLASSES;
use super::left_out::LeftOut;
use super::listed::{HoldOut, Listed};
use super::picture::{READ, other_ending};
use super::reading::Reading;
use super::{Dataset, Format, annotations, is_picture, pictures_below};
use crate::error::{Error, Result, path_text};
use std::path::{Path, PathBuf};

/// Names of folders that are parts and no classes.
const PARTS: [&str; 5] = ["train", "test", "val", "valid", "validation"];
/// Those of them that are called after validation.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];
const NO_LABELS: &str = "without labels";

/// Whether `root` has a `train` folder with at least one folder in it.
pub(super) fn detect(root: &Path) -> bool {
    sorted(&root.join("train")).is_ok_and(|entries| entries.iter().any(|entry| entry.is_dir()))
}

/// Whether `root` itself has folders of pictures, one per class.
pub(super) fn detect_classes(root: &Path) -> bool {
    let has_pictures = |folder: &Path| sorted(folder).is_ok_and(|files| files.iter().any(|file| is_picture(file)));
    let Ok(entries) = sorted(root) else { return false };
    let folders: Vec<&PathBuf> = entries.iter().filter(|entry| entry.is_dir()).collect();
    let is_part = |folder: &&PathBuf| PARTS.iter().any(|part| folder.ends_with(part));
    !folders.iter().any(is_part) && folders.iter().filter(|folder| has_pictures(folder)).count() >= 2
}

/// Reads the set in the parts of `root`.
pub(super) fn load(root: &Path, reading: &Reading) -> Result<Dataset> {
    let mut left_out = LeftOut::new(reading.handling.strict);
    let Tree { classes, files: mut train } = Tree::list(root, "train", &mut left_out)?;
    let OtherParts { test, more, lists, notes } = OtherParts::find(root, &classes, &mut left_out)?;
    train.extend(more);
    Listed {
        root,
        name: name_of(root),
        format: Format::ImageFolder,
        source: root,
        classes,
        train,
        test,
        hold_out: HoldOut::ByOrder,
        without: "no test/ or val/ with labels",
        lists,
        left_out,
        notes,
    }
    .load(reading)
}

/// Reads the set of which `root` has the classes.
pub(super) fn load_classes(root: &Path, reading: &Reading) -> Result<Dataset> {
    let mut left_out = LeftOut::new(reading.handling.strict);
    let Tree { classes, files: train } = Tree::list(root, "", &mut left_out)?;
    Listed {
        root,
        name: name_of(root),
        format: Format::ImageFolder,
        source: root,
        classes,
        train,
        test: None,
        hold_out: HoldOut::ByName,
        without: "one folder of classes",
        lists: vec![],
        left_out,
        notes: vec![],
    }
    .load(reading)
}

fn name_of(root: &Path) -> String {
    root.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned())
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
            // Archives that macOS makes have such a folder beside what was packed.
            if !class.is_dir() || class.ends_with("__MACOSX") {
                leave(root, &class, "in no class folder", left_out);
                continue;
            }
            let Ok(label) = u16::try_from(tree.classes.len()) else {
                return Err(Error::file(folder, None, format!("more than {MAX_CLASSES} class folders")));
            };
            let pictures = pictures_in(root, &class, left_out)?;
            if pictures.is_empty() {
                let others = if left_out.is_empty() { String::new() } else { format!("; {left_out}") };
                let why =
                    format!("no picture in this class folder{others}; put pictures in it, or take the folder away");
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

/// The parts beside `train/`.
#[derive(Default)]
struct OtherParts {
    /// What only the final evaluation opens; `None` if no part has labels.
    test: Option<Vec<Labelled>>,
    /// What is trained on too.
    more: Vec<Labelled>,
    /// Lists of labels, where these are not the folders' names.
    lists: Vec<PathBuf>,
    notes: Vec<String>,
}

impl OtherParts {
    /// The validation part has one of several names, here `val/`. The test part is `test/` if it is there and has labels, and then `val/` is trained on, since searches split off images of
    /// their own; else it is `val/`.
    fn find(root: &Path, classes: &[String], left_out: &mut LeftOut) -> Result<OtherParts> {
        let mut found = OtherParts::default();
        let is_there = |part: &&str| root.join(part).is_dir();
        let validation: Vec<&str> = VALIDATION.into_iter().filter(is_there).collect();
        if let [one, other, ..] = &validation[..] {
            let why =
                format!("there are {one}/ and {other}/, and both would be the validation part; take one of them away");
            return Err(Error::file(root, None, why));
        }
        for part in ["test"].into_iter().filter(is_there).chain(validation) {
            let files = match Labels::of(root, part, classes)? {
                Labels::Nowhere => {
                    leave_part(root, part, NO_LABELS, left_out)?;
                    continue;
                }
                Labels::List => {
                    let list = annotations::place(root, part);
                    let files = listed(root, part, &list, classes, left_out)?;
                    found.lists.push(list);
                    files
                }
                Labels::Folders => in_folders(root, part, classes, left_out)?,
            };
            if found.test.is_some() {
                let count = files.len();
                found.notes.push(format!(
                    "{part}/: {count} more training images, as test/ is the test part and validation images are split off these"
                ));
                found.more = files;
                continue;
            }
            if part != "test" {
                let test = if root.join("test").is_dir() { "test/ has no labels" } else { "there is no test/" };
                found.notes.push(format!("test part: {part}/, as {test}"));
            }
            found.test = Some(files);
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
