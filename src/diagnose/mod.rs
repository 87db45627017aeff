//! From a failure to its cause, found by experiment.
//!
//! | step | file |
//! |---|---|
//! | the class of a failure (contract, section 6), from what is recorded | `rules` |
//! | which experiments a failure calls for, once for a whole run | `run`, `share` |
//! | a refused token: where it is refused, and the one change that makes the difference | `token`, with `claims` and `changes` |
//! | what follows from the experiments | `conclude` |
//! | a bad token that was accepted | `bypass` |
//! | the way to the service; the service itself | `transport`, `service` |
//! | why, five times, and what to do next | `whys` |
//!
//! Diagnosis never changes a verdict and never runs on a pass. It speaks to the target's own hosts only, through the clients of
//! the check, and sends at most [`lab::REQUESTS_AT_MOST`] requests.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::expect::Class;

pub(crate) mod bypass;
pub(crate) mod changes;
pub mod claims;
pub(crate) mod conclude;
pub mod lab;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod share;
pub(crate) mod token;
pub(crate) mod transport;
pub mod whys;

pub use claims::ClaimRow;
pub use lab::{Answer, Door, Trial};
pub use whys::Why;

/// What was found out about one failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The class of the failure.
    pub class: Class,
    /// Why this class, in one sentence.
    pub because: String,
    /// Causes, the answer first. More than one where it takes several, or where one hides the others.
    pub causes: Vec<Cause>,
    /// Why, up to five times, from the failure down to what must be changed.
    pub whys: Vec<Why>,
    /// What to do now: commands and queries, ready to paste.
    pub next: Vec<String>,
    /// The refused token against the contract; empty where no token is the matter.
    pub claims: Vec<ClaimRow>,
    /// The experiments, in order.
    pub trials: Vec<Trial>,
    /// What was tried and made no difference.
    pub excluded: Vec<String>,
    /// The check that made the experiments, where another one did it for the whole run.
    pub made_by: Option<String>,
    /// Why the diagnosis itself is not complete.
    pub trouble: Option<String>,
}

impl Diagnosis {
    /// The claims of the token and the experiments, one line each.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        if !self.claims.is_empty() {
            out.push_str("\n| claim | ours | required | auth service's own |\n|---|---|---|---|\n");
        }
        for row in &self.claims {
            let mark = if row.differs { "✗" } else { "✓" };
            let issued = row.issued.as_deref().unwrap_or("-");
            let _ = writeln!(out, "| {mark} {} | {} | {} | {issued} |", row.claim, row.ours, row.required);
        }
        if !self.trials.is_empty() {
            out.push_str("\nexperiments\n");
        }
        for trial in &self.trials {
            let _ = writeln!(out, "  {trial}");
        }
        if !self.excluded.is_empty() {
            let _ = writeln!(out, "excluded: {}", self.excluded.join("; "));
        }
        out
    }
}

/// Who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The suite's configuration.
    Ours,
    /// The service.
    Theirs,
    /// What lies between: network, gateway, firewall.
    Between,
}

impl Side {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ours => "ours, the suite's configuration",
            Self::Theirs => "theirs, the service",
            Self::Between => "between, the network or a gateway",
        }
    }
}

/// A cause, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// A short name that stays the same from run to run: failures with one name have one cause.
    pub name: String,
    /// The class that it puts the failure into.
    pub class: Class,
    /// The cause in a sentence.
    pub what: String,
    /// Who must act.
    pub side: Side,
    /// The thing to change, and where.
    pub change: String,
    /// Exchanges that show it, as in `#12`.
    pub evidence: Vec<String>,
}

impl Cause {
    pub(crate) fn new(name: &str, class: Class, side: Side, what: impl Into<String>, change: impl Into<String>) -> Self {
        Self { name: name.to_owned(), class, what: what.into(), side, change: change.into(), evidence: Vec::new() }
    }

    pub(crate) fn shown_by<'a>(mut self, trials: impl IntoIterator<Item = &'a Trial>) -> Self {
        self.evidence.extend(trials.into_iter().map(|trial| trial.exchange.clone()));
        self
    }

    pub(crate) fn shown_in(mut self, exchanges: impl IntoIterator<Item = u32>) -> Self {
        self.evidence.extend(exchanges.into_iter().map(|id| format!("#{id}")));
        self
    }
}

/// What a series of experiments came to, before it is told as a story.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Findings {
    pub(crate) causes: Vec<Cause>,
    pub(crate) claims: Vec<ClaimRow>,
    pub(crate) trials: Vec<Trial>,
    pub(crate) excluded: Vec<String>,
    /// Each number of an exchange is one of this check's.
    pub(crate) made_by: String,
    pub(crate) trouble: Option<String>,
}
