//! One picture: panels side by side, and a legend for all of them.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::super::figures::{Figures, Spread};
use super::super::names::number;

const SIZE: (u32, u32) = (1100, 520);
/// Pixels of the legend, at the right.
const LEGEND: u32 = 170;
/// Units of the x axis from one group of bars to the next.
pub(crate) const GROUP: i32 = 1000;
/// The least value on a logarithmic scale, which cannot show zero or less.
const LEAST: f64 = 1e-3;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

type Drawn<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;
type Area<'svg> = DrawingArea<SVGBackend<'svg>, Shift>;

/// How the points are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Side by side at each tick.
    Bars,
    /// From tick to tick.
    Lines,
}

/// A pair of axes and what is between them.
pub(crate) struct Panel {
    pub(crate) kind: Kind,
    /// The title above the axes; may be empty.
    pub(crate) title: String,
    pub(crate) x_title: &'static str,
    pub(crate) y_title: &'static str,
    /// Places on the x axis, with their labels.
    pub(crate) ticks: Vec<(i32, String)>,
    /// Whether the y axis is logarithmic.
    pub(crate) is_log: bool,
    pub(crate) series: Vec<Series>,
}

/// The points of one subject.
pub(crate) struct Series {
    pub(crate) subject: String,
    pub(crate) points: Vec<(i32, Spread)>,
}

/// Draws a whole picture.
pub(crate) fn draw(title: &str, figures: &Figures, panels: &[Panel]) -> Drawn<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (below, legend) =
        (area.titled(title, ("sans-serif", 18))?).split_horizontally(SIZE.0 - LEGEND);
    for (panel, area) in panels.iter().zip(below.split_evenly((1, panels.len()))) {
        panel.draw(&area)?;
    }
    let is_shown = |subject: &&String| panels.iter().any(|panel| panel.shows(subject));
    draw_legend(&legend, figures.subjects.iter().filter(is_shown))?;
    area.present()?;
    drop((area, below, legend));
    Ok(svg)
}

/// Draws the names beside their colours, with axes that are not visible.
fn draw_legend<'a>(area: &Area<'_>, subjects: impl Iterator<Item = &'a String>) -> Drawn {
    let mut chart = ChartBuilder::on(area).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    for subject in subjects {
        let style = colour(subject).filled();
        chart
            .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
            .label(subject)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], style));
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft);
    labels.label_font(("sans-serif", 13)).draw()?;
    Ok(())
}

impl Panel {
    pub(crate) fn on_log_scale(self) -> Self {
        Self {
            is_log: true,
            ..self
        }
    }

    fn shows(&self, subject: &str) -> bool {
        self.series.iter().any(|series| series.subject == subject)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let values = self.series.iter().flat_map(|series| &series.points);
        let values = values.flat_map(|(_, spread)| [spread.least, spread.most]);
        let high = values.clone().fold(LEAST, f64::max) * 1.1;
        if self.is_log {
            let low = values.fold(high, f64::min).max(LEAST) / 1.1;
            self.draw_on(area, (low..high).log_scale(), low)
        } else {
            self.draw_on(area, values.fold(0.0, f64::min)..high, 0.0)
        }
    }

    /// Draws on this y axis, with bars that begin at `base`.
    fn draw_on<Y>(&self, area: &Area<'_>, y: Y, base: f64) -> Drawn
    where
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let places: Vec<i32> = self.ticks.iter().map(|(at, _)| *at).collect();
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .caption(&self.title, ("sans-serif", 15))
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(self.width().with_key_points(places), y)?;
        let label = |at: &i32| {
            let found = self.ticks.iter().find(|(tick, _)| tick == at);
            found.map_or_else(String::new, |(_, label)| label.clone())
        };
        let scale = if self.is_log { " (log scale)" } else { "" };
        let mut mesh = chart.configure_mesh();
        if self.kind == Kind::Bars {
            mesh.disable_x_mesh();
        }
        mesh.x_labels(self.ticks.len())
            .x_label_formatter(&label)
            .y_label_formatter(&|value| number(*value).trim_end_matches(".000").to_owned())
            .x_desc(self.x_title)
            .y_desc(format!("{}{scale}", self.y_title))
            .axis_style(INK)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style(("sans-serif", 12))
            .axis_desc_style(("sans-serif", 13))
            .draw()?;
        for (index, series) in (0..).zip(&self.series) {
            self.draw_series(&mut chart, index, series, base)?;
        }
        Ok(())
    }

