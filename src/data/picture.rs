//! Pictures in files: which are read, what is refused, and those that lie below a folder.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::source::Reader;
use crate::error::{Error, Result};

/// What is read, in words.
pub const READ: &str = "PNG, JPEG, WebP, BMP and TIFF";
const FORMATS: [ImageFormat; 5] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff];
/// Endings of pictures that the decoder's crate has no name for.
const UNNAMED: [&str; 4] = ["heic", "heif", "jp2", "jxl"];
/// What [`open_picture`] takes at most beside the side that it is given; 8192 x 8192 pixels of 16-bit RGBA just fit.
const MAX_FILE_BYTES: u64 = 1 << 30;
const MAX_DECODER_BYTES: u64 = 512 << 20;

/// How much a picture may take.
pub(super) struct Caps {
    /// Longest side in pixels.
    pub side: u32,
    /// Length of the file.
    pub file_bytes: u64,
    /// Memory of the decoder.
    pub decoder_bytes: u64,
}

/// Width and height as the picture is looked at, and whether it is coloured.
pub(super) type Kind = (u32, u32, bool);

/// What the head of a picture says.
pub(super) fn kind_of(path: &Path, caps: &Caps) -> Result<Kind> {
    with_decoder(path, caps, |_, _, kind, _| Ok(kind))
}

/// Decodes a picture, and turns it as its orientation tag says. Of several in one file (animations, pages) it is the first. Beside it stands
/// the XXH3 of the file.
pub(super) fn decode(path: &Path, caps: &Caps) -> Result<(DynamicImage, u64)> {
    with_decoder(path, caps, |bytes, decoder, _, orientation| {
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| undecodable(path, &e))?;
        image.apply_orientation(orientation);
        Ok((image, xxh3_64(bytes)))
    })
}

/// Hands the decoder of a picture to `f`, whatever the file's name is, with how its pixels must be turned.
fn with_decoder<T>(
    path: &Path,
    caps: &Caps,
    f: impl FnOnce(&[u8], Box<dyn ImageDecoder + '_>, Kind, Orientation) -> Result<T>,
) -> Result<T> {
    let mut reader = Reader::of_file(path)?;
    if reader.len().is_some_and(|len| len > caps.file_bytes) {
        return Err(reader.error(format!("an image file of more than {} bytes", caps.file_bytes)));
    }
    let bytes = reader.rest()?;
    let refuse = |at, why: String| Err(Error::file(path, at, why));
    if bytes.is_empty() {
        return refuse(Some(0), "the file is empty".into());
    }
    let format = match image::guess_format(&bytes) {
        Ok(format) if FORMATS.contains(&format) => format,
        Ok(other) => return refuse(Some(0), is_another(other.extensions_str().first().copied().unwrap_or("picture"))),
        Err(_) => return refuse(Some(0), format!("the contents are no picture; {READ} are read")),
    };
    match format {
        ImageFormat::Jpeg if !jpeg_is_whole(&bytes) => {
            return refuse(Some(bytes.len() as u64), "the JPEG is cut off: its end marker is missing".into());
        }
        ImageFormat::WebP if !webp_is_whole(&bytes) => {
            return refuse(Some(bytes.len() as u64), "the WebP is cut off: it ends before its own length".into());
        }
        _ => {}
    }
    let mut reader = ImageReader::with_format(Cursor::new(&bytes), format);
    // Sides are checked below: the decoder's own error does not say how long they are.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(caps.decoder_bytes);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| undecodable(path, &e))?;
    let orientation = decoder.orientation().map_err(|e| undecodable(path, &e))?;
    let (width, height) = match decoder.dimensions() {
        (width, height) if is_quarter_turn(orientation) => (height, width),
        sides => sides,
    };
    if width == 0 || height == 0 || width.max(height) > caps.side {
        return refuse(None, format!("{width}x{height} pixels; sides of 1 to {} pixels are possible", caps.side));
    }
    // Not every decoder asks the limits before the picture itself takes memory.
    let takes = decoder.total_bytes();
    if takes > caps.decoder_bytes {
        let why = format!("{width}x{height} pixels take {takes} bytes; at most {} are read", caps.decoder_bytes);
        return refuse(None, why);
    }
    let coloured = decoder.color_type().has_color();
    f(&bytes, Box::new(decoder), (width, height, coloured), orientation)
}

/// Whether width and height change places.
fn is_quarter_turn(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH)
}

