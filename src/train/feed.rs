//! From a data set to batches: crops, flips, averages down or makes larger, and normalises on the device.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::stream::Look;
use super::supply::{Room, Supply};
use super::trainer::Setting;
use crate::data::resize::{Taps, Window, is_larger};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::graph::plan::{Instance, Plan};
use crate::graph::store::{Contents, Store};
use crate::graph::{Builder, Graph, Init, Op, Role, Shape};
use crate::nn::at_size;
use crate::philox::Stream;

/// Purpose word of augmentation.
const AUGMENT_PURPOSE: u32 = 0x4155_474D;
/// Purpose word of holes, which have numbers of their own so that crops and flips are the same with and without.
const CUTOUT_PURPOSE: u32 = 0x4355_544F;
/// Purpose word of shuffling.
const SHUFFLE_PURPOSE: u32 = 0x5348_5546;
/// Label of an image that only fills up a batch.
const NO_LABEL: u32 = 0xFFFF;

/// One image of a batch and how it is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Number of the image in the set; `None` fills up the batch.
    pub image: Option<usize>,
    /// Shift to the right, in pixels of the images, or of what networks see where that is larger.
    pub dx: i8,
    /// Shift downwards.
    pub dy: i8,
    /// Mirrored left to right.
    pub flip: bool,
    /// What is cut out of it.
    pub hole: Hole,
    /// The part of its picture that is seen in place of the image; only of pictures that are streamed.
    pub part: Option<Window>,
}

/// A square of a picture, as the network sees it after crop and flip, that has the mean's colour; what lies beyond the picture's
/// edges is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hole {
    /// Row of its centre: `side / 2` of its rows lie above. In the same pixels as shifts.
    pub row: u16,
    /// Column of its centre.
    pub column: u16,
    /// Its side; with 0 there is no hole.
    pub side: u8,
}

impl Pick {
    /// An image as it is.
    pub fn plain(image: usize) -> Self {
        Pick { image: Some(image), ..Pick::default() }
    }

    /// What must be on the device for it.
    pub(super) fn look(&self) -> Option<Look> {
        self.image.map(|image| (image, self.part))
    }
}

/// Random crops, flips and holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Augmentation {
    /// Zeros around the image before a crop of its own size.
    pub padding: u8,
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Side of a square, in pixels of the data set, that is cut out of each image around a random place and filled with the mean
    /// (cutout, DeVries and Taylor 2017); 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cutout: u8,
}

/// Whether nothing is cut out: recipes without cutout are written as they were before there was any.
fn is_zero(side: &u8) -> bool {
    *side == 0
}

impl Augmentation {
    /// What is usual for images of this side: for photographs of 16 pixels and more crops padded by an eighth, and flips;
    /// for smaller ones shifts by one pixel and no flips (digits have a side).
    pub fn usual(side: usize) -> Self {
        match side {
            0..16 => Augmentation { padding: 1, flip: false, cutout: 0 },
            _ => Augmentation { padding: (side / 8).min(100) as u8, flip: true, cutout: 0 },
        }
    }

    /// Fails if the hole is larger than images of these rows and columns, or if crops or holes of what networks see, `input`, are beyond what
    /// a batch can say of them.
    ///
    /// # Errors
    /// Says how large they are.
    pub fn check(self, [rows, columns]: [usize; 2], input: [usize; 2]) -> Result<()> {
        let side = usize::from(self.cutout);
        if side <= rows.max(columns) {
            let times = growth([rows, columns], input);
            let [hole, padding] = [self.cutout, self.padding].map(|pixels| times(pixels.into()));
            for (option, pixels, most) in [("--cutout", hole, 255), ("augmentation.padding", padding, 127)] {
                if pixels > most {
                    let [h, w] = input;
                    let why = format!("is {pixels} pixels of images of {h}x{w}, expected at most {most}");
                    return Err(Error::invalid(option, why));
                }
            }
            return Ok(());
        }
        let why = format!("{side} is more than the images have, {rows}x{columns}: nothing of them would be left");
        Err(Error::invalid("--cutout", why))
    }

