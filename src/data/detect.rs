//! Finds out which layout a folder or archive is in, and reads it.

use super::cifar::Variant;
use super::packed_pictures::Unpacked;
use super::source::{Limits, Source};
use super::{Dataset, NpyImages, Origin, Reading, cifar, digits, folder, idx, known, label_table, npy};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the published archives and common download tools put the files below the folder that a user names.
const SUBFOLDERS: [&str; 9] = [
    "",
    "cifar-10-batches-bin",
    "cifar-100-binary",
    "raw",
    "MNIST/raw",
    "FashionMNIST/raw",
    "KMNIST/raw",
    "EMNIST/raw",
    "gzip",
];

/// A layout that was recognised.
enum Found {
    Cifar(Source, Variant),
    Idx(Source),
    Npy(Source),
    Folder(PathBuf),
    Classes(PathBuf),
    Table(PathBuf),
    /// One of the three in an archive.
    Packed(Box<Found>, Unpacked),
}

impl Found {
    fn describe(&self) -> String {
        match self {
            Found::Cifar(s, Variant::Ten) => format!("CIFAR-10 binary in {}", s.root().display()),
            Found::Cifar(s, Variant::Hundred) => format!("CIFAR-100 binary in {}", s.root().display()),
            Found::Idx(s) => format!("IDX in {}", s.root().display()),
            Found::Npy(s) => format!("npy in {}", s.root().display()),
            Found::Folder(path) => format!("an image folder in {}", path.display()),
            Found::Classes(path) => format!("a folder of classes in {}", path.display()),
            Found::Table(path) => format!("a table of labels in {}", path.display()),
            Found::Packed(_, unpacked) => format!("pictures in {}", unpacked.archive.display()),
        }
    }

    /// Whether its images are pictures in files.
    fn is_pictures(&self) -> bool {
        matches!(self, Found::Folder(_) | Found::Classes(_) | Found::Table(_) | Found::Packed(..))
    }

    fn load(self, reading: &Reading) -> Result<Dataset> {
        if !self.is_pictures() {
            reading.refuse_arrays(&self.describe())?;
        }
        match self {
            Found::Cifar(source, variant) => cifar::load(&source, variant),
            Found::Idx(source) => idx::load(&source),
            Found::Npy(source) => npy::load(&source),
            Found::Folder(path) => folder::load(&path, reading),
            Found::Classes(path) => folder::load_classes(&path, reading),
            Found::Table(path) => label_table::load(&path, reading),
            Found::Packed(found, unpacked) => {
                let set = found.load(reading).map_err(|error| unpacked.named(error))?;
                let archive = unpacked.archive.clone();
                let (name, unpacked) = (unpacked.name(), Arc::new(unpacked));
                Ok(Dataset {
                    name,
                    source: Origin::Path(archive.clone()),
                    files: vec![archive],
                    train: set.train.keeping(&unpacked),
                    test: set.test.keeping(&unpacked),
                    ..set
                })
            }
        }
    }
}

/// The test part of a data set in a file of its own, from which images are read a few at a time.
pub struct SpooledTest {
    /// The images.
    pub images: NpyImages,
    /// Their labels.
    pub labels: Vec<u16>,
}

/// The test images of a set in the folder `scratch` or where they are, so that a set of any size needs little memory: those of
/// CIFAR and IDX sets are copied to a `.npy` file, one by one, and archives are unpacked there. `None` for image folders,
/// which [`load`] reads whole. Training files are not looked at.
///
/// # Errors
/// As [`load`], and [`Error::Io`] if the file cannot be written.
pub fn spool_test(spec: &str, scratch: &Path) -> Result<Option<SpooledTest>> {
    if spec == "digits" {
        return Ok(None);
    }
    let (at, into) = (scratch.join("images.npy"), scratch.join("unpacked"));
    std::fs::create_dir(&into).map_err(Error::io("create", &into))?;
    let (images, labels) = match find(spec, Some(&into))? {
        Found::Cifar(source, variant) => {
            let labels = cifar::spool_test(&source, variant, &at)?;
            (at, labels)
        }
        Found::Idx(source) => {
            let labels = idx::spool_test(&source, &at)?;
            (at, labels)
        }
        Found::Npy(source) => npy::test_files(&source)?,
        Found::Folder(_) | Found::Classes(_) | Found::Table(_) | Found::Packed(..) => return Ok(None),
    };
    let images = NpyImages::open(&images)?;
    if images.len() != labels.len() {
        let why = format!("its test part has {} images and {} labels", images.len(), labels.len());
        return Err(Error::file(spec, None, why));
    }
    Ok(Some(SpooledTest { images, labels }))
}

/// Loads a data set: `digits` is the bundled one, anything else is the path of a folder or archive, whose
/// layout is detected.
///
/// # Errors
/// [`Error::Invalid`] when there is no such path, [`Error::File`] when the layout is not recognised (the
/// message lists the known ones), not unique, or the files are damaged, [`Error::Io`] when reading fails.
pub fn load(spec: &str) -> Result<Dataset> {
    load_with(spec, &Reading::default())
}

