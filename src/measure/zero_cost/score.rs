//! Scoring a population: which passes its proxies need, and what becomes of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::formulas::{self, LayerGradient};
use super::left::Left;
use super::passes::{Compiled, Given, Look, Wanted, changed};
use super::range::Divided;
use super::{LOWEST, Proxy, swap};
use crate::data::{ChannelStatistics, Images};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::store::Store;
use crate::kernels::Preset;
use crate::nn::Norms;
use crate::nn::bank::{self, Bank, Laid, Weights};
use crate::nn::space::{Build, Family};
use crate::nn::tensors::{Named, Values, download_wait};
use crate::philox::Stream;
use crate::space::Arch;
use crate::train::feed::{Feed, Pick};
use crate::train::supply::Supply;
use crate::train::trainer::Setting;

/// Purpose word of the order of images.
const IMAGES_PURPOSE: u32 = 0x5343_494D;
/// Purpose words of random numbers: zen's weights, images, and noise.
const ZEN_PURPOSE: [u32; 3] = [0x5A45_4E57, 0x5A45_4E58, 0x5A45_4E4E];
/// Bytes of first maps that networks side by side have at most on a software adapter. Work on more of them at once drives
/// each other's maps out of a core's cache, where a single network would find them again (measured: 5 to 15 % of the time
/// with batches of 16 and 32).
const CACHED: usize = 1 << 20;
/// Zen's share of noise in the input.
const ZEN_GAMMA: f32 = 0.01;

/// Draws of weights that swap and snap take the mean of. Published are 32.
pub const DRAWS: u32 = 8;

/// Scores of one architecture by proxy.
pub type Scores = BTreeMap<Proxy, f64>;

/// What networks are scored with.
#[derive(Clone, Debug)]
pub struct Scorer {
    /// The device.
    pub gpu: Gpu,
    /// Tile sizes.
    pub preset: Preset,
    /// What makes networks of architectures.
    pub family: Family,
    /// Seed of random numbers that are no weights.
    pub seed: u64,
    /// Images `x` (`N, C, H, W`, normalised) and labels `y`.
    pub batch: Named,
    /// Weights of all architectures.
    pub weights: Arc<Bank>,
    /// Lowest and highest value that a normalised pixel can have, per channel; empty if that is not known.
    pub range: Vec<[f32; 2]>,
    /// Fresh normal weights of all architectures, as many draws as swap and snap take the mean of.
    pub draws: Vec<Arc<Bank>>,
    /// What zen uses instead of its own draws: weights, `input` and `input2`.
    pub zen: Option<Named>,
}

