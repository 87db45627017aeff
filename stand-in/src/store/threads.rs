//! Threads: who owns them, what they are called, whether they are archived.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Window, object};
use crate::clock;

/// Metadata the server keeps itself; whatever a client says of them is ignored.
const OURS: [&str; 4] = ["user_id", "status", "created_at", "updated_at"];

const COLUMNS: &str = "id, owner, title, metadata, archived, created_at, updated_at,
    (SELECT count(*) FROM history WHERE history.thread_id = threads.id) AS message_count";

/// A conversation.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) title: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) archived: bool,
    pub(crate) created_at: i64,
    pub(crate) updated_at: Option<i64>,
    pub(crate) message_count: i64,
}

/// Why a user may not do something with a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Unknown,
    Foreign,
    Archived,
}

impl Thread {
    /// The thread as the API shows it.
    pub(crate) fn to_json(&self) -> Value {
        let mut metadata = self.metadata.clone();
        metadata.insert("user_id".into(), self.owner.clone().into());
        if let Some(title) = &self.title {
            metadata.insert("title".into(), title.clone().into());
        }
        metadata.insert("status".into(), if self.archived { "archived" } else { "active" }.into());
        metadata.insert("created_at".into(), self.created_at.into());
        if let Some(updated_at) = self.updated_at {
            metadata.insert("updated_at".into(), updated_at.into());
        }
        json!({
            "id": self.id,
            "object": "thread",
            "title": self.title,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "metadata": metadata,
            "message_count": self.message_count,
        })
    }
}

/// Whether this user may see this thread: the one decision behind every 404 and 403 of a thread.
pub(crate) fn readable(thread: Option<Thread>, user: &str) -> Result<Thread, Refusal> {
    match thread {
        None => Err(Refusal::Unknown),
        Some(thread) if thread.owner != user => Err(Refusal::Foreign),
        Some(thread) => Ok(thread),
    }
}

/// Whether this user may add to this thread.
pub(crate) fn writable(thread: Option<Thread>, user: &str) -> Result<Thread, Refusal> {
    let thread = readable(thread, user)?;
    if thread.archived { Err(Refusal::Archived) } else { Ok(thread) }
}

pub(crate) fn create(db: &Connection, owner: &str, title: Option<&str>, metadata: Map<String, Value>) -> rusqlite::Result<Thread> {
    let thread = Thread {
        id: new_id(),
        owner: owner.to_owned(),
        title: title.map(str::to_owned),
        metadata: theirs(metadata),
        archived: false,
        created_at: clock::seconds(),
        updated_at: None,
        message_count: 0,
    };
    db.prepare("INSERT INTO threads (id, owner, title, metadata, created_at) VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        thread.id,
        owner,
        title,
        Value::Object(thread.metadata.clone()).to_string(),
        thread.created_at
    ])?;
    Ok(thread)
}

pub(crate) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<Thread>> {
    db.prepare(&format!("SELECT {COLUMNS} FROM threads WHERE id = ?1"))?.query_row([id], thread).optional()
}

/// The user's active threads, newest first. `created_at` counts in seconds, so the order of making breaks the tie.
pub(crate) fn list(db: &Connection, owner: &str, window: Window) -> rusqlite::Result<Vec<Thread>> {
    db.prepare(&format!("SELECT {COLUMNS} FROM threads WHERE owner = ?1 AND archived = 0 ORDER BY seq DESC LIMIT ?2 OFFSET ?3"))?
        .query_map(params![owner, window.limit, window.offset], thread)?
        .collect()
}

/// Gives the thread another title, and adds to its metadata.
pub(crate) fn update(
    db: &Connection,
    mut thread: Thread,
    title: Option<String>,
    metadata: Map<String, Value>,
) -> rusqlite::Result<Thread> {
    thread.title = title.or(thread.title);
    thread.metadata.extend(theirs(metadata));
    thread.updated_at = Some(clock::seconds());
    db.prepare("UPDATE threads SET title = ?2, metadata = ?3, updated_at = ?4 WHERE id = ?1")?.execute(params![
        thread.id,
        thread.title,
        Value::Object(thread.metadata.clone()).to_string(),
        thread.updated_at
    ])?;
    Ok(thread)
}

/// Archives the thread; doing it twice is no error.
pub(crate) fn archive(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.prepare("UPDATE threads SET archived = 1, updated_at = ?2 WHERE id = ?1 AND archived = 0")?
        .execute(params![id, clock::seconds()])?;
    Ok(())
}

fn new_id() -> String {
    format!("thread_{}", Uuid::new_v4().simple())
}

fn theirs(mut metadata: Map<String, Value>) -> Map<String, Value> {
    metadata.retain(|key, _| !OURS.contains(&key.as_str()));
    metadata
}

fn thread(row: &Row<'_>) -> rusqlite::Result<Thread> {
    Ok(Thread {
        id: row.get("id")?,
        owner: row.get("owner")?,
        title: row.get("title")?,
        metadata: object(&row.get::<_, String>("metadata")?),
        archived: row.get("archived")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        message_count: row.get("message_count")?,
    })
}
