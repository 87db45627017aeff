//! What a diagnosis may and may not do, the seed case by name, the doctor, and the story told again.

use std::path::Path;
use std::process::Stdio;

use netra_critical::config::Places;
use netra_critical::diagnose::lab::REQUESTS_AT_MOST;
use netra_critical::evidence::Evidence;
use netra_critical::exchange::Phase;
use netra_critical::{Verdict, doctor, explain};
use netra_stand_in::{Options, StandIn};
use rstest::rstest;

use crate::checks::{Checks, SEED, text};
use crate::diagnosis_plant::{Body, Plant};

/// The built checks against a stand-in with these faults, with these settings of the target changed.
fn planted(settings: &str, faults: &[&str]) -> (Checks, StandIn) {
    let faults = faults.iter().map(|name| (*name).to_owned()).collect();
    let server = StandIn::start(Options { faults, ..Options::default() }).expect("a stand-in");
    (Checks::new().set(settings).against(&server), server)
}

/// Experiments of one check.
fn experiments(evidence: &Evidence) -> usize {
    evidence.exchanges.iter().filter(|x| x.phase == Phase::Diagnosis).count()
}

#[test]
fn the_seed_case_a_minted_token_without_token_type() {
    let (checks, server) = planted(SEED, &[]);
    let told = text(&checks.run(&["test_001_", "test_002_"]));
    assert_eq!(
        told.matches("cause         token_type: our minted token has no token_type; with token_type = \"access\" it is accepted")
            .count(),
        2,
        "{told}"
    );
    for part in [
        "VALIDATION_FAILED",
        "class         auth_token",
        "[targets.stand-in.mint] of staging.toml",
        "claim         token_type · ours: absent · required: \"access\"",
    ] {
        assert!(told.contains(part), "{part:?} is missing in:{told}");
    }
    assert!(!told.contains(server.jwt_secret()) && !told.contains(server.e2e_key()), "{told}");
    let evidence = checks.evidence();
    assert!(evidence.iter().all(|it| it.verdict == Verdict::Failed));
    // How long that takes is for the benchmark; what it costs the service is bounded here.
    assert!(evidence.iter().map(experiments).sum::<usize>() <= REQUESTS_AT_MOST);
}

