//! `altiplano corrupt`

mod font;
mod input;
mod job;
pub(super) mod manifest;
mod sheet;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Global;
use super::pictures::{Pictures, choose_kinds, choose_severities};
use super::place::{FORCE, Outputs, Scratch, data_place};
use super::progress::{Display, say};
use crate::corrupt::Severity;
use crate::data::{Unusable, is_other_picture, is_picture};
use crate::error::{Error, Result, path_text};
use crate::measure::corruption::grid;
use crate::progress::{Event, tell};
use crate::report::folder::atomic_write;
use input::Input;
use job::{Job, encode};
use manifest::{Run, Settings, Target};

/// Endings of pictures that are written.
const PICTURES: [&str; 3] = ["png", "jpg", "jpeg"];

#[derive(clap::Args)]
pub(super) struct Args {
    /// An image, a folder of images (its tree is kept), a .npy file of N x H x W or N x H x W x 3 bytes, or a data set, whose
    /// test images are taken. Of a folder, hidden files and files that are no pictures by their names are passed over;
    /// links to files are followed, links to folders are not.
    #[arg(long)]
    input: String,
    /// File (one image, one kind, one severity; .png, .jpg or .jpeg) or folder for results; must not exist.
    #[arg(long)]
    out: PathBuf,
    /// main, all, or names with commas between.
    #[arg(long, default_value = "main")]
    kind: String,
    /// Severities, such as 3, 1-5 or 1,3. Arrays and data sets get all five, as in CIFAR-10-C.
    #[arg(long, default_value = "1-5")]
    severity: String,
    #[command(flatten)]
    pictures: Pictures,
    /// As if each result had been stored as a JPEG of quality 85, as in ImageNet-C; files stay free of loss.
    #[arg(long)]
    jpeg85: bool,
    /// Also a contact sheet (PNG or JPEG) of the first image: corruptions down, clean and severities across.
    #[arg(long)]
    sheet: Option<PathBuf>,
    /// Replace what this command wrote before, kind by kind and severity by severity; anything else is left alone, and
    /// refused where it is in the way.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    images: usize,
    /// Files that could not be used, relative to the input.
    failed: Vec<Unusable>,
    files: usize,
    results: usize,
    seconds: f64,
    images_per_second: f64,
    /// Null if no image could be used.
    constants: Option<&'static str>,
    /// Where frost comes from, if there is frost.
    frost: Option<String>,
    kinds: Vec<&'static str>,
    severities: Vec<u8>,
}

