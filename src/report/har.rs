//! `run.har`: every exchange, for tools that read HTTP archives (HAR 1.2).

use super::Run;
use crate::evidence::Evidence;
use crate::exchange::Exchange;

/// One entry of the archive, as JSON.
pub(crate) fn entry(_evidence: &Evidence, _exchange: &Exchange) -> String {
    String::new()
}

/// The archive.
#[must_use]
pub fn file(_run: &Run) -> String {
    String::new()
}
