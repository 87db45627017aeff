//! The built `critical` binary, run as users run it: sound, down, switched off half-way, slow, with wrong secrets, one process
//! a check.

use std::process::{Output, Stdio};
use std::time::Duration;

use netra_critical::evidence::Ledger;
use netra_critical::{Verdict, poll};
use netra_stand_in::{Options, StandIn};

use crate::checks::{Checks, text};

const CHECKS: usize = 25;

/// How often something is told by the checks, and by the run at its end.
fn told(output: &Output, what: &str) -> (usize, usize) {
    let times = |bytes| String::from_utf8_lossy(bytes).matches(what).count();
    (times(&output.stdout), times(&output.stderr))
}

fn count(ledger: &Ledger, verdict: Verdict) -> usize {
    let counted = ledger.checks.iter().filter(|entry| entry.verdict == verdict).count();
    assert_eq!(ledger.totals[&verdict], counted, "the totals add up");
    counted
}

fn names() -> Vec<String> {
    let listed = text(&Checks::new().run(&["--list"]));
    listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|path| path.rsplit("::").next().unwrap_or(path).to_owned())
        .collect()
}

#[test]
fn there_are_exactly_25_checks_and_the_ledger_knows_them_all() {
    let names = names();
    assert_eq!(names.len(), CHECKS);
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = Checks::new().against(&server);
    let output = checks.run(&[]);
    assert!(output.status.success(), "{}", text(&output));
    let ledger = checks.ledger();
    assert_eq!(ledger.checks.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>(), names);
    assert_eq!(count(&ledger, Verdict::Passed), CHECKS);
    for evidence in checks.evidence() {
        assert!(!evidence.expectations.is_empty() && evidence.bytes_sent > 0 && evidence.bytes_received > 0, "{}", evidence.name);
        assert!(evidence.left_behind.is_empty(), "{} left {:?}", evidence.name, evidence.left_behind);
    }
}

#[test]
fn with_the_sizes_of_live_staging_it_makes_at_most_40_agent_runs() {
    let mut file: toml::Table = include_str!("../../staging.toml").parse().expect("staging.toml is TOML");
    let sizes = file["targets"]["staging"]["load"].clone();
    file["targets"]["stand-in"]["load"] = sizes;
    let checks = Checks::new();
    let config = checks.out.path().join("staging.toml");
    std::fs::write(&config, file.to_string()).expect("settings");
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = checks.against(&server).with("CRITICAL_CONFIG", &config.display().to_string());
    let output = checks.run(&[]);
    assert!(output.status.success(), "{}", text(&output));
    let runs = server.runs_started();
    assert!((25..=40).contains(&runs), "{runs} agent runs");
}

