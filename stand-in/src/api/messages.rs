//! `/api/chat/messages`: messages posted over HTTP. They are stored and read back; no agent runs.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    body::JsonBody,
    caller::Caller,
    error::ApiError,
    query::{Paging, ThreadFilter},
};
use crate::{
    app::App,
    clock,
    store::{
        posts::{self, Post},
        threads::{self, writable},
    },
};

/// The shortest and the longest message, in characters.
pub(crate) const LENGTHS: (usize, usize) = (1, 8000);

type Answer = Result<Json<Value>, ApiError>;

pub(crate) async fn create(State(app): State<Arc<App>>, caller: Caller, mut body: JsonBody) -> Answer {
    let post = Post {
        id: Uuid::new_v4().to_string(),
        content: body.text("content", LENGTHS.0, LENGTHS.1),
        thread_id: body.text("thread_id", 1, 200),
        user_id: caller.user_id,
        message_type: body.optional_text("message_type").unwrap_or_else(|| "user".to_owned()),
        metadata: body.optional_object("metadata"),
        timestamp: clock::iso(),
    };
    body.finish()?;
    let stored = app.store.call(move |db| match writable(threads::find(db, &post.thread_id)?, &post.user_id) {
        Ok(_) => posts::add(db, &post).map(|()| Ok(post)),
        Err(refusal) => Ok(Err(refusal)),
    });
    let post = stored.await??;
    Ok(Json(json!({"message": post.to_json(), "status": "created"})))
}

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Paging(window): Paging,
    ThreadFilter(thread): ThreadFilter,
) -> Answer {
    let page = app.store.call(move |db| posts::list(db, &caller.user_id, thread.as_deref(), window)).await?;
    let seen = window.offset.saturating_add(i64::try_from(page.items.len()).unwrap_or(i64::MAX));
    Ok(Json(json!({
        "messages": page.items.iter().map(Post::to_json).collect::<Vec<_>>(),
        "total_count": page.total,
        "page": (window.offset / window.limit).saturating_add(1),
        "page_size": window.limit,
        "has_more": seen < page.total,
    })))
}

pub(crate) async fn read(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    let post = with_post(&app, caller, id, |_, post| Ok(post)).await?;
    Ok(Json(post.to_json()))
}

pub(crate) async fn delete(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    let message_id = id.clone();
    with_post(&app, caller, id, |db, post| posts::delete(db, &post.id)).await?;
    Ok(Json(json!({"status": "deleted", "message_id": message_id})))
}

/// Does something with the caller's own message; the check and the work are one transaction.
async fn with_post<T: Send + 'static>(
    app: &App,
    caller: Caller,
    id: String,
    work: impl FnOnce(&Connection, Post) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = app.store.call(move |db| match readable(posts::find(db, &id)?, &caller.user_id) {
        Ok(post) => Ok(Ok(work(db, post)?)),
        Err(refusal) => Ok(Err::<T, ApiError>(refusal)),
    });
    done.await?
}

fn readable(post: Option<Post>, user: &str) -> Result<Post, ApiError> {
    match post {
        None => Err(ApiError::not_found("Message")),
        Some(post) if post.user_id != user => Err(ApiError::forbidden("Access denied")),
        Some(post) => Ok(post),
    }
}
