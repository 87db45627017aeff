//! Verdicts: what passes, what fails, what is errored, and what is printed.

use netra_critical::evidence::Ledger;
use netra_critical::exchange::Kind;
use netra_critical::{Held, Mismatch, Verdict};
use rstest::rstest;
use serde_json::json;

use crate::{PROBE, Stage, told};

#[tokio::test]
async fn a_check_that_expects_and_exchanges_passes() {
    let stage = Stage::new();
    let outcome = PROBE
        .run(stage.staging.clone(), async |cx| {
            let reply = cx.anonymous().get("/health").send().await?;
            reply.must("health answers 200").status(200)
        })
        .await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let evidence = stage.evidence();
    assert_eq!(evidence.verdict, Verdict::Passed);
    assert!(evidence.bytes_sent > 0 && evidence.bytes_received > 0);
    let exchange = &evidence.exchanges[0];
    let (process, peak_kib) = evidence.process;
    assert_eq!(process, std::process::id());
    assert!(!cfg!(target_os = "linux") || peak_kib.is_some_and(|kib| kib > 4_096), "{peak_kib:?}");
    assert_eq!((exchange.status, exchange.http_version.as_deref()), (Some(200), Some("HTTP/2.0")));
    assert_eq!(exchange.tls.as_ref().map(|tls| tls.version.as_str()), Some("TLSv1.3"));
    assert_eq!(exchange.tls.as_ref().map(|tls| tls.certificate_sha256.len()), Some(64));
    assert!(exchange.timing.tcp_ms.is_some() && exchange.timing.tls_ms.is_some() && exchange.timing.first_byte_ms.is_some());
    assert!(exchange.peer.is_some_and(|peer| peer.ip().is_loopback()));
    for header in ["traceparent", "x-request-id"] {
        assert!(exchange.request_headers.iter().any(|(name, _)| name == header), "{header}");
    }
}

#[tokio::test]
async fn a_check_without_an_expectation_is_errored() {
    let stage = Stage::new();
    let text = told(PROBE.run(stage.staging.clone(), async |cx| cx.anonymous().get("/health").send().await.map(drop)).await);
    assert!(text.contains("without a single expectation"), "{text}");
    assert_eq!(stage.evidence().verdict, Verdict::Errored);
}

#[tokio::test]
async fn a_check_without_traffic_is_errored() {
    let stage = Stage::new();
    let text = told(PROBE.run(stage.staging.clone(), async |cx| cx.must("one is one").equal(&1, &1)).await);
    assert!(text.contains("0 bytes sent and 0 received"), "{text}");
    assert_eq!(stage.evidence().verdict, Verdict::Errored);
}

#[rstest]
#[case::nothing_came_back(120, 0)]
#[case::nothing_was_sent(0, 120)]
#[tokio::test]
async fn a_check_with_traffic_one_way_only_is_errored(#[case] sent: u64, #[case] received: u64) {
    let stage = Stage::new();
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let id = cx.recorder().begin(Kind::Http, "nobody", false, "GET", "https://127.0.0.1/");
        cx.recorder().update(id, |x| (x.bytes_sent, x.bytes_received) = (sent, received));
        cx.must("one is one").equal(&1, &1)
    });
    let text = told(outcome.await);
    assert!(text.contains(&format!("{sent} bytes sent and {received} received")), "{text}");
}

#[tokio::test]
async fn a_broken_expectation_fails_with_its_whole_story() {
    let stage = Stage::new();
    let text = told(
        PROBE
            .run(stage.staging.clone(), async |cx| {
                let alice = cx.user("alice").await?;
                let reply = cx.api(&alice).post("/api/threads", json!({"title": "hello"})).send().await?;
                reply.must("a thread is refused").status(418)
            })
            .await,
    );
    let wanted = [
        "FAILED        001 the machinery works",
        "expectation   a thread is refused",
        "wanted        status 418",
        "got           status 20",
        "tests/suite/verdicts.rs:",
        "class         contract: the answer breaks the contract",
        "> POST https://127.0.0.1:",
        "> authorization: Bearer <jwt:",
        "> {\"title\":\"hello\"}",
        "< HTTP/2.0 20",
        "< x-trace-id: ",
        "run/evidence/probe.json",
        "cargo test --test critical probe",
    ];
    for part in wanted {
        assert!(text.contains(part), "{part:?} is missing in:{text}");
    }
    assert_eq!(stage.evidence().verdict, Verdict::Failed);
}

#[tokio::test]
async fn a_broken_expectation_fails_even_if_its_result_is_thrown_away() {
    let stage = Stage::new();
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let reply = cx.anonymous().get("/health").send().await?;
        drop(reply.must("health is a teapot").status(418));
        reply.must("health answers 200").status(200)
    });
    let text = told(outcome.await);
    assert!(text.contains("health is a teapot") && text.contains("the check went on"), "{text}");
}

