//! Latency: how long a network takes for one image on the adapter at hand, from submission to completion, warm: the median of several runs, of
//! which the least counts where something else slowed the machine down for a while.
//!
//! A search asks for more latencies than can be measured. So the dispatches of some networks are timed one by one; networks share most of
//! them, and what others take is the sum over theirs (the tables of Cai, Gan, Wang, Zhang and Han, "Once-for-all", ICLR 2020, section 4, where
//! blocks are layers). A line through measured latencies, over such sums, has what is not in them: what a submission costs, and what time
//! stamps do. Networks that the line has not seen say how far it is off. Where that is more than a tenth, candidates are measured one by
//! one, and the line only helps to propose them.
//!
//! What was measured once is not measured again: a run's folder keeps it, with the table.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::plan::{Instance, Plan};
use crate::graph::{Graph, Role, Statistics};
use crate::kernels::Preset;
use crate::nn::space::Family;
use crate::nn::tensors::{Named, fresh};
use crate::nn::{Layers, Model};
use crate::philox::Stream;
use crate::report::folder::RunFolder;
use crate::report::statistics::median;
use crate::space::Arch;
use crate::train::stores::Stores;

/// Purpose word of the networks that are measured first.
const PURPOSE: u32 = 0x4C41_5459;
/// Networks by which the line is laid, and those that check it.
const NETWORKS: (usize, usize) = (8, 4);
/// By how much a foretold latency may be off, as a part of the measured one.
const TOLERANCE: f64 = 0.1;
/// Rounds in which networks take turns, runs of each turn, behind one that warms up, and runs with time stamps.
const RUNS: (usize, usize, usize) = (5, 7, 2);
/// Name of the checkpoint that holds what was found.
const CHECKPOINT: &str = "latency";

/// The graph of a network that sees one image, with the statistics that it was trained to.
fn graph(model: &dyn Model) -> Result<Arc<Graph>> {
    let mut layers = Layers::new(Statistics::Running)?;
    let (x, _) = layers.batch(1, model.input())?;
    let logits = model.forward(&mut layers, x)?.logits;
    layers.builder.probe(logits, "logits");
    Ok(Arc::new(layers.builder.finish()))
}

/// A network compiled for one image.
struct Pass {
    gpu: Gpu,
    plan: Plan,
}

impl Pass {
    fn new(gpu: &Gpu, preset: Preset, graph: &Arc<Graph>) -> Result<Self> {
        let stores = Stores::new(gpu, graph, 1)?;
        let mut named = Named::new();
        for role in [Role::Weights, Role::Running] {
            // A network without norms has no statistics.
            named.extend(stores.of(role).map_or_else(|_| Named::new(), |store| fresh(store.contents(), 0)));
        }
        stores.load(0, &named)?;
        let instance = Instance { graph: graph.clone(), bindings: stores.bindings(0), path: vec![] };
        Ok(Pass { gpu: gpu.clone(), plan: Plan::compile(gpu, vec![instance], preset)? })
    }

    fn run(&self) -> Result<()> {
        self.plan.submit();
        self.gpu.wait()
    }
}

/// What was timed of a network, milliseconds.
#[derive(Clone)]
struct Timed {
    whole: f64,
    /// Of each dispatch, by what it does.
    blocks: Vec<(u64, f64)>,
}

/// Times compiled networks: so many runs of each turn, and so many with time stamps.
fn in_turns_wait(passes: &[Pass], runs: usize, stamped: usize) -> Result<Vec<Timed>> {
    let mut least = vec![f64::INFINITY; passes.len()];
    let mut stamps: Vec<Vec<Vec<(u64, f64)>>> = vec![vec![]; passes.len()];
    for _ in 0..RUNS.0 {
        for (place, pass) in passes.iter().enumerate() {
            pass.run()?;
            let mut times = vec![];
            for _ in 0..runs {
                let start = Instant::now();
                pass.run()?;
                times.push(start.elapsed().as_secs_f64() * 1e3);
            }
            least[place] = median(&times).map_or(least[place], |own| own.min(least[place]));
            for _ in 0..stamped {
                stamps[place].push(pass.plan.block_times_wait()?);
            }
        }
    }
    let timed = |(whole, runs): (f64, Vec<Vec<(u64, f64)>>)| {
        let times = |at: usize| runs.iter().filter_map(|run| Some(1e3 * run.get(at)?.1)).collect::<Vec<_>>();
        let first = runs.first().into_iter().flatten().enumerate();
        Timed { whole, blocks: first.filter_map(|(at, (block, _))| Some((*block, median(&times(at))?))).collect() }
    };
    Ok(least.into_iter().zip(stamps).map(timed).collect())
}

