//! Where the time of an exchange went, as a drawing on the clock of its check.
//!
//! Drawings are SVG, [`WIDE`] units wide whatever they show and stretched to the room there is. Numbers stand beside them in words.

use std::fmt::Write as _;

use crate::evidence::Evidence;
use crate::exchange::{Exchange, Kind, Measured, Phase};

/// Width of a drawing in its own units.
const WIDE: f64 = 1_000.0;
/// What follows the check is measured by this many exchanges from the end: the last ones to begin are among the last to end.
const LAST: usize = 64;
/// A strip begins below the smallest value, and ends behind the largest, by this factor at least.
const HEADROOM: f64 = 1.25;
/// No clock is shorter, in milliseconds.
const SHORTEST_MS: f64 = 1e-3;

/// The stretch of time that a drawing shows, in milliseconds from the start of the check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    from_ms: f64,
    to_ms: f64,
}

impl Clock {
    /// Of what the check itself did: from its start to the end of its cleaning up.
    pub(super) fn check(evidence: &Evidence) -> Self {
        Self { from_ms: 0.0, to_ms: evidence.duration_ms.max(SHORTEST_MS) }
    }

    /// The clock that an exchange is drawn on. Experiments come after the check, and may take far longer: theirs is a second one.
    pub(super) fn of(evidence: &Evidence, phase: Phase) -> Self {
        let check = Self::check(evidence);
        if phase != Phase::Diagnosis {
            return check;
        }
        let ends = evidence.exchanges.iter().rev().take(LAST).map(end_ms);
        Self { from_ms: check.to_ms, to_ms: ends.fold(check.to_ms + SHORTEST_MS, f64::max) }
    }

    /// Where a moment is drawn, in units; moments outside are drawn at the edge.
    fn x(self, at_ms: f64) -> f64 {
        ((at_ms - self.from_ms) / (self.to_ms - self.from_ms) * WIDE).clamp(0.0, WIDE)
    }
}

/// When the last of an exchange was seen, in milliseconds from the start of the check.
fn end_ms(x: &Exchange) -> f64 {
    let frame = x.frames.last().map_or(0.0, |frame| frame.at_ms);
    x.started_ms + x.timing.total_ms.or(x.timing.first_byte_ms).unwrap_or_default().max(frame)
}

