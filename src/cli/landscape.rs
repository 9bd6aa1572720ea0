//! `altiplano landscape`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Global;
use super::inputs::ReadingArgs;
use super::model::{ModelArgs, Trained, check_loss, read_as};
use super::place::{FORCE, Outputs, data_place};
use super::progress::{Display, note};
use crate::data::npy::write_npy_f32;
use crate::data::{Identity, Images};
use crate::error::{Error, Result, unknown};
use crate::graph::store::Contents;
use crate::graph::{Role, Statistics};
use crate::measure::forward::{Score, by_chunk, graph};
use crate::measure::landscape::{OneAxis, direction, scores_wait};
use crate::progress::{Event, tell};
use crate::report::chart::{Axis, Chart, Marks, Series};
use crate::report::folder::atomic_write;
use crate::report::surface::{Scale, Surface, pixels, surfaces};
use crate::report::svg::Place;
use crate::train::stores::Stores;
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

/// The file that holds everything, from which reports draw it.
pub(super) const FILE: &str = "landscape.json";
/// Images in a batch.
const BATCH: usize = 64;
/// Most places on a side.
const MOST: usize = 201;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Another model to show on the same scale, with directions of the same seed: SGD's network beside SAM's. May be given several
    /// times; each says what it is.
    #[arg(long, value_name = "MODEL")]
    beside: Vec<PathBuf>,
    /// `digits`, or a folder or archive.
    #[arg(long)]
    data: String,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Which images: test or train.
    #[arg(long, default_value = "test")]
    on: String,
    /// Images to use at most, the first ones; 0 for all.
    #[arg(long, default_value_t = 500)]
    images: usize,
    /// Places on a side, an odd number, so that the network itself is one.
    #[arg(long, default_value_t = 25)]
    size: usize,
    /// How far to go to both sides: 1 is as far as the weights are long.
    #[arg(long, default_value_t = 1.0)]
    range: f64,
    /// Along two directions, or along the first alone.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    dimensions: u8,
    /// What directions are in biases and norms, which have no filters: still (they stay as they are) or weights (they change as the
    /// others do).
    #[arg(long, default_value = "still")]
    one_axis: String,
    /// Folder for the pictures and the numbers.
    #[arg(long)]
    out: PathBuf,
    /// Replace what an earlier call left in the folder.
    #[arg(long)]
    force: bool,
}

/// What is known of one model.
#[derive(Serialize, Deserialize)]
pub(super) struct Around {
    /// Its file.
    pub model: Identity,
    /// Of the network itself.
    pub own: Score,
    /// Row by row, the second direction upwards; JSON has null for a loss that is no number.
    pub losses: Vec<Vec<Option<f64>>>,
    /// Shares of images that are right, in the same order.
    pub accuracies: Vec<Vec<f64>>,
}

/// Everything.
#[derive(Serialize, Deserialize)]
pub(super) struct Landscape {
    pub data: Identity,
    pub on: String,
    pub images: usize,
    pub seed: u64,
    pub one_axis: String,
    /// Steps of a direction.
    pub places: Vec<f64>,
    /// Lowest and highest loss of all.
    pub min: f64,
    pub max: f64,
    pub models: Vec<Around>,
}

impl Landscape {
    /// Names of the models, which tell them apart.
    fn names(&self) -> Vec<String> {
        let path = |around: &Around| PathBuf::from(&around.model.path);
        let name = |path: &Path| path.file_stem().map_or(String::new(), |name| name.to_string_lossy().into_owned());
        let short: Vec<String> = self.models.iter().map(|around| name(&path(around))).collect();
        let same = (1..short.len()).any(|i| short[..i].contains(&short[i]));
        match same {
            // Models of runs are called the same, and their folders are not.
            true => self.models.iter().map(|around| path(around).parent().map_or(String::new(), name)).collect(),
            false => short,
        }
    }

    /// The surfaces, if there are two directions.
    pub fn surfaces(&self, place: Place) -> Option<String> {
        let all = self.heights();
        let is_wide = self.models.iter().all(|around| around.losses.len() > 1);
        is_wide.then(|| {
            let title = format!("loss around the network, {} {} images", self.images, self.on);
            surfaces(&title, ["first direction", "second direction"], &self.places, &all, place)
        })
    }

    fn heights(&self) -> Vec<Surface> {
        let heights = |around: &Around| -> Vec<Vec<f64>> {
            around.losses.iter().map(|row| row.iter().map(|loss| loss.unwrap_or(f64::NAN)).collect()).collect()
        };
        let all = self.names().into_iter().zip(&self.models);
        all.map(|(name, around)| Surface { name, heights: heights(around) }).collect()
    }

