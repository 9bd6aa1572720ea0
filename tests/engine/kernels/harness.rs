//! Runs one op in a graph of its own on the GPU and in the f64 reference, and compares.

use std::collections::BTreeMap;
use std::sync::Arc;

use altiplano::gpu::{Gpu, Slab};
use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::store::{Contents, Store};
use altiplano::graph::{Builder, Graph, Init, Op, Role, Shape, TensorId};
use altiplano::kernels::{Call, Lowering, Preset};
use altiplano::philox::Stream;
use altiplano::reference::{Memory, run};

/// Half a unit in the last place of 1: the largest relative error of one rounding.
pub const HALF_ULP: f64 = 1.0 / 16_777_216.0;

/// A quiet NaN that no computation makes: all memory holds it before a run, canaries must hold it after.
const POISON: u32 = 0x7FC0_BEEF;

/// How far a result may lie from the reference: one bound per value.
pub struct Tolerance {
    bounds: Vec<f64>,
}

impl Tolerance {
    /// Nothing but the reference rounded to `f32` will do.
    pub fn equal(length: usize) -> Self {
        Tolerance { bounds: vec![0.0; length] }
    }

    /// These bounds.
    pub fn of(bounds: Vec<f64>) -> Self {
        Tolerance { bounds }
    }

    /// `4 sqrt(length) 2^-24` times the sum of the magnitudes of what is summed, one sum per value. Roundings of a sum of
    /// `length` products are a random walk of as many steps, and four deviations are never left in practice.
    pub fn sum(length: usize, magnitudes: &[f64]) -> Self {
        let factor = 4.0 * (length as f64).sqrt() * HALF_ULP;
        Tolerance { bounds: magnitudes.iter().map(|m| factor * m.abs()).collect() }
    }

    /// Fails if a value is farther off than its bound; returns the largest error as a share of its bound.
    #[track_caller]
    pub fn check(&self, what: &str, got: &[f32], want: &[f64]) -> f64 {
        assert_eq!((got.len(), self.bounds.len()), (want.len(), want.len()), "{what}: lengths");
        let mut worst = 0.0f64;
        for (i, ((&got, &want), &bound)) in got.iter().zip(want).zip(&self.bounds).enumerate() {
            if got == want as f32 {
                continue;
            }
            let error = (f64::from(got) - want).abs();
            assert!(
                error <= bound,
                "{what}: value {i} is {got:e}, the reference has {want:e}; {error:.2e} > {bound:.2e}"
            );
            worst = worst.max(error / bound);
        }
        worst
    }
}

/// What an input is filled with.
#[derive(Clone)]
pub enum Fill {
    /// Small integers other than zero, or normal numbers.
    Numbers,
    /// The same without sign, and at least a half.
    Positive,
    /// The same, all negative.
    Negative,
    /// Normal numbers around this one.
    Around(f32),
    /// The same around 0, times 2^-70.
    Tiny,
    /// Class numbers below this one.
    Labels(usize),
    /// These values.
    Values(Vec<f32>),
    /// These words for the GPU, and what they mean.
    Words(Vec<u32>, Vec<f64>),
}

/// What stands for an input when the reference computes sums of magnitudes: called with index, number of channels, value.
pub type Size = fn(usize, usize, f64) -> f64;

/// Its magnitude.
pub fn magnitude(_: usize, _: usize, value: f64) -> f64 {
    value.abs()
}

/// Itself: it chooses (a mask, a label) or scales with a known sign.
pub fn itself(_: usize, _: usize, value: f64) -> f64 {
    value
}

/// Bounds from the reference's results and the magnitudes' results.
type Bounds = dyn Fn(&Memory, &Memory) -> Vec<f64> + Send + Sync;

/// How the bound of an output is found.
pub enum Bound {
    /// No rounding at all: equal to the reference for any numbers.
    Exact,
    /// A sum of so many products.
    Sum(usize),
    /// Computed from the reference's results and the magnitudes' results.
    Of(Box<Bounds>),
}

struct Input {
    tensor: TensorId,
    fill: Fill,
    size: Size,
}

struct Output {
    tensor: TensorId,
    bound: Bound,
    /// Whether what pads the last axis must be zero.
    padded: bool,
}

/// One row of the table: a graph and what to expect of it.
pub struct Case {
    pub name: String,
    builder: Builder,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    canaries: Vec<TensorId>,
    /// Whether small integers give an exact result.
    integers: bool,
    /// Least share of values that are not zero.
    dense: f64,
    /// Paths of three instances.
    paths: [Vec<u8>; 3],
}

