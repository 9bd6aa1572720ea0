//! Parameters and multiply-adds of networks of DARTS cells by their arithmetic. A search within limits asks for those of thousands of
//! architectures, and the graph of one of twenty cells has ten thousand nodes; that both count the same is tested.

use super::{Sizes, ends};
use crate::nn::count::Cost;
use crate::space::darts::{Genotype, Op};

/// Those of the network of a genotype without its auxiliary head, as counts leave it out.
pub(super) fn cost(genotype: &Genotype, sizes: &Sizes) -> Cost {
    let [height, width, inputs] = sizes.input;
    let mut sum = Sum::default();
    let c = sizes.channels;
    // Channels of the two maps before a cell, and positions of the second.
    let (mut before, mut last, mut positions) = match sizes.imagenet {
        false => {
            sum.conv_norm(9 * inputs, ends::STEM * c, height * width);
            (ends::STEM * c, ends::STEM * c, height * width)
        }
        true => {
            sum.conv_norm(9 * inputs, c / 2, height * width / 4);
            sum.conv_norm(9 * (c / 2), c, height * width / 16);
            sum.conv_norm(9 * c, c, height * width / 64);
            (c, c, height * width / 64)
        }
    };
    let mut c = c;
    for number in 0..sizes.cells {
        let is_reduction = sizes.is_reduction(number);
        c *= if is_reduction { 2 } else { 1 };
        // A factorised reduction has the weights of a 1x1 convolution, and its positions are those of what it yields.
        sum.conv_norm(before, c, positions);
        sum.conv_norm(last, c, positions);
        let cell = if is_reduction { &genotype.reduce } else { &genotype.normal };
        positions /= if is_reduction { 4 } else { 1 };
        for &(op, source) in cell.0.iter().flatten() {
            sum.operation(op, c, positions, is_reduction && source < 2, sizes.norms_behind_pools);
        }
        (before, last) = (last, cell.0.len() * c);
    }
    sum.weights(last * sizes.classes, 1);
    sum.0.params += sizes.classes as u64;
    sum.0
}

#[derive(Default)]
struct Sum(Cost);

impl Sum {
    /// Weights that each of so many positions is multiplied with.
    fn weights(&mut self, count: usize, positions: usize) {
        self.0.params += count as u64;
        self.0.macs += count as u64 * positions as u64;
    }

    /// A norm's scale and shift.
    fn norm(&mut self, channels: usize) {
        self.0.params += 2 * channels as u64;
    }

    /// A convolution of so many products for each of its outputs, and a norm.
    fn conv_norm(&mut self, products: usize, channels: usize, positions: usize) {
        self.weights(products * channels, positions);
        self.norm(channels);
    }

    /// An operation of a node, all of whose convolutions yield as many positions as it does.
    fn operation(&mut self, op: Op, c: usize, positions: usize, halves: bool, norms_behind_pools: bool) {
        let (times, side) = match op {
            Op::SkipConnect if halves => return self.conv_norm(c, c, positions),
            Op::MaxPool3x3 | Op::AvgPool3x3 if norms_behind_pools => return self.norm(c),
            Op::SepConv3x3 => (2, 3),
            Op::SepConv5x5 => (2, 5),
            Op::DilConv3x3 => (1, 3),
            Op::DilConv5x5 => (1, 5),
            // Those of 14 inputs are counted by their graphs.
            _ => return,
        };
        for _ in 0..times {
            self.weights(side * side * c, positions);
            self.conv_norm(c, c, positions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::count;
    use crate::nn::darts::Network;
    use crate::philox::Stream;
    use crate::space::Space;
    use crate::space::darts::Darts;

    #[test]
    fn arithmetic_counts_as_the_graph_does() {
        let (space, mut draw): (&dyn Space, _) = (&Darts, Stream::new(3, 1, 0));
        let usual = Sizes {
            channels: 6,
            cells: 5,
            norms_behind_pools: false,
            imagenet: false,
            auxiliary: 0.0,
            input: [16, 24, 3],
            classes: 7,
        };
        let others = [
            Sizes { norms_behind_pools: true, cells: 3, ..usual },
            Sizes { imagenet: true, input: [64, 32, 1], cells: 7, ..usual },
            Sizes { channels: 16, cells: 8, input: [32, 32, 3], ..usual },
        ];
        for sizes in [usual].into_iter().chain(others) {
            for _ in 0..12 {
                let genotype = Genotype::try_from(&space.sample(&mut draw).unwrap()).unwrap();
                let want = count::cost(&Network { genotype, sizes }).unwrap();
                assert_eq!(cost(&genotype, &sizes), want, "{genotype} {sizes:?}");
            }
        }
    }
}
