//! A graph's operations as ONNX's: convolutions, norms, pools and fully connected layers; sums are in [`terms`](super::terms).
//!
//! Maps have axes `N, C, H, W` there, whatever the order in memory here, and the number of images stays open: the graph is one for a
//! single image, and nothing of it depends on how many there are.

use std::collections::HashMap;

use super::program::{Attribute, Constant, INPUT, Numbers, Program};
use crate::error::{Error, Result};
use crate::graph::{Geometry, Graph, Guard, Node, Op, Persistent, Shape, Statistics, TensorId, TermKind, Window};
use crate::nn::tensors::Named;

/// What a network has that there is no operator for.
pub(super) fn refused(what: &str) -> Error {
    Error::invalid("ONNX", format!("the network has {what}, which no operator of ONNX does; it cannot be exported"))
}

/// What the values of a tensor are called, and their axes: all four, or images and channels alone behind a fully connected layer.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    is_row: bool,
}

/// A batch norm by running statistics: what it reads, and the layer's name.
#[derive(Clone, Debug)]
struct Norm {
    layer: String,
    /// Scale, shift, mean, variance.
    vectors: [String; 4],
    epsilon: f32,
}

/// A graph that is being put into ONNX's words.
pub(super) struct Lowering<'a> {
    pub graph: &'a Graph,
    pub program: Program,
    /// Terms of sums that are there already, by their tensors: several may see a tensor in the same way.
    pub views: HashMap<TensorId, Vec<(TermKind, String)>>,
    named: &'a Named,
    places: HashMap<TensorId, Place>,
    norms: HashMap<TensorId, Norm>,
}

/// The program that computes `logits` of `images`; weights and statistics are in `named` under the graph's names.
///
/// # Errors
/// If the graph has operations that ONNX has not, or choices, or a tensor is missing or has other axes.
pub(super) fn lower(graph: &Graph, named: &Named, images: TensorId, logits: TensorId) -> Result<Program> {
    let reserved = graph.tensors.iter().filter_map(|tensor| Some(tensor.persistent.as_ref()?.name.clone()));
    let mut lowering = Lowering {
        graph,
        program: Program::new(reserved),
        views: HashMap::new(),
        named,
        places: HashMap::from([(images, Place { name: INPUT.to_owned(), is_row: false })]),
        norms: HashMap::new(),
    };
    for Node { op, guard } in &graph.nodes {
        lowering.check_guard(*guard)?;
        lowering.operation(op)?;
    }
    lowering.program.answer = lowering.row(logits)?;
    Ok(lowering.program)
}

/// Attributes of a window that moves over an image.
fn moving(kernel: [usize; 2], stride: usize, padding: usize) -> Vec<(&'static str, Attribute)> {
    let both = |value: usize, count: usize| Attribute::Integers(vec![value as i64; count]);
    let kernel = Attribute::Integers(kernel.map(|side| side as i64).to_vec());
    vec![("kernel_shape", kernel), ("strides", both(stride, 2)), ("pads", both(padding, 4))]
}

/// The name of a layer, of which `tensor` is a part.
fn layer_of(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(layer, _)| layer)
}