/// [`load`], with pictures read as `reading` says.
///
/// # Errors
/// Those of [`load`], and [`Error::File`] for a picture that cannot be read, if that is strict.
pub fn load_with(spec: &str, reading: &Reading) -> Result<Dataset> {
    if spec == "digits" {
        reading.refuse_arrays("digits")?;
        return digits::load();
    }
    find(spec, None)?.load(reading)
}

/// The one layout in which a path is; an archive is kept in memory, or unpacked into the folder `into`.
fn find(spec: &str, into: Option<&Path>) -> Result<Found> {
    let path = Path::new(spec);
    if !path.exists() {
        let near = if crate::error::is_near(spec, "digits") { "; did you mean `digits`?" } else { "" };
        let why = format!(
            "`{spec}` is neither `digits`, the bundled set, nor an existing path{near} (`altiplano data list` says what is read)"
        );
        return Err(Error::invalid("data set", why));
    }
    let mut found = match path {
        folder if folder.is_dir() => in_folder(folder)?,
        table if label_table::is_named_so(table) => vec![Found::Table(table.into())],
        archive => in_archive(archive, into)?,
    };
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            found.push(last);
            let all: Vec<String> = found.iter().map(Found::describe).collect();
            let why = format!("several data sets: {}; name the folder of one, with nothing else in it", all.join(", "));
            Err(Error::file(path, None, why))
        }
        (None, _) => Err(Error::file(path, None, unrecognised(path))),
    }
}

/// A file name of any layout that is made of files.
fn wanted(name: &str) -> bool {
    cifar::wanted(name) || idx::wanted(name) || npy::wanted(name)
}

fn in_folder(root: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for below in SUBFOLDERS {
        let folder = if below.is_empty() { root.to_path_buf() } else { root.join(below) };
        if !folder.is_dir() {
            continue;
        }
        let open = || Source::folder(&folder, wanted);
        let source = open()?;
        if let Some(variant) = cifar::detect(&source) {
            found.push(Found::Cifar(open()?, variant));
        }
        if idx::detect(&source) {
            found.push(Found::Idx(open()?));
        }
        if npy::detect(&source) {
            found.push(Found::Npy(source));
        }
        if below.is_empty() && folder::detect(&folder) {
            found.push(Found::Folder(folder));
        }
    }
    // Layouts of files of any name come last.
    let table = root.join(label_table::USUAL);
    if found.is_empty() && table.is_file() {
        found.push(Found::Table(table));
    } else if found.is_empty() && folder::detect_classes(root) {
        found.push(Found::Classes(root.into()));
    }
    Ok(found)
}

fn in_archive(path: &Path, into: Option<&Path>) -> Result<Vec<Found>> {
    let source = Source::archive(path, wanted, Limits::default(), into)?;
    Ok(if let Some(variant) = cifar::detect(&source) {
        vec![Found::Cifar(source, variant)]
    } else if idx::detect(&source) {
        vec![Found::Idx(source)]
    } else if npy::detect(&source) {
        vec![Found::Npy(source)]
    } else {
        pictures_in_archive(path)?.into_iter().collect()
    })
}

/// The set of pictures in an archive, which is unpacked for it.
fn pictures_in_archive(path: &Path) -> Result<Option<Found>> {
    let Some(unpacked) = Unpacked::pictures_of(path)? else { return Ok(None) };
    let found = in_folder(&unpacked.root)?.into_iter().find(Found::is_pictures);
    match found {
        Some(found) => Ok(Some(Found::Packed(Box::new(found), unpacked))),
        None => {
            let why = "its pictures lie in no known layout; expected train/<class>/, folders of classes, or labels.csv beside them";
            Err(Error::file(path, None, why))
        }
    }
}

/// What to say when no layout matches.
fn unrecognised(path: &Path) -> String {
    let python = ["", "cifar-10-batches-py", "cifar-100-python"].iter().any(|below| {
        let folder = path.join(below);
        folder.join("data_batch_1").is_file() || (folder.join("train").is_file() && folder.join("meta").is_file())
    });
    let hint = match python {
        true => "this looks like the Python (pickle) version of CIFAR; get the binary version. ",
        false => "",
    };
    format!("no known layout. {hint}{}", layouts())
}

/// The known layouts, for messages.
fn layouts() -> String {
    let mut text = String::from("Known layouts:");
    for known in known() {
        text.push_str(&format!("\n  {}: {}", known.name, known.layout));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_lists_the_layouts() {
        let dir = tempfile::tempdir().unwrap();
        let spec = dir.path().to_str().unwrap();
        let error = load(spec).unwrap_err().to_string();
        assert!(error.contains(spec) && error.contains("data_batch_") && error.contains("train/<class>"), "{error}");
        std::fs::write(dir.path().join("data_batch_1"), "x").unwrap();
        assert!(load(spec).unwrap_err().to_string().contains("pickle"));
        for missing in ["digitz", ""] {
            let error = load(missing).unwrap_err();
            assert!(error.to_string().contains("`digits`") && error.exit_code() == 2, "{error}");
        }
        assert_eq!(load("digits").unwrap().train.classes, 10);
    }

    #[test]
    fn two_sets_in_one_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["train_images.npy", "train-images-idx3-ubyte"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let error = load(dir.path().to_str().unwrap()).unwrap_err().to_string();
        assert!(error.contains("several data sets: IDX in") && error.contains("npy in"), "{error}");
    }
}
