//! `ctrf.json`: the Common Test Report Format.

use super::Run;

/// The file.
#[must_use]
pub fn file(_run: &Run) -> String {
    String::new()
}
