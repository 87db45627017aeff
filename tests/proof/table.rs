//! The table of expected kills: `tests/proof/kills/NNN.toml` says, for each expectation of a check, which faults break it.
//!
//! ```toml
//! "the welcome comes" = "welcome-missing"
//! "the pong names the user" = ["no-pong", "frame pong: without /data/user_id"]
//! ```
//! A fault is a name of the catalogue or a bend. `collateral.toml` says what a fault may break in other checks, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use netra_stand_in::faults;
use serde::Deserialize;

use crate::plant::Job;

/// Number of a check and name of an expectation.
pub(crate) type Key = (u16, String);

#[derive(Clone)]
pub(crate) struct Table {
    /// The faults of each expectation.
    pub(crate) breaks: BTreeMap<Key, Vec<String>>,
    beside: Vec<Beside>,
}

/// What faults may break beside the checks that they are planted for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    faults: Vec<String>,
    /// Expectations, of any check; `*` is any of them.
    at: Vec<String>,
    /// Why that is right.
    #[serde(rename = "because")]
    _because: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collateral {
    beside: Vec<Beside>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl Table {
    /// Reads all files of the folder.
    pub(crate) fn read() -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/proof/kills");
        let mut table = Self { breaks: BTreeMap::new(), beside: Vec::new() };
        for file in std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let path = file.map_err(|error| error.to_string())?.path();
            let wrong = |error: String| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if name == "collateral" {
                let read: Collateral = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
                table.beside = read.beside;
                continue;
            }
            let check: u16 = name.parse().map_err(|_| wrong("the name is no number of a check".to_owned()))?;
            let lines: BTreeMap<String, OneOrMore> = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
            for (expectation, faults) in lines {
                let faults = match faults {
                    OneOrMore::One(fault) => vec![fault],
                    OneOrMore::More(faults) => faults,
                };
                table.breaks.insert((check, expectation), faults);
            }
        }
        Ok(table)
    }

    /// The expectations of a check that this fault may break: each of them speaks of it.
    pub(crate) fn of(&self, fault: &str, check: u16) -> BTreeSet<&str> {
        let lines = self.breaks.iter().filter(|((id, _), faults)| *id == check && faults.iter().any(|name| name == fault));
        lines.map(|((_, expectation), _)| expectation.as_str()).collect()
    }

    /// True if this fault may break this expectation, whatever check it is in.
    pub(crate) fn may_break(&self, fault: &str, expectation: &str) -> bool {
        let names = |all: &[String], one: &str| all.iter().any(|it| it == one || it == "*");
        self.beside.iter().any(|it| names(&it.faults, fault) && names(&it.at, expectation))
    }

    /// Every fault with the checks that must fail: those of the table, and those that the catalogue names. A bend meets one
    /// check at a time, since it counts what it meets.
    pub(crate) fn jobs(&self, only: Option<u16>) -> Vec<Job> {
        let mut checks: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for ((check, _), faults) in &self.breaks {
            for fault in faults {
                checks.entry(fault.clone()).or_default().insert(*check);
            }
        }
        for fault in faults() {
            checks.entry(fault.name.to_owned()).or_default().extend(fault.kills);
        }
        let mut jobs = Vec::new();
        for (fault, checks) in checks {
            let named = faults().any(|it| it.name == fault);
            let checks: Vec<_> = checks.into_iter().filter(|check| only.is_none_or(|only| only == *check)).collect();
            let together = if named { vec![checks] } else { checks.into_iter().map(|check| vec![check]).collect() };
            jobs.extend(together.into_iter().map(|checks| Job { fault: Some(fault.clone()), checks }));
        }
        jobs.retain(|job| !job.checks.is_empty());
        jobs
    }
}
