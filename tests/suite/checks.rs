//! The built checks, run as users run them, each time in a folder of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netra_critical::config::Environment;
use netra_critical::evidence::{Evidence, Ledger, read_json};
use netra_stand_in::StandIn;
use tempfile::TempDir;

/// Settings with which tokens are signed here, without the claim `token_type`, and nothing else is wrong.
pub(crate) const SEED: &str = "token_source = \"mint\"\nfresh_users = true\n[mint]\ntoken_type = \"\"\n";

/// The checks and what they are told.
pub(crate) struct Checks {
    pub(crate) out: TempDir,
    env: BTreeMap<&'static str, String>,
}

impl Checks {
    /// Against the embedded stand-in.
    pub(crate) fn new() -> Self {
        let out = tempfile::tempdir().expect("a temporary folder");
        Self { env: BTreeMap::from([("CRITICAL_OUT_DIR", out.path().display().to_string())]), out }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.to_owned());
        self
    }

    /// With these keys of the stand-in's target changed.
    pub(crate) fn set(self, settings: &str) -> Self {
        let mut file: toml::Table = include_str!("../../staging.toml").parse().expect("staging.toml is TOML");
        let more: toml::Table = settings.parse().expect("settings");
        file["targets"]["stand-in"].as_table_mut().expect("a target").extend(more);
        let config = self.out.path().join("staging.toml");
        fs::write(&config, file.to_string()).expect("settings");
        let config = config.display().to_string();
        self.with("CRITICAL_CONFIG", &config)
    }

    /// Points them at a server, with its secrets.
    pub(crate) fn against(self, server: &StandIn) -> Self {
        let ca = self.out.path().join("ca.pem");
        fs::write(&ca, server.ca_pem().unwrap_or_default()).expect("a CA file");
        let checks = self.with("CRITICAL_API_URL", server.api_url()).with("CRITICAL_WS_URL", server.ws_url());
        let checks = checks.with("CRITICAL_AUTH_URL", server.auth_url()).with("CRITICAL_CA_FILE", &ca.display().to_string());
        checks.with("JWT_SECRET_STAGING", server.jwt_secret()).with("E2E_OAUTH_SIMULATION_KEY", server.e2e_key())
    }

    /// What they are told, for code of the suite that runs in this process.
    pub(crate) fn environment(&self) -> Environment {
        self.env.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// The binary with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.by(crate::built::critical(), arguments)
    }

    /// Another program, which runs the binary.
    pub(crate) fn by(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = crate::built::apart(program);
        command.args(arguments).envs(&self.env);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// The folder of the newest run.
    pub(crate) fn latest(&self) -> PathBuf {
        fs::canonicalize(self.out.path().join("latest")).expect("a run")
    }

    pub(crate) fn ledger(&self) -> Ledger {
        ledger(&self.latest())
    }

    /// The evidence of the newest run, by the numbers of the checks.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        let files = fs::read_dir(self.latest().join("evidence")).expect("evidence");
        let read = |file: std::io::Result<fs::DirEntry>| read_json(&file.expect("a file").path()).expect("evidence");
        let mut all: Vec<Evidence> = files.map(read).collect();
        all.sort_by_key(|evidence| evidence.id);
        all
    }
}

/// The ledger of a run.
pub(crate) fn ledger(run: &Path) -> Ledger {
    read_json(&run.join("results.json")).expect("a ledger")
}

/// All that a program printed.
pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors(output)
}

/// What it printed on standard error.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
