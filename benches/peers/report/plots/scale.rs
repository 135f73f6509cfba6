//! From values to pixels, and the round numbers between.

use super::super::names::number;

/// One axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// The values at both ends.
    values: (f64, f64),
    /// The pixels at both ends.
    pixels: (f64, f64),
    /// Every factor as long as the other.
    is_log: bool,
}

/// The steps within a power of ten.
const STEPS: [f64; 3] = [1.0, 2.0, 5.0];

impl Scale {
    /// A linear scale with these ends.
    pub(crate) const fn exact(values: (f64, f64), pixels: (f64, f64)) -> Self {
        Self {
            values,
            pixels,
            is_log: false,
        }
    }

    /// A scale that has zero and all of the values in it, and ends at a round number.
    pub(crate) fn linear(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let ends = (0.0_f64, 0.0_f64);
        let (low, high) = values.fold(ends, |(low, high), it| (low.min(it), high.max(it)));
        let high = if high > low { high } else { low + 1.0 };
        let step = step((high - low) * 1.08);
        let whole = |value: f64| value / step;
        let values = (whole(low).floor() * step, whole(high * 1.08).ceil() * step);
        Self::exact(values, pixels)
    }

    /// A scale by factors for the values over zero.
    pub(crate) fn log(values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Self {
        let ends = (f64::INFINITY, 0.0_f64);
        let positive = values.filter(|value| *value > 0.0);
        let (low, high) = positive.fold(ends, |(low, high), it| (low.min(it), high.max(it)));
        let (low, high) = if low <= high {
            (low, high)
        } else {
            (1.0, 10.0)
        };
        Self {
            values: (low / 1.3, high * 1.3),
            pixels,
            is_log: true,
        }
    }

    /// Where a value lies; what is off the scale lies at its end.
    pub(crate) fn place(self, value: f64) -> f64 {
        let (low, high) = self.values;
        let part = if self.is_log {
            (value.max(low) / low).ln() / (high / low).ln()
        } else {
            (value - low) / (high - low)
        };
        let (first, last) = self.pixels;
        first + part.clamp(0.0, 1.0) * (last - first)
    }

    /// The start of bars: zero, or the end of the scale.
    pub(crate) fn base(self) -> f64 {
        self.place(0.0)
    }

    /// Round values with their labels.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        let (low, high) = self.values;
        if self.is_log {
            let wide = high / low > 3_000.0;
            let steps: &[f64] = if wide { &[1.0] } else { &STEPS };
            let first = 10_f64.powf(low.log10().floor());
            let powers = std::iter::successors(Some(first), |power| Some(power * 10.0));
            let values = powers
                .take_while(|power| *power <= high)
                .flat_map(|power| steps.iter().map(move |step| power * step));
            let values = values.filter(|value| (low..=high).contains(value));
            values.map(|value| (value, tick(value))).collect()
        } else {
            let step = step(high - low);
            let first = (low / step).ceil() * step;
            let values = std::iter::successors(Some(first), |value| Some(value + step));
            let values = values.take_while(|value| *value <= high + step / 2.0);
            values.map(|value| (value, tick(value))).collect()
        }
    }
}

/// A round step that gives five to ten of them.
fn step(range: f64) -> f64 {
    let power = 10_f64.powf((range / 5.0).log10().floor());
    let fits = |step: &f64| step * power * 8.0 >= range;
    STEPS.into_iter().find(fits).unwrap_or(10.0) * power
}

/// A number without zeros that say nothing.
fn tick(value: f64) -> String {
    // Sums of steps are off by a little: nearly nothing is zero.
    let text = number(if value.abs() < 1e-9 { 0.0 } else { value });
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