#[tokio::test]
async fn a_long_answer_is_told_in_part() {
    let stage = Stage::new();
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        cx.anonymous().get("/health").send().await?.must("health is short").that(false, "a short one", "x".repeat(10_000))
    });
    let text = told(outcome.await);
    assert!(text.contains("[cut: 2400 of 10000 bytes shown]"), "{text}");
}

#[tokio::test]
async fn a_panic_is_errored_not_failed() {
    let stage = Stage::new();
    #[expect(clippy::unreachable, reason = "a panic is what is tried")]
    let body = async |_: &netra_critical::Cx| -> Held { unreachable!("the check has a hole") };
    let text = told(PROBE.run(stage.staging.clone(), body).await);
    assert!(text.contains("ERRORED") && text.contains("the check has a hole"), "{text}");
    assert_eq!(stage.evidence().verdict, Verdict::Errored);
}

#[tokio::test]
async fn a_hung_check_is_timed_out_and_says_what_it_waits_for() {
    let config = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&config, "[targets.stand-in]\nembedded = true\n[targets.stand-in.deadlines]\ncheck_s = 4\n").expect("a setting");
    let stage = Stage::with(&[("CRITICAL_CONFIG", &config.path().display().to_string())]);
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let alice = cx.user("alice").await?;
        let socket = cx.socket(&alice).await?;
        socket.receive("a unicorn arrives", cx.run_deadline(), "a unicorn", |frame| frame.kind() == "unicorn").await.map(drop)
    });
    let text = told(outcome.await);
    assert!(text.contains("TIMED OUT"), "{text}");
    assert!(text.contains("waiting for   a unicorn on the socket of alice"), "{text}");
    assert_eq!(stage.evidence().verdict, Verdict::TimedOut);
}

#[tokio::test]
async fn cleaning_up_runs_backwards_after_a_failure_and_changes_no_verdict() {
    let stage = Stage::new();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        for name in ["first", "second"] {
            let order = std::sync::Arc::clone(&order);
            cx.defer(name, async move {
                order.lock().expect("no panic").push(name);
                Err(netra_critical::expect::Trouble::suite("cannot be cleaned up", ""))
            });
        }
        cx.must("two is one").hold(Err(Mismatch::new(1, 2)))
    });
    let text = told(outcome.await);
    assert!(text.contains("two is one"), "{text}");
    assert_eq!(*order.lock().expect("no panic"), ["second", "first"]);
    assert_eq!(stage.evidence().left_behind, ["second", "first"]);
}

#[tokio::test]
async fn the_ledger_adds_up_and_names_a_damaged_file() {
    let stage = Stage::new();
    let suite = stage.staging.suite().expect("a suite");
    let verdicts = |ledger: &Ledger| ledger.checks.iter().map(|entry| entry.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts(&suite.folder.read().0), [Verdict::NotRun]);
    let outcome =
        PROBE.run(stage.staging.clone(), async |cx| cx.anonymous().get("/health").send().await?.must("health answers").status(200));
    assert!(outcome.await.is_ok());
    let read: Ledger =
        serde_json::from_slice(&std::fs::read(suite.folder.path.join("results.json")).expect("a ledger")).expect("JSON");
    assert_eq!(verdicts(&read), [Verdict::Passed]);
    assert_eq!(read.totals.values().sum::<usize>(), read.checks.len());
    std::fs::write(suite.folder.evidence_path("probe"), "{\"schema\":1,").expect("half a file");
    let damaged = suite.folder.read().0;
    assert_eq!(verdicts(&damaged), [Verdict::Errored]);
    assert!(damaged.checks[0].summary.as_deref().is_some_and(|text| text.contains("probe.json is damaged")), "{damaged:?}");
}

#[tokio::test]
async fn evidence_that_cannot_be_written_is_no_pass() {
    let stage = Stage::new();
    let folder = stage.out.path().join("run/evidence");
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        // Root may write anywhere, so the folder itself goes.
        std::fs::remove_dir_all(&folder).expect("a folder to remove");
        cx.anonymous().get("/health").send().await?.must("health answers").status(200)
    });
    let text = told(outcome.await);
    assert!(text.contains("ERRORED") && text.contains("cannot be written") && text.contains("CRITICAL_OUT_DIR"), "{text}");
}

#[tokio::test]
async fn latest_points_at_the_newest_run() {
    let stage = Stage::new();
    assert!(stage.staging.suite().is_ok());
    let latest = std::fs::read_link(stage.out.path().join("latest")).expect("a link");
    assert_eq!(latest, std::path::Path::new("run"));
}