/// Milliseconds that networks take for one image each, on an adapter that does nothing else.
///
/// # Errors
/// If one cannot be built, or the device has no room or fails.
pub fn latencies_wait(gpu: &Gpu, preset: Preset, models: &[&dyn Model]) -> Result<Vec<f64>> {
    let pass = |model: &&dyn Model| Pass::new(gpu, preset, &graph(*model)?);
    let timed = in_turns_wait(&models.iter().map(pass).collect::<Result<Vec<_>>>()?, RUNS.1, 0)?;
    Ok(timed.into_iter().map(|timed| timed.whole).collect())
}

/// A straight line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    /// Milliseconds at 0.
    overhead: f64,
    /// Milliseconds for each unit.
    slope: f64,
}

impl Line {
    /// The line of least squared deviations, each as a part of the value; one through 0 where values do not rise along it.
    fn through(points: &[(f64, f64)]) -> Line {
        let sum = |term: &dyn Fn(f64, f64) -> f64| points.iter().map(|&(x, y)| term(x, y) / (y * y)).sum::<f64>();
        let (n, x, y) = (sum(&|_, _| 1.0), sum(&|x, _| x), sum(&|_, y| y));
        let (xx, xy) = (sum(&|x, _| x * x), sum(&|x, y| x * y));
        let spread = n * xx - x * x;
        let slope = (n * xy - x * y) / spread;
        // Where all points lie at one place the rest of the difference is rounding.
        if spread > 1e-9 * n * xx && slope > 0.0 {
            return Line { overhead: (y - slope * x) / n, slope };
        }
        match xy / xx {
            slope if slope.is_finite() => Line { overhead: 0.0, slope },
            // Nothing is known but the values.
            _ => Line { overhead: if n > 0.0 { y / n } else { 0.0 }, slope: 0.0 },
        }
    }

    fn at(self, x: f64) -> f64 {
        (self.overhead + self.slope * x).max(0.0)
    }
}

/// What a run found out about latencies; its summary is a part of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Table {
    /// Adapter, driver, version, and whether shaders are checked: of another one are other latencies.
    made_on: [String; 4],
    line: Line,
    /// The largest deviation on networks that the line had not seen, as a part of what was measured, and how many these are; none in a space of
    /// few networks.
    deviation: Option<(f64, usize)>,
    /// Milliseconds of dispatches, by what they do; empty if the adapter has no time stamps, and the line goes over multiply-adds.
    blocks: BTreeMap<u64, f64>,
    /// Milliseconds of whole networks that were measured, by name.
    measured: BTreeMap<String, f64>,
}

