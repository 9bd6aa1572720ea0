//! `altiplano evaluate`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Global;
use super::baseline::{Against, Baseline, Own};
use super::corrupt::manifest::Manifest;
use super::inputs::ReadingArgs;
use super::model::{ModelArgs, Trained, check_loss};
use super::pictures::{Pictures, choose_kinds, choose_severities};
use super::place::{FORCE, Outputs, data_place};
use super::progress::Display;
use crate::corrupt::{Constants, Corruption, Kind};
use crate::data::resize::is_larger;
use crate::data::{Identity, Reading};
use crate::error::{Error, Result};
use crate::graph::{Role, Statistics};
use crate::measure::attack::{Attack, Attacked, Attacker, suspicions};
use crate::measure::corruption::{CorruptedSet, Origin, Scores, evaluate_wait, grid};
use crate::measure::forward::{Score, Subject, graph};
use crate::progress::{Event, tell};
use crate::report::folder::atomic_write;
use crate::report::heat_map::heat_map;
use crate::report::svg::Place;
use crate::train::stores::Stores;
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// `digits`, or a folder or archive; its test images are used.
    #[arg(long)]
    data: String,
    #[command(flatten)]
    reading: ReadingArgs,
    /// main (the 15 that means are taken over), all (19), none, or names with commas between.
    #[arg(long, default_value = "main")]
    corruptions: String,
    /// Severities, such as 1-5 or 1,3.
    #[arg(long, default_value = "1-5")]
    severities: String,
    /// Attacks with commas between: fgsm:EPS, pgd:EPS:STEPS[:STEP[:RESTARTS]], apgd:EPS:STEPS[:RESTARTS], such as
    /// fgsm:8/255,pgd:8/255:10. Lengths are those of pixels in 0..1.
    #[arg(long, value_delimiter = ',')]
    attacks: Vec<String>,
    /// Folder with corrupted images in CIFAR-10-C's layout, instead of making them.
    #[arg(long)]
    corrupted: Option<PathBuf>,
    /// Corrupt images after they were made as large as the network sees them, with the same constants (FlatNAS's authors' protocol; not
    /// comparable to published figures).
    #[arg(long, conflicts_with = "corrupted")]
    resize_first: bool,
    #[command(flatten)]
    pictures: Pictures,
    /// Images to use at most; all if left out.
    #[arg(long)]
    images: Option<usize>,
    /// What `evaluate --json` printed for a baseline; gives mCE and relative mCE.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Also write the table as CSV; attacks stand in it with severity 0 and the worst loss.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Also draw the table (SVG).
    #[arg(long)]
    heatmap: Option<PathBuf>,
    /// Replace the files of --csv and --heatmap.
    #[arg(long)]
    force: bool,
}

