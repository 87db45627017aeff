//! `report.html` as readers meet it: in a browser, before a validator, and with content that tries to be more than text.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_critical::about::About;
use netra_critical::check::Area;
use netra_critical::evidence::{Entry, Evidence, Ledger, SCHEMA, read_json};
use netra_critical::exchange::{Exchange, Frame, Judged, Kind, Recorder, Timing};
use netra_critical::expect::{Class, Failure};
use netra_critical::report::past::Since;
use netra_critical::report::{Digest, Run, html};
use netra_critical::{Verdict, diagnose::Diagnosis};
use tempfile::TempDir;

#[path = "browser/tools.rs"]
mod tools;

use tools::Tools;

/// Text that would be markup, a script, the end of one, or another reading direction.
const HOSTILE: &str = "</script><script>globalThis.ran=1;alert(1)</script></pre><img src=x onerror='ran=1'>\" onclick=\"ran=1\" \
                       &lt;b&gt; \0 \u{202e}txt.exe\u{202c} שלום 👩🏽‍🚀 <!-- {{ 7 * 7 }} {% raw %}";

/// A run of the built binary under a fault, of these checks, in a folder of its own.
fn planted(fault: &str, checks: &[&str]) -> TempDir {
    let out = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(crate::built::critical());
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(checks).env("CRITICAL_OUT_DIR", out.path());
    command.env("CRITICAL_RUN_ID", "run").env("CRITICAL_FAULT", fault).env("RUST_TEST_THREADS", "25");
    for inherited in ["CRITICAL_TARGET", "CRITICAL_CONFIG", "JWT_SECRET_STAGING", "E2E_OAUTH_SIMULATION_KEY", "NEXTEST_RUN_ID"] {
        command.env_remove(inherited);
    }
    let output = command.output().expect("the binary runs");
    assert!(!output.status.success(), "{fault} turns nothing red");
    out
}

#[test]
fn in_a_browser_it_can_be_read_filtered_unfolded_and_printed() {
    let out = planted("valid-token-refused", &[]);
    let ledger: Ledger = read_json(&out.path().join("run/results.json")).expect("a ledger");
    assert_eq!(ledger.troubles, Vec::<String>::new());
    let failed = ledger.totals[&Verdict::Failed].to_string();
    let mut variables = vec![("FAILED", Path::new(&failed))];
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.png");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        variables.push(("SCREENSHOT", &picture));
    }
    let page = out.path().join("run/report.html");
    assert_eq!(Tools::ready().node("use.cjs", &page, &variables), "ok\n");
    let size = fs::metadata(page).expect("a page").len();
    assert!(size < 2_500_000, "{size} bytes");
}

#[test]
fn it_is_sound_html_whatever_the_verdicts() {
    let out = planted("message-lost", &["test_001", "test_012", "test_023"]);
    let page = out.path().join("run/report.html");
    let text = fs::read_to_string(&page).expect("a page");
    for shown in ["1 of 25 checks did not pass", "data-verdict=\"not-run\"", "class=\"strip\"", "class=\"socket\""] {
        assert!(text.contains(shown), "{shown}");
    }
    assert_eq!(Tools::ready().node("validate.cjs", &page, &[]), "");
}

/// An exchange with this text wherever a service or a check can put one.
fn exchange(text: &str) -> Exchange {
    let recorder = Recorder::new();
    recorder.begin(Kind::WebSocket, "alice", true, "GET", "https://localhost/ws");
    let mut x = recorder.all().remove(0);
    x.url = format!("https://localhost/{text}");
    x.caller = text.to_owned();
    x.status = Some(101);
    x.request_headers = vec![("x-asked".to_owned(), text.to_owned())];
    x.response_headers = vec![(text.to_owned(), text.to_owned())];
    x.response_body = Some(text.to_owned());
    x.error = Some(text.to_owned());
    x.frames = vec![Frame { at_ms: 2.0, sent: false, text: text.to_owned() }];
    x.timing = Timing { first_byte_ms: Some(1.0), total_ms: Some(3.0), ..Timing::default() };
    x
}

