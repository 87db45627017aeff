//! The `critical` binary, built as `cargo test --test critical` builds it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What cargo tells a test about its package would count as a changed environment for build scripts: they would run again.
const OF_THE_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_", "CARGO_CRATE_"];
/// What a shell may tell the checks: target, secrets, how they are run and by whom.
const OF_THE_SHELL: [&str; 7] =
    ["CRITICAL_", "JWT_SECRET_STAGING", "E2E_OAUTH_SIMULATION_KEY", "NEXTEST", "GITHUB_", "NO_COLOR", "RUST_BACKTRACE"];

/// Builds it if need be, and says where it is.
pub(crate) fn critical() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let arguments = ["test", "--test", "critical", "--no-run", "--message-format=json"];
        let output = cargo().args(arguments).stderr(Stdio::inherit()).output().expect("cargo runs");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let artefacts = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut executables = artefacts.filter(|it| it["target"]["name"] == "critical" && it["target"]["kind"][0] == "test");
        executables.find_map(|it| it["executable"].as_str().map(PathBuf::from)).expect("cargo names the test binary")
    })
}

/// A program that runs checks, all at once, without what the shell of this test tells them.
pub(crate) fn apart(program: impl AsRef<OsStr>) -> Command {
    let mut command = without(program, &OF_THE_SHELL);
    command.env("RUST_TEST_THREADS", "25").stdin(Stdio::null());
    command
}

/// Cargo, as if no cargo had started this test.
pub(crate) fn cargo() -> Command {
    without(env!("CARGO"), &[&OF_THE_PACKAGE[..], &OF_THE_SHELL].concat())
}

/// A program without the variables that begin so.
fn without(program: impl AsRef<OsStr>, starts: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    #[expect(clippy::disallowed_methods, reason = "to hand the rest of the environment on, it must be listed")]
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| starts.iter().any(|start| name.to_string_lossy().starts_with(start))) {
        command.env_remove(name);
    }
    command
}
