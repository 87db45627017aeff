//! The files that machines read of a run, judged by readers and validators made by others. Each script in `formats/` also sees
//! its validator refuse what is damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netra_critical::evidence::{Evidence, Ledger, SCHEMA};
use netra_critical::exchange::{BODY_KEPT_CHARS, Close, Exchange, Frame, Judged, Kind, Phase, Timing, keep};
use netra_critical::expect::{Class, Failure};
use netra_critical::{Verdict, text};

use crate::checks::Checks;
use crate::{PROBE, Stage, tools};

/// `ctrf` ships its schema with a validator.
const NPM: [&str; 2] = ["ctrf@0.3.0", "har-validator@5.1.5"];
const PIP: [&str; 3] = ["junitparser==5.0.3", "haralyzer==2.4.0", "jsonschema==4.26.0"];
/// A file for machines stays below this.
const AT_MOST_BYTES: u64 = 5 * 1024 * 1024;

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/formats").join(name)
}

/// Lets all of them judge the run in this folder.
fn judge(run: &Path) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/results.schema.json");
    let scripts: [(&str, Command); 5] = [
        ("results.py", tools::python(&PIP, &script("results.py"))),
        ("junit.py", tools::python(&PIP, &script("junit.py"))),
        ("har.py", tools::python(&PIP, &script("har.py"))),
        ("ctrf.js", tools::node(&NPM, &script("ctrf.js"))),
        ("har.js", tools::node(&NPM, &script("har.js"))),
    ];
    for (name, mut command) in scripts {
        let told = tools::output(command.arg(run).arg(&schema)).unwrap_or_else(|told| panic!("{name}: {told}"));
        assert_eq!(told, "ok\n", "{name}");
    }
    for name in ["junit.xml", "ctrf.json", "run.har", "results.json"] {
        let size = fs::metadata(run.join(name)).expect(name).len();
        assert!(size < AT_MOST_BYTES, "{name} has {size} bytes");
    }
    let ledger: Ledger = serde_json::from_slice(&fs::read(run.join("results.json")).expect("a ledger")).expect("JSON");
    assert!(ledger.troubles.is_empty(), "{:?}", ledger.troubles);
}

/// Runs the built binary, lets its files be judged, and gives its ledger.
fn judged_run(checks: &Checks, arguments: &[&str]) -> Ledger {
    checks.run(arguments);
    judge(&checks.latest());
    checks.ledger()
}

#[test]
fn files_of_a_run_with_failures_satisfy_their_readers() {
    let ledger = judged_run(&Checks::new().with("CRITICAL_FAULT", "message-lost"), &[]);
    assert!(ledger.totals[&Verdict::Failed] > 2, "{:?}", ledger.totals);
    assert!(ledger.totals[&Verdict::Passed] > 2, "{:?}", ledger.totals);
}

#[test]
fn files_of_a_run_of_one_check_satisfy_their_readers() {
    let ledger = judged_run(&Checks::new(), &["test_003"]);
    assert_eq!((ledger.totals[&Verdict::Passed], ledger.totals[&Verdict::NotRun]), (1, 24));
}

#[test]
fn files_of_a_run_with_a_wrong_configuration_satisfy_their_readers() {
    let ledger = judged_run(&Checks::new().with("CRITICAL_TARGET", "stagin"), &[]);
    assert_eq!(ledger.totals[&Verdict::Errored], ledger.checks.len());
}

/// Evidence of a failure, with these exchanges.
fn evidence(expectation: &str, exchanges: Vec<Exchange>) -> Evidence {
    let about = vec![1];
    Evidence {
        schema: SCHEMA,
        run_id: "run".to_owned(),
        id: PROBE.id,
        name: PROBE.name.to_owned(),
        title: PROBE.title.to_owned(),
        area: PROBE.area,
        impact: PROBE.impact.to_owned(),
        target: "stand-in".to_owned(),
        verdict: Verdict::Failed,
        class: Some(Class::Application),
        class_because: Some(expectation.to_owned()),
        diagnosis: None,
        failure: Some(Failure {
            expectation: expectation.to_owned(),
            wanted: expectation.to_owned(),
            got: expectation.to_owned(),
            at: "probe.rs:1".to_owned(),
            class: None,
            about: about.clone(),
        }),
        trouble: None,
        waiting_for: Vec::new(),
        started_at: "2026-11-25T20:00:00.123Z".to_owned(),
        duration_ms: 1_234.567,
        queued_ms: 0.0,
        expectations: vec![Judged { name: expectation.to_owned(), held: false, at: "probe.rs:1".to_owned(), about }],
        notes: vec![expectation.to_owned()],
        measured: Vec::new(),
        left_behind: Vec::new(),
        bytes_sent: 1,
        bytes_received: 1,
        process: (1, None),
        exchanges,
    }
}

