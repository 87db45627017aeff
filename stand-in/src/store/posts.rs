//! Messages posted over HTTP to `/api/chat/messages`, and read back there.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::{Map, Value, json};

use super::{Page, Window, object};

/// A message posted over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) id: String,
    pub(crate) thread_id: String,
    pub(crate) user_id: String,
    pub(crate) content: String,
    pub(crate) message_type: String,
    pub(crate) metadata: Option<Map<String, Value>>,
    pub(crate) timestamp: String,
}

impl Post {
    /// The message as the API shows it.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.content,
            "user_id": self.user_id,
            "thread_id": self.thread_id,
            "timestamp": self.timestamp,
            "message_type": self.message_type,
            "metadata": self.metadata,
        })
    }
}

pub(crate) fn add(db: &Connection, post: &Post) -> rusqlite::Result<()> {
    db.prepare(
        "INSERT INTO posts (id, thread_id, user_id, content, message_type, metadata, timestamp)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        post.id,
        post.thread_id,
        post.user_id,
        post.content,
        post.message_type,
        post.metadata.clone().map(|metadata| Value::Object(metadata).to_string()),
        post.timestamp
    ])?;
    Ok(())
}

pub(crate) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<Post>> {
    db.prepare("SELECT * FROM posts WHERE id = ?1")?.query_row([id], post).optional()
}

/// The user's own messages, of one thread or of all, oldest first.
pub(crate) fn list(db: &Connection, user: &str, thread: Option<&str>, window: Window) -> rusqlite::Result<Page<Post>> {
    let items = db
        .prepare("SELECT * FROM posts WHERE user_id = ?1 AND (?2 IS NULL OR thread_id = ?2) ORDER BY seq LIMIT ?3 OFFSET ?4")?
        .query_map(params![user, thread, window.limit, window.offset], post)?
        .collect::<rusqlite::Result<_>>()?;
    let total = db
        .prepare("SELECT count(*) FROM posts WHERE user_id = ?1 AND (?2 IS NULL OR thread_id = ?2)")?
        .query_row(params![user, thread], |row| row.get(0))?;
    Ok(Page { items, total })
}

pub(crate) fn delete(db: &Connection, id: &str) -> rusqlite::Result<()> {
    db.prepare("DELETE FROM posts WHERE id = ?1")?.execute([id])?;
    Ok(())
}

fn post(row: &Row<'_>) -> rusqlite::Result<Post> {
    Ok(Post {
        id: row.get("id")?,
        thread_id: row.get("thread_id")?,
        user_id: row.get("user_id")?,
        content: row.get("content")?,
        message_type: row.get("message_type")?,
        metadata: row.get::<_, Option<String>>("metadata")?.map(|text| object(&text)),
        timestamp: row.get("timestamp")?,
    })
}
