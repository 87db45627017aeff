//! Secrets that a service gives away: keys, tokens and passwords in an answer that should have none.
//!
//! Some are known by their shape wherever they stand, others by the name that they stand under. What is found is named by its
//! place and never shown.

use std::fmt;

use serde_json::Value;

use crate::secret::Secret;

/// A value that looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Where it stands: a JSON pointer, empty for a body that is no JSON.
    pub at: String,
    /// What it looks like.
    pub looks_like: &'static str,
    /// The text that it was found in, kept from every output.
    pub text: Secret,
}

impl Leak {
    fn new(at: &str, looks_like: &'static str, text: &str) -> Self {
        Self { at: at.to_owned(), looks_like, text: Secret::new(text.to_owned()) }
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.looks_like, self.at)
    }
}

/// Every value of a body that looks like a secret.
#[must_use]
pub fn leaks(body: &str) -> Vec<Leak> {
    let mut found = Vec::new();
    match serde_json::from_str(body) {
        Ok(value) => walk(&value, "", "", &mut found),
        Err(_) => found.extend(secret_in("", body).map(|looks_like| Leak::new("", looks_like, body))),
    }
    found
}

/// The items of a list stand under the name of the list.
fn walk(value: &Value, at: &str, name: &str, found: &mut Vec<Leak>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| walk(inner, &format!("{at}/{name}"), name, found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, inner)| walk(inner, &format!("{at}/{i}"), name, found)),
        Value::String(text) => found.extend(secret_in(name, text).map(|looks_like| Leak::new(at, looks_like, text))),
        _ => {}
    }
}

fn secret_in(name: &str, text: &str) -> Option<&'static str> {
    let rules = [
        (has_private_key(text), "a private key"),
        (has_jwt(text), "a JWT"),
        (has_issued_key(text), "an API key"),
        (has_password_in_url(text), "a URL with a password"),
        (has_credential(text), "the value of an Authorization header"),
        (has_assignment(text), "a secret given to a variable or parameter"),
        (is_secret_name(name) && !is_placeholder(text), "a literal value under the name of a secret"),
    ];
    rules.into_iter().find_map(|(found, looks_like)| found.then_some(looks_like))
}

/// `-----BEGIN RSA PRIVATE KEY-----` and its relatives (RFC 7468).
fn has_private_key(text: &str) -> bool {
    text.match_indices("-----BEGIN ").any(|(at, _)| text[at..].lines().next().is_some_and(|line| line.contains("PRIVATE KEY-----")))
}

/// Three parts of which the first two are JSON objects in base64url: `{"` is `eyJ` there.
fn has_jwt(text: &str) -> bool {
    words(text, "-_.").any(|word| {
        let parts: Vec<_> = word.split('.').collect();
        matches!(parts[..], [head, claims, _] if head.starts_with("eyJ") && claims.starts_with("eyJ"))
    })
}

/// Keys whose issuers mark them, so that they are found.
fn has_issued_key(text: &str) -> bool {
    const MARKS: [&str; 12] =
        ["sk-", "sk_live_", "rk_live_", "AKIA", "ASIA", "AIza", "ghp_", "gho_", "github_pat_", "xoxb-", "xoxp-", "GOCSPX-"];
    const SHORTEST_REST: usize = 12;
    words(text, "-_").any(|word| MARKS.iter().any(|mark| word.strip_prefix(mark).is_some_and(|rest| rest.len() >= SHORTEST_REST)))
}

/// `scheme://user:password@host`, as in the DSN of a database.
fn has_password_in_url(text: &str) -> bool {
    text.match_indices("://").any(|(at, separator)| {
        let rest = &text[at + separator.len()..];
        let authority = rest.split(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user).unwrap_or_default();
        user.split_once(':').is_some_and(|(_, password)| !is_placeholder(password))
    })
}

/// `Bearer` or `Basic` and what is too long to be a word of explanation.
fn has_credential(text: &str) -> bool {
    const SHORTEST: usize = 16;
    ["Bearer ", "Basic "].into_iter().any(|scheme| {
        text.split(scheme).skip(1).any(|rest| {
            let value = rest.split_whitespace().next().unwrap_or_default();
            value.len() >= SHORTEST && !is_placeholder(value)
        })
    })
}

/// `JWT_SECRET=…` in a command or an environment, `?api_key=…` in a URL, `Password=…;` in a connection string.
fn has_assignment(text: &str) -> bool {
    let pairs = text.split(|c: char| c.is_whitespace() || "?&;,\"'".contains(c)).filter_map(|word| word.split_once('='));
    pairs.into_iter().any(|(name, value)| is_secret_name(name) && !is_placeholder(value))
}

