//! What is corrupted.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::super::place::Scratch;
use crate::corrupt::MAX_SIDE;
use crate::data::{
    Handling, Images, NpyImages, PictureTree, Reading, Unusable, is_other_picture, is_picture, load_with, open_picture,
    pictures_below, spool_test,
};
use crate::error::{Error, Result};

/// What is corrupted.
pub(super) enum Input {
    Picture(PathBuf),
    Tree(PathBuf, PictureTree),
    /// Images in a file, with labels if they are of a data set; that file is the command's own, and goes when it ends.
    Array(NpyImages, Option<(Vec<u16>, Scratch)>),
    Set(Images),
}

impl Input {
    /// `out` is where results will go: beside it a data set's images are kept meanwhile. `check_array` is asked before
    /// images are read that go to the layout of CIFAR-10-C.
    pub fn find(spec: &str, out: &Path, check_array: impl Fn() -> Result<()>) -> Result<Self> {
        let path = Path::new(spec);
        if spec != "digits" && path.is_file() {
            if is_picture(path) {
                return Ok(Input::Picture(path.into()));
            }
            if let Some(why) = is_other_picture(path) {
                return Err(Error::file(path, None, why));
            }
            if path.extension().is_some_and(|e| e == "npy") {
                return Input::array(path, check_array);
            }
            if path.extension().is_some_and(|e| e == "txt") {
                return Err(Error::file(path, None, "expected a picture, .npy, a folder or a data set"));
            }
        }
        let mut strange = None;
        if spec != "digits" && path.is_dir() {
            let tree = pictures_below(path)?;
            if !tree.files.is_empty() {
                return Ok(Input::Tree(path.into(), tree));
            }
            // Something that is read may lie beside pictures that are not.
            strange = (!tree.unusable.is_empty()).then_some(tree);
        }
        match check_array().and_then(|()| Input::set(spec, out)) {
            Err(error) => strange.map(|tree| Input::Tree(path.into(), tree)).ok_or(error),
            input => input,
        }
    }

    fn array(path: &Path, check: impl Fn() -> Result<()>) -> Result<Self> {
        let array = NpyImages::open(path)?;
        if array.is_empty() || !matches!(array.shape()[2], 1 | 3) {
            let why =
                format!("{} images of {} channels; expected at least one of 1 or 3", array.len(), array.shape()[2]);
            return Err(Error::file(path, Some(0), why));
        }
        check()?;
        Ok(Input::Array(array, None))
    }

    fn set(spec: &str, out: &Path) -> Result<Self> {
        if spec != "digits" {
            let mut name = out.file_name().unwrap_or_default().to_owned();
            name.push(".input");
            let scratch = Scratch::new(&out.with_file_name(name))?;
            if let Some(spooled) = spool_test(spec, &scratch.at)? {
                return Ok(Input::Array(spooled.images, Some((spooled.labels, scratch))));
            }
        }
        // Each image is looked at once for every corruption.
        let handling = Handling { memory: Some(u64::MAX), ..Handling::default() };
        let set = load_with(spec, &Reading { handling, ..Reading::default() })?;
        Ok(Input::Set(set.test.reveal_for_final_evaluation().clone()))
    }

    /// Images that are numbered; what cannot be used from the start is not among them.
    pub fn len(&self) -> usize {
        match self {
            Input::Picture(_) => 1,
            Input::Tree(_, tree) => tree.files.len(),
            Input::Array(array, _) => array.len(),
            Input::Set(images) => images.len(),
        }
    }

    /// The first image that can be used, and its number. If there is none in a folder, all that is wrong is returned.
    pub fn first(&self) -> Result<std::result::Result<(usize, RgbImage), Vec<Unusable>>> {
        let Input::Tree(_, tree) = self else { return Ok(Ok((0, self.image(0)?))) };
        let mut bad = vec![];
        for i in 0..tree.files.len() {
            match self.image(i) {
                Ok(image) => return Ok(Ok((i, image))),
                Err(error) => bad.push(self.unusable(i, &error)),
            }
        }
        Ok(Err(bad))
    }

    /// Image `i` in colour.
    pub fn image(&self, i: usize) -> Result<RgbImage> {
        let raw = |[h, w, c]: [usize; 3], bytes: Vec<u8>| {
            let colour = if c == 1 { bytes.into_iter().flat_map(|v| [v; 3]).collect() } else { bytes };
            RgbImage::from_raw(w as u32, h as u32, colour).ok_or_else(|| Error::shape("image", "1 or 3 channels", c))
        };
        match self {
            Input::Picture(path) => open_picture(path, MAX_SIDE),
            Input::Tree(root, tree) => open_picture(&root.join(&tree.files[i]), MAX_SIDE),
            Input::Array(array, _) => raw(array.shape(), array.read(i, 1)?),
            Input::Set(s) => raw([s.height, s.width, s.channels], s.image(i)?.into_owned()),
        }
    }

    /// What an error says of image `i`.
    pub fn unusable(&self, i: usize, error: &Error) -> Unusable {
        let file = match self {
            Input::Tree(_, tree) => tree.files[i].clone(),
            Input::Picture(path) => path.clone(),
            _ => i.to_string().into(),
        };
        Unusable { file, why: error.reason() }
    }

    /// The path of the result of picture `i` below the folder of a kind and severity, with `/` between its parts. Two
    /// pictures may differ in their ending alone, so that stays.
    pub fn result(&self, i: usize) -> Result<String> {
        let path = match self {
            Input::Tree(_, tree) => tree.files[i].as_path(),
            Input::Picture(path) => Path::new(path.file_name().unwrap_or_default()),
            _ => return Ok(format!("{i}.png")),
        };
        let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
        let parts = parts.ok_or_else(|| Error::file(path, None, "its name is not Unicode; rename it"))?;
        Ok(parts.join("/") + ".png")
    }

    /// Height, width and channels of images that are all alike.
    pub fn shape(&self) -> Option<[usize; 3]> {
        match self {
            Input::Array(array, _) => Some(array.shape()),
            Input::Set(s) => Some([s.height, s.width, s.channels]),
            _ => None,
        }
    }

    /// Labels, where there are some.
    pub fn labels(&self) -> Option<&[u16]> {
        match self {
            Input::Array(_, own) => own.as_ref().map(|(labels, _)| labels.as_slice()),
            Input::Set(images) => Some(&images.labels),
            _ => None,
        }
    }

    /// What tells a set of images from others: number, size, and a checksum over the labels and the first image.
    pub fn identity(&self, first: &RgbImage) -> Option<String> {
        let [h, w, c] = self.shape()?;
        let mut sum = flate2::Crc::new();
        self.labels().unwrap_or_default().iter().for_each(|label| sum.update(&label.to_le_bytes()));
        sum.update(first.as_raw());
        Some(format!("{} images of {h}x{w}x{c}, checksum {:08x}", self.len(), sum.sum()))
    }
}
