//! Tokens: HS256 JWTs, made and verified here and nowhere else.
//!
//! Verification is written out by hand on purpose. A stand-in that used the library the suite mints with would share its
//! opinions, and the two could agree on something the contract forbids.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::HeaderMap;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use uuid::Uuid;

use crate::{clock, lies::Lies};

const ISSUER: &str = "netra-auth-service";
const AUDIENCE: &str = "netra-platform";
const AUDIENCES: [&str; 4] = ["netra-platform", "netra-services", "netra-backend", "netra-admin"];
/// Whatever `exp` says, an older token is refused.
const MAX_AGE_S: i64 = 24 * 60 * 60;

/// What a token is for: the claim `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Access,
    Refresh,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    pub(crate) fn lifetime_s(self) -> i64 {
        match self {
            Self::Access => 30 * 60,
            Self::Refresh => 24 * 60 * 60,
        }
    }
}

/// Who a token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) sub: String,
    pub(crate) email: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) jti: String,
    pub(crate) exp: i64,
}

/// Why a token is refused. Clients are told no more than that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Malformed,
    Algorithm,
    Signature,
    Expired,
    NotYetIssued,
    TooOld,
    Claim(&'static str),
    Revoked,
}

/// Makes and verifies tokens with one secret.
pub(crate) struct Tokens {
    mac: Hmac<Sha256>,
    environment: String,
    /// A copy of what the store knows, so that not every request asks it.
    revoked: Mutex<HashSet<String>>,
    lies: Arc<Lies>,
}

impl Tokens {
    pub(crate) fn new(secret: &str, environment: &str, revoked: HashSet<String>, lies: Arc<Lies>) -> Self {
        let mac = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
        Self { mac, environment: environment.to_owned(), revoked: Mutex::new(revoked), lies }
    }

    pub(crate) fn mint(&self, kind: Kind, sub: &str, email: &str, permissions: &[String]) -> String {
        let now = clock::seconds();
        let claims = json!({
            "sub": sub,
            "iat": now,
            "exp": now + kind.lifetime_s(),
            "token_type": kind.name(),
            "type": kind.name(),
            "iss": ISSUER,
            "aud": AUDIENCE,
            "jti": Uuid::new_v4().to_string(),
            "env": self.environment,
            "email": email,
            "permissions": permissions,
        });
        self.sign(&claims)
    }

    /// A token with these claims, whatever they are.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = self.mac.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", BASE64.encode(signature))
    }

    /// Everything a token must be before anyone believes it.
    pub(crate) fn verify(&self, token: &str, kind: Kind) -> Result<Claims, Refused> {
        self.lies.token(token, kind, self.honest(token, kind))
    }

    fn honest(&self, token: &str, kind: Kind) -> Result<Claims, Refused> {
        let [header, payload, signature] = parts(token).ok_or(Refused::Malformed)?;
        check_algorithm(header)?;
        self.check_signature(header, payload, signature)?;
        let claims = object(payload).ok_or(Refused::Malformed)?;
        check_times(&claims, clock::seconds())?;
        check_kind(&claims, kind)?;
        check_issuer(&claims)?;
        check_audience(&claims)?;
        let claims = subject(&claims)?;
        self.check_revoked(&claims.jti)?;
        Ok(claims)
    }

    /// True if the signature is ours, whatever the token claims.
    pub(crate) fn is_signed(&self, token: &str) -> bool {
        parts(token).is_some_and(|[header, payload, signature]| self.check_signature(header, payload, signature).is_ok())
    }

    /// Refuses the token with this id from now on.
    pub(crate) fn revoke(&self, jti: &str) {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner).insert(jti.to_owned());
    }

    fn check_signature(&self, header: &str, payload: &str, signature: &str) -> Result<(), Refused> {
        let signature = BASE64.decode(signature).map_err(|_| Refused::Malformed)?;
        let mac = self.mac.clone().chain_update(header).chain_update(".").chain_update(payload);
        mac.verify_slice(&signature).map_err(|_| Refused::Signature)
    }

    fn check_revoked(&self, jti: &str) -> Result<(), Refused> {
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner).contains(jti);
        if revoked { Err(Refused::Revoked) } else { Ok(()) }
    }
}

/// The claims of a token that nobody has verified; empty if it has none.
pub(crate) fn unverified(token: &str) -> Map<String, Value> {
    token.split('.').nth(1).and_then(object).unwrap_or_default()
}

