//! The sheet: title, panels side by side, one legend for all; and the few shapes they are made of.

use std::io;

use plotters::coord::Shift;
use plotters::prelude::{Circle, DrawingArea, IntoDrawingArea, PathElement, Polygon, Rectangle};
use plotters::prelude::{IntoFont, SVGBackend, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle, WHITE};

use super::super::figures::{Figures, real};
use super::panel::{Frame, Kind, Panel};
use super::style::{self, INK, Style};

const WIDTH: u32 = 920;
const HEIGHT: u32 = 520;
/// Pixels above the panels.
const TITLE: f64 = 38.0;
/// Pixels of a line of the legend.
const LEGEND: f64 = 22.0;
/// How wide a character of the legend may be: the reader's font is not known.
const CHARACTER: f64 = 6.5;

/// Where shapes are drawn, in pixels.
pub(crate) struct Canvas<'svg> {
    area: DrawingArea<SVGBackend<'svg>, Shift>,
}

/// How a text stands at its point.
#[derive(Clone, Copy)]
pub(crate) struct Lettering {
    pub(crate) size: i32,
    pub(crate) is_bold: bool,
    pub(crate) across: HPos,
    pub(crate) down: VPos,
    /// Upwards instead of to the right.
    pub(crate) is_upright: bool,
}

impl Lettering {
    /// Centred on its point.
    pub(crate) const fn centred(size: i32) -> Self {
        Self {
            size,
            is_bold: false,
            across: HPos::Center,
            down: VPos::Center,
            is_upright: false,
        }
    }
}

impl Canvas<'_> {
    /// Draws a whole plot.
    pub(crate) fn draw(title: &str, figures: &Figures, panels: &[Panel]) -> io::Result<String> {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE).map_err(io::Error::other)?;
        let canvas = Canvas { area };
        let width = f64::from(WIDTH);
        let heading = Lettering {
            is_bold: true,
            ..Lettering::centred(17)
        };
        canvas.text(title, (width / 2.0, 20.0), heading, INK)?;
        let kind = panels.first().map_or(Kind::Lines, |panel| panel.kind);
        let lines = legend(figures, panels);
        let bottom = f64::from(HEIGHT) - 8.0 - LEGEND * real(lines.len());
        for (row, line) in lines.iter().enumerate() {
            canvas.legend_line(line, bottom + LEGEND * (real(row) + 0.5), kind)?;
        }
        let each = width / real(panels.len().max(1));
        for (index, panel) in panels.iter().enumerate() {
            let left = each * real(index);
            panel.draw(
                &canvas,
                Frame {
                    left,
                    right: left + each,
                    top: TITLE,
                    bottom,
                },
            )?;
        }
        canvas.area.present().map_err(io::Error::other)?;
        drop(canvas);
        Ok(svg)
    }

    fn legend_line(&self, names: &[&str], y: f64, kind: Kind) -> io::Result<()> {
        let all: f64 = names.iter().map(|name| entry_width(name)).sum();
        let mut x = (f64::from(WIDTH) - all) / 2.0;
        for name in names {
            let style = style::of(name);
            match kind {
                Kind::Bars => {
                    self.rectangle((x + 4.0, y - 5.0), (x + 22.0, y + 5.0), style)?;
                }
                Kind::Lines => {
                    self.line(&[(x, y), (x + 26.0, y)], style.colour, weight(style))?;
                    self.mark((x + 13.0, y), style)?;
                }
            }
            let lettering = Lettering {
                is_bold: style.is_ours,
                across: HPos::Left,
                ..Lettering::centred(13)
            };
            self.text(name, (x + 32.0, y), lettering, INK)?;
            x += entry_width(name);
        }
        Ok(())
    }

    pub(crate) fn text(
        &self,
        text: &str,
        at: (f64, f64),
        lettering: Lettering,
        colour: RGBColor,
    ) -> io::Result<()> {
        let font = ("sans-serif", lettering.size).into_font();
        let font = if lettering.is_bold {
            font.style(FontStyle::Bold)
        } else {
            font
        };
        let font = if lettering.is_upright {
            font.transform(FontTransform::Rotate270)
        } else {
            font
        };
        let style = TextStyle::from(font)
            .color(&colour)
            .pos(Pos::new(lettering.across, lettering.down));
        let element = Text::new(text, pixel(at), style);
        self.area.draw(&element).map_err(io::Error::other)
    }

    pub(crate) fn line(
        &self,
        points: &[(f64, f64)],
        colour: RGBColor,
        width: u32,
    ) -> io::Result<()> {
        let points: Vec<(i32, i32)> = points.iter().copied().map(pixel).collect();
        let element = PathElement::new(points, colour.stroke_width(width));
        self.area.draw(&element).map_err(io::Error::other)
    }

    /// A filled bar; ours with an edge.
    pub(crate) fn rectangle(
        &self,
        one: (f64, f64),
        other: (f64, f64),
        style: Style,
    ) -> io::Result<()> {
        let corners = [pixel(one), pixel(other)];
        let bar = Rectangle::new(corners, style.colour.filled());
        self.area.draw(&bar).map_err(io::Error::other)?;
        if style.is_ours {
            let edge = Rectangle::new(corners, INK.stroke_width(2));
            self.area.draw(&edge).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The shape of a subject at a point.
    pub(crate) fn mark(&self, at: (f64, f64), style: Style) -> io::Result<()> {
        let (x, y) = pixel(at);
        let size = if style.is_ours { 6 } else { 5 };
        let fill: ShapeStyle = style.colour.filled();
        let corners = style.mark.corners();
        if corners.is_empty() {
            let circle = Circle::new((x, y), size, fill);
            return self.area.draw(&circle).map_err(io::Error::other);
        }
        let corners = corners
            .iter()
            .map(|(dx, dy)| (x + dx * size, y + dy * size));
        let polygon = Polygon::new(corners.collect::<Vec<_>>(), fill);
        self.area.draw(&polygon).map_err(io::Error::other)
    }
}

/// How thick a subject's line is.
pub(crate) const fn weight(style: Style) -> u32 {
    if style.is_ours { 4 } else { 2 }
}

/// The subjects that a panel shows, in as many lines as they need.
fn legend<'f>(figures: &'f Figures, panels: &[Panel]) -> Vec<Vec<&'f str>> {
    let is_shown = |name: &&str| panels.iter().any(|panel| panel.shows(name));
    let names: Vec<&str> = figures.subjects.iter().map(String::as_str).collect();
    let mut lines: Vec<Vec<&str>> = Vec::new();
    let mut room = 0.0;
    for name in names.into_iter().filter(is_shown) {
        let width = entry_width(name);
        match lines.last_mut() {
            Some(line) if width <= room => line.push(name),
            _ => {
                lines.push(vec![name]);
                room = f64::from(WIDTH) - 20.0;
            }
        }
        room -= width;
    }
    lines
}

fn entry_width(name: &str) -> f64 {
    40.0 + CHARACTER * real(name.chars().count())
}

#[expect(clippy::cast_possible_truncation, reason = "a place on the sheet")]
fn pixel((x, y): (f64, f64)) -> (i32, i32) {
    (x.round() as i32, y.round() as i32)
}
