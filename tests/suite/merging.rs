//! Shards put together: the ledger adds up, what is missing or doubled is named, and what does not belong together is left alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netra_critical::Verdict::{self, Errored, Failed, NotRun, Passed, TimedOut};
use netra_critical::about::About;
use netra_critical::config::Environment;
use netra_critical::evidence::{Ledger, read_json};
use netra_critical::report::merge::{self, merge};
use netra_critical::report::past::store;
use netra_critical::report::render;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::laid::{Laid, NAMES, change, contents, critical, told};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn ledger(folder: &Path) -> Ledger {
    read_json(&folder.join("results.json")).expect("a ledger")
}

fn verdicts(ledger: &Ledger) -> Vec<Verdict> {
    ledger.checks.iter().map(|entry| entry.verdict).collect()
}

/// Shards of one run: 001 and 002 in one, 003 in the other.
fn two(out: &TempDir) -> Vec<PathBuf> {
    let lay = |run_id, minute, ran: &[_]| {
        let folder = Laid { run_id, minute, ran }.lay(out.path());
        render(&folder).expect("a run");
        folder
    };
    vec![lay("shard-1", 1, &[(1, Passed, 10.0), (2, Passed, 20.0)]), lay("shard-2", 0, &[(3, Passed, 30.0)])]
}

#[test]
fn shards_make_one_run_with_all_reports_and_stay_as_they_are() {
    let out = folder();
    let shards = two(&out);
    let before: Vec<_> = shards.iter().flat_map(|shard| contents(shard)).collect();
    let (code, text) = told(&critical(out.path(), &["merge", "shard-1", "shard-2"]).current_dir(&out).output().expect("it runs"));
    assert_eq!(code, 0, "{text}");
    let report = PathBuf::from(text.lines().last().expect("a path"));
    let merged = report.parent().expect("a folder");
    assert!(merged.file_name().expect("a name").to_string_lossy().starts_with("merged-"), "{text}");
    for name in ["report.md", "report.html", "junit.xml", "ctrf.json", "run.har"] {
        assert!(merged.join(name).is_file(), "{name}");
    }
    assert_eq!(verdicts(&ledger(merged)), [Passed; 3]);
    let about: About = read_json(&merged.join("run.json")).expect("a run");
    assert_eq!(about.shards, ["shard-1", "shard-2"]);
    assert_eq!(
        (about.started_at.as_str(), about.run_id),
        ("2026-11-25T10:00:00.000Z", ledger(merged).run_id),
        "it began with the first"
    );
    for (shard, name) in [(0, NAMES[0]), (0, NAMES[1]), (1, NAMES[2])] {
        let file = |folder: &Path| std::fs::read(folder.join(format!("evidence/{name}.json"))).expect("evidence");
        assert_eq!(file(merged), file(&shards[shard]));
    }
    assert_eq!(shards.iter().flat_map(|shard| contents(shard)).collect::<Vec<_>>(), before);
    #[cfg(unix)]
    assert_eq!(std::fs::canonicalize(out.path().join("latest")).expect("a link"), std::fs::canonicalize(merged).expect("a folder"));
}

#[test]
fn in_the_history_a_merged_run_stands_for_its_shards() {
    let out = folder();
    let shards = two(&out);
    merge(&shards, &out.path().join("all")).expect("a merge");
    render(&shards[0]).expect("rendering a shard again brings it not back");
    let (_, runs) = store::newest(&out.path().join("history.sqlite"), 100).expect("a history").expect("runs");
    let runs: Vec<_> = runs.iter().map(|past| (past.run.run_id.as_str(), past.results.len())).collect();
    assert_eq!(runs, [("all", 3)]);
}

#[test]
fn in_the_history_shards_that_are_merged_again_count_once() {
    let out = folder();
    let shards = two(&out);
    for name in ["one", "two"] {
        merge(&shards, &out.path().join(name)).expect("a merge");
    }
    let kept = || {
        let (_, runs) = store::newest(&out.path().join("history.sqlite"), 100).expect("a history").expect("runs");
        runs.into_iter().map(|past| past.run.run_id).collect::<Vec<_>>()
    };
    assert_eq!(kept(), ["two"]);
    render(&out.path().join("one")).expect("a run");
    assert_eq!(kept(), ["one"], "the one that was written last");
}

