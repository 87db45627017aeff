//! `report.html`: one file that needs nothing else, for whoever must decide after a deployment.
//!
//! | part | file |
//! |---|---|
//! | the page and its checks, as templates | `page.html`, `check.html` |
//! | what templates are given | `view` |
//! | an exchange | `exchange`, drawn by `waterfall` |
//! | text that stays text | `escape` |
//!
//! Nothing is loaded from anywhere, and a content security policy forbids it: whatever a service sent, no script runs but
//! ours. Without scripts the page shows all it has; ours adds the filter, keys and copying.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Output, State, UndefinedBehavior, Value, context, escape_formatter};
use once_cell::sync::Lazy;
use sha2::{Digest as _, Sha256};

mod escape;
mod exchange;
mod view;
mod waterfall;
mod words;

pub(crate) use exchange::exchange;

use super::Run;
use escape::Anywhere;

/// All exchanges together may take this many bytes of the page; the others are only in the evidence files.
const BUDGET: usize = 4 << 20;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The templates, parsed once.
static TEMPLATES: Lazy<Result<Environment<'static>, String>> = Lazy::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::Html);
    env.set_formatter(formatted);
    env.add_filter("took", words::took);
    env.add_filter("bytes", words::bytes);
    env.add_filter("when", |iso: &str| words::when(iso));
    env.add_filter("hash", |text: &str| STANDARD.encode(Sha256::digest(text)));
    env.add_filter("check", |id: u16| format!("{id:03}"));
    env.add_template("check.html", include_str!("check.html")).map_err(|error| told(&error))?;
    env.add_template("page.html", include_str!("page.html")).map_err(|error| told(&error))?;
    Ok(env)
});

/// Text is escaped as everywhere on the page; none is nothing.
fn formatted(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if !value.is_safe() => write!(out, "{}", Anywhere(text)).map_err(Into::into),
        None if value.is_none() => Ok(()),
        _ => escape_formatter(out, state, value),
    }
}

/// The page.
///
/// # Errors
/// A defect of the template.
pub fn file(run: &Run) -> Result<String, String> {
    let env = TEMPLATES.as_ref().map_err(Clone::clone)?;
    let chosen = super::digest::within(&run.checks, |digest| &digest.html, BUDGET);
    let refs = Arc::new(view::Refs::of(&run.checks, &chosen));
    let checks = view::checks(run, &chosen, &refs);
    let page = context! {
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        about => Serde(&run.about),
        since => Serde(&run.since),
        troubles => Serde(&run.ledger.troubles),
        run => view::run(run),
        causes => view::causes(run, &refs),
        areas => view::areas(run),
        strips => view::strips(run),
        checks => checks,
    };
    env.get_template("page.html").and_then(|template| template.render(page)).map_err(|error| told(&error))
}

/// An error of the template, with what lies below it.
fn told(error: &minijinja::Error) -> String {
    let below = std::iter::successors(std::error::Error::source(error), |error| error.source());
    below.fold(error.to_string(), |all, error| format!("{all}: {error}"))
}
