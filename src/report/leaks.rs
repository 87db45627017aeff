//! The search for secrets in every file of a run, before it is left there.
//!
//! Redaction happens at capture; this proves it in every run. A file with a secret in it is not written, whatever stood there
//! before is removed, and the error names the field. So that the search itself is known to work, a canary goes with the secrets:
//! it is part of the names of test users, so it crosses the wire in both directions, in every form that redaction must catch.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::evidence::beside;
use crate::secret::{Leak, find_secret};

/// Why a file was not written.
#[derive(Debug)]
pub enum NotWritten {
    /// The file system, with the path.
    Io(PathBuf, io::Error),
    /// A secret would have been left in it.
    Secret {
        /// The file.
        path: PathBuf,
        /// What was found: `a known secret`, `a token`, `the canary`.
        what: &'static str,
        /// The field (a JSON pointer, RFC 6901) or the line.
        field: String,
    },
}

impl NotWritten {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Io(..) => {
                "free some space or make the folder writable, or set CRITICAL_OUT_DIR: a check without evidence is no pass"
            }
            Self::Secret { .. } => {
                "treat what stood there as known to others if an earlier file of this run was passed on; the place that writes this \
                 field must redact it: a defect of the suite"
            }
        }
    }
}

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{} cannot be written: {error}", path.display()),
            Self::Secret { path, what, field } => {
                write!(f, "{} was removed: {what} stood in {field}", path.display())
            }
        }
    }
}

/// Writes a file whole: beside the place, then renamed, so that a reader sees the old file or the new one, never half of
/// either; and not at all if there is a secret in it.
///
/// # Errors
/// What the file system says, or where a secret is.
pub fn write(path: &Path, text: &[u8]) -> Result<(), NotWritten> {
    if let Some((what, field)) = search(text) {
        let _ = fs::remove_file(path);
        return Err(NotWritten::Secret { path: path.to_path_buf(), what, field });
    }
    let beside = beside(path);
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(|error| NotWritten::Io(path.to_path_buf(), error))
}

/// Where a secret is in a text, if there is one: what it is, and the field or the line.
#[must_use]
pub fn search(text: &[u8]) -> Option<(&'static str, String)> {
    let text = String::from_utf8_lossy(text);
    let Leak { what, at } = find_secret(&text)?;
    let field = serde_json::from_str::<Value>(&text).ok().and_then(|value| pointer(&value));
    Some((what, field.unwrap_or_else(|| format!("line {}", text[..at].matches('\n').count() + 1))))
}

/// The pointer of the first string, or name of a member, that holds a secret.
fn pointer(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => find_secret(text).map(|_| String::new()),
        Value::Array(items) => items.iter().enumerate().find_map(|(at, item)| Some(format!("/{at}{}", pointer(item)?))),
        Value::Object(members) => members.iter().find_map(|(name, item)| {
            if find_secret(name).is_some() {
                return Some("the name of a member".to_owned());
            }
            Some(format!("/{}{}", name.replace('~', "~0").replace('/', "~1"), pointer(item)?))
        }),
        _ => None,
    }
}
