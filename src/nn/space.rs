//! What a search needs of a space besides its architectures: networks, a supernet, costs; and the registry of all spaces.
//!
//! Around an architecture stands a [`Build`]: form, image, classes, and options such as channels and cells, whose meaning is the
//! space's own. A [`Family`] is a space with a build: everything that turns an architecture into one network. Whoever brings a
//! space of their own implements [`Space`] and [`Networks`] and hands it to
//! [`Registry::with`]; all commands take it then.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Model;
use super::count::{self, Cost};
use super::tensors::Named;
use crate::error::{Error, Result, unknown};
use crate::space::darts::Darts;
use crate::space::darts::fourteen::Darts14;
use crate::space::mobilenet_v3::MobileNetV3;
use crate::space::nas_bench_201::NasBench201;
use crate::space::{Arch, Space};

/// Numbers and names that a space gives a meaning.
pub type Options = toml::Table;

/// How an architecture becomes a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Whose network it is, one of [`Networks::forms`].
    pub form: String,
    /// Rows and columns that the network sees.
    pub image: [usize; 2],
    /// Channels of the images.
    pub in_channels: usize,
    /// Classes.
    pub classes: usize,
    /// What else the space wants to know.
    #[serde(flatten)]
    pub options: Options,
}

/// What is known of the images that networks are to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
}

/// What a build is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A search that takes minutes on any machine.
    Quick,
    /// As the space's authors have it.
    Published,
    /// The networks that share a supernet's weights in a search as published, where these are smaller.
    Supernet,
    /// A single training.
    Training,
    /// What zero-cost proxies are defined on.
    Scoring,
}

/// How a space's authors train its networks on small images: SGD with momentum 0.9, a rate that falls to zero by a cosine, random
/// crops and flips, and these numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PublishedTraining {
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest gradient norm.
    pub clip: f64,
    /// Side of the square that is cut out of each image.
    pub cutout: u8,
    /// Probability of drop path at the end.
    pub drop_path: f64,
    /// Options of the build that count in training alone, where the images are such that it can be built with them.
    pub options: &'static [(&'static str, f64)],
}

/// A space whose architectures can be built.
pub trait Networks: Space {
    /// Whose networks there are, the usual one first.
    fn forms(&self) -> &[&str];

    /// A build with all options that the space knows.
    fn defaults(&self, purpose: Purpose, images: &ImageInfo) -> Build;

    /// The space as a build has it, where a build decides which values its genes have: what sides images may have, for example.
    ///
    /// # Errors
    /// What cannot be built.
    fn configured(&self, _build: &Build) -> Result<Option<Arc<dyn Networks>>> {
        Ok(None)
    }

    /// Checks the sizes of a build; form and names of options were looked at before.
    ///
    /// # Errors
    /// What cannot be built.
    fn check_build(&self, _build: &Build) -> Result<()> {
        Ok(())
    }

    /// The network of an architecture.
    ///
    /// # Errors
    /// If it cannot be built.
    fn network(&self, arch: &Arch, build: &Build) -> Result<Box<dyn Model>>;

    /// The supernet of all, if there is one.
    ///
    /// # Errors
    /// If it cannot be built.
    fn supernet(&self, _build: &Build) -> Result<Option<Box<dyn Supernet>>> {
        Ok(None)
    }

    /// Whether networks are cut out of a supernet and begin with its weights, where the space's authors search it.
    fn is_elastic(&self) -> bool {
        false
    }

    /// The same build for networks that all see images of one size, as paths through one supernet do.
    fn of_one_size(&self, build: &Build) -> Build {
        build.clone()
    }

    /// The weights of an architecture's network, cut out of those of a supernet whose tensors are larger than the network's; `None` if
    /// `theirs` are no such supernet's.
    ///
    /// # Errors
    /// If they lack a tensor, or one is too small.
    fn cut(&self, _theirs: &Named, _arch: &Arch, _build: &Build) -> Result<Option<Named>> {
        Ok(None)
    }

    /// Parameters and multiply-adds, as the space's authors count them; from the graph unless they count otherwise.
    ///
    /// # Errors
    /// If it cannot be built.
    fn cost(&self, arch: &Arch, build: &Build) -> Result<Cost> {
        count::cost(&*self.network(arch, build)?)
    }

    /// How its authors train networks of [`Purpose::Published`], where that is more than a matter of epochs.
    fn published_training(&self) -> Option<PublishedTraining> {
        None
    }

