//! RGB to hue, saturation and value and back, in the order of operations of scikit-image (all in [0, 1], double
//! precision): the result is cut off to bytes, so that the last bit counts.

/// Hue, saturation and value of a colour.
pub(super) fn from_rgb([r, g, b]: [f64; 3]) -> [f64; 3] {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    // Of equal largest channels the last decides.
    let sixths = if b == value {
        4.0 + (r - g) / range
    } else if g == value {
        2.0 + (b - r) / range
    } else {
        (g - b) / range
    };
    let hue = sixths / 6.0;
    [if hue < 0.0 { hue + 1.0 } else { hue }, range / value, value]
}

/// The colour of hue, saturation and value.
pub(super) fn to_rgb([hue, saturation, value]: [f64; 3]) -> [f64; 3] {
    // Hues are not negative, so that cutting off rounds downward.
    let sector = (hue * 6.0) as u32;
    let f = hue * 6.0 - f64::from(sector);
    let p = value * (1.0 - saturation);
    let q = value * (1.0 - f * saturation);
    let t = value * (1.0 - (1.0 - f) * saturation);
    match sector % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        assert_eq!(from_rgb([0.0; 3]), [0.0; 3]);
        assert_eq!(from_rgb([0.5; 3]), [0.0, 0.0, 0.5]);
        assert_eq!(from_rgb([1.0, 0.0, 0.0]), [0.0, 1.0, 1.0]);
        assert_eq!(from_rgb([0.0, 1.0, 0.0])[0], 1.0 / 3.0);
        assert_eq!(from_rgb([1.0, 0.0, 1.0])[0], 5.0 / 6.0);
        assert_eq!(from_rgb([0.25, 0.5, 0.5]), [0.5, 0.5, 0.5]);
    }

    #[test]
    fn there_and_back() {
        for i in 0..4096 {
            let rgb = [i / 256, i / 16 % 16, i % 16].map(|v| f64::from(v) / 15.0);
            let back = to_rgb(from_rgb(rgb));
            assert!(rgb.iter().zip(back).all(|(a, b)| (a - b).abs() < 1e-14), "{rgb:?} {back:?}");
        }
    }
}