/// Whom the bearer token of these headers names, true or not; empty if there is none.
pub(crate) fn unverified_subject(headers: &HeaderMap) -> String {
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let claims = token.map(unverified).unwrap_or_default();
    claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The three parts of a compact token; `None` unless there are exactly three and none is empty.
pub(crate) fn parts(token: &str) -> Option<[&str; 3]> {
    let parts: Vec<&str> = token.split('.').collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64.decode(part).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn check_algorithm(header: &str) -> Result<(), Refused> {
    let header = object(header).ok_or(Refused::Malformed)?;
    // Exactly that: `none`, its case variants and every other algorithm are attempts to choose for us. `crit` names
    // extensions that must be understood; none is.
    let understood = header.get("alg").and_then(Value::as_str) == Some("HS256") && !header.contains_key("crit");
    if understood { Ok(()) } else { Err(Refused::Algorithm) }
}

/// No leeway in any direction.
fn check_times(claims: &Map<String, Value>, now: i64) -> Result<(), Refused> {
    let seconds = |name| claims.get(name).and_then(Value::as_i64);
    let exp = seconds("exp").ok_or(Refused::Claim("exp"))?;
    let iat = seconds("iat").ok_or(Refused::Claim("iat"))?;
    if exp <= now {
        return Err(Refused::Expired);
    }
    if iat > now {
        return Err(Refused::NotYetIssued);
    }
    if now.saturating_sub(iat) > MAX_AGE_S {
        return Err(Refused::TooOld);
    }
    Ok(())
}

fn check_kind(claims: &Map<String, Value>, kind: Kind) -> Result<(), Refused> {
    let right = claims.get("token_type").and_then(Value::as_str) == Some(kind.name());
    if right { Ok(()) } else { Err(Refused::Claim("token_type")) }
}

fn check_issuer(claims: &Map<String, Value>) -> Result<(), Refused> {
    let right = claims.get("iss").and_then(Value::as_str) == Some(ISSUER);
    if right { Ok(()) } else { Err(Refused::Claim("iss")) }
}

/// Checked when present; a list will do if one of it does.
fn check_audience(claims: &Map<String, Value>) -> Result<(), Refused> {
    let ours = |audience: &Value| audience.as_str().is_some_and(|audience| AUDIENCES.contains(&audience));
    let right = match claims.get("aud") {
        None => true,
        Some(Value::Array(list)) => list.iter().any(ours),
        Some(audience) => ours(audience),
    };
    if right { Ok(()) } else { Err(Refused::Claim("aud")) }
}

fn subject(claims: &Map<String, Value>) -> Result<Claims, Refused> {
    let text = |name| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let sub = text("sub").ok_or(Refused::Claim("sub"))?;
    let jti = text("jti").filter(|jti| is_uuid_v4(jti)).ok_or(Refused::Claim("jti"))?;
    let permissions = claims
        .get("permissions")
        .and_then(Value::as_array)
        .map_or_else(Vec::new, |list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let exp = claims.get("exp").and_then(Value::as_i64).ok_or(Refused::Claim("exp"))?;
    Ok(Claims { sub, email: text("email").unwrap_or_default(), permissions, jti, exp })
}

fn is_uuid_v4(text: &str) -> bool {
    text.len() == 36 && Uuid::parse_str(text).is_ok_and(|id| id.get_version_num() == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens::new("secret", "staging", HashSet::new(), Arc::default())
    }

    #[test]
    fn a_minted_token_is_verified_for_its_own_kind_only() {
        let tokens = tokens();
        let token = tokens.mint(Kind::Access, "u", "u@example.test", &["read".into()]);
        let claims = tokens.verify(&token, Kind::Access).expect("valid");
        assert_eq!((claims.sub.as_str(), claims.email.as_str()), ("u", "u@example.test"));
        assert_eq!(claims.permissions, ["read"]);
        assert_eq!(tokens.verify(&token, Kind::Refresh).unwrap_err(), Refused::Claim("token_type"));
    }

    #[test]
    fn a_revoked_token_is_refused() {
        let tokens = tokens();
        let token = tokens.mint(Kind::Access, "u", "", &[]);
        tokens.revoke(&tokens.verify(&token, Kind::Access).expect("valid").jti);
        assert_eq!(tokens.verify(&token, Kind::Access).unwrap_err(), Refused::Revoked);
    }

    #[test]
    fn exp_now_is_expired_and_a_day_is_the_limit() {
        let times = |iat: i64, exp: i64| check_times(json!({"iat": iat, "exp": exp}).as_object().expect("object"), 1_000_000);
        assert_eq!(times(1_000_000, 1_000_001), Ok(()));
        assert_eq!(times(1_000_000, 1_000_000), Err(Refused::Expired));
        assert_eq!(times(1_000_001, 1_000_100), Err(Refused::NotYetIssued));
        assert_eq!(times(1_000_000 - MAX_AGE_S, 1_000_100), Ok(()));
        assert_eq!(times(1_000_000 - MAX_AGE_S - 1, 1_000_100), Err(Refused::TooOld));
    }
}
