//! A page of metrics, parsed.

use std::collections::{BTreeMap, BTreeSet};

/// The series of one scrape.
pub(crate) struct Metrics {
    /// The page as it came, for its size and its form.
    pub(crate) page: String,
    series: BTreeMap<Series, f64>,
}

pub(crate) type Series = (String, BTreeMap<String, String>);

impl Metrics {
    /// Parses the text format; panics on a line that does not fit it.
    pub(crate) fn parse(page: &str) -> Self {
        let series = page
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
                (
                    parse_series(series),
                    value.parse().unwrap_or_else(|_| panic!("{line:?}")),
                )
            })
            .collect();
        Self {
            page: page.to_owned(),
            series,
        }
    }

    /// The value of a series with whole numbers, named as for [`Self::get`].
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is a count"
    )]
    pub(crate) fn count(&self, series: &str) -> u64 {
        self.get(series).round() as u64
    }

    /// The same, or `None` if the page does not have it: a page shows the series of a predecessor only if that process
    /// has answered in time.
    pub(crate) fn find(&self, series: &str) -> Option<u64> {
        let exists = self.series.contains_key(&parse_series(series));
        exists.then(|| self.count(series))
    }

    /// The value of a series, which must exist, with labels in any order.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let found = self.series.get(&parse_series(series));
        *found.unwrap_or_else(|| panic!("no series {series} in\n{}", self.page))
    }

    /// The sum over all series of a name that have these labels. At least one must exist.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut found = self.matching(name, labels).peekable();
        assert!(
            found.peek().is_some(),
            "no series {name}{labels:?} in\n{}",
            self.page
        );
        found.map(|(_, value)| value).sum()
    }

    /// The names and labels of all series.
    pub(crate) fn names(&self) -> BTreeSet<&Series> {
        self.series.keys().collect()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Connections closed at a listener, by outcome, without the zeros.
    pub(crate) fn outcomes(&self, listener: &str) -> BTreeMap<String, f64> {
        let mut outcomes = BTreeMap::new();
        for (labels, value) in self.matching(
            "portway_connections_closed_total",
            &[("listener", listener)],
        ) {
            if value > 0.0 {
                *outcomes.entry(labels["outcome"].clone()).or_default() += value;
            }
        }
        outcomes
    }

    fn matching(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> impl Iterator<Item = (&BTreeMap<String, String>, f64)> {
        self.series
            .iter()
            .filter(move |((of, has), _)| {
                of == name
                    && labels
                        .iter()
                        .all(|(key, is)| has.get(*key).is_some_and(|v| v == is))
            })
            .map(|((_, labels), value)| (labels, *value))
    }
}

fn parse_series(text: &str) -> Series {
    let Some((name, rest)) = text.split_once('{') else {
        return (text.to_owned(), BTreeMap::new());
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("{text:?}"));
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("{text:?}")) {
                (_, '\\') => match chars.next().unwrap_or_else(|| panic!("{text:?}")).1 {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                (at, '"') => break at,
                (_, plain) => value.push(plain),
            }
        };
        labels.insert(key.to_owned(), value);
        rest = after[end + 1..].trim_start_matches(',');
    }
    assert!(rest.is_empty(), "{text:?}");
    (name.to_owned(), labels)
}

#[test]
fn a_page_is_read_with_its_labels_in_any_order_and_escapes() {
    let metrics = Metrics::parse(
        "# HELP a b\na 1\nb{x=\"1\",y=\"}, \\\"q\\\" \\\\\"} 2\nb{x=\"1\",y=\"z\"} 3e2\n",
    );
    assert!((metrics.get("b{y=\"z\",x=\"1\"}") - 300.0).abs() < f64::EPSILON);
    assert!((metrics.sum("b", &[("x", "1")]) - 302.0).abs() < f64::EPSILON);
    assert!((metrics.get("b{y=\"}, \\\"q\\\" \\\\\",x=\"1\"}") - 2.0).abs() < f64::EPSILON);
    assert_eq!(metrics.len(), 3);
}