/// Latencies of a space's networks on one adapter.
pub struct Latencies {
    gpu: Gpu,
    preset: Preset,
    family: Family,
    table: Mutex<Table>,
    /// Foretold.
    foretold: Mutex<HashMap<Arch, f64>>,
    /// Those that count, by name: what histories hold.
    known: Mutex<HashMap<String, f64>>,
    /// What the device had to say where nobody could be told.
    fault: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Latencies {
    /// Measures some networks, or goes on with what the folder has of an earlier start.
    ///
    /// # Errors
    /// If the folder has those of another adapter, driver or version, or the device has no room or fails.
    pub fn open(gpu: &Gpu, preset: Preset, family: &Family, folder: &RunFolder, seed: u64) -> Result<Self> {
        let (report, version) = (gpu.report(), env!("CARGO_PKG_VERSION").to_owned());
        let checks = if gpu.checked() { "with checks" } else { "without checks" };
        let table = Table {
            made_on: [report.name.clone(), report.driver.clone(), version, checks.to_owned()],
            line: Line { overhead: 0.0, slope: 1.0 },
            deviation: None,
            blocks: BTreeMap::new(),
            measured: BTreeMap::new(),
        };
        let mut own = Latencies {
            gpu: gpu.clone(),
            preset,
            family: family.clone(),
            table: Mutex::new(table),
            foretold: Mutex::default(),
            known: Mutex::default(),
            fault: Mutex::default(),
        };
        match folder.read_checkpoint_json(CHECKPOINT)? {
            Some(table) => own.take_up(table)?,
            None => own.lay(seed)?,
        }
        Ok(own)
    }

    fn take_up(&mut self, table: Table) -> Result<()> {
        let own = lock(&self.table).made_on.clone();
        if table.made_on != own {
            let why = format!(
                "the run's were measured on {}, and this is {}: go on with what it was begun with (--device), or begin anew (--force)",
                table.made_on.join(", "),
                own.join(", ")
            );
            return Err(Error::invalid("latencies", why));
        }
        self.table = Mutex::new(table);
        Ok(())
    }

    /// Lays the line, and looks how far it is off.
    fn lay(&mut self, seed: u64) -> Result<()> {
        let mut archs = vec![self.family.smallest()];
        let mut draw = Stream::new(seed, PURPOSE, 0);
        for _ in 0..8 * (NETWORKS.0 + NETWORKS.1) {
            if archs.len() < NETWORKS.0 + NETWORKS.1 {
                let arch = self.family.sample(&mut draw)?;
                archs.extend((!archs.contains(&arch)).then_some(arch));
            }
        }
        let measured = self.look_inside(&archs, RUNS.1)?;
        let sizes = archs.iter().map(|arch| self.size(arch)).collect::<Result<Vec<_>>>()?;
        let points: Vec<(f64, f64)> = sizes.into_iter().zip(measured.iter().copied()).collect();
        let mut table = lock(&self.table);
        table.measured.extend(archs.iter().map(|arch| self.family.show(arch)).zip(measured));
        let (laid, held) = points.split_at(NETWORKS.0.min(points.len()));
        let line = Line::through(laid);
        let most = held.iter().map(|&(x, y)| (line.at(x) - y).abs() / y).fold(0.0, f64::max);
        table.line = line;
        table.deviation = (!held.is_empty() && most.is_finite()).then_some((most, held.len()));
        log::info!("latencies: {line:?}, off by at most {:.1} % on {} networks", 100.0 * most, held.len());
        Ok(())
    }

    /// Times networks, and writes down what their dispatches take that are not known yet; what is known stays, so that what was foretold
    /// does. Milliseconds of the whole networks, by so many runs of each turn.
    fn look_inside(&self, archs: &[Arch], runs: usize) -> Result<Vec<f64>> {
        let pass = |arch: &Arch| Pass::new(&self.gpu, self.preset, &graph(&*self.family.network(arch)?)?);
        let timed = in_turns_wait(&archs.iter().map(pass).collect::<Result<Vec<_>>>()?, runs, RUNS.2)?;
        // Time stamps that stand still are none.
        let moves = timed.iter().flat_map(|timed| &timed.blocks).any(|(_, time)| *time > 0.0);
        let mut table = lock(&self.table);
        for (block, time) in timed.iter().flat_map(|timed| &timed.blocks).filter(|_| moves) {
            table.blocks.entry(*block).or_insert(*time);
        }
        Ok(timed.iter().map(|timed| timed.whole).collect())
    }

    /// What the line goes over: milliseconds of a network's dispatches, or billions of multiply-adds.
    fn size(&self, arch: &Arch) -> Result<f64> {
        if lock(&self.table).blocks.is_empty() {
            return Ok(self.family.cost(arch)?.macs as f64 / 1e9);
        }
        let blocks = Plan::blocks(&graph(&*self.family.network(arch)?)?, self.preset);
        let sum = || {
            let table = lock(&self.table);
            blocks.iter().map(|block| table.blocks.get(block).copied()).sum::<Option<f64>>()
        };
        if let Some(sum) = sum() {
            return Ok(sum);
        }
        let looked = self.look_inside(std::slice::from_ref(arch), 0);
        let found = looked
            .and_then(|_| sum().ok_or_else(|| Error::invalid("latency", "a dispatch of a network was not timed")));
        // Who asks for many cannot tell a fault from a network that is too slow.
        found.map_err(|error| {
            let why = Error::invalid("latencies", error.to_string());
            lock(&self.fault).get_or_insert(error);
            why
        })
    }

    /// What the device had to say while latencies were foretold.
    ///
    /// # Errors
    /// That.
    pub fn check(&self) -> Result<()> {
        lock(&self.fault).take().map_or(Ok(()), Err)
    }

    /// Whether foretold latencies are near enough to count.
    fn counts_foretold(&self) -> bool {
        let table = lock(&self.table);
        !table.blocks.is_empty() && table.deviation.is_some_and(|(deviation, _)| deviation <= TOLERANCE)
    }

    /// What an architecture's network will take, milliseconds: what counts, where that is known, or by the line.
    ///
    /// # Errors
    /// If it cannot be built, or the device fails where a part of it has to be measured.
    pub fn foretold(&self, arch: &Arch) -> Result<f64> {
        let name = self.family.show(arch);
        let known = lock(&self.known).get(&name).copied().or_else(|| lock(&self.foretold).get(arch).copied());
        if let Some(known) = known {
            return Ok(known);
        }
        let size = self.size(arch)?;
        let foretold = lock(&self.table).line.at(size);
        lock(&self.foretold).insert(arch.clone(), foretold);
        Ok(foretold)
    }

    /// The latency that counts of an architecture, milliseconds: foretold, or measured where that is too far off. Always the same.
    ///
    /// # Errors
    /// If its network cannot be built, or the device has no room or fails.
    pub fn of(&self, arch: &Arch) -> Result<f64> {
        let name = self.family.show(arch);
        if let Some(known) = lock(&self.known).get(&name) {
            return Ok(*known);
        }
        let latency = if self.counts_foretold() { self.foretold(arch)? } else { self.measured_wait(arch)? };
        lock(&self.known).insert(name, latency);
        Ok(latency)
    }

    /// The latency of an architecture's network as it was measured: now, if it was not before.
    ///
    /// # Errors
    /// If it cannot be built, or the device has no room or fails.
    pub fn measured_wait(&self, arch: &Arch) -> Result<f64> {
        let name = self.family.show(arch);
        if let Some(known) = lock(&self.table).measured.get(&name) {
            return Ok(*known);
        }
        let network = self.family.network(arch)?;
        let measured = latencies_wait(&self.gpu, self.preset, &[&*network])?[0];
        lock(&self.table).measured.insert(name, measured);
        Ok(measured)
    }

    /// Takes what an earlier start of the run had found of an architecture.
    pub fn remember(&self, name: &str, latency: f64) {
        lock(&self.known).insert(name.to_owned(), latency);
    }

    /// Keeps the table, by which what is proposed next is chosen.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, folder: &RunFolder) -> Result<()> {
        folder.checkpoint_json(CHECKPOINT, &*lock(&self.table))
    }

