//! `report.md`: the report for people, in the form that code hosts show.

use super::Run;

/// The file.
#[must_use]
pub fn file(_run: &Run) -> String {
    String::new()
}
