//! Figures in words.

use crate::time::parse_iso;

/// Milliseconds, with as many digits as help: `0.7 ms`, `44 ms`, `1.04 s`.
pub(super) fn took(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 99_950.0 => format!("{:.2} s", ms / 1e3),
        ms => format!("{:.0} s", ms / 1e3),
    }
}

/// Bytes in decimal units: `317 B`, `1.2 kB`, `3.4 MB`.
pub(super) fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let n = n as f64;
    match n {
        n if n < 1e3 => format!("{n:.0} B"),
        n if n < 1e6 => format!("{:.1} kB", n / 1e3),
        n => format!("{:.1} MB", n / 1e6),
    }
}

/// An ISO 8601 time to the second, in UTC; any other text as it is.
pub(super) fn when(iso: &str) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "whole seconds are meant, and no clock is centuries off")]
    let moment = parse_iso(iso).and_then(|at| jiff::Timestamp::from_second(at as i64).ok());
    moment.map_or_else(|| iso.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_as_many_digits_as_help() {
        assert_eq!(
            [0.02, 9.94, 9.96, 999.4, 999.6, 20_004.0, 120_000.0].map(took).join(" "),
            "0.0 ms 9.9 ms 10 ms 999 ms 1.00 s 20.00 s 120 s"
        );
        assert_eq!([0, 999, 1_250, 3_400_000].map(bytes).join(" "), "0 B 999 B 1.2 kB 3.4 MB");
        assert_eq!(when("2026-11-25T19:56:35.559Z"), "2026-11-25 19:56:35 UTC");
        assert_eq!(when("yesterday"), "yesterday");
    }
}
