//! `report.html` as readers meet it: in a browser, before a validator, and with content that tries to be more than text.

use std::fs;
use std::path::Path;
use std::process::Command;

use netra_critical::Verdict;
use netra_critical::evidence::{Ledger, read_json};
use netra_critical::exchange::Exchange;
use netra_critical::report::html;
use tempfile::TempDir;

#[path = "browser/made.rs"]
mod made;

use crate::tools;
use made::{exchange, run};

/// Exact versions, the newest that Node.js 18 runs: Debian 12 has that one.
const PACKAGES: [&str; 2] = ["puppeteer-core@24.40.0", "html-validate@9.7.1"];

/// Text that would be markup, a script, the end of one, or another reading direction.
const HOSTILE: &str = "</script><script>globalThis.ran=1;alert(1)</script></pre><img src=x onerror='ran=1'>\" onclick=\"ran=1\" \
                       &lt;b&gt; \0 \u{202e}txt.exe\u{202c} שלום 👩🏽‍🚀 <!-- {{ 7 * 7 }} {% raw %}";

/// What a script of `browser/` printed that looked at a page; it asserts by itself.
fn node(script: &str, page: &Path, variables: &[(&str, &Path)]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/browser").join(script);
    let chromium = tools::require("chromium", "chromium");
    let mut node = tools::node(&PACKAGES, &script);
    node.env("CHROMIUM", chromium).env("PAGE", page).envs(variables.iter().copied());
    tools::output(&mut node).unwrap_or_else(|told| panic!("{told}"))
}

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
    assert_eq!(node("use.cjs", &page, &variables), "ok\n");
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
    assert_eq!(node("validate.cjs", &page, &[]), "");
}

#[test]
fn whatever_a_service_sends_stays_text() {
    let page = html::file(&run(HOSTILE, vec![exchange(HOSTILE)])).expect("a page");
    for part in ["failing since", "slower: 900 ms", "Excluded: 1", "Not cleaned up", "class=\"missed\"", "when the deadline passed"]
    {
        assert!(page.contains(part), "{part}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, hostile) = (folder.path().join("report.html"), folder.path().join("hostile.txt"));
    fs::write(&path, page).expect("a page");
    fs::write(&hostile, HOSTILE).expect("a text");
    assert_eq!(node("hostile.cjs", &path, &[("HOSTILE", &hostile)]), "ok\n");
    assert_eq!(node("validate.cjs", &path, &[]), "");
}

#[test]
fn with_5000_exchanges_it_stays_below_5_mib_and_says_what_is_left_out() {
    let body = Some("\"<>&ä".repeat(16_384 / 5));
    let one = |id| Exchange { id, request_body: body.clone(), response_body: body.clone(), ..exchange("a text") };
    let exchanges: Vec<_> = (1..=5_000).map(one).collect();
    let page = html::file(&run("it failed", exchanges)).expect("a page");
    assert!(page.len() < 5 << 20, "{} bytes", page.len());
    assert!(page.contains("id=\"x001-1\""), "the exchange that shows the failure is there");
    let shown = page.matches("<details class=\"x").count();
    assert!((100..5_000).contains(&shown), "{shown}");
    assert!(page.contains(&format!("<p class=\"facts\">{} of them are only in the evidence file", 5_000 - shown)));
}
