//! What a check is, and how one is run: admission, deadline, cleaning up, verdict, evidence, and what is printed.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::context::Cx;
use crate::diagnose;
use crate::evidence::{Evidence, SCHEMA};
use crate::exchange::{Phase, ms};
use crate::expect::{Class, Failure, Held, Stop, Trouble};
use crate::poll;
use crate::report::leaks::NotWritten;
use crate::report::{self, terminal};
use crate::suite::{NoSuite, Staging, Suite};
use crate::time::now_iso;

/// A check: everything about it but its body.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its number.
    pub id: u16,
    /// Its function, so that a name from a report can be pasted into `cargo test`.
    pub name: &'static str,
    /// What a pass proves, as a sentence.
    pub title: &'static str,
    /// The part of the product that it speaks of.
    pub area: Area,
    /// What users suffer when it fails.
    pub impact: &'static str,
    /// True for the check that measures: no other check runs meanwhile.
    pub alone: bool,
}

/// Parts of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// Connections, tokens, frames.
    WebSocket,
    /// Agents and tools.
    Agents,
    /// Messages, threads, sessions.
    Messages,
    /// Streams, events, time.
    Streams,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every expectation held, and bytes went both ways.
    Passed,
    /// The service broke an expectation.
    Failed,
    /// The suite could not judge.
    Errored,
    /// The check did not end before its deadline.
    TimedOut,
    /// There is no evidence that it ran.
    NotRun,
}

impl Verdict {
    /// All of them, in the order of the ledger.
    pub const ALL: [Self; 5] = [Self::Passed, Self::Failed, Self::Errored, Self::TimedOut, Self::NotRun];
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::TimedOut => "timed out",
            Self::NotRun => "not run",
        })
    }
}

/// What a check's test function returns. libtest prints the error, which is the whole story of the failure.
pub type Outcome = Result<(), NotPassed>;

/// Why a check did not pass, as text for a person.
pub struct NotPassed(String);

impl fmt::Debug for NotPassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

/// How long the check that runs alone lets others go before it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long cleaning up may take altogether.
const CLEANUP_DEADLINE: Duration = Duration::from_secs(15);

/// What the body came to.
enum End {
    Ended(Held),
    Panicked(String),
    TimedOut(Vec<String>),
}

impl Check {
    /// Runs the body against the target and leaves evidence, whatever happens.
    ///
    /// # Errors
    /// The story of the failure, when the verdict is anything but *passed*.
    pub async fn run(&'static self, staging: Staging, body: impl AsyncFnOnce(&Cx) -> Held) -> Outcome {
        let suite = match staging.suite {
            Ok(suite) => suite,
            Err(none) => return Err(self.without_suite(&none)),
        };
        let queued = Instant::now();
        let Ok(_admission) = suite.folder.enter(self.alone, PATIENCE).await else {
            let what = format!("the lock files in {} cannot be used", suite.folder.path.display());
            let error = ConfigError::new(what, "make the folder writable, or set CRITICAL_OUT_DIR");
            return Err(self.without_suite(&NoSuite { error, folder: Some(suite.folder.clone()), around: suite.around.clone() }));
        };
        let queued = queued.elapsed();
        let cx = Cx::new(std::sync::Arc::clone(&suite), self);
        let started_at = now_iso();
        let started = Instant::now();
        let end = self.body(&cx, &suite, body).await;
        cx.recorder().enter(Phase::Cleanup);
        let left_behind = cx.clean_up(CLEANUP_DEADLINE).await;
        let took = ms(started.elapsed());
        let mut evidence = self.judge(&cx, &suite, end);
        evidence.started_at = started_at;
        if evidence.verdict != Verdict::Passed {
            cx.recorder().enter(Phase::Diagnosis);
            diagnose::run::diagnose(&cx, &mut evidence).await;
        }
        let snapshot = cx.recorder().take();
        evidence.exchanges = snapshot.exchanges;
        evidence.notes = snapshot.notes;
        evidence.measured = snapshot.measured;
        evidence.process.1 = peak_memory_kib();
        evidence.duration_ms = took;
        evidence.queued_ms = ms(queued);
        evidence.left_behind = left_behind;
        if let Err(error) = suite.folder.write(&evidence) {
            let secret = matches!(error, NotWritten::Secret { .. });
            evidence.verdict = Verdict::Errored;
            evidence.class = Some(Class::Suite);
            let (what, remedy) = (error.to_string(), error.remedy().to_owned());
            evidence.trouble = Some(Trouble { what, remedy, class: Class::Suite, about: Vec::new() });
            let bare = evidence.bare();
            // So that the ledger says it too; where nothing can be written at all, the text below does.
            let _ = suite.folder.write(&bare);
            if secret {
                evidence = bare;
            }
        }
        if let Some(around) = &suite.around {
            terminal::ended(&suite.folder, around, &evidence);
        }
        if evidence.verdict == Verdict::Passed {
            Ok(())
        } else {
            Err(NotPassed(report::story(&evidence, &report::Around::of(&suite, &evidence))))
        }
    }

