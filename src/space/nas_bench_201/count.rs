//! Parameters and multiply-adds of the NAS-Bench-201 network, layer by layer.
//!
//! Stem (3x3 convolution, batch norm), N cells of C channels, a residual block of stride 2 to 2C, N cells,
//! a residual block to 4C, N cells, batch norm, ReLU, global average, linear classifier.
//!
//! Two counts of operations are in use. [`conv_macs`] has multiply-adds of convolutions and the classifier
//! alone (the benchmark API prints it, plus one per class for the bias). The published tables, and NASLib
//! after them, hold the larger [`macs`].

use serde::{Deserialize, Serialize};

use super::{Cell, EDGES, Op};
use crate::error::{Error, Result};

/// The network around the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Macro {
    /// Channels of the stem and the first stage (16 in the benchmark); the later stages have 2 and 4 times as many.
    pub channels: usize,
    /// Cells in each of the three stages (5 in the benchmark).
    pub cells: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Height of the image.
    pub height: usize,
    /// Width of the image.
    pub width: usize,
    /// Classes.
    pub classes: usize,
}

impl Macro {
    /// The benchmark's network: 16 channels, 5 cells per stage, colour images.
    pub fn benchmark(height: usize, width: usize, classes: usize) -> Result<Self> {
        let network = Self { channels: 16, cells: 5, in_channels: 3, height, width, classes };
        network.validate()?;
        Ok(network)
    }

    /// Checks that the network can be built: nothing is zero or absurdly large, and both sides of the image
    /// are multiples of 4. The two residual blocks halve the image, and add a 3x3 convolution's output to
    /// that of a 2x2 pool, which agree on even sides only.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("channels", self.channels, 4_096),
            ("cells", self.cells, 100),
            ("input channels", self.in_channels, 4_096),
            ("image height", self.height, 4_096),
            ("image width", self.width, 4_096),
            ("classes", self.classes, 1 << 24),
        ];
        for (what, value, most) in sizes {
            if value == 0 || value > most {
                return Err(Error::invalid(what, format!("is {value}, expected 1 to {most}")));
            }
        }
        for (what, side) in [("image height", self.height), ("image width", self.width)] {
            if side < 4 {
                let why = format!("is {side}; two blocks of stride 2 leave nothing of it, the smallest image is 4x4");
                return Err(Error::invalid(what, why));
            }
            if side % 4 != 0 {
                let (low, high) = (side / 4 * 4, side / 4 * 4 + 4);
                let why = format!(
                    "is {side}; the two blocks of stride 2 need a multiple of 4: resize the images to {low} or {high}"
                );
                return Err(Error::invalid(what, why));
            }
        }
        Ok(())
    }
}

/// A layer as the counters see it: channels, and positions of its output.
#[derive(Clone, Copy)]
enum Layer {
    /// Kernel side, input and output channels, output positions.
    Conv(usize, usize, usize, usize),
    /// Channels and positions.
    Norm(usize, usize),
    /// Channels and positions.
    Relu(usize, usize),
    /// Kernel side, channels, output positions.
    Pool(usize, usize, usize),
    /// Channels, input height and width.
    GlobalPool(usize, usize, usize),
    /// Input and output features.
    Linear(usize, usize),
}

