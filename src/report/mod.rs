//! What a run tells, and to whom: folded from its evidence after each check, so that no end of a run needs to be seen.
//!
//! | for | file | written by |
//! |---|---|---|
//! | whoever reads a failure in the terminal | standard output of the test | [`mod@story`] |
//! | whoever reads a run in the terminal | standard error of the run | [`terminal`] |
//! | a release engineer | `report.md`, `report.html` | [`markdown`], [`html`] |
//! | CI and dashboards | `junit.xml`, `ctrf.json` | [`junit`], [`ctrf`] |
//! | whoever looks at traffic | `run.har` | [`har`] |
//! | GitHub Actions | annotations and job summary | [`github`] |
//! | the next run | `history.sqlite`, beside the runs | [`past`] |
//!
//! `fold` reads evidence into a [`Run`] and writes all of it; [`leaks`] looks for secrets in each file before it is left there.

use std::sync::Arc;

pub mod ctrf;
pub mod digest;
pub mod facts;
pub(crate) mod fold;
pub mod github;
pub mod har;
pub mod html;
pub mod junit;
pub mod leaks;
pub mod markdown;
pub mod merge;
pub mod past;
pub mod story;
pub mod terminal;

pub use digest::Digest;
pub use facts::{Facts, Spread};
pub use fold::render;
pub use story::{Around, exchange, story, without_suite};

use crate::about::About;
use crate::evidence::Ledger;
use crate::expect::Trouble;
use past::Since;

/// A run, as far as it has come.
#[derive(Clone, Debug)]
pub struct Run {
    /// Target, configuration, versions.
    pub about: About,
    /// Verdicts of all checks, those that did not run among them.
    pub ledger: Ledger,
    /// Checks that left evidence, in order.
    pub checks: Vec<Arc<Digest>>,
    /// Figures of all of them together.
    pub facts: Facts,
    /// Against earlier runs of the same target.
    pub since: Since,
}

impl Run {
    /// Puts a run together.
    #[must_use]
    pub fn new(about: About, ledger: Ledger, checks: Vec<Arc<Digest>>, since: Since) -> Self {
        let mut facts = Facts::default();
        for check in &checks {
            facts.add(&check.facts);
        }
        Self { about, ledger, checks, facts, since }
    }

    /// Failures without a known cause that could not be judged, by what was in the way, each with its checks.
    #[must_use]
    pub fn troubles(&self) -> Vec<(&Trouble, Vec<u16>)> {
        let mut all: Vec<(&Trouble, Vec<u16>)> = Vec::new();
        for digest in self.checks.iter().filter(|it| it.is_red() && it.cause().is_none()) {
            let Some(trouble) = &digest.evidence.trouble else { continue };
            match all.iter_mut().find(|(known, _)| known.what == trouble.what) {
                Some((_, checks)) => checks.push(digest.evidence.id),
                None => all.push((trouble, vec![digest.evidence.id])),
            }
        }
        all
    }

    /// From the start of the first check to the end of the last one, in seconds.
    #[must_use]
    pub fn wall_s(&self) -> f64 {
        let begins = self.checks.iter().filter_map(|it| crate::time::parse_iso(&it.evidence.started_at));
        let ends = self
            .checks
            .iter()
            .filter_map(|it| Some(crate::time::parse_iso(&it.evidence.started_at)? + it.evidence.duration_ms / 1e3));
        (ends.fold(f64::NEG_INFINITY, f64::max) - begins.fold(f64::INFINITY, f64::min)).max(0.0)
    }
}
