//! The history: what it keeps, what it says of a run, and that no trouble with it costs anything else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use netra_critical::Verdict::{Errored, Failed, Passed, TimedOut};
use netra_critical::config::{Environment, Places};
use netra_critical::evidence::{Ledger, read_json};
use netra_critical::report::past::{Since, store};
use netra_critical::report::{past, render};
use netra_critical::{Verdict, past_runs};
use rstest::rstest;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::laid::{Laid, change, critical, told};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn places(out: &TempDir) -> Places {
    let path = out.path().display().to_string();
    Places::of(&[("CRITICAL_OUT_DIR", path.as_str())].into_iter().collect::<Environment>())
}

/// Lays a run out, and records it as a run does.
fn run(out: &TempDir, minute: usize, ran: &[(u16, Verdict, f64)]) -> Since {
    let run_id = format!("run-{minute}");
    let folder = Laid { run_id: &run_id, minute, ran }.lay(out.path());
    let since = render(&folder).expect("a run").since;
    let ledger: Ledger = read_json(&folder.join("results.json")).expect("a ledger");
    Since { trouble: ledger.troubles.into_iter().next(), ..since }
}

/// All runs in the history, oldest first: ids, and results of each.
fn kept(out: &TempDir) -> Vec<(String, usize)> {
    let (_, mut runs) = store::newest(&out.path().join("history.sqlite"), 1_000).expect("a history").expect("runs");
    runs.reverse();
    runs.into_iter().map(|past| (past.run.run_id, past.results.len())).collect()
}

// ---- what it says -----------------------------------------------------------------------------------------------------

#[test]
fn a_run_is_compared_with_earlier_ones_of_its_target() {
    let out = folder();
    let first = run(&out, 0, &[(1, Passed, 100.0), (2, Failed, 100.0), (3, Passed, 100.0)]);
    assert!(first.before.is_none() && first.new_failures.is_empty() && first.still.is_empty(), "{first:?}");
    run(&out, 1, &[(1, Passed, 100.0), (2, Errored, 100.0)]);
    let third = run(&out, 2, &[(1, TimedOut, 100.0), (2, Failed, 100.0), (3, Failed, 100.0)]);
    assert_eq!(third.before.map(|it| it.run_id).as_deref(), Some("run-1"));
    assert_eq!(third.new_failures, [1, 3], "003 did not run in between");
    let still: Vec<_> = third.still.iter().map(|it| (it.check, it.since.run_id.as_str(), it.runs)).collect();
    assert_eq!(still, [(2, "run-0", 3)]);
    let fourth = run(&out, 3, &[(1, Passed, 100.0), (2, Passed, 100.0), (3, Failed, 100.0)]);
    assert_eq!((fourth.fixed, fourth.too_few, fourth.trouble), (vec![1, 2], 2, None));
}

#[test]
fn an_older_run_that_is_rendered_again_knows_nothing_of_newer_ones() {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0)]);
    run(&out, 1, &[(1, Failed, 100.0)]);
    run(&out, 2, &[(1, Failed, 100.0)]);
    let again = render(&out.path().join("run-1")).expect("a run").since;
    assert_eq!((again.before.map(|it| it.run_id).as_deref(), again.new_failures), (Some("run-0"), vec![1]));
    assert_eq!(kept(&out).len(), 3, "and is not counted twice");
}

#[rstest]
#[case::on_another_host("api", "https://other.example.test")]
#[case::of_another_name("target", "other")]
#[case::with_a_fault("fault", "slow")]
fn a_run_of_another_target_is_not_compared(#[case] key: &str, #[case] value: &str) {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0)]);
    let other = Laid { run_id: "other", minute: 1, ran: &[(1, Failed, 100.0)] }.lay(out.path());
    change(&other.join("run.json"), |about| about[key] = value.into());
    let since = render(&other).expect("a run").since;
    assert!(since.before.is_none() && since.new_failures.is_empty(), "{since:?}");
    assert_eq!(run(&out, 2, &[(1, Passed, 100.0)]).before.map(|it| it.run_id).as_deref(), Some("run-0"));
}

#[test]
fn a_run_is_recorded_as_far_as_it_has_come() {
    let out = folder();
    run(&out, 0, &[(2, Passed, 100.0)]);
    assert_eq!(kept(&out), [("run-0".to_owned(), 1)]);
    run(&out, 0, &[(2, Passed, 100.0), (3, Failed, 100.0)]);
    assert_eq!(kept(&out), [("run-0".to_owned(), 2)]);
}