impl Lowering<'_> {
    /// Fails if something runs on some paths alone.
    pub fn check_guard(&self, guard: Guard) -> Result<()> {
        match guard == Guard::ALWAYS {
            true => Ok(()),
            false => Err(Error::invalid("ONNX", "the network has choices; export one architecture of it")),
        }
    }

    /// The shape of a map or of vectors, as images, rows, columns and channels.
    pub fn axes(&self, tensor: TensorId) -> [usize; 4] {
        self.graph.shape(tensor).nhwc()
    }

    fn operation(&mut self, op: &Op) -> Result<()> {
        match *op {
            Op::Conv { x, w, bias, y, geometry, relu } => self.convolution([x, y], w, bias, geometry, relu),
            Op::BatchNorm { x, gamma, beta, running, coefficients, epsilon, statistics, .. } => {
                let Some((mean, variance)) = running.filter(|_| statistics == Statistics::Running) else {
                    return Err(refused("a batch norm without running statistics"));
                };
                self.norm(coefficients, self.axes(x)[3], [gamma, beta, Some(mean), Some(variance)], epsilon)
            }
            Op::Combine { ref terms, y } => {
                let name = self.sum(terms, y)?;
                self.place(y, name);
                Ok(())
            }
            Op::MaxPool { x, y, window } => {
                let Window { kernel, stride, padding, .. } = window;
                let x = self.map(x)?;
                let attributes = moving([kernel; 2], stride, padding);
                let name = self.program.push(&format!("{x}.maximum"), "MaxPool", vec![x], attributes);
                self.place(y, name);
                Ok(())
            }
            Op::GlobalAvgPool { x, y } => {
                let x = self.map(x)?;
                let name = self.program.push("pooled", "GlobalAveragePool", vec![x], vec![]);
                self.place(y, name);
                Ok(())
            }
            Op::Custom(ref custom) => Err(refused(&format!("an operation of its own, {}", custom.op.name()))),
            ref other => {
                let text = format!("{other:?}");
                let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                Err(refused(&format!("the operation {name}")))
            }
        }
    }

    /// Says what a map is called.
    fn place(&mut self, tensor: TensorId, name: String) {
        self.places.insert(tensor, Place { name, is_row: false });
    }

    fn found(&self, tensor: TensorId) -> Result<Place> {
        self.places.get(&tensor).cloned().ok_or_else(|| {
            let what = self.graph.tensor(tensor).persistent.as_ref();
            let name = what.map_or_else(|| format!("tensor {}", tensor.0), |info| info.name.clone());
            refused(&format!("a layer that reads {name} as if it were a feature map"))
        })
    }

    /// The name of a map with all four axes.
    pub fn map(&mut self, tensor: TensorId) -> Result<String> {
        let Place { name, is_row } = self.found(tensor)?;
        if !is_row {
            return Ok(name);
        }
        let axes = self.program.integers(&[2, 3]);
        let whole = self.program.push(&format!("{name}.map"), "Unsqueeze", vec![name, axes], vec![]);
        self.place(tensor, whole.clone());
        Ok(whole)
    }

    /// The name of a map of one position, as images and channels.
    fn row(&mut self, tensor: TensorId) -> Result<String> {
        let Place { name, is_row } = self.found(tensor)?;
        let axis = vec![("axis", Attribute::Integer(1))];
        Ok(if is_row { name } else { self.program.push(&format!("{name}.row"), "Flatten", vec![name], axis) })
    }

    /// The name of a tensor that outlives the run, with its values in the file.
    fn constant(&mut self, tensor: TensorId) -> Result<(String, Vec<usize>)> {
        let Some(Persistent { name, dims, .. }) = &self.graph.tensor(tensor).persistent else {
            return Err(refused("weights that are computed from others"));
        };
        let missing = || Error::invalid(format!("tensor {name}"), "is missing from the weights");
        let values = self.named.get(name).ok_or_else(missing)?;
        if values.dims != *dims || values.data.len() != dims.iter().product::<usize>() {
            return Err(Error::shape(format!("tensor {name}"), format!("{dims:?}"), format!("{:?}", values.dims)));
        }
        if let Some(bad) = values.data.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid(format!("tensor {name}"), format!("holds {bad}; all values must be finite")));
        }
        let numbers = Numbers::Floats(values.data.clone());
        self.program.constants.entry(name.clone()).or_insert(Constant { dims: dims.clone(), numbers });
        Ok((name.clone(), dims.clone()))
    }

    /// The first places of a constant along its outer axes; all of it is the constant itself.
    fn first(&mut self, name: String, dims: &[usize], own: &[usize]) -> String {
        if dims.iter().zip(own).all(|(all, own)| all == own) {
            return name;
        }
        let ends: Vec<i64> = own.iter().map(|&end| end as i64).collect();
        let axes: Vec<i64> = (0..own.len() as i64).collect();
        let [starts, ends, axes] = [&vec![0; own.len()], &ends, &axes].map(|list| self.program.integers(list));
        self.program.push(&format!("{name}.first"), "Slice", vec![name, starts, ends, axes], vec![])
    }

    /// The first places of a vector.
    fn vector(&mut self, tensor: TensorId, length: usize) -> Result<String> {
        let (name, dims) = self.constant(tensor)?;
        Ok(self.first(name, &dims, &[length]))
    }

    /// Remembers a norm: whoever sees a tensor through it applies it.
    fn norm(
        &mut self,
        coefficients: TensorId,
        channels: usize,
        parts: [Option<TensorId>; 4],
        epsilon: f32,
    ) -> Result<()> {
        /// What stands for a part that a norm has not.
        const MISSING: [(&str, f32); 4] = [("ones", 1.0), ("zeros", 0.0), ("zeros", 0.0), ("ones", 1.0)];
        let named =
            parts.iter().rev().flatten().next().and_then(|&tensor| self.graph.tensor(tensor).persistent.as_ref());
        let layer = named.map_or("norm", |info| layer_of(&info.name)).to_owned();
        let mut vectors: [String; 4] = Default::default();
        for ((vector, part), (what, value)) in vectors.iter_mut().zip(parts).zip(MISSING) {
            *vector = match part {
                Some(tensor) => self.vector(tensor, channels)?,
                None => self.program.filled(what, value, channels),
            };
        }
        self.norms.insert(coefficients, Norm { layer, vectors, epsilon });
        Ok(())
    }

    /// What a norm of these coefficients makes of `x`.
    pub fn normalised(&mut self, x: String, coefficients: TensorId) -> Result<String> {
        let Norm { layer, vectors, epsilon } =
            self.norms.get(&coefficients).cloned().ok_or_else(|| refused("coefficients of no norm"))?;
        let inputs = [x].into_iter().chain(vectors).collect();
        let attributes = vec![("epsilon", Attribute::Float(epsilon))];
        Ok(self.program.push(&layer, "BatchNormalization", inputs, attributes))
    }

    /// An average over windows.
    pub fn averaged(&mut self, x: String, window: Window) -> String {
        let Window { kernel, stride, padding, count_include_pad } = window;
        let mut attributes = moving([kernel; 2], stride, padding);
        attributes.push(("count_include_pad", Attribute::Integer(count_include_pad.into())));
        self.program.push(&format!("{x}.average"), "AveragePool", vec![x], attributes)
    }

    fn convolution(
        &mut self,
        [x, y]: [TensorId; 2],
        w: TensorId,
        bias: Option<TensorId>,
        geometry: Geometry,
        relu: bool,
    ) -> Result<()> {
        let ([_, h, wide, c], k) = (self.axes(x), self.axes(y)[3]);
        let (weight, dims) = self.constant(w)?;
        let layer = layer_of(&weight).to_owned();
        let bias = bias.map(|bias| self.vector(bias, k)).transpose()?;
        let own = [k, c / geometry.groups.max(1)];
        let weight = self.first(weight, &dims, &own);
        if dims.len() == 2 && [h, wide] == [1, 1] && geometry == Geometry::square(1, 1, 0) {
            let x = if relu { self.rectified_row(x)? } else { self.row(x)? };
            let inputs = [x, weight].into_iter().chain(bias).collect();
            let name = self.program.push(&layer, "Gemm", inputs, vec![("transB", Attribute::Integer(1))]);
            self.places.insert(y, Place { name, is_row: true });
            return Ok(());
        }
        let weight = self.filter(weight, w, dims.len())?;
        let x = if relu { self.view(x, TermKind::Relu)? } else { self.map(x)? };
        let Geometry { r, s, stride, padding, dilation, groups } = geometry;
        let mut attributes = moving([r, s], stride, padding);
        attributes.push(("dilations", Attribute::Integers(vec![dilation as i64; 2])));
        attributes.push(("group", Attribute::Integer(groups as i64)));
        let inputs = [x, weight].into_iter().chain(bias).collect();
        let name = self.program.push(&layer, "Conv", inputs, attributes);
        self.place(y, name);
        Ok(())
    }

    /// Rectified values of one position.
    fn rectified_row(&mut self, x: TensorId) -> Result<String> {
        let seen = self.view(x, TermKind::Relu)?;
        let axis = vec![("axis", Attribute::Integer(1))];
        Ok(self.program.push(&format!("{seen}.row"), "Flatten", vec![seen], axis))
    }

    /// A convolution's weights with all four axes; those of fully connected layers have two.
    fn filter(&mut self, weight: String, w: TensorId, axes: usize) -> Result<String> {
        match (axes, self.graph.shape(w)) {
            (4, Shape::Filter { .. }) => Ok(weight),
            (2, Shape::Filter { r: 1, s: 1, .. }) => {
                let axes = self.program.integers(&[2, 3]);
                Ok(self.program.push(&format!("{weight}.map"), "Unsqueeze", vec![weight, axes], vec![]))
            }
            (_, shape) => Err(Error::shape(weight, "the weights of a convolution", shape)),
        }
    }
}
