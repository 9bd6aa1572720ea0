//! Where the random numbers of a corruption come from.
//!
//! A corruption asks for its numbers in a documented order and never knows their source. [`Seeded`] computes
//! them from (seed, kind, severity, image index); [`Recorded`] repeats numbers that were drawn elsewhere, such
//! as by the authors' own program.

use super::kind::{Kind, Severity};
use super::normal;
use super::poisson::Rates;
use crate::error::{Error, Result};
use crate::philox::{self, Stream};

/// A source of random numbers. Each call fills `out`; the numbers are independent. The corruptions rely on the ranges:
/// an integer outside of its own may lead outside of the image, which panics.
pub trait Draws {
    /// Normal numbers.
    ///
    /// # Errors
    /// When the source has no more numbers. So for all methods.
    fn normal(&mut self, mean: f64, deviation: f64, out: &mut [f64]) -> Result<()>;

    /// Numbers between `low` and `high`.
    ///
    /// # Errors
    /// As [`normal`](Self::normal), and when a number that was given beforehand lies outside.
    fn uniform(&mut self, low: f64, high: f64, out: &mut [f64]) -> Result<()>;

    /// Poisson numbers: that of `bytes[i]` under `rates` goes to `out[i]`; both slices are equally long.
    ///
    /// # Errors
    /// As [`normal`](Self::normal).
    fn poisson(&mut self, rates: &Rates, bytes: &[u8], out: &mut [f64]) -> Result<()>;

    /// Whole numbers from `low` to `high - 1`.
    ///
    /// # Errors
    /// As [`uniform`](Self::uniform).
    fn integer(&mut self, low: i32, high: i32, out: &mut [i32]) -> Result<()>;
}

/// Draws that are a pure function of (seed, kind, severity, image index), whatever else runs beside it and in
/// whichever order.
#[derive(Debug, Clone)]
pub struct Seeded {
    stream: Stream,
}

/// Upper half of the stream's purpose: `CR`. The lower half holds kind and severity.
const PURPOSE: u32 = 0x4352_0000;

impl Seeded {
    /// The draws for one image. Both tables of constants share them.
    pub fn new(seed: u64, kind: Kind, severity: Severity, index: u64) -> Self {
        let purpose = PURPOSE | (kind as u32) << 8 | u32::from(severity.get());
        Seeded { stream: Stream::new(seed, purpose, index) }
    }
}

impl Draws for Seeded {
    fn normal(&mut self, mean: f64, deviation: f64, out: &mut [f64]) -> Result<()> {
        normal::fill(&mut self.stream, mean, deviation, out);
        Ok(())
    }

    fn uniform(&mut self, low: f64, high: f64, out: &mut [f64]) -> Result<()> {
        for x in out {
            *x = low + (high - low) * self.stream.uniform();
        }
        Ok(())
    }

    fn poisson(&mut self, rates: &Rates, bytes: &[u8], out: &mut [f64]) -> Result<()> {
        for (x, &byte) in out.iter_mut().zip(bytes) {
            *x = rates.number(byte, self.stream.uniform());
        }
        Ok(())
    }

    fn integer(&mut self, low: i32, high: i32, out: &mut [i32]) -> Result<()> {
        let span = i64::from(high) - i64::from(low);
        for x in out {
            // A 32-bit word is enough: the spans are at most some thousands, so that the bias is below 1e-6.
            let word = u64::from(self.stream.next_u32()) << 32;
            *x = (i64::from(low) + philox::below(word, span.max(0) as u64) as i64) as i32;
        }
        Ok(())
    }
}

/// Draws that were made elsewhere, given back in order and as they are: a recorded normal number already has
/// its mean and deviation.
#[derive(Debug, Clone)]
pub struct Recorded {
    values: Vec<f64>,
    used: usize,
}

