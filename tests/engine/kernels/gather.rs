//! Gathering batches from resident bytes, against a direct computation.

use std::collections::BTreeMap;
use std::sync::Arc;

use altiplano::gpu::{Gpu, Slab};
use altiplano::graph::plan::{Instance, Plan};
use altiplano::graph::store::{Contents, Store};
use altiplano::graph::{Builder, Init, Op, Role, Shape};
use altiplano::kernels::Preset;
use altiplano::philox::Stream;

use super::harness::Tolerance;

/// One image of a batch.
#[derive(Clone, Copy)]
struct Pick {
    slab: usize,
    index: usize,
    label: u32,
    dx: i32,
    dy: i32,
    flip: bool,
    /// Row and column of its centre, side.
    hole: [i32; 3],
}

/// Rows, columns and channels of the source, rows and columns of the batch.
struct Sizes {
    source: [usize; 3],
    target: [usize; 2],
}

/// Slab, image, label, shift right, shift down, mirrored; row and column of the hole's centre, its side.
pub type Described = ([i32; 6], [i32; 3]);

/// Images per slab.
const IMAGES: [usize; 2] = [5, 3];

/// Area mean of the shifted, mirrored image, normalised: what the kernel is to compute, in f64.
fn expected(images: &[Vec<u8>], sizes: &Sizes, pick: &Pick, mean: &[f32], factor: &[f32]) -> Vec<f64> {
    let ([sh, sw, sc], [h, w]) = (sizes.source, sizes.target);
    let pixel = |y: i32, x: i32, c: usize| {
        let [row, column, side] = pick.hole;
        let (top, left) = (row - side / 2, column - side / 2);
        if (top..top + side).contains(&y) && (left..left + side).contains(&x) {
            return f64::from(mean[c]);
        }
        let x = if pick.flip { sw as i32 - 1 - x } else { x } + pick.dx;
        let y = y + pick.dy;
        if !(0..sw as i32).contains(&x) || !(0..sh as i32).contains(&y) {
            return 0.0;
        }
        let at = ((pick.index * sh + y as usize) * sw + x as usize) * sc + c;
        f64::from(images[pick.slab][at]) / 255.0
    };
    // How much of source pixel `at` output pixel `i` of `n` covers, with `from` source pixels in all.
    let overlap = |at: usize, i: usize, n: usize, from: usize| {
        let scale = from as f64 / n as f64;
        let (low, high) = (i as f64 * scale, (i + 1) as f64 * scale);
        ((at + 1) as f64).min(high) - (at as f64).max(low)
    };
    let mut values = vec![];
    for i in 0..h {
        for j in 0..w {
            for c in 0..sc {
                let (mut sum, mut area) = (0.0, 0.0);
                for y in 0..sh {
                    for x in 0..sw {
                        let share = overlap(y, i, h, sh).max(0.0) * overlap(x, j, w, sw).max(0.0);
                        sum += share * pixel(y as i32, x as i32, c);
                        area += share;
                    }
                }
                values.push((sum / area - f64::from(mean[c])) * f64::from(factor[c]));
            }
        }
    }
    values
}

/// Gathers `picks` from as many slabs of random bytes as they name, with the slabs in both orders: one of the two is not
/// that of their addresses.
pub fn check(gpu: &Gpu, preset: Preset, source: [usize; 3], target: [usize; 2], picks: &[Described]) {
    let room = (IMAGES[0] * source.iter().product::<usize>()) as u64;
    let several = 1 + picks.iter().map(|pick| pick.0[0]).max().unwrap_or(0) as usize;
    let mut slabs: Vec<Slab> = (0..several).map(|_| gpu.slab(room, "data").unwrap()).collect();
    for _ in 0..several {
        check_order(gpu, preset, source, target, picks, slabs.clone());
        slabs.reverse();
    }
}

