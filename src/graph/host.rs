//! Where the host's numbers lie: tensors of 32-bit words that it writes between runs, and purposes of random numbers.

/// Where the host's numbers for a step lie in the [`Role::Hyper`](crate::graph::Role::Hyper) tensor ([`hyper::SHAPE`], 32-bit words).
pub mod hyper {
    use crate::graph::Shape;
    /// Three rows of four words.
    pub const SHAPE: Shape = Shape::Vectors { rows: 3, c: 4 };
    /// Learning rate.
    pub const RATE: usize = 0;
    /// Momentum of SGD.
    pub const MOMENTUM: usize = 1;
    /// Weight decay.
    pub const DECAY: usize = 2;
    /// Weight of the new statistics in the running ones.
    pub const STATISTICS_MOMENTUM: usize = 3;
    /// Radius of SAM.
    pub const RHO: usize = 4;
    /// Largest norm of a gradient.
    pub const CLIP: usize = 5;
    /// Deviation of weight noise.
    pub const SIGMA: usize = 6;
    /// What images that a path is kept for are multiplied with: `1 / (1 - p)` where it is dropped with probability `p`.
    pub const DROP_SCALE: usize = 7;
    /// Seed (u32), low half.
    pub const SEED_LOW: usize = 8;
    /// Seed (u32), high half.
    pub const SEED_HIGH: usize = 9;
    /// Number of the draw (u32).
    pub const DRAW: usize = 10;
    /// A path is dropped for an image whose word is below this (u32): `p` times `2^32`.
    pub const DROP_BELOW: usize = 11;
}

/// The table of normal numbers that weight noise reads: 512 entries of two words.
pub const NORMALS: crate::graph::Shape = crate::graph::Shape::Vectors { rows: 256, c: 4 };

/// Last counter word of weight noise, which keeps its numbers apart from all others.
pub const NOISE_PURPOSE: u32 = 0x4E4F_4953;

/// Last counter word of dropped paths.
pub const DROP_PURPOSE: u32 = 0x4452_4F50;

/// Last counter word of an attack's random starts.
pub const ATTACK_PURPOSE: u32 = 0x4154_5441;

/// Rows of the tensor of an attack's numbers, each as long as the padded channels ([`attack::shape`]). Images are
/// normalised, so lengths in pixels are divided by each channel's deviation.
pub mod attack {
    use crate::graph::{Shape, blocks};
    /// Radius of the ball, per channel.
    pub const EPS: usize = 0;
    /// Length of a step, per channel.
    pub const STEP: usize = 1;
    /// Smallest value, per channel.
    pub const LOW: usize = 2;
    /// Largest value, per channel.
    pub const HIGH: usize = 3;
    /// Four words: seed low, seed high, draw, and 1 for a random start.
    pub const WORDS: usize = 4;
    /// APGD's share `a` of the new direction, number of steps since the last check if this is one, 1 in the first step.
    pub const CONTROL: usize = 5;

    /// The tensor's shape for images of `channels` channels.
    pub fn shape(channels: usize) -> Shape {
        Shape::Vectors { rows: 6, c: 4 * blocks(channels) }
    }
}
