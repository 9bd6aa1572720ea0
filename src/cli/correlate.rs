//! `altiplano correlate`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Serialize;

use super::Global;
use super::args::Sizes;
use super::names::Names;
use super::place::{FORCE, Outputs};
use crate::error::{Error, Result, unknown};
use crate::measure::zero_cost::LOWEST;
use crate::nn::count::Cost;
use crate::nn::space::Family;
use crate::report::correlation::{CHOICES, Figures, bootstrap, figures, random_score};
use crate::report::folder::atomic_write;
use crate::report::heat_map::heat_map;
use crate::report::score_table::{ARCH, Picked, Row, Table, join, one_per_class};
use crate::report::statistics::mean;
use crate::report::svg::Place;

/// Rows that are always there.
const PARAMS: &str = "params";
const FLOPS: &str = "flops";
const RANDOM: &str = "random";
/// Columns that have one of these words between underscores are neither truths nor scores, unless asked for.
const NO_FIGURES: &[&str] =
    &[ARCH, "architecture", "dataset", "id", "index", "isomorph", "representative", "sec", "seconds", "seed"];
const NO_TRUTH: &[&str] = &[PARAMS, FLOPS, "macs"];
const NO_SCORE: &[&str] = &["acc", "accuracy"];
/// Most truths whose figures are all printed; of more only the correlations.
const FULL: usize = 6;
const MAX_RESAMPLES: usize = 100_000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Scores: a CSV with a column `arch`, as `altiplano score` writes it. Higher must mean better.
    #[arg(long)]
    scores: PathBuf,
    /// What they should predict: a CSV with a column `arch`, such as accuracies. Higher must mean better.
    #[arg(long)]
    truth: PathBuf,
    /// Columns of the truth, with commas between; all numbers but counts and indices if left out.
    #[arg(long, value_delimiter = ',')]
    columns: Vec<String>,
    /// Columns of the scores, with commas between; all numbers but counts, indices and accuracies if left out.
    #[arg(long, value_delimiter = ',')]
    proxies: Vec<String>,
    /// Rows of the scores to use, if these have a column `dataset`; else those that a truth's name begins with.
    #[arg(long)]
    dataset: Option<String>,
    /// Resamples behind the intervals; 0 for none.
    #[arg(long, default_value_t = 2000)]
    bootstrap: usize,
    /// Let isomorphic architectures in the scores count each for itself, as many publications do.
    #[arg(long)]
    keep_isomorphs: bool,
    /// Also draw the rank correlations (SVG).
    #[arg(long)]
    heat_map: Option<PathBuf>,
    /// Also write all figures as CSV.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the files of --heat-map and --out.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    sizes: Sizes,
}

/// What the two files have in common, for one data set of the scores.
#[derive(Clone, Default, Serialize)]
struct Joined {
    /// Architectures in both, before one of each class was kept.
    n: usize,
    /// Classes in both.
    unique: usize,
    /// Rows that repeat another one.
    duplicate_scores: usize,
    /// Rows that were left out for another one of their class.
    isomorphic_scores: usize,
    /// Rows whose class has no truth.
    scores_without_truth: usize,
    /// Classes without scores.
    truths_without_scores: usize,
}

#[derive(Serialize)]
struct Column {
    /// Rows of the scores that it was compared with, if these have a column `dataset`.
    dataset: Option<String>,
    /// Architectures that took part.
    n: usize,
    /// Architectures left out because it has no number for them.
    missing: usize,
}

#[derive(Serialize)]
struct Dropped {
    duplicate_truths: usize,
    isomorphic_truths: usize,
    /// By data set; `all` if the scores have no such column.
    scores: BTreeMap<String, Joined>,
}

#[derive(Serialize)]
struct Answer {
    space: String,
    #[serde(serialize_with = "crate::error::serialize_path")]
    scores: PathBuf,
    #[serde(serialize_with = "crate::error::serialize_path")]
    truth: PathBuf,
    /// Architectures in both files; of several data sets the most.
    n: usize,
    /// Isomorphism classes in both files.
    unique: usize,
    isomorphs_kept: bool,
    seed: u64,
    bootstrap: usize,
    dropped: Dropped,
    /// Mean per architecture: of the column `seconds` as `all`, of a column such as `synflow_sec` as `synflow`.
    seconds: BTreeMap<String, f64>,
    columns: BTreeMap<String, Column>,
    proxies: BTreeMap<String, BTreeMap<String, Figures>>,
}