/// An answered POST of this text, which comes back.
fn exchange(id: u32, text: &str) -> Exchange {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Exchange {
        id,
        kind: Kind::Http,
        phase: Phase::Check,
        caller: "alice".to_owned(),
        credential_good: true,
        started_ms: f64::from(id) * 0.25,
        method: "POST".to_owned(),
        url: "https://127.0.0.1:1/api/threads?token=<jwt:1a2b3c4d>&a=b%20c".to_owned(),
        request_headers: vec![header("content-type", "application/json"), header("x-text", &keep(text, 300))],
        request_body: Some(keep(text, BODY_KEPT_CHARS)),
        status: Some(200),
        response_headers: vec![header("content-type", "text/plain; charset=utf-8"), header("x-text", &keep(text, 300))],
        response_body: Some(keep(text, BODY_KEPT_CHARS)),
        frames: Vec::new(),
        close: None,
        error: None,
        timing: Timing { dns_ms: Some(0.1), tcp_ms: Some(0.2), tls_ms: Some(0.3), first_byte_ms: Some(1.5), total_ms: Some(1.75) },
        peer: Some(([127, 0, 0, 1], 8_443).into()),
        tls: None,
        http_version: Some("HTTP/2.0".to_owned()),
        bytes_sent: 1,
        bytes_received: 1,
    }
}

#[test]
fn files_of_hostile_texts_satisfy_their_readers() {
    let controls: String = (0..0xa0_u32).filter_map(char::from_u32).collect();
    let breakers = "]]> <![CDATA[ --> &amp; &#0; </testcase> \"' \\u0000 \u{fffe}\u{ffff}\u{2028}\u{202e} \u{1b}[31mred\r\n";
    let hostile = format!("{breakers}{controls}{}", text::AWKWARD.join(" "));
    let long = format!("{hostile}{}", text::of_length(20_000));
    let frames = |text: &str| [(0.1, true), (2.5, false)].map(|(at_ms, sent)| Frame { at_ms, sent, text: keep(text, 4_096) });
    let socket = Exchange {
        kind: Kind::WebSocket,
        status: Some(101),
        request_body: None,
        response_body: None,
        frames: frames(&hostile).into(),
        close: Some(Close { code: 1011, reason: hostile.clone() }),
        timing: Timing { total_ms: None, ..exchange(3, "").timing },
        ..exchange(3, &hostile)
    };
    let many = Exchange { id: 4, frames: vec![frames(&long); 40].concat(), ..socket.clone() };
    let cut_off = Exchange {
        kind: Kind::Sse,
        response_body: None,
        frames: frames(&hostile).into(),
        error: Some(hostile.clone()),
        ..exchange(5, &hostile)
    };
    let unanswered = Exchange {
        status: None,
        response_headers: Vec::new(),
        response_body: None,
        error: Some(hostile.clone()),
        timing: Timing::default(),
        peer: None,
        http_version: None,
        url: format!("no url {hostile}"),
        ..exchange(6, "")
    };
    let stage = Stage::new();
    let exchanges = vec![exchange(1, &hostile), exchange(2, &long), socket, many, cut_off, unanswered];
    let suite = stage.staging.suite().expect("a suite");
    suite.folder.write(&evidence(&hostile, exchanges)).expect("evidence that can be written");
    judge(&suite.folder.path);
}

#[test]
fn files_of_5000_exchanges_satisfy_their_readers_and_stay_small() {
    let body = text::of_length(BODY_KEPT_CHARS);
    let stage = Stage::new();
    let suite = stage.staging.suite().expect("a suite");
    let exchanges = (1..=5_000).map(|id| exchange(id, &body)).collect();
    let evidence = evidence("all is kept", exchanges);
    suite.folder.write(&evidence).expect("evidence that can be written");
    judge(&suite.folder.path);
    let har = fs::read(suite.folder.path.join("run.har")).expect("an archive");
    assert!(har.len() > 4_000_000, "what fits is in it: {} bytes", har.len());
}