    /// The loss along the first direction, through the network itself.
    pub fn curve(&self) -> Chart {
        let line = |(ink, surface): (usize, Surface)| {
            let middle = surface.heights.get(surface.heights.len() / 2).cloned().unwrap_or_default();
            let points = self.places.iter().zip(middle).map(|(at, height)| [*at, height]);
            Series::new(surface.name, ink, Marks::Line(points.collect()))
        };
        let series: Vec<Series> = self.heights().into_iter().enumerate().map(line).collect();
        let x = Axis { label: "first direction, in lengths of the weights".to_owned(), ..Axis::default() };
        let y = Axis { label: "loss".to_owned(), is_log: self.min > 0.0, ..Axis::default() };
        Chart { title: format!("loss along a direction, {} {} images", self.images, self.on), x, y, series }
    }
}

/// The options that need a look, as what they mean.
fn checked(args: &Args) -> Result<OneAxis> {
    if args.size < 3 || args.size > MOST || args.size.is_multiple_of(2) {
        let why = format!("is {}, expected an odd number from 3 to {MOST}", args.size);
        return Err(Error::invalid("--size", why));
    }
    if !args.range.is_finite() || args.range <= 0.0 || args.range > 1e3 {
        return Err(Error::invalid("--range", format!("is {}, expected a number above 0, such as 1", args.range)));
    }
    if !["test", "train"].contains(&args.on.as_str()) {
        return Err(unknown("--on", &args.on, &["test", "train"]));
    }
    match args.one_axis.as_str() {
        "still" => Ok(OneAxis::Still),
        "weights" => Ok(OneAxis::Weights),
        other => Err(unknown("--one-axis", other, &["still", "weights"])),
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let one_axis = checked(args)?;
    let models: Vec<ModelArgs> =
        std::iter::once(args.model.clone()).chain(args.beside.iter().map(|path| args.model.of(path))).collect();
    let mut inputs: Vec<Option<&Path>> = models.iter().map(|model| Some(model.model.as_path())).collect();
    inputs.push(data_place(&args.data));
    let there = args.out.join(FILE).exists() && !args.force;
    let mut outputs = Outputs::new(&inputs);
    outputs.folder("--out", &args.out, there.then_some(FORCE))?;
    if args.out.exists() && !args.out.join(FILE).exists() && !is_empty(&args.out)? {
        let why = format!("{} holds something else; choose another place", args.out.display());
        return Err(Error::invalid("--out", why));
    }
    let data = args.model.load_data(global, &args.data, &args.reading)?;
    let all = match args.on.as_str() {
        "train" => &data.train,
        _ => data.test.reveal_for_final_evaluation(),
    };
    let count = if args.images == 0 { all.len() } else { args.images.min(all.len()) };
    let images = all.select(&(0..count).collect::<Vec<_>>());
    let middle = (args.size / 2) as f64;
    let places: Vec<f64> = (0..args.size).map(|i| args.range * (i as f64 - middle) / middle).collect();
    let mut display = Display::new(global)?;
    let mut around = vec![];
    for (number, model) in models.iter().enumerate() {
        let read = read_as(&model.model)?;
        if read.has_sides() && !read.does_as(&data.reading) {
            let why = format!(
                "{}: its pictures were read otherwise ({read}) than those that are looked at ({})",
                model.model.display(),
                data.reading
            );
            note(global, &why);
        }
        let trained = model.open(global, &data)?;
        let share = |part: f64| (number as f64 + part) / models.len() as f64;
        let event = Event::Stage { name: "evaluating networks around", units: 1000, from: share(0.0), to: share(1.0) };
        tell(&mut |event| display.event(event), event)?;
        let mut report = |done: f64| {
            tell(
                &mut |event| display.event(event),
                Event::Advance { done: (1000.0 * done) as u64, note: String::new() },
            )
        };
        around.push(one(global, args, (model, &trained), &images, (&places, one_axis), &mut report)?);
    }
    display.finish();
    let mut landscape = Landscape {
        data: data.identity()?,
        on: args.on.clone(),
        images: count,
        seed: global.seed,
        one_axis: args.one_axis.clone(),
        places,
        min: 0.0,
        max: 0.0,
        models: around,
    };
    [landscape.min, landscape.max] = Scale::of(&landscape.heights()).ends();
    let files = write(&landscape, &args.out)?;
    global.print(&landscape, || text(&landscape, &files))
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder).map_err(Error::io("read", folder))?.next().is_none())
}

