//! Sets whose images are pictures in files, once it is known which files and which labels: a test part is held out where there is none,
//! and pixels are read.

use std::path::{Path, PathBuf};

use super::decode::{Decoder, Headed, Labelled, labels};
use super::left_out::LeftOut;
use super::pictures::Making;
use super::reading::Reading;
use super::split::{held_out_by_name, split_labels};
use super::{Dataset, Format, Origin, Parts, SplitSize};
use crate::error::{Error, Result};

/// How a test part is taken out of training files where there is none.
#[derive(Clone, Copy)]
pub(super) enum HoldOut {
    /// By the order of the files, which decides who comes where.
    ByOrder,
    /// By a hash of their names, so that other files may come and go.
    ByName,
}

/// Files with labels, and what is said of them.
pub(super) struct Listed<'a> {
    /// The folder below which the pictures lie.
    pub root: &'a Path,
    pub name: String,
    pub format: Format,
    pub source: &'a Path,
    pub classes: Vec<String>,
    pub train: Vec<Labelled>,
    /// `None` if there is no such part.
    pub test: Option<Vec<Labelled>>,
    pub hold_out: HoldOut,
    /// What a part is missing in, for the note that tells of it.
    pub without: &'static str,
    /// Other files that were read.
    pub lists: Vec<PathBuf>,
    pub left_out: LeftOut,
    pub notes: Vec<String>,
}

impl Listed<'_> {
    /// Reads the pictures.
    ///
    /// # Errors
    /// If they do not make a set, or one cannot be read where that is strict.
    pub fn load(self, reading: &Reading) -> Result<Dataset> {
        let Listed { root, classes, train, test, lists, mut left_out, mut notes, .. } = self;
        let mut reading = reading.clone();
        if test.is_some() && reading.handling.assumed.share {
            reading.test_share = None;
        }
        if test.is_some() && reading.test_share.is_some() {
            return Err(Error::invalid("--test-share", "the data have a test part, from which nothing is taken away"));
        }
        let share = reading.test_share()?;
        let mut given = vec![0_usize; classes.len()];
        train.iter().for_each(|(_, label)| given[usize::from(*label)] += 1);
        let mut decoder = Decoder::new(root, &reading, &mut left_out)?;
        let mut train = decoder.heads(train)?;
        let is_held_out = test.is_none();
        let test = match test {
            Some(test) => decoder.heads(test)?,
            None => take_out(root, &mut train, classes.len(), share, self.hold_out)?,
        };
        // One shape over both parts, so that one coloured test image does not make the parts differ.
        let (making, room) = decoder.making(&[&train, &test])?;
        let mut images = |making, part| decoder.images(making, room.as_ref(), part, &classes);
        // What stays in memory of a set in files is first what is looked at more than once.
        let test = images(Making { random: None, ..making }, test)?;
        let train = images(making, train)?;
        let mut there = train.images.per_class();
        if is_held_out {
            there.iter_mut().zip(test.images.per_class()).for_each(|(count, more)| *count += more);
            notes.push(format!(
                "{}: {} of {} images, a fixed {}% of each class, were held out as the test part",
                self.without,
                test.images.len(),
                train.images.len() + test.images.len(),
                (1000.0 * share).round() / 10.0
            ));
        }
        if let Some(label) = (0..classes.len()).find(|&label| given[label] > 0 && there[label] == 0) {
            let why = format!("no picture of the class `{}` can be read{}", classes[label], decoder.first_lost(label));
            return Err(Error::file(root, None, why));
        }
        let set = Dataset::assemble(Parts {
            name: self.name,
            format: self.format,
            train: train.images,
            test: test.images,
            source: Origin::Path(self.source.into()),
            files: train.files.into_iter().chain(test.files).chain(lists).collect(),
            left_out,
            notes,
            test_path: root.into(),
        })?;
        Ok(Dataset { reading, ..set })
    }
}

/// Takes the test part out of the training files.
fn take_out(
    root: &Path,
    train: &mut Vec<Headed>,
    classes: usize,
    share: f64,
    hold_out: HoldOut,
) -> Result<Vec<Headed>> {
    let labels = labels(train);
    let held_out = match hold_out {
        HoldOut::ByOrder => {
            let parts = split_labels(&labels, classes, &SplitSize::Fractions(vec![1.0 - share, share]), 0)?;
            parts.into_iter().nth(1).unwrap_or_default()
        }
        HoldOut::ByName => {
            let names: Vec<Vec<u8>> = train.iter().map(|headed| name_below(root, headed.path())).collect();
            held_out_by_name(&names, &labels, classes, share)
        }
    };
    let mut held_out = held_out.into_iter().peekable();
    let (test, kept) = std::mem::take(train)
        .into_iter()
        .enumerate()
        .partition::<Vec<_>, _>(|(place, _)| held_out.next_if_eq(place).is_some());
    let files = |part: Vec<(usize, Headed)>| part.into_iter().map(|(_, headed)| headed).collect();
    *train = files(kept);
    Ok(files(test))
}

/// A path below the root, the same on every system.
fn name_below(root: &Path, path: &Path) -> Vec<u8> {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().map(|part| part.as_encoded_bytes()).collect::<Vec<_>>().join(&b'/')
}
