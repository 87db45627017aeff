//! Tokens by hand, so that they can also be wrong.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// The claims of a good access token, good for half an hour.
pub(crate) fn claims(user: &str) -> Value {
    json!({
        "sub": user,
        "iat": now(),
        "exp": now() + 1800,
        "token_type": "access",
        "type": "access",
        "iss": "netra-auth-service",
        "aud": "netra-platform",
        "jti": uuid::Uuid::new_v4().to_string(),
        "env": "staging",
        "email": format!("{user}@example.test"),
        "permissions": [],
    })
}

/// HS256 over the claims.
pub(crate) fn sign(claims: &Value, secret: &str) -> String {
    sign_with_header(&json!({"alg": "HS256", "typ": "JWT"}), claims, secret)
}

/// HS256 over the claims, whatever the header says.
pub(crate) fn sign_with_header(header: &Value, claims: &Value, secret: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key").chain_update(&signed);
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}
