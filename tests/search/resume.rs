//! Runs that were stopped, or killed, end with the same bits as runs that were left alone.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use altiplano::Error;
use altiplano::data::{ChannelStatistics, Dataset, Images, load};
use altiplano::nn::nas_bench_201::{Form, Network, build, family};
use altiplano::nn::space::{Build, ImageInfo, Networks};
use altiplano::nn::{Model, darts};
use altiplano::philox::Stream;
use altiplano::progress::{Event, Observer, silent};
use altiplano::report::folder::{Existing, RunFolder};
use altiplano::search::config::{Preset, SearchConfig};
use altiplano::search::evaluate::EvaluatorConfig;
use altiplano::search::methods::{Method, Situation};
use altiplano::search::result::SearchResult;
use altiplano::search::run::{Given, Task, search};
use altiplano::search::strategy::StrategyConfig;
use altiplano::space::darts::Darts;
use altiplano::space::nas_bench_201::{Macro, NasBench201};
use altiplano::train::job::{self, Saving};
use altiplano::train::step::Optimizer;
use altiplano::train::supply::Supply;
use altiplano::train::trainer::{Progress, Recipe, Setting, Trainer};

use crate::common;

const SIZES: Macro = Macro { channels: 4, cells: 1, in_channels: 1, height: 8, width: 8, classes: 10 };
const ARCH: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|";
const CELLS: &str = "3,6,0,4,4,0,6,6,0,0,0,0,4,3, 5,2,0,6,4,0,3,0,6,0,0,5,0,7";
/// Steps of the small trainings: two epochs.
const STEPS: usize = 20;

/// What trains, and on what.
struct Subject {
    images: Images,
    /// How many of them train.
    count: usize,
    model: Box<dyn Model>,
    recipe: Recipe,
}

fn digits(optimizer: Optimizer) -> Subject {
    let model = Box::new(Network::new(ARCH.parse().unwrap(), SIZES));
    let recipe = Recipe { batch: 32, ..Recipe::usual(optimizer, 2, 8) };
    Subject { images: load("digits").unwrap().train, count: 320, model, recipe }
}

/// Five DARTS cells of 4 channels as their authors train them: with an auxiliary head, holes in images, and paths that are dropped.
fn darts_cells() -> Subject {
    let (count, side) = (200, 32);
    let mut draw = Stream::new(4, 1, 4);
    let pixels = (0..count * side * side).map(|_| draw.below(256) as u8).collect();
    let labels = (0..count).map(|_| draw.below(10) as u16).collect();
    let class_names = (0..10).map(|class| class.to_string()).collect();
    let images = Images::new([side, side, 1], class_names, pixels, labels).unwrap();
    let options = [("channels", 4.into()), ("cells", 5.into()), ("auxiliary", toml::Value::Float(0.4))];
    let options = options.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
    let family =
        darts::family(Build { form: "cifar".into(), image: [side; 2], in_channels: 1, classes: 10, options }).unwrap();
    let own = Darts.published_training().unwrap();
    let recipe = Recipe { epochs: 2, batch: 20, drop_path: 0.6, ..Recipe::published(&own, side) };
    assert_eq!(recipe.augmentation.unwrap().cutout, 16);
    Subject { images, count, model: family.network(&family.parse(CELLS).unwrap()).unwrap(), recipe }
}

/// A subject with its images on the device.
struct Ground<'a> {
    subject: &'a Subject,
    supply: Supply,
    statistics: ChannelStatistics,
}

impl<'a> Ground<'a> {
    fn new(subject: &'a Subject) -> Self {
        let supply = Supply::new(common::gpu(), &subject.images).unwrap();
        Ground { subject, supply, statistics: subject.images.channel_statistics().unwrap() }
    }

    /// A new network before its first step.
    fn trainer(&self) -> Trainer<'_> {
        let Subject { count, model, recipe, .. } = self.subject;
        let (data, statistics) = (&self.supply, &self.statistics);
        let setting = Setting { gpu: common::gpu(), preset: common::preset(), data, statistics };
        let indices: Vec<usize> = (0..*count).collect();
        let trainer = Trainer::new(setting, &**model, recipe, &indices, &[3], &[]).unwrap();
        assert_eq!(trainer.total_steps(), STEPS);
        trainer
    }
}

fn saving(folder: &RunFolder) -> Option<Saving<'_>> {
    Some(Saving { folder, name: "training" })
}

/// State and progress after all steps without interruption.
fn uninterrupted(subject: &Subject) -> (Vec<u8>, Vec<Vec<Progress>>) {
    let ground = Ground::new(subject);
    let mut trainer = ground.trainer();
    let progress = job::run(&mut trainer, None, ("training", 0.0, 1.0), &mut silent(), &mut |_| Ok(())).unwrap();
    let epochs: Vec<usize> = progress[0].iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(epochs, (1..=subject.recipe.epochs).collect::<Vec<_>>());
    assert!(progress[0].iter().all(|epoch| epoch.loss.is_finite() && epoch.loss > 0.0));
    (trainer.state_wait().unwrap(), progress)
}

