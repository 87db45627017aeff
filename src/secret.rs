//! Secrets, and how they are kept out of everything that is written.
//!
//! Redaction happens *at capture*: whatever crosses the wire passes [`redact`] before it becomes evidence, so no later
//! reader (printer, report, log) can forget it. Values are known by [`remember`]; tokens are also known by their shape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use once_cell::sync::Lazy;
use sha2::{Digest as _, Sha256};

/// A value that must never be shown: its `Debug` says only that it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret and makes [`redact`] know it.
    #[must_use]
    pub fn new(value: String) -> Self {
        remember(&value);
        Self(value)
    }

    /// The value itself, for signing or for a header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret: set>")
    }
}

/// Shorter values are not replaced: they would blank out ordinary words.
const SHORTEST_SECRET: usize = 6;

/// What a value looks like inside a longer text in base64, where `shift` bytes stand before it: only the characters that it
/// alone decides.
fn inside_base64(value: &str, shift: usize, alphabet: &GeneralPurpose) -> String {
    let encoded = alphabet.encode([&b"\0\0"[..shift], value.as_bytes()].concat());
    let start = (shift * 8).div_ceil(6);
    let end = (shift + value.len()) * 8 / 6;
    encoded[start..end].to_owned()
}

#[derive(Default)]
struct Known {
    /// Every form in which a secret may appear.
    forms: BTreeSet<String>,
    /// Tokens, which are redacted by their shape, by the fingerprint that stands in their place.
    tokens: BTreeMap<String, String>,
    /// Finds any of the forms; none while it must be made anew.
    finder: Option<AhoCorasick>,
}

static KNOWN: Lazy<Mutex<Known>> = Lazy::new(Mutex::default);

/// Makes a value known, so that [`redact`] replaces it, also in base64, base64url and percent-encoded form.
pub fn remember(value: &str) {
    if value.len() < SHORTEST_SECRET {
        return;
    }
    let base64url = URL_SAFE_NO_PAD.encode(value);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if value.starts_with(TOKEN_STARTS[0]) {
        known.tokens.extend([value, &base64url].map(|form| (fingerprint(form), value.to_owned())));
        return;
    }
    let percent: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
    let base64 = STANDARD.encode(value).trim_end_matches('=').to_owned();
    // In a JSON text, quotes and line ends of a secret are escaped.
    let json = serde_json::Value::from(value).to_string().trim_matches('"').to_owned();
    known.forms.extend([value.to_owned(), percent, json]);
    for shift in 0..3 {
        known.forms.extend([&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|alphabet| inside_base64(value, shift, alphabet)));
    }
    known.forms.extend([base64, base64url]);
    known.finder = None;
}

/// A throw-away secret that goes with the real ones, to see that none is left anywhere.
#[must_use]
pub fn canary() -> &'static str {
    static CANARY: Lazy<String> = Lazy::new(|| {
        let canary = format!("canary-{}", uuid::Uuid::new_v4().simple());
        remember(&canary);
        canary
    });
    &CANARY
}

/// A secret in a text, where none may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// What was found.
    pub what: &'static str,
    /// Where it begins, in bytes.
    pub at: usize,
}

/// Finds a known secret in any of its forms, or anything that has the shape of a JWT.
#[must_use]
pub fn find_secret(text: &str) -> Option<Leak> {
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.finder.is_none() {
        known.finder = AhoCorasick::new(&known.forms).ok();
    }
    // Without a finder nothing could be found, so everything would look clean.
    let Some(finder) = &known.finder else {
        return Some(Leak { what: "the search for secrets cannot be made, so perhaps one", at: 0 });
    };
    let secret = finder.find(text).map(|found| Leak { what: "a known secret", at: found.start() });
    secret.or_else(|| token_in(text).map(|(start, _)| Leak { what: "a token", at: start }))
}

/// The known token behind the `<jwt:…>` in a redacted text, for an experiment with the very token that was refused.
#[must_use]
pub fn recall(redacted: &str) -> Option<Secret> {
    let wanted = redacted.split("<jwt:").nth(1)?.get(..8)?;
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner).tokens.get(wanted).cloned().map(Secret)
}

/// The text without any known secret and without anything that has the shape of a JWT.
///
/// A token becomes `<jwt:1a2b3c4d>`, eight hexadecimal digits of its SHA-256, so that one token can be followed through the
/// evidence without being usable.
#[must_use]
pub fn redact(text: &str) -> String {
    let mut out = redact_tokens(text);
    for secret in KNOWN.lock().unwrap_or_else(PoisonError::into_inner).forms.iter().rev() {
        if out.contains(secret.as_str()) {
            out = out.replace(secret.as_str(), "<secret>");
        }
    }
    out
}

/// `eyJ` opens every JWT (`{"` in base64url); `ZXlK` is the same once more encoded, as in the `jwt.<…>` subprotocol.
const TOKEN_STARTS: [&str; 2] = ["eyJ", "ZXlK"];

/// Shorter ones are words that only begin like a token.
const SHORTEST_TOKEN: usize = 20;

/// Start and end of the first thing that has the shape of a token.
fn token_in(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(start) = TOKEN_STARTS.iter().filter_map(|start| text[from..].find(start)).min() {
        let start = from + start;
        let rest = &text[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.=".contains(c))).unwrap_or(rest.len());
        if end >= SHORTEST_TOKEN {
            return Some((start, start + end));
        }
        from = start + end;
    }
    None
}

fn redact_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((start, end)) = token_in(rest) {
        out.push_str(&rest[..start]);
        let _ = write!(out, "<jwt:{}>", fingerprint(&rest[start..end]));
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// The first eight hexadecimal digits of a SHA-256.
#[must_use]
pub fn fingerprint(value: &str) -> String {
    hex(&Sha256::digest(value.as_bytes())[..4])
}

/// Bytes as lowercase hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_secret_is_replaced_in_every_encoding() {
        let secret = Secret::new("p@ss/word+1234".to_owned());
        let text = format!(
            "plain p@ss/word+1234, b64 {}, url {}, percent p%40ss%2Fword%2B1234",
            STANDARD.encode(secret.expose()),
            URL_SAFE_NO_PAD.encode(secret.expose())
        );
        let shown = redact(&text);
        assert!(shown.starts_with("plain <secret>, b64 <secret>"), "{shown}");
        assert!(shown.ends_with("percent <secret>"), "{shown}");
        assert_eq!(format!("{secret:?}"), "<secret: set>");
    }

    #[test]
    fn a_token_is_replaced_by_its_fingerprint_and_text_around_it_stays() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl";
        let shown = redact(&format!("Authorization: Bearer {token}, next"));
        assert_eq!(shown, format!("Authorization: Bearer <jwt:{}>, next", fingerprint(token)));
        assert_eq!(redact("eyJ is a prefix, no token"), "eyJ is a prefix, no token");
        assert_eq!(recall(&shown), None);
        let token = Secret::new(token.to_owned());
        assert_eq!(recall(&shown), Some(token.clone()));
        let encoded = redact(&format!("jwt-auth, jwt.{}", URL_SAFE_NO_PAD.encode(token.expose())));
        assert_eq!(recall(&encoded), Some(token), "{encoded}");
    }
}