    fn draw_series<X, Y>(
        &self,
        chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
        index: i32,
        series: &Series,
        base: f64,
    ) -> Drawn
    where
        X: Ranged<ValueType = i32>,
        Y: Ranged<ValueType = f64>,
    {
        let colour = colour(&series.subject);
        let (left, width) = self.bar(index);
        let points = || series.points.iter();
        let mut spread_in = INK;
        if self.kind == Kind::Bars {
            chart.draw_series(points().map(|(at, spread)| {
                let corners = [(at + left, base), (at + left + width, spread.median)];
                Rectangle::new(corners, colour.filled())
            }))?;
            let upright = ("sans-serif", 11).into_font();
            let upright = upright.transform(FontTransform::Rotate270);
            chart.draw_series(points().map(|(at, spread)| {
                let median = format!(" {}", number(spread.median));
                Text::new(median, (at + left, spread.most), upright.clone())
            }))?;
        } else {
            let line = points().map(|(at, spread)| (*at, spread.median.max(base)));
            let is_ours = series.subject == "portway";
            let style = colour.stroke_width(if is_ours { 4 } else { 2 });
            chart.draw_series(LineSeries::new(line, style))?;
            spread_in = colour;
        }
        chart.draw_series(points().map(|(at, spread)| {
            let values = [spread.least, spread.median, spread.most];
            let [least, median, most] = values.map(|value| value.max(base));
            let middle = at + left + width / 2;
            ErrorBar::new_vertical(middle, least, median, most, spread_in.filled(), 6)
        }))?;
        Ok(())
    }

    /// From the first place to the last, with some room.
    fn width(&self) -> Range<i32> {
        let places = || self.ticks.iter().map(|(at, _)| *at);
        let (first, last) = (places().min().unwrap_or(0), places().max().unwrap_or(0));
        let room = match self.kind {
            Kind::Lines if last > first => (last - first) / 25,
            Kind::Bars | Kind::Lines => GROUP / 2,
        };
        first - room..last + room
    }

    /// The start of a series' bar, relative to its tick, and its width. Lines start at the tick.
    fn bar(&self, index: i32) -> (i32, i32) {
        if self.kind == Kind::Lines {
            return (0, 0);
        }
        let bars = i32::try_from(self.series.len()).unwrap_or(GROUP);
        // The space of one more bar separates the groups.
        let width = GROUP / (bars + 1);
        (width * index - width * bars / 2, width)
    }
}

/// The colour of a subject, the same in all pictures.
fn colour(subject: &str) -> RGBColor {
    match subject {
        "portway" => RGBColor(0xd7, 0x19, 0x1c),
        "portway-user" => RGBColor(0xf4, 0x9a, 0x7a),
        "direct" => INK,
        "floor" => RGBColor(0x94, 0x94, 0x94),
        "haproxy" => RGBColor(0x08, 0x51, 0x9c),
        "haproxy-splice-64k" => RGBColor(0x6b, 0xae, 0xd6),
        "haproxy-splice-1m" => RGBColor(0x00, 0xa3, 0xa3),
        "nginx" => RGBColor(0x23, 0x8b, 0x45),
        "envoy" => RGBColor(0x7b, 0x3f, 0xa0),
        _ => RGBColor(0xb8, 0x86, 0x0b),
    }
}
