//! A run against earlier ones of the same target: what changed, since when, and what left the noise.
//!
//! [`compare`] judges rows and knows no file; [`store`] keeps the rows, in `history.sqlite` beside the runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::check::Verdict;
use crate::history::median;

pub mod store;

/// What changed since earlier runs of the same target.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Since {
    /// The newest earlier run of the target; none if this is the first.
    pub before: Option<Before>,
    /// Checks that do not pass, and passed when they last ran.
    pub new_failures: Vec<u16>,
    /// Checks that pass, and did not when they last ran.
    pub fixed: Vec<u16>,
    /// Checks that do not pass, and did not when they last ran.
    pub still: Vec<Still>,
    /// Checks that took longer or shorter than the noise of their earlier passes explains.
    pub pace: Vec<Pace>,
    /// Passing checks with too few earlier passes to say that.
    pub too_few: usize,
    /// Why there is no history, where it could not be read or written.
    pub trouble: Option<String>,
}

/// An earlier run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Before {
    /// Its id.
    pub run_id: String,
    /// Its start, ISO 8601 in UTC.
    pub started_at: String,
}

/// A check that fails again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Still {
    /// Number of the check.
    pub check: u16,
    /// The first run of the unbroken row of failures.
    pub since: Before,
    /// How many runs it has failed in a row, this one among them.
    pub runs: usize,
}

/// A check whose time left the noise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pace {
    /// Number of the check.
    pub check: u16,
    /// What it took now, in milliseconds.
    pub ms: f64,
    /// The median of its earlier passes, in milliseconds.
    pub median_ms: f64,
    /// How many earlier passes that is.
    pub n: usize,
}

/// Fewer earlier passes than this say nothing about noise.
pub const PASSES_AT_LEAST: usize = 5;

/// A result of a check that ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Number of the check.
    pub check: u16,
    /// Its verdict; never *not run*.
    pub verdict: Verdict,
    /// What it took, in milliseconds.
    pub ms: f64,
    /// Name of the cause, where one was found.
    pub cause: Option<String>,
}

/// A run as the history has it, with the results of the checks that ran in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Which run, and when.
    pub run: Before,
    /// Its results, in the order of the checks.
    pub results: Vec<Ran>,
}

impl Past {
    /// What this run says of a check; none if it did not run.
    #[must_use]
    pub fn of(&self, check: u16) -> Option<&Ran> {
        self.results.iter().find(|it| it.check == check)
    }
}

/// Adds this run to the history as far as it has come, and compares it with earlier ones.
pub(crate) fn record(folder: &Path, run: &super::Run) -> Since {
    let own = results(&run.ledger);
    let (earlier, written) = store::record(folder, run, &own);
    Since { trouble: written.err(), ..compare(&own, &earlier) }
}

/// Compares this run with earlier ones. `folder` is the run's own.
#[must_use]
pub fn against(folder: &Path, run: &super::Run) -> Since {
    match store::earlier(folder, &run.about) {
        Ok(earlier) => compare(&results(&run.ledger), &earlier),
        Err(error) => Since { trouble: Some(error), ..Since::default() },
    }
}

/// The checks of a ledger that ran.
pub(crate) fn results(ledger: &crate::evidence::Ledger) -> Vec<Ran> {
    let ran = ledger.checks.iter().filter(|entry| entry.verdict != Verdict::NotRun);
    let result = |entry: &crate::evidence::Entry| Ran {
        check: entry.id,
        verdict: entry.verdict,
        ms: entry.duration_ms.unwrap_or_default(),
        cause: entry.cause.clone(),
    };
    ran.map(result).collect()
}

/// Compares each check with its own last result; runs in which it did not run are passed over. `earlier` is newest first.
#[must_use]
pub fn compare(now: &[Ran], earlier: &[Past]) -> Since {
    let mut since = Since { before: earlier.first().map(|past| past.run.clone()), ..Since::default() };
    let mut all: BTreeMap<u16, Vec<(&Before, &Ran)>> = BTreeMap::new();
    for past in earlier {
        for result in &past.results {
            all.entry(result.check).or_default().push((&past.run, result));
        }
    }
    let passed = |result: &Ran| result.verdict == Verdict::Passed;
    for own in now {
        let before = all.get(&own.check).map_or(&[][..], Vec::as_slice);
        if passed(own) {
            let times: Vec<f64> = before.iter().filter(|(_, it)| passed(it)).map(|(_, it)| it.ms).collect();
            if times.len() < PASSES_AT_LEAST {
                since.too_few += 1;
            } else if let Some(median_ms) = outside(own.ms, &times) {
                since.pace.push(Pace { check: own.check, ms: own.ms, median_ms, n: times.len() });
            }
        }
        let row = before.iter().take_while(|(_, it)| !passed(it));
        match (before.first(), row.clone().last()) {
            (None, _) => {}
            (Some(_), None) if passed(own) => {}
            (Some(_), None) => since.new_failures.push(own.check),
            (Some(_), Some(_)) if passed(own) => since.fixed.push(own.check),
            (Some(_), Some((first, _))) => {
                since.still.push(Still { check: own.check, since: (*first).clone(), runs: row.count() + 1 });
            }
        }
    }
    since
}

