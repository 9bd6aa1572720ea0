//! `altiplano evaluate`

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Global;
use super::corrupt::{Pictures, choose_kinds, choose_severities};
use super::place::check_place;
use super::progress::Display;
use crate::corrupt::{Constants, Corruption, Kind};
use crate::data::load;
use crate::error::{Error, Result};
use crate::graph::{Group, Statistics};
use crate::measure::attack::{Attack, Attacked, Attacker, suspicions};
use crate::measure::corruption::{CorruptedSet, Origin, Scores, corruption_error, evaluate_wait, grid};
use crate::measure::forward::{Score, Subject, graph};
use crate::nn::card::ModelCard;
use crate::progress::{Event, tell};
use crate::report::folder::atomic_write;
use crate::report::heat_map::heat_map;
use crate::train::feed::Resident;
use crate::train::stores::Stores;
use crate::train::trainer::Setting;

#[derive(clap::Args)]
pub(super) struct Args {
    /// A model that altiplano saved.
    #[arg(long)]
    model: PathBuf,
    /// `digits`, or a folder or archive; its test images are used.
    #[arg(long)]
    data: String,
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
    #[command(flatten)]
    pictures: Pictures,
    /// Images to use at most; all if left out.
    #[arg(long)]
    images: Option<usize>,
    /// What `evaluate --json` printed for a baseline; gives mCE and relative mCE.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Also write the table as CSV.
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Also draw the table (SVG).
    #[arg(long)]
    heatmap: Option<PathBuf>,
}

#[derive(Serialize)]
struct Answer {
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
    /// Where corrupted images came from.
    source: String,
    /// By the words that asked for them.
    attacks: BTreeMap<String, Attacked>,
    /// What is suspicious about the attacks.
    suspicions: Vec<String>,
}

/// What is read of a baseline.
#[derive(Deserialize)]
struct Baseline {
    clean: Score,
    severities: Vec<u8>,
    corruptions: BTreeMap<String, Vec<f64>>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let kinds = choose_kinds(&args.corruptions)?;
    let severities = choose_severities("--severities", &args.severities)?;
    let attacks: Vec<Attack> = args.attacks.iter().map(|text| text.parse()).collect::<Result<_>>()?;
    if args.images == Some(0) {
        return Err(Error::invalid("--images", "0 images; at least one is needed"));
    }
    args.csv.iter().chain(&args.heatmap).try_for_each(|path| check_place(path))?;
    let baseline = args.baseline.as_ref().map(|path| read_baseline(path, &severities)).transpose()?;
    let (card, statistics, named) = ModelCard::read(&args.model)?;
    let model = card.model()?;
    let data = load(&args.data)?;
    let test = data.test.reveal_for_final_evaluation();
    if test.channels != card.sizes[2] || test.classes != card.sizes[5] {
        let have = format!("{} channels and {} classes", test.channels, test.classes);
        return Err(Error::shape("--data", format!("{} channels and {} classes", card.sizes[2], card.sizes[5]), have));
    }
    let count = args.images.unwrap_or(test.len()).min(test.len());
    let mut images = test.select(&(0..count).collect::<Vec<_>>());
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
    let frost = if kinds.contains(&Kind::Frost) { args.pictures.frost(constants)? } else { None };
    let corruptions = grid(&kinds, &severities, constants, frost.as_ref());
    let source = match &set {
        _ if corruptions.is_empty() => "none".to_owned(),
        Some(_) => "read from the folder".to_owned(),
        None => made_how(&corruptions, constants),
    };
    let (gpu, preset) = global.gpu()?;
    let resident = Resident::new(&gpu, &images)?;
    let setting = Setting { gpu: &gpu, preset, data: &resident, statistics: &statistics };
    let batch = count.clamp(1, 64);
    let pass = graph(&*model, batch, Statistics::Running)?;
    let stores = Stores::new(&gpu, &pass, 1)?;
    stores.load(0, &named)?;
    let group = |group| stores.group(group).cloned();
    let weights = group(Group::Weights)?;
    let running = group(Group::Running).unwrap_or_else(|_| weights.clone());
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
        None => Origin::Made { seed: global.seed },
    };
    let subjects = std::slice::from_ref(&subject);
    let scores = evaluate_wait(&setting, &*model, subjects, &images, &corruptions, &origin, &mut |done, total| {
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
    images.pixels.clear();

    let clean = scores.clean.first().copied().unwrap_or_default();
    let table = Table::new(&corruptions, &scores);
    let errors = |kind: &str| table.rows.get(kind).map(|row| row.iter().map(|s| 1.0 - s.accuracy).collect::<Vec<_>>());
    let whole = Kind::MAIN.iter().all(|kind| table.rows.contains_key(kind.name()));
    let (mce, relative_mce) = match &baseline {
        Some(base) => against(base, clean, &errors)?,
        None => (None, None),
    };
    let answer = Answer {
        images: count,
        clean,
        severities: severities.iter().map(|s| s.get()).collect(),
        corruption_accuracy: whole.then(|| table.mean(&Kind::MAIN)),
        mce,
        relative_mce,
        source,
        suspicions: suspicions(clean.accuracy, card.sizes[5], &attacked),
        attacks: args.attacks.iter().zip(&attacked).map(|(text, (_, r))| (text.trim().to_owned(), *r)).collect(),
        corruptions: table.column(|s| s.accuracy),
        corruption_losses: table.column(|s| s.loss),
    };
    table.write_files(args, &answer)?;
    global.print(&answer, || table.text(&answer, &attacked))
}

fn made_how(corruptions: &[Corruption], constants: Constants) -> String {
    let frost = corruptions.iter().find_map(|c| c.frost_source());
    let frost = frost.map(|source| format!(", frost {source}")).unwrap_or_default();
    format!("made with the constants of {}-C{frost}", if constants == Constants::Cifar { "CIFAR" } else { "ImageNet" })
}

fn read_baseline(path: &PathBuf, severities: &[crate::corrupt::Severity]) -> Result<Baseline> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let base: Baseline = serde_json::from_slice(&bytes)
        .map_err(|e| Error::file(path, None, format!("{e}; expected what `altiplano evaluate --json` prints")))?;
    let own: Vec<u8> = severities.iter().map(|s| s.get()).collect();
    if base.severities != own {
        let why = format!("its severities are {:?}, those asked for {own:?}; they must be the same", base.severities);
        return Err(Error::file(path, None, why));
    }
    Ok(base)
}

