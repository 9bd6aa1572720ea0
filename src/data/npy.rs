//! NumPy `.npy` files, versions 1 and 2: arrays of bytes as images, arrays of whole numbers as labels, and
//! writers for bytes and `f32`.
//!
//! A data set is a folder (or archive) with `train_images.npy`, `train_labels.npy`, `test_images.npy` and
//! `test_labels.npy`, or with `x_train.npy`, `y_train.npy`, `x_test.npy` and `y_test.npy`. Images are `uint8`
//! of shape (N, H, W) or (N, H, W, C); labels are `uint8`, `int32` or `int64` of shape (N,) or (N, 1). The
//! classes are the lines of `class_names.txt` if it is there, else 0 to the largest training label.

use super::images::{MAX_CLASSES, MAX_PIXEL_BYTES};
use super::source::{Reader, Source};
use super::{Dataset, Format, Images, Origin, Parts, check_labels, read_npy_labels};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Train images, train labels, test images, test labels under either convention.
const FILES: [[&str; 4]; 2] = [
    ["train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy"],
    ["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"],
];
const MAX_HEADER: u64 = 1 << 16;
const MAX_SIDE: usize = 4096;
const MAX_CHANNELS: usize = 64;
/// How many values of images that are no bytes are looked at.
const MAX_LOOK: u64 = 1 << 20;

/// Whether a file belongs to the layout.
pub(super) fn wanted(name: &str) -> bool {
    FILES.iter().flatten().any(|file| *file == name) || name == "class_names.txt"
}

/// Whether the training images are there under either name.
pub(super) fn detect(source: &Source) -> bool {
    FILES.iter().any(|files| source.has(files[0]))
}

/// The names that the set's files have.
fn names(source: &Source) -> Result<&'static [&'static str; 4]> {
    let files = FILES.iter().find(|files| source.has(files[0])).unwrap_or(&FILES[0]);
    match files.iter().find(|file| !source.has(file)) {
        Some(missing) => {
            Err(Error::file(source.path(missing), None, format!("missing; expected {}", files.join(", "))))
        }
        None => Ok(files),
    }
}

/// Where the test images lie, and their labels. The set must be on the disk.
pub(super) fn test_files(source: &Source) -> Result<(PathBuf, Vec<u16>)> {
    let files = names(source)?;
    let place = |name: &str| {
        source.on_disk(name).ok_or_else(|| Error::file(source.path(name), None, "is in memory; unpack the archive"))
    };
    Ok((place(files[2])?, read_npy_labels(&place(files[3])?, MAX_CLASSES)?))
}

/// Reads the set.
pub(super) fn load(source: &Source) -> Result<Dataset> {
    let files = names(source)?;
    let mut class_names = match source.has("class_names.txt") {
        true => Some(source.lines("class_names.txt")?),
        false => None,
    };
    let train = part(source, files[0], files[1], &mut class_names)?;
    let test = part(source, files[2], files[3], &mut class_names)?;
    let root = source.root();
    let name = root.file_stem().map_or_else(|| "npy".into(), |stem| stem.to_string_lossy().into_owned());
    Dataset::assemble(Parts {
        name,
        format: Format::Npy,
        train,
        test,
        source: Origin::Path(root.into()),
        files: source.files_read(),
        left_out: source.left_out().clone(),
        notes: Vec::new(),
        test_path: source.path(files[2]),
    })
}

/// Reads images and their labels. Without class names, makes them from these labels.
fn part(source: &Source, images: &str, labels: &str, names: &mut Option<Vec<String>>) -> Result<Images> {
    let mut reader = source.open(images)?;
    let (head, count, shape) = image_header(&mut reader)?;
    if shape.contains(&0) || shape[0].max(shape[1]) > MAX_SIDE || shape[2] > MAX_CHANNELS {
        let why = format!("images of shape {shape:?}; at most [{MAX_SIDE}, {MAX_SIDE}, {MAX_CHANNELS}], and no 0");
        return Err(Error::file(reader.path(), Some(0), why));
    }
    let size = head.elements().filter(|&size| size <= MAX_PIXEL_BYTES);
    let Some(size) = size else {
        let why = format!("shape {:?}; at most {MAX_PIXEL_BYTES} bytes of pixels are read", head.shape);
        return Err(Error::file(reader.path(), Some(0), why));
    };
    let (label_path, label_offset, label_width, values) = read_labels(source, labels, count, images)?;
    let names = match names {
        Some(names) => names,
        None => {
            let classes = values.iter().max().map_or(1, |&label| usize::from(label) + 1);
            names.insert((0..classes).map(|i| i.to_string()).collect())
        }
    };
    check_labels(&label_path, &values, 0..names.len(), |i| label_offset + i as u64 * label_width)?;
    let pixels = reader.exact(size, "the pixels")?;
    reader.end()?;
    Images::new(shape, names.clone(), pixels, values)
}

