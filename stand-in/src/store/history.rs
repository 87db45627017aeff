//! A thread's history: what was said over the socket or the stream, and what the agent answered.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value, json};

use super::{Page, Window, object};
use crate::clock;

/// How many earlier questions an agent is shown.
const REMEMBERED: i64 = 20;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One entry of a thread's history.
pub(crate) struct Entry {
    id: String,
    role: String,
    content: String,
    metadata: Map<String, Value>,
    created_at: i64,
}

impl Entry {
    /// The entry as the API shows it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "role": self.role,
            "content": [{"type": "text", "text": {"value": self.content}}],
            "created_at": self.created_at,
            "metadata": self.metadata,
        })
    }
}

/// Adds to the end of the thread.
pub(crate) fn add(db: &Connection, thread_id: &str, id: &str, role: Role, content: &str, metadata: &Value) -> rusqlite::Result<()> {
    db.prepare("INSERT INTO history (id, thread_id, role, content, metadata, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![id, thread_id, role.name(), content, metadata.to_string(), clock::seconds()])?;
    Ok(())
}

/// Oldest first; the order of arrival is the order, whatever the clock did.
pub(crate) fn list(db: &Connection, thread_id: &str, window: Window) -> rusqlite::Result<Page<Entry>> {
    let items = db
        .prepare("SELECT * FROM history WHERE thread_id = ?1 ORDER BY seq LIMIT ?2 OFFSET ?3")?
        .query_map(params![thread_id, window.limit, window.offset], entry)?
        .collect::<rusqlite::Result<_>>()?;
    let total = db.prepare("SELECT count(*) FROM history WHERE thread_id = ?1")?.query_row([thread_id], |row| row.get(0))?;
    Ok(Page { items, total })
}

/// What the user asked in this thread so far, newest first.
pub(crate) fn questions(db: &Connection, thread_id: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare("SELECT content FROM history WHERE thread_id = ?1 AND role = 'user' ORDER BY seq DESC LIMIT ?2")?
        .query_map(params![thread_id, REMEMBERED], |row| row.get(0))?
        .collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get("id")?,
        role: row.get("role")?,
        content: row.get("content")?,
        metadata: object(&row.get::<_, String>("metadata")?),
        created_at: row.get("created_at")?,
    })
}
