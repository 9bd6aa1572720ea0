//! Compiling instances of graphs into one list of dispatches.
//!
//! An [`Instance`] is a graph with its own path, memory and stores. All instances are lowered to calls, and calls of
//! equal shaders that do not wait for each other become one dispatch with a task per call: the edges of a cell, the draws of
//! a noise measure, the candidates of a population. Life times are counted in these dispatches, so nothing that a task
//! writes overlaps what a sibling reads or writes.
//!
//! A path is data: [`Plan::choose`] rewrites task rows and counts and compiles nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::ir::{Graph, Role, Shape, TensorId};
use super::schedule::{GraphLayout, Merged, Schedule, block, blocks};
use super::store::Store;
use crate::error::{Error, Result};
use crate::gpu::{Dispatch, Gpu, Load, Part, Recorder, Slab};
use crate::kernels::{Call, Cost, Preset, Word};
use crate::shader::Variant;

/// Slabs that a shader with a pool can see at once.
pub(super) const POOL: usize = 3;

/// Stores that an instance uses: for each role one, and the number of the copy.
pub type Bindings = BTreeMap<Role, (Store, usize)>;

/// A graph that runs with its own memory.
#[derive(Clone)]
pub struct Instance {
    /// The network, shared by instances of the same shape.
    pub graph: Arc<Graph>,
    /// Where its persistent tensors live.
    pub bindings: Bindings,
    /// Option taken by each choice.
    pub path: Vec<u8>,
}

/// One task of a dispatch.
struct Task {
    instance: usize,
    call: Arc<Call>,
    /// Words of the row, resolved but for the terms.
    head: Vec<Resolved>,
    terms: Vec<Vec<u32>>,
}

/// A word whose value is known, or that the active terms decide.
#[derive(Clone, Copy)]
enum Resolved {
    Word(u32),
    FirstTerm,
    Terms(u32),
}

/// A dispatch with its tasks, and what the current paths make of it.
struct Bound {
    /// Its number in the schedule: what lies in several slabs is bound in as many parts.
    number: usize,
    dispatch: Dispatch,
    tasks: Vec<Task>,
    /// First word of its rows in the table.
    rows: usize,
    /// What each active task comes to.
    active: Vec<Load>,
}

/// A dispatch to be: its number in the schedule, its variant, its operands, and the calls that share it.
type Pending = (usize, Variant, Vec<Slab>, Vec<(usize, Arc<Call>)>);

/// What a plan would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Bytes of device memory of temporaries.
    pub bytes: u64,
    /// Dispatches, if all operands of each lie in the same slabs.
    pub dispatches: usize,
}

/// Compiled dispatches of any number of instances.
pub struct Plan {
    gpu: Gpu,
    instances: Vec<Instance>,
    bound: Vec<Bound>,
    table: Vec<u32>,
    table_slab: Slab,
    layouts: Vec<Arc<GraphLayout>>,
    /// Layout and base places of each instance's bins.
    homes: Vec<(usize, Vec<(Slab, u64)>)>,
    /// Bytes of device memory that this plan took for itself.
    bytes: u64,
}

impl Plan {
    /// Compiles `instances`, which run side by side.
    ///
    /// # Errors
    /// [`Error::Memory`] if the memory does not suffice, [`Error::Shader`] if a shader does not compile, or an error that
    /// names the tensor that a store lacks.
    pub fn compile(gpu: &Gpu, instances: Vec<Instance>, preset: Preset) -> Result<Self> {
        instances.iter().try_for_each(|instance| check_path(&instance.graph, &instance.path))?;
        let graphs: Vec<_> = instances.iter().map(|i| i.graph.clone()).collect();
        let schedule = Schedule::new(&graphs, preset, &gpu.report().limits)?;
        gpu.check_room(schedule.bytes(), "this pass with what is taken already")?;
        let slabs = schedule.slabs.iter().map(|&size| gpu.slab(size * 16, "activations"));
        let slabs: Vec<Slab> = slabs.collect::<Result<_>>()?;
        let bytes = slabs.iter().map(Slab::bytes).sum();
        let Schedule { layouts, graph_of, merged, homes, .. } = schedule;
        let layouts: Vec<_> = layouts.into_iter().map(Arc::new).collect();
        let home = |bins: Vec<(usize, u64)>| bins.into_iter().map(|(s, at)| (slabs[s].clone(), at)).collect();
        let homes: Vec<_> = graph_of.iter().copied().zip(homes.into_iter().map(home)).collect();
        let mut plan = Plan {
            gpu: gpu.clone(),
            table_slab: gpu.slab(16, "task rows")?,
            instances,
            bound: vec![],
            table: vec![],
            layouts,
            homes,
            bytes,
        };
        plan.bind(&merged)?;
        plan.refresh()?;
        log::debug!(
            "plan of {} instances of {} graphs: {} tasks in {} dispatches, {} KiB of temporaries",
            plan.instances.len(),
            plan.layouts.len(),
            plan.active_tasks().count(),
            plan.dispatches(),
            plan.bytes >> 10,
        );
        Ok(plan)
    }

