//! `altiplano corrupt`, and the options that `evaluate` shares with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageReader, RgbImage, imageops};
use serde::Serialize;

use super::Global;
use super::place::{Scratch, apart, check_place, replaceable};
use super::progress::Display;
use crate::corrupt::{Constants, Corruption, Frost, Kind, MAX_SIDE, Severity, in_order, jpeg_round_trip};
use crate::data::{Images, NpyImages, NpyWriter, load, spool_test};
use crate::error::{Error, Result};
use crate::measure::corruption::{corrupt_pixels, grid};
use crate::progress::{Event, tell};
use crate::report::folder::atomic_write;

/// Options that say how corrupted pictures are made.
#[derive(clap::Args, Clone)]
pub(super) struct Pictures {
    /// Table of constants: cifar or imagenet; by default cifar up to 64 pixels, imagenet above.
    #[arg(long)]
    constants: Option<String>,
    /// Folder with photos of frost; without it a computed texture is used.
    #[arg(long)]
    frost: Option<PathBuf>,
}

/// The table for pictures whose longer side is this, if nobody says which.
fn usual_constants(side: usize) -> Constants {
    if side <= 64 { Constants::Cifar } else { Constants::ImageNet }
}

impl Pictures {
    /// The table for pictures whose longer side is this.
    pub fn constants(&self, side: usize) -> Result<Constants> {
        match &self.constants {
            Some(text) => text.parse(),
            None => Ok(usual_constants(side)),
        }
    }

    /// The photos, if a folder was given.
    pub fn frost(&self, constants: Constants) -> Result<Option<Arc<Frost>>> {
        let Some(folder) = &self.frost else { return Ok(None) };
        let files = pictures_in(folder)?;
        if files.is_empty() {
            return Err(Error::file(folder, None, "no PNG or JPEG files; expected photos of frost"));
        }
        let photos = files.iter().map(|file| open(&folder.join(file))).collect::<Result<_>>()?;
        Ok(Some(Arc::new(Frost::photos(photos, constants)?)))
    }
}

/// `main`, `all`, `none`, or names.
pub(super) fn choose_kinds(text: &str) -> Result<Vec<Kind>> {
    match text {
        "main" => Ok(Kind::MAIN.into()),
        "all" => Ok(Kind::ALL.into()),
        "none" => Ok(vec![]),
        _ => {
            let mut kinds: Vec<Kind> = vec![];
            for name in text.split(',') {
                let kind = name.trim().parse()?;
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
            Ok(kinds)
        }
    }
}

/// `all`, a range such as `2-4`, or a list.
pub(super) fn choose_severities(option: &str, text: &str) -> Result<Vec<Severity>> {
    let bad = || Error::invalid(option, format!("`{text}`: expected numbers from 1 to 5, such as 3, 1-5 or 1,3,5"));
    let number =
        |text: &str| text.trim().parse::<u8>().map_err(|_| bad()).and_then(|n| Severity::new(n).map_err(|_| bad()));
    if text == "all" {
        return Ok(Severity::ALL.into());
    }
    let mut list: Vec<Severity> = vec![];
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?.get(), number(high)?.get());
        if low > high {
            return Err(bad());
        }
        for level in low..=high {
            let severity = Severity::new(level)?;
            if !list.contains(&severity) {
                list.push(severity);
            }
        }
    }
    Ok(list)
}

#[derive(clap::Args)]
pub(super) struct Args {
    /// An image, a folder of images (its tree is kept), a .npy file of N x H x W x 3 bytes, or a data set, whose test images
    /// are taken.
    #[arg(long)]
    input: String,
    /// File (one image, one kind, one severity) or folder for results; must not exist.
    #[arg(long)]
    out: PathBuf,
    /// main, all, or names with commas between.
    #[arg(long, default_value = "main")]
    kind: String,
    /// Severities, such as 3, 1-5 or 1,3.
    #[arg(long, default_value = "1-5")]
    severity: String,
    #[command(flatten)]
    pictures: Pictures,
    /// As if each result had been stored as a JPEG of quality 85, as in ImageNet-C; files stay free of loss.
    #[arg(long)]
    jpeg85: bool,
    /// Also a contact sheet (PNG) of the first image: corruptions down, clean and severities across.
    #[arg(long)]
    sheet: Option<PathBuf>,
    /// Replace results of this command; a folder that holds anything else is refused.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    images: usize,
    /// What was wrong with files that could not be used.
    failed: Vec<String>,
    files: usize,
    results: usize,
    seconds: f64,
    images_per_second: f64,
    constants: &'static str,
    /// Where frost comes from, if there is frost.
    frost: Option<String>,
    kinds: Vec<&'static str>,
    severities: Vec<u8>,
}