impl Scorer {
    /// Scores architectures side by side. Results do not depend on how many there are.
    ///
    /// # Errors
    /// If the batch has too few images for a proxy, or the device fails.
    pub fn score(&self, archs: &[Arch], proxies: &[Proxy]) -> Result<Vec<Scores>> {
        let images = self.check(proxies)?;
        self.check_sizes(archs)?;
        let mut scores = vec![Scores::new(); archs.len()];
        if archs.is_empty() {
            return Ok(scores);
        }
        let has = |list: &[Proxy]| proxies.iter().any(|p| list.contains(p));
        for (scores, arch) in scores.iter_mut().zip(archs) {
            let cost = self.family.cost(arch)?;
            scores.insert(Proxy::Params, cost.params as f64);
            scores.insert(Proxy::Flops, cost.macs as f64);
        }
        let wanted = Wanted {
            batch: images,
            loss_gradients: has(&[Proxy::GradNorm, Proxy::Snip, Proxy::Plain]),
            products: has(&[Proxy::Fisher]),
            hessian_products: has(&[Proxy::Grasp]),
            input_gradient: has(&[Proxy::JacobCov, Proxy::EpeNas]),
            codes: has(&[Proxy::Naswot, Proxy::NaswotCompat]),
            ..Wanted::default()
        };
        let common = Wanted { batch: images, ..Wanted::default() };
        if wanted != common {
            self.in_groups(archs, &mut scores, images, |archs, scores| self.shared_passes(archs, wanted, scores))?;
        }
        if has(&[Proxy::Layers]) {
            archs.par_iter().zip(&mut scores).try_for_each(|(arch, scores)| {
                let wanted = Wanted { batch: 1, sum_gradients: true, ..Wanted::default() };
                let count = Look::new(&*self.family.network(arch)?, wanted)?.with_gradient();
                scores.insert(Proxy::Layers, count as f64);
                Ok::<(), Error>(())
            })?;
        }
        if has(&[Proxy::L2Norm]) {
            // From end to end on one core: a network takes less time than passing it on would.
            archs.par_iter().zip(&mut scores).try_for_each(|(arch, scores)| {
                let looks = [Look::new(&*self.family.network(arch)?, common)?];
                let weights = self.weights(&looks)?.pop().unwrap_or_default();
                let norm = |layer: &String| Ok(tensor(&weights, layer)?.size.norm);
                scores.insert(Proxy::L2Norm, looks[0].layers.iter().map(norm).sum::<Result<f64>>()?);
                Ok::<(), Error>(())
            })?;
        }
        for (proxy, norms) in [(Proxy::Synflow, Norms::Bare), (Proxy::SynflowBn, Norms::All)] {
            if has(&[proxy]) {
                self.synflow(archs, proxy, norms, &mut scores)?;
            }
        }
        if has(&[Proxy::Zico]) {
            self.in_groups(archs, &mut scores, images, |archs, scores| self.zico(archs, images, scores))?;
        }
        if has(&[Proxy::Zen]) {
            self.in_groups(archs, &mut scores, images, |archs, scores| self.zen(archs, images, scores))?;
        }
        if has(&swap::FORMS) {
            let most = self.side_by_side(archs, images)?;
            self.in_groups(archs, &mut scores, images, |archs, scores| {
                swap::score(self, archs, proxies, scores, most)
            })?;
        }
        self.in_groups(archs, &mut scores, images, |archs, scores| {
            for (proxy, terms) in super::croze::terms(self, archs, proxies)? {
                for (terms, scores) in terms.iter().zip(&mut *scores) {
                    scores.insert(proxy, terms.iter().map(|t| t.term).sum());
                }
            }
            Ok(())
        })?;
        for scores in &mut scores {
            scores.retain(|proxy, value| {
                if !value.is_finite() {
                    *value = LOWEST;
                }
                proxies.contains(proxy)
            });
        }
        Ok(scores)
    }

    /// The number of images, if they will do for these proxies.
    ///
    /// # Errors
    /// What is wrong with the batch, or which proxy needs more of it.
    pub fn check(&self, proxies: &[Proxy]) -> Result<usize> {
        let x = self.batch.get("x").ok_or_else(|| Error::invalid("--batch", "there is no tensor `x`"))?;
        let y = self.batch.get("y").ok_or_else(|| Error::invalid("--batch", "there is no tensor `y`"))?;
        let [images, c, h, w] = x.dims[..] else {
            return Err(Error::shape("tensor x", "N, C, H, W", format!("{:?}", x.dims)));
        };
        let Build { in_channels, image: [height, width], classes, .. } = self.family.build;
        if [c, h, w] != [in_channels, height, width] || y.data.len() != images {
            let have = format!("{:?} with {} labels", x.dims, y.data.len());
            return Err(Error::shape(
                "batch",
                format!("[{images}, {in_channels}, {height}, {width}] and as many labels"),
                have,
            ));
        }
        if let Some(i) = y.data.iter().position(|&l| !(0.0..classes as f32).contains(&l) || l.fract() != 0.0) {
            let why = format!("label {} of image {i} is not one of the {classes} classes", y.data[i]);
            return Err(Error::invalid("y", why));
        }
        if images == 0 {
            return Err(Error::invalid("tensor x", "holds no images"));
        }
        for &proxy in proxies {
            let (least, why) = match proxy {
                Proxy::JacobCov | Proxy::EpeNas => (2, "it correlates images"),
                Proxy::Zico => (4, "it compares two batches with batch statistics"),
                Proxy::Naswot | Proxy::NaswotCompat => (2, "it compares images"),
                Proxy::Croze | Proxy::CrozeCompat | Proxy::CrozeMean => (2, "batch norms need statistics"),
                Proxy::Swap | Proxy::Snap | Proxy::SnapReleased => (2, "batch norms need statistics"),
                Proxy::Zen | Proxy::GradNorm | Proxy::Snip | Proxy::Plain | Proxy::Grasp | Proxy::Fisher => {
                    (2, "batch norms need statistics")
                }
                _ => (1, ""),
            };
            if images < least {
                let why = format!("{images} image; {} needs at least {least}, since {why}", proxy.name());
                return Err(Error::invalid("--batch-size", why));
            }
        }
        Ok(images)
    }