#[test]
fn a_slow_pass_is_told_against_its_own_history() {
    let out = folder();
    for minute in 0..5 {
        run(&out, minute, &[(1, Passed, 100.0)]);
    }
    let since = run(&out, 5, &[(1, Passed, 400.0)]);
    let pace: Vec<_> = since.pace.iter().map(|it| (it.check, it.ms, it.median_ms, it.n)).collect();
    assert_eq!((pace, since.too_few), (vec![(1, 400.0, 100.0, 5)], 0));
}

#[test]
fn the_newest_200_runs_of_each_target_are_kept() {
    let out = folder();
    let other = Laid { run_id: "other", minute: 0, ran: &[(1, Passed, 1.0)] }.lay(out.path());
    change(&other.join("run.json"), |about| about["target"] = "other".into());
    render(&other).expect("a run");
    for minute in 0..store::RUNS_KEPT + 3 {
        run(&out, minute, &[(1, Passed, 100.0)]);
    }
    let kept = kept(&out);
    assert_eq!((kept.len(), kept[0].0.as_str()), (store::RUNS_KEPT, "run-3"));
    let sql = Connection::open(out.path().join("history.sqlite")).expect("a database");
    let count = |of: &str| sql.query_row(&format!("SELECT count(*) FROM {of}"), [], |row| row.get::<_, u32>(0)).expect("a count");
    assert_eq!((count("runs"), count("results")), (201, 201), "the other target's stays");
}

// ---- trouble ----------------------------------------------------------------------------------------------------------

#[test]
fn many_processes_record_at_once() {
    let out = folder();
    let runs: Vec<_> = (0..8).map(|at| format!("run-{at}")).collect();
    for (minute, run_id) in runs.iter().enumerate() {
        Laid { run_id, minute, ran: &[(1, Passed, 100.0), (2, Passed, 100.0)] }.lay(out.path());
    }
    let start = |run_id: &String| critical(out.path(), &["report", run_id]).stdout(Stdio::piped()).spawn().expect("it runs");
    let children: Vec<_> = runs.iter().chain(&runs).map(start).collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        let (code, text) = told(&output);
        assert!(code == 0 && text.lines().count() == 1, "{text}");
    }
    assert_eq!(kept(&out), runs.into_iter().map(|run_id| (run_id, 2)).collect::<Vec<_>>());
}

/// A run in a history that is spoiled: the reports are there, the trouble is told, and the file is as it was.
fn told_and_left(out: &TempDir, parts: &[&str]) {
    let file = out.path().join("history.sqlite");
    let before = std::fs::read(&file).ok();
    let since = run(out, 9, &[(1, Passed, 100.0), (2, Failed, 100.0)]);
    let trouble = since.trouble.expect("a trouble");
    for part in parts.iter().chain(&["history.sqlite"]) {
        assert!(trouble.contains(part), "{part:?} is missing in: {trouble}");
    }
    assert_eq!(std::fs::read(&file).ok(), before, "the file is as it was");
    let about = out.path().join("run-9");
    assert!(about.join("report.md").is_file() && about.join("junit.xml").is_file());
    let again = render(&about).expect("a run");
    assert!(past::against(&about, &again).trouble.is_some());
    let (code, text) = past_runs::history(&places(out)).expect_err("no history");
    assert!(code == 2 && parts.iter().all(|part| text.contains(part)), "{text}");
}

#[test]
fn a_damaged_history_is_named_and_left_as_it_is() {
    let out = folder();
    std::fs::write(out.path().join("history.sqlite"), "no database at all, but somebody's words".repeat(40)).expect("a file");
    told_and_left(&out, &["is damaged", "move it away"]);
}

#[test]
fn a_history_of_a_newer_version_is_named_and_left_as_it_is() {
    let out = folder();
    let newer = Connection::open(out.path().join("history.sqlite")).expect("a database");
    newer.execute_batch("CREATE TABLE runs (something TEXT); PRAGMA user_version = 2").expect("tables");
    drop(newer);
    told_and_left(&out, &["newer version of the suite (tables of version 2, this one knows 1)", "move the file away"]);
}

#[test]
fn a_folder_in_place_of_the_history_is_named() {
    let out = folder();
    std::fs::create_dir(out.path().join("history.sqlite")).expect("a folder");
    told_and_left(&out, &["cannot be used", "CRITICAL_OUT_DIR"]);
}

