//! `report.html`: the curves of a run, its figures, samples and recipe on one page that needs nothing else.

use std::fmt::Write as _;

use super::events::{Event, Found, Point};
use super::plan::Plan;

/// What the page shows.
pub struct Shown<'r> {
    /// Its title.
    pub title: &'r str,
    /// The settings.
    pub plan: &'r Plan,
    /// Every step.
    pub log: &'r [Point],
    /// Measurements, by the steps before them.
    pub evaluations: &'r [(usize, Found)],
    /// What else happened: samples and notes.
    pub events: &'r [Event],
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
/// Room for numbers left of and below a curve.
const LEFT: f64 = 64.0;
const BELOW: f64 = 28.0;

/// Points that a curve has at most: more are not seen.
const POINTS_MAX: usize = 2000;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:800px;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}td,th{padding:.2rem \
.8rem .2rem 0;text-align:left;vertical-align:top}pre{background:#f4f4f2;padding:.8rem;overflow:auto;white-space:pre-wrap}\
svg{width:100%;height:auto}.raw{fill:none;stroke:#b9cbe8;stroke-width:1}.line{fill:none;stroke:#2458a6;stroke-width:2}\
.held{fill:none;stroke:#c2541b;stroke-width:2}.dot{fill:#c2541b}.axis{stroke:#999;stroke-width:1}text{font-size:12px;\
fill:#555}@media(prefers-color-scheme:dark){body{background:#191919;color:#ddd}pre{background:#262626}text{fill:#aaa}\
.raw{stroke:#3c5273}.line{stroke:#7fb0ff}}";

/// The page.
pub fn page(shown: &Shown) -> String {
    let Shown { title, plan, log, evaluations, events } = shown;
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let steps = |value: &dyn Fn(&Point) -> f64| -> Vec<[f64; 2]> {
        log.iter().enumerate().map(|(at, point)| [(at + 1) as f64, value(point)]).collect()
    };
    let held: Vec<[f64; 2]> = evaluations.iter().map(|(step, found)| [*step as f64, found.loss]).collect();
    let raw = steps(&|point| point.loss);
    let smooth = smoothed(&raw);
    figures(&mut page, shown);
    page += "<h2>Loss</h2>\n<p>Each step pale, their running mean dark, the held-out part orange.</p>\n";
    page += &chart(&[("raw", &raw), ("line", &smooth)], &held, plan.steps);
    page += "<h2>Norm of the gradients</h2>\n";
    page += &chart(&[("line", &steps(&|point| point.norm))], &[], plan.steps);
    page += "<h2>Learning rate</h2>\n";
    page += &chart(&[("line", &steps(&|point| point.rate))], &[], plan.steps);
    said(&mut page, events);
    let _ = writeln!(page, "<h2>Recipe</h2>\n<pre>{}</pre>\n</body></html>", escaped(&plan.recipe.to_toml()));
    page
}

fn figures(page: &mut String, Shown { plan, log, evaluations, .. }: &Shown) {
    let skipped = log.iter().filter(|point| !(point.loss.is_finite() && point.norm.is_finite())).count();
    let tokens: f64 = log.iter().map(|point| point.tokens).sum();
    *page += "<table>\n";
    let mut row = |key: &str, value: String| {
        let _ = writeln!(page, "<tr><th>{key}</th><td>{value}</td></tr>");
    };
    row("steps", format!("{} of {}, {skipped} skipped", log.len(), plan.steps));
    row("tokens", format!("{tokens:.0}"));
    if let Some(last) = log.last() {
        row("last loss", format!("{:.4}", last.loss));
    }
    if let (Some((_, first)), Some((_, last))) = (evaluations.first(), evaluations.last()) {
        row(
            "held-out loss",
            format!("{:.4} ± {:.4} before, {:.4} ± {:.4} now", first.loss, first.stderr, last.loss, last.stderr),
        );
    }
    *page += "</table>\n";
}

fn said(page: &mut String, events: &[Event]) {
    let samples = events.iter().filter_map(|event| match event {
        Event::Sample { step, prompt, text } => Some((step, prompt, text)),
        _ => None,
    });
    let mut heading = "<h2>Samples</h2>\n";
    for (step, prompt, text) in samples {
        let _ = writeln!(page, "{heading}<p>After step {step}: {}</p><pre>{}</pre>", escaped(prompt), escaped(text));
        heading = "";
    }
    let mut heading = "<h2>Notes</h2>\n";
    for event in events {
        if let Event::Note { text } = event {
            let _ = writeln!(page, "{heading}<p>{}</p>", escaped(text));
            heading = "";
        }
    }
}

/// A running mean that starts at the first value.
fn smoothed(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let keep = 1.0 - 2.0 / (points.len() as f64 / 20.0).clamp(2.0, 50.0);
    let mut mean = f64::NAN;
    let next = |[x, y]: &[f64; 2]| {
        if y.is_finite() {
            mean = if mean.is_finite() { keep * mean + (1.0 - keep) * y } else { *y };
        }
        [*x, mean]
    };
    points.iter().map(next).collect()
}

fn chart(lines: &[(&str, &[[f64; 2]])], held: &[[f64; 2]], steps: usize) -> String {
    let all = lines.iter().flat_map(|(_, points)| points.iter()).chain(held).map(|[_, y]| *y).filter(|y| y.is_finite());
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    if low > high {
        return "<p>Nothing to show yet.</p>\n".to_owned();
    }
    let high = if high > low { high } else { low + low.abs().max(1e-9) };
    let x = |x: f64| LEFT + (WIDTH - LEFT - 8.0) * x / steps.max(1) as f64;
    let y = |y: f64| 8.0 + (HEIGHT - BELOW - 8.0) * (high - y) / (high - low);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
    let (bottom, right) = (HEIGHT - BELOW, WIDTH - 8.0);
    let _ = write!(svg, "<path class=\"axis\" d=\"M{LEFT} 8V{bottom}H{right}\" fill=\"none\"/>");
    for part in [0.0, 0.5, 1.0] {
        let (value, step) = (low + part * (high - low), part * steps as f64);
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y(value) + 4.0,
            short(value)
        );
        let _ =
            write!(svg, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{step:.0}</text>", x(step), HEIGHT - 8.0);
    }
    for (class, points) in lines.iter().copied().chain([("held", held)]) {
        let every = points.len().div_ceil(POINTS_MAX).max(1);
        let mut path = String::new();
        for [at, value] in points.iter().step_by(every).filter(|[_, value]| value.is_finite()) {
            let _ = write!(path, "{}{:.1} {:.1}", if path.is_empty() { 'M' } else { 'L' }, x(*at), y(*value));
        }
        let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    for [at, value] in held {
        let _ = write!(svg, "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x(*at), y(*value));
    }
    svg + "</svg>\n"
}

/// A number in few characters.
fn short(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) { format!("{value:.1e}") } else { format!("{value:.3}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_finite_values_and_nothing_from_a_text() {
        let points = [[1.0, 2.0], [2.0, f64::NAN], [3.0, 1.0]];
        let svg = chart(&[("line", &points)], &[[0.0, 3.0]], 3);
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{svg}");
        assert!(chart(&[("line", &[])], &[], 3).contains("Nothing"));
        assert_eq!(escaped("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }

    #[test]
    fn a_curve_that_stays_has_a_chart() {
        assert!(!chart(&[("line", &[[1.0, 0.0], [2.0, 0.0]])], &[], 2).contains("NaN"));
    }
}