/// Calls `visit` for every layer of the network in order.
fn layers(arch: &Cell, network: &Macro, visit: &mut dyn FnMut(Layer)) {
    let Macro { channels, cells, in_channels, mut height, mut width, classes } = *network;
    let mut c = channels;
    let mut positions = height.saturating_mul(width);
    visit(Layer::Conv(3, in_channels, c, positions));
    visit(Layer::Norm(c, positions));
    for stage in 0..3 {
        if stage > 0 {
            let (narrow, wide) = (c, c.saturating_mul(2));
            let before = positions;
            (height, width) = (height / 2, width / 2);
            positions = height.saturating_mul(width);
            // Main branch.
            visit(Layer::Relu(narrow, before));
            visit(Layer::Conv(3, narrow, wide, positions));
            visit(Layer::Norm(wide, positions));
            visit(Layer::Relu(wide, positions));
            visit(Layer::Conv(3, wide, wide, positions));
            visit(Layer::Norm(wide, positions));
            // Shortcut.
            visit(Layer::Pool(2, narrow, positions));
            visit(Layer::Conv(1, narrow, wide, positions));
            c = wide;
        }
        for _ in 0..cells {
            for (_, op) in EDGES.iter().zip(arch.0) {
                let kernel = match op {
                    Op::None | Op::SkipConnect => continue,
                    Op::AvgPool3x3 => {
                        visit(Layer::Pool(3, c, positions));
                        continue;
                    }
                    Op::Conv1x1 => 1,
                    Op::Conv3x3 => 3,
                };
                visit(Layer::Relu(c, positions));
                visit(Layer::Conv(kernel, c, c, positions));
                visit(Layer::Norm(c, positions));
            }
        }
    }
    visit(Layer::Norm(c, positions));
    visit(Layer::Relu(c, positions));
    visit(Layer::GlobalPool(c, height, width));
    visit(Layer::Linear(c, classes));
}

fn product<const N: usize>(factors: [usize; N]) -> u64 {
    factors.iter().fold(1, |product, f| product.saturating_mul(*f as u64))
}

fn sum(arch: &Cell, network: &Macro, count: impl Fn(Layer) -> u64) -> u64 {
    let mut total = 0u64;
    layers(arch, network, &mut |layer| total = total.saturating_add(count(layer)));
    total
}

/// Trainable parameters: convolutions without bias, batch norm with scale and shift, a classifier with bias.
/// With 16 channels, 5 cells and colour images that is `72,656 + 65 * classes + 243,040 * n3 + 28,000 * n1`
/// for `n3` and `n1` edges with 3x3 and 1x1 convolutions.
pub fn params(arch: &Cell, network: &Macro) -> u64 {
    sum(arch, network, |layer| match layer {
        Layer::Conv(k, i, o, _) => product([k, k, i, o]),
        Layer::Norm(c, _) => product([2, c]),
        Layer::Linear(i, o) => product([i, o]).saturating_add(o as u64),
        Layer::Relu(..) | Layer::Pool(..) | Layer::GlobalPool(..) => 0,
    })
}

/// Multiply-adds of the convolutions and the classifier for one image. The benchmark's API prints this
/// number plus one per class (the classifier's bias).
pub fn conv_macs(arch: &Cell, network: &Macro) -> u64 {
    sum(arch, network, |layer| match layer {
        Layer::Conv(k, i, o, positions) => product([k, k, i, o, positions]),
        Layer::Linear(i, o) => product([i, o]),
        Layer::Norm(..) | Layer::Relu(..) | Layer::Pool(..) | Layer::GlobalPool(..) => 0,
    })
}