#[test]
fn many_checks_share_one_search_also_across_processes() {
    let (checks, _server) = planted(SEED, &[]);
    let checks = checks.with("CRITICAL_RUN_ID", "run");
    let names = ["test_001_", "test_003_", "test_012_", "test_013_", "test_014_", "test_017_"];
    let (one, other): (Vec<_>, Vec<_>) = names
        .chunks(3)
        .map(|some| checks.command(some).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs"))
        .partition(|_| true);
    for child in one.into_iter().chain(other) {
        child.wait_with_output().expect("the binary ends");
    }
    let evidence = checks.evidence();
    let searched = evidence.iter().filter(|it| experiments(it) > 0).count();
    // One search for tokens that are refused on the socket, one for those that are refused over HTTP.
    assert_eq!(searched, 2, "{:?}", evidence.iter().map(|it| (it.id, experiments(it))).collect::<Vec<_>>());
    assert!(evidence.iter().map(experiments).all(|some| some <= REQUESTS_AT_MOST));
    for it in &evidence {
        let found = it.diagnosis.as_ref().expect("a diagnosis");
        assert_eq!(found.causes[0].name, "token_type", "{}", it.name);
        let own = found.made_by.is_none();
        assert_eq!(own, experiments(it) > 0, "{}", it.name);
        let cited = found.causes[0].evidence.iter().all(|id| own || id.split_once('#').is_some_and(|(check, _)| check.len() == 3));
        assert!(cited, "{}: {:?}", it.name, found.causes[0].evidence);
    }
    let ledger = checks.ledger();
    assert_eq!(ledger.causes.len(), 1);
    assert_eq!(ledger.causes[0].in_words(), "6 checks, one cause (token_type): 001, 003, 012, 013, 014, 017");
}

#[tokio::test]
async fn a_pass_is_not_diagnosed() {
    let (evidence, _, _out) = Plant::new().run(Body::Login).await;
    assert_eq!(evidence.verdict, Verdict::Passed);
    assert!(evidence.diagnosis.is_none() && experiments(&evidence) == 0);
}

#[tokio::test]
async fn every_experiment_goes_to_the_target_and_is_in_the_evidence() {
    let (evidence, _, _out) = Plant::new().mint("jti = \"\"").run(Body::Login).await;
    let found = evidence.diagnosis.as_ref().expect("a diagnosis");
    assert_eq!(found.trials.len(), experiments(&evidence));
    for trial in &found.trials {
        let exchange = evidence.exchanges.iter().find(|x| format!("#{}", x.id) == trial.exchange).expect("its exchange");
        assert_eq!(exchange.phase, Phase::Diagnosis);
        assert!(exchange.url.contains("://127.0.0.1:"), "{}", exchange.url);
    }
}

#[tokio::test]
async fn switched_off_the_search_asks_once() {
    let plant = Plant::new().mint("jti = \"\"").set("token_search = false");
    let (evidence, told, _out) = plant.run(Body::Login).await;
    assert_eq!(experiments(&evidence), 1, "{told}");
    assert!(told.contains("token_search = true") && told.contains("class         auth_token"), "{told}");
}

#[tokio::test]
async fn a_diagnosis_that_fails_says_so_beside_the_failure() {
    let stage = crate::Stage::new();
    let folder = stage.out.path().join("run");
    let outcome = crate::PROBE.run(stage.staging.clone(), async |cx| {
        // Where the search of the run is kept, a file is in the way.
        std::fs::write(folder.join("diagnosis"), "in the way").expect("a file");
        let token = netra_critical::token::Claims::access("u", "").without("jti").sign(cx.signing_secret()?);
        netra_critical::secret::remember(&token);
        let who = netra_critical::identity::Credential::good("u", &token);
        cx.api(who).get("/api/threads").send().await?.must("a token is accepted").status(200)
    });
    let told = crate::told(outcome.await);
    let wanted =
        ["FAILED        001", "expectation   a token is accepted", "no cause      the diagnosis itself failed", "run/diagnosis"];
    assert!(wanted.iter().all(|part| told.contains(part)), "{told}");
    assert_eq!(stage.evidence().verdict, Verdict::Failed);
}

#[test]
fn a_failure_is_told_again_from_its_evidence_alone() {
    let (checks, _server) = planted(SEED, &[]);
    checks.run(&["test_001_"]);
    let places = Places::of(&checks.environment());
    for name in ["1", "001", "test_001_websocket_connection_real"] {
        let told = explain::check(&places, name).expect("a story");
        for part in ["FAILED        001", "cause         token_type: ", "| ✗ token_type | absent |", "experiments\n  #"] {
            assert!(told.contains(part), "{part:?} is missing in:{told}");
        }
    }
    let (code, groups) = explain::groups(&places).expect_err("a run with a failure");
    assert_eq!(code, 1);
    assert!(groups.contains("1 check (token_type): 001"), "{groups}");
    assert_eq!(explain::check(&places, "002").expect_err("no failure").0, 2);
}

/// What to do next is pasted into a shell: there it does what the check did.
#[rstest]
#[case::over_http("", &[], Some("JWT_SECRET_STAGING"), "test_002", "HTTP/2 401")]
#[case::on_the_socket(SEED, &[], None, "test_001", "not welcomed")]
#[case::by_subprotocol("", &["subprotocol-token-ignored"], None, "test_002", "--by subprotocol")]
#[case::garbage_gets_in("", &["authentication-off"], None, "test_002", "HTTP/2 200")]
#[case::with_a_body("", &["POST /api/threads: answers 500"], None, "test_013", "HTTP/2 500")]
fn the_next_step_can_be_pasted(
    #[case] settings: &str,
    #[case] faults: &[&str],
    #[case] wrong: Option<&'static str>,
    #[case] check: &str,
    #[case] wanted: &str,
) {
    let (checks, _server) = planted(settings, faults);
    let checks = if let Some(name) = wrong { checks.with(name, "not-the-secret-of-the-server") } else { checks };
    checks.run(&[check]);
    let evidence = checks.evidence().remove(0);
    let step = evidence.diagnosis.expect("a diagnosis").next.remove(0);
    let (cargo, built) = ("cargo run --quiet --bin critical --", env!("CARGO_BIN_EXE_critical"));
    assert!(step.contains(cargo), "{step}");
    let output = checks.by(Path::new("bash"), &["-c", &step.replace(cargo, built)]).output().expect("bash runs");
    let told = text(&output);
    assert!(told.contains(wanted) || step.contains(wanted), "{step}\n{told}");
    assert!(!told.contains("SSL certificate") && !told.contains("understood"), "{step}\n{told}");
}

// ---- the doctor -----------------------------------------------------------------------------------------------------

fn examined((checks, _server): &(Checks, StandIn)) -> (u8, String) {
    match doctor::run(&checks.environment(), crate::stand_in::launch) {
        Ok(told) => (0, told),
        Err(wrong) => wrong,
    }
}

/// A sound stand-in, and one variable that is not what it should be.
fn told_so(name: &'static str, value: &str) -> (Checks, StandIn) {
    let (checks, server) = planted("", &[]);
    (checks.with(name, value), server)
}

#[test]
fn the_doctor_finds_a_sound_target_sound() {
    let (code, told) = examined(&planted("", &[]));
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains('✗'), "{told}");
    for part in [
        "(CRITICAL_API_URL)",
        "JWT_SECRET_STAGING = set (the environment)",
        "way to the socket, 127.0.0.1:",
        "clock: ",
        "API, /health/ready: ready",
        "strangers: ",
        "a token of the auth service: ",
        "a token minted here: ",
    ] {
        assert!(told.contains(part), "{part:?} is missing in:\n{told}");
    }
}

