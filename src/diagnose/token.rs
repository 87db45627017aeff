//! The token search: a token was refused that should have been accepted. Where is it refused, and what one change to it makes the
//! difference?
//!
//! All experiments are sequential, and each shows a fresh token: servers remember refusals for minutes.

use super::Findings;
use super::changes::{Change, Draft, Known, others, suspects};
use super::claims::{Decoded, Form, forms, made_by, table};
use super::conclude;
use super::lab::{Answer, Door, Lab, ROUTE, Trial};
use crate::exchange::{Exchange, Kind};
use crate::secret::{Secret, recall};
use crate::time::now_seconds;

/// Where a refused token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Signed here.
    Minted,
    /// Made by the auth service.
    Issued,
    /// Given in a variable.
    HandedIn,
}

/// The token that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) token: Secret,
    pub(crate) source: Source,
    pub(crate) door: Door,
    /// Method and path, where it was another route of the API than the one that tokens are shown at.
    pub(crate) route: Option<(String, String)>,
}

impl Subject {
    /// The token of an exchange, and where it was shown. None if it showed none, or one that is no longer known.
    pub(crate) fn of(exchange: &Exchange, lab: &Lab<'_>) -> Option<Self> {
        let header = |name: &str| exchange.request_headers.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let shown = [
            (header("authorization"), Door::Header),
            (header("sec-websocket-protocol"), Door::Subprotocol),
            (Some(&exchange.url), Door::Query),
        ];
        let (token, carrier) = shown.into_iter().find_map(|(text, door)| Some((recall(text?)?, door)))?;
        let url = url::Url::parse(&exchange.url).ok()?;
        let door = match exchange.kind {
            Kind::WebSocket => carrier,
            _ if exchange.url.starts_with(lab.cx.target().auth.as_str()) => Door::Verify,
            _ => Door::Http,
        };
        let route = (door == Door::Http && url.path() != ROUTE).then(|| (exchange.method.clone(), url.path().to_owned()));
        let mark = format!("<jwt:{}>", crate::secret::fingerprint(token.expose()));
        let given = |x: &Exchange| x.response_body.as_ref().is_some_and(|body| body.contains(&mark));
        let source = if lab.cx.target().tokens.iter().any(|(access, _)| *access == token) {
            Source::HandedIn
        } else if lab.cx.recorder().all().iter().any(given) {
            Source::Issued
        } else {
            Source::Minted
        };
        Some(Self { token, source, door, route })
    }

    /// In words.
    pub(crate) fn name(&self) -> &'static str {
        match self.source {
            Source::Minted => "our minted token",
            Source::Issued => "the auth service's token",
            Source::HandedIn => "the token that was handed in",
        }
    }
}

/// Everything that the search found out; [`conclude`] says what follows.
pub(crate) struct Found {
    pub(crate) subject: Subject,
    pub(crate) ours: Decoded,
    pub(crate) trials: Vec<Trial>,
    /// The same token at each door.
    pub(crate) own: Vec<Trial>,
    /// The same token at the very route that refused it, where others accept it.
    pub(crate) replay: Option<Trial>,
    /// A garbage token, at HTTP and at the socket.
    pub(crate) garbage: Vec<Trial>,
    /// A token that the auth service made: at `/auth/validate`, and where ours was refused. Or why there is none.
    pub(crate) issued: Result<Vec<Trial>, String>,
    /// The form of our secret that made the auth service's token; none if no form did, or there is no such token.
    pub(crate) form: Option<Form>,
    /// Algorithm of the auth service's token.
    pub(crate) algorithm: String,
    /// Changes that together make the difference, each needed; with the trial that showed it.
    pub(crate) flip: Option<(Vec<Change>, Trial)>,
    /// Changes that made no difference.
    pub(crate) vain: Vec<(Change, Trial)>,
    /// Claims that differ from the contract.
    pub(crate) differing: Vec<String>,
    /// How far the service's clock is ahead, in seconds.
    pub(crate) skew_s: f64,
}

impl Found {
    /// The trial of the same token at a door.
    pub(crate) fn at(&self, door: Door) -> Option<&Trial> {
        self.own.iter().find(|trial| trial.door == Some(door))
    }

    pub(crate) fn answer(&self, door: Door) -> Answer {
        self.at(door).map_or(Answer::Unclear, |trial| trial.answer)
    }
}

