//! A tiny search inside one's own program: progress through a callback, stopped midway, resumed to the same result.
//!
//! ```text
//! cargo run --release --example search_with_progress
//! ```

use std::ops::ControlFlow;

use altiplano::Error;
use altiplano::data::load;
use altiplano::gpu::{Gpu, Options};
use altiplano::kernels;
use altiplano::nn::space::{ImageInfo, Registry};
use altiplano::progress::Event;
use altiplano::report::folder::{Existing, RunFolder};
use altiplano::search::config::Preset;
use altiplano::search::evaluate::EvaluatorConfig;
use altiplano::search::methods::{Method, Situation};
use altiplano::search::result::SearchResult;
use altiplano::search::run::{Given, Task, search};
use altiplano::search::strategy::StrategyConfig;

/// Runs the search in `folder` and stops at event `stop`, if there is one.
fn run(gpu: &Gpu, folder: &str, existing: Existing, stop: Option<usize>) -> altiplano::Result<SearchResult> {
    let data = load("digits")?;
    let images = &data.train;
    let info =
        ImageInfo { height: images.height, width: images.width, channels: images.channels, classes: images.classes };
    let registry = Registry::default();
    let space = registry.get("nas-bench-201")?;

    // A preset with a few numbers changed. The same fields stand in a run's config.toml.
    let situation = Situation {
        preset: Preset::Quick,
        space: &**space,
        data: "digits",
        images: images.len(),
        info: &info,
        compat: false,
    };
    let mut config = Method::Genas.preset(&situation);
    config.build.options.insert("channels".into(), 4.into());
    config.evaluations = 8;
    config.arms.truncate(1);
    config.finals.contestants = ["flatness", "largest"].map(str::to_owned).into();
    if let Some(supernet) = &mut config.supernet {
        supernet.epochs = 2;
    }
    if let EvaluatorConfig::Shared(options) = &mut config.evaluator {
        options.images = 96;
        options.flatness.draws = 2;
    }
    if let StrategyConfig::Evolution(evolution) = &mut config.strategy {
        (evolution.population, evolution.parents) = (4, 2);
        (evolution.mutations, evolution.crossovers) = (2, 2);
    }
    config.training.epochs = 2;

    let family = registry.open(&config.space, config.build.clone())?;

    let folder = RunFolder::create(folder, existing)?;
    let mut events = 0;
    let mut observer = |event: &Event| {
        events += 1;
        match event {
            Event::Stage { name, units, .. } => println!("    {name}: {units} units"),
            Event::Evaluated { arch, fitness, measures, .. } => {
                println!("        {arch}: fitness {fitness:.4} of {} measures", measures.len());
            }
            Event::Advance { done, note } if done.is_multiple_of(33) && !note.is_empty() => {
                println!("        {done}: {note}");
            }
            Event::Advance { .. } => {}
        }
        // Breaking asks the search to stop; what is finished is saved before it does.
        if stop.is_some_and(|stop| events >= stop) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let preset = kernels::Preset::for_adapter(gpu.report());
    let task = Task { gpu, preset, family: &family, data: &data, config: &config, given: &Given::default() };
    search(&task, &folder, &mut observer)
}

fn main() -> altiplano::Result<()> {
    let gpu = Gpu::open_wait(&Options::default())?;
    println!("adapter: {} ({})", gpu.report().name, gpu.report().driver);
    let folder = std::env::args().nth(1).unwrap_or_else(|| "runs/search_with_progress".into());

    println!("stopped at the 50th event:");
    match run(&gpu, &folder, Existing::Force, Some(50)) {
        Err(Error::Cancelled) => println!("    stopped"),
        Err(error) => return Err(error),
        Ok(_) => println!("    it was done before"),
    }
    println!("resumed:");
    let resumed = run(&gpu, &folder, Existing::Resume, None)?;
    println!("in one go:");
    let whole = run(&gpu, &format!("{folder}-whole"), Existing::Force, None)?;

    let best = &resumed.best;
    println!("found {}, fitness {:.6}, {} parameters", best.arch, best.fitness, best.params);
    println!("test accuracy {:.1} %", 100.0 * resumed.trained.clean_accuracy);
    let bits = |r: &SearchResult| (r.best.arch.clone(), r.best.fitness.to_bits(), r.trained.clean_loss.to_bits());
    println!("resumed and whole agree to the bit: {}", bits(&resumed) == bits(&whole));
    Ok(())
}