/// Reads the header of an array of images: itself, their number, and height, width and channels.
pub(super) fn image_header(reader: &mut Reader<'_>) -> Result<(Header, usize, [usize; 3])> {
    let head = Header::read(reader)?;
    let wrong = |why: String| Error::file(reader.path(), Some(0), why);
    let (count, shape) = match *head.shape.as_slice() {
        [_, 1..=4, _, last] if last > 4 => {
            return Err(wrong(format!(
                "shape {:?} looks like channels first (N, C, H, W); save it as np.transpose(x, (0, 2, 3, 1))",
                head.shape
            )));
        }
        [n, h, w] => (n, [h, w, 1]),
        [n, h, w, c] => (n, [h, w, c]),
        _ => return Err(wrong(format!("expected shape (N, H, W) or (N, H, W, C), found {:?}", head.shape))),
    };
    if head.dtype == Dtype::U8 {
        return Ok((head, count, shape));
    }
    let looked = head.elements().unwrap_or(MAX_LOOK).min(MAX_LOOK);
    let bytes = reader.some(looked * head.dtype.width())?;
    let values = bytes.chunks_exact(head.dtype.width() as usize).map(|bytes| head.dtype.number(bytes));
    let why = format!("expected dtype uint8, found {}{}", head.dtype, advice(values));
    Err(Error::file(reader.path(), Some(0), why))
}

/// What makes bytes of images with such values.
fn advice(mut values: impl Iterator<Item = f64>) -> String {
    let (mut low, mut high, mut whole) = (f64::INFINITY, f64::NEG_INFINITY, true);
    let finite = values.all(|value| {
        (low, high) = (low.min(value), high.max(value));
        whole &= value.fract() == 0.0;
        value.is_finite()
    });
    if !finite {
        return "; some values are not finite, so make them numbers in 0..255 and .round().astype('uint8') them".into();
    }
    // Shortest digits, as numpy prints them.
    let found = format!(" with values from {} to {}", low as f32, high as f32);
    if low > high {
        "; convert with .astype('uint8')".into()
    } else if low < 0.0 || high > 255.0 {
        format!(
            "{found}, which looks normalised; undo that, as in x * std + mean, so that values are in 0..255, and save \
             .round().astype('uint8') of it"
        )
    } else if high <= 1.0 && !whole {
        format!("{found}; convert with (255 * x).round().astype('uint8')")
    } else {
        format!("{found}; convert with .round().astype('uint8')")
    }
}

/// Path, offset of the first label, bytes per label, labels.
type Labels = (std::path::PathBuf, u64, u64, Vec<u16>);

fn read_labels(source: &Source, file: &str, count: usize, images: &str) -> Result<Labels> {
    let mut reader = source.open(file)?;
    let head = Header::read(&mut reader)?;
    if !matches!(head.shape.as_slice(), [n] | [n, 1] if *n == count) {
        let why = format!("expected shape ({count},) as in {images}, found {:?}", head.shape);
        return Err(Error::file(reader.path(), Some(0), why));
    }
    let (start, width, labels) = labels_of(&mut reader, &head, count)?;
    Ok((reader.path().into(), start, width, labels))
}

/// Offset of the first label, bytes per label, and the labels that follow a header.
pub(super) fn labels_of(reader: &mut Reader<'_>, head: &Header, count: usize) -> Result<(u64, u64, Vec<u16>)> {
    if matches!(head.dtype, Dtype::F32 { .. } | Dtype::F64 { .. }) {
        let why = format!(
            "expected labels of dtype uint8, int32 or int64, found {}; convert with .astype('int64')",
            head.dtype
        );
        return Err(Error::file(reader.path(), Some(0), why));
    }
    let width = head.dtype.width();
    let start = reader.offset();
    let bytes = reader.exact((count as u64).saturating_mul(width), "the labels")?;
    reader.end()?;
    let mut labels = Vec::with_capacity(count);
    for (i, bytes) in bytes.chunks_exact(width as usize).enumerate() {
        let value = head.dtype.whole(bytes);
        match u16::try_from(value) {
            Ok(label) => labels.push(label),
            Err(_) => {
                let why = format!("label {value} of image {i} is outside 0 to {}", MAX_CLASSES - 1);
                return Err(Error::file(reader.path(), Some(start + i as u64 * width), why));
            }
        }
    }
    Ok((start, width, labels))
}

