//! Reading JSON bodies, and saying all that is wrong with one at once.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};

use super::error::ApiError;

/// A larger body is refused.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A refused body is read to its end, up to here, so that the client gets to see the refusal.
const MAX_DRAINED_BYTES: usize = 32 * 1024 * 1024;

/// A JSON object, and the problems found in it so far.
pub(crate) struct JsonBody {
    fields: Map<String, Value>,
    problems: Vec<Value>,
}

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = read(request.into_body()).await?;
        parse(&bytes).map(|fields| Self { fields, problems: Vec::new() }).map_err(|problem| ApiError::invalid(vec![problem]))
    }
}

async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut total) = (Vec::new(), 0_usize);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| {
            ApiError::invalid(vec![json!({"type": "missing", "loc": ["body"], "msg": "Body was cut short", "input": null})])
        })?;
        total += chunk.len();
        if total <= MAX_BODY_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if total > MAX_DRAINED_BYTES {
            break;
        }
    }
    if total > MAX_BODY_BYTES { Err(ApiError::too_large()) } else { Ok(bytes) }
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, Value> {
    if bytes.is_empty() {
        return Err(json!({"type": "missing", "loc": ["body"], "msg": "Field required", "input": null}));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(json!({
            "type": "model_attributes_type",
            "loc": ["body"],
            "msg": "Input should be a valid dictionary or object to extract fields from",
            "input": other,
        })),
        Err(error) => Err(json!({
            "type": "json_invalid",
            "loc": ["body", error.column()],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": if error.is_eof() { "unexpected end" } else { "invalid JSON" }},
        })),
    }
}

impl JsonBody {
    /// A text that must be there, with so many characters.
    pub(crate) fn text(&mut self, name: &str, min: usize, max: usize) -> String {
        match self.fields.get(name) {
            None => self.missing(name),
            Some(Value::String(text)) => {
                let text = text.clone();
                self.check_length(name, &text, min, max);
                return text;
            }
            Some(other) => self.not_a_text(name, &other.clone()),
        }
        String::new()
    }

    /// A text that may be missing or null.
    pub(crate) fn optional_text(&mut self, name: &str) -> Option<String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.not_a_text(name, &other.clone());
                None
            }
        }
    }

    /// An object that must be there.
    pub(crate) fn object(&mut self, name: &str) -> Map<String, Value> {
        if !self.fields.contains_key(name) {
            self.missing(name);
            return Map::new();
        }
        if self.fields[name].is_null() {
            self.not_an_object(name, &Value::Null);
        }
        self.optional_object(name).unwrap_or_default()
    }

    /// An object that may be missing or null.
    pub(crate) fn optional_object(&mut self, name: &str) -> Option<Map<String, Value>> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(object)) => Some(object.clone()),
            Some(other) => {
                self.not_an_object(name, &other.clone());
                None
            }
        }
    }

    /// A list of texts that may be missing or null.
    pub(crate) fn optional_texts(&mut self, name: &str) -> Option<Vec<String>> {
        let list = match self.fields.get(name) {
            None | Some(Value::Null) => return None,
            Some(Value::Array(list)) => list.clone(),
            Some(other) => {
                let other = other.clone();
                self.problem("list_type", name, "Input should be a valid list", &other);
                return None;
            }
        };
        let texts: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        if texts.is_none() {
            self.problem("string_type", name, "Input should be a list of valid strings", &Value::Array(list));
        }
        texts
    }

    /// A text that must be one of a few.
    pub(crate) fn choice(&mut self, name: &str, choices: &[&str]) -> String {
        let text = self.text(name, 0, usize::MAX);
        if self.problems.is_empty() && !choices.contains(&text.as_str()) {
            let message = format!("Input should be one of {}", choices.join(", "));
            self.problem("enum", name, &message, &Value::String(text.clone()));
        }
        text
    }

    /// An e-mail address that must be there.
    pub(crate) fn email(&mut self, name: &str) -> String {
        let text = self.text(name, 0, 320);
        let valid = text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !text.contains(char::is_whitespace)
        });
        if self.problems.is_empty() && !valid {
            self.problem("value_error", name, "Input should be a valid e-mail address", &Value::String(text.clone()));
        }
        text
    }

    /// Whether the field is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Adds a problem only the caller can see.
    pub(crate) fn problem(&mut self, kind: &str, name: &str, message: &str, input: &Value) {
        self.problems.push(json!({"type": kind, "loc": ["body", name], "msg": message, "input": input}));
    }

    /// Refuses the body if there was any problem.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.problems)) }
    }

    fn check_length(&mut self, name: &str, text: &str, min: usize, max: usize) {
        let length = text.chars().count();
        let (kind, limit, message) = if length < min {
            ("string_too_short", json!({"min_length": min}), format!("String should have at least {min} character{}", s(min)))
        } else if length > max {
            ("string_too_long", json!({"max_length": max}), format!("String should have at most {max} character{}", s(max)))
        } else {
            return;
        };
        self.problems.push(json!({"type": kind, "loc": ["body", name], "msg": message, "input": text, "ctx": limit}));
    }

    fn missing(&mut self, name: &str) {
        let input = Value::Object(self.fields.clone());
        self.problem("missing", name, "Field required", &input);
    }

    fn not_a_text(&mut self, name: &str, input: &Value) {
        self.problem("string_type", name, "Input should be a valid string", input);
    }

    fn not_an_object(&mut self, name: &str, input: &Value) {
        self.problem("dict_type", name, "Input should be a valid dictionary", input);
    }
}

fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}