/// mCE and relative mCE over the 15 main kinds, which both must have.
fn against(
    base: &Baseline,
    clean: Score,
    errors: &dyn Fn(&str) -> Option<Vec<f64>>,
) -> Result<(Option<f64>, Option<f64>)> {
    let mut plain = vec![];
    let mut relative = vec![];
    for kind in Kind::MAIN {
        let Some(row) = base.corruptions.get(kind.name()) else {
            return Err(Error::invalid("--baseline", format!("it lacks {kind}; mCE is over the 15 main corruptions")));
        };
        let Some(own) = errors(kind.name()).filter(|own| own.len() == row.len()) else { return Ok((None, None)) };
        let row: Vec<f64> = row.iter().map(|accuracy| 1.0 - accuracy).collect();
        plain.push(corruption_error(&own, &row, None));
        relative.push(corruption_error(&own, &row, Some((1.0 - clean.accuracy, 1.0 - base.clean.accuracy))));
    }
    let mean = |list: Vec<f64>| Some(list.iter().sum::<f64>() / list.len() as f64).filter(|m| m.is_finite());
    Ok((mean(plain), mean(relative)))
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

    fn write_files(&self, args: &Args, answer: &Answer) -> Result<()> {
        if let Some(path) = &args.csv {
            let mut csv = String::from("kind,severity,accuracy,loss\n");
            csv += &format!("clean,0,{},{}\n", answer.clean.accuracy, answer.clean.loss);
            for name in &self.order {
                for (score, severity) in self.rows[name].iter().zip(&answer.severities) {
                    csv += &format!("{name},{severity},{},{}\n", score.accuracy, score.loss);
                }
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
            let svg = heat_map(&title, &columns, &rows, 0.0, answer.clean.accuracy.max(1e-3));
            atomic_write(path, svg.as_bytes())?;
        }
        Ok(())
    }
}
