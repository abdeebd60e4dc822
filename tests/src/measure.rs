//! Figures side by side: interleaved, medians, no verdict.

use std::fmt;
use std::time::Duration;

/// Pairs per comparison.
pub const ROUNDS: usize = 7;

/// The middle of an odd number of values, the mean of the middle two of an even one; NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (n, middle) if n % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Two sides of a ratio, measured in turns, in milliseconds.
pub struct Pair {
    pub id: &'static str,
    /// What is compared, as `static page`.
    pub what: &'static str,
    pub ours: (&'static str, Vec<f64>),
    pub theirs: (&'static str, Vec<f64>),
    /// As the requirements word it.
    pub target: &'static str,
}

impl Pair {
    pub fn new(
        id: &'static str,
        what: &'static str,
        ours: &'static str,
        theirs: &'static str,
        target: &'static str,
    ) -> Self {
        Self { id, what, ours: (ours, Vec::new()), theirs: (theirs, Vec::new()), target }
    }

    pub fn add(&mut self, ours: Duration, theirs: Duration) {
        self.ours.1.push(ours.as_secs_f64() * 1e3);
        self.theirs.1.push(theirs.as_secs_f64() * 1e3);
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |(name, values): &(&str, Vec<f64>)| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            format!("{name} {:.1} ms ({least:.1} to {most:.1})", median(values))
        };
        // The median of the pairs' own ratios: what slows the machine for a while slows both of a pair.
        let ratios: Vec<f64> =
            self.ours.1.iter().zip(&self.theirs.1).map(|(ours, theirs)| ours / theirs).collect();
        write!(
            f,
            "{} {}: {} / {} = {:.3} (median of {} pairs; target {})",
            self.id,
            self.what,
            side(&self.ours),
            side(&self.theirs),
            median(&ratios),
            ratios.len(),
            self.target
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_pair_shows_both_sides_and_the_median_of_ratios() {
        let mut pair = Pair::new("P1", "page", "ours", "bare", "<= 1.05");
        for (ours, theirs) in [(2, 1), (30, 10), (4, 4)] {
            pair.add(Duration::from_millis(ours), Duration::from_millis(theirs));
        }
        let text = pair.to_string();
        assert!(
            text.starts_with("P1 page: ours 4.0 ms (2.0 to 30.0) / bare 4.0 ms (1.0 to 10.0) = 2.000"),
            "{text}"
        );
    }
}