    /// The PyTorch module of the space's authors whose tensor names networks of a form have, in words.
    fn module(&self, _form: &str) -> Option<&'static str> {
        None
    }

    /// What tensors of a network tell of its build; the rest stays as it is.
    fn recognise(&self, _tensors: &Named, _build: &mut Build) {}
}

/// A part of an architecture's vector.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// The weights of a tensor.
    Tensor(String),
    /// One value, so many times: a pool.
    Constant {
        /// The value.
        value: f64,
        /// How many.
        count: usize,
    },
    /// A unit matrix of so many rows: a connection that does nothing.
    Ones(usize),
}

/// All architectures of a space at once, with shared weights.
pub trait Supernet: Model {
    /// The options that an architecture takes; `None` if its networks are no paths.
    fn path(&self, arch: &Arch) -> Option<Vec<u8>>;

    /// The largest and the smallest network, between which all others lie; `None` where they are not parts of one
    /// another.
    fn extremes(&self) -> Option<[Arch; 2]> {
        None
    }

    /// The architecture as it may be in quarter 0 to 3 of a training in which layers become smaller one way after the other: what may not be
    /// smaller yet is as in the largest.
    fn shrunk(&self, arch: &Arch, _quarter: usize) -> Arch {
        arch.clone()
    }

    /// The parts of the vector whose turn in training is an architecture's angle, and how often each is in it; `None` where no such
    /// vector is defined. `released` is as the authors' code has it.
    fn direction(&self, _arch: &Arch, _released: bool) -> Option<Vec<(Piece, usize)>> {
        None
    }

    /// What the supernet calls a weight of an architecture's network; `None` if it has no other name for it than the network's own.
    fn source(&self, name: &str, arch: &Arch) -> Option<String>;
}

impl Build {
    /// Rows, columns and channels of the images.
    pub fn input(&self) -> [usize; 3] {
        let [height, width] = self.image;
        [height, width, self.in_channels]
    }

    /// A whole number among the options.
    ///
    /// # Errors
    /// If there is none, or something else.
    pub fn count(&self, option: &str) -> Result<usize> {
        let value = self.options.get(option);
        let number = value.and_then(|value| value.as_integer()).and_then(|value| usize::try_from(value).ok());
        number.ok_or_else(|| {
            let have = value.map_or("is missing".into(), |value| format!("is {value}"));
            Error::invalid(format!("build.{option}"), format!("{have}, expected a whole number"))
        })
    }

    /// A number among the options; `usual` if there is none of the name.
    ///
    /// # Errors
    /// If there is something else.
    pub fn number_or(&self, option: &str, usual: f64) -> Result<f64> {
        let Some(value) = self.options.get(option) else { return Ok(usual) };
        let number = value.as_float().or(value.as_integer().map(|number| number as f64));
        number.ok_or_else(|| Error::invalid(format!("build.{option}"), format!("is {value}, expected a number")))
    }

    /// The options as words: `channels 16, cells 5`.
    pub fn words(&self) -> String {
        self.options.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
    }
}

/// A space with everything around an architecture: what turns one into a network.
#[derive(Clone)]
pub struct Family {
    space: Arc<dyn Networks>,
    /// Everything around an architecture.
    pub build: Build,
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Family({}, {:?})", self.name(), self.build)
    }
}

impl Deref for Family {
    type Target = dyn Space;

    fn deref(&self) -> &Self::Target {
        &*self.space
    }
}

impl Family {
    /// Checks form, options and sizes.
    ///
    /// # Errors
    /// What the space does not know, with the nearest that it does, or cannot build.
    pub fn new(space: Arc<dyn Networks>, build: Build) -> Result<Self> {
        if !space.forms().contains(&build.form.as_str()) {
            return Err(unknown("form", &build.form, space.forms()));
        }
        let [height, width] = build.image;
        for (what, value, most) in [
            ("image height", height, 1 << 16),
            ("image width", width, 1 << 16),
            ("input channels", build.in_channels, 4_096),
            ("classes", build.classes, 1 << 24),
        ] {
            if value == 0 || value > most {
                return Err(Error::invalid(what, format!("is {value}, expected 1 to {most}")));
            }
        }
        let images = ImageInfo { height, width, channels: build.in_channels, classes: build.classes };
        let known = space.defaults(Purpose::Published, &images).options;
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        for name in build.options.keys() {
            if !known.contains_key(name) {
                return Err(unknown(&format!("option of the space {}", space.name()), name, &names));
            }
        }
        let space = space.configured(&build)?.unwrap_or(space);
        space.check_build(&build)?;
        Ok(Family { space, build })
    }

