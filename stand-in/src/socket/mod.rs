//! The WebSocket: who may open it, what is said over it, and who is connected.

pub(crate) mod frames;
pub(crate) mod hub;
mod incoming;
mod present;
mod session;

use std::sync::Arc;

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, Uri},
    response::Response,
};

use crate::{api::error::ApiError, app::App};

/// The subprotocol that is selected when a client offers it.
const SUBPROTOCOL: &str = "jwt-auth";
/// A frame over the announced limit gets an answer; one over this closes the socket.
const HARD_LIMIT_BYTES: usize = 1024 * 1024;

/// Upgrades first and authenticates then, so that a refusal can say why.
pub(crate) async fn upgrade(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|_| {
        ApiError::new(StatusCode::UPGRADE_REQUIRED, "UPGRADE_REQUIRED", "This is a WebSocket; connect with an upgrade")
    })?;
    let admission = present::authenticate(&headers, uri.query(), &app.tokens);
    let open = app.tasks.enter();
    // The library's limit is above ours, so that what is too large is answered and not just cut off.
    let upgrade = upgrade.protocols([SUBPROTOCOL]).max_message_size(4 * HARD_LIMIT_BYTES).max_frame_size(4 * HARD_LIMIT_BYTES);
    Ok(upgrade.on_upgrade(async move |socket| {
        match admission {
            Ok(user_id) => session::serve(app, socket, user_id).await,
            Err(refusal) => session::refuse(&app, socket, &refusal).await,
        }
        drop(open);
    }))
}
