//! The figures of `docs/scaling.md` follow from its formulas. Every example is calculated again from the
//! values in its tables, so that a new measurement changes one cell and shows all that depend on it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;

const PAGE: &str = include_str!("../docs/scaling.md");

/// The symbols of the formulas and their values.
type Symbols<'p> = BTreeMap<&'p str, f64>;

/// Largest relative difference between an example and its formula, because examples are rounded.
const ROUNDING: f64 = 0.015;

/// The rows of every table whose first heading is `symbol`: symbol and further cells.
fn rows<'p>(second: &str) -> Vec<(&'p str, Vec<&'p str>)> {
    let heading = format!("| symbol | {second} |");
    let tables = PAGE.split(heading.as_str()).skip(1);
    let lines = tables.flat_map(|rest| {
        let lines = rest.lines().skip(2);
        lines.take_while(|line| line.starts_with('|'))
    });
    let rows: Vec<_> = lines
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            (cells.next().unwrap().trim_matches('`'), cells.collect())
        })
        .collect();
    assert!(rows.len() > 4, "{second}: {rows:?}");
    rows
}

/// The number at the beginning of a cell.
fn number(cell: &str) -> Option<f64> {
    let cell = cell.replace(',', "");
    let end = cell.find(|c: char| !(c.is_ascii_digit() || c == '.'));
    cell[..end.unwrap_or(cell.len())].parse().ok()
}

/// The value of a formula; `None` if the text is not a formula, or has an unknown symbol.
fn value(formula: &str, symbols: &Symbols<'_>) -> Option<f64> {
    let mut formula = Formula {
        rest: formula,
        symbols,
    };
    let value = formula.sum()?;
    formula.rest.is_empty().then_some(value)
}

/// A formula of `+`, `-`, `*`, `/`, parentheses, numbers and symbols, read from the left.
struct Formula<'f, 's> {
    rest: &'f str,
    symbols: &'f Symbols<'s>,
}

impl Formula<'_, '_> {
    fn take(&mut self, sign: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn sum(&mut self) -> Option<f64> {
        let mut sum = self.product()?;
        loop {
            if self.take('+') {
                sum += self.product()?;
            } else if self.take('-') {
                sum -= self.product()?;
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut product = self.atom()?;
        loop {
            if self.take('*') {
                product *= self.atom()?;
            } else if self.take('/') {
                product /= self.atom()?;
            } else {
                return Some(product);
            }
        }
    }

    fn atom(&mut self) -> Option<f64> {
        if self.take('(') {
            let sum = self.sum()?;
            return self.take(')').then_some(sum);
        }
        let text = self.rest.trim_start();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'));
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        let symbol = self.symbols.get(word).copied();
        symbol.or_else(|| word.parse().ok())
    }
}

/// The values that the page takes as given.
fn given<'p>() -> Symbols<'p> {
    rows("value")
        .into_iter()
        .map(|(symbol, cells)| (symbol, number(cells.first().unwrap()).unwrap()))
        .collect()
}

#[track_caller]
fn agree(formula: &str, symbols: &Symbols<'_>, shown: &str) -> f64 {
    let value = value(formula, symbols);
    assert!(value.is_some(), "no formula: {formula}");
    let (value, shown_value) = (value.unwrap(), number(shown));
    assert!(
        shown_value.is_some_and(|shown| (value / shown - 1.0).abs() < ROUNDING),
        "{formula} is {value}, not {shown}"
    );
    value
}

/// Calculates every row in order and compares the example in that column.
fn calculate<'p>(second: &str, column: usize, mut symbols: Symbols<'p>) -> Symbols<'p> {
    for (symbol, cells) in rows(second) {
        let formula = cells.first().unwrap().trim_matches('`');
        let value = agree(formula, &symbols, cells.get(column).unwrap());
        let before = symbols.insert(symbol, value);
        assert!(before.is_none(), "{symbol} is there twice");
    }
    symbols
}

#[test]
fn a_core_carries_what_the_costs_say() {
    calculate("formula | example", 1, given());
}

#[test]
fn the_fleet_needs_what_the_formulas_say_on_one_host() {
    calculate("formula | one host", 1, given());
}

#[test]
fn the_fleet_needs_what_the_formulas_say_on_each_of_seven() {
    let mut symbols = given();
    *symbols.get_mut("agents").unwrap() /= 7.0;
    symbols.insert("workers", 2.0);
    calculate("formula | one host", 2, symbols);
}

#[test]
fn figures_behind_a_formula_in_the_text_are_its_value() {
    let symbols = calculate("formula | one host", 1, given());
    let mut seen = 0;
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once("`: ") {
        rest = after;
        let formula = before.rsplit('`').next().unwrap();
        let is_formula = formula.contains(" / ") || symbols.contains_key(formula);
        let shown = after.strip_prefix("at most ").unwrap_or(after);
        if is_formula && number(shown).is_some() {
            agree(formula, &symbols, shown);
            seen += 1;
        }
    }
    assert!(seen >= 7, "{seen}");
}