/// The element types that are read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    U8,
    I32 { big: bool },
    I64 { big: bool },
    F32 { big: bool },
    F64 { big: bool },
}

impl Dtype {
    fn parse(descr: &str) -> Option<Dtype> {
        Some(match descr {
            "|u1" | "<u1" | ">u1" | "u1" => Dtype::U8,
            "<i4" => Dtype::I32 { big: false },
            ">i4" => Dtype::I32 { big: true },
            "<i8" => Dtype::I64 { big: false },
            ">i8" => Dtype::I64 { big: true },
            "<f4" => Dtype::F32 { big: false },
            ">f4" => Dtype::F32 { big: true },
            "<f8" => Dtype::F64 { big: false },
            ">f8" => Dtype::F64 { big: true },
            _ => return None,
        })
    }

    /// Bytes of a value.
    fn width(self) -> u64 {
        match self {
            Dtype::U8 => 1,
            Dtype::I32 { .. } | Dtype::F32 { .. } => 4,
            Dtype::I64 { .. } | Dtype::F64 { .. } => 8,
        }
    }

    /// The bytes of a value as a number without sign.
    fn bits(self, bytes: &[u8]) -> u64 {
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        match self {
            Dtype::I32 { big: true }
            | Dtype::I64 { big: true }
            | Dtype::F32 { big: true }
            | Dtype::F64 { big: true } => bytes.iter().fold(0, fold),
            _ => bytes.iter().rev().fold(0, fold),
        }
    }

    /// The whole number that these bytes of a label stand for.
    fn whole(self, bytes: &[u8]) -> i64 {
        let bits = self.bits(bytes);
        if matches!(self, Dtype::I32 { .. }) { i64::from(bits as u32 as i32) } else { bits as i64 }
    }

    /// The number that these bytes stand for.
    fn number(self, bytes: &[u8]) -> f64 {
        match self {
            Dtype::F32 { .. } => f64::from(f32::from_bits(self.bits(bytes) as u32)),
            Dtype::F64 { .. } => f64::from_bits(self.bits(bytes)),
            _ => self.whole(bytes) as f64,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Dtype::U8 => "uint8",
            Dtype::I32 { .. } => "int32",
            Dtype::I64 { .. } => "int64",
            Dtype::F32 { .. } => "float32",
            Dtype::F64 { .. } => "float64",
        })
    }
}

/// What a `.npy` header says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

impl Header {
    /// Product of the shape, unless it overflows.
    pub fn elements(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side as u64))
    }

    /// Reads magic, version, header length and header.
    pub fn read(reader: &mut Reader<'_>) -> Result<Header> {
        let start = reader.exact(8, "the npy magic")?;
        if start[..6] != *b"\x93NUMPY" {
            return Err(Error::file(reader.path(), Some(0), "expected the magic of a .npy file, \\x93NUMPY"));
        }
        let length = match start[6] {
            1 => reader.exact(2, "the header length")?,
            2 => reader.exact(4, "the header length")?,
            other => {
                let why = format!("expected .npy version 1 or 2, found {other}.{}", start[7]);
                return Err(Error::file(reader.path(), Some(6), why));
            }
        };
        let length = length.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        if length > MAX_HEADER {
            return Err(reader.error(format!("a header of {length} bytes; at most {MAX_HEADER} are read")));
        }
        let at = reader.offset();
        let text = reader.exact(length, "the header")?;
        parse_header(&text).map_err(|(offset, why)| Error::file(reader.path(), Some(at + offset as u64), why))
    }
}

/// Walks over the Python dictionary of a header.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// Offset in the header, and what is wrong.
type Wrong = (usize, String);

