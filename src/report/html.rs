//! `report.html`: one file that needs nothing else.

use super::Run;
use crate::evidence::Evidence;
use crate::exchange::Exchange;

/// One exchange, folded.
pub(crate) fn exchange(_evidence: &Evidence, _exchange: &Exchange) -> String {
    String::new()
}

/// The page.
///
/// # Errors
/// A defect of the template.
pub fn file(_run: &Run) -> Result<String, String> {
    Ok(String::new())
}