/// What is corrupted.
enum Input {
    Picture(PathBuf),
    Tree(PathBuf, Vec<PathBuf>),
    /// Images in a file, with labels if they are of a data set; that file is the command's own, and goes when it ends.
    Array(NpyImages, Option<(Vec<u16>, Scratch)>),
    Set(Images),
}

impl Input {
    /// `out` is where results will go: beside it a data set's images are kept meanwhile.
    fn find(spec: &str, out: &Path) -> Result<Self> {
        let path = Path::new(spec);
        if path.is_file() && is_picture(path) {
            return Ok(Input::Picture(path.into()));
        }
        if path.is_file() && path.extension().is_some_and(|e| e == "npy") {
            let array = NpyImages::open(path)?;
            if array.is_empty() || array.shape()[2] != 3 {
                let why =
                    format!("{} images with {} channels; expected at least one with 3", array.len(), array.shape()[2]);
                return Err(Error::file(path, Some(0), why));
            }
            return Ok(Input::Array(array, None));
        }
        let other = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if path.is_file() && matches!(other.as_str(), "gif" | "bmp" | "webp" | "tif" | "tiff" | "txt") {
            return Err(Error::file(path, None, "expected PNG, JPEG, .npy, a folder or a data set"));
        }
        if path.is_dir() {
            let files = pictures_in(path)?;
            if !files.is_empty() {
                return Ok(Input::Tree(path.into(), files));
            }
        }
        let mut name = out.file_name().unwrap_or_default().to_owned();
        name.push(".input");
        if spec != "digits" {
            let scratch = Scratch::new(&out.with_file_name(name))?;
            if let Some(spooled) = spool_test(spec, &scratch.at.join("images.npy"))? {
                return Ok(Input::Array(spooled.images, Some((spooled.labels, scratch))));
            }
        }
        Ok(Input::Set(load(spec)?.test.reveal_for_final_evaluation().clone()))
    }

    fn len(&self) -> usize {
        match self {
            Input::Picture(_) => 1,
            Input::Tree(_, files) => files.len(),
            Input::Array(array, _) => array.len(),
            Input::Set(images) => images.len(),
        }
    }

    /// The first image that can be used.
    fn first(&self) -> Result<RgbImage> {
        let found = (1..self.len()).find_map(|i| self.image(i).ok());
        self.image(0).or_else(|error| found.ok_or(error))
    }

    /// Image `i` in colour.
    fn image(&self, i: usize) -> Result<RgbImage> {
        let raw = |[h, w, c]: [usize; 3], bytes: Vec<u8>| {
            let colour = if c == 1 { bytes.into_iter().flat_map(|v| [v; 3]).collect() } else { bytes };
            RgbImage::from_raw(w as u32, h as u32, colour).ok_or_else(|| Error::shape("image", "1 or 3 channels", c))
        };
        match self {
            Input::Picture(path) => open(path),
            Input::Tree(root, files) => open(&root.join(&files[i])),
            Input::Array(array, _) => raw(array.shape(), array.read(i, 1)?),
            Input::Set(s) => raw([s.height, s.width, s.channels], s.image(i).to_vec()),
        }
    }
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    matches!(extension.as_str(), "png" | "jpg" | "jpeg")
}

