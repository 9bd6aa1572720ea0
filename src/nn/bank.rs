//! Weights that many networks share: each tensor is drawn, or taken from a file, and laid out for the device once.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use super::tensors::{Named, Values, draw, lay_out, name_key};
use crate::error::Result;
use crate::graph::store::{Contents, Entry};
use crate::graph::{Init, Shape};
use crate::philox::Stream;

/// Purpose word of normal weights.
const NORMAL_PURPOSE: u32 = 0x4E4F_524D;

/// A tensor of the bank.
#[derive(Debug)]
pub struct Laid {
    /// Axes and values in PyTorch's order.
    pub values: Values,
    /// Values as they lie on the device, with zeros as padding.
    pub stored: Vec<f32>,
    /// How large they are.
    pub size: Size,
}

/// How large the values of a tensor are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    /// Sum of magnitudes, over the outermost axis: what a layer does at most to the mean of its input, if that is positive.
    pub gain: f64,
    /// Largest magnitude.
    pub largest: f32,
    /// Euclidean norm.
    pub norm: f64,
}

impl Size {
    /// Measures a tensor.
    pub fn of(values: &Values) -> Self {
        let sum = values.data.iter().map(|&w| f64::from(w.abs())).sum::<f64>();
        let squares = values.data.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>();
        Size {
            gain: sum / values.dims.first().copied().unwrap_or(1).max(1) as f64,
            largest: values.data.iter().fold(0.0, |most: f32, w| most.max(w.abs())),
            norm: squares.sqrt(),
        }
    }
}

/// One network's tensors by name.
pub type Weights = BTreeMap<String, Arc<Laid>>;

/// The same in PyTorch's order, apart from the bank, to be changed.
pub fn named(weights: &Weights) -> Named {
    weights.iter().map(|(name, laid)| (name.clone(), laid.values.clone())).collect()
}

/// Where values come from.
#[derive(Debug)]
enum Source {
    /// Drawn, each tensor from this seed and its name alone.
    Seed(u64),
    /// Normal numbers, each tensor from this seed, this number of a draw, and its name alone.
    Normal(u64, u32),
    /// Given.
    Given(Named),
}

/// Name, memory layout, axes and first value: what decides a tensor of one seed.
type Key = (String, Shape, Vec<usize>, String);

/// The bank. It keeps what was asked for: of a search space at most its supernet.
#[derive(Debug)]
pub struct Bank {
    source: Source,
    laid: Mutex<HashMap<Key, Arc<Laid>>>,
}

impl Bank {
    /// Fresh weights from a seed, as [`fresh`](super::tensors::fresh) draws them.
    pub fn fresh(seed: u64) -> Arc<Self> {
        Arc::new(Bank { source: Source::Seed(seed), laid: Mutex::default() })
    }

    /// A draw of weights from N(0, 1): convolutions and linear layers. Their biases are 0, norms 1 and 0. (The fresh starts of
    /// SWAP: Peng et al. 2024, section 4, as released.)
    pub fn normal(seed: u64, draw: u32) -> Arc<Self> {
        Arc::new(Bank { source: Source::Normal(seed, draw), laid: Mutex::default() })
    }

    /// The same given weights for all networks.
    pub fn given(named: Named) -> Arc<Self> {
        Arc::new(Bank { source: Source::Given(named), laid: Mutex::default() })
    }

    /// Weights of networks with these tensors.
    ///
    /// # Errors
    /// If weights were given and one is missing, has other axes, or holds a value that is not finite.
    pub fn weights(&self, networks: &[Contents]) -> Result<Vec<Weights>> {
        let key = |name: &String, entry: &Entry| -> Key {
            (name.clone(), entry.shape, entry.info.dims.clone(), format!("{:?}", entry.info.init))
        };
        let lock = || self.laid.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: HashMap<Key, (&String, &Entry)> = {
            let laid = lock();
            let all = networks.iter().flat_map(|contents| &contents.entries);
            all.map(|(name, entry)| (key(name, entry), (name, entry)))
                .filter(|(key, _)| !laid.contains_key(key))
                .collect()
        };
        let made: Vec<(Key, Arc<Laid>)> = missing
            .into_par_iter()
            .map(|(key, (name, entry))| Ok((key, Arc::new(self.lay(name, entry)?))))
            .collect::<Result<_>>()?;
        let mut laid = lock();
        laid.extend(made);
        let of_network = |contents: &Contents| -> Weights {
            let tensor = |(name, entry): (&String, &Entry)| Some((name.clone(), laid.get(&key(name, entry))?.clone()));
            contents.entries.iter().filter_map(tensor).collect()
        };
        Ok(networks.iter().map(of_network).collect())
    }

