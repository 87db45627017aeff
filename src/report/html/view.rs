//! What the templates are given, where that is not evidence as it is.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use minijinja::value::Serde;
use minijinja::{Value, context};

use super::escape::Text;
use super::waterfall::strip;
use crate::check::{Area, Verdict};
use crate::diagnose::{Cause, Diagnosis};
use crate::evidence::Entry;
use crate::report::digest::Chosen;
use crate::report::{Digest, Run, Spread};

/// This many checks are unfolded, each for another cause.
const UNFOLDED: usize = 3;
/// So many held steps are shown right before the one that broke; those before them are folded.
const STEPS_BEFORE: usize = 8;

/// Exchanges that are on the page, so that what is left out is not linked to.
pub(super) struct Refs(HashSet<(u16, u32)>);

impl Refs {
    pub(super) fn of(checks: &[Arc<Digest>], chosen: &[Chosen]) -> Self {
        let ids = checks.iter().zip(chosen);
        Self(ids.flat_map(|(digest, chosen)| chosen.pieces.iter().map(|piece| (digest.evidence.id, piece.id))).collect())
    }

    /// Links for exchanges as evidence names them: `#12` of this check, `002#12` of another.
    fn links<'a>(&self, check: u16, named: impl IntoIterator<Item = &'a str>) -> Value {
        let mut out = String::new();
        for name in named {
            let (of, id) = name.split_once('#').unwrap_or(("", ""));
            let (of, id) = (if of.is_empty() { Some(check) } else { of.parse().ok() }, id.parse().ok());
            match of.zip(id).filter(|it| self.0.contains(it)) {
                Some((of, id)) => write!(out, " <a class=\"ref\" href=\"#x{of:03}-{id}\">{}</a>", Text(name)),
                None => write!(out, " <span class=\"ref\">{}</span>", Text(name)),
            }
            .unwrap_or_default();
        }
        Value::from_safe_string(out)
    }

    fn ids(&self, check: u16, ids: &[u32]) -> Value {
        let names: Vec<_> = ids.iter().map(|id| format!("#{id}")).collect();
        self.links(check, names.iter().map(String::as_str))
    }
}

/// A verdict as a class of the style sheet, its mark, and in words.
fn verdict(verdict: Verdict) -> Value {
    let (class, mark) = match verdict {
        Verdict::Passed => ("passed", "✓"),
        Verdict::Failed => ("failed", "✗"),
        Verdict::Errored => ("errored", "!"),
        Verdict::TimedOut => ("timed-out", "◷"),
        Verdict::NotRun => ("not-run", "–"),
    };
    context! { class => class, mark => mark, words => verdict.to_string() }
}

/// Red ones first, then those that did not run, then passes.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Failed | Verdict::TimedOut | Verdict::Errored => 0,
        Verdict::NotRun => 1,
        Verdict::Passed => 2,
    }
}

/// Totals, times, traffic.
pub(super) fn run(run: &Run) -> Value {
    let total = |verdict: &Verdict| run.ledger.totals.get(verdict).copied().unwrap_or_default();
    let totals = Verdict::ALL.iter().map(|it| context! { verdict => verdict(*it), n => total(it) });
    let memory = run.checks.iter().filter_map(|check| check.evidence.process.1).max();
    let spreads = [
        ("first byte of an answer", &run.facts.answers_ms),
        ("welcome of a socket", &run.facts.welcomes_ms),
        ("new connection", &run.facts.connects_ms),
    ];
    let spreads = spreads.into_iter().filter_map(|(name, samples)| Some((name, Spread::of(samples)?)));
    let unclean: Vec<_> = run.checks.iter().map(|check| &check.evidence).filter(|it| !it.left_behind.is_empty()).collect();
    context! {
        checks => run.ledger.checks.len(),
        passed => total(&Verdict::Passed),
        red => run.ledger.checks.iter().filter(|entry| rank(entry.verdict) == 0).count(),
        not_run => total(&Verdict::NotRun),
        totals => totals.collect::<Vec<_>>(),
        wall_ms => run.wall_s() * 1e3,
        facts => Serde(&run.facts),
        memory => memory.map(|kib| kib * 1_024),
        spreads => spreads.map(|(name, spread)| context! { name => name, of => Serde(spread) }).collect::<Vec<_>>(),
        left_behind => unclean.iter().map(|it| context! { id => it.id, what => it.left_behind.join("; ") }).collect::<Vec<_>>(),
    }
}

