//! One pair of axes with its bars or lines.

use std::io;

use plotters::style::text_anchor::{HPos, VPos};

use super::super::figures::{Spread, real};
use super::super::names::number;
use super::canvas::{Canvas, Lettering, weight};
use super::scale::Scale;
use super::style::{self, GRID, INK};

/// What is drawn at the points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Side by side at each tick.
    Bars,
    /// From tick to tick.
    Lines,
}

/// Axes and what is between them.
pub(crate) struct Panel {
    pub(crate) kind: Kind,
    /// Above the axes; may be empty.
    pub(crate) title: String,
    pub(crate) x_title: &'static str,
    pub(crate) y_title: &'static str,
    /// Places on the x axis, with their labels.
    pub(crate) ticks: Vec<(f64, String)>,
    /// Whether the y axis is by factors.
    pub(crate) is_log: bool,
    pub(crate) series: Vec<Series>,
}

/// The points of one subject.
pub(crate) struct Series {
    pub(crate) subject: String,
    pub(crate) points: Vec<(f64, Spread)>,
}

/// The pixels that a panel has.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
}

/// Pixels of the labels around the axes.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 18.0;
const BELOW: f64 = 46.0;
const ABOVE: f64 = 22.0;

impl Panel {
    pub(crate) fn on_log_scale(self) -> Self {
        Self {
            is_log: true,
            ..self
        }
    }

    pub(crate) fn has_points(&self) -> bool {
        !self.series.is_empty()
    }

    pub(crate) fn shows(&self, subject: &str) -> bool {
        self.series.iter().any(|series| series.subject == subject)
    }

    pub(crate) fn draw(&self, canvas: &Canvas<'_>, frame: Frame) -> io::Result<()> {
        let inner = Frame {
            left: frame.left + LEFT,
            right: frame.right - RIGHT,
            top: frame.top + ABOVE,
            bottom: frame.bottom - BELOW,
        };
        let values = self.series.iter().flat_map(|series| &series.points);
        let values = values.flat_map(|(_, spread)| [spread.least, spread.most]);
        let up = (inner.bottom, inner.top);
        let y = if self.is_log {
            Scale::log(values, up)
        } else {
            Scale::linear(values, up)
        };
        let x = self.x_scale(inner);
        let middle = f64::midpoint(inner.left, inner.right);
        canvas.text(
            &self.title,
            (middle, frame.top + 10.0),
            Lettering::centred(14),
            INK,
        )?;
        self.draw_axes(canvas, inner, x, y)?;
        match self.kind {
            Kind::Bars => self.draw_bars(canvas, inner, x, y),
            Kind::Lines => self.draw_lines(canvas, x, y),
        }
    }

    fn x_scale(&self, inner: Frame) -> Scale {
        let places = self.ticks.iter().map(|(at, _)| *at);
        let first = places.clone().fold(f64::INFINITY, f64::min);
        let last = places.fold(f64::NEG_INFINITY, f64::max);
        let margin = match self.kind {
            Kind::Bars => 0.5,
            Kind::Lines if last > first => (last - first) * 0.04,
            Kind::Lines => 1.0,
        };
        Scale::exact((first - margin, last + margin), (inner.left, inner.right))
    }

