//! `--model` of the commands that judge a trained network: a file that says what it is, or one with `--arch` and sizes beside.

use std::path::{Path, PathBuf};

use super::Global;
use super::args::{Sizes, image_info};
use super::inputs::{ReadingArgs, load_data};
use super::progress::note;
use crate::data::{Assumed, ChannelStatistics, Dataset, Reading};
use crate::error::{Error, Result};
use crate::graph::Statistics;
use crate::measure::forward::{Score, graph};
use crate::nn::card::ModelCard;
use crate::nn::space::Family;
use crate::nn::tensors::Named;
use crate::nn::weights::{Classes, Weights, differing_classes};
use crate::nn::{Model, classifier};
use crate::space::Arch;

#[derive(clap::Args, Clone)]
pub(super) struct ModelArgs {
    /// A model (safetensors). One that altiplano saved says what it is; others need --arch, and sizes that their tensors do
    /// not tell.
    #[arg(long)]
    pub model: PathBuf,
    /// The architecture of a file that does not say it.
    #[arg(long)]
    arch: Option<String>,
    #[command(flatten)]
    sizes: Sizes,
}

/// A trained network that is to be judged on some data.
pub(super) struct Trained {
    /// The network.
    pub model: Box<dyn Model>,
    /// Its weights and statistics, in the order of the data's classes.
    pub named: Named,
    /// The normalisation that it expects.
    pub statistics: ChannelStatistics,
}

/// What to say of classes that cannot be compared.
pub(super) const UNNAMED: &str =
    "the model or the data has numbers for names of classes; they are taken in their order";
/// Options that say what a file with a card says itself.
const OWN: [&str; 8] =
    ["--space", "--arch", "--channels", "--cells", "--build", "--classes", "--image", "--in-channels"];

/// Refuses a network whose loss on `what` is no number: nothing that is measured on it says anything.
///
/// # Errors
/// If it is not finite.
pub(super) fn check_loss(score: Score, what: &str) -> Result<()> {
    if score.loss.is_finite() {
        return Ok(());
    }
    let why = format!("its loss on {what} is {}; the network is broken, and nothing can be measured on it", score.loss);
    Err(Error::invalid("--model", why))
}

/// The space and the architecture of a model's file, as its card describes them.
///
/// # Errors
/// If this program cannot build what it says.
pub(super) fn described_by(global: &Global, file: &Path, card: &ModelCard) -> Result<(Family, Arch)> {
    let opened = card.open(&global.registry).and_then(|(family, arch)| {
        family.network(&arch)?;
        Ok((family, arch))
    });
    opened.map_err(|error| {
        let why = format!("{error}; what it says of its network does not suit this program");
        Error::file(file, None, why)
    })
}

/// What a model's file says of how pictures were read that it was trained on.
pub(super) fn read_as(path: &Path) -> Result<Reading> {
    let weights = Weights::read(path)?;
    Ok(if ModelCard::is_in(&weights) { ModelCard::read(&weights)?.reading } else { Reading::default() })
}

impl ModelArgs {
    /// Loads the data that the network is judged on: pictures as those that it was trained on, unless the options say otherwise.
    ///
    /// # Errors
    /// What is wrong with the file or the data.
    pub fn load_data(&self, global: &Global, spec: &str, args: &ReadingArgs) -> Result<Dataset> {
        let asked = args.reading();
        let reading = asked.or_as(&read_as(&self.model)?);
        let data = load_data(global, spec, &reading)?;
        if reading.handling.assumed != Assumed::default() && !data.reading.is_as_found() {
            note(global, &format!("pictures are read as the model's were: {}", data.reading));
        }
        Ok(data)
    }

    /// The same of another file.
    pub fn of(&self, path: &Path) -> Self {
        ModelArgs { model: path.to_owned(), ..self.clone() }
    }

    /// Reads the network for data whose classes must be its own.
    ///
    /// # Errors
    /// If the file, the options and the data do not go together.
    pub fn open(&self, global: &Global, data: &Dataset) -> Result<Trained> {
        let mut weights = Weights::read(&self.model)?;
        weights.notes.iter().for_each(|text| note(global, text));
        let channels = data.test.channels();
        let classes = &data.train.class_names;
        let (model, statistics) = if ModelCard::is_in(&weights) {
            if let Some(option) = OWN.iter().find(|option| global.was_given(option)) {
                return Err(Error::invalid(*option, "the model says that itself; leave the option out"));
            }
            let card = ModelCard::read(&weights)?;
            let own = card.build.in_channels;
            if channels != own {
                let (want, have) = (format!("{own} channels"), format!("{channels} channels"));
                return Err(Error::shape("--data", want, have));
            }
            let (family, arch) = described_by(global, &self.model, &card)?;
            let model = family.network(&arch)?;
            let layer = classifier(&*model)?.unwrap_or_default();
            match weights.align(&layer, &card.classes, classes) {
                Classes::Same => {}
                Classes::Unnamed => note(global, UNNAMED),
                Classes::Reordered => note(global, "the model's classes were put into the order of the data's"),
                Classes::Different => {
                    let why = differing_classes(["the model", "the data"], &card.classes, classes);
                    return Err(Error::invalid("--data", why));
                }
            }
            (model, card.statistics())
        } else {
            note(global, "the model does not say how its images were normalised; the training images of --data decide");
            (self.described(global, &weights, data)?, data.train.channel_statistics()?)
        };
        let named = weights.whole(&*graph(&*model, 1, Statistics::Running)?)?;
        Ok(Trained { model, named, statistics })
    }

    /// The network that options and tensors describe.
    fn described(&self, global: &Global, weights: &Weights, data: &Dataset) -> Result<Box<dyn Model>> {
        let Some(arch) = &self.arch else {
            let why = "it does not say which network it is; give --arch (and --space, --channels, --cells or --build where \
                       its tensors do not tell them)";
            return Err(Error::file(&self.model, None, why));
        };
        let space = self.sizes.space(global)?;
        let build = self.sizes.described(&**space, &image_info(data), Some(weights), None)?;
        let family = self.sizes.for_data(space, data, build)?;
        family.network(&family.parse(arch)?)
    }
}
