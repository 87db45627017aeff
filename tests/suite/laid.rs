//! Folders of runs, laid out by hand: three checks, no server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use netra_critical::Verdict;
use serde_json::{Value, json};

/// Names of the checks that a laid run lists; their numbers are 1, 2 and 3.
pub(crate) const NAMES: [&str; 3] = ["test_001_one", "test_002_two", "test_003_three"];

/// A run to lay out.
pub(crate) struct Laid<'a> {
    pub(crate) run_id: &'a str,
    /// Orders runs: minutes after some hour.
    pub(crate) minute: usize,
    /// Number, verdict, milliseconds.
    pub(crate) ran: &'a [(u16, Verdict, f64)],
}

impl Laid<'_> {
    /// Writes the folder as a run does, but for the reports.
    pub(crate) fn lay(&self, out: &Path) -> PathBuf {
        let folder = out.join(self.run_id);
        std::fs::create_dir_all(folder.join("evidence")).expect("a folder");
        let (hour, minute) = (10 + self.minute / 60, self.minute % 60);
        let started_at = format!("2026-11-25T{hour:02}:{minute:02}:00.000Z");
        let about = json!({
            "schema": 1, "run_id": self.run_id, "target": "staging", "suite_version": "0.1.0", "commit": "0123abc",
            "api": "https://api.example.test", "ws": "wss://api.example.test/ws", "auth": "https://auth.example.test",
            "started_at": started_at,
        });
        write(&folder.join("run.json"), &about);
        let entry = |(at, name): (usize, &&str)| json!({"id": at + 1, "name": name, "title": format!("{name} holds"), "area": "web-socket", "impact": "none", "verdict": "not_run"});
        let checks: Vec<_> = NAMES.iter().enumerate().map(entry).collect();
        let ledger = json!({"schema": 1, "run_id": self.run_id, "target": "staging", "updated_at": started_at, "totals": {}, "checks": checks});
        write(&folder.join("results.json"), &ledger);
        for (id, verdict, ms) in self.ran {
            let name = NAMES[usize::from(*id) - 1];
            let mut evidence = json!({
                "schema": 1, "run_id": self.run_id, "id": id, "name": name, "title": format!("{name} holds"), "area": "web-socket",
                "impact": "none", "target": "staging", "verdict": verdict, "waiting_for": [], "started_at": started_at,
                "duration_ms": ms, "queued_ms": 0.0, "expectations": [], "notes": [], "left_behind": [], "bytes_sent": 1,
                "bytes_received": 1, "exchanges": [],
            });
            if *verdict != Verdict::Passed {
                evidence["class"] = json!("application");
            }
            write(&folder.join(format!("evidence/{name}.json")), &evidence);
        }
        folder
    }
}

/// Changes a JSON file.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    change(&mut value);
    write(path, &value);
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, serde_json::to_vec_pretty(value).expect("JSON")).expect("a file");
}

/// Every file below a folder with its bytes.
pub(crate) fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.push((path.clone(), std::fs::read(&path).expect("a file")));
        }
    }
    all.sort();
    all
}

/// The built `critical` program, whose runs lie in this folder.
pub(crate) fn critical(out: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_critical"));
    command.args(words).env("CRITICAL_OUT_DIR", out);
    command
}

/// Its exit code and what it printed.
pub(crate) fn told(output: &Output) -> (i32, String) {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}
