//! Tile sizes: which there are, which suit an adapter, and which may be tried instead.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::AdapterReport;

/// Most positions of a tile.
const MOST_POSITIONS: usize = 16;
/// Most blocks of a tile.
const MOST_BLOCKS: usize = 4;
/// Most lanes of a workgroup: what every adapter has.
const MOST_LANES: usize = 256;
/// Most lanes that one of them sums up in turn.
const FEW_LANES: usize = 8;
/// Lanes that share an output's positions where there are many.
const SHARING_LANES: usize = 16;
/// Positions of an output that are worth sharing.
const MANY_POSITIONS: usize = 64;
/// Positions that a lane loads at once where it has no tiles.
const LOADS_AT_ONCE: usize = 4;
/// Most tiles that stand for choice at once.
const MOST_CANDIDATES: usize = 6;

/// What one lane of a dense convolution computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Neighbouring positions, 1 to 16.
    pub positions: usize,
    /// Blocks of four output channels, 1 to 4.
    pub blocks: usize,
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.positions, self.blocks)
    }
}

impl Tile {
    /// A tile of so many positions and blocks.
    pub const fn new(positions: usize, blocks: usize) -> Self {
        Tile { positions, blocks }
    }

    fn is_valid(self) -> bool {
        (1..=MOST_POSITIONS).contains(&self.positions) && (1..=MOST_BLOCKS).contains(&self.blocks)
    }

    /// This tile and those next to it, half or twice as long or wide: at most six, this one first.
    pub fn candidates(self) -> Vec<Tile> {
        let Tile { positions: p, blocks: b } = self;
        let all = [(p, b), (p / 2, b), (2 * p, b), (p, b / 2), (p, 2 * b), (p / 2, 2 * b), (2 * p, b / 2)];
        let mut list = vec![];
        for tile in all.map(|(positions, blocks)| Tile { positions, blocks }) {
            if tile.is_valid() && !list.contains(&tile) {
                list.push(tile);
            }
        }
        list.truncate(MOST_CANDIDATES);
        list
    }
}

/// Tile sizes for a kind of adapter. What is read from a file is checked: every preset that is taken gives right shaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Preset {
    /// For reports.
    pub name: &'static str,
    /// Lanes of a workgroup in element-wise kernels.
    pub lanes: usize,
    /// Lanes of a workgroup in reductions.
    pub reduce_lanes: usize,
    /// Lanes of a workgroup in convolutions.
    pub conv_lanes: usize,
    /// Tile of dense convolutions whose kernel is wider than one position.
    pub windowed: Tile,
    /// Tile of dense convolutions whose kernel is one position wide.
    pub pointwise: Tile,
    /// Whether the lanes of a convolution's workgroup are one subgroup and share weights by broadcast.
    pub broadcast: bool,
}

/// A preset as a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    lanes: usize,
    reduce_lanes: usize,
    conv_lanes: usize,
    windowed: Tile,
    pointwise: Tile,
    broadcast: bool,
}

impl TryFrom<Stored> for Preset {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let Stored { name, lanes, reduce_lanes, conv_lanes, windowed, pointwise, broadcast } = stored;
        let known = [Preset::CPU.name, Preset::GPU.name];
        let name = known.into_iter().find(|known| *known == name);
        let name = name.ok_or_else(|| Error::invalid("preset", "its name is neither cpu nor gpu"))?;
        let preset = Preset { name, lanes, reduce_lanes, conv_lanes, windowed, pointwise, broadcast };
        preset.validate()?;
        Ok(preset)
    }
}

// Derived, it would be for texts that live for ever, as the name does.
impl<'de> Deserialize<'de> for Preset {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Stored::deserialize(from)?.try_into().map_err(serde::de::Error::custom)
    }
}

impl Preset {
    /// The one that suits an adapter.
    pub fn for_adapter(report: &AdapterReport) -> Self {
        if report.is_software() { Self::CPU.fit(report) } else { Self::GPU.fit(report) }
    }

    /// The same as far as an adapter allows: values are shared by broadcast only where a workgroup is sure to be one
    /// subgroup.
    pub fn fit(self, report: &AdapterReport) -> Self {
        let lanes = self.conv_lanes as u32;
        let whole = report.limits.subgroup == (lanes, lanes) && report.features.iter().any(|f| f == "subgroups");
        Preset { broadcast: self.broadcast && whole, ..self }
    }

