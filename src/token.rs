//! Making tokens: good ones with every claim of the contract (section 1), and bad ones by hand.
//!
//! `jsonwebtoken` signs what is sound; it rightly refuses to make `alg: none` or a token signed with the wrong algorithm, so
//! those are put together from their parts.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

use crate::secret::Secret;
use crate::time::now_seconds;

/// Life of an access token, in seconds (contract, section 1).
pub const ACCESS_LIFE_S: i64 = 30 * 60;
/// The issuer that the contract demands.
pub const ISSUER: &str = "netra-auth-service";
/// The audience that the suite puts into its tokens.
pub const AUDIENCE: &str = "netra-platform";

/// What a target's tokens carry in place of the contract's claims: the setting `mint`. An empty text leaves a claim out; `alg` is
/// the algorithm of the signature.
pub type Mint = BTreeMap<String, Value>;

/// The claims of a token, open to any change.
#[derive(Clone, Debug)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// All claims of an access token that is valid now, with a fresh `jti`.
    #[must_use]
    pub fn access(user_id: &str, email: &str) -> Self {
        Self::of_type("access", user_id, email, ACCESS_LIFE_S)
    }

    /// All claims of a refresh token that is valid now, with a fresh `jti`.
    #[must_use]
    pub fn refresh(user_id: &str, email: &str) -> Self {
        Self::of_type("refresh", user_id, email, 24 * 3600)
    }

    fn of_type(token_type: &str, user_id: &str, email: &str, life_s: i64) -> Self {
        let now = now_seconds();
        let Value::Object(claims) = json!({
            "sub": user_id,
            "iat": now,
            "exp": now + life_s,
            "token_type": token_type,
            "type": token_type,
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": uuid::Uuid::new_v4().to_string(),
            "env": "staging",
            "email": email,
            "permissions": ["read", "write"],
        }) else {
            unreachable!("the literal above is an object")
        };
        Self(claims)
    }

    /// The same claims with one changed.
    #[must_use]
    pub fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.0.insert(claim.to_owned(), value.into());
        self
    }

    /// The same claims without one.
    #[must_use]
    pub fn without(mut self, claim: &str) -> Self {
        self.0.remove(claim);
        self
    }

    /// The same claims as a target's `mint` wants them. What makes a refresh token one stays.
    #[must_use]
    pub fn as_minted(mut self, mint: &Mint) -> Self {
        let refresh = self.0.get("token_type").is_some_and(|kind| kind == "refresh");
        for (claim, value) in mint {
            match value.as_str() {
                _ if claim == "alg" || (refresh && ["token_type", "type", "exp"].contains(&claim.as_str())) => {}
                Some("") => drop(self.0.remove(claim)),
                _ => drop(self.0.insert(claim.clone(), value.clone())),
            }
        }
        self
    }

    /// Signs them with the algorithm of a target's `mint`, HS256 if it names none.
    #[must_use]
    pub fn sign_minted(&self, mint: &Mint, secret: &Secret) -> String {
        let algorithm = match mint.get("alg").and_then(Value::as_str) {
            Some("HS384") => Algorithm::HS384,
            Some("HS512") => Algorithm::HS512,
            _ => Algorithm::HS256,
        };
        self.sign_as(algorithm, secret)
    }

    /// Signs them as the contract wants it: HS256.
    ///
    /// # Panics
    /// Never for a secret: HS256 takes any key.
    #[must_use]
    pub fn sign(&self, secret: &Secret) -> String {
        self.sign_as(Algorithm::HS256, secret)
    }

    /// Signs them with another HMAC.
    ///
    /// # Panics
    /// For an algorithm that is no HMAC.
    #[must_use]
    pub fn sign_as(&self, algorithm: Algorithm, secret: &Secret) -> String {
        let key = EncodingKey::from_secret(secret.expose().as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &self.0, &key).expect("an HMAC key signs any claims")
    }
}

/// Three parts of a compact token (RFC 7515 §3.1), each still encoded.
fn parts(token: &str) -> [&str; 3] {
    let mut parts = token.splitn(3, '.');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// The claims of a token, without looking at its signature.
#[must_use]
pub fn decode(token: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts(token)[1]).ok()?).ok()
}

/// A token that must be refused.
#[derive(Clone, Debug)]
pub struct BadToken {
    /// What is wrong with it, as in `expired token`.
    pub kind: &'static str,
    /// The token itself; it may be empty.
    pub token: String,
    /// The `error_code` that the socket must answer with (contract, section 2.2).
    pub code: &'static str,
}

