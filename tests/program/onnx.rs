//! A small interpreter of ONNX files in `f64`, to be read and not to be fast. It shares nothing with the program but the crate that reads
//! the file, and knows the operators by their definitions in ONNX's documents. What it does not know it refuses: attributes too.

use std::collections::HashMap;

use onnx_rs::ast::{DataType, Dimension, Node, TensorProto, TypeValue, ValueInfo};

/// Values in row-major order of their axes; integers too.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Tensor {
    pub fn new(dims: &[usize], data: Vec<f64>) -> Self {
        assert_eq!(dims.iter().product::<usize>(), data.len(), "{dims:?}");
        Tensor { dims: dims.to_vec(), data }
    }

    fn of(proto: &TensorProto) -> Self {
        let bytes = proto.as_raw().unwrap();
        let data = match proto.data_type() {
            DataType::Float => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
            DataType::Int64 => bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
            other => panic!("{other:?}"),
        };
        Tensor::new(&proto.dims().iter().map(|&axis| axis as usize).collect::<Vec<_>>(), data)
    }

    fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|&value| value as i64).collect()
    }

    /// The axes of a map.
    fn nchw(&self) -> [usize; 4] {
        self.dims[..].try_into().unwrap_or_else(|_| panic!("{:?}", self.dims))
    }

    /// The place of a value with these coordinates.
    fn at(&self, place: &[usize]) -> usize {
        assert_eq!(place.len(), self.dims.len());
        place.iter().zip(&self.dims).fold(0, |index, (place, side)| index * side + place)
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Tensor { dims: self.dims.clone(), data: self.data.iter().map(|&value| f(value)).collect() }
    }

    /// A tensor of these axes, each value from its coordinates.
    fn from_places(dims: &[usize], f: impl Fn(&[usize]) -> f64) -> Self {
        let mut place = vec![0; dims.len()];
        let count: usize = dims.iter().product();
        let data = (0..count).map(|mut index| {
            for axis in (0..dims.len()).rev() {
                place[axis] = index % dims[axis];
                index /= dims[axis];
            }
            f(&place)
        });
        Tensor { dims: dims.to_vec(), data: data.collect() }
    }

    /// Two tensors, value by value; axes of one place are repeated.
    fn with(&self, other: &Self, f: impl Fn(f64, f64) -> f64) -> Self {
        assert_eq!(self.dims.len(), other.dims.len());
        let dims: Vec<usize> = self.dims.iter().zip(&other.dims).map(|(a, b)| *a.max(b)).collect();
        let value = |own: &Tensor, place: &[usize]| {
            let place: Vec<usize> =
                place.iter().zip(&own.dims).map(|(&p, &side)| if side == 1 { 0 } else { p }).collect();
            own.data[own.at(&place)]
        };
        Tensor::from_places(&dims, |place| f(value(self, place), value(other, place)))
    }
}

/// The attributes of a node, each of which must be asked for.
struct Attributes<'a> {
    node: &'a Node<'a>,
    known: Vec<&'static str>,
}

impl<'a> Attributes<'a> {
    fn find(&mut self, name: &'static str) -> Option<&'a onnx_rs::ast::Attribute<'a>> {
        self.known.push(name);
        self.node.attribute.iter().find(|attribute| attribute.name == name)
    }

    fn integer(&mut self, name: &'static str, usual: i64) -> i64 {
        self.find(name).map_or(usual, |attribute| attribute.i)
    }

    fn float(&mut self, name: &'static str, usual: f64) -> f64 {
        self.find(name).map_or(usual, |attribute| attribute.f.into())
    }

    fn sizes(&mut self, name: &'static str, usual: &[usize]) -> Vec<usize> {
        self.find(name).map_or(usual.to_vec(), |attribute| attribute.ints.iter().map(|&i| i as usize).collect())
    }

