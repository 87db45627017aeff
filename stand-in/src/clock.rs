//! The time, in the three forms the contract uses.

use jiff::Timestamp;

/// Seconds since the epoch with a fraction: `timestamp` of frames and events.
pub(crate) fn unix() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

/// Whole seconds since the epoch: `created_at`, `iat`, `exp`.
pub(crate) fn seconds() -> i64 {
    Timestamp::now().as_second()
}

/// ISO 8601 with microseconds and offset: `timestamp` of HTTP bodies.
pub(crate) fn iso() -> String {
    iso_of(Timestamp::now())
}

/// The given moment in the form of [`iso`].
pub(crate) fn iso_of(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

/// The given second in the form of [`iso`]; the epoch when it is out of range.
pub(crate) fn iso_of_second(second: i64) -> String {
    iso_of(Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Whether the text is an ISO 8601 date and time, with or without an offset.
pub(crate) fn is_iso(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok()
}