    /// The same in pixels of what networks see, where these are larger than the images: then it is there that they are cropped. Beside it
    /// stand the rows and columns that its pixels are of. Where one axis grows more than the other, crops and holes grow as the other.
    pub fn seen(self, sides: [usize; 2], input: [usize; 2]) -> (Self, [usize; 2]) {
        if !is_larger(input, sides) {
            return (self, sides);
        }
        let times = growth(sides, input);
        // Shifts are bytes with a sign. What is beyond was refused.
        let [padding, cutout] =
            [(self.padding, 127), (self.cutout, 255)].map(|(own, most)| times(own.into()).min(most) as u8);
        (Augmentation { padding, cutout, ..self }, input)
    }

    /// A hole around a place of a picture of these rows and columns, each as likely as any other.
    fn hole(self, seed: u64, key: u64, sides: [usize; 2]) -> Hole {
        if self.cutout == 0 {
            return Hole::default();
        }
        let mut draw = Stream::new(seed, CUTOUT_PURPOSE, key);
        // Beyond 65,536 pixels a picture stays whole.
        let [row, column] = sides.map(|side| draw.below(side.clamp(1, 1 << 16) as u64) as u16);
        Hole { row, column, side: self.cutout }
    }
}

/// The images of an epoch in random order, augmented; keyed by seed, epoch and image, nothing else. Beside the augmentation stand
/// rows and columns of the images.
pub fn epoch(indices: &[usize], seed: u64, epoch: u64, augmentation: Option<(Augmentation, [usize; 2])>) -> Vec<Pick> {
    let mut order = indices.to_vec();
    Stream::new(seed, SHUFFLE_PURPOSE, epoch).shuffle(&mut order);
    let pick = |image: usize| {
        let Some((augmentation, sides)) = augmentation else { return Pick::plain(image) };
        let (Augmentation { padding, flip, .. }, key) = (augmentation, epoch << 32 | image as u64);
        let mut draw = Stream::new(seed, AUGMENT_PURPOSE, key);
        let mut shift = || draw.below(2 * u64::from(padding) + 1) as i64 - i64::from(padding);
        let (dx, dy) = (shift() as i8, shift() as i8);
        let flip = flip && draw.below(2) == 1;
        Pick { image: Some(image), dx, dy, flip, hole: augmentation.hole(seed, key, sides), part: None }
    };
    order.into_iter().map(pick).collect()
}

/// How many pixels of what networks see so many pixels of the images are, along the axis that grows less; as many if neither grows.
fn growth(sides: [usize; 2], input: [usize; 2]) -> impl Fn(usize) -> usize {
    let larger = is_larger(input, sides);
    let along = move |axis: usize, pixels: usize| pixels * input[axis] / sides[axis].max(1);
    move |pixels| if larger { along(0, pixels).min(along(1, pixels)) } else { pixels }
}

/// How far images of a list were announced.
#[derive(Debug, Default)]
pub struct Ahead {
    announced: usize,
}

/// Makes batches of a data set, for one or several networks that see their own images, each at its own size.
pub struct Feed {
    gpu: Gpu,
    plan: Plan,
    /// Where each copy's images and labels are.
    stores: Vec<Store>,
    /// Which images each copy is made of.
    words: Vec<Store>,
    /// The sizes at which each sees them, each once.
    sizes: Vec<Vec<[usize; 3]>>,
    data: Supply,
    /// Where images lie that are brought to the device for a batch.
    room: Room,
    batch: usize,
}