    async fn body(&self, cx: &Cx, suite: &Suite, body: impl AsyncFnOnce(&Cx) -> Held) -> End {
        let deadline = Duration::from_secs(suite.target.settings.deadlines.check_s);
        let mut running = Box::pin(AssertUnwindSafe(body(cx)).catch_unwind());
        match poll::within(deadline, &mut running).await {
            Some(Ok(held)) => End::Ended(held),
            Some(Err(panic)) => End::Panicked(panic_text(&*panic)),
            // Read before the body is dropped, and its waits with it.
            None => End::TimedOut(cx.recorder().waits()),
        }
    }

    /// A check that could not start is errored, and leaves evidence of that if it can.
    fn without_suite(&self, none: &NoSuite) -> NotPassed {
        let NoSuite { error, folder, around } = none;
        let mut text = report::without_suite(self, error);
        if let Some(folder) = folder {
            let mut evidence = self.blank(&folder.run_id, &folder.target);
            evidence.verdict = Verdict::Errored;
            evidence.class = Some(Class::Suite);
            evidence.started_at = now_iso();
            let (what, remedy) = (error.what.clone(), error.remedy.clone());
            evidence.trouble = Some(Trouble { what, remedy, class: Class::Suite, about: Vec::new() });
            if let Err(error) = folder.write(&evidence) {
                text.push_str(&error.to_string());
            }
            if let Some(around) = around {
                terminal::ended(folder, around, &evidence);
            }
        }
        NotPassed(text)
    }

    /// Evidence of a check that has done nothing yet.
    fn blank(&self, run_id: &str, target: &str) -> Evidence {
        Evidence {
            schema: SCHEMA,
            run_id: run_id.to_owned(),
            id: self.id,
            name: self.name.to_owned(),
            title: self.title.to_owned(),
            area: self.area,
            impact: self.impact.to_owned(),
            target: target.to_owned(),
            verdict: Verdict::Passed,
            class: None,
            class_because: None,
            diagnosis: None,
            failure: None,
            trouble: None,
            waiting_for: Vec::new(),
            started_at: String::new(),
            duration_ms: 0.0,
            queued_ms: 0.0,
            expectations: Vec::new(),
            notes: Vec::new(),
            measured: Vec::new(),
            left_behind: Vec::new(),
            bytes_sent: 0,
            bytes_received: 0,
            process: (std::process::id(), None),
            exchanges: Vec::new(),
        }
    }

    /// From the end of the body to a verdict. A pass needs an expectation, and bytes both ways.
    fn judge(&self, cx: &Cx, suite: &Suite, end: End) -> Evidence {
        let (bytes_sent, bytes_received) = cx.recorder().traffic();
        let mut evidence = self.blank(&suite.folder.run_id, &suite.target.name);
        evidence.expectations = cx.recorder().judged();
        (evidence.bytes_sent, evidence.bytes_received) = (bytes_sent, bytes_received);
        let mut trouble = |what: String, remedy: &str, class| {
            evidence.verdict = Verdict::Errored;
            evidence.class = Some(class);
            evidence.trouble = Some(Trouble { what, remedy: remedy.to_owned(), class, about: Vec::new() });
        };
        let defect = "this is a defect of the check, not of the service";
        match end {
            End::Panicked(text) => trouble(format!("the check panicked: {text}"), defect, Class::Suite),
            End::TimedOut(waits) => {
                // Whatever waits for the wire has a deadline of its own.
                let (class, because) = if waits.is_empty() {
                    (Class::Suite, "the check waits for nothing that the suite knows of")
                } else {
                    (Class::Sla, "no step has passed its own deadline; all of them together took longer than a check may")
                };
                evidence.class = Some(class);
                evidence.class_because = Some(because.to_owned());
                evidence.verdict = Verdict::TimedOut;
                evidence.waiting_for = waits;
            }
            End::Ended(Err(Stop::Errored(it))) => {
                evidence.verdict = Verdict::Errored;
                evidence.class = Some(it.class);
                evidence.trouble = Some(*it);
            }
            End::Ended(Err(Stop::Failed(failure))) => {
                evidence.verdict = Verdict::Failed;
                evidence.failure = Some(*failure);
            }
            End::Ended(Ok(())) if evidence.expectations.is_empty() => {
                trouble("the check ended without a single expectation".to_owned(), defect, Class::Suite);
            }
            End::Ended(Ok(())) if bytes_sent == 0 || bytes_received == 0 => {
                let what = format!("the check ended with {bytes_sent} bytes sent and {bytes_received} received: it proves nothing");
                trouble(what, defect, Class::Suite);
            }
            // An expectation that broke although its result was thrown away is still broken.
            End::Ended(Ok(())) => {
                if let Some(broken) = evidence.expectations.iter().find(|judged| !judged.held) {
                    let failure = Failure {
                        expectation: broken.name.clone(),
                        wanted: "that it holds".to_owned(),
                        got: "it broke, and the check went on".to_owned(),
                        at: broken.at.clone(),
                        class: None,
                        about: broken.about.clone(),
                    };
                    evidence.verdict = Verdict::Failed;
                    evidence.failure = Some(failure);
                }
            }
        }
        evidence
    }
}

/// The process's peak resident memory (`VmHWM` of proc(5)).
fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    crate::secret::redact(&text.unwrap_or_else(|| "without a text".to_owned()))
}