#[derive(Serialize)]
struct Answer {
    /// The model and the data.
    inputs: BTreeMap<&'static str, Identity>,
    /// How the pictures of the data were read.
    #[serde(skip_serializing_if = "Reading::is_as_found")]
    reading: Reading,
    images: usize,
    clean: Score,
    severities: Vec<u8>,
    /// Accuracy of each kind at the severities.
    corruptions: BTreeMap<String, Vec<f64>>,
    /// Loss likewise.
    corruption_losses: BTreeMap<String, Vec<f64>>,
    /// Mean over the 15 main kinds, if all were asked for.
    corruption_accuracy: Option<f64>,
    /// Against the baseline, over the 15 main kinds, if both have them all.
    mce: Option<f64>,
    relative_mce: Option<f64>,
    /// Why one of the two is not given, if a baseline is.
    mce_note: Option<String>,
    /// Where corrupted images came from.
    source: String,
    /// Their table of constants, where it is known.
    constants: Option<String>,
    /// Where frost came from, if there was any, and it is known.
    frost: Option<String>,
    /// By the words that asked for them.
    attacks: BTreeMap<String, Attacked>,
    /// What is suspicious about the attacks.
    suspicions: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let kinds = choose_kinds("--corruptions", &args.corruptions, true)?;
    let severities = choose_severities("--severities", &args.severities)?;
    let attacks: Vec<Attack> = args.attacks.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    if args.images == Some(0) {
        return Err(Error::invalid("--images", "0 images; at least one is needed"));
    }
    args.pictures.check()?;
    let mut outputs = Outputs::new(&[
        Some(&args.model.model),
        data_place(&args.data),
        args.corrupted.as_deref(),
        args.baseline.as_deref(),
        args.pictures.frost.as_deref(),
    ]);
    let refuse = (!args.force).then_some(FORCE);
    outputs.file("--csv", args.csv.as_deref(), &["csv"], refuse)?;
    outputs.file("--heatmap", args.heatmap.as_deref(), &["svg"], refuse)?;
    let baseline = args.baseline.as_deref().map(|path| Ok((path, Baseline::read(path)?))).transpose()?;
    let data = args.model.load_data(global, &args.data, &args.reading)?;
    let reading = data.reading.clone();
    let Trained { model, named, statistics } = args.model.open(global, &data)?;
    let inputs = BTreeMap::from([("data", data.identity()?), ("model", Identity::of_file(&args.model.model)?)]);
    let test = data.test.reveal_for_final_evaluation();
    let count = args.images.unwrap_or(test.len()).min(test.len());
    let images = test.select(&(0..count).collect::<Vec<_>>());
    let constants = args.pictures.constants(images.height.max(images.width))?;
    let set = args
        .corrupted
        .as_ref()
        .map(|folder| CorruptedSet::open(folder, [images.height, images.width, images.channels], images.classes))
        .transpose()?;
    if let Some(set) = &set {
        set.check(&kinds)?;
        let own = set.labels().get(..count);
        if own != Some(&images.labels[..]) {
            let why = "its labels are not those of the test images in --data; the two sets do not belong together";
            return Err(Error::invalid("--corrupted", why));
        }
    }
    let frost = args.pictures.frost(&kinds, constants)?;
    let corruptions = grid(&kinds, &severities, constants, frost.as_ref());
    let [rows, columns, _] = model.input();
    let size = args.resize_first.then_some([rows, columns]);
    if let Some([rows, columns]) = size.filter(|size| !is_larger(*size, [images.height, images.width])) {
        let why = format!(
            "the network sees {rows}x{columns}, which is no more than the images' {}x{}: leave it out",
            images.height, images.width
        );
        return Err(Error::invalid("--resize-first", why));
    }
    let made = Made::find(args, &corruptions, (constants, size))?;
    if let Some((path, base)) = &baseline {
        let (constants, frost) = (made.constants.as_deref(), made.frost.as_deref());
        let data = inputs.get("data");
        base.check(path, &Own { images: count, severities: &severities, constants, frost, data, reading: &reading })?;
    }
    let (gpu, preset) = global.gpu()?;
    let supply = Supply::new(&gpu, &images)?;
    let setting = Setting { gpu: &gpu, preset, data: &supply, statistics: &statistics };
    let batch = count.clamp(1, 64);
    let pass = graph(&*model, batch, Statistics::Running)?;
    let stores = Stores::new(&gpu, &pass, 1)?;
    stores.load(0, &named)?;
    let role = |role| stores.of(role).cloned();
    let weights = role(Role::Weights)?;
    let running = role(Role::Running).unwrap_or_else(|_| weights.clone());
    let subject = Subject { weights: (weights, 0), running: (running, 0), path: vec![] };

