//! Options that say which corrupted pictures are made, and how.

use std::path::PathBuf;
use std::sync::Arc;

use crate::corrupt::{Constants, Frost, Kind, MAX_SIDE, Severity};
use crate::data::{open_picture, pictures_below};
use crate::error::{Error, Result, unknown};

/// Options that say how corrupted pictures are made.
#[derive(clap::Args, Clone)]
pub(super) struct Pictures {
    /// Table of constants: cifar or imagenet; by default cifar up to 64 pixels, imagenet above. Of a folder the first
    /// picture decides.
    #[arg(long)]
    pub constants: Option<String>,
    /// Folder with photos of frost; without it a computed texture is used.
    #[arg(long)]
    pub frost: Option<PathBuf>,
}

/// The table for pictures whose longer side is this, if nobody says which.
pub(super) fn usual_constants(side: usize) -> Constants {
    if side <= 64 { Constants::Cifar } else { Constants::ImageNet }
}

impl Pictures {
    /// Refuses options that cannot be followed, whether they will matter or not.
    pub fn check(&self) -> Result<()> {
        self.constants(0)?;
        self.photos()?;
        Ok(())
    }

    /// The table for pictures whose longer side is this.
    pub fn constants(&self, side: usize) -> Result<Constants> {
        match &self.constants {
            Some(text) => text.parse(),
            None => Ok(usual_constants(side)),
        }
    }

    /// The photos, if a folder was given and frost is among the kinds.
    pub fn frost(&self, kinds: &[Kind], constants: Constants) -> Result<Option<Arc<Frost>>> {
        if self.frost.is_none() || !kinds.contains(&Kind::Frost) {
            return Ok(None);
        }
        let photos = self.photos()?.iter().map(|file| open_picture(file, MAX_SIDE)).collect::<Result<_>>()?;
        Ok(Some(Arc::new(Frost::photos(photos, constants)?)))
    }

    /// Files of the photos.
    fn photos(&self) -> Result<Vec<PathBuf>> {
        let Some(folder) = &self.frost else { return Ok(vec![]) };
        let tree = pictures_below(folder)?;
        // Draws choose a photo by its number, so none may be left out in silence.
        if let Some(bad) = tree.unusable.first() {
            return Err(Error::file(folder.join(&bad.file), None, bad.why.clone()));
        }
        if tree.files.is_empty() {
            return Err(Error::file(folder, None, "no pictures in it; expected photos of frost"));
        }
        Ok(tree.files.iter().map(|file| folder.join(file)).collect())
    }
}

/// Kinds by name, with `main` and `all` for groups of them, and `none` where that makes sense.
pub(super) fn choose_kinds(option: &str, text: &str, none: bool) -> Result<Vec<Kind>> {
    let mut known = vec!["main", "all"];
    known.extend(none.then_some("none"));
    known.extend(Kind::ALL.map(Kind::name));
    let mut kinds: Vec<Kind> = vec![];
    for name in text.split(',').map(str::trim) {
        let some: &[Kind] = match name {
            "main" => &Kind::MAIN,
            "all" => &Kind::ALL,
            "none" if none => &[],
            _ => match Kind::ALL.iter().position(|kind| kind.name() == name) {
                Some(at) => &Kind::ALL[at..=at],
                None => return Err(unknown(option, name, &known)),
            },
        };
        for kind in some {
            if !kinds.contains(kind) {
                kinds.push(*kind);
            }
        }
    }
    Ok(kinds)
}

/// `all`, a range such as `2-4`, or a list; from slight to heavy, each once.
pub(super) fn choose_severities(option: &str, text: &str) -> Result<Vec<Severity>> {
    let bad = || Error::invalid(option, format!("`{text}`: expected numbers from 1 to 5, such as 3, 1-5 or 1,3,5"));
    let number =
        |text: &str| text.trim().parse::<u8>().map_err(|_| bad()).and_then(|n| Severity::new(n).map_err(|_| bad()));
    if text == "all" {
        return Ok(Severity::ALL.into());
    }
    let mut chosen = [false; 5];
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?.get(), number(high)?.get());
        if low > high {
            return Err(bad());
        }
        (low..=high).for_each(|level| chosen[usize::from(level) - 1] = true);
    }
    Ok(Severity::ALL.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(severity, _)| severity).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_rise_and_stand_once() {
        let levels = |text: &str| -> Vec<u8> {
            choose_severities("--severity", text).unwrap().iter().map(|severity| severity.get()).collect()
        };
        assert_eq!(levels("5,4,3,2,1"), [1, 2, 3, 4, 5]);
        assert_eq!(levels("4,2-3,3, 2"), [2, 3, 4]);
        assert_eq!(levels("all"), [1, 2, 3, 4, 5]);
        for bad in ["", "0", "6", "4-2", "1,", "x"] {
            assert!(choose_severities("--severity", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_by_name_and_by_group() {
        let kinds = |text: &str| choose_kinds("--kind", text, false);
        assert_eq!(kinds("fog, frost,fog").unwrap(), [Kind::Fog, Kind::Frost]);
        assert_eq!(kinds("main,spatter").unwrap().len(), 16);
        assert_eq!(choose_kinds("--corruptions", "none", true).unwrap(), []);
        let why = kinds("gauss").unwrap_err().to_string();
        assert!(why.contains("--kind") && why.contains("`gaussian_noise` or `gaussian_blur`"), "{why}");
        assert!(why.contains("known: main, all, gaussian_noise"), "{why}");
        assert!(kinds("none").is_err() && kinds("").is_err());
    }
}
