//! What a run leaves for people: the report, the terminal, GitHub; what happens to it when a run is killed, when the disk is
//! full, when a secret slips through.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use netra_critical::check::Verdict;
use netra_critical::evidence::{Evidence, Ledger, read_json};
use netra_critical::poll;
use netra_critical::report::{github, markdown, terminal};
use netra_stand_in::{Options, StandIn};

use crate::checks::{Checks, SEED, errors, ledger};

fn read(run: &Path, name: &str) -> String {
    fs::read_to_string(run.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

// ---- the report -----------------------------------------------------------------------------------------------------

/// What is the same in the reports of all runs of one situation: headings, the verdict, what broke and what passed, without
/// times.
fn frame(report: &str) -> Vec<&str> {
    let same = |line: &&str| ["## ", "### ", "**", "| claim", "| token_type", "| 0"].iter().any(|start| line.starts_with(start));
    let time = |c: char| c.is_ascii_digit() || " .|".contains(c);
    report.lines().filter(same).map(|line| line.trim_end_matches(time)).collect()
}

/// The example in the documentation is this run's report: `UPDATE_DOCS=1 cargo test --test suite example` writes it anew.
#[test]
fn the_example_shows_cause_evidence_and_next_step_in_its_first_screen() {
    let checks = Checks::new().set(SEED).with("CRITICAL_FAULT", "token-type-demanded-by-the-socket-alone");
    let output = checks.run(&[]);
    assert!(!output.status.success());
    let report = read(&checks.latest(), "report.md");
    let first_screen: String = report.lines().take(24).collect::<Vec<_>>().join("\n");
    for part in [
        "**Not staging.**",
        "token_type",
        "our minted token has no token_type",
        "[targets.stand-in.mint]".replace('[', "\\[").replace(']', "\\]").as_str(),
        "ours, the suite's configuration",
        "failed",
    ] {
        assert!(first_screen.contains(part), "{part:?} is missing in:\n{first_screen}");
    }
    for part in [
        "## Root causes",
        "### token_type: ",
        "| token_type | absent | \"access\" | \"access\" |",
        "cargo run --quiet --bin critical -- ",
        "timestamp>=",
        "\"error_code\": \"VALIDATION_FAILED\"",
    ] {
        assert!(report.contains(part), "{part:?} is missing in:\n{report}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXAMPLE.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        // The folder of this test is nobody's business.
        let folder = format!("{}/", checks.out.path().display());
        fs::write(&path, report.replace(&folder, "")).expect("the example");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        frame(&kept),
        frame(&report),
        "docs/EXAMPLE.md is not what the suite writes: UPDATE_DOCS=1 cargo test --test suite example"
    );
}

#[test]
fn a_report_of_nothing_but_failures_fits_into_a_comment() {
    let checks = Checks::new().with("CRITICAL_FAULT", "service-credentials-wrong");
    checks.run(&[]);
    let run = checks.latest();
    let report = read(&run, "report.md");
    assert!(report.len() <= markdown::LIMIT_BYTES, "{} bytes", report.len());
    assert!(report.contains("## Failures") && report.trim_end().ends_with("**"), "{report}");
    assert!(report.contains("told in `report.html`"), "{report}");
    assert_eq!(ledger(&run).totals.values().sum::<usize>(), 25);
}

#[test]
fn a_filtered_run_says_what_did_not_run() {
    let checks = Checks::new();
    let output = checks.run(&["test_003"]);
    assert!(output.status.success());
    let report = read(&checks.latest(), "report.md");
    assert!(report.contains("**○ 1 of 25 passed, 24 not run: incomplete**"), "{report}");
    assert!(report.contains("**Not run**: 001, 002, 004"), "{report}");
    for part in [
        "WebSocket handshakes answered with 101, ",
        "server clock: ",
        "environment as the service reports it: `staging`",
        "service discovery: 0 bytes",
        "| JWT_SECRET_STAGING | set | the embedded stand-in |",
        "| cleaned up | everything |",
    ] {
        assert!(report.contains(part), "{part:?} is missing in:\n{report}");
    }
}

// ---- the terminal ---------------------------------------------------------------------------------------------------

#[test]
fn each_check_has_a_line_and_the_run_a_short_block_at_its_end() {
    let checks = Checks::new().with("CRITICAL_FAULT", "message-lost");
    let output = checks.run(&[]);
    let told = errors(&output);
    let lines = told.lines().take_while(|line| !line.is_empty()).filter(|line| line[..3].parse::<u16>().is_ok()).count();
    assert_eq!(lines, 25, "{told}");
    let block: Vec<_> = told.lines().skip_while(|line| !line.starts_with("critical checks · stand-in")).collect();
    assert!((3..=terminal::BLOCK_LINES).contains(&block.len()), "{told}");
    assert!(block[1].starts_with("✗ ") && block[1].contains(" of 25 passed"), "{told}");
    assert!(block.contains(&"    012 broke: every message is listed once on each reading"), "{told}");
    assert!(block.last().is_some_and(|line| line.starts_with("report  ") && line.contains("report.html")), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
}

#[test]
fn with_one_thread_the_lines_of_libtest_stay_whole() {
    let checks = Checks::new();
    let output = checks.run(&["--test-threads=1", "test_005", "test_010"]);
    let told = errors(&output);
    assert!(output.status.success() && told.trim_start().starts_with("critical checks"), "{told}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let checks = Checks::new();
    let in_terminal = |checks: &Checks| {
        let binary = crate::built::critical();
        let command = format!("{} test_005", binary.display());
        let mut script = checks.by(Path::new("script"), &["--quiet", "--return", "--command", &command, "/dev/null"]);
        String::from_utf8_lossy(&script.output().expect("script(1) runs").stdout).into_owned()
    };
    let painted = in_terminal(&checks);
    assert!(painted.contains("\u{1b}[32m005 passed"), "{painted}");
    let plain = in_terminal(&checks.with("NO_COLOR", "1"));
    assert!(plain.contains("005 passed") && !plain.contains("\u{1b}[32m005"), "{plain}");
}

// ---- GitHub ---------------------------------------------------------------------------------------------------------

#[test]
fn github_gets_annotations_by_cause_and_the_report_as_job_summary() {
    let checks = Checks::new().set(SEED).with("GITHUB_ACTIONS", "true");
    let summary = checks.out.path().join("summary.md");
    fs::write(&summary, "what stood there before\n").expect("a file");
    let checks = checks.with("GITHUB_STEP_SUMMARY", &summary.display().to_string());
    let told = errors(&checks.run(&[]));
    let annotations: Vec<_> = told.lines().filter(|line| line.starts_with("::error ")).collect();
    assert!((1..=github::ANNOTATIONS_AT_MOST).contains(&annotations.len()), "{told}");
    let first = annotations[0];
    assert!(
        first.starts_with("::error file=tests/critical/test_") && first.contains("(token_type)%3A 0") && first.contains("%0Ado: "),
        "{first}"
    );
    let written = fs::read_to_string(&summary).expect("a summary");
    assert!(written.starts_with("what stood there before\n# Critical checks · stand-in"), "{written}");
    let silent = Checks::new();
    assert!(!errors(&silent.run(&["test_005"])).contains("::error"));
}

// ---- what goes wrong ------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_run_leaves_a_ledger_that_says_what_is_missing_and_nothing_earlier_is_lost() {
    let checks = Checks::new().with("CRITICAL_RUN_ID", "earlier");
    assert!(checks.run(&["test_005"]).status.success());
    let earlier = read(&checks.out.path().join("earlier"), "results.json");
    let checks = checks.with("CRITICAL_RUN_ID", "killed");
    let mut command = checks.command(&["--test-threads=1"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    let run = checks.out.path().join("killed");
    let some = poll::until(Duration::from_secs(60), Duration::from_millis(5), async || {
        let ledger: Result<Ledger, _> = read_json(&run.join("results.json"));
        let ended = ledger.map_or(0, |ledger| 25 - ledger.totals[&Verdict::NotRun]);
        if ended >= 4 { Ok(()) } else { Err(ended) }
    });
    some.await.expect("the first checks end");
    child.kill().expect("SIGKILL");
    child.wait().expect("it is gone");
    let ledger = ledger(&run);
    assert_eq!(ledger.totals.values().sum::<usize>(), 25);
    assert!(ledger.totals[&Verdict::NotRun] > 0 && ledger.totals[&Verdict::Passed] >= 4, "{:?}", ledger.totals);
    let report = read(&run, "report.md");
    assert!(report.contains("**Not run**: ") && report.contains("incomplete**"), "{report}");
    for file in fs::read_dir(run.join("evidence")).expect("evidence") {
        let path = file.expect("a file").path();
        let half = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        assert!(half || read_json::<Evidence>(&path).is_ok(), "{}", path.display());
    }
    assert_eq!(read(&checks.out.path().join("earlier"), "results.json"), earlier);
}

#[test]
fn two_runs_at_once_do_not_meet() {
    let checks = Checks::new();
    let children: Vec<_> = (0..2)
        .map(|_| checks.command(&["test_00"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs"))
        .collect();
    for child in children {
        assert!(child.wait_with_output().expect("it ends").status.success());
    }
    let runs: Vec<_> = fs::read_dir(checks.out.path())
        .expect("runs")
        .filter_map(|run| {
            let path = run.ok()?.path();
            (path.join("results.json").is_file() && !path.is_symlink()).then_some(path)
        })
        .collect();
    assert_eq!(runs.len(), 2, "{runs:?}");
    for run in runs {
        assert_eq!(ledger(&run).totals[&Verdict::Passed], 9, "{}", run.display());
    }
}

#[test]
fn a_disk_that_is_full_is_named_with_the_remedy_and_what_fits_is_kept() {
    let server = StandIn::start(Options::default()).expect("a stand-in");
    let checks = Checks::new().against(&server);
    // No file grows beyond 32 KiB, as on a disk without room; the signal that comes with it is ignored, as the error is wanted.
    let binary = crate::built::critical();
    let limited = format!("trap '' XFSZ; ulimit -f 32; exec {} test_005 test_012", binary.display());
    let output = checks.by(Path::new("bash"), &["-c", &limited]).output().expect("bash runs");
    let story = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success());
    assert!(
        story.contains("test_012_message_persistence_real.json cannot be written") && story.contains("free some space"),
        "{story}"
    );
    let ledger = ledger(&checks.latest());
    let of = |id: u16| ledger.checks.iter().find(|entry| entry.id == id).expect("an entry");
    assert_eq!((of(12).verdict, of(5).verdict), (Verdict::Errored, Verdict::Passed), "{:?}", ledger.totals);
}

#[test]
fn a_report_that_cannot_be_written_is_named_and_changes_no_verdict() {
    let checks = Checks::new().with("CRITICAL_RUN_ID", "run");
    let in_the_way = checks.out.path().join("run/junit.xml/folder");
    fs::create_dir_all(&in_the_way).expect("a folder");
    let output = checks.run(&["test_005"]);
    assert!(output.status.success(), "{}", errors(&output));
    let run = checks.out.path().join("run");
    let told = errors(&output);
    assert!(told.contains("junit.xml cannot be written"), "{told}");
    assert!(ledger(&run).troubles.iter().any(|it| it.contains("junit.xml cannot be written")));
    assert!(read(&run, "report.md").contains("junit.xml cannot be written"));
}
