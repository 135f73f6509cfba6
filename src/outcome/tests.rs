use strum::VariantArray;

use super::Outcome;

#[test]
fn every_outcome_is_documented_once_in_order() {
    let doc = include_str!("../../docs/outcomes.md");
    let rows: Vec<Vec<&str>> = doc
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let documented: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let outcomes = Outcome::VARIANTS.iter().map(|it| it.name());
    assert_eq!(documented, outcomes.collect::<Vec<_>>());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}