    /// What a plan of these instances would take; takes nothing. Instances of one network share its `Arc`.
    ///
    /// # Errors
    /// [`Error::Memory`] if they cannot be placed on this adapter.
    pub fn announce(gpu: &Gpu, graphs: &[Arc<Graph>], preset: Preset) -> Result<Announced> {
        let schedule = Schedule::new(graphs, preset, &gpu.report().limits)?;
        Ok(Announced { bytes: schedule.bytes(), dispatches: schedule.merged.len() })
    }

    /// Takes new paths for all instances; nothing is compiled.
    ///
    /// # Errors
    /// If a path has another length than the graph has choices, or an option does not exist.
    pub fn choose(&mut self, paths: &[Vec<u8>]) -> Result<()> {
        if paths.len() != self.instances.len() {
            return Err(Error::shape("paths", self.instances.len(), paths.len()));
        }
        for (instance, path) in self.instances.iter_mut().zip(paths) {
            check_path(&instance.graph, path)?;
            instance.path.clone_from(path);
        }
        self.refresh()
    }

    /// Records all dispatches, cut where they would keep the device too long.
    pub fn record(&self, recorder: &mut Recorder) {
        for bound in self.bound.iter().filter(|bound| !bound.active.is_empty()) {
            recorder.tasks(&bound.dispatch, &bound.active);
        }
    }

    /// Records, submits, and returns without waiting.
    pub fn submit(&self) {
        let mut recorder = self.gpu.record();
        self.record(&mut recorder);
        recorder.submit();
    }

    /// Runs it and waits, with each dispatch timed by itself: for each, in their order, a number that says what it does, and its seconds.
    /// What does the same in another plan has the same number (see [`Plan::blocks`]). Nothing if the device has no time stamps.
    ///
    /// # Errors
    /// If the device fails.
    pub fn block_times_wait(&self) -> Result<Vec<(u64, f64)>> {
        let mut recorder = self.gpu.record();
        recorder.profile();
        let mut parts = vec![];
        let of_one = self.bound.chunk_by(|a, b| a.number == b.number);
        for bounds in of_one.clone() {
            let before = recorder.dispatches();
            bounds.iter().for_each(|bound| recorder.tasks(&bound.dispatch, &bound.active));
            parts.push(recorder.dispatches() - before);
        }
        let mut timings = recorder.submit_profiled()?.into_iter().map(|timing| timing.seconds);
        if timings.len() == 0 {
            return Ok(vec![]);
        }
        let time = |(bounds, parts): (&[Bound], usize)| {
            let calls = bounds.iter().flat_map(|bound| &bound.tasks).map(|task| &*task.call);
            (block(calls), timings.by_ref().take(parts).sum())
        };
        Ok(of_one.zip(parts).map(time).collect())
    }

    /// What the dispatches of a graph without choices do, in their order; takes nothing of the device.
    pub fn blocks(graph: &Arc<Graph>, preset: Preset) -> Vec<u64> {
        blocks(graph, preset)
    }

    /// Number of dispatches that the current paths need.
    pub fn dispatches(&self) -> usize {
        self.bound.iter().filter(|g| !g.active.is_empty()).count()
    }

    /// Bytes of device memory that the plan took for temporaries and task rows.
    pub fn bytes(&self) -> u64 {
        self.bytes + self.table_slab.bytes()
    }

    /// Number of instances.
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Cost of one run on the current paths.
    pub fn cost(&self) -> Cost {
        self.active_tasks().map(|task| self.cost_of(task)).sum()
    }