impl Case {
    pub fn new(name: impl Into<String>) -> Self {
        let paths = [vec![], vec![], vec![]];
        let mut case = Case {
            name: name.into(),
            builder: Builder::new(),
            inputs: vec![],
            outputs: vec![],
            canaries: vec![],
            integers: true,
            dense: 0.5,
            paths,
        };
        case.canary(Shape::vector(4));
        case
    }

    fn canary(&mut self, shape: Shape) {
        let tensor = self.builder.temporary(shape);
        self.builder.probe(tensor, &format!("canary {}", tensor.0));
        self.canaries.push(tensor);
    }

    /// An input in a store, which three instances share.
    pub fn shared(&mut self, shape: Shape, fill: Fill) -> TensorId {
        let zero = Init::Constant(0.0);
        let tensor = self.builder.persistent(Role::Batch, "shared", shape, zero, &[shape.len()]).unwrap();
        self.inputs.push(Input { tensor, fill, size: magnitude });
        tensor
    }

    /// An input of each instance's own.
    pub fn input(&mut self, shape: Shape, fill: Fill) -> TensorId {
        let tensor = self.builder.temporary(shape);
        self.builder.probe(tensor, &format!("input {}", tensor.0));
        self.inputs.push(Input { tensor, fill, size: magnitude });
        tensor
    }

    /// An output, between two canaries of its size: tensors of one size lie side by side in the order of their numbers.
    /// Very large ones have none, they would fill a slab each.
    pub fn output(&mut self, shape: Shape, bound: Bound) -> TensorId {
        let large = shape.vec4s() > 1 << 21;
        if !large {
            self.canary(shape);
        }
        let tensor = self.builder.temporary(shape);
        self.builder.probe(tensor, &format!("output {}", tensor.0));
        if !large {
            self.canary(shape);
        }
        self.outputs.push(Output { tensor, bound, padded: true });
        tensor
    }

    /// An input that is written too.
    pub fn moved(&mut self, shape: Shape, fill: Fill, bound: Bound) -> TensorId {
        let tensor = self.output(shape, bound);
        self.inputs.push(Input { tensor, fill, size: magnitude });
        tensor
    }

    /// Inputs of each instance's own that lie side by side.
    pub fn inputs_together(&mut self, shapes: &[Shape]) -> Vec<TensorId> {
        let tensors: Vec<TensorId> = shapes.iter().map(|&shape| self.input(shape, Fill::Numbers)).collect();
        self.builder.side_by_side(&tensors);
        tensors
    }

    /// Outputs that lie side by side, between two canaries of their length together; also inputs if they are `moved`.
    pub fn outputs_together(&mut self, shapes: &[Shape], products: usize, moved: bool) -> Vec<TensorId> {
        let whole = Shape::vector(4 * shapes.iter().map(Shape::vec4s).sum::<usize>());
        self.canary(whole);
        let mut tensors = vec![];
        for &shape in shapes {
            let tensor = self.builder.temporary(shape);
            self.builder.probe(tensor, &format!("output {}", tensor.0));
            self.outputs.push(Output { tensor, bound: Bound::Sum(products), padded: true });
            if moved {
                self.inputs.push(Input { tensor, fill: Fill::Numbers, size: magnitude });
            }
            tensors.push(tensor);
        }
        self.canary(whole);
        self.builder.side_by_side(&tensors);
        tensors
    }

    /// What stands for the last input among magnitudes.
    pub fn sized(&mut self, size: Size) {
        self.inputs.last_mut().unwrap().size = size;
    }

    /// The last output's padding may hold anything.
    pub fn unpadded(&mut self) {
        self.outputs.last_mut().unwrap().padded = false;
    }

    pub fn push(&mut self, op: Op) {
        self.builder.push(op);
    }

    /// Its calls.
    pub fn calls(&self, preset: Preset) -> Vec<Call> {
        Lowering::of(self.builder.graph(), preset).calls
    }

    /// The most workgroups that a call of it takes.
    pub fn workgroups(&self, preset: Preset) -> usize {
        self.calls(preset).iter().map(|call| call.workgroups).max().unwrap_or(0)
    }

    pub fn builder(&mut self) -> &mut Builder {
        &mut self.builder
    }

    /// Integers do not give an exact result.
    pub fn inexact(mut self) -> Self {
        self.integers = false;
        self
    }

    /// At least this share of the values is not zero.
    pub fn dense(mut self, share: f64) -> Self {
        self.dense = share;
        self
    }

    pub fn paths(mut self, paths: [&[u8]; 3]) -> Self {
        self.paths = paths.map(<[u8]>::to_vec);
        self
    }
}

/// Values of one input, as the GPU and as the reference get them.
struct Values {
    gpu: Vec<f32>,
    reference: Vec<f64>,
}