/// The making of a batch of images at each of some sizes as a graph.
fn gathering(data: &Supply, sizes: &[[usize; 3]], batch: usize) -> Result<Graph> {
    let mut b = Builder::new();
    let zero = Init::Constant(0.0);
    let [_, _, c] = sizes[0];
    let moments = b.persistent(Role::Hyper, "statistics", Shape::Vectors { rows: 2, c }, zero, &[])?;
    let all = b.persistent(Role::Data, "data", Shape::vector(4), zero, &[])?;
    for &own in sizes {
        let ([h, w, c], [sh, sw, sc]) = (own, data.source());
        if c != sc || h == 0 || w == 0 {
            return Err(Error::shape("--image", format!("images of {sc} channels"), format!("{h}x{w} with {c}")));
        }
        let named = |name: &str| at_size(name, sizes[0], own);
        let x = b.persistent(Role::Batch, &named("x"), Shape::map(batch, h, w, c), zero, &[batch, c, h, w])?;
        let labels = b.persistent(Role::Batch, &named("y"), Shape::map(batch, 1, 1, 1), zero, &[batch])?;
        let rows = Shape::Vectors { rows: batch, c: 4 };
        let descriptors = b.persistent(Role::Hyper, &named("descriptors"), rows, zero, &[])?;
        let taps = match is_larger([h, w], [sh, sw]) {
            true => {
                let [down, across] = [(sh, h), (sw, w)].map(|(from, to)| Taps::of(data.filter(), from, to).width());
                let shape = Shape::Vectors { rows: h + w, c: 2 + down.max(across) };
                Some(b.persistent(Role::Hyper, &named("taps"), shape, zero, &[])?)
            }
            false => None,
        };
        let source = data.source();
        b.push(Op::Gather { data: all, batch: descriptors, taps, statistics: moments, x, labels, source });
    }
    Ok(b.finish())
}

impl Feed {
    /// Batches of `batch` images of `input` size (rows, columns, channels) for `copies` networks, normalised by the setting's
    /// statistics.
    ///
    /// # Errors
    /// If the channels differ, or the device has no room.
    pub fn new(setting: &Setting, input: [usize; 3], batch: usize, copies: usize) -> Result<Self> {
        Ok(Self::beside(setting, &vec![vec![input]; copies], batch, vec![])?.0)
    }

    /// The same for networks that see images at these sizes each, and stores for what else the host writes: side by side with the feed's own
    /// words, so that all goes to the device in one write. Images are called `x`, and at other sizes than a network's first as [`at_size`] says.
    ///
    /// # Errors
    /// As [`Feed::new`].
    pub fn beside(
        setting: &Setting,
        inputs: &[Vec<[usize; 3]>],
        batch: usize,
        others: Vec<Contents>,
    ) -> Result<(Self, Vec<Store>)> {
        let Setting { gpu, preset, data, statistics } = *setting;
        // Networks that see images of one size share a graph.
        let mut graphs: Vec<Arc<Graph>> = vec![];
        for (copy, input) in inputs.iter().enumerate() {
            let known = inputs[..copy].iter().position(|earlier| earlier == input);
            graphs.push(match known {
                Some(earlier) => graphs[earlier].clone(),
                None => Arc::new(gathering(data, input, batch)?),
            });
        }
        let of = |role: Role| graphs.iter().map(|graph| Contents::of(graph, &[role])).collect::<Result<Vec<_>>>();
        let stores = Store::packed(gpu, of(Role::Batch)?, "batches")?;
        let mut contents = of(Role::Hyper)?;
        contents.extend(others);
        let mut words_of = Store::packed(gpu, contents, "the host's words")?;
        let others = words_of.split_off(inputs.len());
        let room = data.room(gpu, inputs.iter().map(Vec::len).sum(), batch)?;
        let mut instances = vec![];
        for (((graph, store), own), sizes) in graphs.iter().zip(&stores).zip(&words_of).zip(inputs) {
            let [_, _, c] = sizes[0];
            let mut words = vec![0.0f32; 8 * c.div_ceil(4)];
            for channel in 0..c {
                words[channel] = statistics.mean[channel] as f32;
                words[4 * c.div_ceil(4) + channel] = (1.0 / statistics.std[channel].max(1e-8)) as f32;
            }
            own.write_words(gpu, 0, "statistics", bytemuck::cast_slice(&words))?;
            let ([sh, sw, _], filter) = (data.source(), data.filter());
            for &[h, w, _] in sizes.iter().filter(|[h, w, _]| is_larger([*h, *w], [sh, sw])) {
                let taps = at_size("taps", sizes[0], [h, w, c]);
                let stride = own.entry(&taps)?.shape.vec4s() * 4 / (h + w);
                let words = [(sh, h), (sw, w)].map(|(from, to)| Taps::of(filter, from, to).words(stride));
                own.write_words(gpu, 0, &taps, &words.concat())?;
            }
            let images = Store::of_slabs(Contents::of(graph, &[Role::Data])?, data.slabs(&room).to_vec());
            let bindings = BTreeMap::from([
                (Role::Batch, (store.clone(), 0)),
                (Role::Hyper, (own.clone(), 0)),
                (Role::Data, (images, 0)),
            ]);
            instances.push(Instance { graph: graph.clone(), bindings, path: vec![] });
        }
        let plan = Plan::compile(gpu, instances, preset)?;
        let sizes = inputs.to_vec();
        Ok((Feed { gpu: gpu.clone(), plan, stores, words: words_of, sizes, data: data.clone(), room, batch }, others))
    }

