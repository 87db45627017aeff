//! Refusals, in the three shapes of the contract: envelope, plain detail, list of validation problems.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    agent::runs,
    clock,
    store::{StoreError, threads},
};

/// A refusal. It becomes a body in the gate, which knows the ids of the request.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    shape: Shape,
    retry_after_s: Option<u64>,
}

#[derive(Clone, Debug)]
enum Shape {
    Envelope { code: &'static str, message: String },
    Detail(Value),
}

/// What an envelope says of the request it answers.
pub(crate) struct Ids<'a> {
    pub(crate) trace: &'a str,
    pub(crate) request: Option<&'a str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, shape: Shape::Envelope { code, message: message.into() }, retry_after_s: None }
    }

    /// `{"detail": …}`: the shape of the auth service, and of unknown routes and methods.
    pub(crate) fn detail(status: StatusCode, detail: impl Into<Value>) -> Self {
        Self { status, shape: Shape::Detail(detail.into()), retry_after_s: None }
    }

    pub(crate) fn invalid(problems: Vec<Value>) -> Self {
        Self::detail(StatusCode::UNPROCESSABLE_ENTITY, problems)
    }

    pub(crate) fn no_credential() -> Self {
        Self::new(StatusCode::FORBIDDEN, "AUTH_UNAUTHORIZED", "Not authenticated")
    }

    pub(crate) fn bad_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "AUTH_FAILED", "Invalid or expired token")
    }

    pub(crate) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AUTH_UNAUTHORIZED", message)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "DB_RECORD_NOT_FOUND", format!("{what} not found"))
    }

    pub(crate) fn archived() -> Self {
        Self::new(StatusCode::CONFLICT, "THREAD_ARCHIVED", "Thread is archived")
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "Request body is too large")
    }

    pub(crate) fn too_many(retry_after_s: u64) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", "Too many requests");
        Self { retry_after_s: Some(retry_after_s), ..error }
    }

    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "Internal server error")
    }

    /// What a response without a body of ours becomes, by its status alone.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::detail(status, "Not Found"),
            StatusCode::METHOD_NOT_ALLOWED => Self::detail(status, "Method Not Allowed"),
            _ if status.is_server_error() => Self::internal(),
            _ => Self::new(status, "BAD_REQUEST", status.canonical_reason().unwrap_or("Bad request")),
        }
    }

    /// The refusal of a service that knows no envelope.
    pub(crate) fn plain(self) -> Self {
        match self.shape {
            Shape::Envelope { message, .. } => Self { shape: Shape::Detail(message.into()), ..self },
            Shape::Detail(_) => self,
        }
    }

    pub(crate) fn to_json(&self, ids: &Ids<'_>) -> Value {
        match &self.shape {
            Shape::Detail(detail) => json!({"detail": detail}),
            Shape::Envelope { code, message } => json!({
                "error": true,
                "error_code": code,
                "message": message,
                "user_message": message,
                "details": {"status_code": self.status.as_u16()},
                "trace_id": ids.trace,
                "timestamp": clock::iso(),
                "request_id": ids.request,
            }),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(_: StoreError) -> Self {
        // What went wrong inside is nobody's business outside.
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", "The service is not available right now")
    }
}

impl From<threads::Refusal> for ApiError {
    fn from(refusal: threads::Refusal) -> Self {
        match refusal {
            threads::Refusal::Unknown => Self::not_found("Thread"),
            threads::Refusal::Foreign => Self::forbidden("Access denied"),
            threads::Refusal::Archived => Self::archived(),
        }
    }
}

impl From<runs::Refusal> for ApiError {
    fn from(refusal: runs::Refusal) -> Self {
        match refusal {
            runs::Refusal::Unknown => Self::not_found("Agent run"),
            runs::Refusal::Foreign => Self::forbidden("Access denied"),
        }
    }
}

/// The answer to a route that does not exist.
pub(crate) async fn unknown_route() -> ApiError {
    ApiError::of_status(StatusCode::NOT_FOUND)
}
