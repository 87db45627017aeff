//! GitHub Actions: annotations by workflow commands, and the job summary.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;

use super::{Run, markdown};
use crate::config::GitHub;
use crate::exchange::cut;

/// GitHub shows ten annotations of each kind for a step.
pub const ANNOTATIONS_AT_MOST: usize = 10;

/// What the runner reads from the output: annotations, by cause. Appends the report to the job summary where there is one.
#[must_use]
pub fn tell(run: &Run, job: &GitHub) -> String {
    let mut out = annotations(run).join("\n");
    if !out.is_empty() {
        out.push('\n');
    }
    if let Some(path) = &job.step_summary {
        let file = OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = file.and_then(|mut file| file.write_all(markdown::file(run).as_bytes())) {
            let _ = writeln!(out, "::warning::the job summary {} cannot be written: {}", path.display(), data(&error.to_string()));
        }
    }
    out
}

/// One annotation for each cause, the largest group first, then one for each failure without a known cause.
#[must_use]
pub fn annotations(run: &Run) -> Vec<String> {
    let red = || run.checks.iter().filter(|it| it.is_red());
    let mut all = Vec::new();
    for group in &run.ledger.causes {
        let of_group = |it: &&std::sync::Arc<super::Digest>| group.checks.contains(&it.evidence.id);
        let Some(first) = red().find(of_group) else { continue };
        let Some(cause) = first.cause() else { continue };
        let text = format!("{}\ndo: {} ({})", cause.what, cause.change, cause.side.words());
        all.push(annotation(first.evidence.failure.as_ref().map(|failure| failure.at.as_str()), &group.in_words(), &text));
    }
    for (trouble, checks) in run.troubles() {
        let title = format!("{} could not be judged", markdown::many(checks.len(), "check"));
        all.push(annotation(None, &title, &format!("{}\ndo: {}", trouble.what, trouble.remedy)));
    }
    for it in red().filter(|it| it.cause().is_none()).map(|it| &it.evidence).filter(|it| it.trouble.is_none()) {
        let title = format!("{:03} {}", it.id, it.title);
        let (at, text) = match &it.failure {
            Some(failure) => {
                let text = format!("{}\nwanted {}\ngot {}", failure.expectation, failure.wanted, failure.got);
                (Some(failure.at.as_str()), text)
            }
            None => (None, format!("{}: {}", it.verdict, it.waiting_for.join("; "))),
        };
        all.push(annotation(at, &title, &text));
    }
    if all.len() > ANNOTATIONS_AT_MOST {
        let more = all.len() - (ANNOTATIONS_AT_MOST - 1);
        all.truncate(ANNOTATIONS_AT_MOST - 1);
        all.push(annotation(None, &format!("{more} more"), "see report.md"));
    }
    all
}

/// `::error file=…,line=…,title=…::text`.
fn annotation(at: Option<&str>, title: &str, text: &str) -> String {
    let place = at
        .and_then(|at| at.rsplit_once(':'))
        .map_or(String::new(), |(file, line)| format!("file={},line={},", property(file), property(line)));
    format!("::error {place}title={}::{}", property(title), data(&cut(text, 1_000)))
}

/// The text of a workflow command is one line; these three are written as they are in a URL.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// In a property, the marks that end one are written so too.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_is_one_line_whatever_is_in_it() {
        let line = annotation(Some("tests/critical/a.rs:38"), "secret: 2 checks, one cause", "100 % wrong\nreally");
        assert_eq!(line, "::error file=tests/critical/a.rs,line=38,title=secret%3A 2 checks%2C one cause::100 %25 wrong%0Areally");
        assert_eq!(annotation(None, "t", "x"), "::error title=t::x");
    }
}