#[test]
fn a_history_damaged_in_the_middle_is_named_and_the_run_goes_on() {
    let out = folder();
    (0..30).for_each(|minute| drop(run(&out, minute, &[(1, Passed, 100.0), (2, Passed, 1.0), (3, Passed, 1.0)])));
    let file = out.path().join("history.sqlite");
    let mut bytes = std::fs::read(&file).expect("a file");
    let from = 4_096;
    bytes[from..].fill(0x55);
    std::fs::write(&file, bytes).expect("a file");
    told_and_left(&out, &["is damaged", "move it away"]);
}

#[test]
fn a_history_that_another_process_holds_is_waited_for_and_then_named() {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0)]);
    let holder = Connection::open(out.path().join("history.sqlite")).expect("a database");
    holder.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let since = run(&out, 1, &[(1, Failed, 100.0)]);
    assert!(since.trouble.as_ref().is_some_and(|it| it.contains("was in use for 5 s by another process")), "{since:?}");
    assert_eq!(since.new_failures, [1], "reading goes on");
    holder.execute_batch("ROLLBACK").expect("the lock");
    assert_eq!(run(&out, 1, &[(1, Failed, 100.0)]).trouble, None);
    assert_eq!(kept(&out).len(), 2);
}

#[test]
fn on_a_full_disk_nothing_earlier_is_lost() {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0)]);
    let run_1 = Laid { run_id: "run-1", minute: 1, ran: &[(1, Failed, 100.0)] }.lay(out.path());
    // No file may grow beyond eight blocks of 512 bytes: the ledger does not need to, the log of the database must.
    let line = "trap '' XFSZ; ulimit -f 8; exec \"$1\" report run-1";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_critical")]).env("CRITICAL_OUT_DIR", out.path());
    let (code, text) = told(&command.output().expect("a shell"));
    assert!(code == 0 && text.contains("history.sqlite cannot be used") && text.contains("free some space"), "{text}");
    assert_eq!(read_json::<Ledger>(&run_1.join("results.json")).expect("a ledger").totals[&Failed], 1);
    assert_eq!(kept(&out), [("run-0".to_owned(), 1)]);
    let since = render(&out.path().join("run-1")).expect("a run").since;
    assert_eq!((since.trouble, since.new_failures), (None, vec![1]));
}

#[cfg(unix)]
#[test]
fn in_a_read_only_folder_the_run_says_why_there_is_no_history() {
    use std::os::unix::fs::PermissionsExt as _;
    let out = folder();
    Laid { run_id: "run-0", minute: 0, ran: &[(1, Passed, 100.0)] }.lay(out.path());
    let mode = |mode| std::fs::set_permissions(out.path(), std::fs::Permissions::from_mode(mode)).expect("permissions");
    mode(0o555);
    // Root may write anywhere, unless it lays that power down.
    let line = "[ \"$(id -u)\" = 0 ] && set -- setpriv --bounding-set -dac_override \"$@\"; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_critical"), "report", "run-0"]).env("CRITICAL_OUT_DIR", out.path());
    let output = command.output().expect("a shell");
    mode(0o755);
    let (code, text) = told(&output);
    assert!(code == 0 && text.contains("run-0/report.md"), "{text}");
    assert!(text.contains("history.sqlite cannot be used") && text.contains("CRITICAL_OUT_DIR"), "{text}");
    assert!(out.path().join("run-0/report.md").is_file() && !out.path().join("history.sqlite").exists());
}

