//! Times as the contract writes them: epoch seconds or ISO 8601.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// Epoch seconds of an ISO 8601 time; one without an offset is taken as UTC, as the product writes them.
#[must_use]
pub fn parse_iso(text: &str) -> Option<f64> {
    let moment = text.parse::<jiff::Timestamp>().or_else(|_| {
        let civil = text.parse::<jiff::civil::DateTime>()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).map(|zoned| zoned.timestamp())
    });
    // A bare date parses as a civil time too, but it is no moment.
    text.contains(':').then(|| moment.ok().map(jiff::Timestamp::as_microsecond)).flatten().map(micros_to_seconds)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit an f64 for centuries")]
fn micros_to_seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Epoch seconds of an HTTP date, as in `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
#[must_use]
pub fn parse_http_date(text: &str) -> Option<f64> {
    let (_, rest) = text.split_once(", ")?;
    let civil = jiff::civil::DateTime::strptime("%d %b %Y %H:%M:%S GMT", rest).ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| micros_to_seconds(zoned.timestamp().as_microsecond()))
}

/// Epoch seconds of a JSON value: a number, or an ISO 8601 string.
#[must_use]
pub fn moment(value: &Value) -> Option<f64> {
    value.as_f64().filter(|seconds| *seconds > 0.0).or_else(|| value.as_str().and_then(parse_iso))
}

/// Seconds since 1970, now.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Whole seconds since 1970, as JWT claims count them (RFC 7519 §2, `NumericDate`).
#[must_use]
pub fn now_seconds() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())).unwrap_or(i64::MAX)
}

/// Now, as ISO 8601 in UTC with milliseconds.
#[must_use]
pub fn now_iso() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_contract_are_understood() {
        assert_eq!(parse_iso("2026-11-22T17:01:29.208122Z"), Some(1_795_366_889.208_122));
        assert_eq!(parse_iso("2026-11-22T17:01:29.208122+00:00"), Some(1_795_366_889.208_122));
        assert_eq!(parse_iso("2026-11-22T17:01:29.208122"), Some(1_795_366_889.208_122));
        assert_eq!(moment(&serde_json::json!(1_795_366_889.135)), Some(1_795_366_889.135));
        assert!(parse_iso(&now_iso()).is_some_and(|at| (at - now()).abs() < 5.0));
    }

    #[test]
    fn the_date_of_an_answer_is_understood() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
        assert_eq!(parse_http_date("1994-11-06T08:49:37Z"), None);
    }

    #[test]
    fn anything_else_is_no_time() {
        for text in ["", "soon", "2026-11-22", "17:01"] {
            assert_eq!(parse_iso(text), None, "{text:?}");
        }
        assert_eq!(moment(&serde_json::json!(0)), None);
        assert_eq!(moment(&serde_json::json!(null)), None);
    }
}