    /// The same with the convolution tiles of another one.
    pub fn with_tiles_of(self, other: Preset) -> Self {
        Preset { windowed: other.windowed, pointwise: other.pointwise, ..self }
    }

    /// Whether the lanes of a reduction are summed in a tree, and share what lies side by side. A few lanes, which run on a
    /// processor, are summed in turn, and each goes its own way through memory.
    pub(super) fn sums_in_trees(&self) -> bool {
        self.reduce_lanes > FEW_LANES
    }

    /// For a kernel that sums so many positions for each output: lanes that share an output, and positions that each loads at once.
    pub(super) fn shares(&self, positions: usize) -> (usize, usize) {
        match self.sums_in_trees() {
            true if positions >= MANY_POSITIONS => (SHARING_LANES, LOADS_AT_ONCE),
            true => (1, LOADS_AT_ONCE),
            false => (1, 1),
        }
    }

    /// Checks all sizes.
    ///
    /// # Errors
    /// Names the size for which there are no shaders.
    pub fn validate(&self) -> Result<()> {
        for (what, tile) in [("windowed", self.windowed), ("pointwise", self.pointwise)] {
            if !tile.is_valid() {
                let why = format!(
                    "{} positions and {} blocks, expected 1 to {MOST_POSITIONS} and 1 to {MOST_BLOCKS}",
                    tile.positions, tile.blocks
                );
                return Err(Error::invalid(format!("tile {what}"), why));
            }
        }
        for (what, lanes) in
            [("lanes", self.lanes), ("reduce_lanes", self.reduce_lanes), ("conv_lanes", self.conv_lanes)]
        {
            if !lanes.is_power_of_two() || lanes > MOST_LANES {
                let why = format!("{lanes}, expected a power of two up to {MOST_LANES}");
                return Err(Error::invalid(format!("preset's {what}"), why));
            }
        }
        Ok(())
    }

    /// For adapters that run on the processor: few lanes, wide tiles. A single tap uses each load but once per block of
    /// outputs, so it takes twice as many of these, here and below.
    pub const CPU: Preset = Preset {
        name: "cpu",
        lanes: 64,
        reduce_lanes: 8,
        conv_lanes: 8,
        windowed: Tile::new(8, 4),
        pointwise: Tile::new(4, 4),
        broadcast: true,
    };
    /// For graphics processors.
    pub const GPU: Preset = Preset {
        name: "gpu",
        lanes: 64,
        reduce_lanes: 64,
        conv_lanes: 64,
        windowed: Tile::new(4, 2),
        pointwise: Tile::new(2, 4),
        broadcast: false,
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Geometry, Op, Shape};
    use crate::kernels::Lowering;

    #[test]
    fn presets_go_through_a_file() {
        for preset in [Preset::CPU, Preset::GPU] {
            let text = serde_json::to_string(&preset).unwrap();
            assert_eq!(serde_json::from_str::<Preset>(&text).unwrap(), preset, "{text}");
        }
    }

    #[test]
    fn presets_that_no_shader_can_have_are_refused() {
        let good = serde_json::to_value(Preset::CPU).unwrap();
        let with = |pointer: &str, value: serde_json::Value| {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            serde_json::from_value::<Preset>(bad)
        };
        for tile in ["windowed", "pointwise"] {
            for (field, values) in [("positions", [0, 17, 1u64 << 40]), ("blocks", [0, 5, 1 << 40])] {
                for value in values {
                    let why = with(&format!("/{tile}/{field}"), value.into()).unwrap_err().to_string();
                    assert!(why.contains(tile) && why.contains("expected 1 to 16"), "{why}");
                }
            }
        }
        for field in ["lanes", "reduce_lanes", "conv_lanes"] {
            for value in [0, 3, 24, 512] {
                let why = with(&format!("/{field}"), value.into()).unwrap_err().to_string();
                assert!(why.contains(field) && why.contains("power of two"), "{why}");
            }
            assert!(with(&format!("/{field}"), (-8).into()).is_err());
        }
        assert!(with("/name", "npu".into()).unwrap_err().to_string().contains("neither cpu nor gpu"));
        assert!(with("/broadcast", serde_json::Value::Null).is_err());
    }

    /// Sums of the preset for processors keep their order: checkpoints rely on their bits.
    #[test]
    fn a_processors_lanes_sum_in_turn() {
        assert!(!Preset::CPU.sums_in_trees() && Preset::GPU.sums_in_trees());
        assert_eq!([1, 63, 64, 1 << 20].map(|positions| Preset::CPU.shares(positions)), [(1, 1); 4]);
        assert_eq!([1, 63, 64].map(|positions| Preset::GPU.shares(positions).0), [1, 1, SHARING_LANES]);
    }