    /// Where network `copy` finds its images and labels.
    ///
    /// # Errors
    /// If there is no such network.
    pub fn store(&self, copy: usize) -> Result<&Store> {
        self.stores.get(copy).ok_or_else(|| self.no_copy(copy))
    }

    fn no_copy(&self, copy: usize) -> Error {
        Error::invalid("copy", format!("{copy} of {}", self.words.len()))
    }

    /// For how many networks there are batches.
    pub fn copies(&self) -> usize {
        self.words.len()
    }

    /// Images in a batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Chooses the images of network `copy`; fewer than a batch are filled up with images that count nothing.
    ///
    /// # Errors
    /// If there are more than a batch, or an image does not exist.
    pub fn set(&self, copy: usize, picks: &[Pick]) -> Result<()> {
        self.set_at(copy, 0, picks)
    }

    /// The same for the images of one of its sizes, by its number.
    ///
    /// # Errors
    /// As [`Feed::set`], or if there is no such size.
    pub fn set_at(&self, copy: usize, size: usize, picks: &[Pick]) -> Result<()> {
        if picks.len() > self.batch {
            return Err(Error::shape("batch", self.batch, picks.len()));
        }
        let (own, sizes) = self.words.get(copy).zip(self.sizes.get(copy)).ok_or_else(|| self.no_copy(copy))?;
        let seen = sizes.get(size).ok_or_else(|| Error::invalid("size", format!("{size} of {}", sizes.len())))?;
        let exists = |image: usize| self.data.label(image).is_some();
        if let Some(image) = picks.iter().filter_map(|pick| pick.image).find(|&image| !exists(image)) {
            return Err(Error::invalid("batch", format!("image {image} of {} does not exist", self.data.len())));
        }
        let number = self.sizes[..copy].iter().map(Vec::len).sum::<usize>() + size;
        let places = self.data.place(&self.gpu, &self.room, number, picks)?;
        let mut words = Vec::with_capacity(4 * self.batch);
        for i in 0..self.batch {
            let pick = picks.get(i).copied().unwrap_or_default();
            let label = pick.image.and_then(|image| self.data.label(image)).map_or(NO_LABEL, u32::from);
            let [slab, index] = places.get(i).copied().unwrap_or_default();
            let shift = |d: i8| (i32::from(d) + 128) as u32;
            // A shift of the picture by d is a look at the source d to the other side.
            let packed =
                shift(pick.dx.saturating_neg()) | shift(pick.dy.saturating_neg()) << 8 | u32::from(pick.flip) << 16;
            let Hole { row, column, side } = pick.hole;
            let (row, column, side) = (u32::from(row) << 16, u32::from(column) << 16, u32::from(side) << 8);
            words.extend([index, label | row, packed, slab | side | column]);
        }
        own.write_words(&self.gpu, 0, &at_size("descriptors", sizes[0], *seen), &words)
    }

