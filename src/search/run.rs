//! A search from end to end, whatever the method: a supernet if candidates share one, the arms one after the other with the same budget,
//! then the networks that they found, trained and judged on images that nothing has seen.
//!
//! What is asked for in a generation depends on earlier generations alone, and what is measured of a candidate on nothing
//! else: a run that was killed goes on to the same result. Its folder holds a line for each evaluated candidate, and the generations
//! that were proposed.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::archive::{self, Entry};
use super::budget::Work;
use super::checks::{check_angle, check_limits, nobody};
use super::config::{Arm, SearchConfig};
use super::domain::{Bounded, LATENCY, draw_within, largest};
use super::evaluate::{Evaluator, EvaluatorConfig, Ground, Parts};
use super::finals::{Who, contestant};
use super::methods::{arms, twins};
use super::objectives::Measures;
use super::result::{Explored, SearchResult, correlations};
use super::study::{Job, Step, Study};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels;
use crate::measure::judge::Judging;
use crate::measure::judged::table;
use crate::measure::latency::Latencies;
use crate::measure::trial::{Contestant, Outcome, Trial, images_kept_back, training_images};
use crate::nn::Model;
use crate::nn::card::ModelCard;
use crate::nn::space::Family;
use crate::philox::Stream;
use crate::progress::{Event, Observer, tell};
use crate::report::folder::{MISTAKES, REPORT, RESULT, RunFolder};
use crate::space::Arch;
use crate::train::supernet::{self, Heritage, SupernetJob};
use crate::train::supply::Supply;
use crate::train::trainer::{Inheritance, Setting};

/// Purpose word of the network at random that winners are held against.
const ANY_PURPOSE: u32 = 0x414E_594E;

/// What a run begins with, besides its configuration.
#[derive(Default)]
pub struct Given {
    /// A trained supernet, instead of training one.
    pub supernet: Option<supernet::Given>,
    /// Candidates that other runs evaluated with the same settings.
    pub warm: Vec<Entry>,
}

/// A search that is to be run.
pub struct Task<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    /// Tile sizes.
    pub preset: kernels::Preset,
    /// The space, and how its networks are built.
    pub family: &'a Family,
    /// The data set.
    pub data: &'a Dataset,
    /// Everything else that decides it.
    pub config: &'a SearchConfig,
    /// What it begins with.
    pub given: &'a Given,
}