    fn window(&mut self) -> Window {
        let pair = |list: Vec<usize>| -> [usize; 2] { list.try_into().unwrap() };
        let kernel = pair(self.sizes("kernel_shape", &[]));
        let strides = pair(self.sizes("strides", &[1, 1]));
        let dilations = pair(self.sizes("dilations", &[1, 1]));
        let pads = self.sizes("pads", &[0; 4]).try_into().unwrap();
        Window { kernel, strides, dilations, pads }
    }
}

impl Drop for Attributes<'_> {
    fn drop(&mut self) {
        let unknown = self.node.attribute.iter().find(|own| !self.known.contains(&own.name));
        assert!(unknown.is_none() || std::thread::panicking(), "{}: {unknown:?}", self.node.op_type);
    }
}

/// A window that moves over a map.
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Above, left, below, right.
    pads: [usize; 4],
}

impl Window {
    fn outputs(&self, sides: [usize; 2]) -> [usize; 2] {
        std::array::from_fn(|axis| {
            let reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1;
            (sides[axis] + self.pads[axis] + self.pads[axis + 2] - reach) / self.strides[axis] + 1
        })
    }

    /// The taps of an output with their places in the map, as far as these exist.
    fn taps(&self, sides: [usize; 2], output: [usize; 2]) -> Vec<([usize; 2], [usize; 2])> {
        let mut taps = vec![];
        for i in 0..self.kernel[0] {
            for j in 0..self.kernel[1] {
                let tap = [i, j];
                let place = |axis: usize| {
                    let at = output[axis] * self.strides[axis] + tap[axis] * self.dilations[axis];
                    at.checked_sub(self.pads[axis]).filter(|at| *at < sides[axis])
                };
                taps.extend(place(0).zip(place(1)).map(|(row, column)| (tap, [row, column])));
            }
        }
        taps
    }
}

fn conv(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, window: &Window, groups: usize) -> Tensor {
    let ([n, c, h, wide], [k, inputs, ..]) = (x.nchw(), w.nchw());
    assert_eq!((inputs * groups, &w.dims[2..]), (c, &window.kernel[..]));
    let [rows, columns] = window.outputs([h, wide]);
    Tensor::from_places(&[n, k, rows, columns], |place| {
        let [image, channel, row, column] = place.try_into().unwrap();
        let group = channel / (k / groups);
        let mut sum = bias.map_or(0.0, |bias| bias.data[channel]);
        for ([i, j], [y, z]) in window.taps([h, wide], [row, column]) {
            for input in 0..inputs {
                let value = x.data[x.at(&[image, group * inputs + input, y, z])];
                sum += value * w.data[w.at(&[channel, input, i, j])];
            }
        }
        sum
    })
}

fn pool(x: &Tensor, window: &Window, f: impl Fn(&[f64]) -> f64) -> Tensor {
    let [n, c, h, wide] = x.nchw();
    let [rows, columns] = window.outputs([h, wide]);
    Tensor::from_places(&[n, c, rows, columns], |place| {
        let [image, channel, row, column] = place.try_into().unwrap();
        let taps = window.taps([h, wide], [row, column]).into_iter();
        f(&taps.map(|(_, [y, z])| x.data[x.at(&[image, channel, y, z])]).collect::<Vec<_>>())
    })
}

fn concat(parts: &[&Tensor], axis: usize) -> Tensor {
    let mut dims = parts[0].dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    Tensor::from_places(&dims, |place| {
        let mut place = place.to_vec();
        for part in parts {
            if place[axis] < part.dims[axis] {
                return part.data[part.at(&place)];
            }
            place[axis] -= part.dims[axis];
        }
        unreachable!()
    })
}

fn slice(x: &Tensor, starts: &Tensor, ends: &Tensor, axes: &Tensor) -> Tensor {
    let (mut dims, mut begin) = (x.dims.clone(), vec![0; x.dims.len()]);
    for ((start, end), axis) in starts.integers().into_iter().zip(ends.integers()).zip(axes.integers()) {
        let axis = axis as usize;
        begin[axis] = start as usize;
        dims[axis] = (end as usize).min(x.dims[axis]) - start as usize;
    }
    Tensor::from_places(&dims, |place| {
        let place: Vec<usize> = place.iter().zip(&begin).map(|(place, begin)| place + begin).collect();
        x.data[x.at(&place)]
    })
}

