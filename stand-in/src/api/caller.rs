//! Who is asking: the token, and nothing but the token.

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use super::error::ApiError;
use crate::token::{Claims, Kind, Tokens};

/// The user a valid token speaks for.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user_id: String,
    pub(crate) permissions: Vec<String>,
}

/// What a request brought along to say who it is.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// Nothing, or nothing we know (`Basic`, `bearer`).
    None,
    Bad,
    Good(Caller),
}

impl Credential {
    pub(crate) fn of(headers: &HeaderMap, tokens: &Tokens) -> Self {
        match bearer(headers) {
            None => Self::None,
            Some(token) => tokens.verify(token, Kind::Access).map_or(Self::Bad, |claims| Self::Good(claims.into())),
        }
    }
}

impl From<Claims> for Caller {
    fn from(claims: Claims) -> Self {
        Self { user_id: claims.sub, permissions: claims.permissions }
    }
}

/// The token of `Authorization: Bearer <token>`. The prefix is case-sensitive; an empty token is a (bad) token.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?;
    // A header that is no text cannot be a good token, but it may well be a bad one.
    let value = value.to_str().unwrap_or("Bearer ");
    if value == "Bearer" { Some("") } else { value.strip_prefix("Bearer ").map(str::trim) }
}

/// For routes that need a token.
impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        match credential(parts) {
            Credential::None => Err(ApiError::no_credential()),
            Credential::Bad => Err(ApiError::bad_token()),
            Credential::Good(caller) => Ok(caller),
        }
    }
}

/// For routes that take a token or none, but never a bad one.
impl<S: Sync> OptionalFromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, ApiError> {
        match credential(parts) {
            Credential::None => Ok(None),
            Credential::Bad => Err(ApiError::bad_token()),
            Credential::Good(caller) => Ok(Some(caller)),
        }
    }
}

fn credential(parts: &Parts) -> Credential {
    parts.extensions.get::<Credential>().cloned().unwrap_or(Credential::None)
}