#[test]
fn the_doctor_names_the_cause_and_whose_it_is() {
    let told = |settings: &str, faults: &[&str]| examined(&planted(settings, faults));
    let cases = [
        (told(SEED, &[]), 2, "token_type"),
        (told("", &["service-credentials-wrong"]), 1, "service-credentials"),
        (told("", &["authentication-off"]), 1, "authentication-bypassed"),
        (told("", &["bypass-headers-accepted"]), 1, "bypass-by-header"),
        (told("", &["startup-incomplete"]), 1, "not-ready"),
        (told("", &["clock-behind"]), 1, "clock"),
        (told("environment = \"testing\"\n", &[]), 1, "wrong-environment"),
        (examined(&told_so("JWT_SECRET_STAGING", "not-the-secret-of-the-server")), 2, "secret"),
        (examined(&told_so("E2E_OAUTH_SIMULATION_KEY", "not-the-key-of-the-server")), 2, "simulation-key"),
        (examined(&told_so("CRITICAL_AUTH_URL", "https://127.0.0.1:1")), 3, "nothing-listens"),
        (examined(&told_so("CRITICAL_CA_FILE", "")), 3, "certificate-untrusted"),
    ];
    for ((code, told), wanted, cause) in cases {
        assert_eq!(code, wanted, "{told}");
        let first = told.split("cause: ").nth(1).unwrap_or_default();
        assert!(first.starts_with(&format!("{cause}: ")), "{cause} is not the first in:\n{told}");
        assert!(!told.contains("-of-the-server") && !told.contains("eyJ"), "{told}");
    }
    let (code, told) = examined(&told_so("CRITICAL_TARGET", "nowhere"));
    assert!(code == 2 && told.contains("no such target"), "{told}");
}
