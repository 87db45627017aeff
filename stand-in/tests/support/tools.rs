//! Programs made by others, run against a stand-in.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use netra_stand_in::{Options, StandIn};

/// A started stand-in, and its authority in a file.
pub(crate) struct World {
    pub(crate) stand_in: StandIn,
    pub(crate) authority: PathBuf,
    _folder: tempfile::TempDir,
}

pub(crate) fn started(options: Options) -> World {
    let stand_in = StandIn::start(options).expect("the stand-in starts");
    let folder = tempfile::tempdir().expect("a folder");
    let authority = folder.path().join("ca.pem");
    fs::write(&authority, stand_in.ca_pem().expect("an authority")).expect("a file");
    World { stand_in, authority, _folder: folder }
}

/// What curl makes of it, however it ends.
pub(crate) fn curl_ends(world: &World, arguments: &[&str]) -> Output {
    require("curl", "curl");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--cacert"]).arg(&world.authority);
    command.args(arguments).stdin(Stdio::null()).output().expect("curl runs")
}

/// What curl prints; panics with all of it when curl fails.
pub(crate) fn curl(world: &World, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = curl_ends(world, arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "curl {arguments:?} ended with {status}\n{stdout}\n{stderr}");
    stdout
}

/// Makes sure that the program is there, by installing its package where that is possible.
pub(crate) fn require(program: &str, package: &str) {
    if !runs(program, &["--version"]) {
        install(package);
        assert!(runs(program, &["--version"]), "{program} is missing: install the package {package}");
    }
}

pub(crate) fn install(package: &str) {
    let root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    if root && runs("apt-get", &["--version"]) {
        runs("apt-get", &["update"]);
        runs("apt-get", &["install", "--yes", "--no-install-recommends", package]);
    }
}

pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// An access token, as the auth service issues it to a test user.
pub(crate) fn access_token(world: &World) -> String {
    let key = format!("X-E2E-Bypass-Key: {}", world.stand_in.e2e_key());
    let url = format!("{}/auth/e2e/test-auth", world.stand_in.auth_url());
    let body = r#"{"email":"curl@example.test"}"#;
    let pair = curl(world, &["--header", &key, "--header", "Content-Type: application/json", "--data", body, &url]);
    let pair: serde_json::Value = serde_json::from_str(&pair).expect("JSON");
    pair["access_token"].as_str().unwrap_or_else(|| panic!("no token in {pair}")).to_owned()
}
