//! The suite's own tests: what it does with bad input, broken services and its own mistakes.

use std::path::Path;

use netra_critical::Staging;
use netra_critical::check::{Area, Check, NotPassed};
use netra_critical::config::Environment;
use netra_critical::evidence::Evidence;
use tempfile::TempDir;

mod binary;
mod built;
mod checks;
mod clients;
mod configuration;
mod diagnosis;
mod diagnosis_causes;
mod diagnosis_plant;
mod formats;
mod judging;
mod laid;
mod leaks;
mod ledger;
mod merging;
mod page;
mod past;
mod readme;
mod reports;
#[path = "../stand_in.rs"]
mod stand_in;
mod tokens;
mod tools;
mod verdicts;
mod workflows;

/// A check to try the machinery with.
static PROBE: Check =
    Check { id: 1, name: "probe", title: "the machinery works", area: Area::WebSocket, impact: "none", alone: false };

/// A suite of its own over an embedded stand-in, in a folder of its own.
struct Stage {
    staging: Staging,
    out: TempDir,
}

impl Stage {
    fn new() -> Self {
        Self::with(&[])
    }

    /// With further variables.
    fn with(extra: &[(&str, &str)]) -> Self {
        let out = tempfile::tempdir().expect("a temporary folder");
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/staging.toml");
        let folder = out.path().display().to_string();
        let base = [("CRITICAL_CONFIG", config), ("CRITICAL_OUT_DIR", &folder), ("CRITICAL_RUN_ID", "run")];
        let env: Environment = base.into_iter().chain(extra.iter().copied()).collect();
        Self { staging: Staging::of(&env, &[&PROBE], stand_in::launch), out }
    }

    fn evidence(&self) -> Evidence {
        evidence(self.out.path())
    }
}

fn evidence(out: &Path) -> Evidence {
    let text = std::fs::read(out.join("run/evidence/probe.json")).expect("evidence of the probe");
    serde_json::from_slice(&text).expect("evidence that can be read back")
}

/// The text that libtest would print.
fn told(outcome: Result<(), NotPassed>) -> String {
    format!("{:?}", outcome.expect_err("the check must not pass"))
}
