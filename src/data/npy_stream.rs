//! Arrays of images in `.npy` files, read and written a few at a time.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::npy::{Header, header_text, image_header, labels_of};
use super::source::Reader;
use crate::error::{Error, Result};

/// A file of N images, height x width x channels bytes each.
#[derive(Debug, Clone)]
pub struct NpyImages {
    path: PathBuf,
    /// Offset of the first image.
    start: u64,
    count: usize,
    shape: [usize; 3],
}

impl NpyImages {
    /// Reads the header and checks the file's length.
    ///
    /// # Errors
    /// [`Error::File`] if it is no array of dtype uint8 and shape (N, H, W) or (N, H, W, C), or is cut short.
    pub fn open(path: &Path) -> Result<Self> {
        let mut reader = Reader::of_file(path)?;
        let (head, count, shape) = image_header(&mut reader)?;
        let start = reader.offset();
        let want = head.elements().and_then(|bytes| bytes.checked_add(start));
        if shape.contains(&0) || want.is_none() || want != reader.len() {
            let have = reader.len().unwrap_or(0);
            let why = format!("shape {:?} does not go with a file of {have} bytes", head.shape);
            return Err(Error::file(path, Some(0), why));
        }
        Ok(NpyImages { path: path.into(), start, count, shape })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Height, width and channels.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Bytes of images `first..first + count`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are fewer, [`Error::Io`] if reading fails.
    pub fn read(&self, first: usize, count: usize) -> Result<Vec<u8>> {
        if first.checked_add(count).is_none_or(|end| end > self.count) {
            let why = format!("images {first} and {count} more; there are {}", self.count);
            return Err(Error::file(&self.path, None, why));
        }
        let size: usize = self.shape.iter().product();
        let mut file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        let at = self.start + first as u64 * size as u64;
        file.seek(SeekFrom::Start(at)).map_err(Error::io("read", &self.path))?;
        let mut bytes = vec![0; count * size];
        file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }
}

/// Whole labels of a `.npy` file of shape (N,) or (N, 1).
///
/// # Errors
/// [`Error::File`] if it is no such array or a label is not below `classes`.
pub fn read_npy_labels(path: &Path, classes: usize) -> Result<Vec<u16>> {
    let mut reader = Reader::of_file(path)?;
    let head = Header::read(&mut reader)?;
    let count = match *head.shape.as_slice() {
        [n] | [n, 1] => n,
        _ => return Err(Error::file(path, Some(0), format!("expected shape (N,), found {:?}", head.shape))),
    };
    let (start, width, labels) = labels_of(&mut reader, &head, count)?;
    super::check_labels(path, &labels, 0..classes, |i| start + i as u64 * width)?;
    Ok(labels)
}

/// Writes an array of bytes part by part; nothing stands under its name before [`NpyWriter::finish`].
pub struct NpyWriter {
    path: PathBuf,
    scratch: PathBuf,
    file: BufWriter<File>,
    left: usize,
    done: bool,
}

impl NpyWriter {
    /// Begins a file of this shape.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be made.
    pub fn new(path: &Path, shape: &[usize]) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let scratch = path.with_file_name(name);
        let left = shape.iter().product();
        let file = File::create_new(&scratch).map_err(Error::io("write", &scratch))?;
        let mut writer = NpyWriter { path: path.into(), scratch, file: BufWriter::new(file), left, done: false };
        writer.raw(&header_text("|u1", shape))?;
        Ok(writer)
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::io("write", &self.scratch))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are more than the shape has, [`Error::Io`] if writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len()) else {
            return Err(Error::shape("npy", format!("{} more bytes", self.left), bytes.len()));
        };
        self.left = left;
        self.raw(bytes)
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Shape`] if bytes are missing, [`Error::Io`] if writing fails.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(Error::shape("npy", format!("{} more bytes", self.left), 0));
        }
        self.file.flush().map_err(Error::io("write", &self.scratch))?;
        self.file.get_ref().sync_all().map_err(Error::io("write", &self.scratch))?;
        std::fs::rename(&self.scratch, &self.path).map_err(Error::io("write", &self.path))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for NpyWriter {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_in_parts_and_read_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("images.npy");
        let mut writer = NpyWriter::new(&path, &[3, 2, 2, 3]).unwrap();
        let bytes: Vec<u8> = (0..36).collect();
        writer.write(&bytes[..12]).unwrap();
        assert!(!path.exists());
        writer.write(&bytes[12..]).unwrap();
        assert!(writer.write(&[0]).is_err());
        writer.finish().unwrap();
        let images = NpyImages::open(&path).unwrap();
        assert_eq!((images.len(), images.shape()), (3, [2, 2, 3]));
        assert_eq!(images.read(1, 2).unwrap(), bytes[12..]);
        assert!(images.read(2, 2).is_err());
        let mut cut = std::fs::read(&path).unwrap();
        cut.pop();
        std::fs::write(&path, cut).unwrap();
        assert!(NpyImages::open(&path).unwrap_err().to_string().contains("does not go with"));
    }

    #[test]
    fn arrays_that_are_no_images_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let why = || NpyImages::open(&path).unwrap_err().to_string();
        crate::data::npy::write_npy_f32(&path, &[1, 2, 2], &[0.0, 0.25, 0.5, 1.0]).unwrap();
        assert!(why().contains("(255 * x).round().astype('uint8')"), "{}", why());
        crate::data::npy::write_npy_u8(&path, &[1, 3, 8, 8], &[9; 192]).unwrap();
        assert!(why().contains("channels first"), "{}", why());
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = NpyWriter::new(&folder.path().join("x.npy"), &[4]).unwrap();
        writer.write(&[1, 2]).unwrap();
        assert!(writer.finish().is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