    /// Fails if a network sees images of another size than the batch's.
    ///
    /// # Errors
    /// Names the architecture and the size.
    pub(super) fn check_sizes(&self, archs: &[Arch]) -> Result<()> {
        let [height, width, _] = self.family.build.input();
        for arch in archs {
            let [rows, columns, _] = self.family.network(arch)?.input();
            if [rows, columns] != [height, width] {
                let why = format!(
                    "{} sees images of {rows}x{columns}, and the batch has {height}x{width}; score architectures of one size \
                     at a time, with --image {rows}x{columns} (and --build smallest={rows} for a --sample of it)",
                    self.family.show(arch)
                );
                return Err(Error::invalid("--arch", why));
            }
        }
        Ok(())
    }

    /// Does a pass for so many networks at once as the adapter gains from.
    fn in_groups(
        &self,
        archs: &[Arch],
        scores: &mut [Scores],
        images: usize,
        pass: impl Fn(&[Arch], &mut [Scores]) -> Result<()>,
    ) -> Result<()> {
        let most = self.side_by_side(archs, images)?;
        archs.chunks(most).zip(scores.chunks_mut(most)).try_for_each(|(archs, scores)| pass(archs, scores))
    }

    /// How many networks at once the adapter gains from.
    fn side_by_side(&self, archs: &[Arch], images: usize) -> Result<usize> {
        Ok(match archs.first().filter(|_| self.gpu.report().is_software()) {
            Some(arch) => (CACHED / (4 * images * self.first_map(arch)?).max(1)).max(1),
            None => usize::MAX,
        })
    }

    /// Values of the map behind a network's first layer, for one image.
    fn first_map(&self, arch: &Arch) -> Result<usize> {
        let look = Look::new(&*self.family.network(arch)?, Wanted { batch: 1, ..Wanted::default() })?;
        Ok(look.first_map)
    }

    pub(super) fn looks(&self, archs: &[Arch], wanted: Wanted) -> Result<Vec<Look>> {
        archs.par_iter().map(|arch| Look::new(&*self.family.network(arch)?, wanted)).collect()
    }

    /// Weights of each network.
    pub(super) fn weights(&self, looks: &[Look]) -> Result<Vec<Weights>> {
        self.weights.weights(&looks.par_iter().map(Look::weights).collect::<Result<Vec<_>>>()?)
    }

    /// One forward pass, and the backward passes that share it.
    fn shared_passes(&self, archs: &[Arch], wanted: Wanted, scores: &mut [Scores]) -> Result<()> {
        let looks = self.looks(archs, wanted)?;
        let weights = self.weights(&looks)?;
        let left = self.run(&looks, &weights.iter().collect::<Vec<_>>(), &self.batch)?;
        let labels: Vec<usize> = self.batch["y"].data.iter().map(|&l| l as usize).collect();
        each(&looks, scores, |network, look, scores| {
            let (weights, left) = (&weights[network], &left[network]);
            if wanted.loss_gradients {
                let layers = layers(look, weights, left, "grad")?;
                scores.insert(Proxy::GradNorm, formulas::grad_norm(&layers));
                scores.insert(Proxy::Snip, formulas::snip(&layers));
                scores.insert(Proxy::Plain, formulas::plain(&layers));
            }
            if wanted.hessian_products {
                scores.insert(Proxy::Grasp, 0.0 - formulas::plain(&layers(look, weights, left, "hessian")?));
            }
            if wanted.products {
                let mut sum = 0.0;
                for layer in &look.layers {
                    let Some(products) = left.get(&format!("fisher.{layer}")) else { continue };
                    let per_channel = tensor(weights, layer)?.values.dims.iter().skip(1).product();
                    sum += formulas::fisher(products, wanted.batch, per_channel);
                }
                scores.insert(Proxy::Fisher, sum);
            }
            if let Some(jacobian) = left.get("input") {
                let rows: Vec<&[f32]> = jacobian.chunks(jacobian.len() / wanted.batch).collect();
                scores.insert(Proxy::JacobCov, formulas::jacob_cov(&rows));
                scores.insert(Proxy::EpeNas, formulas::epe_nas(&rows, &labels, self.family.build.classes));
            }
            if wanted.codes {
                let mut once = vec![0.0; wanted.batch * wanted.batch];
                let mut twice = once.clone();
                for (number, units) in look.units.iter().enumerate() {
                    let codes = left.get(&format!("codes.{number}")).map(Vec::as_slice).unwrap_or_default();
                    let agreement = formulas::agreement(codes, wanted.batch, units.count);
                    for ((once, twice), agreement) in once.iter_mut().zip(&mut twice).zip(agreement) {
                        *once += units.rectifiers * agreement;
                        *twice += units.counted * agreement;
                    }
                }
                scores.insert(Proxy::Naswot, formulas::log_determinant(&once, wanted.batch));
                scores.insert(Proxy::NaswotCompat, formulas::log_determinant(&twice, wanted.batch));
            }
            Ok(())
        })
    }