fn values(fill: &Fill, shape: Shape, integers: bool, stream: &mut Stream) -> Values {
    let length = shape.len();
    let mut number = || match integers {
        true => [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0][stream.below(6) as usize],
        false => stream.normal() as f32,
    };
    let gpu: Vec<f32> = match fill {
        Fill::Numbers => (0..length).map(|_| number()).collect(),
        Fill::Positive => (0..length).map(|_| number().abs().max(0.5)).collect(),
        Fill::Negative => (0..length).map(|_| -number().abs() - 0.5).collect(),
        Fill::Around(middle) => (0..length).map(|_| middle + number()).collect(),
        Fill::Tiny => (0..length).map(|_| number() * 2f32.powi(-70)).collect(),
        Fill::Labels(classes) => (0..length).map(|_| stream.below(*classes as u64) as f32).collect(),
        Fill::Values(values) => values.clone(),
        Fill::Words(words, meaning) => {
            return Values { gpu: words.iter().map(|w| f32::from_bits(*w)).collect(), reference: meaning.clone() };
        }
    };
    Values { reference: gpu.iter().map(|v| f64::from(*v)).collect(), gpu }
}

/// A case with its graph finished, and the store of the shared input.
struct Bench<'a> {
    gpu: &'a Gpu,
    case: &'a Case,
    graph: Arc<Graph>,
    store: Store,
    preset: Preset,
}

/// Raw words of all outputs of one instance.
type Bits = Vec<Vec<u32>>;

impl Bench<'_> {
    /// Inputs of instance `instance`; the first one is the same for all if it is shared.
    fn fill(&self, integers: bool, instance: u64) -> Vec<Values> {
        let fill = |(i, input): (usize, &Input)| {
            let shared = self.graph.tensor(input.tensor).persistent.is_some();
            let mut stream = Stream::new(if shared { 0 } else { 1 + instance }, u32::from(integers), i as u64);
            values(&input.fill, self.graph.shape(input.tensor), integers, &mut stream)
        };
        self.case.inputs.iter().enumerate().map(fill).collect()
    }

    fn plan(&self, paths: &[Vec<u8>]) -> Plan {
        let instance = |path: &Vec<u8>| Instance {
            graph: self.graph.clone(),
            bindings: BTreeMap::from([(Role::Batch, (self.store.clone(), 1))]),
            path: path.clone(),
        };
        Plan::compile(self.gpu, paths.iter().map(instance).collect(), self.preset).unwrap()
    }

    /// Everything that lies in the slab becomes poison.
    fn poison(&self, slab: &Slab) {
        let words = vec![POISON; slab.bytes() as usize / 4];
        self.gpu.write(slab, 0, bytemuck::cast_slice(&words)).unwrap();
    }

    fn raw(&self, plan: &Plan, instance: usize, tensor: TensorId) -> Vec<u32> {
        let (slab, offset, shape) = plan.place(instance, tensor).unwrap();
        let mut recorder = self.gpu.record();
        let read = recorder.read(&slab, offset * 16, shape.vec4s() as u64 * 16).unwrap();
        recorder.submit();
        bytemuck::pod_collect_to_vec(&read.wait().unwrap())
    }

    /// Poisons, writes the inputs, runs, checks canaries, and returns the outputs.
    fn run(&self, plan: &Plan, inputs: &[&[Values]]) -> Vec<Bits> {
        for instance in 0..inputs.len() {
            // Temporaries of an instance share a slab as long as they fit.
            let first = self.case.inputs.first().map(|input| input.tensor);
            for tensor in self.case.outputs.iter().map(|output| output.tensor).take(1).chain(first) {
                self.poison(&plan.place(instance, tensor).unwrap().0);
            }
        }
        for (instance, values) in inputs.iter().enumerate() {
            for (input, values) in self.case.inputs.iter().zip(*values) {
                plan.write(instance, input.tensor, &values.gpu).unwrap();
            }
        }
        plan.submit();
        self.gpu.wait().unwrap();
        let name = &self.case.name;
        let read = |instance: usize| {
            for &canary in &self.case.canaries {
                let kept = self.raw(plan, instance, canary).iter().all(|word| *word == POISON);
                assert!(kept, "{name}: canary {} of instance {instance} was overwritten", canary.0);
            }
            for (input, values) in self.case.inputs.iter().zip(inputs[instance]) {
                if self.case.outputs.iter().all(|o| o.tensor != input.tensor) {
                    let words = self.raw(plan, instance, input.tensor);
                    let shape = self.graph.shape(input.tensor);
                    let kept = shape.storage_indices().zip(&values.gpu).all(|(i, v)| words[i] == v.to_bits());
                    assert!(kept, "{name}: input {} of instance {instance} was overwritten", input.tensor.0);
                }
            }
            self.case.outputs.iter().map(|o| self.raw(plan, instance, o.tensor)).collect()
        };
        (0..inputs.len()).map(read).collect()
    }

    fn reference(&self, path: &[u8], inputs: &[Values], magnitudes: bool) -> Memory {
        let mut memory = Memory::new(&self.graph);
        for (input, values) in self.case.inputs.iter().zip(inputs) {
            let channels = self.graph.shape(input.tensor).channels();
            let size = |(i, v): (usize, &f64)| if magnitudes { (input.size)(i, channels, *v) } else { *v };
            memory.set(input.tensor, values.reference.iter().enumerate().map(size).collect()).unwrap();
        }
        run(&self.graph, path, &mut memory).unwrap();
        memory
    }

    /// Compares outputs with the reference; returns the largest error as a share of its bound.
    fn compare(&self, what: &str, path: &[u8], inputs: &[Values], bits: &Bits, integers: bool) -> f64 {
        let want = self.reference(path, inputs, false);
        let sizes = if integers { None } else { Some(self.reference(path, inputs, true)) };
        let mut worst = 0.0f64;
        for (output, words) in self.case.outputs.iter().zip(bits) {
            let what = format!("{} ({what}), tensor {}", self.case.name, output.tensor.0);
            let shape = self.graph.shape(output.tensor);
            let indices: Vec<usize> = shape.storage_indices().collect();
            let got: Vec<f32> = indices.iter().map(|&i| f32::from_bits(words[i])).collect();
            let tolerance = match (&output.bound, &sizes) {
                (Bound::Exact, _) | (_, None) => Tolerance::equal(got.len()),
                (Bound::Sum(length), Some(sizes)) => Tolerance::sum(*length, sizes.get(output.tensor)),
                (Bound::Of(bounds), Some(sizes)) => Tolerance::of(bounds(&want, sizes)),
            };
            worst = worst.max(tolerance.check(&what, &got, want.get(output.tensor)));
            let nonzero = got.iter().filter(|v| **v != 0.0).count() as f64 / got.len() as f64;
            assert!(nonzero >= self.case.dense, "{what}: only {nonzero:.2} of the values are not zero: mistrusted");
            if output.padded {
                let mut padding = vec![true; words.len()];
                indices.iter().for_each(|&i| padding[i] = false);
                let clean = words.iter().zip(&padding).all(|(w, pad)| !pad || f32::from_bits(*w) == 0.0);
                assert!(clean, "{what}: padding is not zero");
            }
        }
        worst
    }
}