/// Runs a search, or goes on with one whose folder is there.
///
/// # Errors
/// What the device, the disk or the data have to say; [`Error::Cancelled`] if the observer asks to stop.
pub fn search(task: &Task, folder: &RunFolder, observer: &mut Observer) -> Result<SearchResult> {
    let &Task { gpu, preset, family, data, config, given } = task;
    config.validate(family, data.train.len())?;
    config.check_training(family, [data.train.height, data.train.width])?;
    let statistics = data.train.channel_statistics()?;
    let supply = Supply::new(gpu, &data.train)?;
    let setting = Setting { gpu, preset, data: &supply, statistics: &statistics };
    let parts = config.evaluator.parts(data, config.seed)?;
    let latencies = latencies(task, folder)?;
    let latencies = latencies.as_ref();
    check_limits(config, family, latencies)?;
    let work = Work::of(config, family, data.train.len(), data.test.len())?;
    let mut ground = Ground { setting: &setting, family, data, seed: config.seed, supernet: None };
    // What an earlier end of the run found is not what it will have found.
    [RESULT, REPORT, "table.csv", "table.svg", MISTAKES].iter().try_for_each(|file| folder.remove(file))?;
    let heritage = match config.supernet() {
        Some(recipe) => {
            let given = given.supernet.as_ref();
            let images = supernet_images(config, data, &parts)?;
            let keep_every = config.supernet_keep_every;
            let shared = config.evaluator.needs_supernet();
            let job = SupernetJob { recipe: &recipe, images: &images, seed: config.seed, given, shared, keep_every };
            Some(supernet::train(&setting, family, &job, folder, work.share(0), observer)?)
        }
        None => None,
    };
    ground.supernet = heritage.as_ref();
    let mut run = Run {
        ground,
        config,
        parts: &parts,
        work: &work,
        latencies,
        folder,
        known: vec![],
        findings: BTreeMap::new(),
        spent: 0.0,
    };
    let history = run.read_history()?;
    // Released code has no such rule.
    let constant = if config.compat { f64::INFINITY } else { config.evaluator.constant_error(data, &parts)? };
    let arms = arms(config)?;
    check_angle(&arms, heritage.as_ref())?;
    let twins = twins(&arms);
    let mut explored: Vec<Explored> = vec![];
    let (mut correlation, mut archs) = (BTreeMap::new(), vec![]);
    for (place, arm) in arms.iter().enumerate() {
        let domain = config.domain(family, arm, latencies)?;
        let warm = if place == 0 { &given.warm[..] } else { &[] };
        // Time is shared by those that measure something.
        let busy = |twins: &[Option<usize>]| twins.iter().filter(|twin| twin.is_none()).count() as f64;
        let until = busy(&twins[..=place]) / busy(&twins);
        let own = Exploration { arm, place, until, domain: &domain, constant, history: &history, warm };
        // Arms have as many evaluations as the first one came to, or the one with the same candidates.
        let like = explored.get(twins[place].unwrap_or(0));
        let limit = like.map_or(config.evaluations, |like| like.evaluated);
        let (found, correlations) = run.explore(&own, limit, observer)?;
        if place == 0 {
            if found.best.is_none() {
                return Err(nobody(&found, constant));
            }
            correlation = correlations;
        }
        archs.push(found.best.as_ref().map(|best| family.parse(&best.arch)).transpose()?);
        explored.push(found);
    }
    let domain = Bounded { is_final: true, ..config.domain(family, &arms[0], latencies)? };
    let outcome = run.finals(&arms, &archs, &domain, observer)?;
    let result = run.result((explored, correlation), constant, outcome)?;
    let json = serde_json::to_vec_pretty(&result).map_err(|e| Error::invalid(RESULT, e.to_string()))?;
    run.folder.write(RESULT, &json)?;
    Ok(result)
}

/// Latencies of the networks that are trained at the end, where they decide anything; the smallest must be within the limit.
fn latencies(task: &Task, folder: &RunFolder) -> Result<Option<Latencies>> {
    let &Task { gpu, preset, family, config, .. } = task;
    if !config.asks_latencies() {
        return Ok(None);
    }
    let trained = config.finals.family(family)?;
    let latencies = Latencies::open(gpu, preset, &trained, folder, config.seed)?;
    config.limits().check_latency(&trained, &latencies)?;
    latencies.save(folder)?;
    Ok(Some(latencies))
}

/// The images that train the supernet: those that the evaluator has for it, but where networks at the end begin with its weights none of
/// those by which one of them is chosen.
fn supernet_images(config: &SearchConfig, data: &Dataset, parts: &Parts) -> Result<Vec<usize>> {
    let all = data.train.len();
    let trained = training_images(all, config.finals.training_images(all), config.seed)?.len();
    let mut kept_back = images_kept_back(all, trained, config.finals.kept_back, config.seed);
    kept_back.sort_unstable();
    let inherited = matches!(config.evaluator, EvaluatorConfig::Trained(_));
    let may = |image: &usize| !inherited || kept_back.binary_search(image).is_err();
    Ok(parts.all.iter().copied().filter(may).collect())
}

/// What an arm's checkpoint holds.
#[derive(Default, Serialize, Deserialize)]
struct Proposed {
    steps: Vec<Step>,
    /// Seconds of evaluation, and, of the first arm, those of the run before it.
    seconds: f64,
    before: Option<f64>,
    /// What the evaluator found out before it could begin.
    findings: Option<(String, serde_json::Value)>,
}