/// Scores of one data set beside the truth.
struct Side {
    joined: Joined,
    /// One list for each row of the answer, and one list for each truth.
    scores: Vec<Vec<f64>>,
    truths: Vec<Vec<f64>>,
    seconds: Vec<Option<f64>>,
}

/// The rows and columns of the answer, in order.
struct Layout {
    proxies: Vec<String>,
    truths: Vec<String>,
    /// Columns of the scores with seconds, and whose.
    seconds: Vec<(usize, String)>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<()> {
    let family = args.sizes.stand_alone(global)?;
    let names_of = Names::new(&*family);
    let identify = |name: &str| names_of.identify(name);
    if args.bootstrap > MAX_RESAMPLES {
        let why = format!("{} resamples, expected 0 to {MAX_RESAMPLES}", args.bootstrap);
        return Err(Error::invalid("--bootstrap", why));
    }
    let mut outputs = Outputs::new(&[Some(&args.scores), Some(&args.truth)]);
    let refuse = (!args.force).then_some(FORCE);
    outputs.file("--heat-map", args.heat_map.as_deref(), &["svg"], refuse)?;
    outputs.file("--out", args.out.as_deref(), &["csv"], refuse)?;
    let (scores, truth) = (Table::read(&args.scores)?, Table::read(&args.truth)?);
    let truths = choose(&truth, "--columns", &args.columns, &[NO_FIGURES, NO_TRUTH].concat())?;
    let mut own = choose(&scores, "--proxies", &args.proxies, &[NO_FIGURES, NO_TRUTH, NO_SCORE].concat())?;
    own.retain(|column| ![PARAMS, FLOPS].contains(&scores.header()[*column].as_str()));
    if let Some(column) = own.iter().find(|column| scores.header()[**column] == RANDOM) {
        let why = format!("column {} is called `{RANDOM}`, as a row of the answer is; rename it", column + 1);
        return Err(Error::file(&args.scores, None, why));
    }
    let layout = Layout {
        proxies: names(&scores, &own).into_iter().chain([PARAMS, FLOPS, RANDOM].map(str::to_owned)).collect(),
        truths: names(&truth, &truths),
        seconds: seconds_columns(&scores),
    };
    let mut known = truth.pick(&truths, &[], None, &identify)?;
    one_per_class(&mut known, |row| row.arch.representative);
    let datasets = datasets(&scores, args.dataset.as_deref(), &layout.truths)?;
    let from = From { global, args, family: &family, names: &names_of };
    let mut sides: BTreeMap<Option<String>, Side> = BTreeMap::new();
    for dataset in datasets.iter().collect::<BTreeSet<_>>() {
        sides.insert(dataset.clone(), side(&from, &scores, &own, &layout, &known, dataset.as_deref())?);
    }
    let answer = answer(&from, &layout, &known, &datasets, &sides)?;
    if let Some(path) = &args.out {
        atomic_write(path, csv_text(&answer, &layout)?.as_bytes())?;
    }
    if let Some(path) = &args.heat_map {
        let rows: Vec<(String, Vec<Option<f64>>)> = layout
            .proxies
            .iter()
            .map(|p| (p.clone(), layout.truths.iter().map(|t| rho(&answer, p, t)).collect()))
            .collect();
        let title = format!("Spearman's rank correlation in percent, {} architectures", answer.unique);
        atomic_write(path, heat_map(&title, &layout.truths, &rows, [-1.0, 1.0], Place::File).as_bytes())?;
    }
    global.print(&answer, || text(&answer, &layout))
}

fn names(table: &Table, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|column| table.header()[*column].clone()).collect()
}