    fn run(&self, looks: &[Look], weights: &[impl Given], batch: &Named) -> Result<Vec<Left>> {
        let looks: Vec<&Look> = looks.iter().collect();
        Compiled::new(&self.gpu, self.preset, &looks, weights)?.run_wait(batch)
    }

    /// Sums of `|w dR/dw|` on an image of ones.
    fn synflow(&self, archs: &[Arch], proxy: Proxy, norms: Norms, scores: &mut [Scores]) -> Result<()> {
        let looks = self.looks(archs, Wanted { batch: 1, norms, sum_gradients: true, ..Wanted::default() })?;
        let weights = self.weights(&looks)?;
        let positive = |(weights, look): (&Weights, &Look)| {
            let weights = weights.clone();
            let sizes = |name: &str| weights.get(name).map(|laid| laid.size);
            let divided = if norms == Norms::All { Divided::default() } else { look.scaling.settle(&sizes) };
            Positive { weights, divided }
        };
        let positive: Vec<Positive> = weights.par_iter().zip(&looks).map(positive).collect();
        let [height, width, in_channels] = self.family.build.input();
        let ones = vec![1.0; in_channels * height * width];
        let batch = Named::from([
            ("x".to_owned(), Values { dims: vec![1, in_channels, height, width], data: ones }),
            ("y".to_owned(), Values { dims: vec![1], data: vec![0.0] }),
        ]);
        // With norms the gradients of most layers are small remainders of large parts, and each of the many norms magnifies
        // rounding by up to 1 / sqrt(epsilon), 316: f32 leaves nothing of them in deep networks.
        let left = match norms {
            Norms::All => {
                let exact = |(look, positive): (&Look, &Positive)| look.run_exact(&positive.named(), &batch);
                looks.par_iter().zip(&positive).map(exact).collect::<Result<Vec<_>>>()?
            }
            _ => self.run(&looks, &positive, &batch)?,
        };
        each(&looks, scores, |network, look, scores| {
            let Positive { weights, divided } = &positive[network];
            let mut sum = 0.0;
            for (name, layer) in beside(look, weights, &left[network], "grad")? {
                sum += formulas::snip(&[layer]) * 2f64.powi(-divided.of(&format!("{name}.weight")));
            }
            scores.insert(proxy, formulas::log_score(sum, divided.logits));
            Ok(())
        })
    }

