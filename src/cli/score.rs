//! `altiplano score`

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Global;
use super::architectures::Choice;
use super::args::{Sizes, image_info};
use super::inputs::{ReadingArgs, load_data};
use super::place::{FORCE, Outputs, data_place};
use super::progress::{note, say};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::measure::zero_cost::score::{DRAWS, Drawn, Scorer};
use crate::measure::zero_cost::{LOWEST, Proxy, croze};
use crate::nn::bank::Bank;
use crate::nn::space::{Build, Family};
use crate::nn::tensors::{Named, fingerprint, load};
use crate::nn::weights::Weights;
use crate::report::folder::atomic_write;
use crate::report::score_table::{self, ARCH};
use crate::space::Arch;

/// Most draws: each keeps weights of its own for all architectures.
const MOST_DRAWS: u32 = 1024;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    choice: Choice,
    /// Proxies, comma-separated, or all; params and flops are always there.
    #[arg(long, default_value = "all")]
    proxies: String,
    /// Data set whose training images make the batch.
    #[arg(long)]
    data: Option<String>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Weights (safetensors, the authors' names) instead of fresh ones.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// A batch: `x` f32 N,C,H,W, normalised; `y` i64.
    #[arg(long, conflicts_with = "data")]
    batch: Option<PathBuf>,
    /// Images in the batch that is taken from the data.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Form of the network (`altiplano space list`); by default that of the weights, else tiny.
    #[arg(long)]
    network: Option<String>,
    /// Draws of weights of which swap and snap take the mean; published are 32.
    #[arg(long, default_value_t = DRAWS)]
    draws: u32,
    /// Architectures that are scored side by side.
    #[arg(long, default_value_t = 8)]
    population: usize,
    /// Where the scores go, as CSV.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Goes on with a file of scores that was begun.
    #[arg(long, requires = "out")]
    resume: bool,
    /// A CSV file for what croze, croze_compat, croze_mean and conjs find in each layer: parameters, gradients, features.
    #[arg(long)]
    explain: Option<PathBuf>,
    /// Replaces the files of --out and --explain.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
}

#[derive(Serialize)]
struct Row {
    arch: String,
    seconds: f64,
    #[serde(flatten)]
    scores: BTreeMap<&'static str, f64>,
}

/// What must be the same for rows of one file.
#[derive(Serialize, Deserialize)]
struct Settings {
    version: String,
    seed: u64,
    space: String,
    build: Build,
    images: usize,
    #[serde(default = "draws_before")]
    draws: u32,
    /// Marks of the batch and of given weights, see [`fingerprint`].
    batch: String,
    weights: Option<String>,
    device: String,
    #[serde(default)]
    driver: String,
}

/// What stands for draws in a file from before there were any.
fn draws_before() -> u32 {
    DRAWS
}

