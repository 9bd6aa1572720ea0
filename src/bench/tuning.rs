//! Tuned tiles and where they are kept: one small file per adapter, driver, backend and version of this crate.
//!
//! The library never looks for these files by itself, so that what it computes depends on its arguments alone; the
//! command line does, and hands the tiles on.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::kernels::{Preset, Tile};
use crate::report::folder::atomic_write;

/// Version of this crate: another one may have other shaders.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// First word of a file; what follows it is the checksum of all other lines.
const MAGIC: &str = "altiplano-tiles-1";
/// More bytes than any such file has.
const MOST_BYTES: u64 = 1 << 20;

/// Which convolutions a tile is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Kernels wider than one position.
    Windowed,
    /// Kernels one position wide.
    Pointwise,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Windowed, Kind::Pointwise];

    /// The tile that a preset has for it.
    pub fn tile(self, preset: Preset) -> Tile {
        match self {
            Kind::Windowed => preset.windowed,
            Kind::Pointwise => preset.pointwise,
        }
    }

    /// A preset with another tile for it.
    pub fn with(self, preset: Preset, tile: Tile) -> Preset {
        match self {
            Kind::Windowed => Preset { windowed: tile, ..preset },
            Kind::Pointwise => Preset { pointwise: tile, ..preset },
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Windowed => "windowed",
            Kind::Pointwise => "pointwise",
        })
    }
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// What there was before; the others are held against it.
    Present,
    /// Taken.
    Taken,
    /// Not faster by the margin, or another one was.
    Left,
    /// Faster by the margin at first, but not when it was measured again.
    Unconfirmed,
    /// It computes something else; how far off.
    Wrong(String),
    /// It could not be compiled or run; why.
    Failed(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Present => f.write_str("present"),
            Verdict::Taken => f.write_str("taken (measured a second time)"),
            Verdict::Left => f.write_str("left"),
            Verdict::Unconfirmed => f.write_str("left: not confirmed by a second measurement"),
            Verdict::Wrong(why) => write!(f, "rejected: {why}"),
            Verdict::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// One candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// For which convolutions.
    pub kind: Kind,
    /// Its size.
    pub tile: Tile,
    /// Median time of one step of all items, where they were timed: of the last measurement, if there was a second one.
    pub median_ms: Option<f64>,
    /// The same as a share of the present tile's, which was measured in turns with it.
    pub ratio: Option<f64>,
    /// What became of it.
    pub verdict: Verdict,
}

impl Trial {
    /// Notes a time beside the present tile's.
    pub(super) fn time(&mut self, median_ms: f64, ratio: f64) {
        (self.median_ms, self.ratio) = (Some(median_ms), Some(ratio));
    }
}

/// Tiles chosen for one adapter, and how they were chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The adapter's name.
    pub adapter: String,
    /// Its driver with version.
    pub driver: String,
    /// The graphics interface.
    pub backend: String,
    /// Version of this crate.
    pub version: String,
    /// The adapter's preset with the tiles that were chosen.
    pub preset: Preset,
    /// What was timed (`items` of the bench).
    pub items: Vec<String>,
    /// All candidates.
    pub trials: Vec<Trial>,
}

impl Tuning {
    /// Tiles for an adapter.
    pub fn new(report: &AdapterReport, preset: Preset, items: Vec<String>, trials: Vec<Trial>) -> Self {
        Tuning {
            adapter: report.name.clone(),
            driver: report.driver.clone(),
            backend: report.backend.clone(),
            version: VERSION.into(),
            preset,
            items,
            trials,
        }
    }

    /// The file in `folder` that holds an adapter's tiles.
    pub fn path(folder: &Path, report: &AdapterReport) -> PathBuf {
        file(folder, [&report.name, &report.driver, &report.backend, VERSION])
    }

    /// Writes them into their file in `folder`, which is made if it is missing; returns the file's path.
    ///
    /// # Errors
    /// If the folder cannot be made or written.
    pub fn save(&self, folder: &Path) -> Result<PathBuf> {
        let path = file(folder, [&self.adapter, &self.driver, &self.backend, &self.version]);
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::invalid("tiles", e.to_string()))?;
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        atomic_write(&path, format!("{MAGIC} {:08x}\n{json}\n", checksum(&format!("{json}\n"))).as_bytes())?;
        Ok(path)
    }

    /// An adapter's tiles from `folder`, if there are any.
    ///
    /// # Errors
    /// If the file is damaged, or for another adapter, driver or version. It may be ignored then.
    pub fn load(folder: &Path, report: &AdapterReport) -> Result<Option<Self>> {
        let path = Self::path(folder, report);
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                return Err(Error::file(&path, None, "is damaged: it is no text"));
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        }
        let fail = |why: &str| Error::file(&path, None, why);
        let (head, json) = text.split_once('\n').unwrap_or_default();
        let sum = head.strip_prefix(MAGIC).ok_or_else(|| fail("is damaged, or holds no tiles of this version"))?;
        if sum.trim_start() != format!("{:08x}", checksum(json)) {
            return Err(fail("is damaged: its checksum differs"));
        }
        let tuning: Tuning = serde_json::from_str(json).map_err(|e| fail(&format!("holds no usable tiles: {e}")))?;
        let meant = Tuning::new(report, tuning.preset, tuning.items.clone(), tuning.trials.clone());
        // A preset differs from the adapter's own in its tiles and in nothing else.
        let own = Preset::for_adapter(report).with_tiles_of(tuning.preset);
        if tuning != meant || tuning.preset != own {
            return Err(fail("holds tiles for another adapter, driver or version"));
        }
        Ok(Some(tuning))
    }

    /// Removes an adapter's file from `folder`; whether there was one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(folder: &Path, report: &AdapterReport) -> Result<bool> {
        let path = Self::path(folder, report);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", &path)(error)),
        }
    }
}

