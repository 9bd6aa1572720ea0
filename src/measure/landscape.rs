//! The loss around a trained network, along random directions (Li, Xu, Taylor, Studer and Goldstein 2018).
//!
//! A network computes the same when a filter is made larger and the norm behind it smaller, so a step of one length means different
//! things to different networks. Therefore each filter of a direction is made as long as the network's own filter (section 4 of the
//! paper, *filter normalisation*): `d_ij <- d_ij / |d_ij| |theta_ij|`. What one filter gives is one output channel, and of a
//! fully connected layer one output. Tensors of one axis, biases and the scales and shifts of norms, have no filters; see
//! [`OneAxis`]. Running statistics stay as they are.

use std::sync::Arc;

use rayon::prelude::*;

use super::forward::{Forward, Score, Subject};
use crate::error::{Error, Result};
use crate::graph::store::{Contents, Store};
use crate::graph::{Graph, Role};
use crate::nn::tensors::{Named, Values, name_key, upload};
use crate::philox::Stream;
use crate::train::trainer::Setting;

/// Purpose word of the first direction's numbers; that of the second is one more.
const PURPOSE: u32 = 0x4C41_4E44;

/// Networks beside each other at most. More would compile for longer than they save.
const MOST: usize = 64;

/// What a direction is in tensors of one axis, which have no filters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneAxis {
    /// Nothing: they stay as they are. (`ignore='biasbn'` of the authors' code, with which their figures are drawn.)
    #[default]
    Still,
    /// The weights themselves: at -1 they have vanished, at 1 they have doubled. (The authors' code without it.)
    Weights,
}

/// A direction: random normal numbers by seed, number of the direction and tensor's name, each filter as long as the network's own.
/// `weights` are the names of what is trained.
///
/// # Errors
/// If one of them is missing.
pub fn direction<'a>(
    named: &Named,
    weights: impl Iterator<Item = &'a str>,
    seed: u64,
    number: u32,
    one_axis: OneAxis,
) -> Result<Named> {
    let own = |name: &str| {
        let values = named.get(name).ok_or_else(|| Error::shape(format!("tensor {name}"), "one", "none"))?;
        let data = match (values.dims.len() > 1, one_axis) {
            (true, _) => filters(values, &mut Stream::new(seed, PURPOSE + number, name_key(name))),
            (false, OneAxis::Still) => vec![0.0; values.data.len()],
            (false, OneAxis::Weights) => values.data.clone(),
        };
        Ok((name.to_owned(), Values { dims: values.dims.clone(), data }))
    };
    weights.map(own).collect()
}

/// Random filters as long as those of a tensor, whose first axis tells them apart.
fn filters(values: &Values, stream: &mut Stream) -> Vec<f32> {
    let length = values.data.len() / values.dims[0].max(1);
    let norm = |filter: &mut dyn Iterator<Item = f64>| filter.map(|v| v * v).sum::<f64>().sqrt();
    let one = |filter: &[f32]| -> Vec<f32> {
        let random: Vec<f64> = filter.iter().map(|_| stream.normal()).collect();
        let own = norm(&mut filter.iter().map(|v| f64::from(*v)));
        let scale = own / norm(&mut random.iter().copied()).max(f64::MIN_POSITIVE);
        random.into_iter().map(|v| (scale * v) as f32).collect()
    };
    values.data.chunks(length.max(1)).flat_map(one).collect()
}

/// The network at a place: its weights with so much of each direction added.
fn network_at(named: &Named, directions: &[Named], place: &[f64]) -> Named {
    let moved = |(name, values): (&String, &Values)| {
        let steps: Vec<(&[f32], f64)> =
            directions.iter().zip(place).filter_map(|(d, at)| Some((&d.get(name)?.data[..], *at))).collect();
        let value = |(i, own): (usize, &f32)| {
            // In f64, rounded once: at 0 it is the network itself.
            (f64::from(*own) + steps.iter().map(|(d, at)| at * f64::from(d[i])).sum::<f64>()) as f32
        };
        (name.clone(), Values { dims: values.dims.clone(), data: values.data.iter().enumerate().map(value).collect() })
    };
    named.iter().map(moved).collect()
}

/// Loss and accuracy at each place, in steps of the directions, on the listed images of the setting's; waits for them. Places are
/// evaluated as one population, as many beside each other as fit. `pass` is the network's graph with its running statistics and
/// `running` where these are. `report` is called with the share of places that is done.
///
/// # Errors
/// If the device has no room for a single network, or what `report` returns.
pub fn scores_wait(
    setting: &Setting,
    (pass, batch): (&Arc<Graph>, usize),
    (named, running): (&Named, &(Store, usize)),
    directions: &[Named],
    places: &[Vec<f64>],
    images: &[usize],
    report: &mut dyn FnMut(f64) -> Result<()>,
) -> Result<Vec<Score>> {
    let (copies, forward) = population(setting, (pass, batch), running, places.len().clamp(1, MOST))?;
    let make = |chunk: &[Vec<f64>]| -> Vec<Named> {
        chunk.par_iter().map(|place| network_at(named, directions, place)).collect()
    };
    let chunks: Vec<&[Vec<f64>]> = places.chunks(copies.len()).collect();
    let mut scores = vec![];
    let mut next = chunks.first().map(|chunk| make(chunk)).unwrap_or_default();
    for (number, chunk) in chunks.iter().enumerate() {
        next.iter().zip(&copies).try_for_each(|(own, copy)| upload(setting.gpu, copy, 0, own))?;
        // The device works on these while the next ones are made.
        let (found, made) = rayon::join(
            || forward.evaluate_wait(images),
            || chunks.get(number + 1).map(|chunk| make(chunk)).unwrap_or_default(),
        );
        next = made;
        scores.extend(found?.into_iter().take(chunk.len()));
        report(scores.len() as f64 / places.len().max(1) as f64)?;
    }
    Ok(scores)
}

