//! What reports need of one check, read once from its evidence: so that folding a run again after each check stays cheap.

use std::sync::Arc;

use super::facts::Facts;
use super::{har, html};
use crate::check::Verdict;
use crate::diagnose::Cause;
use crate::evidence::Evidence;
use crate::exchange::{Exchange, cut};

/// An error as it was received is shown up to this many characters.
const RECEIVED_CHARS: usize = 2_000;

/// One check of a run.
#[derive(Clone, Debug)]
pub struct Digest {
    /// Its evidence, without the exchanges.
    pub evidence: Evidence,
    /// Figures of its exchanges.
    pub facts: Facts,
    /// For a check that did not pass: the answer that broke it, as received.
    pub received: Option<String>,
    /// One entry of `run.har` for each exchange.
    pub(crate) har: Vec<Piece>,
    /// One foldable part of `report.html` for each exchange.
    pub(crate) html: Vec<Piece>,
}

/// An exchange, written out for one format.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Number of the exchange.
    pub(crate) id: u32,
    /// True if the failure speaks of it, so that it is the last to be left out.
    pub(crate) wanted: bool,
    pub(crate) text: String,
}

impl Digest {
    /// Of this evidence.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let about = about(evidence);
        let pieces = |write: fn(&Evidence, &Exchange) -> String| {
            let piece = |x: &Exchange| Piece { id: x.id, wanted: about.contains(&x.id), text: write(evidence, x) };
            evidence.exchanges.iter().map(piece).collect()
        };
        Self {
            facts: Facts::of(evidence.id, &evidence.started_at, &evidence.exchanges),
            received: received(evidence, &about),
            har: pieces(har::entry),
            html: pieces(html::exchange),
            evidence: evidence.without_exchanges(),
        }
    }

    /// The first cause that was found, where one was.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.evidence.diagnosis.as_ref()?.causes.first()
    }

    /// True if the check did not pass.
    #[must_use]
    pub fn is_red(&self) -> bool {
        self.evidence.verdict != Verdict::Passed
    }
}

/// Exchanges that show the failure.
fn about(evidence: &Evidence) -> Vec<u32> {
    let failure = evidence.failure.as_ref().map(|it| it.about.clone());
    failure.or(evidence.trouble.as_ref().map(|it| it.about.clone())).unwrap_or_default()
}

/// The last answer that the failure speaks of: the error frame or the body, or else what went wrong below HTTP.
fn received(evidence: &Evidence, about: &[u32]) -> Option<String> {
    let shown = evidence.exchanges.iter().rfind(|x| about.contains(&x.id))?;
    let refused = |text: &&str| text.contains("\"error_message\"") || text.contains("\"agent_error\"");
    let frames = || shown.frames.iter().rev().filter(|frame| !frame.sent).map(|frame| frame.text.as_str());
    let frame = frames().find(refused).or_else(|| frames().next());
    let text = shown.response_body.as_deref().filter(|body| !body.is_empty()).or(frame).or(shown.error.as_deref())?;
    Some(cut(text, RECEIVED_CHARS))
}

/// Pieces of one check that fit, and how many did not.
pub(crate) struct Chosen<'a> {
    pub(crate) pieces: Vec<&'a Piece>,
    pub(crate) left_out: usize,
}

/// Of each check, the pieces that fit into a budget of bytes for all of them: first those that failures speak of, then those
/// of checks that did not pass, then the others.
pub(crate) fn within<'a>(checks: &'a [Arc<Digest>], pieces: fn(&Digest) -> &[Piece], budget: usize) -> Vec<Chosen<'a>> {
    let rank = |digest: &Digest, piece: &Piece| usize::from(!piece.wanted) + usize::from(!digest.is_red());
    let mut left = budget;
    let mut taken: Vec<Vec<bool>> = checks.iter().map(|digest| vec![false; pieces(digest).len()]).collect();
    for wanted in 0..=2 {
        for (digest, taken) in checks.iter().zip(&mut taken) {
            for (piece, taken) in pieces(digest).iter().zip(taken).filter(|(piece, _)| rank(digest, piece) == wanted) {
                if piece.text.len() <= left {
                    left -= piece.text.len();
                    *taken = true;
                }
            }
        }
    }
    let chosen = |(digest, taken): (&'a Arc<Digest>, &Vec<bool>)| {
        let pieces: Vec<_> = pieces(digest).iter().zip(taken).filter_map(|(piece, taken)| taken.then_some(piece)).collect();
        Chosen { left_out: taken.len() - pieces.len(), pieces }
    };
    checks.iter().zip(&taken).map(chosen).collect()
}