impl Settings {
    /// The first setting that differs, with both values.
    fn difference(&self, other: &Self) -> Option<String> {
        let value = |settings| serde_json::to_value(settings).unwrap_or_default();
        let (there, here) = (value(self), value(other));
        let keys = here.as_object()?.keys();
        let differing = keys.filter(|key| there.get(key) != here.get(key));
        let text = |value: Option<&serde_json::Value>| value.map_or("nothing".into(), ToString::to_string);
        differing.map(|key| format!("{key}: {} then, {} now", text(there.get(key)), text(here.get(key)))).next()
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    if args.sizes.space.is_some() {
        args.sizes.space(global)?;
    }
    let proxies = Proxy::list(&args.proxies)?;
    if args.population == 0 {
        return Err(Error::invalid("--population", "0; at least 1 architecture at a time"));
    }
    if !(1..=MOST_DRAWS).contains(&args.draws) {
        return Err(Error::invalid("--draws", format!("{}; expected 1 to {MOST_DRAWS}", args.draws)));
    }
    check_places(args)?;
    let weights = args.weights.as_deref().map(Weights::read).transpose()?;
    weights.iter().flat_map(|weights| &weights.notes).for_each(|text| note(global, &format!("--weights: {text}")));
    let (family, seen) = seen(global, args, weights.as_ref())?;
    let archs = args.choice.architectures(&*family, global.seed)?;
    let (gpu, preset) = global.gpu()?;
    let (batch, range) = match seen {
        Seen::Batch(named) => (named, vec![]),
        Seen::Data(data) => {
            let input = family.build.input();
            let drawn = Drawn::new(&data.train, args.batch_size, global.seed)?;
            let (batch, range) = (drawn.batch_wait(&gpu, preset, input)?, drawn.range());
            let labels = batch.get("y").map_or(&[][..], |y| &y.data);
            let present: HashSet<u32> = labels.iter().map(|&label| label as u32).collect();
            let classes = family.build.classes;
            if present.len() < classes {
                let missing = classes - present.len();
                log::info!("{missing} of {classes} classes have no image in the batch; epe_nas leaves them out");
            }
            (batch, range)
        }
    };
    let images = batch.get("x").and_then(|x| x.dims.first().copied()).unwrap_or(0);
    let settings = Settings {
        version: env!("CARGO_PKG_VERSION").into(),
        seed: global.seed,
        space: family.name().to_owned(),
        build: family.build.clone(),
        images,
        draws: args.draws,
        batch: fingerprint(&batch),
        weights: weights.as_ref().map(|weights| fingerprint(&weights.named)),
        device: gpu.report().name.clone(),
        driver: gpu.report().driver.clone(),
    };
    let weights = weights.map_or_else(|| Bank::fresh(global.seed), |weights| Bank::given(weights.named));
    let draws = (0..args.draws).map(|draw| Bank::normal(global.seed, draw)).collect();
    let scorer = Scorer { gpu, preset, family, seed: global.seed, batch, weights, range, draws, zen: None };
    scorer.check(&proxies)?;
    let mut table = args.out.as_deref().map(|path| Table::open(path, args, &settings, &proxies)).transpose()?;
    if let Some(path) = &args.explain {
        explain(path, &scorer, &archs, &proxies, args.population)?;
    }
    let todo: Vec<Arch> = match &table {
        Some(table) => archs.iter().filter(|arch| !table.done.contains(&scorer.family.show(arch))).cloned().collect(),
        None => archs.clone(),
    };
    let mut rows = vec![];
    let start = Instant::now();
    for (number, some) in todo.chunks(args.population).enumerate() {
        let began = Instant::now();
        let scores = scorer.score(some, &proxies)?;
        let seconds = began.elapsed().as_secs_f64() / some.len() as f64;
        for (arch, scores) in some.iter().zip(scores) {
            let scores = scores.into_iter().map(|(proxy, value)| (proxy.name(), value)).collect();
            let row = Row { arch: scorer.family.show(arch), seconds, scores };
            if let Some(table) = &mut table {
                table.append(&row, &proxies)?;
            }
            rows.push(row);
        }
        if !global.quiet {
            let done = (number * args.population + some.len()).min(todo.len());
            let rate = done as f64 / start.elapsed().as_secs_f64();
            let left = (todo.len() - done) as f64 / rate;
            say(&format!("{done} of {} architectures, {rate:.2} per second, {left:.0} s left", todo.len()));
        }
    }
    for proxy in proxies.iter().map(|proxy| proxy.name()) {
        let lost = rows.iter().filter(|row| row.scores.get(proxy) == Some(&LOWEST)).count();
        if lost > 0 {
            let of = rows.len();
            let why = "their gradients are zero, or numbers leave the range of f32";
            note(global, &format!("{proxy}: {lost} of {of} networks have the lowest score ({LOWEST:e}): {why}"));
        }
    }
    let skipped = archs.len() - todo.len();
    global.print(&rows, || match (&args.out, rows.len()) {
        (Some(path), n) => format!("{n} architectures scored, {skipped} were there already: {}", path.display()),
        _ => text_table(&scorer.family, &rows, &proxies),
    })
}

/// Columns of what `--explain` writes.
const EXPLAINED: [&str; 8] = ["arch", "proxy", "layer", "feature", "parameters", "gradients", "features", "term"];

/// Looks whether the outputs can be written. With `--resume`, files of the run that is gone on with may be there.
fn check_places(args: &Args) -> Result<()> {
    let batch = args.batch.as_deref();
    let data = args.data.as_deref().and_then(data_place);
    let mut outputs = Outputs::new(&[args.choice.archs.as_deref(), data, args.weights.as_deref(), batch]);
    let refuse = (!args.force && !args.resume).then_some("--resume goes on with it, --force replaces it");
    outputs.file("--out", args.out.as_deref(), &["csv"], refuse)?;
    outputs.file("the settings of --out", args.out.as_deref().map(settings_beside).as_deref(), &[], refuse)?;
    let begun = |path: &PathBuf| {
        let first = std::fs::read_to_string(path).unwrap_or_default();
        args.resume && first.lines().next() == Some(EXPLAINED.join(",").as_str())
    };
    let refuse = (!args.force && !args.explain.as_ref().is_some_and(begun)).then_some(FORCE);
    outputs.file("--explain", args.explain.as_deref(), &["csv"], refuse)
}

/// Where the settings of a file of scores stand.
fn settings_beside(path: &Path) -> PathBuf {
    path.with_extension("settings.json")
}

/// Writes the terms of the proxies that are sums over layers.
fn explain(path: &Path, scorer: &Scorer, archs: &[Arch], proxies: &[Proxy], population: usize) -> Result<()> {
    if !proxies.iter().any(|p| croze::SUMS.contains(p)) {
        let names = croze::SUMS.map(Proxy::name).join(", ");
        return Err(Error::invalid("--explain", format!("none of {names} is among the proxies")));
    }
    let mut table = csv::Writer::from_writer(vec![]);
    let bad = |e: csv::Error| Error::file(path, None, e.to_string());
    table.write_record(EXPLAINED).map_err(bad)?;
    for some in archs.chunks(population) {
        for (proxy, lists) in croze::terms(scorer, some, proxies)? {
            for (arch, terms) in some.iter().zip(lists) {
                for t in terms {
                    let feature = t.feature.map_or_else(|| "own".to_owned(), |f| f.to_string());
                    let figures = [t.parameters, t.gradients, t.features, t.term].map(|v| v.to_string());
                    let names = [scorer.family.show(arch), proxy.name().to_owned(), t.layer, feature];
                    table.write_record(names.iter().chain(&figures)).map_err(bad)?;
                }
            }
        }
    }
    let bytes = table.into_inner().map_err(|e| Error::file(path, None, e.to_string()))?;
    atomic_write(path, &bytes)
}

fn text_table(family: &Family, rows: &[Row], proxies: &[Proxy]) -> String {
    let mut text = String::from("arch  ");
    for proxy in proxies {
        let _ = write!(text, " {:>13}", proxy.name());
    }
    text.push_str("       seconds\n");
    for row in rows {
        let arch = family.parse(&row.arch).map_or_else(|_| row.arch.clone(), |arch| family.abbreviate(&arch));
        text.push_str(&arch);
        for proxy in proxies {
            let value = row.scores.get(proxy.name()).copied().unwrap_or(f64::NAN);
            let _ = if value.fract() == 0.0 && value.abs() < 1e12 {
                write!(text, " {value:>13}")
            } else {
                write!(text, " {value:>13.6}")
            };
        }
        let _ = writeln!(text, " {:>13.3}", row.seconds);
    }
    text
}

/// What networks see.
enum Seen {
    Batch(Named),
    Data(Box<Dataset>),
}

/// What networks see, and networks that fit.
fn seen(global: &Global, args: &Args, weights: Option<&Weights>) -> Result<(Family, Seen)> {
    let form = args.network.as_deref();
    if let Some(path) = &args.batch {
        let (named, _) = load(path)?;
        let x = named.get("x").ok_or_else(|| Error::file(path, None, "there is no tensor `x`"))?;
        let [_, c, h, w] = x.dims[..] else {
            return Err(Error::file(path, None, format!("`x` has axes {:?}, expected N, C, H, W", x.dims)));
        };
        return Ok((args.sizes.for_weights(global, weights, form, Some([h, w, c]))?, Seen::Batch(named)));
    }
    let Some(name) = &args.data else {
        return Err(Error::invalid("--data", "no images; give --data, or a batch of tensors by --batch"));
    };
    let data = load_data(global, name, &args.reading.reading())?;
    let space = args.sizes.space_for(global, weights)?;
    let mut build = args.sizes.described(&**space, &image_info(&data), weights, form)?;
    build.image = [data.train.height, data.train.width];
    Ok((args.sizes.for_data(space, &data, build)?, Seen::Data(Box::new(data))))
}

/// A CSV file that grows row by row, with a file beside it that says what the rows were made with.
struct Table {
    path: PathBuf,
    file: std::fs::File,
    done: HashSet<String>,
}

impl Table {
    fn open(path: &Path, args: &Args, settings: &Settings, proxies: &[Proxy]) -> Result<Self> {
        let beside = settings_beside(path);
        let json = |e: serde_json::Error| Error::file(&beside, None, e.to_string());
        let header = header(proxies);
        let mut done = HashSet::new();
        if args.resume && path.exists() {
            let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
            let known = std::fs::read_to_string(&beside).map_err(Error::io("read", &beside))?;
            let known: Settings = serde_json::from_str(&known).map_err(|e| {
                Error::file(&beside, None, format!("is of another version, or damaged ({e}); use another --out"))
            })?;
            if let Some(differs) = known.difference(settings) {
                return Err(Error::file(
                    path,
                    None,
                    format!("was made with other settings: {differs}; use another --out"),
                ));
            }
            // A torn last line has no end.
            let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
            let table = score_table::Table::parse(path, whole.as_bytes())?;
            if table.header().join(",") != header {
                return Err(Error::file(path, Some(0), format!("has other columns; expected {header}")));
            }
            done = table.find(ARCH).map(|column| table.texts(column)).unwrap_or_default().into_iter().collect();
            atomic_write(path, whole.as_bytes())?;
        } else {
            let settings = serde_json::to_string_pretty(settings).map_err(json)?;
            // Rows must never stand beside settings that are not theirs, whenever this is killed.
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(error));
                }
                _ => {}
            }
            atomic_write(&beside, settings.as_bytes())?;
            atomic_write(path, format!("{header}\n").as_bytes())?;
        }
        let file = std::fs::OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Table { path: path.to_owned(), file, done })
    }

    fn append(&mut self, row: &Row, proxies: &[Proxy]) -> Result<()> {
        let score = |proxy: &Proxy| row.scores.get(proxy.name()).copied().unwrap_or(f64::NAN).to_string();
        let fields = [row.arch.clone()].into_iter().chain(proxies.iter().map(score));
        // Names may hold commas and quotes.
        let mut line = csv::Writer::from_writer(vec![]);
        line.write_record(fields.chain([format!("{:.4}", row.seconds)]))
            .map_err(|e| Error::file(&self.path, None, e.to_string()))?;
        let line = line.into_inner().map_err(|e| Error::file(&self.path, None, e.to_string()))?;
        self.file.write_all(&line).map_err(Error::io("write", &self.path))
    }
}

fn header(proxies: &[Proxy]) -> String {
    let mut header = String::from("arch");
    proxies.iter().for_each(|proxy| header.extend([",", proxy.name()]));
    header + ",seconds"
}