impl Recorded {
    /// The draws in the order in which they are to be used.
    ///
    /// # Errors
    /// [`Error::Invalid`] if one of them is infinite or not a number.
    pub fn new(values: Vec<f64>) -> Result<Self> {
        match values.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(Error::invalid("recorded draws", format!("draw {i} is {}, not a finite number", values[i]))),
            None => Ok(Recorded { values, used: 0 }),
        }
    }

    /// How many have not been used yet.
    pub fn remaining(&self) -> usize {
        self.values.len() - self.used
    }

    fn take(&mut self, out: &mut [f64]) -> Result<()> {
        let Some(values) = self.values.get(self.used..self.used + out.len()) else {
            let why = format!("{} more are needed after {}, but {} are left", out.len(), self.used, self.remaining());
            return Err(Error::invalid("recorded draws", why));
        };
        out.copy_from_slice(values);
        self.used += out.len();
        Ok(())
    }

    fn outside(&self, x: f64, range: impl std::fmt::Display) -> Error {
        Error::invalid("recorded draws", format!("{x}, before draw {}, is not {range}", self.used))
    }
}

impl Draws for Recorded {
    fn normal(&mut self, _: f64, _: f64, out: &mut [f64]) -> Result<()> {
        self.take(out)
    }

    fn uniform(&mut self, low: f64, high: f64, out: &mut [f64]) -> Result<()> {
        self.take(out)?;
        match out.iter().find(|x| !(low..=high).contains(*x)) {
            Some(&x) => Err(self.outside(x, format_args!("in [{low}, {high}]"))),
            None => Ok(()),
        }
    }

    fn poisson(&mut self, _: &Rates, _: &[u8], out: &mut [f64]) -> Result<()> {
        self.take(out)
    }

    fn integer(&mut self, low: i32, high: i32, out: &mut [i32]) -> Result<()> {
        for x in out {
            let mut value = [0.0];
            self.take(&mut value)?;
            let whole = value[0] as i32;
            if f64::from(whole) != value[0] || !(low..high).contains(&whole) {
                return Err(self.outside(value[0], format_args!("a whole number in {low}..{high}")));
            }
            *x = whole;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(seed: u64, kind: Kind, level: u8, index: u64) -> [f64; 3] {
        let mut out = [0.0; 3];
        Seeded::new(seed, kind, Severity::new(level).unwrap(), index).uniform(-2.0, 3.0, &mut out).unwrap();
        assert!(out.iter().all(|x| (-2.0..3.0).contains(x)));
        out
    }

    #[test]
    fn seeded_draws_depend_on_all_four_keys() {
        let base = first(1, Kind::Fog, 2, 3);
        assert_eq!(base, first(1, Kind::Fog, 2, 3));
        let others = [first(2, Kind::Fog, 2, 3), first(1, Kind::Snow, 2, 3), first(1, Kind::Fog, 3, 3)];
        for other in others.into_iter().chain([first(1, Kind::Fog, 2, 4)]) {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn integers_cover_their_range_evenly() {
        let mut draws = Seeded::new(0, Kind::GlassBlur, Severity::ALL[0], 0);
        let mut out = [0; 8000];
        draws.integer(-2, 2, &mut out).unwrap();
        for value in -2..2 {
            let count = out.iter().filter(|&&x| x == value).count();
            assert!((1850..2150).contains(&count), "{value}: {count}");
        }
    }

    #[test]
    fn recorded_draws_come_back_and_end() {
        let mut draws = Recorded::new(vec![0.5, -1.0, 7.0, 2.5]).unwrap();
        let (mut x, mut i) = ([0.0], [0]);
        draws.uniform(0.0, 1.0, &mut x).unwrap();
        assert_eq!(x, [0.5]);
        draws.integer(-1, 1, &mut i).unwrap();
        assert_eq!(i, [-1]);
        assert!(draws.uniform(0.0, 1.0, &mut x).is_err(), "7 is outside");
        assert!(draws.integer(0, 9, &mut i).is_err(), "2.5 is not whole");
        assert_eq!(draws.remaining(), 0);
        let message = draws.normal(0.0, 1.0, &mut x).unwrap_err().to_string();
        assert!(message.contains("1 more are needed after 4"), "{message}");
        assert!(Recorded::new(vec![f64::NAN]).is_err());
    }
}
