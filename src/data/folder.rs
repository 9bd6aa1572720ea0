//! One folder of PNG or JPEG images per class: `train/<class>/*.png`, and `test/` or `val/` likewise.
//!
//! All images must have one size. They become one grey channel if every one of them is grey, else RGB; 16-bit
//! values are reduced to 8, transparency is dropped. Classes and files go by sorted name. Only files directly
//! inside a class folder count, so links cannot lead in circles. Files with other endings, and hidden ones,
//! are ignored.

use super::images::{MAX_CLASSES, MAX_PIXEL_BYTES};
use super::picture::{Caps, Kind, undecodable, with_decoder};
use super::{Dataset, Format, Images, Origin, SplitSize, split};
use crate::error::{Error, Result};
use image::{DynamicImage, ImageDecoder};
use rayon::prelude::*;
use std::path::{Path, PathBuf};

const MAX_SIDE: u32 = 4096;
const MAX_FILE_BYTES: u64 = 64 << 20;
const MAX_DECODER_BYTES: u64 = 256 << 20;
/// The share of each class that is held out when there is no test folder.
const HELD_OUT: f64 = 0.2;

/// Whether `root` has a `train` folder with at least one folder in it.
pub(super) fn detect(root: &Path) -> bool {
    sorted(&root.join("train")).is_ok_and(|entries| entries.iter().any(|entry| entry.is_dir()))
}