/// The columns that were asked for, or all with numbers whose name has none of the words in `skip`.
fn choose(table: &Table, option: &str, wanted: &[String], skip: &[&str]) -> Result<Vec<usize>> {
    let mut columns: Vec<usize> = vec![];
    for name in wanted.iter().map(|name| name.trim()) {
        let column = table.require(option, name)?;
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    if wanted.is_empty() {
        columns = table.numeric();
        columns.retain(|column| {
            let name = table.header()[*column].to_ascii_lowercase();
            !name.is_empty() && !name.split('_').any(|word| skip.contains(&word))
        });
    }
    if columns.is_empty() && option == "--columns" {
        return Err(Error::file(table.path(), None, "has no column with numbers to predict; name one with --columns"));
    }
    Ok(columns)
}

/// `seconds`, and `x_sec` or `x_seconds`.
fn seconds_columns(scores: &Table) -> Vec<(usize, String)> {
    let numeric = scores.numeric();
    let of = |name: &str| match name {
        "seconds" => Some("all".to_owned()),
        _ => name.strip_suffix("_sec").or(name.strip_suffix("_seconds")).map(str::to_owned),
    };
    numeric.into_iter().filter_map(|column| Some((column, of(&scores.header()[column])?))).collect()
}

/// Which rows of the scores belong to each truth: of `imagenet16_acc` those of `ImageNet16-120`.
fn datasets(scores: &Table, wanted: Option<&str>, truths: &[String]) -> Result<Vec<Option<String>>> {
    let Some(column) = scores.find("dataset") else {
        return match wanted {
            Some(_) => Err(Error::invalid("--dataset", "the scores have no column `dataset`; leave the option out")),
            None => Ok(vec![None; truths.len()]),
        };
    };
    let known = scores.texts(column);
    let list: Vec<&str> = known.iter().map(String::as_str).collect();
    if let Some(wanted) = wanted {
        if !list.contains(&wanted) {
            return Err(unknown("--dataset", wanted, &list));
        }
        return Ok(vec![Some(wanted.to_owned()); truths.len()]);
    }
    if known.len() < 2 {
        return Ok(vec![known.first().cloned(); truths.len()]);
    }
    let stem = |name: &str| name.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let find = |truth: &String| {
        let words: Vec<String> = truth.split('_').map(str::to_ascii_lowercase).collect();
        let exact = known.iter().find(|name| words.contains(&stem(name)));
        // `imagenet` alone will do if it is one data set's name without its number.
        let letters = |name: &str| stem(name).trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let mut close = known.iter().filter(|name| words.contains(&letters(name)));
        let found = exact.or_else(|| close.next().filter(|_| close.next().is_none()));
        found.map(|name| Some(name.clone())).ok_or_else(|| {
            let why = format!("the scores are of several ({}), and `{truth}` names none of them", list.join(", "));
            Error::invalid("--dataset", why)
        })
    };
    truths.iter().map(find).collect()
}

/// What rows are read with.
struct From<'a> {
    global: &'a Global,
    args: &'a Args,
    family: &'a Family,
    names: &'a Names<'a>,
}

/// Picks and joins the scores of one data set.
fn side(
    from: &From,
    scores: &Table,
    own: &[usize],
    layout: &Layout,
    known: &Picked,
    dataset: Option<&str>,
) -> Result<Side> {
    let From { global, args, family, names } = *from;
    let identify = |name: &str| names.identify(name);
    let counts = [scores.find(PARAMS), scores.find(FLOPS)];
    let seconds: Vec<usize> = layout.seconds.iter().map(|(column, _)| *column).collect();
    let columns: Vec<usize> = own.iter().copied().chain(counts.into_iter().flatten()).chain(seconds.clone()).collect();
    let only = dataset.and_then(|name| Some((scores.find("dataset")?, name)));
    let mut picked = scores.pick(&columns, &seconds, only, &identify)?;
    let all = picked.rows.len();
    let n = join(&picked, known).len();
    if !args.keep_isomorphs {
        // Best the very one that the truth was measured on.
        let measured: BTreeSet<u64> = known.rows.iter().map(|row| row.arch.own).collect();
        one_per_class(&mut picked, |row| measured.contains(&row.arch.own));
    }
    let pairs = join(&picked, known);
    let unique = pairs.iter().map(|(row, _)| row.arch.class).collect::<BTreeSet<_>>().len();
    if picked.rows.is_empty() && dataset.is_none() {
        return Err(Error::file(&args.scores, None, "holds no architecture: there are no rows below the first line"));
    }
    if pairs.len() < 3 {
        let (a, b) = (args.scores.display(), args.truth.display());
        let of = dataset.map(|name| format!(" of {name}")).unwrap_or_default();
        let why = match pairs.len() {
            0 => format!("{a}{of} and {b} have no architecture in common"),
            few => format!("{a}{of} and {b} have {few} different architecture(s) in common, expected at least 3"),
        };
        return Err(Error::invalid("architectures", why));
    }
    let column = |place: usize| pairs.iter().map(|(row, _)| row.values[place]).collect::<Vec<f64>>();
    // What stands for a score that does not exist is none.
    let score = |place: usize| column(place).into_iter().map(|v| if v == LOWEST { f64::NAN } else { v }).collect();
    let mut lists: Vec<Vec<f64>> = (0..own.len()).map(score).collect();
    let mut place = own.len();
    let closed: [fn(Cost) -> u64; 2] = [|cost| cost.params, |cost| cost.macs];
    for (count, closed) in counts.iter().zip(closed) {
        // The order is that of any other size of the network and the image, and no more is used of it.
        let own_count = |row: &Row| {
            let cost = names.arch(row.arch.own).and_then(|arch| family.cost(&arch).ok());
            cost.map_or(f64::NAN, |cost| closed(cost) as f64)
        };
        if count.is_some() {
            lists.push(column(place));
            place += 1;
        } else {
            lists.push(pairs.iter().map(|(row, _)| own_count(row)).collect());
        }
    }
    lists.push(pairs.iter().map(|(row, _)| random_score(global.seed, row.arch.own)).collect());
    let finite = |place: usize| column(place).into_iter().filter(|value| value.is_finite()).collect::<Vec<f64>>();
    Ok(Side {
        joined: Joined {
            n,
            unique,
            duplicate_scores: picked.duplicates,
            isomorphic_scores: picked.isomorphic,
            scores_without_truth: all - n,
            truths_without_scores: known.rows.len() - unique,
        },
        seconds: (place..place + seconds.len()).map(|place| mean(&finite(place))).collect(),
        truths: (0..layout.truths.len()).map(|t| pairs.iter().map(|(_, row)| row.values[t]).collect()).collect(),
        scores: lists,
    })
}

