//! What survives a restart: one `SQLite` file, one connection, one thread that owns it.
//!
//! Work is sent to the thread as closures and awaited, so that no async worker ever blocks on a disk, and two requests can
//! never be inside the store at once: what a closure does is atomic to all others.

pub(crate) mod accounts;
pub(crate) mod history;
pub(crate) mod posts;
pub(crate) mod threads;

use std::{
    collections::HashSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use rusqlite::Connection;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS threads (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, title TEXT,
        metadata TEXT NOT NULL, archived INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL, updated_at INTEGER);
    CREATE INDEX IF NOT EXISTS threads_of_owner ON threads (owner, archived, seq);
    CREATE TABLE IF NOT EXISTS posts (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, thread_id TEXT NOT NULL REFERENCES threads (id),
        user_id TEXT NOT NULL, content TEXT NOT NULL, message_type TEXT NOT NULL, metadata TEXT, timestamp TEXT NOT NULL);
    CREATE INDEX IF NOT EXISTS posts_of_thread ON posts (user_id, thread_id, seq);
    CREATE TABLE IF NOT EXISTS history (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, thread_id TEXT NOT NULL REFERENCES threads (id),
        role TEXT NOT NULL, content TEXT NOT NULL, metadata TEXT NOT NULL, created_at INTEGER NOT NULL);
    CREATE INDEX IF NOT EXISTS history_of_thread ON history (thread_id, seq);
    CREATE TABLE IF NOT EXISTS accounts (
        id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, salt BLOB NOT NULL, hash BLOB NOT NULL,
        created_at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS revoked (jti TEXT PRIMARY KEY, expires_at INTEGER NOT NULL);
";

/// The store did not do it. What went wrong is for us, not for clients.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// The store is closed, or the work panicked.
    Gone,
    /// `SQLite` refused.
    Sql(rusqlite::Error),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("the store is closed"),
            Self::Sql(cause) => write!(f, "the store failed: {cause}"),
        }
    }
}

/// The handle to the thread that owns the connection.
pub(crate) struct Store {
    work: Mutex<Option<mpsc::Sender<Work>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    revoked_at_open: HashSet<String>,
}

impl Store {
    /// Opens the file and makes the tables; an error is text for a person.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let mut connection = connect(path).map_err(|e| e.to_string())?;
        let revoked_at_open = accounts::revoked(&connection).map_err(|e| e.to_string())?;
        let (work, queue) = mpsc::channel::<Work>();
        let thread = std::thread::Builder::new()
            .name("stand-in-store".to_owned())
            .spawn(move || {
                for work in queue {
                    // A panic is that request's failure; the others go on. An open transaction was rolled back by unwinding.
                    drop(catch_unwind(AssertUnwindSafe(|| work(&mut connection))));
                }
            })
            .map_err(|e| e.to_string())?;
        Ok(Self { work: Mutex::new(Some(work)), thread: Mutex::new(Some(thread)), revoked_at_open })
    }

    /// The ids of refused tokens, as they were when the store was opened.
    pub(crate) fn revoked_at_open(&self) -> HashSet<String> {
        self.revoked_at_open.clone()
    }

    /// Does the work on the store's thread, as one transaction.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let done = connection.transaction().and_then(|transaction| {
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            });
            // Whoever asked may have left.
            drop(answer.send(done));
        });
        match self.work.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(queue) => queue.send(work).map_err(|_| StoreError::Gone)?,
            None => return Err(StoreError::Gone),
        }
        answered.await.map_err(|_| StoreError::Gone)?.map_err(StoreError::Sql)
    }

    /// Finishes what was asked, then closes the file. Later work is refused.
    pub(crate) fn close(&self) {
        drop(self.work.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(thread.join());
        }
    }
}

/// Whether the store answers.
pub(crate) fn ping(db: &Connection) -> rusqlite::Result<()> {
    db.query_row("SELECT EXISTS (SELECT 1 FROM threads)", [], |_| Ok(()))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // Returns the mode it got, hence not `execute`.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(SCHEMA)?;
    Ok(connection)
}

/// A stored JSON object. We wrote it, so a broken one counts as empty.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// What a page shows, and how many there are in all.
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    pub(crate) total: i64,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) limit: i64,
    pub(crate) offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_the_work_is_that_requests_failure_only() {
        let folder = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&folder.path().join("s.sqlite")).expect("open");
        let panicked: Result<(), _> = store.call(|_| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(StoreError::Gone)));
        store.call(ping).await.expect("still alive");
        store.close();
        assert!(matches!(store.call(ping).await, Err(StoreError::Gone)));
    }
}