/// The median of the passes, if `ms` lies outside their noise: farther from it than four standard deviations as the median of
/// absolute deviations estimates them (times 1.4826 for a normal distribution), than a quarter of it, and than 50 ms.
fn outside(ms: f64, passes: &[f64]) -> Option<f64> {
    let middle = median(passes);
    let deviations: Vec<f64> = passes.iter().map(|pass| (pass - middle).abs()).collect();
    let noise = (4.0 * 1.4826 * median(&deviations)).max(middle / 4.0).max(50.0);
    ((ms - middle).abs() > noise).then_some(middle)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn result(mark: char, ms: f64) -> Option<Ran> {
        let verdict = match mark {
            '✓' => Verdict::Passed,
            '✗' => Verdict::Failed,
            '!' => Verdict::Errored,
            't' => Verdict::TimedOut,
            _ => return None,
        };
        Some(Ran { check: 7, verdict, ms, cause: None })
    }

    fn before(at: usize) -> Before {
        Before { run_id: format!("run-{at}"), started_at: format!("2026-11-25T{at:02}:00:00.000Z") }
    }

    /// Runs of one check as marks, oldest first; the last one is now.
    fn of_marks(marks: &str) -> Since {
        let all: Vec<_> = marks.chars().map(|mark| result(mark, 100.0)).collect();
        let (now, earlier) = all.split_last().expect("a run");
        let past = |(at, it): (usize, &Option<Ran>)| Past { run: before(at), results: it.clone().into_iter().collect() };
        let earlier: Vec<_> = earlier.iter().enumerate().map(past).rev().collect();
        compare(&now.clone().into_iter().collect::<Vec<_>>(), &earlier)
    }

    #[rstest]
    #[case::the_first_run_is_neither_new_nor_fixed("✗", "")]
    #[case::sound_stays_sound("✓✓", "")]
    #[case::a_new_failure("✓✗", "new")]
    #[case::a_new_error("✓!", "new")]
    #[case::a_new_timeout("✓t", "new")]
    #[case::fixed("✗✓", "fixed")]
    #[case::fixed_after_an_error("✗!✓", "fixed")]
    #[case::still_failing("✗✗", "since run-0, 2 runs")]
    #[case::still_failing_in_other_words("✓✗t!", "since run-1, 3 runs")]
    #[case::the_row_ends_at_a_pass("✗✓✗✗", "since run-2, 2 runs")]
    #[case::runs_without_it_are_passed_over("✓··✗", "new")]
    #[case::runs_without_it_do_not_break_a_row("✓✗·✗·✗", "since run-1, 3 runs")]
    #[case::not_run_now("✓✗·", "")]
    #[case::never_run_before("··✗", "")]
    fn a_check_is_compared_with_its_own_last_result(#[case] marks: &str, #[case] wanted: &str) {
        let since = of_marks(marks);
        let mut said: Vec<String> = since.new_failures.iter().map(|_| "new".to_owned()).collect();
        said.extend(since.fixed.iter().map(|_| "fixed".to_owned()));
        said.extend(since.still.iter().map(|it| format!("since {}, {} runs", it.since.run_id, it.runs)));
        assert_eq!(said.join("; "), wanted);
    }

    #[test]
    fn the_newest_earlier_run_is_named() {
        assert_eq!(of_marks("✓").before, None);
        assert_eq!(of_marks("✓✗·✓").before, Some(before(2)));
    }

    #[rstest]
    #[case::four_passes_are_too_few(&[100.0, 100.0, 100.0, 100.0], 900.0, None)]
    #[case::five_are_enough(&[100.0, 100.0, 100.0, 100.0, 100.0], 900.0, Some(100.0))]
    #[case::fifty_ms_are_noise(&[100.0, 100.0, 100.0, 100.0, 100.0], 150.0, None)]
    #[case::more_is_not(&[100.0, 100.0, 100.0, 100.0, 100.0], 150.1, Some(100.0))]
    #[case::a_quarter_is_noise(&[1000.0, 1000.0, 1000.0, 1000.0, 1000.0], 1250.0, None)]
    #[case::more_than_a_quarter_is_not(&[1000.0, 1000.0, 1000.0, 1000.0, 1000.0], 1250.1, Some(1000.0))]
    #[case::faster(&[1000.0, 1000.0, 1000.0, 1000.0, 1000.0], 749.0, Some(1000.0))]
    #[case::within_its_own_jitter(&[600.0, 800.0, 1000.0, 1200.0, 1400.0], 2186.0, None)]
    #[case::beyond_its_own_jitter(&[600.0, 800.0, 1000.0, 1200.0, 1400.0], 2187.0, Some(1000.0))]
    #[case::one_outlier_is_no_noise(&[100.0, 100.0, 100.0, 100.0, 9000.0], 160.0, Some(100.0))]
    fn a_pace_leaves_the_noise_or_does_not(#[case] passes: &[f64], #[case] ms: f64, #[case] wanted: Option<f64>) {
        let past = |(at, ms): (usize, &f64)| Past { run: before(at), results: result('✓', *ms).into_iter().collect() };
        let earlier: Vec<_> = passes.iter().enumerate().map(past).collect();
        let since = compare(&[result('✓', ms).expect("a pass")], &earlier);
        assert_eq!(since.pace.first().map(|it| it.median_ms), wanted);
        assert_eq!(since.too_few, usize::from(passes.len() < PASSES_AT_LEAST));
        let failed = compare(&[result('✗', ms).expect("a failure")], &earlier);
        assert!(failed.pace.is_empty() && failed.too_few == 0, "only a pass has a pace");
    }
}