/// A name that differs for all that tiles depend on: FNV-1a, which is the same in every build. What the file says of
/// itself is compared as well.
fn file(folder: &Path, parts: [&str; 4]) -> PathBuf {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    folder.join(format!("tiles-{hash:016x}"))
}

fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Limits;

    fn report() -> AdapterReport {
        let limits = Limits {
            slab_bytes: 1 << 27,
            storage_buffers: 8,
            workgroup_bytes: 16 << 10,
            uniform_bytes: 1 << 16,
            uniform_buffers: 12,
            invocations: 256,
            workgroup_sides: [256, 256, 64],
            workgroups: 65_535,
            alignment: 32,
            subgroup: (32, 32),
        };
        AdapterReport {
            index: 0,
            name: "Some GPU".into(),
            backend: "vulkan".into(),
            kind: "discrete".into(),
            driver: "driver 1.2".into(),
            memory: None,
            limits,
            features: vec![],
            chosen: true,
        }
    }

    fn tuning() -> Tuning {
        let preset = Preset { windowed: Tile::new(8, 1), ..Preset::GPU };
        let trial = |tile, median_ms, verdict| Trial {
            kind: Kind::Windowed,
            tile,
            median_ms,
            ratio: median_ms.map(|ms: f64| ms / 3.0),
            verdict,
        };
        let trials = vec![
            trial(Tile::new(4, 2), Some(3.0), Verdict::Present),
            trial(Tile::new(8, 1), Some(2.1), Verdict::Taken),
            trial(Tile::new(4, 4), None, Verdict::Failed("no memory".into())),
        ];
        Tuning::new(&report(), preset, vec!["train_conv3_n1".into()], trials)
    }

    fn why(folder: &Path) -> String {
        let error = Tuning::load(folder, &report()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("tiles-"), "{text}");
        text
    }

    #[test]
    fn what_is_saved_is_loaded_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("deep/cache");
        assert_eq!(Tuning::load(&folder, &report()).unwrap(), None);
        assert!(!Tuning::remove(&folder, &report()).unwrap());
        let path = tuning().save(&folder).unwrap();
        assert_eq!(path, Tuning::path(&folder, &report()));
        assert_eq!(Tuning::load(&folder, &report()).unwrap(), Some(tuning()));
        // Nothing but the one file goes.
        fs::write(folder.join("notes"), "mine").unwrap();
        assert!(Tuning::remove(&folder, &report()).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_detected() {
        let temp = tempfile::tempdir().unwrap();
        let path = tuning().save(temp.path()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            why(temp.path());
        }
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(Tuning::load(temp.path(), &report()).is_err(), "bit {bit}");
        }
        fs::write(&path, vec![b'x'; 3 << 20]).unwrap();
        assert!(why(temp.path()).contains("damaged"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        why(temp.path());
    }

    /// A right checksum is no proof of right contents.
    #[test]
    fn tiles_for_something_else_are_refused() {
        let temp = tempfile::tempdir().unwrap();
        let put = |tuning: Tuning| {
            let from = tuning.save(&temp.path().join("other")).unwrap();
            fs::copy(from, Tuning::path(temp.path(), &report())).unwrap();
            why(temp.path())
        };
        let other = "another adapter, driver or version";
        assert!(put(Tuning { adapter: "Other GPU".into(), ..tuning() }).contains(other));
        assert!(put(Tuning { driver: "driver 1.3".into(), ..tuning() }).contains(other));
        assert!(put(Tuning { backend: "metal".into(), ..tuning() }).contains(other));
        assert!(put(Tuning { version: "0.0.1".into(), ..tuning() }).contains(other));
        assert!(put(Tuning { preset: Preset::CPU, ..tuning() }).contains(other));
        assert!(put(Tuning { preset: Preset { lanes: 128, ..Preset::GPU }, ..tuning() }).contains(other));
        let wild = Preset { pointwise: Tile::new(1 << 30, 2), ..Preset::GPU };
        assert!(put(Tuning { preset: wild, ..tuning() }).contains("expected 1 to 16"));
        // Each adapter, driver, backend has a file of its own.
        let mut paths = vec![Tuning::path(temp.path(), &report())];
        for change in [
            |r: &mut AdapterReport| r.name.push('x'),
            |r: &mut AdapterReport| r.driver.push('x'),
            |r: &mut AdapterReport| r.backend.push('x'),
        ] {
            let mut changed = report();
            change(&mut changed);
            let path = Tuning::path(temp.path(), &changed);
            assert!(!paths.contains(&path));
            paths.push(path);
        }
    }
}
