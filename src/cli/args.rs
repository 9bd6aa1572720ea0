//! Arguments that several commands share.

use super::Global;
use crate::data::Dataset;
use crate::error::{Error, Result, unknown};
use crate::space::nas_bench_201::{Macro, NasBench201};

/// Names of the spaces.
pub(crate) const SPACES: &[&str] = &["nas-bench-201"];

/// The network around an architecture.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Sizes {
    /// Search space.
    #[arg(long, default_value = "nas-bench-201")]
    pub space: String,
    /// Channels after the stem.
    #[arg(long)]
    pub channels: Option<usize>,
    /// Cells per stage.
    #[arg(long)]
    pub cells: Option<usize>,
    /// Classes.
    #[arg(long)]
    pub classes: Option<usize>,
    /// Rows and columns that the network sees, as HxW.
    #[arg(long, value_parser = parse_image)]
    pub image: Option<(usize, usize)>,
    /// Channels of the images.
    #[arg(long)]
    pub in_channels: Option<usize>,
}

/// `HxW`.
pub(crate) fn parse_image(text: &str) -> std::result::Result<(usize, usize), String> {
    let parsed = text.split_once('x').and_then(|(h, w)| Some((h.parse().ok()?, w.parse().ok()?)));
    parsed.filter(|&(h, w): &(usize, usize)| h > 0 && w > 0).ok_or_else(|| "expected HxW, such as 32x32".into())
}

impl Sizes {
    /// Checks the name of the space.
    pub fn check_space(&self) -> Result<()> {
        if SPACES.contains(&self.space.as_str()) { Ok(()) } else { Err(unknown("--space", &self.space, SPACES)) }
    }

    /// Puts the option, where it is given, over the space that a configuration names.
    ///
    /// # Errors
    /// If there is no such space.
    pub fn choose_space(&self, global: &Global, configured: &mut String) -> Result<()> {
        if global.was_given("--space") {
            configured.clone_from(&self.space);
        }
        Sizes { space: configured.clone(), ..self.clone() }.check_space()
    }

    /// The space for images that are described by the options alone, with the benchmark's own sizes as default.
    pub fn stand_alone(&self) -> Result<NasBench201> {
        self.check_space()?;
        let (height, width) = self.image.unwrap_or((32, 32));
        NasBench201::new(Macro {
            channels: self.channels.unwrap_or(16),
            cells: self.cells.unwrap_or(5),
            in_channels: self.in_channels.unwrap_or(3),
            height,
            width,
            classes: self.classes.unwrap_or(10),
        })
    }

    /// The space for a data set, which decides channels and classes.
    pub fn for_data(
        &self,
        data: &Dataset,
        channels: usize,
        cells: usize,
        image: (usize, usize),
    ) -> Result<NasBench201> {
        self.check_space()?;
        let images = &data.train;
        for (what, given, own) in
            [("--classes", self.classes, images.classes), ("--in-channels", self.in_channels, images.channels)]
        {
            if given.is_some_and(|given| given != own) {
                return Err(Error::invalid(what, format!("the data has {own}; leave the option out")));
            }
        }
        let (height, width) = self.image.unwrap_or(image);
        if height > images.height || width > images.width {
            let why = format!("{height}x{width} is larger than the images, {}x{}", images.height, images.width);
            return Err(Error::invalid("--image", why));
        }
        NasBench201::new(Macro {
            channels: self.channels.unwrap_or(channels),
            cells: self.cells.unwrap_or(cells),
            in_channels: images.channels,
            height,
            width,
            classes: images.classes,
        })
    }
}

/// `90`, `30s`, `20m`, `2h`: seconds.
pub(crate) fn parse_time(text: &str) -> std::result::Result<f64, String> {
    let (number, factor) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let value = number.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
    value.map(|v| v * factor).ok_or_else(|| "expected a time such as 90s, 20m or 2h".into())
}