    /// Reads an architecture's name.
    ///
    /// # Errors
    /// What is wrong with it, or with the space that reads it.
    pub fn parse(&self, text: &str) -> Result<Arch> {
        let arch = self.space.parse(text)?;
        (**self).check_vector(&arch)?;
        Ok(arch)
    }

    /// The same in another form.
    ///
    /// # Errors
    /// If the space does not know it.
    pub fn in_form(&self, form: &str) -> Result<Self> {
        self.rebuilt(&Build { form: form.to_owned(), ..self.build.clone() })
    }

    /// The same, built otherwise.
    ///
    /// # Errors
    /// If the space cannot.
    pub fn rebuilt(&self, build: &Build) -> Result<Self> {
        Family::new(self.space.clone(), build.clone())
    }

    /// The network of an architecture.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn network(&self, arch: &Arch) -> Result<Box<dyn Model>> {
        self.space.network(arch, &self.build)
    }

    /// The supernet of all, if there is one.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn supernet(&self) -> Result<Option<Box<dyn Supernet>>> {
        self.space.supernet(&self.build)
    }

    /// The weights of an architecture's network, where `theirs` are those of a supernet that it is cut out of.
    ///
    /// # Errors
    /// If they lack a tensor, or one is too small.
    pub fn cut(&self, theirs: &Named, arch: &Arch) -> Result<Option<Named>> {
        self.space.cut(theirs, arch, &self.build)
    }

    /// Whether tensors are those of a supernet that networks are cut out of.
    pub fn is_cut_from(&self, theirs: &Named) -> bool {
        // One that lacks a part says so when it is cut.
        !matches!(self.cut(theirs, &self.smallest()), Ok(None))
    }

    /// Whether networks are cut out of a supernet, where the space's authors search it.
    pub fn is_elastic(&self) -> bool {
        self.space.is_elastic()
    }

    /// The PyTorch module whose tensor names the networks have, in words, if the space's authors have one.
    pub fn module(&self) -> Option<&'static str> {
        self.space.module(&self.build.form)
    }

    /// The build of networks that all see images of one size.
    pub fn of_one_size(&self) -> Build {
        self.space.of_one_size(&self.build)
    }

    /// The supernet, for what needs one.
    ///
    /// # Errors
    /// If there is none.
    pub fn needs_supernet(&self) -> Result<Box<dyn Supernet>> {
        let none = || Error::invalid("--space", format!("{} has no supernet, which this needs", self.name()));
        self.supernet()?.ok_or_else(none)
    }

    /// Parameters and multiply-adds of an architecture.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn cost(&self, arch: &Arch) -> Result<Cost> {
        self.space.cost(arch, &self.build)
    }
}

/// The spaces that a program knows.
#[derive(Clone)]
pub struct Registry(Vec<Arc<dyn Networks>>);

impl Default for Registry {
    /// Those that come with the crate.
    fn default() -> Self {
        Registry(vec![Arc::new(NasBench201), Arc::new(Darts), Arc::new(Darts14), Arc::new(MobileNetV3::default())])
    }
}

impl Registry {
    /// The same and another space, in place of one of its name.
    pub fn with(mut self, space: impl Networks + 'static) -> Self {
        match self.0.iter_mut().find(|known| known.name() == space.name()) {
            Some(known) => *known = Arc::new(space),
            None => self.0.push(Arc::new(space)),
        }
        self
    }

    /// All, the usual one first.
    pub fn spaces(&self) -> impl Iterator<Item = &Arc<dyn Networks>> {
        self.0.iter()
    }

    /// The names.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|space| space.name()).collect()
    }

    /// The space of a name.
    ///
    /// # Errors
    /// If there is none; the nearest is named.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Networks>> {
        self.0.iter().find(|space| space.name() == name).ok_or_else(|| unknown("space", name, &self.names()))
    }

    /// A space with everything around its architectures.
    ///
    /// # Errors
    /// If there is none of the name, or the build does not suit it.
    pub fn open(&self, name: &str, build: Build) -> Result<Family> {
        Family::new(self.get(name)?.clone(), build)
    }
}
