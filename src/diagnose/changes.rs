//! What can be changed about a token, one thing at a time, and a token put together with some of it changed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};

use super::claims::{Decoded, Form, is_uuid_v4, required};
use crate::token::ACCESS_LIFE_S;

/// A `Date` header has whole seconds: a clock is called wrong from here on, in seconds.
pub(crate) const SKEW_FROM_S: f64 = 1.6;

/// One change to a token.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Name of the cause, if this change makes the difference.
    pub(crate) name: String,
    /// The change in words, as in `token_type = "access"`.
    pub(crate) says: String,
    edit: Edit,
}

#[derive(Clone, Debug)]
enum Edit {
    Nothing,
    Claim(String, Option<Value>),
    Times(i64, i64),
    Algorithm(Algorithm),
    Key(Vec<u8>),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

impl Change {
    fn new(name: &str, says: String, edit: Edit) -> Self {
        Self { name: name.to_owned(), says, edit }
    }

    /// A fresh token with every claim as before: tells a bad token from one that is only remembered as bad.
    pub(crate) fn nothing() -> Self {
        Self::new("remembered-refusal", "nothing but a fresh token".to_owned(), Edit::Nothing)
    }

    fn claim(claim: &str, value: Option<Value>) -> Self {
        let says = match (&value, claim) {
            (None, _) => format!("{claim} left out"),
            (Some(_), "jti") => "jti = a UUID v4".to_owned(),
            (Some(value), _) => format!("{claim} = {value}"),
        };
        Self::new(claim, says, Edit::Claim(claim.to_owned(), value))
    }

    fn key(form: &Form) -> Self {
        Self::new("secret-form", format!("signed with the secret {}", form.name), Edit::Key(form.key.clone()))
    }

    fn algorithm(name: &str) -> Self {
        let algorithm = match name {
            "HS384" => Algorithm::HS384,
            "HS512" => Algorithm::HS512,
            _ => Algorithm::HS256,
        };
        Self::new("algorithm", format!("signed with {name}"), Edit::Algorithm(algorithm))
    }
}

/// A token in parts.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    claims: Map<String, Value>,
    algorithm: Algorithm,
    key: Vec<u8>,
    /// How many were made: each gets an `exp` of its own where it has no `jti` that makes it new.
    made: i64,
}

impl Draft {
    pub(crate) fn new(decoded: &Decoded, key: Vec<u8>) -> Self {
        let algorithm = match decoded.algorithm() {
            "HS384" => Algorithm::HS384,
            "HS512" => Algorithm::HS512,
            _ => Algorithm::HS256,
        };
        Self { claims: decoded.claims.clone(), algorithm, key, made: 0 }
    }

    /// A fresh token with these changes.
    pub(crate) fn with(&mut self, changes: &[&Change]) -> String {
        self.made += 1;
        let (mut claims, mut algorithm, mut key) = (self.claims.clone(), self.algorithm, self.key.clone());
        if claims.get("jti").and_then(Value::as_str).is_some_and(is_uuid_v4) {
            claims.insert("jti".to_owned(), json!(uuid::Uuid::new_v4().to_string()));
        } else if let Some(exp) = claims.get("exp").and_then(Value::as_i64) {
            claims.insert("exp".to_owned(), json!(exp - self.made));
        }
        for change in changes {
            match &change.edit {
                Edit::Nothing => {}
                Edit::Claim(claim, None) => drop(claims.remove(claim)),
                Edit::Claim(claim, Some(value)) => drop(claims.insert(claim.clone(), value.clone())),
                Edit::Times(iat, exp) => {
                    claims.insert("iat".to_owned(), json!(iat));
                    claims.insert("exp".to_owned(), json!(exp));
                }
                Edit::Algorithm(other) => algorithm = *other,
                Edit::Key(other) => key.clone_from(other),
            }
        }
        sign(&claims, algorithm, &key)
    }
}

