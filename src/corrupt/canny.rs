//! Canny's edge detector as in OpenCV (no smoothing before, L1 norm of the gradient), and the distance from edges.

use super::pixels::nearest;

/// tan(22.5 degrees) in 15-bit fixed point.
const TAN_22: i64 = 13_573;

/// Which pixels of a plane are edges: local maxima of the gradient above `low` that touch, directly or through
/// others, one above `high`.
pub(super) fn edges(plane: &[u8], width: usize, height: usize, low: i32, high: i32) -> Vec<bool> {
    let (across, down) = gradient(plane, width, height);
    // Magnitudes with a margin of zeros.
    let stride = width + 2;
    let mut magnitude = vec![0; stride * (height + 2)];
    let inner = |y: usize| (y + 1) * stride + 1;
    for (y, (across, down)) in across.chunks_exact(width).zip(down.chunks_exact(width)).enumerate() {
        for ((m, gx), gy) in magnitude[inner(y)..].iter_mut().zip(across).zip(down) {
            *m = gx.abs() + gy.abs();
        }
    }
    let mut candidate = vec![false; stride * (height + 2)];
    let mut open = vec![];
    let places = (0..height).flat_map(|y| inner(y)..inner(y) + width);
    for (at, (&gx, &gy)) in places.zip(across.iter().zip(&down)) {
        let m = magnitude[at];
        if m <= low {
            continue;
        }
        let (x, y) = (i64::from(gx.abs()), i64::from(gy.abs()) << 15);
        let flat = x * TAN_22;
        let largest = if y < flat {
            m > magnitude[at - 1] && m >= magnitude[at + 1]
        } else if y > flat + (x << 16) {
            m > magnitude[at - stride] && m >= magnitude[at + stride]
        } else if (gx ^ gy) < 0 {
            m > magnitude[at - stride + 1] && m > magnitude[at + stride - 1]
        } else {
            m > magnitude[at - stride - 1] && m > magnitude[at + stride + 1]
        };
        if largest {
            candidate[at] = true;
            if m > high {
                open.push(at);
            }
        }
    }
    let mut edge = vec![false; width * height];
    while let Some(at) = open.pop() {
        if !std::mem::take(&mut candidate[at]) {
            continue;
        }
        edge[(at / stride - 1) * width + at % stride - 1] = true;
        for row in [at - stride, at, at + stride] {
            open.extend((row - 1..=row + 1).filter(|&next| candidate[next]));
        }
    }
    edge
}

/// Sobel's derivatives along rows and along columns; the edge of the plane goes on beyond it.
fn gradient(plane: &[u8], width: usize, height: usize) -> (Vec<i32>, Vec<i32>) {
    let mut across = Vec::with_capacity(plane.len());
    let mut down = Vec::with_capacity(plane.len());
    for y in 0..height {
        let row = |by: isize| &plane[nearest(y as isize + by, height) * width..][..width];
        let (above, here, below) = (row(-1), row(0), row(1));
        for x in 0..width {
            let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
            let [a, h, b] = [above, here, below].map(|row| columns.map(|x| i32::from(row[x])));
            across.push((a[2] - a[0]) + 2 * (h[2] - h[0]) + (b[2] - b[0]));
            down.push((b[0] - a[0]) + 2 * (b[1] - a[1]) + (b[2] - a[2]));
        }
    }
    (across, down)
}

/// Steps of the 5 x 5 chamfer distance in 16-bit fixed point: 1, 1.4 and 2.1969 (Borgefors, "Distance
/// Transformations in Digital Images", 1986).
const STRAIGHT: u32 = 65_536;
const DIAGONAL: u32 = 91_750;
const KNIGHT: u32 = 143_976;
/// Farther than any path through an image, and far from overflow.
const FAR: u32 = 1 << 30;

/// The chamfer distance, in pixels, of each place to the nearest one that is set.
pub(super) fn distance(set: &[bool], width: usize, height: usize) -> Vec<f32> {
    let stride = width + 4;
    let inner = |y: usize| (y + 2) * stride + 2;
    let mut table = vec![FAR; stride * (height + 4)];
    for (y, set) in set.chunks_exact(width).enumerate() {
        for (place, _) in table[inner(y)..].iter_mut().zip(set).filter(|(_, set)| **set) {
            *place = 0;
        }
    }
    let mask = [
        (2 * stride + 1, KNIGHT),
        (2 * stride - 1, KNIGHT),
        (stride + 2, KNIGHT),
        (stride + 1, DIAGONAL),
        (stride, STRAIGHT),
        (stride - 1, DIAGONAL),
        (stride - 2, KNIGHT),
        (1, STRAIGHT),
    ];
    let places = || (0..height).flat_map(|y| inner(y)..inner(y) + width);
    for at in places() {
        table[at] = mask.iter().fold(table[at], |least, &(back, step)| least.min(table[at - back] + step));
    }
    for at in places().rev() {
        table[at] = mask.iter().fold(table[at], |least, &(on, step)| least.min(table[at + on] + step));
    }
    places().map(|at| table[at] as f32 / STRAIGHT as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_of_edges() {
        // Columns 0..4 dark, 4..8 bright: the gradient is equal at columns 3 and 4; the first is kept.
        let plane: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 10 } else { 200 }).collect();
        let edge = edges(&plane, 8, 8, 50, 150);
        assert!((0..64).all(|i| edge[i] == (i % 8 == 3)), "{edge:?}");
        assert!(!edges(&plane, 8, 8, 50, 800).contains(&true), "nothing is strong");
        assert!(!edges(&[7; 15], 5, 3, 50, 150).contains(&true));
        assert_eq!(edges(&[255], 1, 1, 50, 150), [false]);
    }

    #[test]
    fn weak_edges_need_a_strong_one() {
        // A step that weakens downward: 4 * 190, then 4 * 30 = 120 < 150.
        let plane: Vec<u8> = (0..80)
            .map(|i| {
                if i % 8 < 4 {
                    10
                } else if i < 40 {
                    200
                } else {
                    40
                }
            })
            .collect();
        let edge = edges(&plane, 8, 10, 50, 150);
        assert!(edge[9 * 8 + 3], "the weak end hangs on the strong start");
        let weak: Vec<u8> = plane[40..].to_vec();
        assert!(!edges(&weak, 8, 5, 50, 150).contains(&true));
    }

    #[test]
    fn distances_along_the_steps() {
        let mut set = vec![false; 49];
        set[24] = true;
        let got = distance(&set, 7, 7);
        let at = |x: usize, y: usize| got[y * 7 + x];
        assert_eq!((at(3, 3), at(4, 3), at(3, 0)), (0.0, 1.0, 3.0));
        assert!((at(4, 4) - 1.4).abs() < 1e-4 && (at(5, 4) - 2.1969).abs() < 1e-4 && (at(1, 2) - 2.1969).abs() < 1e-4);
        assert!((at(0, 0) - 4.2).abs() < 1e-4);
        assert!(distance(&[false; 6], 3, 2).iter().all(|&d| d > 1000.0));
    }
}
