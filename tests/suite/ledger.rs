//! The folder of a run: what is counted, grouped and kept there, and what a name may be.

use std::fs;
use std::path::Path;

use netra_critical::Verdict::{self, Errored, Failed, NotRun, Passed};
use netra_critical::config::{Environment, Places};
use netra_critical::evidence::{Entry, Evidence, Ledger, RunFolder, read_json};
use netra_critical::expect::Class;
use netra_critical::report::render;
use rstest::rstest;
use serde_json::json;
use tempfile::TempDir;

use crate::PROBE;
use crate::checks::ledger;
use crate::laid::{Laid, NAMES, change};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A run of three checks of which these ran, with its reports.
fn rendered(out: &Path, ran: &[(u16, Verdict, f64)]) -> std::path::PathBuf {
    let folder = Laid { run_id: "run-0", minute: 0, ran }.lay(out);
    render(&folder).expect("a run");
    folder
}

fn entry(ledger: &Ledger, id: u16) -> &Entry {
    ledger.checks.iter().find(|entry| entry.id == id).expect("an entry")
}

fn evidence(folder: &Path, id: usize) -> std::path::PathBuf {
    folder.join(format!("evidence/{}.json", NAMES[id - 1]))
}

/// A folder of this run id, or of one that is made up.
fn opened(out: &Path, run_id: Option<&str>) -> Result<RunFolder, String> {
    let out = out.display().to_string();
    let env: Environment =
        [("CRITICAL_OUT_DIR", out.as_str())].into_iter().chain(run_id.map(|id| ("CRITICAL_RUN_ID", id))).collect();
    RunFolder::open(&env, &Places::of(&env), &[&PROBE], None).map_err(|error| error.to_string())
}

#[rstest]
#[case::a_way_down("a/b")]
#[case::a_way_down_elsewhere("a\\b")]
#[case::a_way_up("..")]
#[case::hidden(".run")]
fn a_run_id_is_the_name_of_a_folder(#[case] run_id: &str) {
    let out = folder();
    let told = opened(out.path(), Some(run_id)).expect_err("no folder name");
    assert!(told.contains(&format!("CRITICAL_RUN_ID={run_id:?} is no folder name")) && told.contains("letters"), "{told}");
    assert_eq!(fs::read_dir(out.path()).expect("a folder").count(), 0);
}

#[test]
fn runs_without_an_id_do_not_meet_and_the_newest_is_latest() {
    let out = folder();
    for _ in 0..2 {
        let run = opened(out.path(), None).expect("a folder");
        let (time, digits) = run.run_id.rsplit_once('-').expect("time and digits");
        assert!(time.len() == 16 && time.ends_with('Z') && digits.len() == 4, "{}", run.run_id);
        assert_eq!(fs::read_link(out.path().join("latest")).expect("a link"), Path::new(&run.run_id));
    }
    assert_eq!(fs::read_dir(out.path()).expect("runs").count(), 3);
}

#[test]
fn what_a_run_is_about_stays_when_another_process_joins_it() {
    let out = folder();
    opened(out.path(), Some("run")).expect("a folder");
    let path = out.path().join("run/run.json");
    change(&path, |it| it["started_at"] = "2026-11-25T10:00:00.000Z".into());
    let joined = opened(out.path(), Some("run")).expect("the same folder");
    assert_eq!(joined.about().started_at, "2026-11-25T10:00:00.000Z");
}

#[test]
fn evidence_that_is_damaged_is_an_error_of_its_check_and_is_named() {
    let out = folder();
    let folder = rendered(out.path(), &[(1, Passed, 1.0), (2, Passed, 2.0)]);
    let path = evidence(&folder, 2);
    let whole = fs::read(&path).expect("evidence");
    fs::write(&path, &whole[..whole.len() / 2]).expect("half of it");
    render(&folder).expect("a run");
    let ledger = ledger(&folder);
    let damaged = entry(&ledger, 2);
    assert_eq!((damaged.verdict, damaged.class), (Errored, Some(Class::Suite)));
    assert!(damaged.summary.as_ref().is_some_and(|it| it.contains("is damaged") && it.contains(NAMES[1])), "{damaged:?}");
    assert!(damaged.stamp.is_some(), "so that it is not read again");
    assert_eq!((ledger.totals[&Passed], ledger.totals[&Errored], ledger.totals[&NotRun]), (1, 1, 1));
}