    fn lay(&self, name: &str, entry: &Entry) -> Result<Laid> {
        let values = match &self.source {
            Source::Seed(seed) => Some(Values { dims: entry.info.dims.clone(), data: draw(name, entry, *seed) }),
            Source::Normal(seed, draw) => {
                Some(Values { dims: entry.info.dims.clone(), data: normal(name, entry, *seed, *draw) })
            }
            Source::Given(named) => named.get(name).cloned(),
        };
        let mut stored = vec![0.0; entry.shape.vec4s() * 4];
        lay_out(name, entry, values.as_ref(), &mut stored)?;
        let values = values.unwrap_or(Values { dims: vec![], data: vec![] });
        Ok(Laid { size: Size::of(&values), values, stored })
    }
}

/// Values of one tensor of a normal draw.
fn normal(name: &str, entry: &Entry, seed: u64, draw: u32) -> Vec<f32> {
    let length = entry.shape.len();
    match entry.info.init {
        Init::Constant(value) => vec![value; length],
        _ if entry.info.dims.len() < 2 => vec![0.0; length],
        _ => {
            let mut stream = Stream::new(seed, NORMAL_PURPOSE, name_key(&format!("{draw} {name}")));
            (0..length).map(|_| stream.normal() as f32).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Init, Persistent, Role};
    use crate::nn::tensors::fresh;

    fn contents(names: &[&str]) -> Contents {
        let shape = Shape::Filter { r: 1, s: 1, c: 3, k: 2, groups: 1 };
        let entry = |name: &&str| {
            let info = Persistent {
                role: Role::Weights,
                name: name.to_string(),
                init: Init::Uniform { fan_in: 3 },
                dims: vec![2, 3, 1, 1],
            };
            (name.to_string(), Entry { offset: 0, shape, info })
        };
        Contents { entries: names.iter().map(entry).collect(), vec4s: 9 }
    }

    #[test]
    fn tensors_are_drawn_once_and_as_always() {
        let bank = Bank::fresh(4);
        let weights = bank.weights(&[contents(&["a", "b"]), contents(&["b"])]).unwrap();
        assert!(Arc::ptr_eq(&weights[0]["b"], &weights[1]["b"]));
        let again = bank.weights(&[contents(&["a"])]).unwrap();
        assert!(Arc::ptr_eq(&again[0]["a"], &weights[0]["a"]));
        let drawn = fresh(&contents(&["a"]), 4);
        let laid = &weights[0]["a"];
        assert_eq!(laid.values, drawn["a"]);
        // w[k, c] lies at row c, column k, of rows of four.
        let [k, c] = [1, 2];
        assert_eq!(laid.stored[c * 4 + k], laid.values.data[k * 3 + c]);
        assert_eq!((laid.stored.len(), laid.stored[2], laid.stored[12]), (16, 0.0, 0.0));
        let magnitudes = || laid.values.data.iter().map(|w| w.abs());
        assert!((laid.size.gain * 2.0 - f64::from(magnitudes().sum::<f32>())).abs() < 1e-6);
        assert_eq!(laid.size.largest, magnitudes().fold(0.0, f32::max));
    }

    #[test]
    fn normal_draws() {
        let mut some = contents(&["a", "a.bias", "norm"]);
        let bias = &mut some.entries.get_mut("a.bias").unwrap().info;
        bias.dims = vec![6];
        some.entries.get_mut("norm").unwrap().info.init = Init::Constant(1.0);
        let draw = |number| Bank::normal(4, number).weights(std::slice::from_ref(&some)).unwrap().remove(0);
        let (first, second) = (draw(0), draw(1));
        assert_ne!(first["a"].values, second["a"].values);
        assert_eq!(first["a"].values, draw(0)["a"].values);
        assert!(first["a"].values.data.iter().all(|w| w.abs() < 6.0) && first["a"].size.largest > 0.1);
        assert_eq!((first["a.bias"].size.largest, &first["norm"].values.data[..]), (0.0, &[1.0; 6][..]));
    }

    #[test]
    fn given_weights_are_checked() {
        let right = Values { dims: vec![2, 3, 1, 1], data: vec![0.5; 6] };
        let bank = Bank::given(Named::from([
            ("a".into(), right.clone()),
            ("b".into(), Values { dims: vec![6], ..right.clone() }),
            ("c".into(), Values { data: vec![f32::NAN; 6], ..right }),
        ]));
        assert_eq!(bank.weights(&[contents(&["a"])]).unwrap()[0]["a"].values.data, [0.5; 6]);
        for (name, why) in [("b", "[2, 3, 1, 1]"), ("c", "value 0 is NaN"), ("d", "is missing")] {
            let error = bank.weights(&[contents(&[name])]).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(name), "{error}");
        }
    }
}
