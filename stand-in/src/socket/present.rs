//! Presenting a token to the socket: three carriers, in order of precedence, and nothing else.
//!
//! No other header is looked at: whatever a client says about tests, it is authenticated like everyone.

use axum::http::{HeaderMap, header};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};

use crate::token::{self, Kind, Tokens};

const TOKEN_PROTOCOL_PREFIX: &str = "jwt.";

/// Why a socket is refused, in the words of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// The user whose valid token was presented.
pub(crate) fn authenticate(headers: &HeaderMap, query: Option<&str>, tokens: &Tokens) -> Result<String, Refusal> {
    let token = presented(headers, query).ok_or_else(no_token)?;
    check_format(&token)?;
    let claims = tokens.verify(&token, Kind::Access).map_err(|_| validation_failed(&token))?;
    Ok(claims.sub)
}

fn presented(headers: &HeaderMap, query: Option<&str>) -> Option<String> {
    from_header(headers).or_else(|| from_subprotocol(headers)).or_else(|| from_query(query))
}

fn from_header(headers: &HeaderMap) -> Option<String> {
    let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn from_subprotocol(headers: &HeaderMap) -> Option<String> {
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|offers| offers.to_str().ok());
    let mut offers = offers.flat_map(|offers| offers.split(',')).map(str::trim);
    let encoded = offers.find_map(|offer| offer.strip_prefix(TOKEN_PROTOCOL_PREFIX)).filter(|token| !token.is_empty())?;
    // What cannot be decoded was presented nonetheless; without dots it is refused for its format.
    let decoded = BASE64.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    Some(decoded.unwrap_or_else(|| encoded.replace('.', "")))
}

fn from_query(query: Option<&str>) -> Option<String> {
    let token = query?.split('&').find_map(|pair| pair.strip_prefix("token="))?;
    (!token.is_empty()).then(|| token.to_owned())
}

fn check_format(token: &str) -> Result<(), Refusal> {
    if token::parts(token).is_some() {
        return Ok(());
    }
    let (characters, dots) = size(token);
    Err(Refusal { code: "INVALID_FORMAT", message: format!("Invalid token format: {characters} chars, {dots} dots") })
}

fn no_token() -> Refusal {
    Refusal { code: "NO_TOKEN", message: "No JWT token found in WebSocket headers or subprotocols".to_owned() }
}

fn validation_failed(token: &str) -> Refusal {
    let (characters, dots) = size(token);
    let message = format!("Token validation failed | Debug: {characters} chars, {dots} dots");
    Refusal { code: "VALIDATION_FAILED", message }
}

fn size(token: &str) -> (usize, usize) {
    (token.chars().count(), token.matches('.').count())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use axum::http::HeaderValue;

    use super::*;

    fn code(authorization: Option<&'static str>, protocols: Option<&str>, query: Option<&str>) -> &'static str {
        let tokens = Tokens::new("secret", "staging", HashSet::new(), std::sync::Arc::default());
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        if let Some(value) = protocols {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).expect("header"));
        }
        authenticate(&headers, query, &tokens).expect_err("refused").code
    }

    #[test]
    fn a_carrier_without_a_token_leaves_it_to_the_next() {
        assert_eq!(code(None, None, None), "NO_TOKEN");
        assert_eq!(code(Some("bearer a.b.c"), None, None), "NO_TOKEN");
        assert_eq!(code(Some("bearer a.b.c"), None, Some("token=a.b.c")), "VALIDATION_FAILED");
        assert_eq!(code(Some("Bearer abc"), None, Some("token=a.b.c")), "INVALID_FORMAT");
        assert_eq!(code(None, Some("jwt-auth"), Some("x=1&token=a.b")), "INVALID_FORMAT");
    }

    #[test]
    fn a_subprotocol_token_is_base64url() {
        let encoded = format!("jwt-auth, jwt.{}", BASE64.encode("a.b.c"));
        assert_eq!(code(None, Some(&encoded), None), "VALIDATION_FAILED");
        assert_eq!(code(None, Some("jwt-auth, jwt.a.b.c"), None), "INVALID_FORMAT");
    }
}