/// Room for as many networks beside each other as fit, and their pass.
fn population(
    setting: &Setting,
    (pass, batch): (&Arc<Graph>, usize),
    running: &(Store, usize),
    most: usize,
) -> Result<(Vec<Store>, Forward)> {
    let budget = setting.gpu.population_bytes();
    let contents = Contents::of(pass, &[Role::Weights])?;
    let compile = |count: usize| {
        let copies = Store::packed(setting.gpu, vec![contents.clone(); count], "networks around one")?;
        let subject = |copy: &Store| Subject { weights: (copy.clone(), 0), running: running.clone(), path: vec![] };
        let subjects: Vec<Subject> = copies.iter().map(subject).collect();
        let forward = Forward::new(setting, batch, pass, &subjects)?;
        Ok::<_, Error>((copies, forward))
    };
    match compile(most) {
        Ok((copies, forward)) if forward.plan().bytes() <= budget || most == 1 => return Ok((copies, forward)),
        // What was too wide gives its memory back before fewer are tried.
        Ok(wide) => drop(wide),
        Err(Error::Memory { .. }) if most > 1 => {}
        Err(other) => return Err(other),
    }
    population(setting, (pass, batch), running, most.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Named {
        let values = |dims: &[usize], step: f32| {
            let count = dims.iter().product::<usize>();
            Values { dims: dims.to_vec(), data: (0..count).map(|i| step * (i as f32 - 3.0)).collect() }
        };
        let all = [
            ("conv.weight", values(&[4, 3, 2, 2], 0.1)),
            ("bn.weight", values(&[4], 1.0)),
            ("fc.weight", values(&[2, 4], 2.0)),
        ];
        all.into_iter().map(|(name, values)| (name.to_owned(), values)).collect()
    }

    fn norms(values: &Values) -> Vec<f64> {
        let length = values.data.len() / values.dims[0];
        values.data.chunks(length).map(|f| f.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()).collect()
    }

    #[test]
    fn each_filter_is_as_long_as_the_networks_own() {
        let named = network();
        let of = |seed, number, one| direction(&named, named.keys().map(String::as_str), seed, number, one).unwrap();
        let d = of(3, 0, OneAxis::Still);
        for name in ["conv.weight", "fc.weight"] {
            for (own, length) in norms(&named[name]).iter().zip(norms(&d[name])) {
                assert!((own - length).abs() <= 1e-6 * own, "{name}: {own} and {length}");
            }
        }
        assert_eq!(d["bn.weight"].data, [0.0; 4]);
        assert_eq!(of(3, 0, OneAxis::Weights)["bn.weight"], named["bn.weight"]);
        // Directions differ by seed and number, and are random: hardly along each other or along the weights.
        assert!(d == of(3, 0, OneAxis::Still) && d != of(4, 0, OneAxis::Still) && d != of(3, 1, OneAxis::Still));
        let cosine = |a: &Values, b: &Values| {
            let dot: f64 = a.data.iter().zip(&b.data).map(|(a, b)| f64::from(a * b)).sum();
            let norm = |v: &Values| norms(v).iter().map(|n| n * n).sum::<f64>().sqrt();
            dot / norm(a) / norm(b)
        };
        assert!(cosine(&d["conv.weight"], &named["conv.weight"]).abs() < 0.5);
        assert!(direction(&named, ["other"].into_iter(), 1, 0, OneAxis::Still).is_err());
        // A filter of zeros stays one.
        let zeros = Named::from([("w".to_owned(), Values { dims: vec![2, 2], data: vec![0.0, 0.0, 3.0, 4.0] })]);
        let d = direction(&zeros, ["w"].into_iter(), 1, 0, OneAxis::Still).unwrap();
        assert!(d["w"].data[..2] == [0.0, 0.0] && (norms(&d["w"])[1] - 5.0).abs() < 1e-6);
    }

    #[test]
    fn places_are_steps_along_the_directions() {
        let named = network();
        let of = |number| direction(&named, ["conv.weight"].into_iter(), 1, number, OneAxis::Still).unwrap();
        let directions = [of(0), of(1)];
        assert!(network_at(&named, &directions, &[0.0, 0.0]) == named);
        let moved = network_at(&named, &directions, &[0.5, -2.0]);
        assert!(moved["bn.weight"] == named["bn.weight"]);
        for (i, value) in moved["conv.weight"].data.iter().enumerate() {
            let [a, b] = [0, 1].map(|d| f64::from(directions[d]["conv.weight"].data[i]));
            let want = f64::from(named["conv.weight"].data[i]) + 0.5 * a - 2.0 * b;
            assert_eq!(*value, want as f32);
        }
    }
}
