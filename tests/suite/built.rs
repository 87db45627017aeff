//! The `critical` binary, built as `cargo test --test critical` builds it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Builds it if need be, and says where it is.
pub(crate) fn critical() -> PathBuf {
    let arguments = ["test", "--test", "critical", "--no-run", "--message-format=json"];
    let output = cargo().args(arguments).stderr(Stdio::inherit()).output().expect("cargo runs");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let artefacts = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables = artefacts.filter(|it| it["target"]["name"] == "critical" && it["target"]["kind"][0] == "test");
    executables.find_map(|it| it["executable"].as_str().map(PathBuf::from)).expect("cargo names the test binary")
}

/// Cargo, as if no cargo had started this test.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells a test about its package would count as a changed environment for build scripts: they would run again.
    #[expect(clippy::disallowed_methods, reason = "to hand an unchanged environment on, it must be listed")]
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_", "CARGO_CRATE_"].iter().any(|start| name.starts_with(start))
    });
    for name in told {
        cargo.env_remove(name);
    }
    cargo
}
