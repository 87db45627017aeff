//! One failure, diagnosed: rules, then the experiments that they call for, then the story.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::lab::Lab;
use super::rules::{self, Calls, Ruling};
use super::token::Subject;
use super::{Cause, Diagnosis, Findings, Side, bypass, service, share, token, transport, whys};
use crate::context::Cx;
use crate::evidence::Evidence;
use crate::expect::Class;
use crate::poll;

/// A diagnosis that is not done by then is told as such, beside the failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// Finds out about a check that did not pass. The verdict stays what it is, whatever happens here.
pub(crate) async fn diagnose(cx: &Cx, evidence: &mut Evidence) {
    let exchanges = cx.recorder().all();
    let ruling = rules::judge(evidence, &exchanges, cx.target().api.as_str());
    let got = evidence.failure.as_ref().map_or(String::new(), |failure| failure.got.clone());
    let searching = Box::pin(AssertUnwindSafe(experiment(cx, &ruling, &got)).catch_unwind());
    let findings = match poll::within(DEADLINE, searching).await {
        Some(Ok(Ok(findings))) => findings,
        Some(Ok(Err(error))) => troubled(&error),
        Some(Err(panic)) => troubled(&format!("it panicked: {}", crate::check::panic_text(&*panic))),
        None => troubled(&format!("it was not done after {} s", DEADLINE.as_secs())),
    };
    let decided = evidence.failure.as_ref().and_then(|failure| failure.class).filter(|class| *class == Class::Sla);
    let class = decided.or(findings.causes.first().map(|cause| cause.class)).unwrap_or(ruling.class);
    let whys = whys::whys(evidence, &ruling, &findings);
    let next = whys::next(cx, evidence, &ruling, &findings);
    evidence.class = Some(class);
    evidence.class_because = Some(ruling.because.clone());
    evidence.diagnosis = Some(Diagnosis {
        class,
        because: ruling.because,
        whys,
        next,
        made_by: Some(findings.made_by).filter(|by| !by.is_empty() && by != cx.check.name),
        causes: findings.causes,
        claims: findings.claims,
        trials: findings.trials,
        excluded: findings.excluded,
        trouble: findings.trouble,
    });
}

fn troubled(error: &str) -> Findings {
    Findings { trouble: Some(crate::secret::redact(error)), ..Findings::default() }
}

async fn experiment(cx: &Cx, ruling: &Ruling, got: &str) -> Result<Findings, String> {
    let Some(shown) = &ruling.shown else { return Ok(Findings::default()) };
    let mut lab = Lab::new(cx);
    match ruling.calls {
        Calls::Nothing => Ok(Findings::default()),
        Calls::Token => {
            let Some(subject) = Subject::of(shown, &lab) else {
                return Err("the refused token is no longer known, so nothing could be tried with it".to_owned());
            };
            let name = format!("token-{:?}-{:?}", subject.source, subject.door).to_lowercase();
            share::once(cx, &name, token::search(&mut lab, subject)).await
        }
        Calls::Bypass => {
            let path = if shown.kind == crate::exchange::Kind::WebSocket { "socket" } else { "http" };
            let name = format!("bypass-{path}-{}", crate::secret::fingerprint(&shown.caller));
            share::once(cx, &name, gathered(&mut lab, async |lab| bypass::examine(lab, shown).await)).await
        }
        Calls::Way => {
            let host = crate::secret::fingerprint(shown.url.split('/').nth(2).unwrap_or_default());
            let kind = crate::secret::fingerprint(&format!("{:?}{:?}", shown.status, shown.error.as_deref().map(str::len)));
            let name = format!("way-{host}-{kind}");
            share::once(cx, &name, gathered(&mut lab, async |lab| transport::examine(lab, shown).await)).await
        }
        Calls::Service => Ok(gathered(&mut lab, async |lab| service::examine(lab, ruling.class, shown, got).await).await),
    }
}

async fn gathered<'a>(lab: &mut Lab<'a>, examine: impl AsyncFnOnce(&mut Lab<'a>) -> Vec<Cause>) -> Findings {
    let mut causes = examine(lab).await;
    let skew_s = lab.skew().unwrap_or_default();
    if !causes.is_empty() && skew_s.abs() >= super::changes::SKEW_FROM_S {
        causes.push(clock(skew_s));
    }
    Findings { causes, trials: std::mem::take(&mut lab.trials), made_by: lab.cx.check.name.to_owned(), ..Findings::default() }
}

/// A clock that is off, seen in passing.
pub(crate) fn clock(skew_s: f64) -> Cause {
    let which = if skew_s > 0.0 { "ahead of" } else { "behind" };
    let what = format!("the service's clock is {:.0} s {which} ours", skew_s.abs());
    let change = "the clock (NTP) of this machine or of the service, whichever is wrong: compare both with a third";
    Cause::new("clock", Class::AuthToken, Side::Between, what, change)
}
