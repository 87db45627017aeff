//! `/api/threads`: conversations and their histories.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{body::JsonBody, caller::Caller, error::ApiError, query::Paging};
use crate::{
    agent::terms::Terms,
    app::App,
    store::{
        history,
        threads::{self, Refusal, Thread, readable},
    },
};

type Answer = Result<Json<Value>, ApiError>;

pub(crate) async fn create(State(app): State<Arc<App>>, caller: Caller, mut body: JsonBody) -> Answer {
    let title = body.optional_text("title");
    let metadata = body.optional_object("metadata").unwrap_or_default();
    body.finish()?;
    let thread = app.store.call(move |db| threads::create(db, &caller.user_id, title.as_deref(), metadata)).await?;
    Ok(Json(thread.to_json()))
}

pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller, Paging(window): Paging) -> Answer {
    let threads = app.store.call(move |db| threads::list(db, &caller.user_id, window)).await?;
    Ok(Json(threads.iter().map(Thread::to_json).collect()))
}

pub(crate) async fn read(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    let thread = with_thread(&app, caller, id, |_, thread| Ok(thread)).await?;
    Ok(Json(thread.to_json()))
}

pub(crate) async fn update(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>, mut body: JsonBody) -> Answer {
    let title = body.optional_text("title");
    let metadata = body.optional_object("metadata").unwrap_or_default();
    body.finish()?;
    let thread = with_thread(&app, caller, id, |db, thread| threads::update(db, thread, title, metadata)).await?;
    Ok(Json(thread.to_json()))
}

pub(crate) async fn archive(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    with_thread(&app, caller, id, |db, thread| threads::archive(db, &thread.id)).await?;
    Ok(Json(json!({"message": "Thread archived successfully"})))
}

/// Names the thread after what its first questions are about.
pub(crate) async fn auto_rename(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Answer {
    let renamed = with_thread(&app, caller, id, |db, thread| {
        let questions = history::questions(db, &thread.id)?;
        let title = title_for(questions.last().map(String::as_str));
        threads::update(db, thread, Some(title), serde_json::Map::new())
    });
    Ok(Json(renamed.await?.to_json()))
}

pub(crate) async fn history(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>, Paging(window): Paging) -> Answer {
    let thread_id = id.clone();
    let page = with_thread(&app, caller, id, move |db, thread| history::list(db, &thread.id, window)).await?;
    Ok(Json(json!({
        "messages": page.items.iter().map(history::Entry::to_json).collect::<Vec<_>>(),
        "thread_id": thread_id,
        "total": page.total,
        "limit": window.limit,
        "offset": window.offset,
    })))
}

/// Does something with the caller's own thread; the check and the work are one transaction.
async fn with_thread<T: Send + 'static>(
    app: &App,
    caller: Caller,
    id: String,
    work: impl FnOnce(&Connection, Thread) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = app.store.call(move |db| match readable(threads::find(db, &id)?, &caller.user_id) {
        Ok(thread) => Ok(Ok(work(db, thread)?)),
        Err(refusal) => Ok(Err::<T, Refusal>(refusal)),
    });
    Ok(done.await??)
}

fn title_for(question: Option<&str>) -> String {
    let terms = question.map(Terms::of).unwrap_or_default();
    let words: Vec<String> = terms.words.into_iter().chain(terms.exact).take(4).collect();
    if words.is_empty() { "New conversation".to_owned() } else { words.join(" ") }
}