/// Causes with their checks, then failures without a known cause: what the reader must see first.
pub(super) fn causes(run: &Run, refs: &Refs) -> Vec<Value> {
    let entry = |id: &u16| run.ledger.checks.iter().find(|entry| entry.id == *id);
    let grouped = run.ledger.causes.iter().filter_map(|group| {
        let found = |digest: &Arc<Digest>| group.checks.contains(&digest.evidence.id);
        let evidence = &run.checks.iter().find(|digest| found(digest))?.evidence;
        let diagnosis = evidence.diagnosis.as_ref()?;
        let first = diagnosis.causes.iter().find(|cause| cause.name == group.cause)?;
        let mut impacts: Vec<_> = group.checks.iter().filter_map(|id| Some(entry(id)?.impact.as_str())).collect();
        impacts.dedup();
        let checks: Vec<_> = group.checks.iter().filter_map(|id| Some(context! { id => id, title => &entry(id)?.title })).collect();
        Some(context! { cause => cause(evidence.id, first, refs), next => next(diagnosis), impacts => Serde(impacts), checks })
    });
    grouped.collect()
}

fn cause(check: u16, cause: &Cause, refs: &Refs) -> Value {
    context! {
        name => &cause.name,
        class => cause.class.to_string(),
        meaning => cause.class.meaning(),
        what => &cause.what,
        side => cause.side.words(),
        change => &cause.change,
        refs => refs.links(check, cause.evidence.iter().map(String::as_str)),
    }
}

/// What to do now: a kind where it is not a command, and the text to copy.
fn next(diagnosis: &Diagnosis) -> Vec<Value> {
    let steps = diagnosis.next.iter().map(|step| {
        let (kind, text) = match step.split_once(": ") {
            Some((kind @ ("log" | "change"), text)) => (kind, text),
            _ => ("run", step.as_str()),
        };
        context! { kind, text }
    });
    steps.collect()
}

/// The grid: each area with its checks.
pub(super) fn areas(run: &Run) -> Vec<Value> {
    let all = [
        (Area::WebSocket, "Socket"),
        (Area::Agents, "Agents and tools"),
        (Area::Messages, "Messages and threads"),
        (Area::Streams, "Streams and events"),
    ];
    let areas = all.into_iter().map(|(area, name)| {
        let own = run.ledger.checks.iter().filter(|entry| entry.area == area);
        let cell = |entry: &Entry| {
            context! { id => entry.id, title => &entry.title, verdict => verdict(entry.verdict), ms => entry.duration_ms }
        };
        context! { name, checks => own.map(cell).collect::<Vec<_>>() }
    });
    areas.collect()
}

/// Routes that were timed against an agreement.
pub(super) fn strips(run: &Run) -> Vec<Value> {
    let measured = run.checks.iter().flat_map(|digest| digest.evidence.measured.iter().map(|it| (digest.evidence.id, it)));
    let strips = measured.map(|(id, it)| {
        let over = it.samples_ms.iter().filter(|ms| **ms > it.tail_limit_ms).count();
        let spread = Spread::of(&it.samples_ms);
        context! {
            id, over,
            route => &it.route,
            drawing => Value::from_safe_string(strip(it)),
            of => Serde(spread),
            // No more than one sample in twenty may exceed the tail limit.
            kept => over * 20 <= it.samples_ms.len() && spread.is_some_and(|of| of.median <= it.median_limit_ms),
            median_limit => it.median_limit_ms,
            tail_limit => it.tail_limit_ms,
        }
    });
    strips.collect()
}

/// Each check of the ledger, red ones first.
pub(super) fn checks(run: &Run, chosen: &[Chosen], refs: &Refs) -> Vec<Value> {
    let mut entries: Vec<_> = run.ledger.checks.iter().collect();
    entries.sort_by_key(|entry| rank(entry.verdict));
    let mut unfolded: Vec<Option<&str>> = Vec::new();
    let checks = entries.into_iter().map(|entry| {
        let of = run.checks.iter().position(|digest| digest.evidence.id == entry.id);
        let known = entry.cause.is_some() && unfolded.contains(&entry.cause.as_deref());
        let open = rank(entry.verdict) == 0 && !known && unfolded.len() < UNFOLDED;
        if open {
            unfolded.push(entry.cause.as_deref());
        }
        context! {
            entry => Serde(entry),
            open,
            verdict => verdict(entry.verdict),
            red => rank(entry.verdict) == 0,
            class => entry.class.map(|class| context! { name => class.to_string(), meaning => class.meaning() }),
            chips => chips(run, entry.id),
            ran => of.map(|at| check(&run.checks[at], &chosen[at], refs)),
        }
    });
    checks.collect()
}