/// The layout of CIFAR-10-C has no place for some of the severities.
fn check_array(severities: &[Severity]) -> Result<()> {
    if severities == Severity::ALL {
        return Ok(());
    }
    let why = "arrays and data sets are written in the layout of CIFAR-10-C, which has all five severities in a file; \
               leave --severity out, or give pictures in a folder";
    Err(Error::invalid("--severity", why))
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let start = std::time::Instant::now();
    let kinds = choose_kinds("--kind", &args.kind, false)?;
    let severities = choose_severities("--severity", &args.severity)?;
    args.pictures.check()?;
    let picture = Path::new(&args.input);
    let named = is_picture(&args.out) || is_other_picture(&args.out).is_some();
    let single = kinds.len() * severities.len() == 1
        && named
        && args.input != "digits"
        && picture.is_file()
        && is_picture(picture);
    let refuse = (!args.force).then_some(FORCE);
    let mut outputs = Outputs::new(&[data_place(&args.input), args.pictures.frost.as_deref()]);
    if single {
        outputs.file("--out", Some(&args.out), &PICTURES, refuse)?;
    } else {
        outputs.folder("--out", &args.out, refuse)?;
    }
    outputs.file("--sheet", args.sheet.as_deref(), &PICTURES, refuse)?;
    let input = Input::find(&args.input, &args.out, || check_array(&severities))?;
    let mut failed = match &input {
        Input::Tree(_, tree) => tree.unusable.clone(),
        _ => vec![],
    };
    let all = input.len() + failed.len();
    let mut answer = Answer {
        images: 0,
        failed: vec![],
        files: 0,
        results: 0,
        seconds: 0.0,
        images_per_second: 0.0,
        constants: None,
        frost: None,
        kinds: kinds.iter().map(|k| k.name()).collect(),
        severities: severities.iter().map(|s| s.get()).collect(),
    };
    match input.first()? {
        Err(bad) => failed.extend(bad),
        Ok((number, first)) => {
            let constants = args.pictures.constants(first.width().max(first.height()) as usize)?;
            let frost = args.pictures.frost(&kinds, constants)?;
            let corruptions = grid(&kinds, &severities, constants, frost.as_ref());
            // Without a word from the user the table follows from the size, which may differ within a folder.
            let by_size = args.pictures.constants.is_none().then_some(constants);
            let job = Job { input: &input, corruptions: &corruptions, jpeg85: args.jpeg85, seed: global.seed, by_size };
            answer.constants = Some(constants.name());
            answer.frost = corruptions.iter().find_map(|c| c.frost_source()).map(|s| s.to_string());
            let settings = Settings {
                seed: global.seed,
                constants: constants.name().into(),
                jpeg85: args.jpeg85,
                images: input.identity(&first),
            };
            let new = |groups, names| Run { settings, frost: answer.frost.clone(), groups, names };
            let mut display = Display::new(global)?;
            let units = (input.len() * corruptions.len()) as u64;
            let mut observer = |event: &Event| display.event(event);
            tell(&mut observer, Event::Stage { name: "corrupting", units, from: 0.0, to: 1.0 })?;
            let mut advance = |done| tell(&mut observer, Event::Advance { done: done as u64, note: String::new() });
            answer.files = if single {
                atomic_write(&args.out, &encode(&job.one(&first, number, 0)?, &args.out, 95)?)?;
                1
            } else if input.shape().is_some() {
                let files = job.files();
                let target = Target::new(&args.out, new(files.clone(), vec![String::new()]))?;
                let scratch = Scratch::new(&args.out)?;
                job.arrays(&scratch.at, kinds.len(), &mut advance)?;
                target.fill(&scratch, vec![String::new()])?;
                files.len()
            } else {
                let names = (0..input.len()).filter_map(|i| input.result(i).ok()).collect();
                let target = Target::new(&args.out, new(job.folders(), names))?;
                let scratch = Scratch::new(&args.out)?;
                let (names, bad) = job.tree(&scratch.at, &mut advance)?;
                failed.extend(bad);
                let files = names.len() * corruptions.len();
                if files > 0 {
                    target.fill(&scratch, names)?;
                }
                files
            };
            if let Some(path) = &args.sheet {
                atomic_write(path, &encode(&sheet::draw(&job, &first, number, severities.len())?, path, 80)?)?;
            }
            display.finish();
            answer.images = all - failed.len();
            answer.results = answer.images * corruptions.len();
        }
    }
    failed.sort();
    failed.iter().for_each(|bad| say(&format!("bad file: {}: {}", path_text(&bad.file), bad.why.replace('\n', " "))));
    answer.seconds = start.elapsed().as_secs_f64();
    answer.images_per_second = answer.results as f64 / answer.seconds;
    answer.failed = failed;
    if answer.images > 0 || global.json {
        global.print(&answer, || answer.text(&args.out))?;
    }
    match answer.failed.len() {
        0 => Ok(()),
        failed => Err(Error::Incomplete { failed, all }),
    }
}

impl Answer {
    fn text(&self, out: &Path) -> String {
        let frost = self.frost.as_ref().map(|f| format!(", frost {f}")).unwrap_or_default();
        format!(
            "{} images, {} corrupted ones in {} files ({:.0} per second; constants {}{frost})\n{}\n",
            self.images,
            self.results,
            self.files,
            self.images_per_second,
            self.constants.unwrap_or("none"),
            out.display()
        )
    }
}