/// Reads the set.
pub(super) fn load(root: &Path) -> Result<Dataset> {
    let train_files = Tree::list(&root.join("train"))?;
    let test_folder = ["test", "val"].into_iter().find(|name| root.join(name).is_dir());
    let test_files = match test_folder {
        Some(name) => {
            let tree = Tree::list(&root.join(name))?;
            if tree.classes != train_files.classes {
                let extra = tree.classes.iter().find(|class| !train_files.classes.contains(class));
                let missing = train_files.classes.iter().find(|class| !tree.classes.contains(class));
                let (class, other) = match (extra, missing) {
                    (Some(class), _) => (class, "train"),
                    (None, Some(class)) => (class, name),
                    (None, None) => (&train_files.classes[0], name),
                };
                let why = format!("class folder `{class}` is missing in {other}/; both need the same classes");
                return Err(Error::file(root.join(name), None, why));
            }
            tree.files
        }
        None => Vec::new(),
    };
    // One shape over both parts, so that one coloured test image does not make the parts differ.
    let all: Vec<&(PathBuf, u16)> = train_files.files.iter().chain(&test_files).collect();
    let shape = common_shape(root, &all)?;
    let mut train = decode(shape, &train_files.files, &train_files.classes)?;
    let mut note = None;
    let test = match test_folder {
        Some(name) => {
            if name == "test" && root.join("val").is_dir() {
                note = Some("test part: test/; val/ was not read".into());
            } else if name == "val" {
                note = Some("test part: val/, as there is no test/".into());
            }
            decode(shape, &test_files, &train_files.classes)?
        }
        None => {
            let parts = split(&train, &SplitSize::Fractions(vec![1.0 - HELD_OUT, HELD_OUT]), 0)?;
            let [kept, held_out] = parts.as_slice() else {
                return Err(Error::file(root, None, "expected two parts of the split"));
            };
            note = Some(format!(
                "no test/ or val/: {} of {} images, a fixed 20% of each class, were held out as the test part",
                held_out.len(),
                train.len()
            ));
            let test = train.select(held_out);
            train = train.select(kept);
            test
        }
    };
    let name = root.file_name().map_or_else(|| "images".into(), |name| name.to_string_lossy().into_owned());
    let mut set = Dataset::assemble(name, Format::ImageFolder, train, test, Origin::Path(root.into()), root)?;
    set.note = note;
    Ok(set)
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

/// Class names, and files with their label.
struct Tree {
    classes: Vec<String>,
    files: Vec<(PathBuf, u16)>,
}

impl Tree {
    fn list(folder: &Path) -> Result<Tree> {
        let mut tree = Tree { classes: Vec::new(), files: Vec::new() };
        for class in sorted(folder)?.into_iter().filter(|path| path.is_dir()) {
            let Ok(label) = u16::try_from(tree.classes.len()) else {
                return Err(Error::file(folder, None, format!("more than {MAX_CLASSES} class folders")));
            };
            let before = tree.files.len();
            let images = sorted(&class)?.into_iter().filter(|path| is_image(path));
            tree.files.extend(images.map(|path| (path, label)));
            if tree.files.len() == before {
                return Err(Error::file(class, None, "no .png, .jpg or .jpeg file in this class folder"));
            }
            tree.classes.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        match tree.classes.is_empty() {
            true => Err(Error::file(folder, None, "expected one folder of images per class")),
            false => Ok(tree),
        }
    }
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    ending.is_some_and(|e| ["png", "jpg", "jpeg"].contains(&e.as_str())) && !path.is_dir()
}

/// Hands the decoder of a file to `f`.
fn decoder_of<T>(path: &Path, f: impl FnOnce(Box<dyn ImageDecoder + '_>, Kind) -> Result<T>) -> Result<T> {
    let caps = Caps { side: MAX_SIDE, file_bytes: MAX_FILE_BYTES, decoder_bytes: MAX_DECODER_BYTES };
    with_decoder(path, &caps, f)
}

/// Height, width and channels of all files, from their headers.
fn common_shape(root: &Path, files: &[&(PathBuf, u16)]) -> Result<[usize; 3]> {
    let kinds: Vec<Result<Kind>> = files.par_iter().map(|(path, _)| decoder_of(path, |_, kind| Ok(kind))).collect();
    let mut first: Option<Kind> = None;
    let mut coloured = false;
    for (kind, (path, _)) in kinds.into_iter().zip(files.iter().copied()) {
        let kind = kind?;
        let (width, height, _) = *first.get_or_insert(kind);
        if (kind.0, kind.1) != (width, height) {
            let why = format!(
                "{}x{} pixels, but {} has {width}x{height}; all images must have one size",
                kind.0,
                kind.1,
                files[0].0.display()
            );
            return Err(Error::file(path, None, why));
        }
        coloured |= kind.2;
    }
    let Some((width, height, _)) = first else {
        return Err(Error::file(root, None, "no images"));
    };
    let shape = [height as usize, width as usize, if coloured { 3 } else { 1 }];
    let total = shape.iter().map(|&side| side as u64).product::<u64>().saturating_mul(files.len() as u64);
    if total > MAX_PIXEL_BYTES {
        let why = format!("{} images of {shape:?} take {total} bytes; at most {MAX_PIXEL_BYTES} are read", files.len());
        return Err(Error::file(root, None, why));
    }
    Ok(shape)
}

/// Decodes files of a known common shape, in order.
fn decode(shape: [usize; 3], files: &[(PathBuf, u16)], classes: &[String]) -> Result<Images> {
    let size: usize = shape.iter().product();
    let mut pixels = vec![0; size * files.len()];
    let outcomes: Vec<Result<()>> = pixels
        .par_chunks_exact_mut(size)
        .zip(files)
        .map(|(pixels, (path, _))| {
            let decoded = decode_one(path, shape)?;
            if decoded.len() != pixels.len() {
                return Err(Error::file(path, None, "changed while it was read"));
            }
            pixels.copy_from_slice(&decoded);
            Ok(())
        })
        .collect();
    outcomes.into_iter().collect::<Result<()>>()?;
    Images::new(shape, classes.to_vec(), pixels, files.iter().map(|file| file.1).collect())
}

/// The pixels of one file, HWC.
fn decode_one(path: &Path, shape: [usize; 3]) -> Result<Vec<u8>> {
    let decoded = decoder_of(path, |decoder, (width, height, _)| {
        if [height as usize, width as usize] != shape[..2] {
            return Err(Error::file(path, None, "changed while it was read"));
        }
        DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, &e))
    })?;
    Ok(if shape[2] == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load as load_any;
    use image::{GrayImage, Luma, Rgb, RgbImage};
    use proptest::prelude::*;

    fn grey(path: &Path, width: u32, height: u32, value: u8) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
    }

    fn message(dir: &tempfile::TempDir) -> String {
        load_any(dir.path().to_str().unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn without_a_test_folder_a_fifth_is_held_out() {
        let dir = tempfile::tempdir().unwrap();
        for class in ["b", "a"] {
            for i in 0..10u8 {
                grey(&dir.path().join(format!("train/{class}/{i}.png")), 3, 2, i + 10 * (class == "b") as u8);
            }
        }
        std::fs::write(dir.path().join("train/a/notes.txt"), "x").unwrap();
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!((set.train.height, set.train.width, set.train.channels), (2, 3, 1));
        assert_eq!(set.train.class_names, ["a", "b"]);
        assert_eq!((set.train.per_class(), set.test.len()), (vec![8, 8], 4));
        assert!(set.note.as_ref().unwrap().contains("held out"));
        for i in 0..16 {
            assert_eq!(set.train.labels[i] == 1, set.train.image(i)[0] >= 10);
        }
        let again = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(again.train, set.train);
    }

    #[test]
    fn one_coloured_image_makes_all_rgb() {
        let dir = tempfile::tempdir().unwrap();
        grey(&dir.path().join("train/a/1.png"), 2, 2, 7);
        grey(&dir.path().join("train/b/1.jpg"), 2, 2, 128);
        grey(&dir.path().join("val/a/1.png"), 2, 2, 9);
        std::fs::create_dir_all(dir.path().join("val/b")).unwrap();
        RgbImage::from_pixel(2, 2, Rgb([1, 2, 3])).save(dir.path().join("val/b/1.png")).unwrap();
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(set.train.image(0)[..3], [7, 7, 7]);
        assert_eq!(set.test.reveal_for_final_evaluation().image(1)[..3], [1, 2, 3]);
        assert!(set.note.unwrap().contains("val/"));
        std::fs::remove_dir_all(dir.path().join("val/b")).unwrap();
        assert!(message(&dir).contains("class folder `b` is missing in val/"));
    }

    #[test]
    fn odd_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        grey(&dir.path().join("train/a/1.png"), 2, 2, 7);
        grey(&dir.path().join("train/b/1.png"), 4, 3, 7);
        let error = message(&dir);
        assert!(error.contains("b/1.png: 4x3 pixels") && error.contains("a/1.png has 2x2"), "{error}");
        std::fs::write(dir.path().join("train/b/1.png"), "text").unwrap();
        assert!(message(&dir).contains("PNG or JPEG"));
        std::fs::remove_file(dir.path().join("train/b/1.png")).unwrap();
        assert!(message(&dir).contains("no .png"));
        // A header that claims 2^30 x 2^30 pixels.
        let mut bytes = std::fs::read(dir.path().join("train/a/1.png")).unwrap();
        bytes[16..24].copy_from_slice(&[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
        std::fs::write(dir.path().join("train/b/1.png"), bytes).unwrap();
        assert!(message(&dir).contains("b/1.png"));
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_lead_in_circles() {
        let dir = tempfile::tempdir().unwrap();
        for i in 0..5 {
            grey(&dir.path().join(format!("train/a/{i}.png")), 2, 2, i);
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("train/a/up")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("train/a/up.png")).unwrap();
        let set = load_any(dir.path().to_str().unwrap()).unwrap();
        assert_eq!((set.train.len(), set.test.len()), (4, 1));
        std::os::unix::fs::symlink("itself.png", dir.path().join("train/a/itself.png")).unwrap();
        assert!(message(&dir).contains("itself.png"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn damaged_images_never_panic(jpeg: bool, at in 0usize..700, value: u8, keep in 1usize..900) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(if jpeg { "train/a/1.jpg" } else { "train/a/1.png" });
            grey(&path, 9, 9, 100);
            let mut bytes = std::fs::read(&path).unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= value;
            }
            bytes.truncate(keep);
            std::fs::write(&path, &bytes).unwrap();
            if let Err(e) = load(dir.path()) {
                prop_assert!(e.to_string().contains(&dir.path().display().to_string()), "{}", e);
            }
        }
    }
}