/// One model on the images.
fn one(
    global: &Global,
    args: &Args,
    (file, trained): (&ModelArgs, &Trained),
    images: &Images,
    (places, one_axis): (&[f64], OneAxis),
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Around> {
    let Trained { model, named, statistics } = trained;
    let (gpu, preset) = global.gpu()?;
    let supply = Supply::new(&gpu, images)?;
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics };
    let most = by_chunk(BATCH, &[&**model]).into_keys().next().unwrap_or(1);
    let batch = images.len().clamp(1, most);
    let pass = graph(&**model, batch, Statistics::Running)?;
    let stores = Stores::new(&gpu, &pass, 1)?;
    stores.load(0, named)?;
    let weights = Contents::of(&pass, &[Role::Weights])?;
    // A network without norms has no statistics, and nothing asks for them.
    let running = stores.of(Role::Running).or_else(|_| stores.of(Role::Weights))?.clone();
    let of = |number| direction(named, weights.entries.keys().map(String::as_str), global.seed, number, one_axis);
    let directions = [of(0)?, of(1)?];
    let rows: &[f64] = if args.dimensions == 1 { &[0.0] } else { places };
    let all: Vec<Vec<f64>> = rows.iter().flat_map(|y| places.iter().map(move |x| vec![*x, *y])).collect();
    let list: Vec<usize> = (0..images.len()).collect();
    let trained: BTreeMap<_, _> = named
        .iter()
        .filter(|(name, _)| weights.entries.contains_key(*name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    let scores = scores_wait(&setting, (&pass, batch), (&trained, &(running, 0)), &directions, &all, &list, report)?;
    let own = scores.get(scores.len() / 2).copied().unwrap_or_default();
    check_loss(own, "the weights as they are")?;
    let row = |scores: &[Score]| scores.iter().map(|score| Some(score.loss).filter(|loss| loss.is_finite())).collect();
    Ok(Around {
        model: Identity::of_file(&file.model)?,
        own,
        losses: scores.chunks(places.len()).map(row).collect(),
        accuracies: scores.chunks(places.len()).map(|row| row.iter().map(|score| score.accuracy).collect()).collect(),
    })
}

/// Writes numbers and pictures; their names.
fn write(landscape: &Landscape, out: &Path) -> Result<Vec<&'static str>> {
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let mut files = vec!["landscape.npy", "curve.svg"];
    let heights = landscape.heights();
    let values: Vec<f32> = heights.iter().flat_map(|own| own.heights.iter().flatten().map(|v| *v as f32)).collect();
    let rows = heights.first().map_or(0, |own| own.heights.len());
    write_npy_f32(&out.join(files[0]), &[heights.len(), rows, landscape.places.len()], &values)?;
    atomic_write(out.join(files[1]), landscape.curve().svg(Place::File).as_bytes())?;
    if let Some(svg) = landscape.surfaces(Place::File) {
        atomic_write(out.join("landscape.svg"), svg.as_bytes())?;
        atomic_write(out.join("landscape.png"), &png(&heights)?)?;
        files.extend(["landscape.svg", "landscape.png"]);
    }
    let json = serde_json::to_vec_pretty(landscape).map_err(|e| Error::invalid(FILE, e.to_string()))?;
    atomic_write(out.join(FILE), &json)?;
    files.push(FILE);
    Ok(files)
}

fn png(heights: &[Surface]) -> Result<Vec<u8>> {
    let (width, height, bytes) = pixels(heights);
    let fail = |why: String| Error::invalid("landscape.png", why);
    let image = image::RgbImage::from_raw(width as u32, height as u32, bytes)
        .ok_or_else(|| fail("its rows are of different lengths".to_owned()))?;
    let mut file = std::io::Cursor::new(vec![]);
    image.write_to(&mut file, image::ImageFormat::Png).map_err(|e| fail(e.to_string()))?;
    Ok(file.into_inner())
}

fn text(landscape: &Landscape, files: &[&str]) -> String {
    let Landscape { images, on, min, max, .. } = landscape;
    let line = |(name, around): (String, &Around)| {
        let all: Vec<f64> = around.losses.iter().flatten().map(|loss| loss.unwrap_or(f64::INFINITY)).collect();
        let within = all.iter().filter(|loss| **loss <= 2.0 * around.own.loss).count();
        format!(
            "{name}: loss {:.4} itself, highest {:.4}; {:.0} % of the places have no more than twice its own\n",
            around.own.loss,
            all.iter().copied().fold(0.0, f64::max),
            100.0 * within as f64 / all.len().max(1) as f64
        )
    };
    let lines: String = landscape.names().into_iter().zip(&landscape.models).map(line).collect();
    format!("{images} {on} images, losses from {min:.4} to {max:.4}\n{lines}{}", files.join(", "))
}