/// A step of an exchange: its class in the style sheet, from and to, in milliseconds from the start of the check.
type Segment = (&'static str, f64, f64);

/// The steps of an exchange, in order, without gaps.
fn segments(x: &Exchange, clock: Clock) -> Vec<Segment> {
    let timing = &x.timing;
    let mut all = Vec::with_capacity(5);
    let mut at = x.started_ms;
    for (class, took) in [("dns", timing.dns_ms), ("tcp", timing.tcp_ms), ("tls", timing.tls_ms)] {
        if let Some(took) = took {
            all.push((class, at, at + took));
            at += took;
        }
    }
    let over = timing.total_ms.map(|total| x.started_ms + total);
    let first = timing.first_byte_ms.map(|first| (x.started_ms + first).max(at));
    // Without an answer it waited to its end; without an end, to that of the check.
    let end = over.unwrap_or(clock.to_ms).max(at);
    all.push((if first.is_none() && over.is_none() { "open" } else { "wait" }, at, first.unwrap_or(end)));
    if let Some(first) = first {
        let rest = if x.kind == Kind::WebSocket { "socket" } else { "body" };
        all.push((rest, first, end.max(first)));
    }
    all
}

/// Draws an exchange: its steps as bars, its start as a line, frames as marks, ours below and theirs above.
pub(super) fn draw(out: &mut String, x: &Exchange, clock: Clock) {
    out.push_str("<svg class=\"w\" viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    for (class, from, to) in segments(x, clock) {
        let (from, to) = (clock.x(from), clock.x(to));
        if to > from {
            let _ = write!(out, "<rect class=\"{class}\" x=\"{from:.1}\" y=\"4\" width=\"{:.1}\" height=\"8\"/>", to - from);
        }
    }
    let _ = write!(out, "<path class=\"start\" d=\"M{:.1} 3v10\"/>", clock.x(x.started_ms));
    for (sent, class, y) in [(false, "in", "1v5"), (true, "out", "10v5")] {
        marks(out, x, clock, sent, class, y);
    }
    out.push_str("</svg>");
}

/// Marks frames of one direction; those that would fall on one spot are one mark, so there are never more than [`WIDE`].
fn marks(out: &mut String, x: &Exchange, clock: Clock, sent: bool, class: &str, y: &str) {
    let mut before = f64::NAN;
    for frame in x.frames.iter().filter(|frame| frame.sent == sent) {
        let at = clock.x(x.started_ms + frame.at_ms).round();
        if before.is_nan() {
            let _ = write!(out, "<path class=\"{class}\" d=\"");
        }
        if before.total_cmp(&at).is_ne() {
            let _ = write!(out, "M{at} {y}");
        }
        before = at;
    }
    if !before.is_nan() {
        out.push_str("\"/>");
    }
}

/// Draws the samples of a route: each a tick, the median a taller one, the limits of median and tail as lines. The scale is
/// logarithmic, with a line a decade: samples of one millisecond and a limit of hundreds are both to be seen.
pub(super) fn strip(measured: &Measured) -> String {
    let samples = &measured.samples_ms;
    let limits = [measured.median_limit_ms, measured.tail_limit_ms];
    let values = || samples.iter().chain(&limits).map(|ms| ms.max(SHORTEST_MS));
    // So that nothing stands on the left edge.
    let from = (values().fold(f64::INFINITY, f64::min) / HEADROOM).log10().floor();
    let to = (values().fold(SHORTEST_MS, f64::max) * HEADROOM).log10();
    let x = |ms: f64| (ms.max(SHORTEST_MS).log10() - from) / (to - from) * WIDE;
    let mut out = String::from("<svg class=\"strip\" viewBox=\"0 0 1000 28\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    let [median_limit, tail_limit] = limits.map(x);
    let _ = write!(out, "<rect class=\"within\" x=\"0\" y=\"0\" width=\"{median_limit:.1}\" height=\"28\"/>");
    let lines = |out: &mut String, class: &str, down: &str, at: &mut dyn Iterator<Item = f64>| {
        let _ = write!(out, "<path class=\"{class}\" d=\"");
        for at in at {
            let _ = write!(out, "M{at:.1} {down}");
        }
        out.push_str("\"/>");
    };
    let decades = std::iter::successors(Some(from + 1.0), |at| Some(at + 1.0)).take_while(|at| *at < to);
    lines(&mut out, "decade", "0v28", &mut decades.map(|at| x(10_f64.powf(at))));
    lines(&mut out, "tick", "8v12", &mut samples.iter().map(|ms| x(*ms)));
    if !samples.is_empty() {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        lines(&mut out, "median", "3v22", &mut std::iter::once(x(crate::history::median(&sorted))));
    }
    lines(&mut out, "limit", "0v28", &mut std::iter::once(median_limit));
    lines(&mut out, "limit tail", "0v28", &mut std::iter::once(tail_limit));
    out.push_str("</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Frame, Recorder};

    fn exchange(kind: Kind, change: impl FnOnce(&mut Exchange)) -> Exchange {
        let recorder = Recorder::new();
        recorder.begin(kind, "alice", true, "GET", "https://host/");
        let mut x = recorder.all().remove(0);
        x.started_ms = 100.0;
        change(&mut x);
        x
    }

    const CLOCK: Clock = Clock { from_ms: 0.0, to_ms: 1_000.0 };

    #[test]
    fn steps_follow_each_other_from_the_start_to_the_last_byte() {
        let x = exchange(Kind::Http, |x| {
            (x.timing.dns_ms, x.timing.tcp_ms, x.timing.tls_ms) = (Some(1.0), Some(2.0), Some(3.0));
            (x.timing.first_byte_ms, x.timing.total_ms) = (Some(20.0), Some(50.0));
        });
        let wanted =
            [("dns", 100.0, 101.0), ("tcp", 101.0, 103.0), ("tls", 103.0, 106.0), ("wait", 106.0, 120.0), ("body", 120.0, 150.0)];
        assert_eq!(segments(&x, CLOCK), wanted);
    }

    #[test]
    fn without_an_answer_it_waits_to_its_end_and_without_an_end_to_that_of_the_check() {
        let x = exchange(Kind::Http, |x| x.timing.total_ms = Some(30.0));
        assert_eq!(segments(&x, CLOCK), [("wait", 100.0, 130.0)]);
        let x = exchange(Kind::Http, |_| ());
        assert_eq!(segments(&x, CLOCK), [("open", 100.0, 1_000.0)]);
        let x = exchange(Kind::WebSocket, |x| x.timing.first_byte_ms = Some(5.0));
        assert_eq!(segments(&x, CLOCK), [("wait", 100.0, 105.0), ("socket", 105.0, 1_000.0)]);
    }

    #[test]
    fn moments_outside_the_clock_are_drawn_at_its_edge() {
        let clock = Clock { from_ms: 100.0, to_ms: 300.0 };
        let drawn = [50.0, 100.0, 200.0, 300.0, 900.0].map(|at| clock.x(at).to_string());
        assert_eq!(drawn, ["0", "0", "500", "1000", "1000"]);
    }

    #[test]
    fn frames_are_marked_theirs_above_ours_below() {
        let x = exchange(Kind::WebSocket, |x| {
            x.timing.total_ms = Some(200.0);
            let frame = |at_ms, sent| Frame { at_ms, sent, text: String::new() };
            x.frames = vec![frame(50.0, false), frame(100.0, true), frame(150.0, false), frame(150.1, false)];
        });
        let mut out = String::new();
        draw(&mut out, &x, CLOCK);
        assert!(out.contains("<path class=\"in\" d=\"M150 1v5M250 1v5\"/><path class=\"out\" d=\"M200 10v5\"/>"), "{out}");
    }

    #[test]
    fn a_strip_shows_samples_median_and_limits_on_one_scale() {
        let measured = Measured {
            route: "GET /health".to_owned(),
            samples_ms: vec![10.0, 2.0, 1_000.0 / HEADROOM],
            median_limit_ms: 10.0,
            tail_limit_ms: 100.0,
        };
        let out = strip(&measured);
        // Three decades.
        assert!(out.contains("class=\"tick\" d=\"M333.3 8v12M100.3 8v12M967.7 8v12\""), "{out}");
        assert!(out.contains("class=\"decade\" d=\"M333.3 0v28M666.7 0v28\""), "{out}");
        assert!(out.contains("class=\"median\" d=\"M333.3 3v22\""), "{out}");
        assert!(
            out.contains("class=\"limit\" d=\"M333.3 0v28\"") && out.contains("class=\"limit tail\" d=\"M666.7 0v28\""),
            "{out}"
        );
    }
}