/// Paths of all images below a folder, relative to it, in order. Links are not followed.
fn pictures_in(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![];
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in std::fs::read_dir(&path).map_err(Error::io("read", &path))? {
            let entry = entry.map_err(Error::io("read", &path))?;
            let kind = entry.file_type().map_err(Error::io("read", entry.path()))?;
            let own = folder.join(entry.file_name());
            if kind.is_dir() {
                folders.push(own);
            } else if kind.is_file() && is_picture(&own) {
                found.push(own);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn open(path: &Path) -> Result<RgbImage> {
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    let mut reader = ImageReader::open(path)
        .map_err(Error::io("open", path))?
        .with_guessed_format()
        .map_err(Error::io("read", path))?;
    reader.limits(limits);
    let image = reader.decode().map_err(|error| {
        let why = match error {
            image::ImageError::Limits(_) => format!("sides up to {MAX_SIDE} pixels are possible"),
            other => format!("{other}; expected PNG or JPEG"),
        };
        Error::file(path, None, why)
    })?;
    Ok(DynamicImage::to_rgb8(&image))
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let start = std::time::Instant::now();
    let kinds = choose_kinds(&args.kind)?;
    let severities = choose_severities("--severity", &args.severity)?;
    if kinds.is_empty() {
        return Err(Error::invalid("--kind", "at least one corruption is needed"));
    }
    if args.out.exists() && !args.force {
        return Err(Error::invalid(
            "--out",
            format!("{} exists; choose another place, or --force", args.out.display()),
        ));
    }
    args.sheet.iter().try_for_each(|path| check_place(path))?;
    apart(&args.out, &args.input)?;
    if args.out.is_symlink() {
        return Err(Error::invalid("--out", format!("{} is a link; give the place itself", args.out.display())));
    }
    if args.out.is_dir() {
        replaceable(&args.out)?;
    }
    let input = Input::find(&args.input, &args.out)?;
    if input.len() == 0 {
        return Err(Error::invalid("--input", "there is no image"));
    }
    let first = input.first()?;
    let constants = args.pictures.constants(first.width().max(first.height()) as usize)?;
    let frost = if kinds.contains(&Kind::Frost) { args.pictures.frost(constants)? } else { None };
    let corruptions = grid(&kinds, &severities, constants, frost.as_ref());
    // Without a word from the user the table follows from the size, which may differ within a folder.
    let by_size = args.pictures.constants.is_none().then_some(constants);
    let job = Job { input: &input, corruptions: &corruptions, jpeg85: args.jpeg85, seed: global.seed, by_size };
    let mut display = Display::new(global)?;
    let units = (input.len() * corruptions.len()) as u64;
    let mut observer = |event: &Event| display.event(event);
    tell(&mut observer, Event::Stage { name: "corrupting", units, from: 0.0, to: 1.0 })?;
    let mut advance = |done: usize| tell(&mut observer, Event::Advance { done: done as u64, note: String::new() });
    let mut failures = vec![];
    let files = match &input {
        Input::Picture(_) if corruptions.len() == 1 && is_picture(&args.out) => {
            let bytes = encode(&job.one(&first, 0, 0)?, &args.out, 95)?;
            atomic_write(&args.out, &bytes)?;
            1
        }
        Input::Picture(_) | Input::Tree(..) => job.tree(&args.out, &mut failures, &mut advance)?,
        Input::Array(..) | Input::Set(_) => job.arrays(&args.out, kinds.len(), &mut advance)?,
    };
    if let Some(path) = &args.sheet {
        atomic_write(path, &encode(&job.sheet(&first, severities.len())?, path, 80)?)?;
    }
    display.finish();
    let seconds = start.elapsed().as_secs_f64();
    let done = input.len() - failures.len();
    let results = done * corruptions.len();
    let answer = Answer {
        images: done,
        failed: failures.iter().map(Error::to_string).collect(),
        files,
        results,
        seconds,
        images_per_second: results as f64 / seconds,
        constants: constants.name(),
        frost: corruptions.iter().find_map(|c| c.frost_source()).map(|s| s.to_string()),
        kinds: kinds.iter().map(|k| k.name()).collect(),
        severities: severities.iter().map(|s| s.get()).collect(),
    };
    global.print(&answer, || {
        let frost = answer.frost.as_ref().map(|f| format!(", frost {f}")).unwrap_or_default();
        format!(
            "{} images, {} corrupted ones in {} files ({:.0} per second; constants {}{frost})\n{}\n",
            answer.images,
            answer.results,
            answer.files,
            answer.images_per_second,
            answer.constants,
            args.out.display()
        )
    })?;
    match failures.first() {
        None => Ok(()),
        Some(first) => {
            let (failed, all, first) = (failures.len(), input.len(), first.to_string());
            Err(Error::Incomplete { failed, all, first })
        }
    }
}

/// An image as a file's bytes: JPEG of this quality if the name says so, else PNG.
fn encode(image: &RgbImage, path: &Path, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(vec![]);
    let jpeg = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jpg") || e.eq_ignore_ascii_case("jpeg"));
    let done = match jpeg {
        true => image.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)),
        false => image.write_to(&mut bytes, image::ImageFormat::Png),
    };
    done.map_err(|e| Error::file(path, None, e.to_string()))?;
    Ok(bytes.into_inner())
}

/// The result of a thread that flushes a file.
fn flushed(thread: std::thread::ScopedJoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Bytes of images that a thread corrupts before it hands them over.
const BATCH_BYTES: usize = 48 << 10;

/// Everything that decides the results.
struct Job<'a> {
    input: &'a Input,
    corruptions: &'a [Corruption],
    jpeg85: bool,
    seed: u64,
    /// The table that the first image's size decided, if it did.
    by_size: Option<Constants>,
}

impl Job<'_> {
    fn one(&self, image: &RgbImage, number: usize, corruption: usize) -> Result<RgbImage> {
        let out = self.corruptions[corruption].seeded(image, self.seed, number as u64)?;
        Ok(if self.jpeg85 { jpeg_round_trip(&out, 85) } else { out })
    }

    /// `kind/severity/name.png` for each image; goes on past those that cannot be read.
    fn tree(
        &self,
        out: &Path,
        failures: &mut Vec<Error>,
        advance: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<usize> {
        let scratch = Scratch::new(out)?;
        let place = |corruption: &Corruption, i: usize| {
            let name = match self.input {
                Input::Tree(_, files) => files[i].clone(),
                Input::Picture(path) => path.file_name().unwrap_or_default().into(),
                _ => PathBuf::from(i.to_string()),
            };
            let folder = scratch.at.join(corruption.kind().name()).join(corruption.severity().get().to_string());
            // Two images may differ in their extension alone.
            let mut name = folder.join(name).into_os_string();
            name.push(".png");
            PathBuf::from(name)
        };
        let job = |i: usize| {
            let image = match self.input.image(i) {
                Ok(image) => image,
                Err(error) => return Ok(Some(error)),
            };
            let usual = usual_constants(image.width().max(image.height()) as usize);
            if let (Some(table), Input::Tree(_, files)) = (self.by_size.filter(|&t| t != usual), self.input) {
                let (width, height) = image.dimensions();
                let (usual, table) = (usual.name(), table.name());
                let why = format!(
                    "its {width}x{height} pixels ask for the constants {usual}, the first image's size for {table}; give --constants"
                );
                return Ok(Some(Error::file(&files[i], None, why)));
            }
            for (number, corruption) in self.corruptions.iter().enumerate() {
                let path = place(corruption, i);
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
                }
                let bytes = encode(&self.one(&image, i, number)?, &path, 95)?;
                std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
            }
            Ok(None)
        };
        in_order(self.input.len(), job, |i, done| {
            failures.extend(done?);
            advance((i + 1) * self.corruptions.len())
        })?;
        scratch.finish(out)?;
        Ok((self.input.len() - failures.len()) * self.corruptions.len())
    }

    /// `kind.npy` with the severities one after another, and `labels.npy` where there are labels.
    fn arrays(&self, out: &Path, kinds: usize, advance: &mut dyn FnMut(usize) -> Result<()>) -> Result<usize> {
        let scratch = Scratch::new(out)?;
        let (count, levels) = (self.input.len(), self.corruptions.len() / kinds.max(1));
        let [h, w, c] = match self.input {
            Input::Array(array, _) => array.shape(),
            Input::Set(s) => [s.height, s.width, s.channels],
            _ => [0; 3],
        };
        let mut files = kinds;
        // A finished file is flushed to the disk while the next one is computed.
        std::thread::scope(|threads| {
            let mut flushing: Option<std::thread::ScopedJoinHandle<Result<()>>> = None;
            for (number, list) in self.corruptions.chunks(levels).enumerate() {
                let path = scratch.at.join(format!("{}.npy", list[0].kind()));
                let mut writer = NpyWriter::new(&path, &[levels * count, h, w, c])?;
                for (level, corruption) in list.iter().enumerate() {
                    let one = |i: usize| {
                        let bytes = match self.input {
                            Input::Set(s) => s.image(i).to_vec(),
                            Input::Array(array, _) => array.read(i, 1)?,
                            _ => vec![],
                        };
                        if self.jpeg85 {
                            let out = self.one(&self.input.image(i)?, i, number * levels + level)?.into_raw();
                            return Ok(if c == 1 { out.into_iter().skip(1).step_by(3).collect() } else { out });
                        }
                        corrupt_pixels(corruption, &bytes, [h, w, c], self.seed, i as u64)
                    };
                    // Small images go by the dozen, so that handing them over costs nothing beside corrupting them.
                    let batch = (BATCH_BYTES / (h * w * c).max(1)).clamp(1, 64);
                    let job = |b: usize| {
                        let mut all = vec![];
                        for i in b * batch..count.min((b + 1) * batch) {
                            all.extend(one(i)?);
                        }
                        Ok(all)
                    };
                    in_order(count.div_ceil(batch), job, |_, bytes| writer.write(&bytes?))?;
                    advance((number * levels + level + 1) * count)?;
                }
                let before = flushing.replace(threads.spawn(|| writer.finish()));
                before.map_or(Ok(()), flushed)?;
            }
            flushing.map_or(Ok(()), flushed)
        })?;
        let labels = match self.input {
            Input::Set(images) => Some(&images.labels),
            Input::Array(_, own) => own.as_ref().map(|(labels, _)| labels),
            _ => None,
        };
        if let Some(labels) = labels {
            let bytes: Option<Vec<u8>> = labels.iter().map(|&l| u8::try_from(l).ok()).collect();
            let bytes = bytes.ok_or_else(|| Error::invalid("--input", "labels above 255 do not fit the layout"))?;
            let mut writer = NpyWriter::new(&scratch.at.join("labels.npy"), &[levels * count])?;
            (0..levels).try_for_each(|_| writer.write(&bytes))?;
            writer.finish()?;
            files += 1;
        }
        scratch.finish(out)?;
        Ok(files)
    }

    /// The first image under all corruptions.
    fn sheet(&self, image: &RgbImage, levels: usize) -> Result<RgbImage> {
        // Small pictures are enlarged, large ones reduced, to about 128 pixels.
        let side = image.width().max(image.height());
        let fit = |picture: &RgbImage| {
            let scaled = |length: u32| (u64::from(length) * 128 / u64::from(side)).max(1) as u32;
            let (w, h) = (scaled(picture.width()), scaled(picture.height()));
            let filter = if side <= 128 { imageops::FilterType::Nearest } else { imageops::FilterType::Triangle };
            imageops::resize(picture, w, h, filter)
        };
        let clean = fit(image);
        let (w, h) = (clean.width() + 4, clean.height() + 4);
        let rows = self.corruptions.len() / levels.max(1);
        let mut sheet = RgbImage::from_pixel(w * (levels as u32 + 1) + 4, h * rows as u32 + 4, image::Rgb([255; 3]));
        for row in 0..rows {
            let y = i64::from(4 + h * row as u32);
            imageops::replace(&mut sheet, &clean, 4, y);
            for level in 0..levels {
                let picture = fit(&self.one(image, 0, row * levels + level)?);
                imageops::replace(&mut sheet, &picture, i64::from(4 + w * (level as u32 + 1)), y);
            }
        }
        Ok(sheet)
    }
}