/// Raw words of all outputs of a case on normal numbers.
pub fn bits(gpu: &Gpu, preset: Preset, case: &Case) -> Vec<Vec<u32>> {
    let graph = Arc::new(case.builder.graph().clone());
    let store = Store::new(gpu, Contents::of(&graph, &[Role::Batch]).unwrap(), 2, "batch").unwrap();
    let bench = Bench { gpu, case, graph, store, preset };
    bench.run(&bench.plan(&case.paths[..1]), &[&bench.fill(false, 0)]).remove(0)
}

/// All checks of one case; returns the number of runs on the GPU and the largest error as a share of its bound.
pub fn check(gpu: &Gpu, preset: Preset, case: &Case) -> (usize, f64) {
    let graph = Arc::new(case.builder.graph().clone());
    let store = Store::new(gpu, Contents::of(&graph, &[Role::Batch]).unwrap(), 2, "batch").unwrap();
    let bench = Bench { gpu, case, graph, store, preset };
    let (mut runs, mut worst) = (0, 0.0f64);
    let mut plan = bench.plan(&case.paths[..1]);
    if case.integers {
        let inputs = bench.fill(true, 0);
        let bits = bench.run(&plan, &[&inputs]);
        bench.compare("integers", &case.paths[0], &inputs, &bits[0], true);
        runs += 1;
    }
    let inputs = [0, 1, 2].map(|instance| bench.fill(false, instance));
    let mut single = vec![];
    for (inputs, path) in inputs.iter().zip(&case.paths) {
        plan.choose(std::slice::from_ref(path)).unwrap();
        single.extend(bench.run(&plan, &[inputs]));
        runs += 1;
    }
    worst = worst.max(bench.compare("normal numbers", &case.paths[0], &inputs[0], &single[0], false));
    // The last one once more, and all three in one plan.
    let again = bench.run(&plan, &[&inputs[2]]);
    assert!(again[0] == single[2], "{}: a second run gave other bits", case.name);
    let together = bench.run(&bench.plan(&case.paths), &[&inputs[0], &inputs[1], &inputs[2]]);
    for (instance, (together, single)) in together.iter().zip(&single).enumerate() {
        assert!(together == single, "{}: instance {instance} of three differs from a run of its own", case.name);
    }
    (runs + 2, worst)
}
