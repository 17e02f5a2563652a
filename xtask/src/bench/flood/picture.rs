//! The figures as a picture (SVG): a panel for each subject, all on the same scales, time on the wall to the right and
//! latency upwards, logarithmic. Own lines, not a crate: a style sheet of its own lets one file be read in light and dark.

use std::fmt::Write as _;

use load::summary::Latency;

use super::figures::{Figures, Point};
use super::{Object, Schedule};
use crate::demo::number;

const WIDTH: f64 = 920.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 16.0;
/// Above the first panel: title and key.
const HEAD: f64 = 84.0;
/// Above each panel: what it shows.
const CAPTION: f64 = 26.0;
const PANEL: f64 = 138.0;
const BETWEEN: f64 = 16.0;
/// Below the last panel: the axis.
const FOOT: f64 = 46.0;
/// The lowest latency shown.
const LEAST_MS: f64 = 1.0;
/// The highest is the first of these decades that all lie below, at least the first.
const DECADES_MIN: i32 = 2;
const DECADES_MAX: i32 = 6;
/// Ticks of the time axis, in seconds: the first of these that leaves at most so many.
const STEPS_SECS: [u32; 6] = [1, 5, 10, 30, 60, 300];
const TICKS_MAX: u32 = 14;

/// Colours that differ in lightness too (Okabe and Ito's), so that nobody has to tell them apart by hue.
const STYLE: &str = "
  text { font: 12px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
  .title { font-size: 17px; font-weight: 600 }
  .name { font-size: 13px; font-weight: 600 }
  .small { fill: #57606a }
  .ground { fill: #ffffff }
  .panel { fill: none; stroke: #8c959f }
  .grid { stroke: #d8dee4; fill: none }
  .wave { fill: #f2e3bf }
  .dots { stroke: #57606a; stroke-width: 2.4; stroke-linecap: round; stroke-opacity: .45; fill: none }
  .lost { stroke: #a40e26; stroke-width: 1.4; fill: none }
  .p50 { stroke: #0072b2; stroke-width: 2.2; fill: none }
  .p99 { stroke: #c04a00; stroke-width: 2.2; fill: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9ea7b3 }
    .ground { fill: #0d1117 }
    .panel { stroke: #6e7681 }
    .grid { stroke: #262c36 }
    .wave { fill: #33290f }
    .dots { stroke: #b1bac4 }
    .lost { stroke: #ff7b72 }
    .p50 { stroke: #56b4e9 }
    .p99 { stroke: #e69f00 }
  }
";

/// Draws it.
pub(super) fn draw(object: &Object) -> String {
    let scale = Scale::of(object);
    let height = panel_top(object.rows.len()) - CAPTION - BETWEEN + FOOT;
    let mut svg = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Honest mail under a flood of forged bounces</title>\n\
         <desc>Latency of honest mail over time, a panel for each server. Drawn by cargo xtask bench flood --svg.</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    );
    head(&mut svg, object);
    for (place, row) in object.rows.iter().enumerate() {
        panel(&mut svg, &scale, &object.schedule, row, panel_top(place), place + 1 == object.rows.len());
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel_top(place: usize) -> f64 {
    HEAD + CAPTION + place as f64 * (CAPTION + PANEL + BETWEEN)
}

/// From seconds and milliseconds to places on the picture.
struct Scale {
    secs: f64,
    decades: i32,
}

impl Scale {
    fn of(object: &Object) -> Self {
        let last = object.schedule.waves().last().map_or(1.0, |(_, end)| end);
        let most = object.rows.iter().flat_map(|row| &row.messages).map(|point| point.ms).fold(0.0, f64::max);
        let decades = (most / LEAST_MS).max(1.0).log10().ceil() as i32;
        Self { secs: last, decades: decades.clamp(DECADES_MIN, DECADES_MAX) }
    }

    fn x(&self, secs: f64) -> f64 {
        LEFT + (secs / self.secs).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// From the panel's top.
    fn y(&self, ms: f64) -> f64 {
        let share = (ms.max(LEAST_MS) / LEAST_MS).log10() / f64::from(self.decades);
        PANEL * (1.0 - share.min(1.0))
    }
}

fn head(svg: &mut String, object: &Object) {
    let schedule = &object.schedule;
    text(svg, LEFT, 26.0, "title", "start", "Honest mail under a flood of forged bounces");
    let what = format!(
        "{} honest messages a second, from the first SYN to the 250 after the final dot, further tries included",
        schedule.honest_per_sec
    );
    text(svg, LEFT, 46.0, "small", "start", &what);
    let wave = format!(
        "a wave: {} forged bounces a second from {} servers{}",
        number(u64::from(schedule.forged_per_sec)),
        schedule.reflectors,
        if schedule.bots > 0 { format!(", and {} bots", schedule.bots) } else { String::new() }
    );
    let secs = bin_secs(schedule);
    let (dots, p50, p99) =
        ("one message".to_owned(), format!("median of {secs} s"), format!("99 of 100, of {secs} s"));
    let y = 68.0;
    let mut x = LEFT;
    let lost = object.rows.iter().flat_map(|row| &row.messages).any(|point| !point.delivered);
    let mut entry = |mark: &dyn Fn(f64) -> String, label: &str| {
        svg.push_str(&mark(x));
        text(svg, x + 26.0, y, "small", "start", label);
        x += 26.0 + label.chars().count() as f64 * 6.3 + 18.0;
    };
    let line =
        |class: &'static str| move |x: f64| format!("<path class=\"{class}\" d=\"M{x} {}h20\"/>\n", y - 4.0);
    entry(
        &|x| format!("<path class=\"dots\" style=\"stroke-opacity:1\" d=\"M{} {}h0\"/>\n", x + 16.0, y - 4.0),
        &dots,
    );
    entry(&line("p50"), &p50);
    entry(&line("p99"), &p99);
    if lost {
        entry(&|x| format!("<path class=\"lost\" d=\"{}\"/>\n", cross(x + 14.0, y - 4.0)), "never taken");
    }
    entry(
        &|x| format!("<rect class=\"wave\" x=\"{x}\" y=\"{}\" width=\"20\" height=\"12\"/>\n", y - 10.0),
        &wave,
    );
}

fn panel(svg: &mut String, scale: &Scale, schedule: &Schedule, row: &Figures, top: f64, last: bool) {
    let (left, width) = (LEFT, WIDTH - LEFT - RIGHT);
    text(svg, left, top - 8.0, "name", "start", &row.what);
    text(svg, WIDTH - RIGHT, top - 8.0, "small", "end", &caption(row));
    for (begin, end) in schedule.waves() {
        let (x, to) = (scale.x(begin), scale.x(end));
        let _ = writeln!(
            svg,
            "<rect class=\"wave\" x=\"{x:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{PANEL}\"/>",
            to - x
        );
    }
    for decade in 0..=scale.decades {
        let ms = LEAST_MS * 10f64.powi(decade);
        let y = top + scale.y(ms);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{left} {y:.1}h{width}\"/>");
        text(svg, left - 8.0, y + 4.0, "small", "end", &duration(ms));
    }
    let mut dots = String::new();
    let mut crosses = String::new();
    for point in &row.messages {
        let (x, y) = (scale.x(point.at), top + scale.y(point.ms));
        if point.at > scale.secs {
            continue;
        } else if point.delivered {
            let _ = write!(dots, "M{x:.1} {y:.1}h0");
        } else {
            crosses.push_str(&cross(x, y));
        }
    }
    let _ = writeln!(svg, "<path class=\"dots\" d=\"{dots}\"/>");
    if !crosses.is_empty() {
        let _ = writeln!(svg, "<path class=\"lost\" d=\"{crosses}\"/>");
    }
    let bins = bins(schedule, &row.messages);
    for class in ["p50", "p99"] {
        let level = |bin: &Latency| top + scale.y(if class == "p50" { bin.p50 } else { bin.p99 });
        let levels = bins.iter().map(|(begin, end, bin)| (scale.x(*begin), scale.x(*end), level(bin)));
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{}\"/>", steps(levels));
    }
    let _ = writeln!(
        svg,
        "<rect class=\"panel\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{PANEL}\"/>"
    );
    if last {
        axis(svg, scale, top + PANEL);
    }
}

/// What became of the honest mail, in one line.
fn caption(row: &Figures) -> String {
    let Figures { honest, real_bounces, latency_ms, .. } = row;
    let (sent, once) = (honest.sent + real_bounces.sent, honest.once + real_bounces.once);
    format!(
        "{} of {} arrived, once; 99 of 100 within {} in the calm, {} in the waves",
        number(once),
        number(sent),
        duration(latency_ms.calm.p99),
        duration(latency_ms.waves.p99)
    )
}

fn axis(svg: &mut String, scale: &Scale, y: f64) {
    let step = STEPS_SECS.into_iter().find(|step| scale.secs / f64::from(*step) <= f64::from(TICKS_MAX));
    let step = f64::from(step.unwrap_or(STEPS_SECS[STEPS_SECS.len() - 1]));
    let mut secs = 0.0;
    while secs <= scale.secs {
        let x = scale.x(secs);
        let _ = writeln!(svg, "<path class=\"panel\" d=\"M{x:.1} {y}v5\"/>");
        text(svg, x, y + 18.0, "small", "middle", &format!("{secs}"));
        secs += step;
    }
    text(svg, (LEFT + WIDTH - RIGHT) / 2.0, y + 36.0, "small", "middle", "seconds");
}

/// How long the lines' steps are: waves and calm are made of whole ones, as far as they can be.
fn bin_secs(schedule: &Schedule) -> u32 {
    schedule.gap_secs.max(1)
}

/// Begin, end and latency of each step in which messages began.
fn bins(schedule: &Schedule, messages: &[Point]) -> Vec<(f64, f64, Latency)> {
    let secs = f64::from(bin_secs(schedule));
    let end = schedule.waves().last().map_or(0.0, |(_, end)| end);
    let mut bins = Vec::new();
    let mut begin = 0.0;
    while begin < end {
        let within = (begin..begin + secs).clone();
        let micros: Vec<u64> = messages
            .iter()
            .filter(|point| within.contains(&point.at))
            .map(|point| (point.ms * 1000.0) as u64)
            .collect();
        if !micros.is_empty() {
            bins.push((begin, (begin + secs).min(end), Latency::of(micros)));
        }
        begin += secs;
    }
    bins
}

/// A line of levels, joined upright.
fn steps(levels: impl Iterator<Item = (f64, f64, f64)>) -> String {
    let mut path = String::new();
    for (x, to, y) in levels {
        let begin = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{begin}{x:.1} {y:.1}H{to:.1}");
    }
    path
}

fn cross(x: f64, y: f64) -> String {
    format!("M{:.1} {:.1}l5 5m0 -5l-5 5", x - 2.5, y - 2.5)
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

/// Milliseconds, in the unit that suits.
fn duration(ms: f64) -> String {
    match ms {
        10_000.0.. => format!("{:.0} s", ms / 1000.0),
        1000.0.. => format!("{} s", (ms / 100.0).round() / 10.0),
        10.0.. => format!("{ms:.0} ms"),
        _ => format!("{} ms", (ms * 10.0).round() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: f64, ms: f64) -> Point {
        Point { at, ms, delivered: true, mailbox_ms: None }
    }

    #[test]
    fn a_step_is_of_the_messages_that_began_in_it() {
        let schedule = Schedule {
            warm_up_secs: 0,
            calm_secs: 5,
            waves: 1,
            wave_secs: 5,
            gap_secs: 5,
            honest_per_sec: 1,
            forged_per_sec: 1,
            reflectors: 1,
            bots: 0,
            knocks_per_sec: 0,
        };
        let bins = bins(&schedule, &[point(1.0, 2.0), point(4.9, 4.0), point(5.0, 9.0), point(11.0, 1.0)]);
        let told: Vec<_> = bins.iter().map(|(begin, end, bin)| (*begin, *end, bin.p50, bin.p99)).collect();
        assert_eq!(told, [(0.0, 5.0, 2.0, 4.0), (5.0, 10.0, 9.0, 9.0)]);
    }

    #[test]
    fn a_decade_is_as_high_as_the_next() {
        let scale = Scale { secs: 100.0, decades: 3 };
        let heights = [1.0, 10.0, 100.0, 1000.0].map(|ms| scale.y(ms));
        assert!(heights.windows(2).all(|pair| (pair[0] - pair[1] - PANEL / 3.0).abs() < 1e-9), "{heights:?}");
        assert!((scale.x(0.0) - LEFT).abs() < 1e-9 && (scale.x(200.0) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    #[test]
    fn what_is_written_is_text_not_markup() {
        let mut svg = String::new();
        text(&mut svg, 1.0, 2.0, "small", "end", "a < b & c");
        assert_eq!(
            svg,
            "<text class=\"small\" x=\"1.0\" y=\"2.0\" text-anchor=\"end\">a &lt; b &amp; c</text>\n"
        );
    }

    #[test]
    fn durations_are_in_the_unit_that_suits() {
        let shown = [2.345, 10.6, 999.0, 1234.0, 100_000.0].map(duration);
        assert_eq!(shown, ["2.3 ms", "11 ms", "999 ms", "1.2 s", "100 s"]);
    }
}
