//! The auth service, on its own port: it makes tokens, takes them back, and says whether one is good.

mod accounts;
mod password;
mod sessions;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    api::{error, gate},
    app::{App, VERSION},
    clock, lies, store,
    token::Kind,
};

/// Every route of the auth service.
pub(crate) fn router(app: Arc<App>) -> Router {
    let honest = Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/health/ready", get(health))
        .route("/auth/health", get(health))
        .route("/auth/e2e/test-auth", post(accounts::test_auth))
        .route("/auth/login", post(accounts::login))
        .route("/auth/register", post(accounts::register))
        .route("/auth/refresh", post(sessions::refresh))
        .route("/auth/logout", post(sessions::logout))
        .route("/auth/validate", post(sessions::validate))
        .route("/auth/verify", get(sessions::verify).post(sessions::verify))
        .route("/auth/me", get(sessions::me))
        .fallback(error::unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate::auth_service))
        .with_state(Arc::clone(&app));
    if app.lies.any() {
        Router::new().fallback_service(honest).layer(middleware::from_fn_with_state((app, "auth"), lies::layer))
    } else {
        honest
    }
}

async fn root() -> Json<Value> {
    Json(json!({"service": "auth-service", "version": VERSION, "status": "running"}))
}

/// Asks the store, because that is what a login will do.
async fn health(State(app): State<Arc<App>>) -> Response {
    let connected = app.store.call(store::ping).await.is_ok();
    let (code, status, database) =
        if connected { (StatusCode::OK, "healthy", "connected") } else { (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", "error") };
    let body = json!({
        "status": status,
        "service": "auth-service",
        "version": VERSION,
        "timestamp": clock::iso(),
        "uptime_seconds": app.started.elapsed().as_secs_f64(),
        "database_status": database,
        "environment": app.environment,
    });
    (code, Json(body)).into_response()
}

/// A fresh pair of tokens, as every way of signing in answers it.
fn token_pair(app: &App, user_id: &str, email: &str, permissions: &[String]) -> Value {
    json!({
        "access_token": app.tokens.mint(Kind::Access, user_id, email, permissions),
        "refresh_token": app.tokens.mint(Kind::Refresh, user_id, email, permissions),
        "token_type": "Bearer",
        "expires_in": Kind::Access.lifetime_s(),
    })
}
