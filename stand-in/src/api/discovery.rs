//! What there is and where: services, MCP, configuration. Every URL is one of the stand-in's own, and answers.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{caller::Caller, error::ApiError};
use crate::{
    agent::{AGENTS, tools::TOOLS},
    app::{App, MAX_MESSAGE_BYTES, VERSION},
    clock,
};

pub(crate) async fn services(State(app): State<Arc<App>>) -> Json<Value> {
    let (now, urls) = (clock::iso(), &app.urls);
    let service = |port: u16, url: &str, api_url: Option<&str>, ws_url: Option<&str>| json!({"port": port, "url": url, "api_url": api_url, "ws_url": ws_url, "timestamp": now, "cors_metadata": null});
    Json(json!({
        "services": {
            "backend": service(urls.api_port, &urls.api, Some(&urls.api), Some(&urls.ws)),
            // There is no front end of its own here; the API's root answers in its place.
            "frontend": service(urls.api_port, &urls.api, None, None),
            "auth": service(urls.auth_port, &urls.auth, Some(&urls.auth), None),
        },
        "timestamp": now,
        "available": true,
    }))
}

pub(crate) async fn mcp() -> Json<Value> {
    Json(json!({"name": "netra-mcp", "status": "connected", "version": VERSION}))
}

pub(crate) async fn mcp_servers(_: Option<Caller>) -> Json<Value> {
    Json(json!({
        "data": [{
            "name": "netra-mcp",
            "status": "connected",
            "version": VERSION,
            "capabilities": {"tools": true, "resources": false, "prompts": false},
            "description": "Netra internal MCP service",
        }],
        "status": "success",
    }))
}

pub(crate) async fn mcp_tools(_: Option<Caller>) -> Json<Value> {
    let tools: Vec<Value> =
        TOOLS.iter().map(|tool| json!({"name": tool.name, "description": tool.description, "category": tool.category})).collect();
    let count = tools.len();
    Json(json!({"tools": tools, "count": count}))
}

/// Names the variables that hold secrets, never what they hold.
pub(crate) async fn mcp_config(State(app): State<Arc<App>>) -> Json<Value> {
    let stdio = json!({"transport": "stdio", "command": "python -m app.mcp.run_server"});
    Json(json!({
        "claude": {"mcpServers": {"netra": {
            "command": "python",
            "args": ["-m", "app.mcp.run_server"],
            "env": {"NETRA_API_KEY": "${NETRA_API_KEY}", "NETRA_BASE_URL": app.urls.api},
        }}},
        "cursor": {"mcp": {"servers": {"netra": stdio}}},
        "mcp": {"servers": {"netra": stdio}},
        "http": {"endpoint": format!("{}/api/mcp", app.urls.api), "transport": "http", "authentication": "Bearer token"},
        "websocket": {"endpoint": app.urls.ws, "transport": "websocket", "authentication": "Bearer token"},
    }))
}

pub(crate) async fn public_config(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({
        "environment": app.environment,
        "app_name": "Netra",
        "version": VERSION,
        "features": {"websocket": true, "streaming": true, "mcp": true, "tools": true},
    }))
}

pub(crate) async fn admin_config(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    admin(&caller)?;
    Ok(Json(json!({
        "environment": app.environment,
        "app_name": "Netra",
        "version": VERSION,
        "agents": AGENTS,
        "urls": {"api": app.urls.api, "websocket": app.urls.ws, "auth": app.urls.auth},
        "websocket": {"max_message_size": MAX_MESSAGE_BYTES, "heartbeat_interval": app.heartbeat_seconds()},
    })))
}

fn admin(caller: &Caller) -> Result<(), ApiError> {
    let admin = caller.permissions.iter().any(|permission| permission == "admin");
    if admin { Ok(()) } else { Err(ApiError::forbidden("Admin permission required")) }
}