/// Operations for one image as the benchmark's published tables count them (column `flops`).
///
/// A multiply-add is one. Beside [`conv_macs`]: a batch norm counts 2 per element, a ReLU 1 per element of
/// its input, an average pool its kernel's area per output, and the global average `(height + 1) *
/// (width + 1)` per channel; biases and sums of edges count nothing. The weights were derived from the
/// tables' values, which they give to the last digit on all three data sets: per `nor_conv` edge the
/// surplus over the convolution is 3 per element, per pool edge 9, and the remaining `64 * 81` (8x8 before
/// the average) and `64 * 25` (4x4) leave no other reading for the last term.
pub fn macs(arch: &Cell, network: &Macro) -> u64 {
    let extra = sum(arch, network, |layer| match layer {
        Layer::Norm(c, positions) => product([2, c, positions]),
        Layer::Relu(c, positions) => product([c, positions]),
        Layer::Pool(k, c, positions) => product([k, k, c, positions]),
        Layer::GlobalPool(c, h, w) => product([c, h.saturating_add(1), w.saturating_add(1)]),
        Layer::Conv(..) | Layer::Linear(..) => 0,
    });
    conv_macs(arch, network).saturating_add(extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arch(text: &str) -> Cell {
        text.parse().unwrap()
    }

    #[test]
    fn closed_forms_hold_on_all() {
        let c10 = Macro::benchmark(32, 32, 10).unwrap();
        let c100 = Macro::benchmark(32, 32, 100).unwrap();
        let in16 = Macro::benchmark(16, 16, 120).unwrap();
        for a in Cell::all() {
            let [n1, n3, pool] = [Op::Conv1x1, Op::Conv3x3, Op::AvgPool3x3].map(|op| a.count(op) as u64);
            let cells = 243_040 * n3 + 28_000 * n1;
            assert_eq!(params(&a, &c10), 73_306 + cells, "{a}");
            assert_eq!(params(&a, &c100), 79_156 + cells, "{a}");
            assert_eq!(params(&a, &in16), 80_456 + cells, "{a}");
            let cells = 35_819_520 * n3 + 4_362_240 * n1 + 1_290_240 * pool;
            assert_eq!(macs(&a, &c10), 7_943_872 + cells, "{a}");
            assert_eq!(macs(&a, &c100), 7_949_632 + cells, "{a}");
            assert_eq!(macs(&a, &in16), 1_993_792 + 8_954_880 * n3 + 1_090_560 * n1 + 322_560 * pool, "{a}");
        }
    }

    #[test]
    fn published_single_values() {
        let c10 = Macro::benchmark(32, 32, 10).unwrap();
        assert_eq!(params(&arch("333333"), &c10), 1_531_546);
        // NASLib's tuple (4,3,3,3,2,3): edges 0->1, 0->2, 0->3, 1->2, 1->3, 2->3 of avg, 1x1, 1x1, 1x1, 3x3, 1x1.
        let naslib = arch("422232");
        assert_eq!((params(&naslib, &c10), macs(&naslib, &c10)), (428_346, 62_502_592));
        // The benchmark's best on CIFAR-10; its API prints 153.27 M and 1.073 MB.
        let best = arch("333132");
        assert_eq!((params(&best, &c10), conv_macs(&best, &c10)), (1_073_466, 153_272_960));
    }

    #[test]
    fn authors_counter_on_small_networks() {
        // Cells per stage, parameters, multiply-adds; the authors' counter adds 10 biases to the last.
        let cases = [
            (
                "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
                1,
                364_954,
                50_250_368,
            ),
            (
                "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
                1,
                181_722,
                23_511_680,
            ),
            (
                "|avg_pool_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|",
                1,
                176_122,
                22_725_248,
            ),
            (
                "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_1x1~1|none~2|",
                5,
                157_306,
                19_579_520,
            ),
            ("|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|", 1, 84_506, 9_355_904),
            ("|skip_connect~0|+|none~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|", 1, 121_914, 14_860_928),
        ];
        for (text, cells, expected_params, expected_macs) in cases {
            let network = Macro { cells, ..Macro::benchmark(32, 32, 10).unwrap() };
            assert_eq!(params(&arch(text), &network), expected_params, "{text}");
            assert_eq!(conv_macs(&arch(text), &network), expected_macs, "{text}");
        }
    }

    #[test]
    fn sizes_are_checked() {
        let why = |h, w, classes| Macro::benchmark(h, w, classes).unwrap_err().to_string();
        assert!(why(2, 32, 10).contains("smallest image is 4x4"));
        assert!(why(32, 3, 10).contains("image width"));
        assert!(why(0, 32, 10).contains("image height: is 0"));
        assert!(why(32, 30, 10).contains("resize the images to 28 or 32"));
        assert!(why(32, 32, 0).contains("classes: is 0"));
        assert!(Macro::benchmark(4, 28, 2).is_ok());
        let whole = Macro::benchmark(32, 32, 10).unwrap();
        assert!(Macro { channels: 0, ..whole }.validate().is_err());
        assert!(Macro { cells: 0, ..whole }.validate().is_err());
        assert!(Macro { in_channels: 0, ..whole }.validate().is_err());
        assert!(Macro { height: usize::MAX, ..whole }.validate().is_err());
        // An unchecked network saturates and does not panic.
        let huge = Macro { channels: usize::MAX, cells: 1, in_channels: usize::MAX, ..whole };
        assert_eq!(macs(&arch("333333"), &huge), u64::MAX);
        assert_eq!(params(&arch("333333"), &huge), u64::MAX);
    }
}
