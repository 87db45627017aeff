//! The frames the server sends, in the shapes of the contract.

use serde_json::{Value, json};

use crate::{
    app::{App, MAX_MESSAGE_BYTES},
    clock,
};

/// A frame from the server, in the frame around most of them.
fn framed(kind: &str, data: &Value) -> Value {
    json!({"type": kind, "data": data, "timestamp": clock::unix(), "server_id": null, "correlation_id": null})
}

pub(crate) fn welcome(app: &App, connection_id: &str, user_id: &str) -> Value {
    framed(
        "system_message",
        &json!({
            "event": "connection_established",
            "connection_id": connection_id,
            "user_id": user_id,
            "server_time": clock::iso(),
            "connection_ready": true,
            "environment": app.environment,
            "startup_complete": true,
            "config": {"heartbeat_interval": app.heartbeat_seconds(), "max_message_size": MAX_MESSAGE_BYTES},
        }),
    )
}

pub(crate) fn ping() -> Value {
    framed("ping", &json!({"timestamp": clock::unix()}))
}

pub(crate) fn pong(user_id: &str) -> Value {
    framed("pong", &json!({"timestamp": clock::unix(), "user_id": user_id}))
}

pub(crate) fn heartbeat_ack() -> Value {
    framed("heartbeat_ack", &json!({"timestamp": clock::unix(), "status": "healthy"}))
}

pub(crate) fn acknowledged(message_id: &str, thread_id: &str) -> Value {
    framed(
        "system_message",
        &json!({
            "content": "Message received",
            "status": "acknowledged",
            "original_message_id": message_id,
            "thread_id": thread_id,
        }),
    )
}

/// The answer to a type nobody knows: it was received, and nothing was done.
pub(crate) fn unknown_type(kind: &str, user_id: &str) -> Value {
    json!({"type": "ack", "received_type": kind, "timestamp": clock::unix(), "user_id": user_id, "status": "acknowledged"})
}

pub(crate) fn error(app: &App, code: &str, message: &str) -> Value {
    json!({
        "type": "error_message",
        "error_code": code,
        "error_message": message,
        "details": {"environment": app.environment, "ssot_authentication": true, "error_code": code},
        "timestamp": clock::unix(),
        "recovery_suggestions": null,
    })
}
