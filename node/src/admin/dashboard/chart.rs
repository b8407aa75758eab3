//! Charts as SVG of our own, drawn by the node: they are there without any script.

use std::fmt::Write;

use super::{history::MOST_SAMPLES, html::Html};

/// The height of the drawing, in its own units; its width is one for each second.
const HEIGHT: f64 = 40.0;

/// A line of a chart.
pub(super) struct Line {
    /// What it shows.
    pub(super) name: &'static str,
    /// Its values, oldest first; none where nothing is known.
    pub(super) values: Vec<Option<f64>>,
}

/// A chart.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What stands behind each figure.
    pub(super) unit: &'static str,
    /// The lines, most important last: it is drawn on top.
    pub(super) lines: Vec<Line>,
}

impl Chart {
    /// Draws it: title, figures of now, drawing.
    pub(super) fn draw(&self, html: &mut Html) {
        let highest = self.lines.iter().flat_map(|line| line.values.iter().flatten()).copied().fold(0.0, f64::max);
        let top = round_up(highest);
        html.put(
            "<figure class=\"chart\"><figcaption>{}<span class=\"top\">{}{}</span></figcaption>",
            &[&self.title, &figure(top), &self.unit],
        );
        html.put(
            "<svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{} in the last two minutes, at most {}{}\">",
            &[&(MOST_SAMPLES - 1), &HEIGHT, &self.title, &figure(highest), &self.unit],
        );
        html.put("<path class=\"grid\" d=\"M0 0H119M0 20H119M0 40H119\"/>", &[]);
        for (at, line) in self.lines.iter().enumerate() {
            let drawn = path(&line.values, top);
            html.put("<path class=\"line line-{}\" d=\"{}\"/>", &[&at, &drawn]);
        }
        html.put("</svg><ul class=\"legend\">", &[]);
        for (at, line) in self.lines.iter().enumerate() {
            let now = line.values.last().copied().flatten().map_or_else(|| "–".to_owned(), figure);
            html.put("<li class=\"key-{}\">{} <b>{}</b></li>", &[&at, &line.name, &now]);
        }
        html.put("</ul></figure>", &[]);
    }
}

/// The path of a line; it begins anew behind what is not known. The newest value stands at the right.
fn path(values: &[Option<f64>], top: f64) -> String {
    let mut path = String::new();
    let mut is_drawing = false;
    let first = MOST_SAMPLES.saturating_sub(values.len());
    for (at, value) in values.iter().enumerate() {
        if let Some(value) = value {
            let y = HEIGHT - value / top * HEIGHT;
            // Writing to a text does not fail.
            let _ = write!(path, "{}{} {y:.1}", if is_drawing { 'L' } else { 'M' }, first + at);
        }
        is_drawing = value.is_some();
    }
    path
}

/// The next of 1, 2, 5, 10, 20, … that is not below: so the scale does not change with each sample.
fn round_up(highest: f64) -> f64 {
    if highest <= 0.0 {
        return 1.0;
    }
    let least = highest.max(0.01);
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least * 0.999_999).unwrap_or(least)
}

/// A figure for people, in three digits or so: `0`, `0.42`, `12.3`, `340`, `12.3 k`, `1.2 M`.
pub(super) fn figure(value: f64) -> String {
    match value {
        v if v <= 0.0 => "0".to_owned(),
        v if v < 1.0 => trimmed(format!("{v:.2}")),
        v if v < 100.0 => trimmed(format!("{v:.1}")),
        v if v < 10_000.0 => format!("{v:.0}"),
        v if v < 1e6 => format!("{} k", trimmed(format!("{:.1}", v / 1e3))),
        v => format!("{} M", trimmed(format!("{:.1}", v / 1e6))),
    }
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_round_and_not_below() {
        assert_eq!([0.0, 0.3, 1.0, 1.1, 42.0, 99_000.0].map(round_up), [1.0, 0.5, 1.0, 2.0, 50.0, 100_000.0]);
        assert_eq!([0.0, 0.5, 12.0, 345.6, 12_300.0, 1.0e6].map(figure), ["0", "0.5", "12", "346", "12.3 k", "1 M"]);
    }

    #[test]
    fn a_line_stands_at_the_right_and_stops_where_nothing_is_known() {
        assert_eq!(path(&[Some(0.0), Some(5.0), None, Some(10.0)], 10.0), "M116 40.0L117 20.0M119 0.0");
        assert_eq!(path(&[], 1.0), "");
        assert_eq!(MOST_SAMPLES, 120, "the grid is drawn as wide as the lines");
    }
}