    #[test]
    fn candidates_are_few_different_and_valid() {
        for positions in 1..=MOST_POSITIONS {
            for blocks in 1..=MOST_BLOCKS {
                let tile = Tile { positions, blocks };
                let list = tile.candidates();
                assert!(list[0] == tile && list.len() > 1 && list.len() <= MOST_CANDIDATES, "{list:?}");
                for (i, candidate) in list.iter().enumerate() {
                    assert!(candidate.is_valid() && !list[..i].contains(candidate), "{list:?}");
                }
            }
        }
        let list = |tile: Tile| tile.candidates().iter().map(Tile::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(list(Preset::CPU.windowed), "8x4 4x4 16x4 8x2 16x2");
        assert_eq!(list(Preset::CPU.pointwise), "4x4 2x4 8x4 4x2 8x2");
        assert_eq!(list(Preset::GPU.windowed), "4x2 2x2 8x2 4x1 4x4 2x4");
        assert_eq!(list(Preset::GPU.pointwise), "2x4 1x4 4x4 2x2 4x2");
    }

    /// The variants of both presets are as they were when one tile stood for both kinds: checkpoints rely on their bits.
    #[test]
    fn variants_of_the_presets_stay() {
        let tiles = |preset: Preset, geometry: Geometry, input: bool| {
            let mut b = Builder::new();
            let x = b.temporary(Shape::map(2, 32, 32, 16));
            let (p, q) = geometry.output(32, 32).unwrap();
            let y = b.temporary(Shape::map(2, p, q, 16));
            let w = b.temporary(Shape::Filter { r: geometry.r, s: geometry.s, c: 16, k: 16, groups: 1 });
            b.push(match input {
                false => Op::Conv { x, w, bias: None, y, geometry, relu: true },
                true => Op::ConvInput { dy: y, w, dx: x, geometry },
            });
            let calls = Lowering::of(&b.finish(), preset).calls;
            calls[0].variant.to_string()
        };
        let square = Geometry::square;
        let row = Geometry { r: 3, ..square(1, 1, 0) };
        for (preset, geometry, input, want) in [
            (Preset::CPU, square(3, 1, 1), false, (0, 3, 3, 1, 1, 1, 8, 4, 1023, 10, 8)),
            (Preset::CPU, square(3, 1, 1), true, (1, 3, 3, 1, 1, 1, 8, 4, 1023, 10, 8)),
            (Preset::CPU, square(3, 2, 1), false, (0, 3, 3, 2, 1, 1, 4, 4, 511, 9, 8)),
            (Preset::CPU, square(3, 2, 1), true, (1, 3, 3, 2, 1, 1, 8, 4, 62, 6, 8)),
            (Preset::CPU, square(1, 1, 0), false, (0, 1, 1, 1, 0, 1, 4, 4, 15, 4, 8)),
            (Preset::CPU, square(1, 2, 0), false, (0, 1, 1, 2, 0, 1, 2, 4, 5, 3, 8)),
            (Preset::CPU, row, false, (0, 3, 1, 1, 0, 1, 4, 4, 15, 4, 8)),
            (Preset::GPU, square(3, 1, 1), false, (0, 3, 3, 1, 1, 0, 4, 2, 63, 6, 64)),
            (Preset::GPU, square(3, 1, 1), true, (1, 3, 3, 1, 1, 0, 4, 2, 63, 6, 64)),
            (Preset::GPU, square(3, 2, 1), false, (0, 3, 3, 2, 1, 0, 2, 2, 31, 5, 64)),
            (Preset::GPU, square(1, 1, 0), false, (0, 1, 1, 1, 0, 0, 2, 4, 3, 2, 64)),
            (Preset::GPU, square(1, 1, 0), true, (1, 1, 1, 1, 0, 0, 2, 4, 3, 2, 64)),
        ] {
            let (input_of, r, s, stride, pad, broadcast, px, kb, need, span, lanes) = want;
            let want = format!(
                "conv2d BROADCAST={broadcast} DIL=1 INPUT={input_of} KB={kb} LANES={lanes} NEED={need} PAD={pad} PG=4 PX={px} R={r} S={s} SPAN={span} STRIDE={stride}"
            );
            assert_eq!(tiles(preset, geometry, input), want);
        }
    }
}