/// A name that promises a secret, and not something about one, as `token_type` does.
fn is_secret_name(name: &str) -> bool {
    const SECRETS: [&str; 10] =
        ["secret", "password", "passwd", "passphrase", "token", "apikey", "privatekey", "accesskey", "signingkey", "encryptionkey"];
    const ABOUT: [&str; 20] = [
        "type",
        "name",
        "id",
        "url",
        "uri",
        "endpoint",
        "path",
        "limit",
        "count",
        "length",
        "ttl",
        "expiry",
        "header",
        "method",
        "policy",
        "algorithm",
        "source",
        "provider",
        "manager",
        "required",
    ];
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret)) && !ABOUT.iter().any(|about| name.ends_with(about))
}

/// What stands where a secret goes: nothing, `${NAME}`, `{{name}}`, `<name>`, or stars.
fn is_placeholder(value: &str) -> bool {
    let value = value.trim();
    let framed = |(open, close): (&str, &str)| {
        let inner = value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inner.is_some_and(|inner| !inner.contains(close))
    };
    value.chars().all(|c| c == '*') || [("${", "}"), ("{{", "}}"), ("<", ">")].into_iter().any(framed)
}

fn words<'a>(text: &'a str, joined_by: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !(c.is_ascii_alphanumeric() || joined_by.contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        leaks(body).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_shape_is_found_in_text_under_any_name() {
        for (text, looks_like) in [
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "a private key"),
            ("-----BEGIN PRIVATE KEY-----\nMIIE", "a private key"),
            ("use eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl here", "a JWT"),
            ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "a JWT"),
            ("sk-proj-abcdefghijklmnop", "an API key"),
            ("key AKIAIOSFODNN7EXAMPLE.", "an API key"),
            ("AIzaSyA-1234567890abcdef", "an API key"),
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "an API key"),
            ("GOCSPX-1234567890abcdef", "an API key"),
            ("postgresql+asyncpg://netra:hunter2@10.0.0.5:5432/netra", "a URL with a password"),
            ("redis://:hunter2@cache/0", "a URL with a password"),
            ("Authorization: Bearer 0123456789abcdef", "the value of an Authorization header"),
            ("--jwt-secret=hunter2", "a secret given to a variable or parameter"),
            ("wss://host/ws?x=1&api_key=hunter2", "a secret given to a variable or parameter"),
            ("Server=db;Password=hunter2;", "a secret given to a variable or parameter"),
        ] {
            assert_eq!(secret_in("note", text), Some(looks_like), "{text}");
            assert_eq!(leaks(text), [Leak::new("", looks_like, text)], "{text}");
        }
    }

    #[test]
    fn a_literal_under_the_name_of_a_secret_is_found_with_its_place() {
        let under = "a literal value under the name of a secret";
        assert_eq!(found(r#"{"a":[{"JWT_SECRET_STAGING":"x"}]}"#), [format!(r#"{under} at "/a/0/JWT_SECRET_STAGING""#)]);
        assert_eq!(found(r#"{"apiKeys":["${A}","hunter2"]}"#), [format!(r#"{under} at "/apiKeys/1""#)]);
        for name in ["password", "db-password", "NETRA_API_KEY", "refreshToken", "signing_key", "client_secret"] {
            assert!(is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn placeholders_and_what_only_speaks_of_secrets_are_no_leaks() {
        for body in [
            r#"{"NETRA_API_KEY":"${NETRA_API_KEY}","password":"","token":"<your token>","secret":"{{ secret }}","api_key":"****"}"#,
            r#"{"token_type":"Bearer","token_url":"https://host/token","max_tokens":4096,"requires_token":true,"secret":null}"#,
            r#"{"http":{"authentication":"Bearer token or API key"},"websocket":{"authentication":"Query parameter: api_key"}}"#,
            r#"{"dsn":"postgres://user:${DB_PASSWORD}@host/db","plain":"https://host:8443/a@b","user":"ssh://git@host/x"}"#,
            r#"{"error":true,"error_code":"AUTH_UNAUTHORIZED","trace_id":"0a1b2c3d-0000-4000-8000-000000000000"}"#,
            "-----BEGIN CERTIFICATE----- and a task-oriented risk-assessment, eyJ and a.b.c",
            "run with --token ${TOKEN} or JWT_SECRET=${JWT_SECRET}",
        ] {
            assert!(leaks(body).is_empty(), "{body}: {:?}", found(body));
        }
        assert!(!is_placeholder("${A}hunter2${B}"));
    }
}