#[test]
fn what_looks_like_a_token_is_not_kept() {
    let out = folder();
    let folder = Laid { run_id: "run-0", minute: 0, ran: &[(1, Passed, 100.0)] }.lay(out.path());
    change(&folder.join("run.json"), |it| it["target"] = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl".into());
    let Err(told) = render(&folder) else { panic!("a token stays in a report") };
    assert!(told.contains("junit.xml was removed: a token stood in line "), "{told}");
    let ledger: Ledger = read_json(&folder.join("results.json")).expect("a ledger");
    let said = "the run was not added to the history: a token stood in it";
    assert!(ledger.troubles.iter().any(|it| it == said), "{:?}", ledger.troubles);
    let (code, text) = past_runs::history(&places(&out)).expect_err("an empty history");
    assert!(code == 2 && text.contains("is empty"), "{text}");
}

// ---- critical history -------------------------------------------------------------------------------------------------

#[test]
fn the_history_of_all_checks_is_a_line_of_marks_each() {
    let out = folder();
    (0..5).for_each(|minute| drop(run(&out, minute, &[(1, Passed, 100.0), (2, Passed, 100.0)])));
    run(&out, 5, &[(1, Failed, 100.0), (2, Errored, 100.0), (3, TimedOut, 1.0)]);
    run(&out, 6, &[(1, Failed, 100.0), (2, Passed, 300.0)]);
    let text = past_runs::history(&places(&out)).expect("a history");
    let lines: Vec<_> = text.lines().collect();
    let wanted = [
        "staging at api.example.test:443: the last 7 runs, oldest first, up to run-6 of 2026-11-25T10:06:00.000Z",
        "✓ passed  ✗ failed  ! errored  t timed out  · not run",
        "001 ✓✓✓✓✓✗✗    100 ms  test_001_one  failing since 2026-11-25T10:05:00.000Z (2 runs)",
        "002 ✓✓✓✓✓!✓    100 ms  test_002_two  fixed  slower: 300 ms, median of 5 earlier passes 100 ms",
        "003 ·····t·         -  test_003_three",
    ];
    assert_eq!(lines, wanted);
    for minute in 7..40 {
        run(&out, minute, &[(1, Passed, 100.0)]);
    }
    let text = past_runs::history(&places(&out)).expect("a history");
    assert!(text.contains(&format!("001 {}  ", "✓".repeat(30))), "the last 30 only: {text}");
}

#[rstest]
#[case("2")]
#[case("002")]
#[case("test_002")]
#[case("test_002_two")]
fn the_history_of_one_check_is_a_line_a_run(#[case] word: &str) {
    let out = folder();
    run(&out, 0, &[(2, Passed, 1234.0)]);
    run(&out, 1, &[(1, Passed, 1.0)]);
    run(&out, 2, &[(2, TimedOut, 5.0)]);
    let text = past_runs::history_of(&places(&out), word).expect("a history");
    let wanted = [
        "002 against staging at api.example.test:443",
        "2026-11-25T10:00:00.000Z  run-0  ✓ passed         1234 ms",
        "2026-11-25T10:02:00.000Z  run-2  t timed out         5 ms",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
}

#[test]
fn what_is_not_in_the_history_is_named() {
    let out = folder();
    let (code, text) = past_runs::history(&places(&out)).expect_err("no history");
    assert!(code == 2 && text.contains("no history; run the checks first"), "{text}");
    run(&out, 0, &[(1, Passed, 1.0), (3, Passed, 1.0)]);
    for word in ["2", "nonsense"] {
        let (code, text) = past_runs::history_of(&places(&out), word).expect_err("no such check");
        assert!(code == 2 && text.contains("choose one of: 001, 003"), "{text}");
    }
}

#[test]
fn the_built_checks_leave_a_history() {
    let out = folder();
    let run = |run_id: &str| {
        let mut command = crate::built::apart(crate::built::critical());
        command.arg("test_013").env("CRITICAL_OUT_DIR", out.path()).env("CRITICAL_RUN_ID", run_id);
        let output = command.output().expect("the checks run");
        assert!(output.status.success(), "{}", told(&output).1);
    };
    run("one");
    run("two");
    let (code, text) = told(&critical(out.path(), &["history"]).output().expect("it runs"));
    assert!(code == 0 && text.starts_with("stand-in: the last 2 runs") && text.contains("\n013 ✓✓ "), "{text}");
    let (code, text) = told(&critical(out.path(), &["compare", "latest~1", "latest"]).output().expect("it runs"));
    assert!(code == 0 && text.starts_with("A: run one of ") && text.contains("\nB: run two of "), "{text}");
}

// ---- critical compare -------------------------------------------------------------------------------------------------

fn compared(out: &Path, a: &str, b: &str) -> (i32, String) {
    told(&critical(out, &["compare", a, b]).output().expect("it runs"))
}

#[test]
fn two_runs_are_compared() {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0), (2, Failed, 100.0)]);
    run(&out, 1, &[(1, Passed, 250.0), (2, Passed, 100.0), (3, Failed, 100.0)]);
    let (code, text) = compared(out.path(), "run-0", "run-1");
    assert_eq!(code, 1, "{text}");
    let wanted = [
        "A: run run-0 of 2026-11-25T10:00:00.000Z against staging: 1 passed, 1 failed, 1 not run",
        "B: run run-1 of 2026-11-25T10:01:00.000Z against staging: 2 passed, 1 failed",
        "new failures",
        "  003 failed (not run in A)",
        "fixed",
        "  002 test_002_two holds",
        "pace of what passed in both",
        "  001     100 ms →     250 ms  × 2.50  test_001_one",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), wanted);
    let (code, text) = compared(out.path(), "run-1", "run-1");
    assert!(code == 0 && text.contains("still failing\n  003 failed"), "{text}");
    let (code, text) = compared(out.path(), "run-1", "run-0");
    assert!(code == 1 && text.contains("new failures\n  002 failed\n") && text.contains("not run in B\n  003 "), "{text}");
}