    /// What the result says of them.
    pub fn summary(&self) -> serde_json::Value {
        let foretold = self.counts_foretold();
        let table = lock(&self.table);
        serde_json::json!({
            "adapter": table.made_on[0],
            "driver": table.made_on[1],
            "images": 1,
            "by": if foretold { "a table of dispatches" } else { "measuring each candidate" },
            "dispatches": table.blocks.len(),
            "overhead": table.line.overhead,
            "slope": table.line.slope,
            "largest_deviation": table.deviation.map(|(deviation, _)| deviation),
            "checked_on": table.deviation.map_or(0, |(_, networks)| networks),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_least_relative_deviations() {
        let on_it = Line::through(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]);
        assert!((on_it.overhead - 3.0).abs() < 1e-9 && (on_it.slope - 2.0).abs() < 1e-9, "{on_it:?}");
        // By brute force.
        let points = [(1.0, 4.0), (2.0, 7.5), (5.0, 13.0), (9.0, 20.0)];
        let cost =
            |line: Line| points.iter().map(|&(x, y)| ((line.overhead + line.slope * x - y) / y).powi(2)).sum::<f64>();
        let found = Line::through(&points);
        for (a, b) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3)] {
            assert!(cost(found) < cost(Line { overhead: found.overhead + a, slope: found.slope + b }));
        }
        // Of one point, or of points that fall: through 0.
        assert_eq!(Line::through(&[(2.0, 6.0)]), Line { overhead: 0.0, slope: 3.0 });
        let falling = Line::through(&[(1.0, 3.0), (2.0, 1.0)]);
        assert!(falling.overhead == 0.0 && falling.slope > 0.0, "{falling:?}");
        // All at one place, or at none.
        let same = Line::through(&[(0.1 + 0.2, 3.0), (0.3, 5.0), (0.1 + 0.2, 4.0)]);
        assert!(same.overhead == 0.0 && (same.slope - 12.3).abs() < 1.0, "{same:?}");
        let nowhere = Line::through(&[(0.0, 3.0), (0.0, 3.0)]);
        assert!((nowhere.overhead - 3.0).abs() < 1e-12 && nowhere.slope == 0.0, "{nowhere:?}");
        assert_eq!(Line::through(&[]), Line { overhead: 0.0, slope: 0.0 });
        assert_eq!(Line { overhead: -1.0, slope: 1.0 }.at(0.5), 0.0);
    }
}
