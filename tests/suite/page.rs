//! `report.html` as readers meet it: in a browser, before a validator, and with content that tries to be more than text.

use std::fs;
use std::path::Path;

use netra_critical::Verdict;
use netra_critical::exchange::Exchange;
use netra_critical::report::html;

#[path = "browser/made.rs"]
mod made;

use crate::checks::{Checks, SEED};
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

#[test]
fn in_a_browser_it_can_be_read_filtered_unfolded_and_printed() {
    let checks = Checks::new().set(SEED).with("CRITICAL_FAULT", "token-type-demanded-by-the-socket-alone");
    checks.run(&[]);
    let ledger = checks.ledger();
    assert_eq!(ledger.troubles, Vec::<String>::new());
    let failed = ledger.totals[&Verdict::Failed].to_string();
    let mut variables = vec![("FAILED", Path::new(&failed))];
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.png");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        variables.push(("SCREENSHOT", &picture));
    }
    let page = checks.latest().join("report.html");
    assert_eq!(node("use.cjs", &page, &variables), "ok\n");
    let size = fs::metadata(page).expect("a page").len();
    assert!(size < 2_500_000, "{size} bytes");
}

#[test]
fn it_is_sound_html_whatever_the_verdicts_and_devtools_reads_the_traffic() {
    let checks = Checks::new().with("CRITICAL_FAULT", "message-lost");
    checks.run(&["test_001", "test_012", "test_023"]);
    let page = checks.latest().join("report.html");
    assert_eq!(node("devtools.cjs", &page, &[("HAR", &checks.latest().join("run.har"))]), "ok\n");
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