#[test]
fn runs_are_named_by_id_path_and_place() {
    let out = folder();
    (0..3).for_each(|minute| drop(run(&out, minute, &[(1, Passed, 1.0)])));
    #[cfg(unix)]
    std::os::unix::fs::symlink("run-1", out.path().join("latest")).expect("a link");
    let path = out.path().join("run-2").display().to_string();
    for (word, wanted) in
        [("run-0", "run-0"), ("latest", "run-1"), ("latest~0", "run-1"), ("latest~1", "run-0"), (path.as_str(), "run-2")]
    {
        let (code, text) = compared(out.path(), word, "run-0");
        assert!(code == 0 && text.starts_with(&format!("A: run {wanted} of ")), "{word}: {text}");
    }
    for word in ["", "run-7", "latest~2", "latest~x", "latest~99999999999999999999"] {
        let (code, text) = compared(out.path(), word, "run-0");
        assert!(code == 2 && text.contains("there are these: run-2, run-1, run-0"), "{word}: {text}");
    }
    let (code, text) = compared(folder().path(), "latest", "latest");
    assert!(code == 2 && text.contains("no runs; run the checks first"), "{text}");
}

#[test]
fn runs_of_different_targets_are_compared_with_a_warning_on_top() {
    let out = folder();
    run(&out, 0, &[(1, Passed, 100.0)]);
    run(&out, 1, &[(1, Passed, 100.0)]);
    change(&out.path().join("run-1/run.json"), |about| about["target"] = "other".into());
    let (code, text) = compared(out.path(), "run-0", "run-1");
    let wanted = "different targets: staging at api.example.test:443, and other at api.example.test:443; ";
    assert!(code == 0 && text.starts_with(wanted), "{text}");
}

#[test]
fn causes_that_came_and_went_are_told() {
    let out = folder();
    run(&out, 0, &[(1, Failed, 100.0), (2, Failed, 100.0)]);
    run(&out, 1, &[(1, Failed, 100.0), (2, Failed, 100.0)]);
    let causes =
        |run: &str, causes: serde_json::Value| change(&out.path().join(run).join("results.json"), |it| it["causes"] = causes);
    causes("run-0", serde_json::json!([{"cause": "secret", "checks": [1]}, {"cause": "clock", "checks": [2]}]));
    causes("run-1", serde_json::json!([{"cause": "secret", "checks": [1]}, {"cause": "gateway", "checks": [2]}]));
    let (_, text) = compared(out.path(), "run-0", "run-1");
    assert!(text.contains("causes that came\n  1 check (gateway): 002\ncauses that went\n  1 check (clock): 002"), "{text}");
}

/// The fastest of some, for a machine that is busy with other tests; the limit is far above what an idle one takes.
#[test]
fn a_comparison_with_a_full_history_is_cheap() {
    let out = folder();
    let file = out.path().join("history.sqlite");
    run(&out, 0, &[(1, Passed, 100.0)]);
    let sql = Connection::open(&file).expect("a database");
    sql.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 199)
         INSERT INTO runs (run_id, compared_by, target, started_at, suite_version)
         SELECT 'old-' || i, compared_by, target, '2026-11-24T' || i, suite_version FROM runs, n WHERE run_id = 'run-0';
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25)
         INSERT OR IGNORE INTO results (run, check_id, verdict, duration_ms) SELECT run, i, 'passed', 100.0 FROM runs, n;",
    )
    .expect("rows");
    drop(sql);
    let folder = Laid { run_id: "run-1", minute: 1, ran: &[(1, Passed, 100.0), (2, Passed, 100.0)] }.lay(out.path());
    let again = render(&folder).expect("a run");
    let took = (0..50)
        .map(|_| {
            let started = std::time::Instant::now();
            assert_eq!(past::against(&folder, &again).too_few, 0);
            started.elapsed()
        })
        .min();
    assert!(took < Some(Duration::from_millis(20)), "{took:?}");
}