#[test]
fn a_red_check_fails_the_merge() {
    let out = folder();
    Laid { run_id: "shard-2", minute: 0, ran: &[(3, Failed, 30.0)] }.lay(out.path());
    Laid { run_id: "shard-1", minute: 0, ran: &[(1, Passed, 10.0), (2, Passed, 20.0)] }.lay(out.path());
    let words = ["merge", "shard-1", "shard-2", "--out", "all"];
    let (code, text) = told(&critical(out.path(), &words).current_dir(&out).output().expect("it runs"));
    assert_eq!((code, text.as_str()), (1, "all of 2 shards: 2 passed, 1 failed\nall/report.md\n"));
}

#[test]
fn a_missing_check_is_named_and_fails_the_merge_and_the_report_is_written() {
    let out = folder();
    let shards = two(&out);
    std::fs::remove_file(shards[0].join("evidence/test_002_two.json")).expect("a file");
    let words = ["merge", "shard-2", "shard-1", "--out", "all"];
    let (code, text) = told(&critical(out.path(), &words).current_dir(&out).output().expect("it runs"));
    assert_eq!(code, 1, "{text}");
    let lost = "test_002_two is missing: it ran in no shard; the ledger of shard-1 has it, but its evidence is gone";
    assert!(text.contains(lost), "{text}");
    let all = out.path().join("all");
    assert_eq!(verdicts(&ledger(&all)), [Passed, NotRun, Passed]);
    assert!(all.join("report.md").is_file());
    let merged = merge(&shards[1..], &out.path().join("one")).expect("a merge");
    assert_eq!(merged.missing, ["test_001_one", "test_002_two"].map(|name| format!("{name} is missing: it ran in no shard")));
    assert!(!merged.is_green());
}

#[rstest]
#[case(Passed, Failed, Failed)]
#[case(Failed, Passed, Failed)]
#[case(Errored, Passed, Errored)]
#[case(TimedOut, Errored, TimedOut)]
#[case(Failed, TimedOut, Failed)]
#[case(Passed, Passed, Passed)]
fn a_doubled_check_is_named_and_fails_the_merge_with_the_worse_verdict(
    #[case] one: Verdict,
    #[case] other: Verdict,
    #[case] kept: Verdict,
) {
    let out = folder();
    let a = Laid { run_id: "a", minute: 0, ran: &[(1, Passed, 10.0), (2, one, 20.0)] }.lay(out.path());
    let b = Laid { run_id: "b", minute: 0, ran: &[(2, other, 20.0), (3, Passed, 10.0)] }.lay(out.path());
    let merged = merge(&[a.clone(), b.clone()], &out.path().join("all")).expect("a merge");
    let said =
        format!("test_002_two ran in more than one shard: {} ({one}), {} ({other}); {kept} is kept", a.display(), b.display());
    assert_eq!(merged.doubled, std::slice::from_ref(&said));
    assert!(!merged.is_green(), "even if both passed");
    assert_eq!(verdicts(&merged.ledger), [Passed, kept, Passed]);
    let about: About = read_json(&merged.folder.join("run.json")).expect("a run");
    assert!(about.configuration.iter().any(|it| it.key == "ran twice" && it.value == said), "the reports tell it too");
}

#[test]
fn on_github_a_merge_leaves_annotations_and_the_job_summary() {
    let out = folder();
    let a = Laid { run_id: "a", minute: 0, ran: &[(1, Passed, 10.0), (2, Failed, 20.0)] }.lay(out.path());
    let b = Laid { run_id: "b", minute: 0, ran: &[(3, Passed, 10.0)] }.lay(out.path());
    let (summary, all) = (out.path().join("summary.md"), out.path().join("all"));
    let [a, b, summary, all] = [&a, &b, &summary, &all].map(|path| path.display().to_string());
    let env: Environment = [("GITHUB_ACTIONS", "true"), ("GITHUB_STEP_SUMMARY", summary.as_str())].into_iter().collect();
    let (code, text) = merge::run(&env, &[&a, &b, "--out", &all]).expect_err("a check failed");
    assert_eq!((code, text.matches("\n::error ").count()), (1, 1), "{text}");
    assert!(text.ends_with("report.md"), "{text}");
    let written = std::fs::read_to_string(summary).expect("a summary");
    assert!(written.starts_with("# Critical checks") && written.contains("2 of 3 passed"), "{written}");
}

// ---- what cannot be merged ----------------------------------------------------------------------------------------------

