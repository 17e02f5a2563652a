//! Two things measured by turns: what one costs of the other, and how sure that is.
//!
//! Both are measured within seconds, again and again, so whatever else the machine does hits both; each pair gives one
//! ratio, and the median of them is what counts.

use serde::{Deserialize, Serialize};

/// The middle of some figures, and what lies around it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of some figures; `None` of none, and where one is no number.
    #[must_use]
    pub fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        if sorted.iter().any(|figure| figure.is_nan()) {
            return None;
        }
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, least, most })
    }

    /// Of the ratios of pairs, in the order in which they were measured.
    #[must_use]
    pub fn of_ratios(measured: &[f64], reference: &[f64]) -> Option<Self> {
        let ratios: Vec<f64> = measured.iter().zip(reference).map(|(one, other)| one / other).collect();
        Self::of(&ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of(&[7.0]), Some(Spread { median: 7.0, least: 7.0, most: 7.0 }));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_ratio_is_within_its_pair() {
        // The machine got three times slower on the way: the ratio does not care.
        let spread = Spread::of_ratios(&[2.0, 4.0, 6.0], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, least: 2.0, most: 2.0 });
    }

    #[test]
    fn one_bad_pair_moves_no_median() {
        let spread = Spread::of_ratios(&[2.0, 2.0, 2.0, 2.0, 90.0], &[1.0; 5]).unwrap();
        assert!((spread.median - 2.0).abs() < f64::EPSILON && spread.most > 80.0);
    }
}
