//! A plasma fractal on a torus by the diamond-square method (Fournier, Fussell and Carpenter, "Computer
//! Rendering of Stochastic Models", CACM 1982), scaled to [0, 1].

use super::draws::Draws;
use crate::error::Result;

/// Amplitude of the first level.
const FIRST: f64 = 100.0;

/// A map of `side` x `side` numbers in [0, 1]; `side` must be a power of two. The noise of each level is
/// `w * U(-w, w)`, with w divided by `decay` from level to level.
///
/// Draws per level of m x m squares: three times m x m uniforms: for the middles of the squares, of their upper
/// edges, and of their left edges.
pub(super) fn plasma(side: usize, decay: f64, draws: &mut dyn Draws) -> Result<Vec<f64>> {
    let mut map = vec![0.0; side * side];
    let mut noise = vec![0.0; side * side / 4];
    let mut amplitude = FIRST;
    let mut step = side;
    while step >= 2 {
        let half = step / 2;
        let count = side / step;
        let noise = &mut noise[..count * count];
        // Each place is the mean of four others and its noise.
        let wibble = |sum: f64, noise: f64| sum / 4.0 + amplitude * noise;

        draws.uniform(-amplitude, amplitude, noise)?;
        for i in 0..count {
            let (top, bottom) = (i * step * side, (i + 1) % count * step * side);
            for j in 0..count {
                let (left, right) = (j * step, (j + 1) % count * step);
                let sum = (map[top + left] + map[bottom + left]) + (map[top + right] + map[bottom + right]);
                map[top + half * side + left + half] = wibble(sum, noise[i * count + j]);
            }
        }

        draws.uniform(-amplitude, amplitude, noise)?;
        for i in 0..count {
            let row = i * step * side;
            let (below, above) = (row + half * side, ((i + count - 1) % count * step + half) * side);
            for j in 0..count {
                let (left, right) = (j * step, (j + 1) % count * step);
                let sum = (map[below + left + half] + map[above + left + half]) + (map[row + left] + map[row + right]);
                map[row + left + half] = wibble(sum, noise[i * count + j]);
            }
        }

        draws.uniform(-amplitude, amplitude, noise)?;
        for i in 0..count {
            let (top, bottom) = (i * step * side, (i + 1) % count * step * side);
            let middle = top + half * side;
            for j in 0..count {
                let (column, before) = (j * step, (j + count - 1) % count * step);
                let sum = (map[middle + column + half] + map[middle + before + half])
                    + (map[top + column] + map[bottom + column]);
                map[middle + column] = wibble(sum, noise[i * count + j]);
            }
        }

        step = half;
        amplitude /= decay;
    }
    let low = map.iter().copied().fold(f64::INFINITY, f64::min);
    map.iter_mut().for_each(|x| *x -= low);
    let high = map.iter().copied().fold(0.0, f64::max);
    // A map of one place, or of equal draws, has no range: it stays 0.
    if high > 0.0 {
        map.iter_mut().for_each(|x| *x /= high);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::super::draws::Recorded;
    use super::*;

    #[test]
    fn smallest_maps() {
        assert_eq!(plasma(1, 2.0, &mut Recorded::new(vec![]).unwrap()).unwrap(), [0.0]);
        // Side 2: corner 0; the middle 0 + 100 * 1; then (100 + 100 + 0 + 0) / 4 + 100 * 0 = 50 twice.
        let map = plasma(2, 2.0, &mut Recorded::new(vec![1.0, 0.0, 0.0]).unwrap()).unwrap();
        assert_eq!(map, [0.0, 0.5, 0.5, 1.0]);
        assert_eq!(plasma(2, 2.0, &mut Recorded::new(vec![0.0; 3]).unwrap()).unwrap(), [0.0; 4]);
    }

    #[test]
    fn draws_are_counted_per_level() {
        let mut draws = Recorded::new(vec![0.5; 3 + 12 + 48 + 1]).unwrap();
        plasma(8, 1.75, &mut draws).unwrap();
        assert_eq!(draws.remaining(), 1);
    }
}
