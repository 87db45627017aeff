//! How the service is: health, readiness, and what the WebSocket offers.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{
    agent::AGENTS,
    app::{App, MAX_MESSAGE_BYTES, VERSION},
    clock, store,
};

const SERVICE: &str = "netra-ai-platform";

pub(crate) async fn welcome() -> Json<Value> {
    Json(json!({"message": "Welcome to Netra API"}))
}

pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "healthy", "service": SERVICE, "version": VERSION, "timestamp": clock::unix()}))
}

pub(crate) async fn live(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": SERVICE,
        "version": VERSION,
        "timestamp": clock::iso(),
        "environment": app.environment,
    }))
}

/// Asks the store, because that is what the business calls will do.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let connected = app.store.call(store::ping).await.is_ok();
    let (code, status, core_db) = if connected {
        (StatusCode::OK, "ready", "connected")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready", "disconnected")
    };
    let body = json!({
        "status": status,
        "service": SERVICE,
        "timestamp": clock::unix(),
        "environment": app.environment,
        "core_db": core_db,
        "clickhouse_db": "skipped_optional",
        "redis_db": "skipped_optional",
        "details": {
            "status": if connected { "healthy" } else { "unhealthy" },
            "service": SERVICE,
            "version": VERSION,
            "timestamp": clock::unix(),
        },
    });
    (code, Json(body)).into_response()
}

pub(crate) async fn agents() -> Json<Value> {
    let agents: Map<String, Value> =
        AGENTS.iter().map(|name| ((*name).to_owned(), json!({"status": "healthy", "available": true}))).collect();
    Json(json!({"status": "healthy", "agents": agents, "fallback_mode": false, "timestamp": clock::iso()}))
}

/// The same limits as in the welcome of a socket, under the names of the contract and under those seen in practice.
pub(crate) async fn ws_config(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "websocket": {
            "endpoint": "/ws",
            "version": VERSION,
            "authentication": "jwt_required",
            "supported_auth_methods": ["header", "subprotocol", "query"],
            "features": {
                "heartbeat": true,
                "message_routing": true,
                "json_rpc_support": false,
                "rate_limiting": true,
                "error_recovery": true,
            },
            "limits": {
                "max_message_size": MAX_MESSAGE_BYTES,
                "heartbeat_interval": app.heartbeat_seconds(),
                "max_message_size_bytes": MAX_MESSAGE_BYTES,
                "heartbeat_interval_seconds": app.heartbeat_seconds(),
            },
        },
        "server": {
            "active_connections": app.hub.connections(),
            "uptime_seconds": app.started.elapsed().as_secs(),
            "server_time": clock::iso(),
            "stats_error": null,
        },
    }))
}

pub(crate) async fn ws_health(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": "websocket",
        "version": VERSION,
        "timestamp": clock::iso(),
        "environment": app.environment,
        "metrics": {"websocket": {"status": "available", "active_connections": app.hub.connections()}},
        "config": {"heartbeat_interval": app.heartbeat_seconds(), "pre_connection_auth_required": true},
        "errors": [],
    }))
}

pub(crate) async fn ws_beacon() -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": "websocket_beacon",
        "timestamp": clock::iso(),
        "message": "WebSocket service is available",
    }))
}