/// The merge is refused with these words; nothing is written, and nothing is lost.
fn refused(out: &TempDir, shards: &[PathBuf], to: &Path, parts: &[&str]) {
    let before = contents(out.path());
    let words: Vec<_> = shards.iter().map(|shard| shard.display().to_string()).collect();
    let to = to.display().to_string();
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--out", &to]).collect();
    let (code, text) = merge::run(&Environment::default(), &words).expect_err("it cannot be merged");
    assert_eq!(code, 2, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
    assert!(contents(out.path()) == before, "something was changed");
}

#[rstest]
#[case::another_target("run.json", "target", json!("other"), r#"target "staging", and "other""#)]
#[case::another_api("run.json", "api", json!("https://b.example.test"), r#"API "https://api.example.test", and "https://b.example.test""#)]
#[case::another_socket("run.json", "ws", json!("wss://b.example.test"), "WebSocket")]
#[case::another_auth_service("run.json", "auth", json!("https://b.example.test"), "auth service")]
#[case::another_commit("run.json", "commit", json!("4567def"), r#"commit "0123abc", and "4567def""#)]
#[case::no_commit("run.json", "commit", json!(null), r#"commit "0123abc", and "none""#)]
#[case::another_version("run.json", "suite_version", json!("9.9.9"), "suite version")]
#[case::another_fault("run.json", "fault", json!("slow"), r#"fault "none", and "slow""#)]
#[case::embedded("run.json", "embedded", json!(true), "stand-in")]
#[case::other_checks("results.json", "checks", json!([]), "is of no check that the shard's ledger lists")]
fn shards_of_different_runs_are_refused(
    #[case] file: &str,
    #[case] key: &str,
    #[case] value: serde_json::Value,
    #[case] part: &str,
) {
    let out = folder();
    let shards = two(&out);
    change(&shards[1].join(file), |it| it[key] = value);
    let parts = [part, shards[1].to_str().expect("a path")];
    refused(&out, &shards, &out.path().join("all"), &parts);
}

#[test]
fn shards_that_list_different_checks_are_refused() {
    let out = folder();
    let shards = two(&out);
    change(&shards[1].join("results.json"), |it| it["checks"].as_array_mut().expect("checks").truncate(2));
    std::fs::remove_file(shards[1].join("evidence/test_003_three.json")).expect("a file");
    refused(&out, &shards, &out.path().join("all"), &["their ledgers list different checks"]);
}

#[test]
fn embedded_stand_ins_listen_on_other_ports_and_are_merged() {
    let out = folder();
    let shards = two(&out);
    for (at, shard) in shards.iter().enumerate() {
        change(&shard.join("run.json"), |it| {
            it["embedded"] = json!(true);
            it["api"] = json!(format!("https://127.0.0.1:{}", 4000 + at));
        });
    }
    assert!(merge(&shards, &out.path().join("all")).expect("a merge").is_green());
}

#[test]
fn a_folder_that_is_no_run_is_named() {
    let out = folder();
    let shards = two(&out);
    let all = out.path().join("all");
    let with = |other: &str| vec![shards[0].clone(), out.path().join(other)];
    refused(&out, &with("nowhere"), &all, &["nowhere is no folder of a run", "no such folder"]);
    std::fs::create_dir(out.path().join("empty")).expect("a folder");
    refused(&out, &with("empty"), &all, &["empty is no folder of a run", "run.json"]);
    std::fs::write(shards[1].join("results.json"), "{").expect("a file");
    refused(&out, &shards, &all, &["shard-2 is no folder of a run", "results.json is damaged"]);
}

#[test]
fn a_damaged_evidence_file_is_named() {
    let out = folder();
    let shards = two(&out);
    let file = shards[1].join("evidence/test_003_three.json");
    let whole = std::fs::read(&file).expect("a file");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("a file");
    refused(&out, &shards, &out.path().join("all"), &["test_003_three.json is damaged", "upload or run shard", "again"]);
}

#[test]
fn a_folder_that_is_given_twice_is_named_however_it_is_written() {
    let out = folder();
    let shards = two(&out);
    let again = out.path().join("shard-2/../shard-1");
    let all = out.path().join("all");
    refused(&out, &[shards[0].clone(), shards[0].clone()], &all, &["is given twice"]);
    refused(&out, &[shards[0].clone(), again], &all, &["is given twice"]);
}

#[test]
fn an_output_folder_that_exists_is_left_alone() {
    let out = folder();
    let shards = two(&out);
    let all = out.path().join("all");
    std::fs::write(&all, "somebody's").expect("a file");
    refused(&out, &shards, &all, &["all exists already", "--out"]);
    refused(&out, &shards, &shards[0], &["shard-1 exists already"]);
}

#[test]
fn an_output_folder_that_cannot_be_made_leaves_nothing() {
    let out = folder();
    let shards = two(&out);
    std::fs::write(out.path().join("file"), "in the way").expect("a file");
    refused(&out, &shards, &out.path().join("file/all"), &["cannot be written"]);
}

#[test]
fn on_a_full_disk_a_merge_leaves_nothing() {
    let out = folder();
    two(&out);
    let before = contents(out.path());
    let line = "trap '' XFSZ; ulimit -f 0; exec \"$1\" merge shard-1 shard-2 --out all";
    let mut command = Command::new("sh");
    command.args(["-c", line, "sh", env!("CARGO_BIN_EXE_critical")]).current_dir(&out);
    let (code, text) = told(&command.output().expect("a shell"));
    assert!(code == 2 && text.contains("cannot be written"), "{text}");
    assert!(!out.path().join("all").exists() && contents(out.path()) == before, "{text}");
}

#[rstest]
#[case(&[], "no folder of a run is named")]
#[case(&["--out", "x"], "no folder of a run is named")]
#[case(&["a", "--out"], "--out names no folder")]
#[case(&["a", "--out", "x", "--out", "y"], "--out is given twice")]
#[case(&["a", "--force"], "--force: no such option")]
fn words_that_are_not_understood_are_named(#[case] words: &[&str], #[case] wrong: &str) {
    let (code, text) = merge::run(&Environment::default(), words).expect_err("wrong words");
    assert!(code == 2 && text.contains(wrong) && text.contains("as in: critical merge"), "{text}");
}

// ---- the built checks ---------------------------------------------------------------------------------------------------

const SHARDS: usize = 2;

/// Runs one slice of the checks in a folder of its own, as a machine of its own would: by nextest where it is installed, else
/// by a process a check, as nextest does it.
fn slice(out: &Path, number: usize) -> Vec<Command> {
    let partition = format!("slice:{number}/{SHARDS}");
    let nextest = Command::new("cargo").args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let commands = if nextest.is_ok_and(|status| status.success()) {
        let mut nextest = crate::built::cargo();
        nextest.args(["nextest", "run", "--test", "critical", "--partition", &partition]);
        vec![nextest]
    } else {
        let binary = crate::built::critical();
        let listed = crate::built::apart(binary).arg("--list").output().expect("the binary runs").stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test")).skip(number - 1).step_by(SHARDS);
        let command = |name: &str| {
            let mut command = crate::built::apart(binary);
            command.args([name, "--exact"]);
            command
        };
        names.map(command).collect()
    };
    let with = |mut command: Command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("CRITICAL_OUT_DIR", out).env("CRITICAL_RUN_ID", format!("shard-{number}"));
        command
    };
    commands.into_iter().map(with).collect()
}