fn undecodable(path: &Path, e: &image::ImageError) -> Error {
    Error::file(path, None, format!("cannot decode: {e}; expected a whole picture"))
}

/// A picture as 8-bit RGB: deeper values are reduced, transparency is dropped (the colour below it shows), and the picture is
/// turned as its orientation tag (EXIF) says.
///
/// # Errors
/// If it is no picture that is read, is cut off, or has a side above `side` pixels.
pub fn open_picture(path: &Path, side: u32) -> Result<RgbImage> {
    let caps = Caps { side, file_bytes: MAX_FILE_BYTES, decoder_bytes: MAX_DECODER_BYTES };
    Ok(decode(path, &caps)?.0.into_rgb8())
}

/// Whether a JPEG has its end marker. Decoders fill what is missing with grey, and say nothing.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    // Behind the start marker. Segments are stepped over, so that a thumbnail's end is not taken for the picture's.
    let mut at = 2;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        // In coded data FF stands before 0 and before restart markers; elsewhere FF may fill.
        let marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF | 0xD0..=0xD7);
        let Some(found) = rest.windows(2).position(marker) else { return false };
        at += found + 2;
        match rest[found + 1] {
            0xD9 => return true,
            // These two have no length.
            0x01 | 0xD8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])).max(2),
                None => return false,
            },
        }
    }
}

/// Whether a WebP is as long as its head says.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    length.is_some_and(|length| bytes.len() as u64 >= u64::from(length) + 8)
}

/// Says of a file that it is a picture, but none that is read.
fn is_another(format: &str) -> String {
    let article = if format.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
    format!("is {article} {}; {READ} are read", format.to_uppercase())
}

/// Whether a file is a picture that is read, by its name.
pub fn is_picture(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| FORMATS.contains(&format))
}

/// Why a file that is a picture by its name is not read.
pub fn is_other_picture(path: &Path) -> Option<String> {
    other_ending(path).map(|ending| is_another(&ending))
}

/// The ending of a file that is a picture by its name, but none that is read.
pub(super) fn other_ending(path: &Path) -> Option<String> {
    if is_picture(path) {
        return None;
    }
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    let known = ImageFormat::from_extension(&ending).is_some() || UNNAMED.contains(&ending.as_str());
    known.then_some(ending)
}

/// A file that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unusable {
    /// Where it is, below the folder that was asked for.
    #[serde(serialize_with = "crate::error::serialize_path")]
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What [`pictures_below`] found; paths are relative to the folder, in order.
#[derive(Debug, Default)]
pub struct PictureTree {
    /// Pictures that are read, by their names.
    pub files: Vec<PathBuf>,
    /// Pictures and links that are not read, and folders that cannot be.
    pub unusable: Vec<Unusable>,
}

