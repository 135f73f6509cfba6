//! What each subject looks like: the same in all plots.

use plotters::style::RGBColor;

/// Colour, mark and weight of a subject.
#[derive(Clone, Copy)]
pub(crate) struct Style {
    pub(crate) colour: RGBColor,
    pub(crate) mark: Mark,
    /// Drawn over the others, with heavier lines.
    pub(crate) is_ours: bool,
}

/// The shape at a measured point, so that colour is not all that tells lines apart.
#[derive(Clone, Copy)]
pub(crate) enum Mark {
    Circle,
    Square,
    Diamond,
    Up,
    Down,
}

pub(crate) const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(crate) const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

/// The style of a subject by its name.
pub(crate) fn of(subject: &str) -> Style {
    let (colour, mark) = match subject {
        "portway" => (0x00d7_191c, Mark::Circle),
        "portway-user" => (0x00f4_9a7a, Mark::Circle),
        "direct" => (0x0022_2222, Mark::Square),
        "floor" => (0x0094_9494, Mark::Square),
        "haproxy" => (0x0008_519c, Mark::Up),
        "haproxy-splice-64k" => (0x006b_aed6, Mark::Up),
        "haproxy-splice-1m" => (0x0000_a3a3, Mark::Down),
        "nginx" => (0x0023_8b45, Mark::Diamond),
        "envoy" => (0x007b_3fa0, Mark::Down),
        _ => (0x00b8_860b, Mark::Diamond),
    };
    let [_, red, green, blue] = u32::to_be_bytes(colour);
    Style {
        colour: RGBColor(red, green, blue),
        mark,
        is_ours: subject == "portway",
    }
}

impl Mark {
    /// The corners of the shape around a point, from its middle; none for a circle.
    pub(crate) const fn corners(self) -> &'static [(i32, i32)] {
        match self {
            Self::Circle => &[],
            Self::Square => &[(-1, -1), (1, -1), (1, 1), (-1, 1)],
            Self::Diamond => &[(0, -1), (1, 0), (0, 1), (-1, 0)],
            Self::Up => &[(0, -1), (1, 1), (-1, 1)],
            Self::Down => &[(0, 1), (1, -1), (-1, -1)],
        }
    }
}