    fn draw_axes(&self, canvas: &Canvas<'_>, inner: Frame, x: Scale, y: Scale) -> io::Result<()> {
        let at_left = Lettering {
            across: HPos::Right,
            ..Lettering::centred(12)
        };
        for (value, label) in y.ticks() {
            let height = y.place(value);
            canvas.line(&[(inner.left, height), (inner.right, height)], GRID, 1)?;
            canvas.text(&label, (inner.left - 6.0, height), at_left, INK)?;
        }
        let each = (inner.right - inner.left) / real(self.ticks.len().max(1));
        let mut free_from = f64::NEG_INFINITY;
        for (value, label) in &self.ticks {
            let across = x.place(*value);
            let lines = wrapped(label, each);
            let width = lines.iter().map(|line| line.chars().count()).max();
            let half = real(width.unwrap_or(0)) * 3.3;
            if self.kind == Kind::Lines {
                canvas.line(&[(across, inner.top), (across, inner.bottom)], GRID, 1)?;
                if across - half < free_from {
                    continue;
                }
            }
            free_from = across + half + 6.0;
            for (row, line) in lines.iter().enumerate() {
                let below = inner.bottom + 12.0 + 14.0 * real(row);
                canvas.text(line, (across, below), Lettering::centred(12), INK)?;
            }
        }
        let corner = (inner.left, inner.bottom);
        let axes = [(inner.left, inner.top), corner, (inner.right, inner.bottom)];
        canvas.line(&axes, INK, 1)?;
        let middle = f64::midpoint(inner.left, inner.right);
        canvas.text(
            self.x_title,
            (middle, inner.bottom + 34.0),
            Lettering::centred(13),
            INK,
        )?;
        let upright = Lettering {
            is_upright: true,
            ..Lettering::centred(13)
        };
        let height = f64::midpoint(inner.top, inner.bottom);
        let scale = if self.is_log { " (log scale)" } else { "" };
        let title = format!("{}{scale}", self.y_title);
        canvas.text(&title, (inner.left - LEFT + 16.0, height), upright, INK)
    }

    fn draw_bars(&self, canvas: &Canvas<'_>, inner: Frame, x: Scale, y: Scale) -> io::Result<()> {
        let group = (inner.right - inner.left) / real(self.ticks.len().max(1)) * 0.88;
        let width = group / real(self.series.len().max(1));
        for (index, series) in self.series.iter().enumerate() {
            let style = style::of(&series.subject);
            for (at, spread) in &series.points {
                let left = x.place(*at) - group / 2.0 + width * real(index);
                let middle = left + width / 2.0;
                let top = y.place(spread.median);
                canvas.rectangle((left + 1.0, top), (left + width - 1.0, y.base()), style)?;
                let ends = (y.place(spread.least), y.place(spread.most));
                canvas.line(&[(middle, ends.0), (middle, ends.1)], INK, 1)?;
                let Some(lettering) = label_of_bar(width, style.is_ours) else {
                    continue;
                };
                let above = (middle, top.min(ends.1) - 3.0);
                canvas.text(&number(spread.median), above, lettering, INK)?;
            }
        }
        Ok(())
    }

    fn draw_lines(&self, canvas: &Canvas<'_>, x: Scale, y: Scale) -> io::Result<()> {
        let is_ours = |series: &&Series| style::of(&series.subject).is_ours;
        let (ours, others): (Vec<_>, Vec<_>) = self.series.iter().partition(is_ours);
        for series in others.into_iter().chain(ours) {
            let style = style::of(&series.subject);
            let place = |(at, spread): &(f64, Spread)| (x.place(*at), y.place(spread.median));
            let points: Vec<(f64, f64)> = series.points.iter().map(place).collect();
            for (at, spread) in &series.points {
                let across = x.place(*at);
                let ends = [spread.least, spread.most].map(|end| (across, y.place(end)));
                canvas.line(&ends, style.colour, 1)?;
            }
            canvas.line(&points, style.colour, weight(style))?;
            for point in points {
                canvas.mark(point, style)?;
            }
        }
        Ok(())
    }
}

/// The value above a bar: across if there is room, else upright; none above very thin bars.
fn label_of_bar(width: f64, is_bold: bool) -> Option<Lettering> {
    let is_upright = width < 34.0;
    (width >= 8.0).then_some(Lettering {
        size: 11,
        is_bold,
        across: if is_upright { HPos::Left } else { HPos::Center },
        down: if is_upright {
            VPos::Center
        } else {
            VPos::Bottom
        },
        is_upright,
    })
}

/// A label in two lines, at its comma, where one is too wide.
fn wrapped(label: &str, width: f64) -> Vec<&str> {
    let is_wide = real(label.chars().count()) * 6.6 > width;
    match label.split_once(", ") {
        Some((first, second)) if is_wide => vec![first, second],
        _ => vec![label],
    }
}