/// Every bad token of check 002, each made fresh and each differing from a good one of this target in just one thing.
#[must_use]
pub fn bad_tokens(user_id: &str, email: &str, mint: &Mint, secret: &Secret) -> Vec<BadToken> {
    const FORMAT: &str = "INVALID_FORMAT";
    const INVALID: &str = "VALIDATION_FAILED";
    let now = now_seconds();
    let good = || Claims::access(user_id, email).as_minted(mint);
    let signed = || good().sign(secret);
    let bad = |kind, token, code| BadToken { kind, token, code };
    let mut all = vec![
        bad("malformed, 2 parts", signed().rsplit_once('.').map(|(two, _)| two.to_owned()).unwrap_or_default(), FORMAT),
        bad("malformed, 4 parts", format!("{}.extra", signed()), FORMAT),
        bad("malformed, not base64", "!!!.???.***".to_owned(), INVALID),
        bad("signed with another secret", good().sign(&Secret::new(uuid::Uuid::new_v4().to_string())), INVALID),
        bad("with a changed payload", changed_payload(&signed()), INVALID),
        bad("with a stripped signature", stripped_signature(&signed()), FORMAT),
        bad("expired", good().with("iat", now - 3600).with("exp", now - 1800).sign(secret), INVALID),
        bad("expired one second ago", good().with("iat", now - 60).with("exp", now - 1).sign(secret), INVALID),
        bad("issued in the future", good().with("iat", now + 3600).with("exp", now + 7200).sign(secret), INVALID),
        bad("older than 24 hours", good().with("iat", now - 25 * 3600).sign(secret), INVALID),
    ];
    for claim in ["exp", "sub", "jti", "token_type"] {
        let kind = match claim {
            "exp" => "without exp",
            "sub" => "without sub",
            "jti" => "without jti",
            _ => "without token_type",
        };
        all.push(bad(kind, good().without(claim).sign(secret), INVALID));
    }
    let payload = serde_json::to_value(good().0).unwrap_or_default();
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({"alg": alg, "typ": "JWT"})), encode(&payload));
    // Without a signature it is also malformed (INVALID_FORMAT); with any third part only the algorithm is wrong. Both are tried.
    let any_signature = |alg: &str| format!("{}{}", unsigned(alg), URL_SAFE_NO_PAD.encode("none"));
    all.extend([
        bad("from another issuer", good().with("iss", "somebody-else").sign(secret), INVALID),
        bad("for another audience", good().with("aud", "another-platform").sign(secret), INVALID),
        bad("of type refresh", Claims::refresh(user_id, email).sign(secret), INVALID),
        bad("with alg none", any_signature("none"), INVALID),
        bad("with alg None", any_signature("None"), INVALID),
        bad("with alg noNE", any_signature("noNE"), INVALID),
        bad("with alg none, unsigned", unsigned("none"), FORMAT),
        bad("with alg None, unsigned", unsigned("None"), FORMAT),
        bad("with alg noNE, unsigned", unsigned("noNE"), FORMAT),
        bad("with alg HS512", good().sign_as(Algorithm::HS512, secret), INVALID),
        bad("with an RS256 header over an HMAC", other_header(&signed(), "RS256", secret), INVALID),
        bad("in JSON serialization", json_serialization(&signed()), FORMAT),
        bad("of 16 KiB", good().with("padding", "x".repeat(16 * 1024)).with("aud", "another-platform").sign(secret), INVALID),
    ]);
    all
}

/// Another subject under the old signature.
fn changed_payload(token: &str) -> String {
    let [header, payload, signature] = parts(token);
    let mut claims = decode(&format!("{header}.{payload}.")).unwrap_or_default();
    claims["sub"] = json!("somebody-else");
    format!("{header}.{}.{signature}", encode(&claims))
}

/// Header and payload stay, the third part is empty.
fn stripped_signature(token: &str) -> String {
    let [header, payload, _] = parts(token);
    format!("{header}.{payload}.")
}

/// A header that claims another algorithm, signed with HS256 over exactly these parts: algorithm confusion (RFC 8725 §3.1).
fn other_header(token: &str, alg: &str, secret: &Secret) -> String {
    let message = format!("{}.{}", encode(&json!({"alg": alg, "typ": "JWT"})), parts(token)[1]);
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("an HMAC key signs any text");
    format!("{message}.{signature}")
}

/// Flattened JSON serialization (RFC 7515 §7.2.2), on one line so that a header can carry it.
fn json_serialization(token: &str) -> String {
    let [header, payload, signature] = parts(token);
    json!({"protected": header, "payload": payload, "signature": signature}).to_string()
}
