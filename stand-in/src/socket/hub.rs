//! Who is connected, and telling all connections of one user.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::{
    app::App,
    lies::{Said, Seat},
};

/// What is to be sent to one connection.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    Text(Utf8Bytes),
    /// Close with this code and reason; nothing is sent after it.
    Close(u16, &'static str),
    /// Nothing more is sent, not even a close.
    Cut,
}

impl Outgoing {
    /// What lies make of it for this connection.
    pub(crate) fn told(self, app: &App, seat: &Seat<'_>) -> Vec<Self> {
        app.lies.outgoing(app, seat, self.said()).into_iter().map(Self::from).collect()
    }

    /// Waits as long as lies hold it up.
    pub(crate) async fn held_up(&self, app: &App, seat: &Seat<'_>, since: Instant) {
        app.lies.before_frame(app, seat, &self.said(), since).await;
    }

    fn said(&self) -> Said {
        match self {
            Self::Text(text) => Said::Frame(serde_json::from_str(text).unwrap_or_default()),
            Self::Close(code, reason) => Said::Close(*code, reason),
            Self::Cut => Said::Cut,
        }
    }
}

impl From<Said> for Outgoing {
    fn from(said: Said) -> Self {
        match said {
            Said::Frame(frame) => Self::from(frame),
            Said::Close(code, reason) => Self::Close(code, reason),
            Said::Cut => Self::Cut,
        }
    }
}

impl From<Value> for Outgoing {
    fn from(frame: Value) -> Self {
        Self::Text(frame.to_string().into())
    }
}

/// The way to one connection; each frame with the time at which it set out.
pub(crate) type Outbox = UnboundedSender<(Instant, Outgoing)>;

/// The open connections of every user.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<String, Vec<Member>>>>);

struct Member {
    connection_id: String,
    outbox: Outbox,
}

/// One connection's place in the hub; dropping it leaves.
pub(crate) struct Membership {
    hub: Hub,
    user_id: String,
    connection_id: String,
}

impl Hub {
    pub(crate) fn join(&self, user_id: &str, connection_id: &str, outbox: Outbox) -> Membership {
        let member = Member { connection_id: connection_id.to_owned(), outbox };
        self.members().entry(user_id.to_owned()).or_default().push(member);
        Membership { hub: self.clone(), user_id: user_id.to_owned(), connection_id: connection_id.to_owned() }
    }

    /// Sends to every open connection of this user, and to no other user's.
    pub(crate) fn publish(&self, user_id: &str, frame: Value) {
        let members = self.members();
        if let Some(connections) = members.get(user_id) {
            let frame = Outgoing::from(frame);
            for member in connections {
                // A connection that is just closing misses it.
                drop(member.outbox.send((Instant::now(), frame.clone())));
            }
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.members().values().map(Vec::len).sum()
    }

    fn members(&self) -> MutexGuard<'_, HashMap<String, Vec<Member>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut members = self.hub.members();
        if let Some(connections) = members.get_mut(&self.user_id) {
            connections.retain(|member| member.connection_id != self.connection_id);
            if connections.is_empty() {
                members.remove(&self.user_id);
            }
        }
    }
}