    let mut display = Display::new(global)?;
    let corrupting = if corruptions.is_empty() { 0.0 } else { 1.0 / (1.0 + attacks.len() as f64) };
    fn stage(name: &str, units: u64, from: f64, to: f64) -> Event<'_> {
        Event::Stage { name, units, from, to }
    }
    let mut observer = |event: &Event| display.event(event);
    tell(&mut observer, stage("evaluating", corruptions.len() as u64 + 1, 0.0, corrupting))?;
    let origin = match &set {
        Some(set) => Origin::Folder(set),
        None if args.resize_first => Origin::Resized { seed: global.seed },
        None => Origin::Made { seed: global.seed },
    };
    let subjects = std::slice::from_ref(&subject);
    let networks = [(&*model, subject.clone())];
    let scores = evaluate_wait(&setting, &networks, &images, &corruptions, &origin, &mut |done, total| {
        let done = (done * (corruptions.len() + 1) / total) as u64;
        tell(&mut observer, Event::Advance { done, note: String::new() })
    })?;
    let mut attacked = vec![];
    for (number, attack) in attacks.into_iter().enumerate() {
        let share = (1.0 - corrupting) / args.attacks.len() as f64;
        let from = corrupting + share * number as f64;
        let name = attack.to_string();
        let units = (count.div_ceil(batch) * attack.steps) as u64;
        tell(&mut observer, stage(&name, units, from, from + share))?;
        let attacker = Attacker::new(&setting, &*model, batch, subjects, attack, global.seed)?;
        let result = attacker.run_wait(&(0..count).collect::<Vec<_>>(), &mut |done, _| {
            tell(&mut observer, Event::Advance { done: done as u64, note: String::new() })
        })?;
        attacked.extend(result.first().map(|result| (attack, *result)));
    }
    display.finish();
    drop(images);

    let clean = scores.clean.first().copied().unwrap_or_default();
    check_loss(clean, "the clean images")?;
    let table = Table::new(&corruptions, &scores);
    let errors = |kind: &str| table.rows.get(kind).map(|row| row.iter().map(|s| 1.0 - s.accuracy).collect::<Vec<_>>());
    let whole = Kind::MAIN.iter().all(|kind| table.rows.contains_key(kind.name()));
    let Against { mce, relative_mce, note } = baseline.map(|(_, base)| base.against(clean, errors)).unwrap_or_default();
    let answer = Answer {
        inputs,
        reading,
        images: count,
        clean,
        severities: severities.iter().map(|s| s.get()).collect(),
        corruption_accuracy: whole.then(|| table.mean(&Kind::MAIN)),
        mce,
        relative_mce,
        mce_note: note,
        source: made.source,
        constants: made.constants,
        frost: made.frost,
        suspicions: suspicions(clean.accuracy, model.classes(), &attacked),
        attacks: args.attacks.iter().zip(&attacked).map(|(text, (_, r))| (text.trim().to_owned(), *r)).collect(),
        corruptions: table.column(|s| s.accuracy),
        corruption_losses: table.column(|s| s.loss),
    };
    table.write_files(args, &answer, &attacked)?;
    global.print(&answer, || table.text(&answer, &attacked))
}

/// Where corrupted images come from.
struct Made {
    source: String,
    constants: Option<String>,
    frost: Option<String>,
}

impl Made {
    fn find(
        args: &Args,
        corruptions: &[Corruption],
        (constants, size): (Constants, Option<[usize; 2]>),
    ) -> Result<Self> {
        if corruptions.is_empty() {
            return Ok(Made { source: "none".into(), constants: None, frost: None });
        }
        let Some(folder) = &args.corrupted else {
            let frost = corruptions.iter().find_map(|c| c.frost_source()).map(|source| source.to_string());
            let set = if constants == Constants::Cifar { "CIFAR" } else { "ImageNet" };
            let with = frost.as_ref().map(|source| format!(", frost {source}")).unwrap_or_default();
            let at = size.map(|[h, w]| format!(" at {h}x{w}")).unwrap_or_default();
            let before = size.map(|[h, w]| format!(", of images made {h}x{w} before")).unwrap_or_default();
            let source = format!("made with the constants of {set}-C{with}{before}");
            // Figures of one protocol are none of the other's.
            return Ok(Made { source, constants: Some(format!("{}{at}", constants.name())), frost });
        };
        // A folder that `corrupt` wrote says how; all results in it share their constants.
        let runs = Manifest::read(folder)?.unwrap_or_default().runs;
        let constants = runs.first().map(|run| run.settings.constants.clone());
        let frost = runs.into_iter().filter(|run| run.groups.iter().any(|group| group == "frost.npy"));
        let frost = frost
            .filter_map(|run| run.frost)
            .next_back()
            .filter(|_| corruptions.iter().any(|corruption| corruption.kind() == Kind::Frost));
        Ok(Made { source: "read from the folder".into(), constants, frost })
    }
}

/// Scores by kind, in the order asked for.
struct Table {
    order: Vec<&'static str>,
    rows: BTreeMap<&'static str, Vec<Score>>,
}