impl Cursor<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Wrong> {
        match self.take(byte) {
            true => Ok(()),
            false => Err((self.at, format!("expected `{}` in the .npy header", char::from(byte)))),
        }
    }

    /// A quoted string.
    fn string(&mut self) -> Result<String, Wrong> {
        let quote = match self.peek() {
            Some(quote @ (b'\'' | b'"')) => quote,
            _ => return Err((self.at, "expected a quoted string in the .npy header".into())),
        };
        let start = self.at + 1;
        match self.text[start..].iter().position(|&byte| byte == quote) {
            Some(length) => {
                self.at = start + length + 1;
                Ok(String::from_utf8_lossy(&self.text[start..start + length]).into_owned())
            }
            None => Err((start, "this string of the .npy header has no end".into())),
        }
    }

    /// Letters or digits.
    fn word(&mut self) -> &str {
        self.peek();
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_alphanumeric) {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default()
    }

    fn shape(&mut self) -> Result<Vec<usize>, Wrong> {
        self.expect(b'(')?;
        let mut shape = Vec::new();
        while !self.take(b')') {
            let at = self.at;
            match self.word().parse() {
                Ok(side) if shape.len() < 32 => shape.push(side),
                _ => return Err((at, "expected the shape as whole numbers, like (100, 28, 28)".into())),
            }
            if !self.take(b',') && self.peek() != Some(b')') {
                return Err((self.at, "expected `,` or `)` in the shape".into()));
            }
        }
        Ok(shape)
    }
}

/// Parses `{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }`, keys in any order.
fn parse_header(text: &[u8]) -> Result<Header, Wrong> {
    let mut cursor = Cursor { text, at: 0 };
    let (mut dtype, mut order, mut shape) = (None, None, None);
    cursor.expect(b'{')?;
    while !cursor.take(b'}') {
        let at = cursor.at;
        let key = cursor.string()?;
        cursor.expect(b':')?;
        cursor.peek();
        let value_at = cursor.at;
        match key.as_str() {
            "descr" if dtype.is_none() => {
                let descr = cursor.string()?;
                let known = Dtype::parse(&descr);
                let why = || (value_at, format!("dtype `{descr}` is not read; expected uint8, or int32/int64 labels"));
                dtype = Some(known.ok_or_else(why)?);
            }
            "fortran_order" if order.is_none() => {
                match cursor.word() {
                    "False" => order = Some(()),
                    "True" => {
                        let why = "the array is in Fortran order; save it with np.ascontiguousarray(array)";
                        return Err((value_at, why.into()));
                    }
                    _ => return Err((value_at, "expected True or False".into())),
                };
            }
            "shape" if shape.is_none() => shape = Some(cursor.shape()?),
            _ => return Err((at, format!("unexpected or repeated key `{key}` in the .npy header"))),
        }
        if !cursor.take(b',') && cursor.peek() != Some(b'}') {
            return Err((cursor.at, "expected `,` or `}` in the .npy header".into()));
        }
    }
    match (dtype, order, shape) {
        (Some(dtype), Some(()), Some(shape)) => Ok(Header { dtype, shape }),
        _ => Err((cursor.at, "the .npy header lacks descr, fortran_order or shape".into())),
    }
}

/// Writes bytes as a version 1 `.npy` file of dtype uint8, C order.
///
/// # Errors
/// [`Error::Shape`] when the product of `shape` is not `data.len()`, [`Error::Io`] when writing fails.
pub fn write_npy_u8(path: &Path, shape: &[usize], data: &[u8]) -> Result<()> {
    write(path, "|u1", shape, data.len(), data)
}

/// Writes numbers as a version 1 `.npy` file of dtype float32 (little-endian), C order.
///
/// # Errors
/// As [`write_npy_u8`].
pub fn write_npy_f32(path: &Path, shape: &[usize], data: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    write(path, "<f4", shape, data.len(), &bytes)
}

fn write(path: &Path, descr: &str, shape: &[usize], elements: usize, data: &[u8]) -> Result<()> {
    let product = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if product != Some(elements) || shape.len() > 32 {
        return Err(Error::shape("write npy", format!("{shape:?}"), format!("{elements} elements")));
    }
    let mut bytes = header_text(descr, shape);
    bytes.extend(data);
    std::fs::write(path, bytes).map_err(Error::io("write", path))
}

/// Magic, version, length and header of a version 1 file.
pub(super) fn header_text(descr: &str, shape: &[usize]) -> Vec<u8> {
    let sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let sides = if shape.len() > 1 { sides.trim_end_matches(", ") } else { sides.trim_end() };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sides}), }}");
    // Magic, version, length and header end on a multiple of 64 bytes, the last byte a line break.
    let padding = (64 - (10 + header.len() + 1) % 64) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes
}

#[cfg(test)]
#[path = "npy_tests.rs"]
mod tests;