fn sign(claims: &Map<String, Value>, algorithm: Algorithm, key: &[u8]) -> String {
    let name = format!("{algorithm:?}");
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&json!({"alg": name, "typ": "JWT"})), encode(&Value::Object(claims.clone())));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), algorithm);
    format!("{message}.{}", signature.expect("an HMAC key signs any text"))
}

/// What is known about a refused token before the first change is tried.
pub(crate) struct Known<'a> {
    pub(crate) ours: &'a Decoded,
    /// A token that the auth service made, where there is one.
    pub(crate) issued: Option<&'a Decoded>,
    /// Forms of the secret other than the one that ours is signed with.
    pub(crate) forms: &'a [Form],
    /// The form that made the issued token, if that is not ours.
    pub(crate) true_form: Option<&'a Form>,
    /// How far the service's clock is ahead, in seconds.
    pub(crate) skew_s: f64,
    /// Our clock, in whole seconds.
    pub(crate) now: i64,
    /// Claims that differ from the contract.
    pub(crate) differing: &'a [String],
    /// Another user of the target.
    pub(crate) other_user: Option<String>,
}

/// Changes that something speaks for, the likeliest first: what differs from the contract, from the auth service's own token,
/// and from the service's clock.
pub(crate) fn suspects(known: &Known<'_>) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    let ours = known.ours;
    let of_issued = |claim: &str| known.issued.and_then(|issued| issued.claims.get(claim).cloned());
    for (claim, _, value) in required(known.now) {
        let differs = known.differing.iter().any(|name| name == claim);
        match claim {
            "alg" => {
                let wanted = known.issued.map_or("HS256", Decoded::algorithm);
                if ours.algorithm() != wanted && wanted.starts_with("HS") {
                    all.push(Change::algorithm(wanted));
                }
            }
            "jti" if differs => all.push(Change::claim("jti", Some(value))),
            "iat" | "exp" | "sub" | "jti" => {}
            _ => match of_issued(claim) {
                Some(theirs) if ours.claims.get(claim) != Some(&theirs) => all.push(Change::claim(claim, Some(theirs))),
                None if differs => all.push(Change::claim(claim, Some(value))),
                None if known.issued.is_some() && ours.claims.contains_key(claim) => all.push(Change::claim(claim, None)),
                _ => {}
            },
        }
    }
    if known.differing.iter().any(|claim| claim == "sub") {
        all.push(Change::claim("sub", of_issued("sub").or(Some(json!("critical-diagnosis")))));
    }
    all.extend(times(known));
    all.extend(known.true_form.map(Change::key));
    all
}

fn times(known: &Known<'_>) -> Option<Change> {
    let (iat, exp) = (known.ours.number("iat").unwrap_or(known.now), known.ours.number("exp").unwrap_or(known.now + ACCESS_LIFE_S));
    let milliseconds = known.ours.in_milliseconds();
    let theirs = known.issued.is_some_and(Decoded::in_milliseconds);
    if milliseconds && !theirs {
        return Some(Change::new("time-unit", "iat and exp in seconds".to_owned(), Edit::Times(iat / 1000, exp / 1000)));
    }
    if theirs && !milliseconds {
        return Some(in_milliseconds(iat, exp));
    }
    if known.skew_s.abs() >= SKEW_FROM_S {
        #[expect(clippy::cast_possible_truncation, reason = "a clock is not off by centuries")]
        let shift = known.skew_s.floor() as i64 - 1;
        let says = format!("iat and exp shifted by {shift} s, as the service's clock is");
        return Some(Change::new("clock", says, Edit::Times(iat + shift, exp.max(iat + ACCESS_LIFE_S) + shift)));
    }
    let differs = known.differing.iter().any(|claim| claim == "iat" || claim == "exp");
    differs.then(|| {
        Change::new("times", "iat = now, exp = in 30 minutes".to_owned(), Edit::Times(known.now, known.now + ACCESS_LIFE_S))
    })
}

