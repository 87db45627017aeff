//! A token against the contract, section 1, claim by claim, and against one that the auth service made.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::exchange::cut;
use crate::secret::{Secret, redact};
use crate::token::{ACCESS_LIFE_S, AUDIENCE, ISSUER};

/// Audiences of the contract.
const AUDIENCES: [&str; 4] = ["netra-platform", "netra-services", "netra-backend", "netra-admin"];
/// Whatever `exp` says, an older token is refused.
const OLDEST_S: i64 = 24 * 3600;
/// Over this, a time is no number of seconds but of milliseconds: seconds get there in the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The claim; `alg` for the algorithm in the header.
    pub claim: String,
    /// What the token has.
    pub ours: String,
    /// What the contract requires.
    pub required: String,
    /// What a token of the auth service has, where there is one.
    pub issued: Option<String>,
    /// True where the token differs from the contract.
    pub differs: bool,
}

/// Header and payload of a token, unverified.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoded {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
}

impl Decoded {
    /// None for what is no token at all.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let mut object = || match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()? {
            Value::Object(object) => Some(object),
            _ => None,
        };
        Some(Self { header: object()?, claims: object()? })
    }

    pub(crate) fn algorithm(&self) -> &str {
        self.header.get("alg").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn number(&self, claim: &str) -> Option<i64> {
        self.claims.get(claim).and_then(Value::as_i64)
    }

    /// True if its times are milliseconds.
    pub(crate) fn in_milliseconds(&self) -> bool {
        ["iat", "exp"].iter().filter_map(|claim| self.number(claim)).any(|at| at >= MILLISECONDS_FROM)
    }

    /// True if the claim is as the contract wants it; `now` in whole seconds.
    fn sound(&self, claim: &str, now: i64) -> bool {
        let value = self.claims.get(claim);
        match claim {
            "alg" => self.algorithm() == "HS256",
            "sub" => value.and_then(Value::as_str).is_some_and(|sub| !sub.is_empty()),
            "iat" => self.number("iat").is_some_and(|at| at <= now && now - at <= OLDEST_S),
            "exp" => self.number("exp").is_some_and(|at| at > now && at < MILLISECONDS_FROM),
            "token_type" => value.is_some_and(|kind| kind == "access"),
            "iss" => value.is_some_and(|issuer| issuer == ISSUER),
            "aud" => {
                let known = |aud: &Value| aud.as_str().is_some_and(|aud| AUDIENCES.contains(&aud));
                value.is_none_or(|aud| known(aud) || aud.as_array().is_some_and(|all| all.iter().any(known)))
            }
            "jti" => value.and_then(Value::as_str).is_some_and(is_uuid_v4),
            _ => true,
        }
    }

    fn shown(&self, claim: &str) -> String {
        let value = if claim == "alg" { self.header.get("alg") } else { self.claims.get(claim) };
        value.map_or_else(|| "absent".to_owned(), |value| redact(&cut(&value.to_string(), 60)))
    }
}

/// True for a UUID of version 4 (RFC 9562 §5.4) in its usual form.
pub(crate) fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::parse_str(text).is_ok_and(|id| id.get_version_num() == 4)
}

/// What the contract requires, and the value that repairs a claim which differs. Times are those of one moment.
pub(crate) fn required(now: i64) -> [(&'static str, &'static str, Value); 8] {
    [
        ("alg", "HS256", json!("HS256")),
        ("token_type", "\"access\"", json!("access")),
        ("iss", "\"netra-auth-service\", exactly", json!(ISSUER)),
        ("aud", "absent, or netra-platform, -services, -backend, -admin", json!(AUDIENCE)),
        ("jti", "a UUID v4", json!(uuid::Uuid::new_v4().to_string())),
        ("sub", "the user's id", json!("critical-diagnosis")),
        ("iat", "whole seconds, not in the future, at most 24 h ago", json!(now)),
        ("exp", "whole seconds, in the future", json!(now + ACCESS_LIFE_S)),
    ]
}