impl Table {
    fn new(corruptions: &[Corruption], scores: &Scores) -> Self {
        let mut table = Table { order: vec![], rows: BTreeMap::new() };
        for (corruption, list) in corruptions.iter().zip(&scores.corrupted) {
            let name = corruption.kind().name();
            if !table.order.contains(&name) {
                table.order.push(name);
            }
            table.rows.entry(name).or_default().extend(list.first());
        }
        table
    }

    fn mean(&self, kinds: &[Kind]) -> f64 {
        let all: Vec<f64> =
            kinds.iter().filter_map(|k| self.rows.get(k.name())).flatten().map(|s| s.accuracy).collect();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }

    fn column(&self, value: impl Fn(&Score) -> f64) -> BTreeMap<String, Vec<f64>> {
        self.rows.iter().map(|(name, row)| ((*name).to_owned(), row.iter().map(&value).collect())).collect()
    }

    fn text(&self, answer: &Answer, attacked: &[(Attack, Attacked)]) -> String {
        let mut text = format!(
            "{} test images: accuracy {:.2} %, loss {:.4}\n",
            answer.images,
            100.0 * answer.clean.accuracy,
            answer.clean.loss
        );
        if !self.order.is_empty() {
            text += &format!("corrupted images: {}\naccuracy in %, by severity\n{:20}", answer.source, "");
            answer.severities.iter().for_each(|s| text += &format!("{s:>8}"));
            text += "    mean\n";
        }
        for name in &self.order {
            let row = &self.rows[name];
            text += &format!("{name:20}");
            row.iter().for_each(|s| text += &format!("{:8.2}", 100.0 * s.accuracy));
            let mean = row.iter().map(|s| s.accuracy).sum::<f64>() / row.len().max(1) as f64;
            text += &format!("{:8.2}\n", 100.0 * mean);
        }
        if let Some(mean) = answer.corruption_accuracy {
            text += &format!("mean over the 15 main kinds: {:.2} %\n", 100.0 * mean);
        }
        for (name, value) in [("mCE", answer.mce), ("relative mCE", answer.relative_mce)] {
            if let Some(value) = value {
                text += &format!("{name} {:.2} % of the baseline's\n", 100.0 * value);
            }
        }
        text.extend(answer.mce_note.iter().map(|note| format!("{note}\n")));
        for (attack, r) in attacked {
            text += &format!(
                "{attack}: accuracy {:.2} %, worst loss {:.4} (last point: {:.2} %, {:.4}); {:.1} % of gradients are zero\n",
                100.0 * r.accuracy,
                r.worst_loss,
                100.0 * r.last.accuracy,
                r.last.loss,
                100.0 * r.zero_gradients
            );
        }
        answer.suspicions.iter().for_each(|line| text += &format!("suspicious: {line}\n"));
        text
    }

    fn write_files(&self, args: &Args, answer: &Answer, attacked: &[(Attack, Attacked)]) -> Result<()> {
        if let Some(path) = &args.csv {
            let mut csv = String::from("kind,severity,accuracy,loss\n");
            csv += &format!("clean,0,{},{}\n", answer.clean.accuracy, answer.clean.loss);
            for name in &self.order {
                for (score, severity) in self.rows[name].iter().zip(&answer.severities) {
                    csv += &format!("{name},{severity},{},{}\n", score.accuracy, score.loss);
                }
            }
            for (name, (_, result)) in args.attacks.iter().zip(attacked) {
                csv += &format!("{},0,{},{}\n", name.trim(), result.accuracy, result.worst_loss);
            }
            atomic_write(path, csv.as_bytes())?;
        }
        if let Some(path) = &args.heatmap {
            let columns: Vec<String> = answer.severities.iter().map(u8::to_string).collect();
            let rows: Vec<(String, Vec<Option<f64>>)> = self
                .order
                .iter()
                .map(|name| ((*name).to_owned(), self.rows[name].iter().map(|s| Some(s.accuracy)).collect()))
                .collect();
            let title = format!("Accuracy in %, by severity (clean: {:.1})", 100.0 * answer.clean.accuracy);
            let svg = heat_map(&title, &columns, &rows, [0.0, answer.clean.accuracy.max(1e-3)], Place::File);
            atomic_write(path, svg.as_bytes())?;
        }
        Ok(())
    }
}