#[test]
fn two_slices_of_the_checks_on_two_machines_add_up_to_25() {
    let machines = [folder(), folder()];
    let mut started: Vec<_> = machines.iter().zip(1..).map(|(out, number)| slice(out.path(), number).into_iter()).collect();
    // Both machines at once, each one process after the other.
    loop {
        let both: Vec<_> = started.iter_mut().filter_map(Iterator::next).collect();
        if both.is_empty() {
            break;
        }
        let children: Vec<_> = both.into_iter().map(|mut command| command.spawn().expect("it runs")).collect();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{}", told(&output).1);
        }
    }
    let shards = [machines[0].path().join("shard-1"), machines[1].path().join("shard-2")];
    for (shard, wanted) in shards.iter().zip([13, 12]) {
        let ran = ledger(shard).checks.iter().filter(|entry| entry.verdict == Passed).count();
        assert_eq!(ran, wanted, "{}", shard.display());
    }
    let out = folder();
    let words = ["merge", shards[0].to_str().expect("a path"), shards[1].to_str().expect("a path")];
    let (code, text) = told(&critical(out.path(), &words).output().expect("it runs"));
    assert!(code == 0 && text.contains("of 2 shards: 25 passed\n"), "{text}");
    let (code, text) = told(&critical(out.path(), &words[..2]).output().expect("it runs"));
    assert!(code == 1 && text.contains("of 1 shards: 13 passed, 12 not run\n"), "{text}");
    assert_eq!(text.matches(" is missing: it ran in no shard\n").count(), 12, "{text}");
}
