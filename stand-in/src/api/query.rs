//! Reading the query of a request.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde_json::{Value, json};

use super::error::ApiError;
use crate::store::Window;

const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 100;

/// Which part of a list is wanted: `limit` 1..100 (50 when not said), `offset` 0.. (0 when not said).
pub(crate) struct Paging(pub(crate) Window);

/// The `thread_id` a list is restricted to.
pub(crate) struct ThreadFilter(pub(crate) Option<String>);

impl<S: Sync> FromRequestParts<S> for Paging {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = pairs(parts)?;
        let mut problems = Vec::new();
        let limit = integer(&query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT, &mut problems);
        let offset = integer(&query, "offset", 0, 0, i64::MAX, &mut problems);
        if problems.is_empty() { Ok(Self(Window { limit, offset })) } else { Err(ApiError::invalid(problems)) }
    }
}

impl<S: Sync> FromRequestParts<S> for ThreadFilter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(last(&pairs(parts)?, "thread_id").map(str::to_owned)))
    }
}

fn pairs(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    let problem = |_| {
        ApiError::invalid(vec![json!({"type": "value_error", "loc": ["query"], "msg": "Query could not be read", "input": null})])
    };
    Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).map_err(problem)
}

fn last<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn integer(pairs: &[(String, String)], name: &str, default: i64, min: i64, max: i64, problems: &mut Vec<Value>) -> i64 {
    let Some(text) = last(pairs, name) else { return default };
    let (kind, message, context) = match text.trim().parse::<i64>() {
        Err(_) => ("int_parsing", "Input should be a valid integer, unable to parse string as an integer".to_owned(), None),
        Ok(number) if number < min => {
            ("greater_than_equal", format!("Input should be greater than or equal to {min}"), Some(json!({"ge": min})))
        }
        Ok(number) if number > max => {
            ("less_than_equal", format!("Input should be less than or equal to {max}"), Some(json!({"le": max})))
        }
        Ok(number) => return number,
    };
    let mut problem = json!({"type": kind, "loc": ["query", name], "msg": message, "input": text});
    if let Some(context) = context {
        problem["ctx"] = context;
    }
    problems.push(problem);
    default
}