/// Runs the search.
pub(crate) async fn search(lab: &mut Lab<'_>, subject: Subject) -> Findings {
    let name = subject.name();
    let ours = Decoded::of(subject.token.expose()).unwrap_or_default();
    let mut own = Vec::new();
    for door in [Door::Validate, Door::Verify, Door::Http, Door::Header, Door::Subprotocol, Door::Query] {
        own.extend(lab.show(&format!("{name}, the same"), subject.token.expose(), door).await);
    }
    let accepted_elsewhere = own.iter().any(|trial| trial.door == Some(Door::Http) && trial.answer == Answer::Accepted);
    let replay = match &subject.route {
        Some((method, path)) if method == "GET" && accepted_elsewhere => {
            lab.show_at(&format!("{name}, again"), subject.token.expose(), path).await
        }
        _ => None,
    };
    let mut garbage = Vec::new();
    for door in [Door::Http, Door::Header] {
        garbage.extend(lab.show("a garbage token", &super::bypass::garbage(), door).await);
    }
    let mut issued_at = Vec::new();
    // An auth service that is silent or slow says it once: asking it for more would only take time.
    let lively = own.first().is_none_or(|trial| trial.answer != Answer::Unclear && trial.took_ms < super::service::SLOW_MS);
    let issued = if lively { lab.issue().await } else { Err("the auth service is silent or slow".to_owned()) };
    if let Ok(token) = &issued {
        for door in [Door::Validate, subject.door] {
            issued_at.extend(lab.show("a fresh token of the auth service", token.expose(), door).await);
        }
    }
    let theirs = issued.as_ref().ok().and_then(|token| Decoded::of(token.expose()));
    let (now, skew_s) = (now_seconds(), lab.skew().unwrap_or_default());
    let rows = table(&ours, theirs.as_ref().filter(|_| subject.source != Source::Issued), now);
    let all_forms = lab.cx.target().jwt_secret.as_ref().map(forms).unwrap_or_default();
    let form = issued.as_ref().ok().and_then(|token| all_forms.iter().find(|form| made_by(token.expose(), &form.key)).cloned());
    let mut found = Found {
        differing: rows.iter().filter(|row| row.differs).map(|row| row.claim.clone()).collect(),
        algorithm: theirs.as_ref().map_or(String::new(), |theirs| theirs.algorithm().to_owned()),
        issued: issued.map(|_| issued_at),
        subject,
        ours,
        trials: Vec::new(),
        own,
        replay,
        garbage,
        form,
        flip: None,
        vain: Vec::new(),
        skew_s,
    };
    let ours_by = all_forms.iter().find(|form| made_by(found.subject.token.expose(), &form.key)).cloned();
    if let (Some(ours_by), true) = (ours_by, conclude::needs_changes(&found)) {
        let others: Vec<_> = all_forms.into_iter().filter(|form| form.key != ours_by.key).collect();
        let known = Known {
            ours: &found.ours,
            issued: theirs.as_ref().filter(|_| conclude::issued_accepted(&found)),
            forms: &others,
            true_form: found.form.as_ref().filter(|form| form.key != ours_by.key),
            skew_s,
            now,
            differing: &found.differing,
            other_user: theirs.as_ref().and_then(|it| it.claims.get("sub")?.as_str().map(str::to_owned)),
        };
        let mut draft = Draft::new(&found.ours, ours_by.key.clone());
        let (flip, vain) = change_by_change(lab, &mut draft, &known, &found).await;
        (found.flip, found.vain) = (flip, vain);
    }
    found.trials = std::mem::take(&mut lab.trials);
    let causes = conclude::causes(&found, lab.cx);
    let mut excluded: Vec<_> = found.vain.iter().map(|(change, trial)| format!("{change} ({})", trial.exchange)).collect();
    if skew_s.abs() < super::changes::SKEW_FROM_S {
        excluded.push(format!("clock skew: the service's Date is within {:.1} s of ours", skew_s.abs() + 0.5));
    }
    Findings { causes, claims: rows, trials: found.trials, excluded, made_by: lab.cx.check.name.to_owned(), trouble: None }
}

type Flip = Option<(Vec<Change>, Trial)>;

/// One change at a time until the token is accepted; then, if several things are suspected, all of them, and as few of them as do.
async fn change_by_change(lab: &mut Lab<'_>, draft: &mut Draft, known: &Known<'_>, found: &Found) -> (Flip, Vec<(Change, Trial)>) {
    let (name, door) = (found.subject.name(), found.subject.door);
    let mut vain = Vec::new();
    let suspects = suspects(known);
    for change in std::iter::once(Change::nothing()).chain(suspects.iter().cloned()) {
        let Some(trial) = lab.show(&format!("{name}, {change}"), &draft.with(&[&change]), door).await else { return (None, vain) };
        if trial.answer == Answer::Accepted {
            return (Some((vec![change], trial)), vain);
        }
        vain.push((change, trial));
    }
    if suspects.len() > 1
        && let Some(flip) = together(lab, draft, &suspects, name, door).await
    {
        return (Some(flip), vain);
    }
    for change in others(known) {
        let Some(trial) = lab.show(&format!("{name}, {change}"), &draft.with(&[&change]), door).await else { break };
        if trial.answer == Answer::Accepted {
            return (Some((vec![change], trial)), vain);
        }
        vain.push((change, trial));
    }
    (None, vain)
}

/// All suspected changes at once; if that is accepted, each is taken back in turn to see whether it is needed.
async fn together(lab: &mut Lab<'_>, draft: &mut Draft, suspects: &[Change], name: &str, door: Door) -> Flip {
    let says =
        |changes: &[&Change]| format!("{name}, {}", changes.iter().map(|it| it.says.as_str()).collect::<Vec<_>>().join(" and "));
    let mut needed: Vec<&Change> = suspects.iter().collect();
    let mut shown = lab.show(&says(&needed), &draft.with(&needed), door).await.filter(|trial| trial.answer == Answer::Accepted)?;
    for change in suspects {
        if needed.len() == 1 {
            break;
        }
        let fewer: Vec<_> = needed.iter().copied().filter(|it| !std::ptr::eq(*it, change)).collect();
        let Some(trial) = lab.show(&says(&fewer), &draft.with(&fewer), door).await else { break };
        if trial.answer == Answer::Accepted {
            (needed, shown) = (fewer, trial);
        }
    }
    Some((needed.into_iter().cloned().collect(), shown))
}