/// Looks for pictures in a folder and in the folders below it. What is hidden, and files that are no pictures by their
/// names, are passed over. Links to files are followed; links to folders are not, since they may lead in circles.
///
/// # Errors
/// If the folder itself cannot be read.
pub fn pictures_below(root: &Path) -> Result<PictureTree> {
    let mut tree = PictureTree::default();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        let entries = match std::fs::read_dir(&path) {
            Err(e) if folder.as_os_str().is_empty() => return Err(Error::io("read", &path)(e)),
            Err(e) => {
                tree.unusable.push(Unusable { file: folder, why: format!("cannot read: {e}") });
                continue;
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &path))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let file = folder.join(entry.file_name());
            let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let refused = match std::fs::metadata(entry.path()) {
                Ok(data) if data.is_dir() && !link => {
                    folders.push(file);
                    continue;
                }
                Ok(data) if data.is_dir() => Some("is a link to a folder, which is not followed".to_owned()),
                _ if !is_picture(&file) => is_other_picture(&file),
                Ok(data) if !data.is_file() => Some("is no regular file".to_owned()),
                Ok(_) => None,
                Err(e) => Some(format!("cannot read: {e}")),
            };
            match refused {
                Some(why) => tree.unusable.push(Unusable { file, why }),
                None if is_picture(&file) => tree.files.push(file),
                None => {}
            }
        }
    }
    tree.files.sort();
    tree.unusable.sort();
    Ok(tree)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// EXIF data with an orientation tag.
    fn exif(orientation: u8) -> Vec<u8> {
        // Big-endian, one entry at byte 8: tag 0x112, a 16-bit number, one of them.
        [&b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], &[0; 6]].concat()
    }

    /// A JPEG with an orientation tag.
    pub fn tagged(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let data = [b"Exif\0\0".as_slice(), &exif(orientation)].concat();
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xFF, 0xE1], &length, &data, &jpeg[2..]].concat()
    }

    /// The same of a PNG: a chunk behind the header.
    fn tagged_png(png: &[u8], orientation: u8) -> Vec<u8> {
        let body = [b"eXIf".as_slice(), &exif(orientation)].concat();
        let mut sum = flate2::Crc::new();
        sum.update(&body);
        let length = (body.len() as u32 - 4).to_be_bytes();
        [&png[..33], &length, &body, &sum.sum().to_be_bytes(), &png[33..]].concat()
    }

    #[test]
    fn pictures_are_turned_as_their_tag_says() {
        // Dark on the left, bright on the right.
        let image = RgbImage::from_fn(16, 8, |x, _| image::Rgb([if x < 8 { 20 } else { 230 }; 3]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let encoded = |format: ImageFormat| {
            let mut bytes = Cursor::new(vec![]);
            image.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        let (jpeg, png) = (encoded(ImageFormat::Jpeg), encoded(ImageFormat::Png));
        let caps = Caps { side: 16, file_bytes: 1 << 20, decoder_bytes: 1 << 20 };
        // A quarter turn clockwise brings the left to the top; a half turn brings it to the right.
        for (orientation, sides, dark) in [
            (1, (16, 8), (1, 1)),
            (3, (16, 8), (14, 1)),
            (6, (8, 16), (1, 1)),
            (8, (8, 16), (1, 14)),
            (9, (16, 8), (1, 1)),
        ] {
            for bytes in [tagged(&jpeg, orientation), tagged_png(&png, orientation)] {
                std::fs::write(&path, bytes).unwrap();
                let (width, height, _) = kind_of(&path, &caps).unwrap();
                let turned = open_picture(&path, 16).unwrap();
                assert_eq!(((width, height), turned.dimensions()), (sides, sides), "{orientation}");
                assert!(turned.get_pixel(dark.0, dark.1)[0] < 90, "{orientation}");
                let (x, y) = (sides.0 - 1 - dark.0, sides.1 - 1 - dark.1);
                assert!(turned.get_pixel(x, y)[0] > 160, "{orientation}");
            }
        }
    }

    fn jpeg() -> Vec<u8> {
        let mut bytes = Cursor::new(vec![]);
        let image = RgbImage::from_fn(64, 48, |x, y| image::Rgb([(4 * x) as u8, (5 * y) as u8, (x * y) as u8]));
        image.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_jpeg_without_its_end_is_cut_off() {
        let whole = jpeg();
        assert!(jpeg_is_whole(&whole));
        assert!((0..whole.len()).all(|length| !jpeg_is_whole(&whole[..length])));
        // What follows the end does not matter, and the end within a segment is not the picture's.
        assert!(jpeg_is_whole(&[&whole[..], b"more"].concat()));
        let thumbnail = [&[0xFF, 0xD8, 0xFF, 0xE1, 0, 6, 0xFF, 0xD9, 0, 0], &whole[2..whole.len() - 2]].concat();
        assert!(!jpeg_is_whole(&thumbnail));
        assert!(jpeg_is_whole(&[&thumbnail[..], &[0xFF, 0xFF, 0xD9]].concat()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.jpg");
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let why = open_picture(&path, 100).unwrap_err().to_string();
        assert!(why.contains("half.jpg") && why.contains("cut off"), "{why}");
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(open_picture(&path, 64).unwrap().dimensions(), (64, 48));
        let why = open_picture(&path, 63).unwrap_err().to_string();
        assert!(why.contains("64x48 pixels") && why.contains("1 to 63"), "{why}");
    }

    /// Files of many formats and modes with the RGB bytes that Pillow makes of them (`peers/pictures_pillow.py`).
    fn golden() -> Vec<(PathBuf, [u32; 2], Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/pictures/pictures.json")).unwrap();
        let case = |case: &serde_json::Value| {
            let hex = case["rgb"].as_str().unwrap().as_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let size = [0, 1].map(|axis| case["size"][axis].as_u64().unwrap() as u32);
            (folder.join(case["file"].as_str().unwrap()), size, hex.chunks(2).map(byte).collect())
        };
        golden["files"].as_array().unwrap().iter().map(case).collect()
    }

    #[test]
    fn formats_and_modes_are_pillow_s() {
        let cases = golden();
        assert!(cases.len() >= 16);
        for (path, [height, width], want) in cases {
            let found = open_picture(&path, 16).unwrap();
            assert_eq!(found.dimensions(), (width, height), "{}", path.display());
            // Decoders of what loses something may round otherwise.
            let lossy = ["lossy.webp", "cmyk.jpg"].iter().any(|name| path.ends_with(name));
            let most = found.as_raw().iter().zip(&want).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(
                most <= if lossy { 4 } else { 0 } && found.as_raw().len() == want.len(),
                "{}: {most}",
                path.display()
            );
        }
    }

    #[test]
    fn deep_values_are_rounded_and_transparency_shows_the_colour_below() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["deep.png", "deep.tiff"] {
            let path = folder.path().join(name);
            let deep = image::ImageBuffer::from_fn(2, 1, |x, _| image::Rgba([1000 * x as u16, 0x8111, 0xFFFF, 0]));
            DynamicImage::ImageRgba16(deep).save(&path).unwrap();
            // In steps of 257.
            assert_eq!(open_picture(&path, 9).unwrap().into_raw(), [0, 129, 255, 4, 129, 255], "{name}");
        }
    }

    #[test]
    fn damaged_pictures_are_refused_or_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (path, _, _) in golden() {
            let whole = (std::fs::read(&path).unwrap(), open_picture(&path, 16).unwrap());
            let cut = folder.path().join("cut");
            for length in 0..whole.0.len() {
                std::fs::write(&cut, &whole.0[..length]).unwrap();
                if let Ok(found) = open_picture(&cut, 16) {
                    assert_eq!(found, whole.1, "{} at {length}", path.display());
                }
            }
            // What is read of one that was altered does not matter.
            for place in 0..whole.0.len() {
                let mut bytes = whole.0.clone();
                bytes[place] ^= 0xFF >> (place % 5);
                std::fs::write(&cut, bytes).unwrap();
                let _ = open_picture(&cut, 16);
            }
        }
    }

    #[test]
    fn pictures_that_claim_to_be_huge_take_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures");
        // Where width and height stand, and how.
        for (name, [width, height], bytes) in
            [("rgba.png", [16, 20], [0, 0, 0x20, 0]), ("rgb.bmp", [18, 22], [0, 0x20, 0, 0])]
        {
            let mut huge = std::fs::read(golden.join(name)).unwrap();
            huge[width..width + 4].copy_from_slice(&bytes);
            huge[height..height + 4].copy_from_slice(&bytes);
            if name.ends_with("png") {
                let mut sum = flate2::Crc::new();
                sum.update(&huge[12..29]);
                huge[29..33].copy_from_slice(&sum.sum().to_be_bytes());
            }
            std::fs::write(&path, &huge).unwrap();
            let caps = Caps { side: 16_384, file_bytes: 1 << 20, decoder_bytes: 64 << 20 };
            let why = decode(&path, &caps).unwrap_err().to_string();
            assert!(why.contains("8192x8192 pixels take"), "{name}: {why}");
        }
    }

    #[test]
    fn other_formats_are_named() {
        let why = |name: &str| is_other_picture(Path::new(name));
        assert_eq!(why("a.GIF").unwrap(), "is a GIF; PNG, JPEG, WebP, BMP and TIFF are read");
        assert_eq!(why("a.avif").unwrap(), "is an AVIF; PNG, JPEG, WebP, BMP and TIFF are read");
        for name in ["a.gif", "a.qoi", "a.heic"] {
            assert!(why(name).is_some() && !is_picture(Path::new(name)), "{name}");
        }
        for name in ["a.png", "a.JPG", "a.jpeg", "a.webp", "a.BMP", "a.tif", "a.tiff"] {
            assert!(why(name).is_none() && is_picture(Path::new(name)), "{name}");
        }
        for name in ["a.txt", "a.json", "a", "a.npy"] {
            assert!(why(name).is_none() && !is_picture(Path::new(name)), "{name}");
        }
        // By what is in it, whatever its name.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        std::fs::write(&path, b"GIF89a and more").unwrap();
        assert!(open_picture(&path, 9).unwrap_err().to_string().contains("is a GIF"));
    }
}