#[test]
fn with_the_target_down_no_check_passes_and_each_says_why() {
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = Checks::new().against(&server);
    server.stop();
    let output = checks.run(&[]);
    let text = text(&output);
    assert!(!output.status.success());
    let ledger = checks.ledger();
    assert_eq!(count(&ledger, Verdict::Errored), CHECKS, "{text}");
    assert_eq!(text.matches("cannot be reached").count(), CHECKS, "{text}");
    assert_eq!(text.matches("start the server there").count(), CHECKS, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_half_way_what_is_left_does_not_pass() {
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = Checks::new().against(&server).with("CRITICAL_RUN_ID", "run");
    let child =
        checks.command(&["--test-threads=1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let folder = checks.out.path().join("run/evidence");
    let some = poll::until(Duration::from_secs(60), Duration::from_millis(10), async || {
        let written = std::fs::read_dir(&folder).map_or(0, Iterator::count);
        if written >= 5 { Ok(written) } else { Err(written) }
    });
    some.await.expect("the first checks run");
    server.stop();
    let output = child.wait_with_output().expect("the binary ends");
    assert!(!output.status.success());
    let ledger = checks.ledger();
    let (passed, errored) = (count(&ledger, Verdict::Passed), count(&ledger, Verdict::Errored));
    let failed = count(&ledger, Verdict::Failed) + count(&ledger, Verdict::TimedOut);
    assert_eq!(passed + errored + failed, CHECKS, "{}", text(&output));
    // The check that was under way fails or is errored; everything after it is errored.
    assert!(passed < CHECKS - 10 && failed <= 1, "{passed} passed, {failed} failed: {}", text(&output));
}

#[test]
fn without_secrets_a_live_target_is_errored_and_names_them() {
    for (given, missing) in [(None, "E2E_OAUTH_SIMULATION_KEY"), (Some("E2E_OAUTH_SIMULATION_KEY"), "JWT_SECRET_STAGING")] {
        let mut checks = Checks::new().with("CRITICAL_TARGET", "staging");
        if let Some(name) = given {
            checks = checks.with(name, "throw-away");
        }
        let output = checks.run(&[]);
        let text = text(&output);
        assert!(!output.status.success());
        assert_eq!(told(&output, &format!("{missing} is not set")), (CHECKS, 1), "{text}");
        assert_eq!(count(&checks.ledger(), Verdict::Errored), CHECKS, "{text}");
    }
}

#[test]
fn an_unknown_target_errors_every_check() {
    let checks = Checks::new().with("CRITICAL_TARGET", "stagin");
    let output = checks.run(&[]);
    let text = text(&output);
    assert_eq!(told(&output, "CRITICAL_TARGET=stagin: no such target"), (CHECKS, 1), "{text}");
    assert_eq!(count(&checks.ledger(), Verdict::Errored), CHECKS, "{text}");
}

#[test]
fn a_wrong_signing_secret_fails_only_the_check_that_signs_and_names_the_secret() {
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = Checks::new().against(&server).with("JWT_SECRET_STAGING", "not-the-secret-of-the-server");
    let output = checks.run(&[]);
    let text = text(&output);
    let ledger = checks.ledger();
    let red: Vec<_> = ledger.checks.iter().filter(|entry| entry.verdict != Verdict::Passed).map(|entry| entry.id).collect();
    assert_eq!(red, [2], "{text}");
    assert!(text.contains("auth_token") && text.contains("JWT_SECRET_STAGING"), "{text}");
    assert!(!text.contains("not-the-secret-of-the-server") && !text.contains(server.e2e_key()), "{text}");
}

#[test]
fn a_slow_network_fails_the_sla_and_nothing_else() {
    let server = StandIn::start(Options { latency: Duration::from_millis(100), ..Options::default() }).expect("a stand-in");
    let checks = Checks::new().against(&server);
    let output = checks.run(&[]);
    let text = text(&output);
    let red: Vec<_> =
        checks.ledger().checks.iter().filter(|entry| entry.verdict != Verdict::Passed).map(|entry| entry.id).collect();
    assert_eq!(red, [23], "{text}");
    assert!(text.contains("class         sla: the answer is right but too slow"), "{text}");
}

#[test]
fn a_filter_runs_one_check_and_the_ledger_names_the_rest() {
    let checks = Checks::new();
    let output = checks.run(&["test_003"]);
    assert!(output.status.success(), "{}", text(&output));
    let ledger = checks.ledger();
    assert_eq!((count(&ledger, Verdict::Passed), count(&ledger, Verdict::NotRun)), (1, CHECKS - 1));
}

#[test]
fn one_process_a_check_makes_one_run_whose_ledger_adds_up() {
    let checks = Checks::new().with("CRITICAL_RUN_ID", "run");
    let names = names();
    // As nextest does it: a process a test, several at once, one run id for all.
    for some in names.chunks(5) {
        let children: Vec<_> = some
            .iter()
            .map(|name| checks.command(&[name.as_str()]).stdout(Stdio::piped()).spawn().expect("the binary runs"))
            .collect();
        for child in children {
            let output = child.wait_with_output().expect("the binary ends");
            assert!(output.status.success(), "{}", text(&output));
        }
    }
    assert_eq!(count(&checks.ledger(), Verdict::Passed), CHECKS);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let checks = Checks::new();
    let file = checks.out.path().join("a-file");
    std::fs::write(&file, "in the way").expect("a file");
    let output = checks.with("CRITICAL_OUT_DIR", &file.display().to_string()).run(&["test_003"]);
    let text = text(&output);
    assert!(!output.status.success());
    assert!(text.contains("evidence cannot be written to") && text.contains("CRITICAL_OUT_DIR"), "{text}");
}