fn pad(x: &Tensor, pads: &Tensor) -> Tensor {
    let (pads, axes) = (pads.integers(), x.dims.len());
    let dims: Vec<usize> = (0..axes).map(|axis| x.dims[axis] + (pads[axis] + pads[axis + axes]) as usize).collect();
    Tensor::from_places(&dims, |place| {
        let inner = |axis: usize| place[axis].checked_sub(pads[axis] as usize).filter(|&at| at < x.dims[axis]);
        (0..axes).map(inner).collect::<Option<Vec<_>>>().map_or(0.0, |place| x.data[x.at(&place)])
    })
}

/// `x` by the transposed `w`, and `bias`.
fn gemm(x: &Tensor, w: &Tensor, bias: &Tensor) -> Tensor {
    assert_eq!((x.dims.len(), x.dims[1]), (2, w.dims[1]));
    Tensor::from_places(&[x.dims[0], w.dims[0]], |place| {
        let product = |i: usize| x.data[x.at(&[place[0], i])] * w.data[w.at(&[place[1], i])];
        bias.data[place[1]] + (0..x.dims[1]).map(product).sum::<f64>()
    })
}

fn normalised(inputs: &[&Tensor], epsilon: f64) -> Tensor {
    let [x, scale, shift, mean, variance] = inputs[..] else { panic!("{} inputs", inputs.len()) };
    Tensor::from_places(&x.dims, |place| {
        let c = place[1];
        let centred = x.data[x.at(place)] - mean.data[c];
        scale.data[c] * centred / (variance.data[c] + epsilon).sqrt() + shift.data[c]
    })
}

