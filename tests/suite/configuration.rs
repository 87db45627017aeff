//! Bad input: each gets an error that names the thing and the remedy, before anything is sent.

use netra_critical::config::{ConfigError, Environment, Launched, Settings, load};
use rstest::rstest;

/// Loads a configuration without ever starting a server.
fn outcome(toml: &str, env: &[(&str, &str)]) -> Result<String, ConfigError> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, toml).expect("settings");
    let env: Environment = env.iter().copied().collect();
    let launch = || -> Result<Launched, String> { Err("not in this test".to_owned()) };
    load(file.path(), &env, launch).map(|target| target.name)
}

const LIVE: &str = "[targets.live]\napi_url = \"https://api.example.test\"\nws_url = \"wss://api.example.test/ws\"\nauth_url = \"https://auth.example.test\"\n";
const SECRETS: [(&str, &str); 3] =
    [("CRITICAL_TARGET", "live"), ("JWT_SECRET_STAGING", "throw-away-1"), ("E2E_OAUTH_SIMULATION_KEY", "throw-away-2")];

#[test]
fn a_complete_live_target_is_taken() {
    assert_eq!(outcome(LIVE, &SECRETS), Ok("live".to_owned()));
}

#[rstest]
#[case::unknown_key("[targets.live]\napi_urll = \"x\"\n", &["api_urll", ":2:", "api_url"])]
#[case::wrong_type("[targets.live]\n[targets.live.deadlines]\nping_ms = \"soon\"\n", &[":3:", "ping_ms", "invalid type"])]
#[case::no_toml("[targets.live\n", &[":1:", "correct the key"])]
#[case::unknown_target("[targets.other]\nembedded = true\n", &["CRITICAL_TARGET=live", "choose one of: other"])]
#[case::no_size("[targets.live]\napi_url = \"https://a.test\"\nws_url = \"wss://a.test\"\nauth_url = \"https://a.test\"\n[targets.live.load]\nsockets = 1\n", &["load.sockets = 1", "set it to 2 or more"])]
#[case::no_urls("[targets.live]\n", &["CRITICAL_API_URL, CRITICAL_WS_URL, CRITICAL_AUTH_URL", "give all three"])]
fn a_wrong_file_is_refused_in_words(#[case] toml: &str, #[case] parts: &[&str]) {
    refused(&outcome(toml, &SECRETS), parts);
}

#[test]
fn a_fault_is_for_the_embedded_stand_in_alone() {
    let env: Vec<_> = SECRETS.into_iter().chain([("CRITICAL_FAULT", "message-lost")]).collect();
    refused(&outcome(LIVE, &env), &["CRITICAL_FAULT=message-lost", "embedded stand-in", "https://api.example.test", "unset"]);
}

#[test]
fn a_run_that_judges_a_deployment_leaves_evidence() {
    let out = tempfile::tempdir().expect("a folder");
    let folder = out.path().display().to_string();
    let file = out.path().join("staging.toml");
    std::fs::write(&file, LIVE).expect("settings");
    let file = file.display().to_string();
    let told = |reports: &'static str| {
        let base = [("CRITICAL_CONFIG", file.as_str()), ("CRITICAL_OUT_DIR", folder.as_str()), ("CRITICAL_REPORTS", reports)];
        let env: Environment = base.into_iter().chain(SECRETS).collect();
        let staging = netra_critical::Staging::of(&env, &[&crate::PROBE], |_| Err("not in this test".to_owned()));
        staging.suite().map(drop).map_err(|none| none.error.clone().to_string()).expect_err("it is refused")
    };
    assert!(told("off").contains("a run without evidence proves nothing"), "{}", told("off"));
    assert!(told("of").contains("CRITICAL_REPORTS=\"of\" is not understood"), "{}", told("of"));
}

#[rstest]
#[case::production_name(
    "[targets.live-prod]\napi_url=\"https://a.test\"\nws_url=\"wss://a.test\"\nauth_url=\"https://a.test\"\n",
    "live-prod",
    "name"
)]
#[case::production_environment(&format!("{LIVE}environment = \"production\"\n"), "live", "environment")]
#[case::production_host(&LIVE.replace("api.example", "api-prod.example"), "live", "api_url")]
#[case::product_without_staging(&LIVE.replace("auth.example.test", "auth.netrasystems.ai"), "live", "auth_url")]
fn production_is_refused_in_words(#[case] toml: &str, #[case] target: &str, #[case] culprit: &str) {
    let env: Vec<_> =
        SECRETS.into_iter().map(|(name, value)| (name, if name == "CRITICAL_TARGET" { target } else { value })).collect();
    refused(&outcome(toml, &env), &["says production", culprit, "never run against production"]);
}