/// Since earlier runs: text, and whether it is good news.
fn chips(run: &Run, id: u16) -> Vec<Value> {
    use super::words::{took, when};
    let since = &run.since;
    let mut all = Vec::new();
    if since.new_failures.contains(&id) {
        all.push(("bad", "new failure".to_owned()));
    }
    if since.fixed.contains(&id) {
        all.push(("good", "fixed".to_owned()));
    }
    for still in since.still.iter().filter(|still| still.check == id) {
        all.push(("bad", format!("failing since {}, {} runs", when(&still.since.started_at), still.runs)));
    }
    for pace in since.pace.iter().filter(|pace| pace.check == id) {
        let (kind, word) = if pace.ms > pace.median_ms { ("bad", "slower") } else { ("good", "faster") };
        all.push((kind, format!("{word}: {} against {} (median of {})", took(pace.ms), took(pace.median_ms), pace.n)));
    }
    all.into_iter().map(|(kind, text)| context! { kind, text }).collect()
}

/// A check that left evidence.
fn check(digest: &Digest, chosen: &Chosen, refs: &Refs) -> Value {
    let evidence = &digest.evidence;
    let steps: Vec<_> = evidence.expectations.iter().collect();
    // The step that broke is the last one that did not hold: its name is that of the failure.
    let broke = if digest.is_red() { steps.len().saturating_sub(STEPS_BEFORE + 1) } else { steps.len() };
    let step = |it: &&crate::exchange::Judged| {
        context! { name => &it.name, held => it.held, at => &it.at, refs => refs.ids(evidence.id, &it.about) }
    };
    let exchanges: String = chosen.pieces.iter().map(|piece| piece.text.as_str()).collect();
    let found = evidence.diagnosis.as_ref().map(|it| diagnosis(evidence.id, &evidence.name, it, refs));
    context! {
        failure => evidence.failure.as_ref().map(Serde),
        shown_by => evidence.failure.as_ref().map(|it| refs.ids(evidence.id, &it.about)),
        trouble => evidence.trouble.as_ref().map(Serde),
        received => digest.received.as_deref().filter(|_| digest.is_red()),
        waiting => &evidence.waiting_for,
        because => evidence.class_because.as_deref(),
        notes => &evidence.notes,
        left_behind => &evidence.left_behind,
        found,
        held => steps.iter().filter(|it| it.held).count(),
        steps_folded => steps[..broke].iter().map(step).collect::<Vec<_>>(),
        steps => steps[broke..].iter().map(step).collect::<Vec<_>>(),
        queued_ms => evidence.queued_ms,
        duration_ms => evidence.duration_ms,
        started_at => &evidence.started_at,
        sent => evidence.bytes_sent,
        received_bytes => evidence.bytes_received,
        shown => chosen.pieces.len(),
        left_out => chosen.left_out,
        ruler => [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| super::words::took(evidence.duration_ms * part)).to_vec(),
        exchanges => Value::from_safe_string(exchanges),
    }
}

fn diagnosis(check: u16, name: &str, it: &Diagnosis, refs: &Refs) -> Value {
    let links = |named: &[String]| refs.links(check, named.iter().map(String::as_str));
    let elsewhere = it.made_by.as_deref().filter(|by| *by != name);
    let trials = it.trials.iter().filter(|_| elsewhere.is_none()).map(|trial| {
        context! {
            what => &trial.what,
            door => trial.door.map(|door| door.to_string()),
            answer => trial.answer.to_string(),
            said => &trial.said,
            refs => links(std::slice::from_ref(&trial.exchange)),
        }
    });
    context! {
        because => &it.because,
        causes => it.causes.iter().map(|it| cause(check, it, refs)).collect::<Vec<_>>(),
        whys => it.whys.iter().map(|why| context! { text => &why.text, refs => links(&why.evidence) }).collect::<Vec<_>>(),
        next => next(it),
        claims => Serde(&it.claims),
        trials => trials.collect::<Vec<_>>(),
        excluded => &it.excluded,
        made_by => elsewhere,
        trouble => it.trouble.as_deref(),
    }
}