/// What a node makes of its inputs.
fn evaluate(node: &Node, inputs: &[&Tensor]) -> Tensor {
    let mut with = Attributes { node, known: vec![] };
    let mean = |values: &[f64], count: f64| values.iter().sum::<f64>() / count;
    let rest = |x: &Tensor| x.dims[1..].iter().product::<usize>();
    match node.op_type.as_str() {
        "Conv" => {
            let (window, groups) = (with.window(), with.integer("group", 1) as usize);
            conv(inputs[0], inputs[1], inputs.get(2).copied(), &window, groups)
        }
        "Gemm" => {
            assert_eq!(with.integer("transB", 0), 1);
            gemm(inputs[0], inputs[1], inputs[2])
        }
        "BatchNormalization" => normalised(inputs, with.float("epsilon", 1e-5)),
        "Relu" => inputs[0].map(|x| x.max(0.0)),
        "HardSigmoid" => {
            let (alpha, beta) = (with.float("alpha", 0.2), with.float("beta", 0.5));
            inputs[0].map(|x| (alpha * x + beta).clamp(0.0, 1.0))
        }
        "HardSwish" => inputs[0].map(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        "Add" => inputs[0].with(inputs[1], |a, b| a + b),
        "Mul" => inputs[0].with(inputs[1], |a, b| a * b),
        "MaxPool" => pool(inputs[0], &with.window(), |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "AveragePool" => {
            let (window, padded) = (with.window(), with.integer("count_include_pad", 0) == 1);
            let all = window.kernel.iter().product::<usize>() as f64;
            pool(inputs[0], &window, |values| mean(values, if padded { all } else { values.len() as f64 }))
        }
        "GlobalAveragePool" => {
            let [n, c, h, w] = inputs[0].nchw();
            let means = inputs[0].data.chunks(h * w).map(|values| mean(values, (h * w) as f64));
            Tensor::new(&[n, c, 1, 1], means.collect())
        }
        "Concat" => concat(inputs, with.integer("axis", -1) as usize),
        "Slice" => slice(inputs[0], inputs[1], inputs[2], inputs[3]),
        "Pad" => pad(inputs[0], inputs[1]),
        "Flatten" => {
            assert_eq!(with.integer("axis", 0), 1);
            Tensor::new(&[inputs[0].dims[0], rest(inputs[0])], inputs[0].data.clone())
        }
        "Unsqueeze" => {
            let mut dims = inputs[0].dims.clone();
            inputs[1].integers().into_iter().for_each(|axis| dims.insert(axis as usize, 1));
            Tensor::new(&dims, inputs[0].data.clone())
        }
        "Shape" => {
            let (start, end) = (with.integer("start", 0) as usize, with.integer("end", 4) as usize);
            let dims: Vec<f64> = inputs[0].dims[start..end].iter().map(|&axis| axis as f64).collect();
            Tensor::new(&[dims.len()], dims)
        }
        "Expand" => {
            let dims: Vec<usize> = inputs[1].integers().into_iter().map(|axis| axis as usize).collect();
            assert_eq!(inputs[0].dims, [1]);
            Tensor::from_places(&dims, |_| inputs[0].data[0])
        }
        "Identity" => inputs[0].clone(),
        other => panic!("the operator {other}"),
    }
}

/// The axes of an input or output; an open one has a name.
fn axes(info: &ValueInfo) -> Vec<Result<usize, String>> {
    let Some(TypeValue::Tensor(tensor)) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else { panic!() };
    assert_eq!(tensor.elem_type, DataType::Float);
    let axis = |value: &Dimension| match value {
        Dimension::Value(axis) => Ok(*axis as usize),
        Dimension::Param(name) => Err((*name).to_owned()),
    };
    tensor.shape.as_ref().unwrap().dim.iter().map(|dim| axis(&dim.value)).collect()
}

/// A file that was read.
pub struct File {
    pub metadata: HashMap<String, String>,
    pub opset: i64,
    pub producer: String,
    /// How often there is an operator.
    pub operators: HashMap<String, usize>,
    pub constants: HashMap<String, Tensor>,
    bytes: Vec<u8>,
}

impl File {
    pub fn read(bytes: Vec<u8>) -> Self {
        let model = onnx_rs::parse(&bytes).unwrap();
        let graph = model.graph.as_ref().unwrap();
        let mut operators = HashMap::new();
        graph.node.iter().for_each(|node| *operators.entry(node.op_type.as_str().to_owned()).or_default() += 1);
        File {
            metadata: model.metadata_props.iter().map(|e| (e.key.to_owned(), e.value.to_owned())).collect(),
            opset: model.opset_import[0].version,
            producer: model.producer_name.to_owned(),
            operators,
            constants: graph.initializer.iter().map(|own| (own.name().to_owned(), Tensor::of(own))).collect(),
            bytes,
        }
    }

    /// The logits of images.
    pub fn run(&self, images: &Tensor) -> Tensor {
        let model = onnx_rs::parse(&self.bytes).unwrap();
        let graph = model.graph.as_ref().unwrap();
        let [input, output] = [&graph.input, &graph.output].map(|list| {
            assert_eq!(list.len(), 1);
            &list[0]
        });
        let fits = |info: &ValueInfo, dims: &[usize]| {
            let own = axes(info);
            assert_eq!((own.len(), &own[0]), (dims.len(), &Err("N".to_owned())));
            assert!(own.iter().skip(1).zip(&dims[1..]).all(|(own, axis)| own.as_ref() == Ok(axis)), "{own:?} {dims:?}");
        };
        assert_eq!((input.name, output.name), ("images", "logits"));
        fits(input, &images.dims);
        let mut values = self.constants.clone();
        values.insert(input.name.to_owned(), images.clone());
        for node in &graph.node {
            let inputs: Vec<&Tensor> = node.input.iter().map(|name| &values[*name]).collect();
            let result = evaluate(node, &inputs);
            assert_eq!(node.output.len(), 1);
            assert!(values.insert(node.output[0].to_owned(), result).is_none(), "{} is there twice", node.output[0]);
        }
        let logits = values.remove(output.name).unwrap();
        fits(output, &logits.dims);
        logits
    }
}