/// A run of one check that failed with these exchanges, and this text for all that is said.
fn run(text: &str, exchanges: Vec<Exchange>) -> Run {
    let about = exchanges.iter().map(|x| x.id).take(1).collect::<Vec<_>>();
    let diagnosis: Diagnosis = serde_json::from_value(serde_json::json!({
        "class": "contract", "because": text, "whys": [{"text": text, "evidence": ["#1", text]}], "next": [text],
        "causes": [{"name": text, "class": "contract", "what": text, "side": "theirs", "change": text, "evidence": ["#1"]}],
        "claims": [{"claim": text, "ours": text, "required": text, "issued": text, "differs": true}],
        "trials": [{"what": text, "door": "http", "answer": "refused", "said": text, "exchange": "#1", "took_ms": 1.0}],
        "excluded": [text], "made_by": null, "trouble": text,
    }))
    .expect("a diagnosis");
    let said = || text.to_owned();
    let evidence = Evidence {
        schema: SCHEMA,
        run_id: said(),
        id: 1,
        name: "probe".to_owned(),
        title: said(),
        area: Area::Streams,
        impact: said(),
        target: said(),
        verdict: Verdict::Failed,
        class: Some(Class::Contract),
        class_because: Some(said()),
        diagnosis: Some(diagnosis),
        failure: Some(Failure {
            expectation: said(),
            wanted: said(),
            got: said(),
            at: "probe.rs:1".to_owned(),
            class: None,
            about: about.clone(),
        }),
        trouble: None,
        waiting_for: vec![said()],
        started_at: "2026-11-25T20:00:00Z".to_owned(),
        duration_ms: 1_000.0,
        queued_ms: 0.0,
        expectations: vec![Judged { name: said(), held: false, at: "probe.rs:1".to_owned(), about }],
        notes: vec![said()],
        measured: Vec::new(),
        left_behind: vec![said()],
        bytes_sent: 1,
        bytes_received: 1,
        process: (1, None),
        exchanges,
    };
    let entry = Entry {
        id: 1,
        name: evidence.name.clone(),
        title: said(),
        area: evidence.area,
        impact: said(),
        verdict: Verdict::Failed,
        duration_ms: Some(1_000.0),
        class: evidence.class,
        summary: Some(said()),
        cause: None,
        stamp: None,
    };
    let ledger = Ledger {
        schema: SCHEMA,
        run_id: said(),
        target: said(),
        updated_at: said(),
        totals: Verdict::ALL.into_iter().map(|it| (it, usize::from(it == Verdict::Failed))).collect(),
        checks: vec![entry],
        causes: Vec::new(),
        troubles: vec![said()],
    };
    Run::new(About::unknown(text, text), ledger, vec![Arc::new(Digest::of(&evidence))], Since::default())
}

#[test]
fn whatever_a_service_sends_stays_text() {
    let page = html::file(&run(HOSTILE, vec![exchange(HOSTILE)])).expect("a page");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, hostile) = (folder.path().join("report.html"), folder.path().join("hostile.txt"));
    fs::write(&path, page).expect("a page");
    fs::write(&hostile, HOSTILE).expect("a text");
    let tools = Tools::ready();
    assert_eq!(tools.node("hostile.cjs", &path, &[("HOSTILE", &hostile)]), "ok\n");
    assert_eq!(tools.node("validate.cjs", &path, &[]), "");
}

#[test]
fn with_5000_exchanges_it_stays_below_5_mib_and_says_what_is_left_out() {
    let body = "\"<>&ä".repeat(16_384 / 5);
    let exchanges = (1..=5_000).map(|id| Exchange { id, ..exchange(&body) });
    let run = {
        let mut run = run("it failed", exchanges.collect());
        run.checks.truncate(1);
        run
    };
    let began = Instant::now();
    let page = html::file(&run).expect("a page");
    let took = began.elapsed();
    assert!(page.len() < 5 << 20, "{} bytes", page.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(page.contains("id=\"x001-1\""), "the exchange that shows the failure is there");
    assert!(page.contains(" of them are only in the evidence file"));
}