fn in_milliseconds(iat: i64, exp: i64) -> Change {
    Change::new("time-unit", "iat and exp in milliseconds".to_owned(), Edit::Times(iat * 1000, exp * 1000))
}

/// Changes that nothing speaks for yet: away from the contract, and what is often done to secrets.
pub(crate) fn others(known: &Known<'_>) -> Vec<Change> {
    let mut all: Vec<Change> = known.forms.iter().map(Change::key).collect();
    let ours = known.ours;
    all.extend(known.other_user.iter().map(|user| Change { name: "user".to_owned(), ..Change::claim("sub", Some(json!(user))) }));
    if ours.claims.contains_key("aud") {
        all.push(Change::claim("aud", None));
    }
    if ours.algorithm() == "HS256" {
        all.push(Change::algorithm("HS512"));
    }
    if let (Some(iat), Some(exp), false) = (ours.number("iat"), ours.number("exp"), ours.in_milliseconds()) {
        all.push(in_milliseconds(iat, exp));
    }
    if let Some(issued) = known.issued {
        let told = ["alg", "token_type", "iss", "aud", "jti", "sub", "iat", "exp", "email"];
        let differing =
            issued.claims.iter().filter(|(name, value)| !told.contains(&name.as_str()) && ours.claims.get(*name) != Some(value));
        all.extend(differing.map(|(name, value)| Change::claim(name, Some(value.clone()))));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::claims::table;
    use crate::secret::Secret;
    use crate::time::now_seconds;
    use crate::token::Claims;

    fn suspected(ours: &Claims, issued: Option<&Claims>, skew_s: f64) -> Vec<String> {
        let secret = Secret::new("throw-away".to_owned());
        let decoded = |claims: &Claims| Decoded::of(&claims.sign(&secret)).expect("a token");
        let (ours, issued, now) = (decoded(ours), issued.map(decoded), now_seconds());
        let differing: Vec<_> =
            table(&ours, issued.as_ref(), now).into_iter().filter(|row| row.differs).map(|row| row.claim).collect();
        let known = Known {
            ours: &ours,
            issued: issued.as_ref(),
            forms: &[],
            true_form: None,
            skew_s,
            now,
            differing: &differing,
            other_user: None,
        };
        suspects(&known).into_iter().map(|change| change.says).collect()
    }

    #[test]
    fn what_differs_is_suspected_and_nothing_else() {
        let good = || Claims::access("u", "");
        assert_eq!(suspected(&good(), Some(&good()), 0.3), Vec::<String>::new());
        assert_eq!(suspected(&good().without("token_type"), None, 0.0), ["token_type = \"access\""]);
        assert_eq!(suspected(&good(), Some(&good().with("iss", "other")), 0.0), ["iss = \"other\""]);
        assert_eq!(suspected(&good(), Some(&good().without("aud")), 0.0), ["aud left out"]);
        assert_eq!(suspected(&good(), None, -600.0), ["iat and exp shifted by -601 s, as the service's clock is"]);
        let ms = now_seconds() * 1000;
        assert_eq!(suspected(&good().with("iat", ms).with("exp", ms + 1000), None, 0.0), ["iat and exp in seconds"]);
        assert_eq!(suspected(&good().without("exp"), None, 0.0), ["iat = now, exp = in 30 minutes"]);
    }

    #[test]
    fn every_draft_is_a_new_token_and_differs_in_what_is_named() {
        let token = Claims::access("u", "").without("jti").sign(&Secret::new("throw-away".to_owned()));
        let mut draft = Draft::new(&Decoded::of(&token).expect("a token"), b"throw-away".to_vec());
        let nothing = Change::nothing();
        assert_ne!(draft.with(&[&nothing]), draft.with(&[&nothing]));
        let changed = draft.with(&[&Change::claim("iss", Some(json!("x"))), &Change::algorithm("HS512")]);
        let changed = Decoded::of(&changed).expect("a token");
        assert_eq!((changed.claims["iss"].as_str(), changed.algorithm()), (Some("x"), "HS512"));
    }
}
