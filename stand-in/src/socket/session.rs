//! One open connection: welcome, heartbeat, frames in, frames out, close.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};
use uuid::Uuid;

use super::{
    HARD_LIMIT_BYTES, frames,
    hub::{Outbox, Outgoing},
    incoming,
    present::Refusal,
};
use crate::{
    app::{App, MAX_MESSAGE_BYTES},
    lies::{Heard, Seat},
    listener::GRACE,
    tasks::stopping,
};

const POLICY_VIOLATION: u16 = 1008;
const GOING_AWAY: u16 = 1001;
const TOO_BIG: u16 = 1009;
/// How long a client may take to answer a close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Says why the socket is refused, and closes it.
pub(super) async fn refuse(app: &Arc<App>, socket: WebSocket, refusal: &Refusal) {
    let (outbox, writer, mut incoming) = opened(app, socket, String::new(), String::new());
    say(&outbox, frames::error(app, refusal.code, &refusal.message));
    say(&outbox, Outgoing::Close(POLICY_VIOLATION, "SSOT Auth failed"));
    close(app, &mut incoming).await;
    drop(outbox);
    drop(writer.await);
}

/// Serves the connection of an authenticated user until it closes.
pub(super) async fn serve(app: Arc<App>, socket: WebSocket, user_id: String) {
    let connection_id = format!("ws_{}", Uuid::new_v4().simple());
    let (outbox, mut writer, mut incoming) = opened(&app, socket, user_id.clone(), connection_id.clone());
    // The welcome is in the queue before anything can be published to this connection.
    say(&outbox, frames::welcome(&app, &connection_id, &user_id));
    let membership = app.hub.join(&user_id, &connection_id, outbox.clone());
    let connection = Connection { app: Arc::clone(&app), user_id, id: connection_id, outbox };
    connection.run(&mut incoming).await;
    drop(membership);
    app.lies.left(&app, &Seat { user_id: &connection.user_id, connection_id: &connection.id });
    // Where the writer went first, the close is sent already; after a cut there is nobody to wait for.
    let writer_gone = connection.outbox.is_closed();
    let cut = writer_gone && (&mut writer).await.unwrap_or(true);
    if !cut {
        close(&app, &mut incoming).await;
    }
    drop(connection);
    if !writer_gone {
        drop(writer.await);
    }
}

/// One user's open connection.
pub(super) struct Connection {
    pub(super) app: Arc<App>,
    pub(super) user_id: String,
    id: String,
    outbox: Outbox,
}

impl Connection {
    /// Sends to this connection only.
    pub(super) fn say(&self, frame: impl Into<Outgoing>) {
        say(&self.outbox, frame);
    }

    async fn run(&self, incoming: &mut SplitStream<WebSocket>) {
        let mut heartbeat = interval_at(Instant::now() + self.app.heartbeat, self.app.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut stop = self.app.stop.clone();
        loop {
            tokio::select! {
                message = incoming.next() => match message {
                    // Only lies close or cut without the reader.
                    _ if self.outbox.is_closed() => return,
                    Some(Ok(Message::Text(text))) if text.len() > HARD_LIMIT_BYTES => return self.too_big(),
                    Some(Ok(Message::Binary(bytes))) if bytes.len() > HARD_LIMIT_BYTES => return self.too_big(),
                    Some(Ok(Message::Text(text))) if text.len() > MAX_MESSAGE_BYTES => self.too_large(text.len()),
                    Some(Ok(Message::Binary(bytes))) if bytes.len() > MAX_MESSAGE_BYTES => self.too_large(bytes.len()),
                    Some(Ok(Message::Text(text))) => self.heard(text.to_string()).await,
                    Some(Ok(Message::Binary(_))) => self.refuse("FORMAT_ERROR", "binary frames are not understood; send JSON as text"),
                    // Pings are answered by the library, and pongs need no answer.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                },
                _ = heartbeat.tick() => self.say(frames::ping()),
                () = self.outbox.closed(), if self.app.lies.any() => return,
                () = stopping(&mut stop) => return self.say(Outgoing::Close(GOING_AWAY, "server is stopping")),
            }
        }
    }

    async fn heard(&self, text: String) {
        let seat = Seat { user_id: &self.user_id, connection_id: &self.id };
        match self.app.lies.incoming(&self.app, &seat, text) {
            Heard::Pass(text) => incoming::handle(self, &text).await,
            Heard::Answer(said) => said.into_iter().for_each(|said| self.say(Outgoing::from(said))),
        }
    }

    /// Answers with an `error_message`; the socket stays open.
    pub(super) fn refuse(&self, code: &str, message: &str) {
        self.say(frames::error(&self.app, code, message));
    }

    fn too_large(&self, bytes: usize) {
        self.refuse("MESSAGE_TOO_LARGE", &format!("the frame has {bytes} bytes; {MAX_MESSAGE_BYTES} is the limit"));
    }

    fn too_big(&self) {
        self.say(Outgoing::Close(TOO_BIG, "message too big"));
    }
}

fn opened(
    app: &Arc<App>,
    socket: WebSocket,
    user_id: String,
    connection_id: String,
) -> (Outbox, tokio::task::JoinHandle<bool>, SplitStream<WebSocket>) {
    let (sink, incoming) = socket.split();
    let (outbox, queue) = mpsc::unbounded_channel();
    (outbox, tokio::spawn(write(Arc::clone(app), sink, queue, user_id, connection_id)), incoming)
}

/// The only writer of a connection: what is queued is sent, in that order, until a close. True if it ends with a cut.
async fn write(
    app: Arc<App>,
    mut sink: SplitSink<WebSocket, Message>,
    mut queue: UnboundedReceiver<(Instant, Outgoing)>,
    user_id: String,
    connection_id: String,
) -> bool {
    let seat = Seat { user_id: &user_id, connection_id: &connection_id };
    while let Some((since, outgoing)) = queue.recv().await {
        let all = if app.lies.any() { outgoing.told(&app, &seat) } else { vec![outgoing] };
        for outgoing in all {
            if app.lies.any() {
                let mut held_up = pin!(outgoing.held_up(&app, &seat, since));
                if held_up.as_mut().now_or_never().is_none() {
                    drop(sink.flush().await);
                    held_up.await;
                }
            }
            let (message, last) = match outgoing {
                Outgoing::Text(text) => (Message::Text(text), false),
                Outgoing::Close(code, reason) => (Message::Close(Some(CloseFrame { code, reason: reason.into() })), true),
                Outgoing::Cut => {
                    drop(sink.flush().await);
                    return true;
                }
            };
            if sink.feed(message).await.is_err() {
                return false;
            }
            if last {
                drop(sink.flush().await);
                return false;
            }
        }
        // What is said in one moment leaves together.
        if sink.flush().await.is_err() {
            return false;
        }
    }
    false
}

/// Reads to the end, so that a close is answered, whichever side began it.
async fn close(app: &App, incoming: &mut SplitStream<WebSocket>) {
    let limit = if *app.stop.borrow() { GRACE } else { CLOSE_LIMIT };
    let drained = async { while let Some(Ok(_)) = incoming.next().await {} };
    drop(timeout(limit, drained).await);
}

fn say(outbox: &Outbox, frame: impl Into<Outgoing>) {
    // A connection whose writer is gone is closing; its reader notices by itself.
    drop(outbox.send((Instant::now(), frame.into())));
}