fn check_order(
    gpu: &Gpu,
    preset: Preset,
    source: [usize; 3],
    target: [usize; 2],
    picks: &[Described],
    slabs: Vec<Slab>,
) {
    let sizes = Sizes { source, target };
    let [sh, sw, sc] = source;
    let mut stream = Stream::new(1, 2, 3);
    let images: Vec<Vec<u8>> =
        IMAGES.iter().map(|n| (0..n * sh * sw * sc).map(|_| stream.below(256) as u8).collect()).collect();
    for (slab, bytes) in slabs.iter().zip(&images) {
        let mut padded = bytes.clone();
        padded.resize(bytes.len().next_multiple_of(4), 0xFF);
        gpu.write(slab, 0, &padded).unwrap();
    }
    let picks: Vec<Pick> = picks
        .iter()
        .map(|&([slab, index, label, dx, dy, flip], hole)| Pick {
            slab: slab as usize,
            index: index as usize,
            label: label as u32,
            dx,
            dy,
            flip: flip != 0,
            hole,
        })
        .collect();

    let mut builder = Builder::new();
    let words = (slabs[0].bytes() / 4) as usize;
    let data = builder.persistent(Role::Data, "data", Shape::vector(words), Init::Constant(0.0), &[words]).unwrap();
    let batch = builder.temporary(Shape::Vectors { rows: picks.len(), c: 4 });
    let statistics = builder.temporary(Shape::Vectors { rows: 2, c: sc });
    let x = builder.temporary(Shape::map(picks.len(), target[0], target[1], sc));
    let labels = builder.temporary(Shape::map(picks.len(), 1, 1, 1));
    for (tensor, name) in [(batch, "batch"), (statistics, "statistics"), (x, "x"), (labels, "labels")] {
        builder.probe(tensor, name);
    }
    builder.push(Op::Gather { data, batch, taps: None, statistics, x, labels, source });
    let graph = Arc::new(builder.finish());
    let store = Store::of_slabs(Contents::of(&graph, &[Role::Data]).unwrap(), slabs);
    let bindings = BTreeMap::from([(Role::Data, (store, 0))]);
    let plan = Plan::compile(gpu, vec![Instance { graph, bindings, path: vec![] }], preset).unwrap();

    let mean: Vec<f32> = (0..sc).map(|c| 0.4 + 0.05 * c as f32).collect();
    let factor: Vec<f32> = (0..sc).map(|c| 4.0 - 0.5 * c as f32).collect();
    plan.write(0, statistics, &[mean.clone(), factor.clone()].concat()).unwrap();
    let descriptor = |p: &Pick| {
        let crop = (p.dx + 128) as u32 | ((p.dy + 128) as u32) << 8 | u32::from(p.flip) << 16;
        let [row, column, side] = p.hole.map(|number| number as u32);
        [p.index as u32, p.label | row << 16, crop, p.slab as u32 | side << 8 | column << 16].map(f32::from_bits)
    };
    plan.write(0, batch, &picks.iter().flat_map(descriptor).collect::<Vec<_>>()).unwrap();
    for tensor in [x, labels] {
        plan.write(0, tensor, &vec![f32::NAN; plan.place(0, tensor).unwrap().2.len()]).unwrap();
    }
    plan.submit();

    let want: Vec<f64> = picks.iter().flat_map(|pick| expected(&images, &sizes, pick, &mean, &factor)).collect();
    let what = format!("{sh}x{sw}x{sc} to {target:?}");
    // Values are at most 4 in size; the edges of areas are known to a few ulps of the source's side.
    let bound = 4.0 * 8.0 * sh.max(sw) as f64 * super::harness::HALF_ULP;
    let got = plan.read_wait(0, x).unwrap();
    Tolerance::of(vec![bound; want.len()]).check(&what, &got, &want);
    let want: Vec<f64> = picks.iter().map(|pick| f64::from(pick.label)).collect();
    Tolerance::equal(want.len()).check(&what, &plan.read_wait(0, labels).unwrap(), &want);
}
