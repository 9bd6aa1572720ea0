//! Hypervolume: how much of the space below a reference point a set of points dominates, all objectives
//! minimised.

use crate::error::{Error, Result};

/// The factor by which the reference point lies beyond the worst of the initial archive.
const MARGIN: f64 = 1.01;

/// The exact volume of the union of the boxes between each row and `reference`.
///
/// Rows that are not below the reference in every objective, or not finite, add nothing. In two objectives
/// it sorts and sweeps; each further one cuts the set into slices (Knowles, PhD thesis 2002, and While et
/// al., "Heuristics for optimizing the calculation of hypervolume", CEC 2005), which is meant for few
/// objectives.
///
/// # Errors
/// A reference that is empty or not finite, and rows of another length.
pub fn hypervolume<R: AsRef<[f64]>>(rows: &[R], reference: &[f64]) -> Result<f64> {
    if reference.is_empty() || reference.iter().any(|value| !value.is_finite()) {
        return Err(Error::invalid("hypervolume", format!("the reference point {reference:?} must be finite")));
    }
    let mut inside: Vec<&[f64]> = Vec::new();
    for row in rows.iter().map(AsRef::as_ref) {
        if row.len() != reference.len() {
            let why = format!("a point has {} objectives, the reference point {}", row.len(), reference.len());
            return Err(Error::invalid("hypervolume", why));
        }
        if row.iter().zip(reference).all(|(value, limit)| value.is_finite() && value < limit) {
            inside.push(row);
        }
    }
    Ok(volume(inside, reference))
}

/// The hypervolume divided by the volume between the origin and the reference, as MSuNAS reports it.
///
/// # Errors
/// As [`hypervolume`], and a reference that is not above 0 everywhere.
pub fn normalised<R: AsRef<[f64]>>(rows: &[R], reference: &[f64]) -> Result<f64> {
    if reference.iter().any(|value| *value <= 0.0) {
        let why = format!("the reference point {reference:?} must lie above 0 in every objective to divide by it");
        return Err(Error::invalid("hypervolume", why));
    }
    Ok(hypervolume(rows, reference)? / reference.iter().product::<f64>())
}

/// The reference point of a search: 1.01 times the largest value of each objective in its initial archive.
/// Rows that are not finite are left out.
///
/// # Errors
/// When no row is left.
pub fn reference_point<R: AsRef<[f64]>>(initial: &[R]) -> Result<Vec<f64>> {
    let finite = initial.iter().map(AsRef::as_ref).filter(|row| row.iter().all(|value| value.is_finite()));
    let largest = finite.map(<[f64]>::to_vec).reduce(|mut largest, row| {
        for (most, value) in largest.iter_mut().zip(row) {
            *most = most.max(value);
        }
        largest
    });
    match largest {
        Some(largest) => Ok(largest.iter().map(|value| value * MARGIN).collect()),
        None => Err(Error::invalid("hypervolume", "no evaluation of the initial archive succeeded to take it against")),
    }
}

/// The volume over the first `reference.len()` objectives of rows that all are below it.
fn volume(mut rows: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let Some((limit, others)) = reference.split_last() else { return 0.0 };
    let last = others.len();
    rows.sort_by(|a, b| a[last].total_cmp(&b[last]));
    if last == 0 {
        return rows.first().map_or(0.0, |row| limit - row[0]);
    }
    let mut total = 0.0;
    let mut best = others[0];
    let mut area = 0.0;
    let mut below: Vec<&[f64]> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let projected = &row[..last];
        // What an earlier row covers adds nothing to any later slice.
        if last == 1 {
            best = best.min(projected[0]);
            area = others[0] - best;
        } else if !below.iter().any(|other| covers(other, projected)) {
            below.retain(|other| !covers(projected, other));
            below.push(projected);
            area = volume(below.clone(), others);
        }
        let next = rows.get(place + 1).map_or(*limit, |next| next[last]);
        total += (next - row[last]) * area;
    }
    total
}

/// Whether `a` is at most equal to `b` in every objective.
fn covers(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Counts the unit cells of a small grid.
    fn counted(rows: &[Vec<f64>], side: u32, dimensions: u32) -> f64 {
        let cells = (0..side.pow(dimensions)).filter(|cell| {
            rows.iter().any(|row| {
                row.iter().enumerate().all(|(d, value)| *value <= f64::from(cell / side.pow(d as u32) % side))
            })
        });
        cells.count() as f64
    }

    #[test]
    fn by_hand() {
        assert_eq!(hypervolume(&[[1.0, 2.0], [2.0, 1.0], [2.0, 2.0]], &[3.0, 3.0]).unwrap(), 3.0);
        assert_eq!(hypervolume(&[[1.0], [2.0]], &[5.0]).unwrap(), 4.0);
        assert_eq!(hypervolume(&[[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], &[2.0; 3]).unwrap(), 4.0 + 1.0);
        assert_eq!(hypervolume::<[f64; 2]>(&[], &[1.0, 1.0]).unwrap(), 0.0);
        // On or beyond the edge, and failures.
        let outside = [[3.0, 0.0], [0.0, 4.0], [f64::NAN, 0.0], [f64::NEG_INFINITY, 0.0]];
        assert_eq!(hypervolume(&outside, &[3.0, 3.0]).unwrap(), 0.0);
    }

    /// Spec 7.9: an initial archive up to (2, 2) and a front of (1, 1).
    #[test]
    fn normalised_as_specified() {
        let reference = reference_point(&[[2.0, 0.5], [0.5, 2.0], [f64::NAN, 9.0]]).unwrap();
        let value = normalised(&[[1.0, 1.0]], &reference).unwrap();
        assert!((value - 0.254975).abs() < 1e-6, "{value}");
    }

    #[test]
    fn bad_input_is_refused() {
        for (reference, word) in [(vec![1.0, f64::NAN], "finite"), (vec![1.0], "has 2 objectives"), (vec![], "finite")]
        {
            let error = hypervolume(&[[0.0, 0.0]], &reference).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(normalised(&[[0.0, 0.0]], &[1.0, 0.0]).unwrap_err().to_string().contains("above 0"));
        assert!(reference_point(&[[f64::NAN]]).unwrap_err().to_string().contains("no evaluation"));
    }

    proptest! {
        #[test]
        fn is_what_counting_cells_gives(
            dimensions in 1u32..5,
            values in prop::collection::vec(prop::collection::vec(0u8..7, 4), 0..14),
        ) {
            let rows: Vec<Vec<f64>> =
                values.iter().map(|row| row.iter().take(dimensions as usize).map(|v| f64::from(*v)).collect()).collect();
            let reference = vec![5.0; dimensions as usize];
            prop_assert_eq!(hypervolume(&rows, &reference).unwrap(), counted(&rows, 5, dimensions));
        }

        #[test]
        fn never_shrinks_and_ignores_order(rows in prop::collection::vec(prop::collection::vec(0.0f64..1.0, 3), 1..20)) {
            let mut last = 0.0;
            for n in 1..=rows.len() {
                let volume = hypervolume(&rows[..n], &[1.0; 3]).unwrap();
                prop_assert!(volume >= last - 1e-12);
                last = volume;
            }
            let reversed: Vec<&[f64]> = rows.iter().rev().map(Vec::as_slice).collect();
            prop_assert!((hypervolume(&reversed, &[1.0; 3]).unwrap() - last).abs() < 1e-12);
        }
    }
}