fn answer(
    from: &From,
    layout: &Layout,
    known: &Picked,
    datasets: &[Option<String>],
    sides: &BTreeMap<Option<String>, Side>,
) -> Result<Answer> {
    let From { global, args, family, .. } = *from;
    let mut columns = BTreeMap::new();
    let mut proxies: BTreeMap<String, BTreeMap<String, Figures>> = BTreeMap::new();
    for (number, (name, dataset)) in layout.truths.iter().zip(datasets).enumerate() {
        let Some(side) = sides.get(dataset) else { continue };
        let truth = &side.truths[number];
        let there: Vec<usize> = (0..truth.len()).filter(|i| truth[*i].is_finite()).collect();
        let pick = |list: &Vec<f64>| there.iter().map(|i| list[*i]).collect::<Vec<f64>>();
        let (truth, scores) = (pick(truth), side.scores.iter().map(pick).collect::<Vec<_>>());
        // Params, flops and random are the last three.
        let count = scores.len() - 3;
        let controls = &scores[count..count + 2];
        let intervals = bootstrap(&scores, &scores[count], &truth, args.bootstrap, global.seed)?;
        for (place, (proxy, interval)) in layout.proxies.iter().zip(intervals).enumerate() {
            let mut figures = figures(&scores[place], &truth, controls)?;
            // Against itself there is no difference.
            (figures.low, figures.high) = interval.filter(|_| place != count).unzip();
            proxies.entry(proxy.clone()).or_default().insert(name.clone(), figures);
        }
        let missing = side.truths[number].len() - there.len();
        columns.insert(name.clone(), Column { dataset: dataset.clone(), n: there.len(), missing });
    }
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    for (place, (_, of)) in layout.seconds.iter().enumerate() {
        let all: Vec<f64> = sides.values().filter_map(|side| side.seconds[place]).collect();
        seconds.extend(mean(&all).map(|mean| (of.clone(), mean)));
    }
    let joined = |side: &Side| side.joined.clone();
    Ok(Answer {
        space: family.name().to_owned(),
        scores: args.scores.clone(),
        truth: args.truth.clone(),
        n: sides.values().map(|side| side.joined.n).max().unwrap_or(0),
        unique: sides.values().map(|side| side.joined.unique).max().unwrap_or(0),
        isomorphs_kept: args.keep_isomorphs,
        seed: global.seed,
        bootstrap: args.bootstrap,
        dropped: Dropped {
            duplicate_truths: known.duplicates,
            isomorphic_truths: known.isomorphic,
            scores: sides.iter().map(|(k, s)| (k.clone().unwrap_or_else(|| "all".into()), joined(s))).collect(),
        },
        seconds,
        columns,
        proxies,
    })
}

fn rho(answer: &Answer, proxy: &str, truth: &str) -> Option<f64> {
    answer.proxies.get(proxy)?.get(truth)?.spearman
}

/// The mean seconds of one proxy, or of all together.
fn seconds(answer: &Answer, proxy: &str) -> Option<f64> {
    let all = || answer.seconds.get("all").filter(|_| ![PARAMS, FLOPS, RANDOM].contains(&proxy));
    answer.seconds.get(proxy).or_else(all).copied()
}