    /// Gradients of the halves of the batch.
    fn zico(&self, archs: &[Arch], images: usize, scores: &mut [Scores]) -> Result<()> {
        let half = images / 2;
        let looks = self.looks(archs, Wanted { batch: half, loss_gradients: true, ..Wanted::default() })?;
        let weights = self.weights(&looks)?;
        let refs: Vec<&Look> = looks.iter().collect();
        let compiled = Compiled::new(&self.gpu, self.preset, &refs, &weights.iter().collect::<Vec<_>>())?;
        let part = |first: usize| -> Named {
            let cut = |values: &Values| {
                let each = values.data.len() / images;
                let mut dims = values.dims.clone();
                dims[0] = half;
                Values { dims, data: values.data[first * each..(first + half) * each].to_vec() }
            };
            ["x", "y"].into_iter().filter_map(|name| Some((name.to_owned(), cut(self.batch.get(name)?)))).collect()
        };
        let (a, b) = (compiled.run_wait(&part(0))?, compiled.run_wait(&part(half))?);
        each(&looks, scores, |network, look, scores| {
            let (a, b) = (&a[network], &b[network]);
            let mut sum = 0.0;
            for layer in &look.layers {
                let name = format!("grad.{layer}");
                if let (Some(a), Some(b)) = (a.stored(&name), b.stored(&name)) {
                    sum += formulas::zico(&[a, b]).unwrap_or(0.0);
                }
            }
            scores.insert(Proxy::Zico, sum);
            Ok(())
        })
    }

    /// Change of the last feature map under input noise, and the variances that batch norm took away.
    fn zen(&self, archs: &[Arch], images: usize, scores: &mut [Scores]) -> Result<()> {
        let given = self.zen.as_ref().and_then(|zen| zen.get("input")?.dims.first().copied());
        let images = given.unwrap_or(images);
        let wanted = Wanted { batch: images, last_map: true, moving: true, ..Wanted::default() };
        let looks = self.looks(archs, wanted)?;
        let [height, width, in_channels] = self.family.build.input();
        let dims = vec![images, in_channels, height, width];
        let normal = |purpose: u32, index: u64, length: usize| -> Vec<f32> {
            let mut stream = Stream::new(self.seed, purpose, index);
            (0..length).map(|_| stream.normal() as f32).collect()
        };
        let mut weights = vec![];
        for look in &looks {
            let mut named = look.fresh(self.seed)?;
            for (number, (name, values)) in named.iter_mut().enumerate() {
                match self.zen.as_ref().and_then(|zen| zen.get(&format!("w.{name}"))) {
                    Some(given) => values.clone_from(given),
                    // Norms keep 1 and 0, biases of convolutions 0.
                    None if values.dims.len() > 1 => {
                        values.data = normal(ZEN_PURPOSE[0], number as u64, values.data.len());
                    }
                    None if name.ends_with(".bias") => values.data.fill(0.0),
                    None => {}
                }
            }
            weights.push(named);
        }
        let length = dims.iter().product();
        let given = |name: &str, purpose: u32| -> Vec<f32> {
            let own = || normal(purpose, 0, length);
            self.zen.as_ref().and_then(|zen| zen.get(name)).map_or_else(own, |v| v.data.clone())
        };
        let (first, noise) = (given("input", ZEN_PURPOSE[1]), given("input2", ZEN_PURPOSE[2]));
        let second = first.iter().zip(&noise).map(|(x, n)| x + ZEN_GAMMA * n).collect();
        let batch = |data: Vec<f32>| {
            let y = Values { dims: vec![images], data: vec![0.0; images] };
            Named::from([("x".to_owned(), Values { dims: dims.clone(), data }), ("y".to_owned(), y)])
        };
        let (refs, named): (Vec<&Look>, Vec<&Named>) = (looks.iter().collect(), weights.iter().collect());
        let compiled = Compiled::new(&self.gpu, self.preset, &refs, &named)?;
        compiled.reset_statistics()?;
        let (a, b) = (compiled.run_wait(&batch(first))?, compiled.run_wait(&batch(second))?);
        let statistics = compiled.statistics_wait()?;
        for ((((look, a), b), statistics), scores) in looks.iter().zip(&a).zip(&b).zip(statistics).zip(scores) {
            let rectified = |v: &f32| f64::from(v.max(0.0));
            let maps =
                a.get("map").zip(b.get("map")).ok_or_else(|| Error::invalid("zen", "there is no feature map"))?;
            let change: f64 = maps.0.iter().zip(maps.1).map(|(a, b)| (rectified(a) - rectified(b)).abs()).sum();
            let mut log = (change / images as f64).ln();
            for norm in &look.norms {
                let variance = &statistics[&format!("{norm}.running_var")].data;
                let mean = variance.iter().map(|&v| f64::from(v)).sum::<f64>() / variance.len() as f64;
                log += mean.sqrt().ln();
            }
            scores.insert(Proxy::Zen, log);
        }
        Ok(())
    }
}

