//! The proof that every green can go red: each fault of the stand-in is planted, the built `critical` binary is run against it as
//! users run it, and the checks that the fault names must fail.
//!
//! `cargo proof` runs all of it, `cargo proof FAULT [CHECK]` replays one cell, `cargo proof --list` names the faults.
//! Verdicts and broken expectations are read from the evidence. *Errored* and *timed out* are no kills: a check must say that
//! the service is wrong. The matrix is left in `target/critical/proof/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use netra_critical::Verdict;
use netra_critical::evidence::Evidence;
use netra_stand_in::{Fault, Options, StandIn, faults};

#[path = "../suite/built.rs"]
mod built;

/// Runs at the same time: most of a run is waiting.
const AT_ONCE: usize = 4;
/// Deadlines of `staging.toml` for a service that hangs on purpose: long enough for a sound one, short enough to wait for.
const SHORTER: [(&str, i64); 5] = [("check_s", 40), ("welcome_ms", 1500), ("ping_ms", 1500), ("ack_ms", 1500), ("run_ms", 6000)];

/// One run of some checks against one fault.
struct Cell {
    fault: &'static str,
    evidence: Vec<Evidence>,
    wanted: Vec<u16>,
    took_ms: u128,
}

struct Proof {
    binary: PathBuf,
    folder: PathBuf,
    config: PathBuf,
}

