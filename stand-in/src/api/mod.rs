//! The HTTP API: a gate every request passes, then one file a subject.

pub(crate) mod agents;
pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod discovery;
pub(crate) mod error;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod limit;
pub(crate) mod messages;
pub(crate) mod query;
pub(crate) mod stream;
pub(crate) mod threads;
pub(crate) mod tools;

use std::sync::Arc;

use axum::{
    Router, middleware,
    routing::{any, get, post},
};

use crate::{app::App, lies, socket};

/// Every route of the API and the WebSocket.
pub(crate) fn router(app: Arc<App>) -> Router {
    let honest = Router::new()
        .route("/", get(health::welcome))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/agents", get(health::agents))
        .route("/ws", any(socket::upgrade))
        .route("/ws/config", get(health::ws_config))
        .route("/ws/health", get(health::ws_health))
        .route("/ws/beacon", get(health::ws_beacon))
        .route("/api/discovery/services", get(discovery::services))
        .route("/api/mcp", get(discovery::mcp))
        .route("/api/mcp/servers", get(discovery::mcp_servers))
        .route("/api/mcp/tools", get(discovery::mcp_tools))
        .route("/api/mcp/config", get(discovery::mcp_config))
        .route("/api/config", get(discovery::admin_config))
        .route("/api/config/public", get(discovery::public_config))
        .route("/api/agents/execute", post(agents::execute))
        .route("/api/agents/triage", post(agents::triage))
        .route("/api/agents/data", post(agents::data))
        .route("/api/agents/optimization", post(agents::optimization))
        .route("/api/chat/stream", post(stream::stream))
        .route("/api/chat/agents/{run_id}/status", get(agents::status))
        .route("/api/chat/agents/{run_id}/stop", post(agents::stop))
        .route("/api/chat/agents/{run_id}/cancel", post(agents::cancel))
        .route("/api/chat/agents/{run_id}/start", post(agents::start))
        .route("/api/agent/{run_id}/status", get(agents::status))
        .route("/api/tools", get(tools::list))
        .route("/api/tools/execute", post(tools::execute))
        .route("/api/chat/messages", post(messages::create).get(messages::list))
        .route("/api/chat/messages/{id}", get(messages::read).delete(messages::delete))
        .route("/api/threads", post(threads::create).get(threads::list))
        .route("/api/threads/", post(threads::create).get(threads::list))
        .route("/api/threads/{id}", get(threads::read).put(threads::update).delete(threads::archive))
        .route("/api/threads/{id}/auto-rename", post(threads::auto_rename))
        .route("/api/threads/{id}/messages", get(threads::history))
        .fallback(error::unknown_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate::api))
        .with_state(Arc::clone(&app));
    if app.lies.any() {
        Router::new().fallback_service(honest).layer(middleware::from_fn_with_state((app, "api"), lies::layer))
    } else {
        honest
    }
}