fn csv_text(answer: &Answer, layout: &Layout) -> Result<String> {
    let mut writer = csv::Writer::from_writer(vec![]);
    let mut header = vec![
        "proxy",
        "column",
        "n",
        "invalid",
        "spearman",
        "low",
        "high",
        "kendall",
        "kendall_error",
        "partial",
        "top",
    ];
    let regrets = CHOICES.map(|k| format!("regret_{k}"));
    header.extend(regrets.iter().map(String::as_str));
    header.push("seconds");
    let wrong = |e: csv::Error| Error::invalid("--out", e.to_string());
    writer.write_record(header).map_err(wrong)?;
    let cell = |value: Option<f64>| value.map(|v| v.to_string()).unwrap_or_default();
    for proxy in &layout.proxies {
        for truth in &layout.truths {
            let Some(f) = answer.proxies.get(proxy).and_then(|row| row.get(truth)) else { continue };
            let mut record = vec![proxy.clone(), truth.clone(), f.n.to_string(), f.invalid.to_string()];
            record.extend([f.spearman, f.low, f.high, f.kendall, f.kendall_error, f.partial, f.top].map(cell));
            record.extend(CHOICES.map(|k| cell(f.regret.get(&k).copied())));
            record.push(cell(seconds(answer, proxy)));
            writer.write_record(&record).map_err(wrong)?;
        }
    }
    let bytes = writer.into_inner().map_err(|e| Error::invalid("--out", e.to_string()))?;
    String::from_utf8(bytes).map_err(|e| Error::invalid("--out", e.to_string()))
}

fn text(answer: &Answer, layout: &Layout) -> String {
    let mut text = String::new();
    for (name, joined) in &answer.dropped.scores {
        let name = if name == "all" { String::new() } else { format!("{name}: ") };
        let kept = if answer.isomorphs_kept { "all are used" } else { "one of each class is used" };
        let _ = writeln!(
            text,
            "{name}{} architectures in both files, {} of them unique, {kept}; scores dropped: {} repeated, {} isomorphic, \
             {} without truth",
            joined.n, joined.unique, joined.duplicate_scores, joined.isomorphic_scores, joined.scores_without_truth
        );
    }
    let (repeated, isomorphic) = (answer.dropped.duplicate_truths, answer.dropped.isomorphic_truths);
    let _ = writeln!(text, "truths dropped: {repeated} repeated, {isomorphic} isomorphic");
    let number = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{:>9}", format!("{value:.digits$}")),
        None => format!("{:>9}", "–"),
    };
    let width = layout.proxies.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(8);
    if layout.truths.len() > FULL {
        let width = layout.truths.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let _ =
            write!(text, "\nSpearman's rank correlation; --columns, --out and --json give more\n{:width$}    n", "");
        layout.proxies.iter().for_each(|name| text += &format!(" {:>9}", name.chars().take(9).collect::<String>()));
        for truth in &layout.truths {
            let n = answer.columns.get(truth).map_or(0, |column| column.n);
            let _ = write!(text, "\n{truth:width$}{n:>5}");
            layout.proxies.iter().for_each(|proxy| text += &format!(" {}", number(rho(answer, proxy, truth), 3)));
        }
        return text;
    }
    for truth in &layout.truths {
        let Some(column) = answer.columns.get(truth) else { continue };
        let _ = write!(text, "\n{truth}: {} architectures, {} without a number left out", column.n, column.missing);
        let _ = write!(text, "\n{:width$}{:>9}{:>19}", "", "rho", "rho - rho(params)");
        for head in ["tau", "its error", "partial", "top fifth", "regret@1", "@10", "@100", "invalid", "seconds"] {
            let _ = write!(text, "{head:>10}");
        }
        for proxy in &layout.proxies {
            let Some(f) = answer.proxies.get(proxy).and_then(|row| row.get(truth)) else { continue };
            let interval = f.low.zip(f.high).map_or("–".into(), |(low, high)| format!("{low:.3} .. {high:.3}"));
            let _ = write!(text, "\n{proxy:width$}{}{interval:>19}", number(f.spearman, 3));
            let regrets = CHOICES.map(|k| f.regret.get(&k).copied());
            [f.kendall, f.kendall_error, f.partial, f.top]
                .into_iter()
                .chain(regrets)
                .for_each(|v| text += &format!(" {}", number(v, 3)));
            let _ = write!(text, "{:>10} {}", f.invalid, number(seconds(answer, proxy), 4));
        }
        text.push('\n');
    }
    text + "\npartial: given params and flops. rho - rho(params): 95 % of resamples. error of tau: standard, by the jackknife. invalid: scores that are NaN, infinite or -1e8, ranked last."
}
