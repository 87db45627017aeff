//! A run made by hand: one text for all that anybody says, and each part of the page with something in it.

use std::sync::Arc;

use netra_critical::Verdict;
use netra_critical::about::{About, Setting};
use netra_critical::check::Area;
use netra_critical::diagnose::Diagnosis;
use netra_critical::evidence::{Entry, Evidence, Group, Ledger, SCHEMA};
use netra_critical::exchange::{Exchange, Frame, Judged, Kind, Measured, Recorder, Timing};
use netra_critical::expect::{Class, Failure, Trouble};
use netra_critical::report::past::{Before, Pace, Since, Still};
use netra_critical::report::{Digest, Run};

/// When all of it happened.
const THEN: &str = "2026-11-25T20:00:00Z";

/// An exchange with this text wherever a service or a check can put one.
pub(crate) fn exchange(text: &str) -> Exchange {
    let recorder = Recorder::new();
    recorder.begin(Kind::WebSocket, text, true, "GET", "https://localhost/ws");
    let mut x = recorder.all().remove(0);
    x.url = format!("https://localhost/{text}");
    x.status = Some(101);
    x.request_headers = vec![("x-asked".to_owned(), text.to_owned())];
    x.response_headers = vec![(text.to_owned(), text.to_owned())];
    x.response_body = Some(text.to_owned());
    x.error = Some(text.to_owned());
    x.frames = vec![Frame { at_ms: 2.0, sent: false, text: text.to_owned() }];
    x.timing = Timing { first_byte_ms: Some(1.0), total_ms: Some(3.0), ..Timing::default() };
    x
}

/// Checks that failed with these exchanges, were errored, timed out, left damaged evidence, passed, and did not run.
pub(crate) fn run(text: &str, exchanges: Vec<Exchange>) -> Run {
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
        started_at: THEN.to_owned(),
        duration_ms: 1_000.0,
        queued_ms: 200.0,
        expectations: vec![Judged { name: said(), held: false, at: "probe.rs:1".to_owned(), about }],
        notes: vec![said()],
        measured: vec![Measured { route: said(), samples_ms: vec![0.5, 3.0, 900.0], median_limit_ms: 200.0, tail_limit_ms: 800.0 }],
        left_behind: vec![said()],
        bytes_sent: 1,
        bytes_received: 1,
        process: (1, None),
        exchanges,
    };
    let trouble = Trouble { what: said(), remedy: said(), class: Class::Suite, about: Vec::new() };
    let failed = Arc::new(Digest::of(&evidence));
    let bare = Evidence { failure: None, diagnosis: None, exchanges: Vec::new(), measured: Vec::new(), ..evidence };
    let errored = Evidence { id: 2, verdict: Verdict::Errored, trouble: Some(trouble), ..bare.clone() };
    let timed_out = Evidence { id: 3, verdict: Verdict::TimedOut, waiting_for: vec![said(), said()], ..bare.clone() };
    let passed = Evidence { id: 5, verdict: Verdict::Passed, expectations: Vec::new(), ..bare };
    let verdicts = [
        Verdict::Failed,
        Verdict::Errored,
        Verdict::TimedOut,
        // Damaged: a verdict without evidence.
        Verdict::Errored,
        Verdict::Passed,
        Verdict::NotRun,
    ];
    let entry = |(id, verdict): (u16, Verdict)| Entry {
        id,
        name: format!("probe_{id}"),
        title: said(),
        area: Area::Streams,
        impact: said(),
        verdict,
        duration_ms: (verdict != Verdict::NotRun).then_some(1_000.0),
        class: (verdict == Verdict::Failed).then_some(Class::Contract),
        summary: Some(said()),
        cause: (verdict == Verdict::Failed).then(said),
        stamp: None,
    };
    let ledger = Ledger {
        schema: SCHEMA,
        run_id: said(),
        target: said(),
        updated_at: said(),
        totals: Verdict::ALL.into_iter().map(|it| (it, verdicts.iter().filter(|verdict| **verdict == it).count())).collect(),
        checks: (1..).zip(verdicts).map(entry).collect(),
        causes: vec![Group { cause: said(), checks: vec![1] }],
        troubles: vec![said()],
    };
    let before = Before { run_id: said(), started_at: THEN.to_owned() };
    let since = Since {
        new_failures: vec![1],
        fixed: vec![5],
        still: vec![Still { check: 2, since: before.clone(), runs: 3 }],
        pace: vec![Pace { check: 5, ms: 900.0, median_ms: 400.0, n: 7 }],
        before: Some(before),
        too_few: 2,
        trouble: Some(said()),
    };
    let mut about = About::unknown(text, text);
    (about.embedded, about.fault, about.api, about.commit) = (true, Some(said()), Some(said()), Some(said()));
    about.configuration = vec![Setting { key: said(), value: said(), source: said() }];
    let [errored, timed_out, passed] = [errored, timed_out, passed].map(|it| Arc::new(Digest::of(&it)));
    Run::new(about, ledger, vec![failed, errored, timed_out, passed], since)
}