/// The table: our token, the contract, and a token of the auth service.
pub(crate) fn table(ours: &Decoded, issued: Option<&Decoded>, now: i64) -> Vec<ClaimRow> {
    required(now)
        .into_iter()
        .map(|(claim, required, _)| ClaimRow {
            claim: claim.to_owned(),
            ours: ours.shown(claim),
            required: required.to_owned(),
            issued: issued.map(|issued| issued.shown(claim)),
            differs: !ours.sound(claim, now),
        })
        .collect()
}

/// A form of the signing secret that may be the true one.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    pub(crate) name: &'static str,
    pub(crate) key: Vec<u8>,
}

/// The secret as it is given, and what it becomes by the mistakes that are made with secrets.
pub(crate) fn forms(secret: &Secret) -> Vec<Form> {
    let given = secret.expose();
    let trimmed = given.trim();
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let decoded = engines.iter().find_map(|engine| engine.decode(trimmed).ok()).filter(|bytes| bytes.len() >= 6);
    let mut all = vec![Form { name: "as given", key: given.as_bytes().to_vec() }];
    if trimmed != given {
        all.push(Form { name: "without the white space around it", key: trimmed.as_bytes().to_vec() });
    }
    if let Some(bytes) = decoded {
        all.push(Form { name: "base64-decoded", key: bytes });
    }
    all.push(Form { name: "base64-encoded", key: STANDARD.encode(trimmed).into_bytes() });
    for form in &all {
        crate::secret::remember(&String::from_utf8_lossy(&form.key));
    }
    all
}

/// True if this key made the signature of this token.
pub(crate) fn made_by(token: &str, key: &[u8]) -> bool {
    let algorithm = match Decoded::of(token).as_ref().map(Decoded::algorithm) {
        Some("HS256") => Algorithm::HS256,
        Some("HS384") => Algorithm::HS384,
        Some("HS512") => Algorithm::HS512,
        _ => return false,
    };
    let Some((message, signature)) = token.rsplit_once('.') else { return false };
    jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key), algorithm).is_ok_and(|made| made == signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now_seconds;
    use crate::token::Claims;

    fn differing(claims: &Claims) -> Vec<String> {
        let token = claims.sign(&Secret::new("throw-away".to_owned()));
        let decoded = Decoded::of(&token).expect("a token");
        table(&decoded, None, now_seconds()).into_iter().filter(|row| row.differs).map(|row| row.claim).collect()
    }

    #[test]
    fn a_sound_token_differs_in_nothing_and_each_damage_in_its_own_line() {
        let good = || Claims::access("u", "u@example.test");
        assert_eq!(differing(&good()), Vec::<String>::new());
        assert_eq!(differing(&good().without("aud")), Vec::<String>::new());
        for claim in ["token_type", "iss", "jti", "sub", "iat", "exp"] {
            assert_eq!(differing(&good().without(claim)), [claim]);
        }
        assert_eq!(differing(&good().with("aud", "another")), ["aud"]);
        assert_eq!(differing(&good().with("jti", "one")), ["jti"]);
        let ms = now_seconds() * 1000;
        assert_eq!(differing(&good().with("iat", ms).with("exp", ms + 1_800_000)), ["iat", "exp"]);
        assert_eq!(Decoded::of("no token").map(|it| it.claims.len()), None);
    }

    #[test]
    fn the_form_of_the_secret_that_made_a_signature_is_found() {
        let token = Claims::access("u", "").sign(&Secret::new("throw-away-secret".to_owned()));
        let found = |given: &str| {
            let forms = forms(&Secret::new(given.to_owned()));
            forms.into_iter().find(|form| made_by(&token, &form.key)).map(|form| form.name)
        };
        assert_eq!(found("throw-away-secret"), Some("as given"));
        assert_eq!(found("throw-away-secret\n"), Some("without the white space around it"));
        assert_eq!(found(&STANDARD.encode("throw-away-secret")), Some("base64-decoded"));
        assert_eq!(found("another-secret"), None);
        let encoded = Claims::access("u", "").sign(&Secret::new(STANDARD.encode("throw-away-secret")));
        let forms = forms(&Secret::new("throw-away-secret".to_owned()));
        assert_eq!(forms.into_iter().find(|form| made_by(&encoded, &form.key)).map(|form| form.name), Some("base64-encoded"));
    }
}
