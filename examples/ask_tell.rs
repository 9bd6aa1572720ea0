//! A search whose candidates somebody else evaluates, with an objective of one's own: no disk, no device. It is stopped midway, written
//! down as JSON, and goes on elsewhere to the same end.
//!
//! ```text
//! cargo run --release --example ask_tell
//! ```

use altiplano::nn::space::{Family, ImageInfo, Purpose, Registry};
use altiplano::search::domain::{Bounded, Limits};
use altiplano::search::objectives::{Measures, Weighted};
use altiplano::search::strategy::StrategyConfig;
use altiplano::search::strategy::surrogate::SurrogateSettings;
use altiplano::search::study::{Job, Study};

/// Evaluations of the whole search.
const EVALUATIONS: usize = 60;

/// What somebody measures: here a made-up accuracy. An evaluation may fail; it says so by a number that is none.
fn evaluate(job: &Job) -> Measures {
    let count = |op: u8| job.arch.iter().filter(|own| **own == op).count() as f64;
    let (pools, convolutions) = (count(4), 2.0 * count(3) + count(2));
    let accuracy = if job.arch[5] == 4 { f64::NAN } else { 1.0 - (-0.3 * convolutions).exp() - 0.02 * pools };
    Measures::from([("accuracy".to_owned(), accuracy)])
}

/// Asks for three at a time until there are so many.
fn go_on(study: &mut Study, evaluations: usize) -> altiplano::Result<()> {
    while study.entries().len() < evaluations {
        let jobs = study.ask(3.min(evaluations - study.entries().len()))?;
        for job in &jobs {
            study.tell(job, evaluate(job))?;
        }
    }
    Ok(())
}

fn main() -> altiplano::Result<()> {
    // Networks of at most half a million parameters; their number is the second objective.
    let info = ImageInfo { height: 32, width: 32, channels: 3, classes: 10 };
    let registry = Registry::default();
    let space = registry.get("nas-bench-201")?;
    let family = Family::new(space.clone(), space.defaults(Purpose::Published, &info))?;
    let limits = Limits { params: 500_000, ..Limits::default() };
    limits.check(&family)?;
    let domain = Bounded { limits, ..Bounded::unlimited(&family) };

    let study = || {
        let settings = SurrogateSettings { initial: 20, picks: 5, ..SurrogateSettings::default() };
        let objective = Weighted::maximize("accuracy");
        Study::new(&domain, StrategyConfig::Surrogate(settings).open(None), Box::new(objective), 7)
    };
    let mut first = study();
    go_on(&mut first, 33)?;
    let json = first.to_json()?;
    println!("stopped after {} evaluations, {} bytes of JSON", first.entries().len(), json.len());
    let mut resumed = study();
    resumed.restore_json(&json)?;
    go_on(&mut resumed, EVALUATIONS)?;

    let mut whole = study();
    go_on(&mut whole, EVALUATIONS)?;
    println!("resumed and whole agree: {}", resumed.to_json()? == whole.to_json()?);
    let failed = whole.entries().iter().filter(|entry| entry.fitness.is_nan()).count();
    println!("{failed} of {} evaluations failed", whole.entries().len());
    println!("front (parameters, accuracy):");
    for (entry, _) in whole.front() {
        println!("    {:>8} {:.4} {}", entry.params, entry.measure("accuracy"), entry.arch);
    }
    if let Some(best) = whole.best() {
        println!("best: {:.4} with {} parameters, {}", best.fitness, best.params, best.arch);
    }
    Ok(())
}