/// The same with a stop after each of `stops`, everything on the device being made anew each time.
fn stopped(subject: &Subject, stops: &[usize]) -> (Vec<u8>, Vec<Vec<Progress>>) {
    let scratch = tempfile::tempdir().unwrap();
    let open = || RunFolder::create(scratch.path(), Existing::Resume).unwrap();
    for &stop in stops {
        let (ground, folder) = (Ground::new(subject), open());
        let mut trainer = ground.trainer();
        let mut observer = |event: &Event| match event {
            Event::Advance { done, .. } if *done >= stop as u64 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let stage = ("training", 0.0, 1.0);
        let result = job::run(&mut trainer, saving(&folder), stage, &mut observer, &mut |_| Ok(()));
        assert!(matches!(result, Err(Error::Cancelled)), "{result:?} instead of a stop after step {stop}");
        assert_eq!(trainer.step(), stop);
    }
    let (ground, folder) = (Ground::new(subject), open());
    let mut trainer = ground.trainer();
    let stage = ("training", 0.0, 1.0);
    let progress = job::run(&mut trainer, saving(&folder), stage, &mut silent(), &mut |_| Ok(())).unwrap();
    (trainer.state_wait().unwrap(), progress)
}

/// Weights, statistics, momentum and metrics, bit by bit, and what is reported of all epochs.
#[track_caller]
fn same(what: &str, got: &(Vec<u8>, Vec<Vec<Progress>>), want: &(Vec<u8>, Vec<Vec<Progress>>)) {
    assert!(got.0 == want.0, "{what}: the state has other bits");
    assert_eq!(got.1, want.1, "{what}: training curve");
}

#[test]
fn training_stopped_after_any_step() {
    let digits = digits(Optimizer::Sgd);
    let want = uninterrupted(&digits);
    for stop in 1..=STEPS {
        same(&format!("stopped after step {stop}"), &stopped(&digits, &[stop]), &want);
    }
    let all: Vec<usize> = (1..STEPS).collect();
    same("stopped after every step", &stopped(&digits, &all), &want);
}

#[test]
fn training_with_sam_stopped() {
    let digits = digits(Optimizer::Sam);
    let want = uninterrupted(&digits);
    for stop in [1, 9, 10, 11, 19] {
        same(&format!("stopped after step {stop}"), &stopped(&digits, &[stop]), &want);
    }
}

/// Paths are dropped in the second epoch.
#[test]
fn training_of_darts_cells_stopped() {
    let cells = darts_cells();
    let want = uninterrupted(&cells);
    same("stopped again and again", &stopped(&cells, &[3, 10, 11, 17]), &want);
    let plain = Subject { recipe: Recipe { drop_path: 0.0, ..cells.recipe.clone() }, ..darts_cells() };
    assert!(uninterrupted(&plain).0 != want.0);
}

/// State passed by hand, into a trainer that has already gone elsewhere.
#[test]
fn state_replaces_whatever_was_there() {
    for optimizer in [Optimizer::Sgd, Optimizer::Sam] {
        let subject = digits(optimizer);
        let ground = Ground::new(&subject);
        let mut one = ground.trainer();
        (0..7).for_each(|_| one.submit_step().unwrap());
        let middle = one.state_wait().unwrap();
        (7..STEPS).for_each(|_| one.submit_step().unwrap());
        let end = one.state_wait().unwrap();
        assert!(middle != end);
        // The same trainer, and a new one.
        for mut other in [one, ground.trainer()] {
            other.restore(&middle).unwrap();
            assert_eq!(other.step(), 7);
            assert!(other.state_wait().unwrap() == middle);
            (7..STEPS).for_each(|_| other.submit_step().unwrap());
            assert!(other.state_wait().unwrap() == end, "{optimizer:?}");
        }
    }
    let subject = digits(Optimizer::Sgd);
    let ground = Ground::new(&subject);
    let mut trainer = ground.trainer();
    let state = trainer.state_wait().unwrap();
    for cut in [0, 7, state.len() - 1] {
        let error = trainer.restore(&state[..cut]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

/// A search of seconds.
fn config(data: &Dataset, method: Method) -> SearchConfig {
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let (preset, space, images) = (Preset::Quick, &NasBench201, data.train.len());
    let mut config = method.preset(&Situation { preset, space, data: "digits", images, info: &info, compat: false });
    config.build = build(Form::Tiny, &SIZES);
    config.evaluations = 8;
    let first = config.arms[0].clone();
    config.arms.truncate(2);
    config.finals.contestants = config.contestants_of_arms(&first);
    config.finals.judged_images = 20;
    config.finals.noise.draws = 2;
    let supernet = config.supernet.as_mut().unwrap();
    (supernet.epochs, supernet.batch) = (2, 128);
    let EvaluatorConfig::Shared(options) = &mut config.evaluator else { panic!("no supernet") };
    (options.images, options.batch, options.recalibration_batches) = (64, 32, 2);
    options.side_by_side = 4;
    options.flatness.draws = 2;
    if let StrategyConfig::Evolution(evolution) = &mut config.strategy {
        (evolution.population, evolution.parents) = (4, 2);
        (evolution.mutations, evolution.crossovers) = (2, 1);
    }
    (config.training.epochs, config.training.batch) = (1, 128);
    config
}

/// The files that a search leaves, as far as they must be the same.
#[derive(Debug, PartialEq)]
struct Files {
    /// `result.json` without seconds.
    result: serde_json::Value,
    /// Lines of `history.jsonl`, in any order.
    history: BTreeSet<String>,
    /// `best.safetensors`.
    best: Vec<u8>,
}

impl Files {
    fn read(folder: &Path) -> Self {
        let mut result: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("result.json")).unwrap()).unwrap();
        assert!(result.as_object_mut().unwrap().remove("seconds").is_some());
        result["arms"].as_array_mut().unwrap().iter_mut().for_each(|arm| arm["seconds"] = 0.into());
        let text = std::fs::read_to_string(folder.join("history.jsonl")).unwrap();
        let history: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(history.len(), text.lines().count(), "the history has a line twice");
        Files { result, history, best: std::fs::read(folder.join("best.safetensors")).unwrap() }
    }

    #[track_caller]
    fn same(&self, what: &str, want: &Files) {
        assert_eq!(self.history, want.history, "{what}: history.jsonl");
        assert!(self.best == want.best, "{what}: best.safetensors has other bits");
        assert_eq!(self.result, want.result, "{what}: result.json");
    }
}

fn run(
    data: &Dataset,
    config: &SearchConfig,
    folder: &RunFolder,
    observer: &mut Observer,
) -> altiplano::Result<SearchResult> {
    let family = family(Form::Tiny, &SIZES).unwrap();
    let (gpu, preset) = (common::gpu(), common::preset());
    search(&Task { gpu, preset, family: &family, data, config, given: &Given::default() }, folder, observer)
}

/// Runs the search in `folder` until `observer` stops it; whether it got to its end.
fn attempt(data: &Dataset, folder: &Path, observer: &mut dyn FnMut(&Event) -> ControlFlow<()>) -> bool {
    let folder = RunFolder::create(folder, Existing::Resume).unwrap();
    match run(data, &config(data, Method::Genas), &folder, &mut |event| observer(event)) {
        Ok(_) => true,
        Err(Error::Cancelled) => false,
        Err(other) => panic!("{other}"),
    }
}

/// A search that nobody interrupts, in a folder of its own.
fn whole(data: &Dataset) -> (tempfile::TempDir, Files) {
    let scratch = tempfile::tempdir().unwrap();
    assert!(attempt(data, scratch.path(), &mut silent()));
    let files = Files::read(scratch.path());
    assert!(files.history.len() >= 8);
    (scratch, files)
}

#[test]
fn search_stopped_at_every_event() {
    let data = load("digits").unwrap();
    let (_scratch, want) = whole(&data);
    let scratch = tempfile::tempdir().unwrap();
    let mut stages = BTreeSet::new();
    let mut stops = 0;
    loop {
        // Once at the beginning of each stage, and after each unit of work.
        let mut stopped_at = String::new();
        let mut testing = false;
        let done = attempt(&data, scratch.path(), &mut |event| {
            assert!(stopped_at.is_empty(), "an event after the stop: {event:?}");
            let stop = match event {
                Event::Stage { name, .. } => {
                    testing = *name == "testing";
                    stages.insert((*name).to_owned())
                }
                // Those that were measured side by side are all in the history by then.
                Event::Evaluated { arm, arch, .. } => stages.insert(format!("{arm} {arch}")),
                // Testing is not saved: whoever stops it begins it again.
                Event::Advance { .. } => !testing || stages.insert("within the test".to_owned()),
            };
            if stop {
                stopped_at = format!("{event:?}");
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if done {
            break;
        }
        stops += 1;
        assert!(stops < 200, "no end after {stops} stops, the last one at {stopped_at}");
    }
    // 16 steps of the supernet, 2 + 1 groups of candidates twice, 11 steps of the last training, 6 stages.
    assert!(stops >= 30, "only {stops} stops");
    println!("{stops} stops");
    Files::read(scratch.path()).same("stopped at every event", &want);
    // A finished run that is run again stays as it is.
    assert!(attempt(&data, scratch.path(), &mut silent()));
    Files::read(scratch.path()).same("run again after its end", &want);
}

#[test]
fn a_search_has_as_many_candidates_as_were_asked_for() {
    let data = load("digits").unwrap();
    for method in [Method::Random, Method::Genas] {
        let mut config = SearchConfig { evaluations: 11, ..config(&data, method) };
        config.arms.truncate(1);
        config.finals.contestants.truncate(1);
        let scratch = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(scratch.path(), Existing::Resume).unwrap();
        let result = run(&data, &config, &folder, &mut silent()).unwrap();
        assert_eq!((result.evaluated, folder.history().unwrap().len()), (11, 11));
        assert!(result.short.is_none());
    }
}

/// A crash may come between two lines of the history, or amid one.
#[test]
fn search_with_part_of_its_history() {
    let data = load("digits").unwrap();
    let (scratch, want) = whole(&data);
    let text = std::fs::read_to_string(scratch.path().join("history.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let all = [0, lines.len() - 1, 3, 1, 5];
    for keep in all.into_iter().take(if crate::common::long() { 5 } else { 3 }) {
        for file in ["result.json", "best.safetensors"] {
            std::fs::remove_file(scratch.path().join(file)).unwrap();
        }
        let mut part: String = lines[..keep].iter().map(|line| format!("{line}\n")).collect();
        part += &lines[keep][..lines[keep].len() / 2];
        std::fs::write(scratch.path().join("history.jsonl"), part).unwrap();
        assert!(attempt(&data, scratch.path(), &mut silent()));
        Files::read(scratch.path()).same(&format!("{keep} lines and a half"), &want);
    }
}

/// A search that trains its candidates, three side by side.
fn trained(data: &Dataset) -> SearchConfig {
    let info = ImageInfo { height: 8, width: 8, channels: 1, classes: 10 };
    let (preset, space, images) = (Preset::Quick, &NasBench201, data.train.len());
    let situation = Situation { preset, space, data: "digits", images, info: &info, compat: false };
    let mut config = Method::Flatnas.preset(&situation);
    config.build = build(Form::Tiny, &SIZES);
    config.evaluations = 6;
    config.arms.truncate(1);
    config.finals.contestants.truncate(1);
    (config.finals.images, config.finals.judged_images, config.training.epochs) = (64, 10, 1);
    let EvaluatorConfig::Trained(options) = &mut config.evaluator else { panic!("they are not trained") };
    (options.training_images, options.images, options.side_by_side) = (320, 100, 3);
    (options.training.epochs, options.training.lr, options.noise.draws) = (2, 0.03, 2);
    let StrategyConfig::Surrogate(strategy) = &mut config.strategy else { panic!("no surrogate") };
    (strategy.initial, strategy.surrogate) = (6, altiplano::search::surrogate::Kind::None);
    config
}

#[test]
fn candidates_go_on_amid_their_training() {
    let data = load("digits").unwrap();
    let config = trained(&data);
    let attempt = |path: &Path, stop: usize| {
        let folder = RunFolder::create(path, Existing::Resume).unwrap();
        let mut steps = 0;
        run(&data, &config, &folder, &mut |event| {
            steps += usize::from(matches!(event, Event::Advance { note, .. } if note.starts_with("generation")));
            if steps == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    let saved = |path: &Path| {
        let files = std::fs::read_dir(path.join("checkpoint")).unwrap().map(|entry| entry.unwrap().file_name());
        files.filter(|name| name.to_str().unwrap().starts_with("candidates-")).count()
    };
    let whole = tempfile::tempdir().unwrap();
    // What learned nothing cannot be chosen; its history is there all the same.
    let end = attempt(whole.path(), usize::MAX).map(|_| ()).map_err(|e| e.to_string());
    let history = |path: &Path| std::fs::read_to_string(path.join("history.jsonl")).unwrap_or_default();
    assert_eq!((history(whole.path()).lines().count(), saved(whole.path())), (6, 0));
    // Twenty steps for three candidates: amid the first, in the second epoch of the next.
    for stops in [&[7][..], &[3, 9, 20, 4], &[36]] {
        let folder = tempfile::tempdir().unwrap();
        for stop in stops {
            let stopped = attempt(folder.path(), *stop);
            assert!(matches!(stopped, Err(Error::Cancelled)), "{stop}");
            assert_eq!(saved(folder.path()), 1, "stopped after {stop} steps");
        }
        let again = attempt(folder.path(), usize::MAX).map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(again, end, "{stops:?}");
        assert!(history(folder.path()) == history(whole.path()) && saved(folder.path()) == 0, "{stops:?}");
    }
}
