//! Signing in: the test login, registration, login.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{password, token_pair};
use crate::{
    api::{body::JsonBody, error::ApiError},
    app::App,
    store::accounts::{self, Account},
};

const BYPASS_KEY: &str = "x-e2e-bypass-key";
const SHORTEST_PASSWORD: usize = 8;
const LONGEST_PASSWORD: usize = 1_000;

type Answer = Result<Json<Value>, ApiError>;

/// Signs in any e-mail address, for whoever holds the key.
pub(super) async fn test_auth(State(app): State<Arc<App>>, headers: HeaderMap, body: Result<JsonBody, ApiError>) -> Answer {
    check_bypass(&app, &headers)?;
    let mut body = body?;
    let email = body.email("email");
    let name = body.optional_text("name");
    let permissions = body.optional_texts("permissions").unwrap_or_default();
    body.finish()?;
    let local = email.split('@').next().unwrap_or_default();
    let user_id = format!("e2e-{local}");
    let mut answer = token_pair(&app, &user_id, &email, &permissions);
    let name = name.unwrap_or_else(|| local.to_owned());
    answer["user"] = json!({"id": user_id, "email": email, "name": name, "permissions": permissions, "oauth_simulated": true});
    Ok(Json(answer))
}

fn check_bypass(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    if app.environment == "production" {
        return Err(ApiError::detail(StatusCode::FORBIDDEN, "E2E test login is not available in production"));
    }
    if app.e2e_key.is_empty() {
        return Err(ApiError::detail(StatusCode::SERVICE_UNAVAILABLE, "E2E bypass key not configured"));
    }
    match headers.get(BYPASS_KEY) {
        None => Err(ApiError::detail(StatusCode::UNAUTHORIZED, "E2E bypass key required")),
        Some(key) if !password::same(key.as_bytes(), app.e2e_key.as_bytes()) => {
            Err(ApiError::detail(StatusCode::UNAUTHORIZED, "Invalid E2E bypass key"))
        }
        Some(_) => Ok(()),
    }
}

pub(super) async fn register(State(app): State<Arc<App>>, mut body: JsonBody) -> Answer {
    let email = body.email("email");
    let chosen = body.text("password", SHORTEST_PASSWORD, LONGEST_PASSWORD);
    let name = body.optional_text("name");
    if body.optional_text("confirm_password").is_some_and(|confirmed| confirmed != chosen) {
        body.problem("value_error", "confirm_password", "Passwords do not match", &Value::Null);
    }
    body.finish()?;
    let (salt, hash) = off_the_workers(move || password::hashed(&chosen)).await?;
    let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
    let account = Account { id: Uuid::new_v4().to_string(), email, name, salt, hash };
    let stored = account.clone();
    if !app.store.call(move |db| accounts::add(db, &stored)).await? {
        return Err(ApiError::detail(StatusCode::CONFLICT, "Email already registered"));
    }
    Ok(Json(signed_in(&app, &account)))
}

pub(super) async fn login(State(app): State<Arc<App>>, mut body: JsonBody) -> Answer {
    let email = body.email("email");
    let given = body.text("password", 0, LONGEST_PASSWORD);
    body.finish()?;
    let account = app.store.call(move |db| accounts::find(db, &email)).await?;
    let account = off_the_workers(move || account.filter(|account| password::matches(&given, &account.salt, &account.hash)));
    match account.await? {
        Some(account) => Ok(Json(signed_in(&app, &account))),
        None => Err(ApiError::detail(StatusCode::UNAUTHORIZED, "Invalid credentials")),
    }
}

fn signed_in(app: &App, account: &Account) -> Value {
    let mut answer = token_pair(app, &account.id, &account.email, &[]);
    answer["user"] = json!({"id": account.id, "email": account.email, "name": account.name, "permissions": []});
    answer
}

/// Hashing takes milliseconds, in which a worker could have served others.
async fn off_the_workers<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal())
}
