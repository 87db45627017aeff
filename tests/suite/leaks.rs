//! No secret in any file: a canary and every known secret are looked for in each one, whatever wrote it.

use std::fs;
use std::path::{Path, PathBuf};

use netra_critical::check::Verdict;

use crate::checks::ledger;
use crate::{PROBE, Stage, told};

/// Every file of a run, as text.
fn files(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned();
            all.push((path, text));
        }
    }
    all
}

#[tokio::test]
async fn the_canary_crosses_the_wire_and_no_file_shows_it() {
    let stage = Stage::new();
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        let alice = cx.user("alice").await?;
        cx.api(&alice).get("/api/threads").send().await?.must("threads can be listed").status(200)
    });
    assert!(outcome.await.is_ok());
    let canary = netra_critical::secret::canary();
    let asked = stage.evidence().exchanges.into_iter().find(|x| x.url.ends_with("/auth/e2e/test-auth")).expect("a request");
    assert!(asked.request_body.is_some_and(|body| body.contains("alice <secret>")));
    assert!(asked.response_body.is_some_and(|body| body.contains("alice <secret>")));
    let all = files(&stage.out.path().join("run"));
    assert!(all.len() >= 8, "{all:?}");
    for (path, text) in all {
        assert!(!text.contains(canary), "{}", path.display());
        assert_eq!(netra_critical::secret::find_secret(&text), None, "{}", path.display());
    }
}

#[tokio::test]
async fn a_secret_in_the_evidence_removes_the_file_and_names_the_field() {
    let stage = Stage::new();
    let leaking = format!("probe {}", netra_critical::secret::canary());
    let outcome = PROBE.run(stage.staging.clone(), async |cx| {
        // The one thing that is recorded as it is: what is being waited for.
        let _waiting = cx.recorder().waiting(&leaking);
        cx.anonymous().get("/health").send().await?.must(format!("health answers {leaking}")).status(500)
    });
    let text = told(outcome.await);
    assert!(text.contains("ERRORED") && text.contains("probe.json was removed: a known secret stood in /"), "{text}");
    assert!(!text.contains(netra_critical::secret::canary()), "{text}");
    let evidence = stage.evidence();
    assert_eq!((evidence.verdict, evidence.exchanges.len()), (Verdict::Errored, 0));
    for (path, text) in files(&stage.out.path().join("run")) {
        assert!(!text.contains(netra_critical::secret::canary()), "{}", path.display());
    }
    assert_eq!(ledger(&stage.out.path().join("run")).totals[&Verdict::Errored], 1);
}