#[test]
fn evidence_that_is_gone_leaves_nothing_in_the_ledger() {
    let out = folder();
    let folder = Laid { run_id: "run-0", minute: 0, ran: &[(1, Passed, 1.0), (2, Failed, 2.0)] }.lay(out.path());
    change(&evidence(&folder, 2), |it| {
        it["diagnosis"] = diagnosis("gateway");
        it["waiting_for"] = json!(["an answer"]);
    });
    render(&folder).expect("a run");
    let before = ledger(&folder);
    let told = entry(&before, 2);
    assert_eq!((told.verdict, told.cause.as_deref()), (Failed, Some("gateway")));
    assert_eq!(told.summary.as_deref(), Some("was waiting for an answer"));
    fs::remove_file(evidence(&folder, 2)).expect("evidence");
    render(&folder).expect("a run");
    let after = ledger(&folder);
    let gone = entry(&after, 2);
    assert_eq!((gone.verdict, gone.duration_ms, gone.class), (NotRun, None, None));
    assert_eq!((&gone.summary, &gone.cause, &gone.stamp), (&None, &None, &None));
    assert_eq!(after.causes.len(), 0);
}

fn diagnosis(cause: &str) -> serde_json::Value {
    let cause = json!({
        "name": cause, "class": "transport", "what": "it stands in front", "side": "theirs", "change": "it", "evidence": [],
    });
    json!({
        "class": "transport", "because": "", "whys": [], "next": [], "causes": [cause], "claims": [], "trials": [], "excluded": [],
        "made_by": null, "trouble": null,
    })
}

#[test]
fn bare_evidence_has_nothing_that_came_from_the_service() {
    let out = folder();
    let folder = Laid { run_id: "run-0", minute: 0, ran: &[(2, Failed, 2.0)] }.lay(out.path());
    let path = evidence(&folder, 2);
    let said = "said by the service";
    change(&path, |it| {
        it["diagnosis"] = diagnosis(said);
        it["failure"] = json!({"expectation": said, "wanted": said, "got": said, "at": said, "class": null, "about": []});
        it["class_because"] = said.into();
        it["waiting_for"] = json!([said]);
        it["expectations"] = json!([{"name": said, "held": false, "at": said, "about": []}]);
        it["notes"] = json!([said]);
        it["measured"] = json!([{"route": said, "samples_ms": [], "median_limit_ms": 1.0, "tail_limit_ms": 1.0}]);
        it["left_behind"] = json!([said]);
    });
    let whole: Evidence = read_json(&path).expect("evidence");
    assert_eq!(json!(whole).to_string().matches(said).count(), 12);
    assert_eq!(json!(whole.bare()).to_string().matches(said).count(), 0);
    assert_eq!((whole.bare().verdict, whole.bare().duration_ms), (Failed, 2.0));
}

#[test]
fn failures_are_grouped_by_cause_the_largest_group_first() {
    let out = folder();
    let folder = Laid { run_id: "run-0", minute: 0, ran: &[(1, Failed, 1.0), (2, Failed, 1.0), (3, Failed, 1.0)] }.lay(out.path());
    for (id, cause) in [(1, "a-small-one"), (2, "gateway"), (3, "gateway")] {
        change(&evidence(&folder, id), |it| it["diagnosis"] = diagnosis(cause));
    }
    render(&folder).expect("a run");
    let told: Vec<_> = ledger(&folder).causes.iter().map(netra_critical::evidence::Group::in_words).collect();
    assert_eq!(told, ["2 checks, one cause (gateway): 002, 003", "1 check (a-small-one): 001"]);
}

#[test]
fn what_could_not_be_written_stays_in_the_ledger_for_whoever_reads_it() {
    let out = folder();
    let folder = Laid { run_id: "run-0", minute: 0, ran: &[(1, Passed, 1.0)] }.lay(out.path());
    fs::create_dir_all(folder.join("junit.xml/in the way")).expect("a folder");
    let run = render(&folder).expect("a run");
    assert!(run.ledger.troubles.iter().any(|it| it.contains("junit.xml cannot be written")), "{:?}", run.ledger.troubles);
}
