//! The files that machines read of a run, judged by readers and validators made by others.

use std::path::{Path, PathBuf};

use crate::tools;

/// `ctrf` validates `ctrf.json` against the schema that it ships.
const NPM: [&str; 2] = ["ctrf@0.3.0", "har-validator@5.1.5"];
/// `jsonschema` with all that it needs, so that each version is pinned.
const PIP: [&str; 3] = ["junitparser==5.0.3", "haralyzer==2.4.0", "jsonschema==4.26.0"];

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/formats").join(name)
}

#[test]
fn tools_are_installed() {
    let out = tools::output(&mut tools::node(&NPM, &script("a.js"))).unwrap();
    assert_eq!(out, "ok\n");
    let out = tools::output(&mut tools::python(&PIP, &script("a.py"))).unwrap();
    assert_eq!(out, "ok\n");
}
