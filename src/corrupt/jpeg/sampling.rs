//! Chroma at half size and back, as libjpeg does by default.

use super::Plane;

/// Half the size in both directions, in whole blocks: means of 2 x 2, rounded down and up in turn. Columns are
/// filled up before, rows after.
pub(super) fn halve(samples: &[u8], width: usize, height: usize) -> Plane {
    let mut plane = Plane::new(width.div_ceil(2), height.div_ceil(2));
    for y in 0..plane.height {
        let above = &samples[2 * y * width..][..width];
        let below = &samples[(2 * y + 1).min(height - 1) * width..][..width];
        for (x, out) in plane.row_mut(y).iter_mut().enumerate() {
            let (left, right) = ((2 * x).min(width - 1), (2 * x + 1).min(width - 1));
            let sum = [above[left], above[right], below[left], below[right]].map(u16::from).iter().sum::<u16>();
            *out = ((sum + 1 + (x as u16 & 1)) >> 2) as u8;
        }
    }
    plane.fill_down();
    plane
}

/// Rows of a plane at double size: weights 3/4 and 1/4 of the nearer and the farther sample in each direction.
pub(super) struct Doubled<'a> {
    plane: &'a Plane,
    column: Vec<u16>,
    out: Vec<u8>,
}

impl<'a> Doubled<'a> {
    pub(super) fn new(plane: &'a Plane) -> Self {
        Doubled { plane, column: vec![0; plane.width], out: vec![0; 2 * plane.width] }
    }

    /// Row `y` of the doubled plane: twice as long as the plane's real width.
    pub(super) fn row(&mut self, y: usize) -> &[u8] {
        let Doubled { plane, column, out } = self;
        let width = plane.width;
        let near = &plane.row(y / 2)[..width];
        // libjpeg repeats samples where there are too few columns for a triangle.
        if width <= 2 {
            for (out, &value) in out.chunks_exact_mut(2).zip(near) {
                out.fill(value);
            }
            return out;
        }
        let other = if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(plane.height - 1) };
        let far = &plane.row(other)[..width];
        for ((t, &near), &far) in column.iter_mut().zip(near).zip(far) {
            *t = 3 * u16::from(near) + u16::from(far);
        }
        out[0] = ((4 * column[0] + 8) >> 4) as u8;
        out[2 * width - 1] = ((4 * column[width - 1] + 7) >> 4) as u8;
        for (out, pair) in out[1..2 * width - 1].chunks_exact_mut(2).zip(column.windows(2)) {
            out[0] = ((3 * pair[0] + pair[1] + 7) >> 4) as u8;
            out[1] = ((3 * pair[1] + pair[0] + 8) >> 4) as u8;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_rounded_in_turn() {
        // Sums 2 and 2: (2 + 1) / 4 = 0 at even places, (2 + 2) / 4 = 1 at odd ones.
        let plane = halve(&[1, 1, 1, 1, 0, 0, 0, 0], 4, 2);
        assert_eq!(plane.samples[..3], [0, 1, 0]);
        assert_eq!((plane.width, plane.height, plane.stride, plane.rows), (2, 1, 8, 8));
    }

    #[test]
    fn doubling_interpolates() {
        let mut plane = Plane::new(3, 1);
        plane.row_mut(0)[..3].copy_from_slice(&[0, 16, 16]);
        assert_eq!(Doubled::new(&plane).row(0), [0, 4, 12, 16, 16, 16]);
        let mut narrow = Plane::new(2, 1);
        narrow.row_mut(0)[..2].copy_from_slice(&[3, 9]);
        assert_eq!(Doubled::new(&narrow).row(1), [3, 3, 9, 9]);
    }
}
