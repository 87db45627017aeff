//! Planting: the built `critical` binary, as users run it, with a stand-in that tells one fault (`CRITICAL_FAULT`).

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use netra_critical::evidence::{Evidence, Ledger, read_json};

use crate::built;

/// Runs at the same time: most of a run is waiting.
const AT_ONCE: usize = 10;
/// The same for runs of all checks: they keep two cores busy, and what is measured must not wait for the processor.
const WHOLE_AT_ONCE: usize = 4;
/// Deadlines of `staging.toml` for a service that hangs on purpose: long enough for a sound one, short enough to wait for.
const SHORTER: [(&str, i64); 6] =
    [("check_s", 40), ("welcome_ms", 1500), ("ping_ms", 1500), ("ack_ms", 1500), ("run_ms", 6000), ("path_ms", 8000)];

/// What is to be run: some checks, or all without any, against one fault, or none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Job {
    pub(crate) fault: Option<String>,
    pub(crate) checks: Vec<u16>,
}

/// What came of it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) job: Job,
    /// In the order of the checks.
    pub(crate) evidence: Vec<Evidence>,
    /// How many checks there are, as the run's ledger lists them.
    pub(crate) listed: usize,
    /// Everything that was printed.
    pub(crate) output: PathBuf,
}

/// Where runs are made.
pub(crate) struct Ground {
    binary: &'static Path,
    pub(crate) folder: PathBuf,
    config: PathBuf,
    made: AtomicUsize,
}

impl Run {
    pub(crate) fn of(&self, check: u16) -> Option<&Evidence> {
        self.evidence.iter().find(|it| it.id == check)
    }
}

impl Ground {
    /// Clears the folder of what was there before: `proof` in `CRITICAL_OUT_DIR`, or in the place of all runs.
    pub(crate) fn prepare(binary: &'static Path) -> Result<Self, String> {
        let out = std::env::var_os("CRITICAL_OUT_DIR").map(PathBuf::from);
        let folder = out.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/critical")).join("proof");
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
        Ok(Self { binary, folder, config, made: AtomicUsize::new(0) })
    }

    /// Runs all jobs, several at once, and gives what came of each in the same order.
    pub(crate) fn all(&self, jobs: &[Job]) -> Vec<Result<Run, String>> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let at_once = if jobs.iter().any(|job| job.checks.is_empty()) { WHOLE_AT_ONCE } else { AT_ONCE };
        std::thread::scope(|scope| {
            for _ in 0..at_once {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(at) else { break };
                        let run = self.run(job);
                        done.lock().expect("no panic").push((at, run));
                    }
                });
            }
        });
        let mut done = done.into_inner().expect("no panic");
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, run)| run).collect()
    }

    pub(crate) fn run(&self, job: &Job) -> Result<Run, String> {
        let out = self.folder.join("runs").join(format!("{:04}", self.made.fetch_add(1, Ordering::Relaxed)));
        let about = format!("{} of {job:?}", out.display());
        let cannot = |error: std::io::Error| format!("{about}: {error}");
        std::fs::create_dir_all(&out).map_err(cannot)?;
        let output = out.join("output.txt");
        let log = std::fs::File::create(&output).map_err(cannot)?;
        let errors = log.try_clone().map_err(cannot)?;
        built::apart(self.binary)
            .args(job.checks.iter().map(|check| format!("test_{check:03}_")))
            .env("CRITICAL_CONFIG", &self.config)
            .env("CRITICAL_OUT_DIR", &out)
            .env("CRITICAL_RUN_ID", "run")
            .env("CRITICAL_FAULT", job.fault.as_deref().unwrap_or_default())
            .stdout(log)
            .stderr(errors)
            .status()
            .map_err(cannot)?;
        let left = out.join("run/evidence");
        if !left.is_dir() {
            let checks = job.checks.iter().map(|check| format!("{check:03}")).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "no check ran for {checks}: `cargo test --test critical -- --list` names those that there are, and {} says what happened",
                output.display()
            ));
        }
        let mut evidence = Vec::new();
        for file in std::fs::read_dir(left).map_err(cannot)? {
            let path = file.map_err(cannot)?.path();
            let text = std::fs::read(&path).map_err(cannot)?;
            evidence.push(serde_json::from_slice::<Evidence>(&text).map_err(|error| format!("{}: {error}", path.display()))?);
        }
        evidence.sort_by_key(|it| it.id);
        let ledger: Ledger = read_json(&out.join("run/results.json"))?;
        Ok(Run { job: job.clone(), evidence, listed: ledger.checks.len(), output })
    }
}
