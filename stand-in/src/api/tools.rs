//! `/api/tools`: what tools there are, and running one.

use std::collections::BTreeSet;

use axum::Json;
use serde_json::{Value, json};

use super::{body::JsonBody, caller::Caller, error::ApiError};
use crate::{
    agent::{
        runs::millis,
        tools::{self, TOOLS, Tool},
    },
    clock,
};

pub(crate) async fn list(_: Caller) -> Json<Value> {
    let categories: BTreeSet<&str> = TOOLS.iter().map(|tool| tool.category).collect();
    Json(json!({
        "tools": TOOLS.iter().map(entry).collect::<Vec<_>>(),
        "total_tools": TOOLS.len(),
        "available_tools": TOOLS.len(),
        "categories": categories,
    }))
}

fn entry(tool: &Tool) -> Value {
    let parameters: Vec<Value> = tool
        .parameters
        .iter()
        .map(|p| json!({"name": p.name, "type": p.kind, "required": true, "description": p.description}))
        .collect();
    json!({
        "tool_name": tool.name,
        "category": tool.category,
        "description": tool.description,
        "available": true,
        "parameters": parameters,
    })
}

pub(crate) async fn execute(_: Caller, mut body: JsonBody) -> Result<Json<Value>, ApiError> {
    let name = body.text("tool_name", 1, 200);
    let arguments = body.object("arguments");
    body.finish()?;
    let outcome = tools::execute(&name, &arguments);
    let (status, field, value) = match outcome.result {
        Ok(result) => ("success", "result", result),
        Err(cause) => ("error", "error", cause.into()),
    };
    Ok(Json(json!({
        "tool_name": name,
        "status": status,
        "execution_time_ms": millis(outcome.took),
        "timestamp": clock::iso(),
        field: value,
    })))
}