#[rstest]
#[case::jwt("JWT_SECRET_STAGING")]
#[case::key("E2E_OAUTH_SIMULATION_KEY")]
fn a_missing_secret_is_named(#[case] missing: &str, #[values("absent", "blank")] how: &str) {
    let env: Vec<_> = SECRETS
        .into_iter()
        .filter(|(name, _)| *name != missing || how == "blank")
        .map(|(name, value)| (name, if name == missing { " " } else { value }))
        .collect();
    refused(&outcome(LIVE, &env), &[missing, "is not set", "export"]);
}

#[rstest]
#[case::plain_http("api.example.test", "http://api.example.test", &["api_url", "plain http is for loopback"])]
#[case::wrong_scheme("api.example.test", "ftp://api.example.test", &["api_url", "scheme \"ftp\""])]
#[case::no_url("api.example.test", "api.example.test", &["api_url", "write a full URL"])]
#[case::user_in_url("api.example.test", "https://user:word@api.example.test", &["api_url", "neither user nor query"])]
fn a_wrong_address_is_refused_in_words(#[case] old: &str, #[case] new: &str, #[case] parts: &[&str]) {
    refused(&outcome(&LIVE.replacen(&format!("https://{old}"), new, 1), &SECRETS), parts);
}

#[test]
fn half_of_the_urls_is_refused() {
    let env = [("CRITICAL_API_URL", "https://127.0.0.1:1")];
    refused(&outcome("[targets.stand-in]\nembedded = true\n", &env), &["CRITICAL_WS_URL, CRITICAL_AUTH_URL", "never mixed"]);
}

#[test]
fn tokens_are_never_taken_from_a_second_source() {
    refused(&outcome(&format!("{LIVE}access_token_envs = [\"A\"]\n"), &SECRETS), &["access_token_envs", "second source"]);
    refused(&outcome(&format!("{LIVE}token_source = \"env\"\n"), &SECRETS), &["names no variable"]);
    refused(&outcome(&format!("{LIVE}token_source = \"env\"\naccess_token_envs = [\"A\"]\n"), &SECRETS), &["A is not set"]);
}

#[test]
fn a_missing_ca_file_is_named() {
    let mut env = SECRETS.to_vec();
    env.push(("CRITICAL_CA_FILE", "/nowhere/ca.pem"));
    refused(&outcome(LIVE, &env), &["/nowhere/ca.pem", "CRITICAL_CA_FILE"]);
}

#[test]
fn the_stand_in_section_shows_every_key_with_its_default() {
    let text = include_str!("../../staging.toml");
    let file: toml::Table = text.parse().expect("staging.toml is TOML");
    let shown = &file["targets"]["stand-in"];
    let toml::Value::Table(defaults) = toml::Value::try_from(Settings::default()).expect("settings are TOML") else {
        unreachable!("a table")
    };
    for (key, value) in &defaults {
        let here = shown.get(key).unwrap_or_else(|| panic!("staging.toml does not show {key}"));
        if let Some(section) = value.as_table().filter(|section| !section.is_empty()) {
            for inner in section.keys() {
                assert!(here.get(inner).is_some(), "staging.toml does not show {key}.{inner}");
            }
        }
    }
    for section in ["load", "prompts", "tool"] {
        assert_eq!(shown[section], defaults[section], "the comment says that [{section}] shows the defaults");
    }
    let staging = &file["targets"]["staging"];
    assert_eq!(staging["deadlines"]["check_s"], defaults["deadlines"]["check_s"], "defaults are those of staging");
}

fn refused(outcome: &Result<String, ConfigError>, parts: &[&str]) {
    let error = outcome.as_ref().expect_err("must be refused").to_string();
    for part in parts {
        assert!(error.contains(part), "{part:?} is missing in: {error}");
    }
    assert!(error.contains("remedy: ") && !error.contains("throw-away"), "{error}");
}

#[test]
fn only_named_hosts_may_be_advertised_and_only_own_ones_are_contacted() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&file, format!("{LIVE}advertised_hosts = [\"app.example.test\"]\n")).expect("settings");
    let env: Environment = SECRETS.into_iter().collect();
    let target = load(file.path(), &env, || Err("not in this test".to_owned())).expect("a target");
    let judged = |text: &str| {
        let url = text.parse().expect("a URL");
        (target.owns(&url), target.may_advertise(&url))
    };
    assert_eq!(judged("https://api.example.test/deep/path"), (true, true));
    assert_eq!(judged("https://app.example.test"), (false, true));
    let strangers = [
        "http://app.example.test",
        "https://other.example.test",
        "https://api.example.test:8443",
        "http://api.example.test",
        "ws://localhost:8000",
    ];
    for stranger in strangers {
        assert_eq!(judged(stranger), (false, false), "{stranger}");
    }
}