/// An arm that is to be explored.
struct Exploration<'a> {
    arm: &'a Arm,
    /// Its place among all.
    place: usize,
    /// The share of the time that may be over at its end.
    until: f64,
    domain: &'a Bounded<'a>,
    constant: f64,
    history: &'a [Entry],
    /// Candidates of other runs to begin with.
    warm: &'a [Entry],
}

/// A run under way.
struct Run<'a> {
    ground: Ground<'a>,
    config: &'a SearchConfig,
    parts: &'a Parts,
    work: &'a Work,
    latencies: Option<&'a Latencies>,
    folder: &'a RunFolder,
    /// What was measured with each of the evaluators so far, by name: arms that share one do not measure again.
    known: Vec<(EvaluatorConfig, HashMap<String, Measures>)>,
    findings: BTreeMap<String, serde_json::Value>,
    /// Seconds that the supernet and the arms have taken so far.
    spent: f64,
}

impl<'a> Run<'a> {
    /// The lines of the history.
    fn read_history(&self) -> Result<Vec<Entry>> {
        let path = self.folder.path().join("history.jsonl");
        let mut seen = HashSet::new();
        let mut entries = vec![];
        for line in archive::entries(&path, self.folder.history()?.iter().map(String::as_str)) {
            let (number, entry) = line?;
            if !seen.insert((entry.arm.clone(), entry.arch.clone())) {
                let why = format!("`{}` of arm {} is there twice; remove the line", entry.arch, entry.arm);
                return Err(archive::at(&path, number, &why));
            }
            if let (Some(latencies), Some(&own)) = (self.latencies, entry.measures.get(LATENCY)) {
                latencies.remember(&entry.arch, own);
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    fn append(&self, entry: &Entry) -> Result<()> {
        let line = serde_json::to_string(entry).map_err(|e| Error::invalid("history", e.to_string()))?;
        self.folder.append_history(&line)
    }

    /// Whether the time is over of an arm that has taken so many seconds. What comes after the arms does not count, so that a run may
    /// be extended.
    fn is_late(&self, own: &Exploration, seconds: f64) -> bool {
        self.config.time > 0.0 && self.spent + seconds > self.config.time * own.until
    }

    /// Begins a study with candidates of other runs, or goes on from what is there of it.
    fn begin(&self, study: &mut Study, own: &Exploration, steps: Vec<Step>) -> Result<()> {
        let entries: Vec<Entry> = own.history.iter().filter(|entry| entry.arm == own.arm.name).cloned().collect();
        if own.warm.is_empty() || !steps.is_empty() || entries.iter().any(|entry| !entry.given) {
            return study.restore(entries, steps);
        }
        let warm = own.warm.iter().map(|entry| {
            let mut entry = entry.clone();
            self.add_latency(&self.ground.family.parse(&entry.arch)?, &mut entry.measures)?;
            Ok(entry)
        });
        study.warm_start(warm.collect::<Result<Vec<_>>>()?)?;
        for entry in study.entries() {
            if entries.iter().all(|written| written.arch != entry.arch) {
                self.append(entry)?;
            }
        }
        Ok(())
    }

    /// Goes on from what the history has of an arm to its end; what it found, and what its objective goes with.
    fn explore(
        &mut self,
        own: &Exploration,
        limit: usize,
        observer: &mut Observer,
    ) -> Result<(Explored, BTreeMap<String, Option<f64>>)> {
        let arm = own.arm;
        let device = Some((self.ground.setting.gpu.clone(), self.ground.setting.preset));
        let (strategy, objectives) = (arm.strategy.open(device), arm.objectives.open(own.constant));
        let mut study = Study::new(own.domain, strategy, objectives, self.config.seed).named(&arm.name);
        let checkpoint = format!("arm-{}", arm.name);
        let mut proposed: Proposed = self.folder.read_checkpoint_json(&checkpoint)?.unwrap_or_default();
        if own.place == 0 {
            // That of the supernet, which is there by now.
            proposed.before = proposed.before.or(Some(self.folder.seconds()));
            self.spent = proposed.before.unwrap_or_default();
        }
        self.begin(&mut study, own, std::mem::take(&mut proposed.steps))?;
        let given = study.entries().iter().filter(|entry| entry.given).count();
        self.remember(arm, study.entries());
        let share = self.work.share(own.place + 1);
        let name = format!("evaluating candidates of arm {}", arm.name);
        tell(observer, Event::Stage { name: &name, units: limit as u64, from: share.from, to: share.to })?;
        let mut evaluator: Option<Box<dyn Evaluator + 'a>> = None;
        let evaluated = |study: &Study| study.entries().len() - given;
        // However little time there is, a candidate is needed.
        while evaluated(&study) < limit && !(self.is_late(own, proposed.seconds) && evaluated(&study) > 0) {
            let (begin, steps) = (self.folder.seconds(), study.steps().len());
            let evaluator = match &mut evaluator {
                Some(evaluator) => evaluator,
                none => none.insert(arm.evaluator.open(self.ground, self.parts, self.folder)?),
            };
            let width = evaluator.width();
            let jobs = study.ask(width.min(limit - evaluated(&study)))?;
            self.latencies.map_or(Ok(()), Latencies::check)?;
            if study.steps().len() > steps {
                self.tell_notes(arm, study.steps().last());
                proposed.findings = evaluator.findings().map(|(name, value)| (name.to_owned(), value));
            }
            if let Some(latencies) = self.latencies {
                latencies.save(self.folder)?;
            }
            // A clock that ends the search has to be kept.
            if study.steps().len() > steps || self.config.time > 0.0 {
                proposed.steps = study.steps().to_vec();
                self.folder.checkpoint_json(&checkpoint, &proposed)?;
            }
            if jobs.is_empty() {
                break;
            }
            let done = evaluated(&study);
            let measured = self.measure(&mut **evaluator, arm, &jobs, &mut |share| {
                let done = (done as f64 + share * jobs.len() as f64) as u64;
                tell(observer, Event::Advance { done, note: format!("generation {}", jobs[0].generation) })
            })?;
            for (job, measures) in jobs.iter().zip(measured) {
                self.append(study.tell(job, measures)?)?;
            }
            proposed.seconds += self.folder.seconds() - begin;
            let best = study.best();
            // Whoever stops the search here loses none of them.
            for entry in study.entries().iter().rev().take(jobs.len()).rev() {
                let Entry { arm, arch, params, fitness, measures, .. } = entry;
                let (params, fitness, best) = (*params, *fitness, best.map(|best| best.arch.as_str()));
                tell(observer, Event::Evaluated { arm, arch, params, fitness, measures, best })?;
            }
            let note = best.map(|best| format!("best {:.4}, {} parameters", best.fitness, best.params));
            tell(observer, Event::Advance { done: evaluated(&study) as u64, note: note.unwrap_or_default() })?;
        }
        if own.place == 0 {
            self.findings.extend(proposed.findings);
        }
        self.spent += proposed.seconds;
        Ok((Explored::of(&arm.name, &study, arm.strategy.name(), proposed.seconds), correlations(&study)?))
    }

    /// Tells what a strategy could not do. Who leaves the choice to the program need not hear each time what could not be chosen;
    /// results hold it.
    fn tell_notes(&self, arm: &Arm, step: Option<&Step>) {
        let adaptive = super::surrogate::Kind::Adaptive;
        let level = match &arm.strategy {
            super::strategy::StrategyConfig::Surrogate(settings) if settings.surrogate == adaptive => log::Level::Info,
            _ => log::Level::Warn,
        };
        for step in step.into_iter() {
            step.notes.iter().for_each(|note| log::log!(level, "generation {}: {note}", step.generation));
        }
    }

    /// What arms with this one's evaluator have measured.
    fn shared(&mut self, arm: &Arm) -> &mut HashMap<String, Measures> {
        let place = match self.known.iter().position(|(config, _)| *config == arm.evaluator) {
            Some(place) => place,
            None => {
                self.known.push((arm.evaluator.clone(), HashMap::new()));
                self.known.len() - 1
            }
        };
        &mut self.known[place].1
    }

    fn remember(&mut self, arm: &Arm, entries: &[Entry]) {
        let known = entries.iter().map(|entry| (entry.arch.clone(), entry.measures.clone()));
        self.shared(arm).extend(known);
    }

    /// Measures candidates, but those that another arm has measured with the same evaluator.
    fn measure(
        &mut self,
        evaluator: &mut dyn Evaluator,
        arm: &Arm,
        jobs: &[Job],
        between: &mut dyn FnMut(f64) -> Result<()>,
    ) -> Result<Vec<Measures>> {
        let known = self.shared(arm);
        let new: Vec<Job> = jobs.iter().filter(|job| !known.contains_key(&job.name)).cloned().collect();
        if !new.is_empty() {
            let mut measured = evaluator.evaluate(&new, between)?;
            for (job, measures) in new.iter().zip(&mut measured) {
                self.add_latency(&job.arch, measures)?;
            }
            // Before the history holds what follows from it.
            self.latencies.map_or(Ok(()), |latencies| latencies.save(self.folder))?;
            let known = self.shared(arm);
            known.extend(new.iter().map(|job| job.name.clone()).zip(measured));
        }
        let known = self.shared(arm);
        Ok(jobs.iter().map(|job| known.get(&job.name).cloned().unwrap_or_default()).collect())
    }

    /// Adds to what was measured of a network how long it takes, where that decides anything.
    fn add_latency(&self, arch: &Arch, measures: &mut Measures) -> Result<()> {
        if let Some(latencies) = self.latencies {
            measures.insert(LATENCY.to_owned(), latencies.of(arch)?);
        }
        Ok(())
    }

    /// Trains and judges the networks at the end; `winners` are those of the arms.
    fn finals(
        &mut self,
        arms: &[Arm],
        winners: &[Option<Arch>],
        domain: &Bounded,
        observer: &mut Observer,
    ) -> Result<Outcome> {
        let Run { ground, config, .. } = *self;
        let Ground { setting, family, data, seed, supernet } = ground;
        let mut roles = vec![];
        let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
        for text in &config.finals.contestants {
            let (name, who, optimizer) = contestant(text, &names)?;
            let arch = match who {
                Who::Largest => Some(largest(domain)?),
                Who::Random(number) => Some(draw_within(domain, &mut Stream::new(seed, ANY_PURPOSE, number))),
                Who::Winner(place) => winners[place].clone(),
            };
            // An arm in which nothing could be chosen has no winner.
            roles.extend(arch.map(|arch| (name, arch, optimizer.unwrap_or(config.training.optimizer))));
        }
        self.latencies.map_or(Ok(()), Latencies::check)?;
        let family = &config.finals.family(family)?;
        let networks =
            roles.iter().map(|(_, arch, _)| family.network(arch)).collect::<Result<Vec<Box<dyn Model>>>>()?;
        // Networks at the end inherit where candidates that were trained did.
        let heritage = supernet.filter(|_| matches!(config.evaluator, EvaluatorConfig::Trained(_)));
        let name = |arch| move |own: &str| heritage.and_then(|heritage: &Heritage| heritage.source(own, arch));
        let names: Vec<_> = roles.iter().map(|(_, arch, _)| name(arch)).collect();
        let cut = |arch: &Arch| heritage.map_or(Ok(None), |heritage| heritage.cut(family, arch));
        let cuts = roles.iter().map(|(_, arch, _)| cut(arch)).collect::<Result<Vec<_>>>()?;
        let mut contestants = vec![];
        for ((((who, arch, optimizer), network), name), cut) in roles.iter().zip(&networks).zip(&names).zip(&cuts) {
            let cost = family.cost(arch)?;
            contestants.push(Contestant {
                role: (*who).to_owned(),
                arch: family.show(arch),
                model: &**network,
                params: cost.params,
                macs: cost.macs,
                latency: self.latencies.map(|latencies| latencies.measured_wait(arch)).transpose()?,
                optimizer: *optimizer,
                inherit: heritage.map(|heritage| Inheritance { from: cut.as_ref().unwrap_or(heritage.named()), name }),
                card: ModelCard::of(family, arch, &data.train.class_names, setting.statistics)
                    .with_reading(&data.reading),
                costs_no_search: *who == "largest",
            });
        }
        self.latencies.map_or(Ok(()), |latencies| latencies.save(self.folder))?;
        let all = data.train.len();
        let images = training_images(all, config.finals.training_images(all), seed)?;
        let recalibration = match &config.evaluator {
            EvaluatorConfig::Trained(options) => options.recalibration(&images, seed),
            _ => vec![],
        };
        let attacks = config.finals.attacks()?;
        let trial = Trial {
            setting,
            data,
            recipe: &config.training,
            training: &images,
            kept_back: &images_kept_back(all, images.len(), config.finals.kept_back, seed),
            recalibration: &recalibration,
            seeds: &(0..config.finals.seeds).map(|i| seed.wrapping_add(i)).collect::<Vec<_>>(),
            judging: Judging {
                noise: Some(config.finals.noise),
                attacks: &attacks,
                images: config.finals.judged_images,
                resized_first: config.finals.resized_first,
                seed,
            },
        };
        let share = self.work.share(arms.len() + 1);
        let outcome = trial.run(&contestants, self.folder, share, observer)?;
        let comparison = table("out of distribution: errors and R in percent points", &outcome.finalists);
        self.folder.write("table.csv", &comparison.csv()?)?;
        self.folder.write("table.svg", comparison.svg().as_bytes())?;
        Ok(outcome)
    }

    fn result(
        &mut self,
        (arms, correlations): (Vec<Explored>, BTreeMap<String, Option<f64>>),
        constant: f64,
        Outcome { finalists, trained, mistakes }: Outcome,
    ) -> Result<SearchResult> {
        let Run { ground, config, .. } = *self;
        let report = ground.setting.gpu.report();
        let first = arms.first().ok_or_else(|| Error::invalid("arms", "there is none"))?;
        let best = first.best.clone().ok_or_else(|| Error::invalid("search", "nothing was found"))?;
        let missing = config.evaluations.saturating_sub(first.evaluated);
        let short = (missing > 0).then(|| match config.time > 0.0 {
            true => format!("{} were asked for; the time was over", config.evaluations),
            false => format!("{} were asked for; no more were found in many draws", config.evaluations),
        });
        let mut varies = vec![];
        if config.time > 0.0 {
            varies.push("a clock ends the search: another run may evaluate more candidates, or fewer".to_owned());
        }
        if let Some(latencies) = self.latencies {
            varies.push("latencies were measured: another run may find others, and choose by them".to_owned());
            self.findings.insert(LATENCY.to_owned(), latencies.summary());
        }
        Ok(SearchResult {
            method: config.method.to_string(),
            space: config.space.clone(),
            dataset: ground.data.name.clone(),
            seed: config.seed,
            compat: config.compat,
            device: format!("{} ({})", report.name, report.driver),
            reproducible: varies.is_empty(),
            varies,
            seconds: self.folder.seconds(),
            changes: self.folder.changes(),
            evaluated: first.evaluated,
            short,
            best,
            front: first.front.clone(),
            findings: std::mem::take(&mut self.findings),
            constant_error: constant.is_finite().then_some(constant),
            correlations,
            arms,
            supernet_training: ground.supernet.map_or(vec![], |heritage| heritage.curve().to_vec()),
            trained,
            finalists,
            mistakes,
            config: config.clone(),
        })
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