/// Does something for each network and its scores, on all cores.
fn each(
    looks: &[Look],
    scores: &mut [Scores],
    then: impl Fn(usize, &Look, &mut Scores) -> Result<()> + Sync,
) -> Result<()> {
    looks.par_iter().zip(scores).enumerate().try_for_each(|(network, (look, scores))| then(network, look, scores))
}

/// Training images in random order, of which batches at any size are made.
#[derive(Clone, Debug)]
pub struct Drawn {
    images: Images,
    statistics: ChannelStatistics,
}

impl Drawn {
    /// The first `count`.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn new(images: &Images, count: usize, seed: u64) -> Result<Self> {
        if count == 0 || count > images.len() {
            return Err(Error::invalid("--batch-size", format!("{count} of {} training images", images.len())));
        }
        let mut order: Vec<usize> = (0..images.len()).collect();
        Stream::new(seed, IMAGES_PURPOSE, 0).shuffle(&mut order);
        Ok(Drawn { images: images.select(&order[..count]), statistics: images.channel_statistics()? })
    }

    /// The batch of them at a size (rows, columns, channels), normalised.
    ///
    /// # Errors
    /// If the device fails.
    pub fn batch_wait(&self, gpu: &Gpu, preset: Preset, input: [usize; 3]) -> Result<Named> {
        let (supply, count) = (Supply::new(gpu, &self.images)?, self.images.len());
        let setting = Setting { gpu, preset, data: &supply, statistics: &self.statistics };
        let feed = Feed::new(&setting, input, count, 1)?;
        feed.set(0, &(0..count).map(Pick::plain).collect::<Vec<_>>())?;
        let mut recorder = gpu.record();
        feed.record(&mut recorder);
        recorder.submit();
        download_wait(gpu, feed.store(0)?, 0)
    }

    /// Lowest and highest value of normalised pixels, per channel.
    pub fn range(&self) -> Vec<[f32; 2]> {
        let limits = |(mean, std): (&f64, &f64)| [0.0, 1.0].map(|pixel: f64| ((pixel - mean) / std) as f32);
        self.statistics.mean.iter().zip(&self.statistics.std).map(limits).collect()
    }
}

fn tensor<'a>(weights: &'a Weights, layer: &str) -> Result<&'a Laid> {
    let name = format!("{layer}.weight");
    weights.get(&name).map(|laid| &**laid).ok_or_else(|| Error::invalid(name, "is missing from the weights"))
}

/// Each layer's weights beside what a pass left under `what`, its gradient for instance, with its name.
fn beside<'a>(
    look: &'a Look,
    weights: &'a Weights,
    left: &'a Left,
    what: &str,
) -> Result<Vec<(&'a str, LayerGradient<'a>)>> {
    let layer = |name: &'a String| -> Result<Option<(&'a str, LayerGradient<'a>)>> {
        let w = &tensor(weights, name)?.stored;
        Ok(left.stored(&format!("{what}.{name}")).map(|g| (name.as_str(), LayerGradient { w, g })))
    };
    look.layers.iter().filter_map(|name| layer(name).transpose()).collect()
}

/// The same without names.
fn layers<'a>(look: &'a Look, weights: &'a Weights, left: &'a Left, what: &str) -> Result<Vec<LayerGradient<'a>>> {
    Ok(beside(look, weights, left, what)?.into_iter().map(|(_, layer)| layer).collect())
}

/// A network's weights, all positive, and by which powers of two they are divided.
struct Positive {
    weights: Weights,
    divided: Divided,
}

impl Positive {
    /// In PyTorch's order.
    fn named(&self) -> Named {
        let mut named = bank::named(&self.weights);
        named.values_mut().flat_map(|values| &mut values.data).for_each(|w| *w = w.abs());
        self.divided.apply(&mut named);
        named
    }
}

impl Given for Positive {
    fn write(&self, gpu: &Gpu, store: &Store) -> Result<()> {
        changed(gpu, store, &self.weights, |name| Some(2f64.powi(-self.divided.of(name))))
    }
}