    /// Cost by shader.
    pub fn cost_by_shader(&self) -> BTreeMap<&'static str, Cost> {
        let mut sums: BTreeMap<_, Cost> = BTreeMap::new();
        self.active_tasks().for_each(|task| *sums.entry(task.call.variant.shader).or_default() += self.cost_of(task));
        sums
    }

    fn cost_of(&self, task: &Task) -> Cost {
        task.call.cost_on(&self.instances[task.instance].path)
    }

    fn active_tasks(&self) -> impl Iterator<Item = &Task> {
        let tasks = self.bound.iter().flat_map(|g| &g.tasks);
        tasks.filter(|t| t.call.guard.active(&self.instances[t.instance].path))
    }

    /// Variants in use.
    pub fn variants(&self) -> Vec<Variant> {
        let mut list: Vec<_> = self.bound.iter().flat_map(|g| g.tasks.iter().map(|t| t.call.variant.clone())).collect();
        list.sort();
        list.dedup();
        list
    }

    /// Where the values of a tensor of an instance lie, for reading or writing: slab, offset in `vec4`, shape.
    ///
    /// A temporary keeps its values after a run only if it is a probe.
    ///
    /// # Errors
    /// If a store lacks the tensor.
    pub fn place(&self, instance: usize, tensor: TensorId) -> Result<(Slab, u64, Shape)> {
        let shape = self.instances[instance].graph.shape(tensor);
        let (slab, offset) = self.locate(instance, tensor)?;
        Ok((slab, offset, shape))
    }

    /// Reads the values of a tensor in logical row-major order, waiting for them.
    ///
    /// # Errors
    /// If the device fails or there is no such tensor.
    pub fn read_wait(&self, instance: usize, tensor: TensorId) -> Result<Vec<f32>> {
        Ok(self.read_all_wait(&[(instance, tensor)])?.pop().unwrap_or_default())
    }

    /// The same of many tensors (instance, tensor), which come together.
    ///
    /// # Errors
    /// If the device fails or one of them does not exist.
    pub fn read_all_wait(&self, tensors: &[(usize, TensorId)]) -> Result<Vec<Vec<f32>>> {
        let part = |&(instance, tensor): &(usize, TensorId)| self.part(instance, tensor);
        let stored = self.gpu.read_wait(&tensors.iter().map(part).collect::<Result<Vec<_>>>()?)?;
        let shape = |&(instance, tensor): &(usize, TensorId)| self.instances[instance].graph.shape(tensor);
        let logical = |(shape, stored): (Shape, Vec<f32>)| shape.storage_indices().map(|i| stored[i]).collect();
        Ok(tensors.iter().map(shape).zip(stored).map(logical).collect())
    }

    /// Where a tensor of an instance lies, to be read with others.
    ///
    /// # Errors
    /// If a store lacks the tensor.
    pub fn part(&self, instance: usize, tensor: TensorId) -> Result<Part> {
        let (slab, offset, shape) = self.place(instance, tensor)?;
        Ok((slab, offset * 16, shape.vec4s() as u64 * 16))
    }

    /// Writes the values of a tensor, given in logical row-major order.
    ///
    /// # Errors
    /// If their number is wrong.
    pub fn write(&self, instance: usize, tensor: TensorId, values: &[f32]) -> Result<()> {
        let (slab, offset, shape) = self.place(instance, tensor)?;
        if values.len() != shape.len() {
            return Err(Error::shape("tensor", shape, format!("{} values", values.len())));
        }
        let mut stored = vec![0.0f32; shape.vec4s() * 4];
        shape.storage_indices().zip(values).for_each(|(i, value)| stored[i] = *value);
        self.gpu.write(&slab, offset * 16, bytemuck::cast_slice(&stored))
    }

    /// Slab and offset of a tensor of an instance.
    fn locate(&self, instance: usize, tensor: TensorId) -> Result<(Slab, u64)> {
        let own = &self.instances[instance];
        let info = own.graph.tensors.get(tensor.0 as usize).and_then(|t| t.persistent.as_ref());
        if let Some(info) = info {
            let (store, copy) = own
                .bindings
                .get(&info.role)
                .ok_or_else(|| Error::invalid(&info.name, format!("no store is bound for {:?}", info.role)))?;
            return store.place(*copy, &info.name);
        }
        let (layout, home) = &self.homes[instance];
        let (bin, offset) = self.layouts[*layout].places[tensor.0 as usize];
        let (slab, base) = home.get(bin).ok_or_else(|| Error::invalid("plan", "a tensor has no memory"))?;
        Ok((slab.clone(), base + offset))
    }

    /// All slabs of the store that a pool's tensor lives in.
    fn pool_slabs(&self, instance: usize, tensor: TensorId) -> Result<Vec<Slab>> {
        let own = &self.instances[instance];
        match own.graph.tensors.get(tensor.0 as usize).and_then(|t| t.persistent.as_ref()) {
            Some(info) if info.role == Role::Data => {
                Ok(own.bindings.get(&info.role).map(|(store, _)| store.slabs()).unwrap_or_default())
            }
            _ => Ok(vec![self.locate(instance, tensor)?.0]),
        }
    }

    fn is_data(&self, instance: usize, tensor: TensorId) -> bool {
        let info = self.instances[instance].graph.tensors.get(tensor.0 as usize).and_then(|t| t.persistent.as_ref());
        info.is_some_and(|info| info.role == Role::Data)
    }

    /// Makes dispatches of merged calls: those whose operands share slabs.
    fn bind(&mut self, merged: &[Merged]) -> Result<()> {
        let alignment = self.gpu.report().limits.alignment.max(16) as usize / 4;
        let mut pending: Vec<Pending> = vec![];
        for (number, dispatch) in merged.iter().enumerate() {
            let mut index: HashMap<Vec<usize>, usize> = HashMap::new();
            for &(instance, call) in &dispatch.tasks {
                let call = self.layouts[self.homes[instance].0].calls[call].clone();
                let mut slabs =
                    call.slots.iter().map(|&t| Ok(self.locate(instance, t)?.0)).collect::<Result<Vec<_>>>()?;
                let pool = self.pool_of(instance, &call)?;
                let mut variant = call.variant.clone();
                if !call.pool.is_empty() {
                    let size = if pool.len() == 1 { 1 } else { POOL };
                    variant = variant.with("POOL", size as i64);
                    slabs.extend((0..size).map(|i| pool[i.min(pool.len() - 1)].clone()));
                }
                let key: Vec<usize> = slabs.iter().map(Slab::id).collect();
                let at = *index.entry(key).or_insert_with(|| {
                    pending.push((number, variant, slabs, vec![]));
                    pending.len() - 1
                });
                pending[at].3.push((instance, call));
            }
        }
        // The largest tasks first, so that a grid that is parted between them leaves few workgroups idle.
        pending.iter_mut().for_each(|(.., tasks)| tasks.sort_by_key(|(_, call)| Reverse(call.workgroups)));
        let variants: Vec<_> = pending.iter().map(|(_, variant, ..)| variant.clone()).collect();
        let pipelines = self.gpu.pipelines(&variants)?;
        // Rows: heads of all tasks, then room for all terms.
        let mut length = 0;
        let mut spans = vec![];
        for (.., tasks) in &pending {
            let words: usize = tasks
                .iter()
                .map(|(_, call)| call.head.len() + call.terms.iter().map(|t| t.words.len()).sum::<usize>())
                .sum();
            spans.push((length, words));
            length = (length + words).next_multiple_of(alignment);
        }
        self.table = vec![0; length];
        self.table_slab = self.gpu.slab(length as u64 * 4, "task rows")?;
        for (((number, variant, slabs, tasks), pipeline), (rows, words)) in
            pending.into_iter().zip(&pipelines).zip(spans)
        {
            let table = (&self.table_slab, rows as u64 * 4, words as u64 * 4);
            let dispatch = self.gpu.dispatch(variant.shader, pipeline, table, &slabs)?;
            let tasks = tasks.into_iter().map(|(i, call)| self.resolve(i, call)).collect::<Result<_>>()?;
            self.bound.push(Bound { number, dispatch, tasks, rows, active: vec![] });
        }
        Ok(())
    }

    /// Slabs of a call's pool, each once.
    fn pool_of(&self, instance: usize, call: &Call) -> Result<Vec<Slab>> {
        let mut pool: Vec<Slab> = vec![];
        for &tensor in &call.pool {
            for slab in self.pool_slabs(instance, tensor)? {
                if pool.iter().all(|p| p.id() != slab.id()) {
                    pool.push(slab);
                }
            }
        }
        // Descriptors of a data set count its slabs in the order of the store; elsewhere any fixed order will do.
        if call.pool.iter().all(|&t| !self.is_data(instance, t)) {
            pool.sort_by_key(Slab::id);
        }
        if pool.len() > POOL {
            return Err(Error::Memory {
                what: format!("{} over {} bindings", call.variant.shader, pool.len()),
                needed: pool.iter().map(Slab::bytes).sum::<u64>() >> 20,
                limit: (POOL as u64 * self.gpu.report().limits.slab_bytes) >> 20,
                advice: "use a smaller --batch".into(),
            });
        }
        Ok(pool)
    }

    /// Tensors that a kernel takes for one must lie side by side in one slab.
    fn check_span(&self, instance: usize, call: &Call, span: &[TensorId]) -> Result<()> {
        let shapes = &self.layouts[self.homes[instance].0].shapes;
        let mut next: Option<(usize, u64)> = None;
        for &tensor in span {
            let (slab, offset) = self.locate(instance, tensor)?;
            if next.is_some_and(|next| next != (slab.id(), offset)) {
                return Err(Error::invalid("store", "its tensors lie in another order than the network has them"));
            }
            let end = offset + shapes[tensor.0 as usize].vec4s() as u64;
            if end * 16 > slab.bytes() {
                return Err(Error::shape(call.variant.shader, format!("{} bytes", slab.bytes()), end * 16));
            }
            next = Some((slab.id(), end));
        }
        Ok(())
    }

    /// Turns tensors into offsets, and checks that each lies inside its slab.
    fn resolve(&self, instance: usize, call: Arc<Call>) -> Result<Task> {
        let shapes = &self.layouts[self.homes[instance].0].shapes;
        let pool = self.pool_of(instance, &call)?;
        for span in &call.spans {
            self.check_span(instance, &call, span)?;
        }
        let word = |word: &Word| -> Result<Resolved> {
            Ok(Resolved::Word(match *word {
                Word::Value(value) => value,
                Word::None => u32::MAX,
                Word::At(tensor) => {
                    let (slab, offset) = self.locate(instance, tensor)?;
                    let end = (offset + shapes[tensor.0 as usize].vec4s() as u64) * 16;
                    if end > slab.bytes() {
                        return Err(Error::shape(call.variant.shader, format!("{} bytes", slab.bytes()), end));
                    }
                    offset as u32
                }
                Word::Slab(tensor) => {
                    let (slab, _) = self.locate(instance, tensor)?;
                    pool.iter().position(|p| p.id() == slab.id()).unwrap_or(0) as u32
                }
                Word::FirstTerm => return Ok(Resolved::FirstTerm),
                Word::Terms(class) => return Ok(Resolved::Terms(class)),
            }))
        };
        let head = call.head.iter().map(word).collect::<Result<_>>()?;
        let plain = |w: &Word| {
            Ok(match word(w)? {
                Resolved::Word(value) => value,
                _ => 0,
            })
        };
        let terms = call.terms.iter().map(|t| t.words.iter().map(plain).collect()).collect::<Result<_>>()?;
        Ok(Task { instance, call, head, terms })
    }

    /// Writes the rows of the tasks that the paths take, and counts them.
    fn refresh(&mut self) -> Result<()> {
        for bound in &mut self.bound {
            let active: Vec<&Task> =
                bound.tasks.iter().filter(|t| t.call.guard.active(&self.instances[t.instance].path)).collect();
            let heads: usize = active.iter().map(|t| t.head.len()).sum();
            let (mut at, mut terms_at) = (bound.rows, bound.rows + heads);
            bound.active.clear();
            for task in active {
                let path = &self.instances[task.instance].path;
                let Cost { flops, bytes } = task.call.cost_on(path);
                bound.active.push(Load { workgroups: task.call.workgroups as u32, flops, bytes });
                let first = (terms_at - bound.rows) / 4;
                let mut terms = [0; 8];
                for (term, words) in task.call.terms.iter().zip(&task.terms) {
                    if term.guard.active(path) {
                        self.table[terms_at..terms_at + words.len()].copy_from_slice(words);
                        terms_at += words.len();
                        terms[term.class as usize % terms.len()] += 1;
                    }
                }
                for word in &task.head {
                    self.table[at] = match word {
                        Resolved::Word(value) => *value,
                        Resolved::FirstTerm => first as u32,
                        Resolved::Terms(class) => terms[*class as usize % terms.len()],
                    };
                    at += 1;
                }
            }
        }
        self.gpu.write(&self.table_slab, 0, bytemuck::cast_slice(&self.table))
    }
}

/// Whether `path` takes an existing option of each choice.
fn check_path(graph: &Graph, path: &[u8]) -> Result<()> {
    if path.len() != graph.choices.len() {
        return Err(Error::shape("path", format!("{} choices", graph.choices.len()), path.len()));
    }
    match path.iter().zip(&graph.choices).position(|(option, options)| option >= options) {
        Some(i) => Err(Error::invalid("path", format!("choice {i} has no option {}", path[i]))),
        None => Ok(()),
    }
}