fn main() -> ExitCode {
    // libtest's own flags mean nothing here; a name is a fault.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word == "--list" || !word.starts_with('-')).collect();
    if words.iter().any(|word| word == "--list") {
        faults().for_each(|fault| println!("{}: {} {:?}", fault.name, fault.what, fault.kills));
        return ExitCode::SUCCESS;
    }
    let proof = match Proof::prepare() {
        Ok(proof) => proof,
        Err(error) => return fail(&error),
    };
    match words.split_first() {
        Some((name, checks)) => match faults().find(|fault| fault.name == name) {
            Some(fault) => proof.replay(fault, checks),
            None => fail(&format!("there is no fault {name:?}; `cargo proof --list` names them")),
        },
        None => proof.whole(),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("proof: {text}");
    ExitCode::FAILURE
}

impl Proof {
    fn prepare() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = root.join("target/critical/proof");
        let cannot = |error: std::io::Error| format!("{} cannot be written: {error}", folder.display());
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(cannot)?;
        }
        std::fs::create_dir_all(&folder).map_err(cannot)?;
        let mut settings: toml::Table =
            include_str!("../../staging.toml").parse().map_err(|error| format!("staging.toml: {error}"))?;
        for (key, value) in SHORTER {
            settings["targets"]["stand-in"]["deadlines"][key] = toml::Value::Integer(value);
        }
        let config = folder.join("staging.toml");
        std::fs::write(&config, settings.to_string()).map_err(cannot)?;
        Ok(Self { binary: built::critical(), folder, config })
    }

    /// Runs checks against a stand-in with these faults; all 25 without a filter.
    fn run(&self, name: &'static str, told: &[String], checks: &[u16]) -> Result<Cell, String> {
        let started = Instant::now();
        let server = StandIn::start(Options { faults: told.to_vec(), ..Options::default() }).map_err(|error| error.to_string())?;
        let out = self.folder.join("runs").join(name);
        std::fs::create_dir_all(&out).map_err(|error| error.to_string())?;
        let ca = out.join("ca.pem");
        std::fs::write(&ca, server.ca_pem().unwrap_or_default()).map_err(|error| error.to_string())?;
        let log = std::fs::File::create(out.join("output.txt")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let status = Command::new(&self.binary)
            .args(checks.iter().map(|check| format!("test_{check:03}_")))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("CRITICAL_TARGET")
            .env_remove("NEXTEST_RUN_ID")
            .env("RUST_TEST_THREADS", "25")
            .env("CRITICAL_CONFIG", &self.config)
            .env("CRITICAL_OUT_DIR", &out)
            .env("CRITICAL_RUN_ID", "run")
            .env("CRITICAL_API_URL", server.api_url())
            .env("CRITICAL_WS_URL", server.ws_url())
            .env("CRITICAL_AUTH_URL", server.auth_url())
            .env("CRITICAL_CA_FILE", &ca)
            .env("JWT_SECRET_STAGING", server.jwt_secret())
            .env("E2E_OAUTH_SIMULATION_KEY", server.e2e_key())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .status();
        status.map_err(|error| format!("{}: {error}", self.binary.display()))?;
        let mut evidence = Vec::new();
        for file in std::fs::read_dir(out.join("run/evidence")).map_err(|error| format!("{name}: no evidence: {error}"))? {
            let path = file.map_err(|error| error.to_string())?.path();
            let text = std::fs::read(&path).map_err(|error| error.to_string())?;
            evidence.push(serde_json::from_slice::<Evidence>(&text).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        evidence.sort_by_key(|it| it.id);
        Ok(Cell { fault: name, evidence, wanted: checks.to_vec(), took_ms: started.elapsed().as_millis() })
    }

    /// One fault, told in full.
    fn replay(&self, fault: &Fault, checks: &[String]) -> ExitCode {
        let chosen: Vec<u16> = checks.iter().filter_map(|check| check.trim_start_matches("test_").parse().ok()).collect();
        let checks = if chosen.is_empty() { fault.kills.to_vec() } else { chosen };
        match self.run(fault.name, &[fault.name.to_owned()], &checks) {
            Ok(cell) => {
                println!(
                    "{}",
                    std::fs::read_to_string(self.folder.join("runs").join(fault.name).join("output.txt")).unwrap_or_default()
                );
                println!("{}: {}", fault.name, fault.what);
                cell.evidence.iter().for_each(|it| println!("  {}", line(it)));
                if cell.survivors().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error),
        }
    }

    fn whole(&self) -> ExitCode {
        let started = Instant::now();
        let sound = match self.run("sound", &[], &[]) {
            Ok(sound) => sound,
            Err(error) => return fail(&error),
        };
        let red: Vec<_> = sound.evidence.iter().filter(|it| it.verdict != Verdict::Passed).map(line).collect();
        if sound.evidence.len() != 25 || !red.is_empty() {
            return fail(&format!(
                "the baseline is not sound, so nothing can be proven: {} checks ran; {}",
                sound.evidence.len(),
                red.join("; ")
            ));
        }
        println!("baseline: 25 passed in {:.1} s", started.elapsed().as_secs_f64());
        let all: Vec<_> = faults().collect();
        let (next, cells, troubles) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(fault) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match self.run(fault.name, &[fault.name.to_owned()], fault.kills) {
                            Ok(cell) => cells.lock().expect("no panic").push(cell),
                            Err(error) => troubles.lock().expect("no panic").push(error),
                        }
                    }
                });
            }
        });
        let mut cells = cells.into_inner().expect("no panic");
        cells.sort_by_key(|cell| all.iter().position(|fault| fault.name == cell.fault));
        self.judge(&sound, &cells, &troubles.into_inner().expect("no panic"), started)
    }

    fn judge(&self, sound: &Cell, cells: &[Cell], troubles: &[String], started: Instant) -> ExitCode {
        let mut survivors = Vec::new();
        let mut broken: BTreeMap<(u16, &str), Vec<&str>> = BTreeMap::new();
        for cell in cells {
            survivors.extend(cell.survivors().into_iter().map(|text| format!("{}: {text}", cell.fault)));
            for (id, failure) in cell.evidence.iter().filter_map(|it| Some((it.id, it.failure.as_ref()?))) {
                broken.entry((id, failure.expectation.as_str())).or_default().push(cell.fault);
            }
        }
        let expectations: BTreeSet<(u16, &str)> =
            sound.evidence.iter().flat_map(|it| it.expectations.iter().map(|judged| (it.id, judged.name.as_str()))).collect();
        let never: Vec<_> = expectations.iter().filter(|key| !broken.contains_key(*key)).collect();
        let killed = cells.iter().filter(|cell| cell.survivors().is_empty()).count();
        if let Err(error) = self.write_matrix(cells, &never) {
            return fail(&error);
        }
        survivors.iter().for_each(|survivor| println!("survivor  {survivor}"));
        troubles.iter().for_each(|trouble| println!("trouble   {trouble}"));
        println!(
            "{} faults, {killed} killed, {} survivors; {} expectations, {} broken, {} never ({:.0} s; {}/matrix.md)",
            cells.len(),
            survivors.len(),
            expectations.len(),
            expectations.len() - never.len(),
            never.len(),
            started.elapsed().as_secs_f64(),
            self.folder.display()
        );
        if survivors.is_empty() && troubles.is_empty() && !cells.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn write_matrix(&self, cells: &[Cell], never: &[&(u16, &str)]) -> Result<(), String> {
        let mut rows = Vec::new();
        let mut table = "| fault | check | verdict | class | broken expectation |\n|---|---|---|---|---|\n".to_owned();
        for cell in cells {
            for it in &cell.evidence {
                let expectation = it.failure.as_ref().map_or("", |failure| failure.expectation.as_str());
                let class = it.class.map_or(String::new(), |class| class.to_string());
                let _ = writeln!(
                    table,
                    "| {} | {:03} | {} | {class} | {} |",
                    cell.fault,
                    it.id,
                    it.verdict,
                    expectation.replace('|', "\\|")
                );
                rows.push(serde_json::json!({
                    "fault": cell.fault, "check": it.id, "expectation": expectation, "verdict": it.verdict, "class": it.class,
                    "ms": it.duration_ms, "run_ms": u64::try_from(cell.took_ms).unwrap_or(u64::MAX),
                }));
            }
        }
        let _ = writeln!(table, "\nNever broken yet: {}\n", never.len());
        for (check, name) in never {
            let _ = writeln!(table, "* {check:03} {name}");
        }
        let text = serde_json::to_vec_pretty(&rows).map_err(|error| error.to_string())?;
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(self.folder.join(name), bytes).map_err(|error| format!("{name}: {error}"));
        write("matrix.json", &text)?;
        write("matrix.md", table.as_bytes())
    }
}

impl Cell {
    /// Checks that should have failed and did not, with what they said instead.
    fn survivors(&self) -> Vec<String> {
        let of = |check: u16| self.evidence.iter().find(|it| it.id == check);
        let alive = self.wanted.iter().filter(|check| of(**check).is_none_or(|it| it.verdict != Verdict::Failed));
        alive.map(|check| of(*check).map_or(format!("{check:03} did not run"), line)).collect()
    }
}

fn line(it: &Evidence) -> String {
    let class = it.class.map_or(String::new(), |class| format!(" ({class})"));
    let what = it.failure.as_ref().map(|failure| failure.expectation.clone());
    let what = what.or(it.trouble.as_ref().map(|trouble| trouble.what.clone())).or(it.waiting_for.last().cloned());
    format!("{:03} {}{class} {}", it.id, it.verdict, what.unwrap_or_default())
}
