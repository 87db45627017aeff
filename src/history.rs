//! Judging recorded histories: order, completeness, and what crossed between users.

use serde_json::Value;

use crate::expect::{Mismatch, cut_list};

/// Judges that `got` is `wanted`, item by item: nothing lost, nothing twice, nothing foreign, in this order.
///
/// # Errors
/// The kind of damage, and the first place where it shows.
pub fn same_sequence<T: AsRef<str>, U: AsRef<str>>(wanted: &[T], got: &[U]) -> Result<(), Mismatch> {
    let wanted: Vec<&str> = wanted.iter().map(AsRef::as_ref).collect();
    let got: Vec<&str> = got.iter().map(AsRef::as_ref).collect();
    if wanted == got {
        return Ok(());
    }
    let count = |list: &[&str], item: &str| list.iter().filter(|other| **other == item).count();
    let lost: Vec<_> = wanted.iter().filter(|item| count(&got, item) < count(&wanted, item)).copied().collect();
    let extra: Vec<_> = got.iter().filter(|item| count(&got, item) > count(&wanted, item)).copied().collect();
    let damage = if !lost.is_empty() {
        format!("lost: {}", cut_list(&lost))
    } else if !extra.is_empty() {
        format!("twice or foreign: {}", cut_list(&extra))
    } else {
        let at = wanted.iter().zip(&got).position(|(a, b)| a != b).unwrap_or(0);
        format!("out of order from place {} on: {}", at + 1, cut_list(&got[at..]))
    };
    let also =
        if lost.is_empty() || extra.is_empty() { String::new() } else { format!("; twice or foreign: {}", cut_list(&extra)) };
    Err(Mismatch::new(format!("these {} in order: {}", wanted.len(), cut_list(&wanted)), format!("{}; {damage}{also}", got.len())))
}

/// Judges that times do not decrease. Values are epoch seconds or ISO 8601.
///
/// # Errors
/// The first pair that runs backwards, or a value that is no time.
pub fn not_decreasing<'a>(times: impl IntoIterator<Item = &'a Value>) -> Result<(), Mismatch> {
    let wanted = "times that do not decrease";
    let mut last: Option<(f64, &Value)> = None;
    for value in times {
        let Some(moment) = crate::time::moment(value) else {
            return Err(Mismatch::new(wanted, format!("{value} is no time")));
        };
        if let Some((before, shown)) = last.filter(|(before, _)| *before > moment) {
            return Err(Mismatch::new(wanted, format!("{value} after {shown} ({:.6} s back)", before - moment)));
        }
        last = Some((moment, value));
    }
    Ok(())
}

/// What one user of a concurrent run saw: everything that reached it, as text.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Who.
    pub user: String,
    /// The word that only this user knows.
    pub word: String,
    /// The answer to its own question.
    pub answer: String,
    /// Every frame that its socket received.
    pub seen: Vec<String>,
}

/// Judges a concurrent history: each answer has its user's own word.
///
/// # Errors
/// Who got an answer without it.
pub fn each_has_its_own_word(witnesses: &[Witness]) -> Result<(), Mismatch> {
    let without: Vec<_> = witnesses.iter().filter(|w| !w.answer.contains(&w.word)).collect();
    match without.first() {
        None => Ok(()),
        Some(witness) => Err(Mismatch::new(
            format!("every user's own word in its answer; for {} {:?}", witness.user, witness.word),
            format!("missing for {} of {} users; {} got {:?}", without.len(), witnesses.len(), witness.user, witness.answer),
        )),
    }
}

/// Judges a concurrent history: no word of one user ever reached another.
///
/// # Errors
/// Whose word reached whom, in which frame.
pub fn no_word_crosses(witnesses: &[Witness]) -> Result<(), Mismatch> {
    for reader in witnesses {
        for owner in witnesses.iter().filter(|owner| owner.user != reader.user) {
            if let Some(frame) = reader.seen.iter().find(|frame| frame.contains(&owner.word)) {
                let got = format!("{:?} of {} reached {}: {frame}", owner.word, owner.user, reader.user);
                return Err(Mismatch::new("no user's word in what another user receives", got));
            }
        }
    }
    Ok(())
}

/// Judges pages against the whole list: end to end they are the list, without gap or overlap.
///
/// # Errors
/// As [`same_sequence`].
pub fn pages_tile(whole: &[String], pages: &[Vec<String>]) -> Result<(), Mismatch> {
    same_sequence(whole, &pages.concat())
}

/// Median of some samples; 0 for none.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (n, half) if n % 2 == 0 => f64::midpoint(sorted[half - 1], sorted[half]),
        (_, half) => sorted[half],
    }
}