    /// Says which images will be chosen for every copy, one after the other, when the one with this number is the next: those that come
    /// soon are decoded meanwhile, where they are in files.
    pub fn announce(&self, picks: &[Pick], next: usize, ahead: &mut Ahead) {
        let from = ahead.announced.max(next);
        let to = (next + self.batch + self.data.window(self.batch)).min(picks.len());
        if from < to
            && self.data.announce(picks[from..to].iter().flat_map(|pick| std::iter::repeat_n(pick, self.copies())))
        {
            ahead.announced = to;
        }
    }

    /// Whether images are brought to the device as they are needed.
    pub fn is_streamed(&self) -> bool {
        self.data.is_streamed()
    }

    /// Records the making of the batches.
    pub fn record(&self, recorder: &mut Recorder) {
        self.plan.record(recorder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_leave_crops_and_flips_alone() {
        let indices: Vec<usize> = (0..3_000).collect();
        let usual = Augmentation::usual(32);
        let of =
            |cutout: u8, number: u64| epoch(&indices, 5, number, Some((Augmentation { cutout, ..usual }, [32, 40])));
        let (plain, cut) = (of(0, 3), of(16, 3));
        assert!(plain.iter().all(|pick| pick.hole == Hole::default()));
        let filled: Vec<Pick> = cut.iter().map(|pick| Pick { hole: Hole::default(), ..*pick }).collect();
        assert_eq!(filled, plain);
        // Each row and column is as likely as any other: 3,000 draws leave none of them out.
        let seen = |of: &dyn Fn(&Hole) -> u16| {
            cut.iter().map(|pick| of(&pick.hole)).collect::<std::collections::BTreeSet<_>>()
        };
        assert!(seen(&|hole| hole.row).into_iter().eq(0..32) && seen(&|hole| hole.column).into_iter().eq(0..40));
        assert!(cut.iter().all(|pick| pick.hole.side == 16));
        // An image's hole is its own, and another one in each epoch.
        let of_image = |picks: &[Pick], image: usize| picks.iter().find(|pick| pick.image == Some(image)).unwrap().hole;
        let alone = epoch(&[7], 5, 3, Some((Augmentation { cutout: 16, ..usual }, [32, 40])));
        assert_eq!(alone[0].hole, of_image(&cut, 7));
        let next = of(16, 4);
        assert!((0..9).any(|image| of_image(&next, image) != of_image(&cut, image)));
    }

    #[test]
    fn recipes_without_holes_are_written_as_before() {
        let old = "padding = 4\nflip = true\n";
        let read: Augmentation = toml::from_str(old).unwrap();
        assert_eq!((read, toml::to_string(&read).unwrap()), (Augmentation::usual(32), old.into()));
        let cut = Augmentation { cutout: 16, ..read };
        assert_eq!(toml::from_str::<Augmentation>(&toml::to_string(&cut).unwrap()).unwrap(), cut);
        assert!(cut.check([32, 32], [32, 32]).is_ok() && cut.check([8, 16], [8, 8]).is_ok());
        assert!(cut.check([32, 32], [224, 224]).is_ok());
        let refused = cut.check([32, 32], [1024, 1024]).unwrap_err().to_string();
        assert!(refused.contains("--cutout") && refused.contains("512 pixels of images of 1024x1024"), "{refused}");
        let refused = cut.check([8, 8], [8, 8]).unwrap_err().to_string();
        assert!(refused.contains("--cutout") && refused.contains("8x8"), "{refused}");
    }
}
