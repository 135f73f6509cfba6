//! Medians over rounds, and ratios of what ran in the same round.

use std::collections::BTreeMap;

use super::{Figure, Results, Scenario};

/// The samples of a run, by scenario, figure and subject.
pub(crate) struct Figures {
    /// Names in the order of the tables.
    pub(crate) subjects: Vec<String>,
    rounds: usize,
    /// By round.
    values: BTreeMap<(Scenario, Figure, String), BTreeMap<usize, f64>>,
}

/// A median with the extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    /// Rounds that have a value.
    pub(crate) rounds: usize,
}

/// A subject and a scenario: one side of a ratio.
pub(crate) type Side<'a> = (&'a str, Scenario);

impl Figures {
    pub(crate) fn new(results: &Results) -> Self {
        let mut values: BTreeMap<_, BTreeMap<usize, f64>> = BTreeMap::new();
        for sample in &results.samples {
            let key = (sample.scenario, sample.figure, sample.subject.clone());
            let rounds = values.entry(key).or_default();
            rounds.insert(sample.round, rounded(sample.value));
        }
        let names = results.subjects.iter().map(|subject| subject.name.clone());
        Self {
            subjects: names.collect(),
            rounds: results.rounds,
            values,
        }
    }

    /// The scenarios in which a figure was measured, of any subject.
    pub(crate) fn scenarios(&self, figure: Figure) -> Vec<Scenario> {
        let keys = self.values.keys().filter(|key| key.1 == figure);
        let mut scenarios: Vec<Scenario> = keys.map(|key| key.0).collect();
        scenarios.dedup();
        scenarios
    }

    /// A figure of a subject over the rounds.
    pub(crate) fn spread(&self, figure: Figure, side: Side<'_>) -> Option<Spread> {
        Spread::of(self.rounds(figure, side)?.values().copied())
    }

    /// The ratios of two sides round by round, because a noisy minute affects both. Rounds without one of
    /// the sides do not count.
    pub(crate) fn ratio(&self, figure: Figure, above: Side<'_>, below: Side<'_>) -> Option<Spread> {
        let below = self.rounds(figure, below)?;
        let above = self.rounds(figure, above)?.iter();
        let ratios = above.filter_map(|(round, value)| Some(value / below.get(round)?));
        Spread::of(ratios)
    }

    /// Marks a value that lacks rounds, such as " (2 of 3)".
    pub(crate) fn lack(&self, spread: Spread) -> String {
        if spread.rounds < self.rounds {
            format!(" ({} of {})", spread.rounds, self.rounds)
        } else {
            String::new()
        }
    }

    fn rounds(
        &self,
        figure: Figure,
        (subject, scenario): Side<'_>,
    ) -> Option<&BTreeMap<usize, f64>> {
        self.values.get(&(scenario, figure, subject.to_owned()))
    }
}

impl Spread {
    /// The spread of the values that are numbers; `None` if there are none.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            least: *values.first()?,
            most: *values.last()?,
            rounds: values.len(),
        })
    }
}

/// To six significant digits, as in results.json: more is noise.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
