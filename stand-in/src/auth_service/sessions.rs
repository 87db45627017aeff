//! Tokens after they were made: refreshed, taken back, looked at.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap, http::StatusCode};
use serde_json::{Value, json};

use super::token_pair;
use crate::{
    api::{body::JsonBody, caller::bearer, error::ApiError},
    app::App,
    clock,
    store::accounts,
    token::{Claims, Kind},
};

type Answer = Result<Json<Value>, ApiError>;

/// New tokens for the same user. The old refresh token is used up.
pub(super) async fn refresh(State(app): State<Arc<App>>, mut body: JsonBody) -> Answer {
    let field = if body.has("refreshToken") && !body.has("refresh_token") { "refreshToken" } else { "refresh_token" };
    let token = body.text(field, 0, usize::MAX);
    body.finish()?;
    let claims = app.tokens.verify(&token, Kind::Refresh).map_err(|_| unauthorized("Invalid refresh token"))?;
    if !use_up(&app, &claims).await? {
        return Err(unauthorized("Invalid refresh token"));
    }
    Ok(Json(token_pair(&app, &claims.sub, &claims.email, &claims.permissions)))
}

pub(super) async fn logout(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let claims = presented(&app, &headers).ok_or_else(|| unauthorized("Invalid or expired token"))?;
    use_up(&app, &claims).await?;
    Ok(Json(json!({"message": "Successfully logged out", "status": "success"})))
}

/// Always 200: that a token is not valid is an answer, not an error.
pub(super) async fn validate(State(app): State<Arc<App>>, mut body: JsonBody) -> Answer {
    let token = body.text("token", 0, usize::MAX);
    let kind = body.optional_text("token_type");
    body.finish()?;
    let kind = match kind.as_deref() {
        None | Some("access") => Some(Kind::Access),
        Some("refresh") => Some(Kind::Refresh),
        Some(_) => None,
    };
    Ok(Json(match kind.and_then(|kind| app.tokens.verify(&token, kind).ok()) {
        Some(claims) => json!({
            "valid": true,
            "user_id": claims.sub,
            "email": claims.email,
            "permissions": claims.permissions,
            "expires_at": clock::iso_of_second(claims.exp),
        }),
        None => json!({"valid": false, "error": "invalid_token", "message": "Token validation failed"}),
    }))
}

pub(super) async fn verify(State(app): State<Arc<App>>, headers: HeaderMap) -> Json<Value> {
    Json(match presented(&app, &headers) {
        Some(claims) => json!({
            "valid": true,
            "user_id": claims.sub,
            "email": claims.email,
            "exp": clock::iso_of_second(claims.exp),
        }),
        None => json!({"valid": false, "user_id": null, "email": null, "error": "invalid_token"}),
    })
}

pub(super) async fn me(State(app): State<Arc<App>>, headers: HeaderMap) -> Answer {
    let claims = presented(&app, &headers).ok_or_else(|| unauthorized("Invalid or expired token"))?;
    Ok(Json(json!({
        "user_id": claims.sub,
        "email": claims.email,
        "permissions": claims.permissions,
        "token_expires_at": clock::iso_of_second(claims.exp),
    })))
}

fn presented(app: &App, headers: &HeaderMap) -> Option<Claims> {
    app.tokens.verify(bearer(headers)?, Kind::Access).ok()
}

/// Refuses the token from now on, also after a restart; `false` when it was refused already.
async fn use_up(app: &App, claims: &Claims) -> Result<bool, ApiError> {
    let (jti, exp) = (claims.jti.clone(), claims.exp);
    let first = app.store.call(move |db| accounts::revoke(db, &jti, exp)).await?;
    app.tokens.revoke(&claims.jti);
    Ok(first)
}

fn unauthorized(detail: &str) -> ApiError {
    ApiError::detail(StatusCode::UNAUTHORIZED, detail)
}
