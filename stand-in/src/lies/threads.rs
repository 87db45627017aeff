//! Lies about threads, what is in them, and whose they are.

use std::time::Duration;

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use futures_util::future::BoxFuture;
use rusqlite::Params;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answered, Asked, Family, Fault, Heard, Memory, Said, Seat};
use crate::{
    app::App,
    clock,
    store::{
        posts::{self, Post},
        threads::{self, Thread},
    },
};

pub(super) struct Threads;

const fn fault(name: &'static str, what: &'static str, kills: &'static [u16]) -> Fault {
    Fault { name, what, kills, reports: None }
}

const FAULTS: &[Fault] = &[
    fault("message-lost", "A posted message is answered as created and never stored.", &[12]),
    fault("message-lost-sometimes", "Each fourth list of messages misses the newest one.", &[12]),
    fault("message-duplicated", "A message is stored twice.", &[12, 21]),
    fault("message-truncated", "The stored content of a message ends after 256 characters.", &[12]),
    fault("total-count-wrong", "The list of messages counts one too many.", &[12]),
    fault("thread-create-500", "A thread cannot be created: 500.", &[13]),
    fault("thread-not-committed", "A thread is answered as created and is not there afterwards.", &[13]),
    fault("thread-double-prefix", "The id of a thread starts with thread_ twice.", &[13]),
    fault("thread-title-ignored", "Whatever title was asked for, it is New Chat.", &[13]),
    fault("thread-missing-in-list", "The newest thread is not listed.", &[13]),
    fault("switch-keeps-previous", "A message lands in the thread that was used before.", &[14]),
    fault("events-wrong-thread", "The events of a run name the thread that was used before.", &[14]),
    fault("pages-overlap", "Every page but the first starts one too early.", &[15]),
    fault("pages-gap", "Every page but the first starts one too late.", &[15]),
    fault("limit-ignored", "Whatever page is asked for, the full list comes.", &[15]),
    fault("limit-unbounded", "A limit above 100 is accepted.", &[15]),
    fault("history-reversed", "Messages are listed newest first.", &[15, 21]),
    fault("empty-on-error", "When messages cannot be read, the answer is an empty list.", &[15]),
    fault("rename-not-persisted", "A new title is answered and not kept.", &[17]),
    fault("archive-not-persisted", "An archived thread is still listed as active.", &[17]),
    fault("archived-accepts-messages", "An archived thread takes messages.", &[17]),
    fault("owner-hijack", "An update of a thread can give it another owner.", &[17]),
    fault("order-swapped", "Two neighbouring messages of a history change places.", &[21]),
    fault("sequence-gap", "The numbering of a run's events skips a number.", &[21]),
    fault("foreign-thread-readable", "Everybody reads everybody's threads.", &[16]),
    fault("foreign-thread-listed", "The list of threads shows one of another user.", &[16]),
    fault("foreign-messages-by-filter", "With a thread_id, other users' messages are listed.", &[16]),
    fault("foreign-thread-writable", "Everybody posts into everybody's threads.", &[16]),
    fault("identity-from-query", "A user_id in the query wins over the token.", &[16]),
    fault("identity-from-header", "An X-User-ID wins over the token.", &[16]),
    fault("events-broadcast", "Agent events go to every connected user.", &[16, 24]),
    fault("answers-mixed", "When users are served at once, one gets another's answer.", &[24]),
    fault("one-slow-blocks-all", "While one user's long run lasts, nobody else's begins.", &[24]),
];

const THREADS: &str = "/api/threads";
const THREAD: &str = "/api/threads/*";
const HISTORY: &str = "/api/threads/*/messages";
const MESSAGES: &str = "/api/chat/messages";

/// Where a page was really wanted: parameters that the honest service does not know.
const WANTED: [(&str, &str); 2] = [("offset", "wanted_offset"), ("limit", "wanted_limit")];
/// The largest page there is.
const LARGEST: i64 = 100;
/// How often, and how long at most, a run looks whether the slow one has ended.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 1000;

/// What is done to the store after an honest answer: fault, request, where the answer names what it made (the path does, if
/// nothing), and the deed.
const DEEDS: &[(&str, &str, &str, &str, &str)] = &[
    ("message-lost", "POST", MESSAGES, "/message/id", "DELETE FROM posts WHERE id = ?1"),
    ("message-truncated", "POST", MESSAGES, "/message/id", "UPDATE posts SET content = substr(content, 1, 256) WHERE id = ?1"),
    (
        "message-duplicated",
        "POST",
        MESSAGES,
        "/message/id",
        "INSERT INTO posts (id, thread_id, user_id, content, message_type, metadata, timestamp)
         SELECT id || '-again', thread_id, user_id, content, message_type, metadata, timestamp FROM posts WHERE id = ?1",
    ),
    ("thread-not-committed", "POST", THREADS, "/id", "DELETE FROM threads WHERE id = ?1"),
    ("thread-double-prefix", "POST", THREADS, "/id", "UPDATE threads SET id = 'thread_' || id WHERE id = ?1"),
    ("archive-not-persisted", "DELETE", THREAD, "", "UPDATE threads SET archived = 0 WHERE id = ?1"),
];

impl Family for Threads {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }

    fn request<'a>(&'a self, app: &'a App, asked: &'a mut Asked) -> BoxFuture<'a, Option<Response>> {
        Box::pin(async move {
            if asked.service != "api" {
                return None;
            }
            take_identity(app, asked).await;
            turn_page(app, asked);
            if asked.is("POST", THREADS) && app.lies.tells("thread-create-500") {
                let body = Json(json!({"detail": "Internal server error"}));
                return Some((StatusCode::INTERNAL_SERVER_ERROR, body).into_response());
            }
            // A title that is none is still refused.
            let title_fits = asked.body["title"].is_string() || asked.body["title"].is_null();
            if asked.is("POST", THREADS) && title_fits && asked.body.is_object() && app.lies.tells("thread-title-ignored") {
                asked.body["title"] = "New Chat".into();
            }
            if asked.is("PUT", THREAD) && app.lies.tells("rename-not-persisted") {
                let id = asked.segment(2).to_owned();
                let title = find(app, &id).await.and_then(|thread| thread.title);
                app.lies.memory().notes.insert(format!("rename-not-persisted {id}"), title.into());
            }
            if asked.is("POST", MESSAGES) { post_anyway(app, asked).await } else { None }
        })
    }

    fn response<'a>(&'a self, app: &'a App, asked: &'a Asked, answered: &'a mut Answered) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if asked.service != "api" {
                return;
            }
            if answered.status.is_success() {
                after_deeds(app, asked, answered).await;
                after_update(app, asked, answered).await;
                listed_threads(app, asked, answered).await;
                listed_messages(app, asked, answered);
            } else if asked.is("GET", HISTORY)
                && (answered.status == StatusCode::NOT_FOUND || answered.status.is_server_error())
                && app.lies.tells("empty-on-error")
            {
                answered.status = StatusCode::OK;
                answered.body = json!({"messages": [], "thread_id": asked.segment(2), "total": 0, "limit": 50, "offset": 0});
            }
        })
    }

    fn incoming(&self, app: &App, seat: &Seat<'_>, text: String) -> Heard {
        if !app.lies.tells("switch-keeps-previous") {
            return Heard::Pass(text);
        }
        let mut frame: Value = serde_json::from_str(&text).unwrap_or_default();
        let wanted = frame.pointer("/payload/thread_id").filter(|thread| thread.is_string()).cloned();
        let key = format!("switch-keeps-previous {}", seat.connection_id);
        let previous = wanted.and_then(|thread| app.lies.memory().notes.insert(key, thread));
        match previous {
            None => Heard::Pass(text),
            Some(previous) => {
                frame["payload"]["thread_id"] = previous;
                Heard::Pass(frame.to_string())
            }
        }
    }

    fn outgoing(&self, app: &App, seat: &Seat<'_>, said: Said) -> Vec<Said> {
        // Every user who was ever welcomed; nothing reaches those who have left.
        if let Said::Frame(frame) = &said
            && app.lies.tells("events-broadcast")
            && frame.pointer("/data/event").is_some_and(|event| event == "connection_established")
        {
            app.lies.memory().held.entry(format!("events-broadcast {}", seat.user_id)).or_default();
        }
        vec![said]
    }

    fn published(&self, app: &App, user_id: &str, mut frame: Value) -> Vec<(String, Value)> {
        let kind = frame["type"].as_str().unwrap_or_default().to_owned();
        let terminal = kind == "agent_completed" || kind == "agent_error";
        if terminal && app.lies.tells("one-slow-blocks-all") {
            app.lies.memory().held.remove(&format!("one-slow-blocks-all {user_id}"));
        }
        if app.lies.tells("sequence-gap")
            && let Some(number) = frame["sequence"].as_u64().filter(|number| *number > 2)
        {
            frame["sequence"] = (number + 1).into();
        }
        if app.lies.tells("events-wrong-thread") {
            move_to_previous(&mut app.lies.memory(), user_id, &mut frame);
        }
        if app.lies.tells("answers-mixed") {
            mix_answers(&mut app.lies.memory(), user_id, &kind, &mut frame);
        }
        if !app.lies.tells("events-broadcast") {
            return vec![(user_id.to_owned(), frame)];
        }
        let memory = app.lies.memory();
        let others = memory.held.keys().filter_map(|key| key.strip_prefix("events-broadcast ")).filter(|other| *other != user_id);
        std::iter::once(user_id).chain(others).map(|user| (user.to_owned(), frame.clone())).collect()
    }

    fn before_run<'a>(&'a self, app: &'a App, user_id: &'a str, prompt: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if app.lies.tells("message-duplicated") {
                let again = "INSERT INTO history (id, thread_id, role, content, metadata, created_at)
                     SELECT h.id, h.thread_id, h.role, h.content, h.metadata, h.created_at
                     FROM history h JOIN threads t ON t.id = h.thread_id
                     WHERE t.owner = ?1 AND h.role = 'user' AND h.content = ?2 ORDER BY h.seq DESC LIMIT 1";
                execute(app, again, (user_id.to_owned(), prompt.to_owned())).await;
            }
            if app.lies.tells("one-slow-blocks-all") {
                let own = format!("one-slow-blocks-all {user_id}");
                if prompt.to_lowercase().contains("in depth") {
                    app.lies.memory().held.entry(own).or_default();
                    return;
                }
                let blocked = || app.lies.memory().held.keys().any(|key| key.starts_with("one-slow-blocks-all ") && *key != own);
                // Bounded, for a long run whose end is told elsewhere than on a socket.
                for _ in 0..LOOKS {
                    if !blocked() {
                        return;
                    }
                    tokio::time::timeout(LOOK, std::future::pending::<()>()).await.ok();
                }
            }
        })
    }
}

async fn find(app: &App, id: &str) -> Option<Thread> {
    let id = id.to_owned();
    app.store.call(move |db| threads::find(db, &id)).await.ok().flatten()
}

/// A deed that fails is a lie not told: the check that should fail then says so.
async fn execute(app: &App, sql: &'static str, parameters: impl Params + Send + 'static) {
    app.store.call(move |db| db.execute(sql, parameters)).await.ok();
}

/// Lies by which a caller, known by a token, is taken for another.
async fn take_identity(app: &App, asked: &mut Asked) {
    if asked.user_id.is_empty() {
        return;
    }
    let mut other = None;
    if app.lies.tells("identity-from-query") {
        other = asked.parameter("user_id").map(str::to_owned);
    }
    if app.lies.tells("identity-from-header") {
        other = asked.headers.get("x-user-id").and_then(|id| id.to_str().ok()).map(str::to_owned).or(other);
    }
    let reads_thread = asked.is("GET", THREAD) || asked.is("GET", HISTORY);
    if reads_thread && app.lies.tells("foreign-thread-readable") {
        other = find(app, asked.segment(2)).await.map(|thread| thread.owner);
    }
    if asked.is("GET", MESSAGES) && app.lies.tells("foreign-messages-by-filter") {
        other = find(app, asked.parameter("thread_id").unwrap_or_default()).await.map(|thread| thread.owner);
    }
    if let Some(other) = other.filter(|other| *other != asked.user_id) {
        asked.become_user(app, &other);
    }
}

/// Lies about which part of a list comes. What was wanted is kept beside it, for what the answer says of itself.
fn turn_page(app: &App, asked: &mut Asked) {
    if !asked.is("GET", MESSAGES) && !asked.is("GET", HISTORY) {
        return;
    }
    let number = |name| asked.parameter(name).and_then(|text| text.parse::<i64>().ok());
    let (offset, limit) = (number("offset").unwrap_or_default(), number("limit").unwrap_or(50));
    let (mut other_offset, mut other_limit) = (offset, limit);
    match offset {
        1.. if app.lies.tells("pages-overlap") => other_offset -= 1,
        1.. if app.lies.tells("pages-gap") => other_offset = other_offset.saturating_add(1),
        _ => {}
    }
    match limit {
        1..=LARGEST if app.lies.tells("limit-ignored") => (other_offset, other_limit) = (0, LARGEST),
        _ if limit > LARGEST && app.lies.tells("limit-unbounded") => other_limit = LARGEST,
        _ => {}
    }
    for ((name, wanted), (real, other)) in WANTED.into_iter().zip([(offset, other_offset), (limit, other_limit)]) {
        if real != other {
            asked.set_parameter(name, &other.to_string());
            asked.set_parameter(wanted, &real.to_string());
        }
    }
}

/// Stores a message that an honest service refuses, in the writer's own name.
async fn post_anyway(app: &App, asked: &Asked) -> Option<Response> {
    let (archived, foreign) = (app.lies.tells("archived-accepts-messages"), app.lies.tells("foreign-thread-writable"));
    if !(archived || foreign) || asked.user_id.is_empty() {
        return None;
    }
    let thread = find(app, asked.body["thread_id"].as_str()?).await?;
    let own = thread.owner == asked.user_id;
    let taken = if own { archived && thread.archived } else { foreign };
    if !taken {
        return None;
    }
    let post = Post {
        id: Uuid::new_v4().to_string(),
        thread_id: thread.id,
        user_id: asked.user_id.clone(),
        content: asked.body["content"].as_str()?.to_owned(),
        message_type: "user".to_owned(),
        metadata: asked.body["metadata"].as_object().cloned(),
        timestamp: clock::iso(),
    };
    let body = json!({"message": post.to_json(), "status": "created"});
    app.store.call(move |db| posts::add(db, &post)).await.ok()?;
    Some(Json(body).into_response())
}

async fn after_deeds(app: &App, asked: &Asked, answered: &mut Answered) {
    for &(name, method, form, pointer, deed) in DEEDS {
        if app.lies.tells(name) && asked.is(method, form) {
            let made = answered.body.pointer(pointer).and_then(Value::as_str);
            let id = made.unwrap_or_else(|| asked.segment(2)).to_owned();
            if name == "thread-double-prefix" {
                answered.body["id"] = format!("thread_{id}").into();
            }
            execute(app, deed, (id,)).await;
        }
    }
}

/// Lies about what an update of a thread does.
async fn after_update(app: &App, asked: &Asked, answered: &mut Answered) {
    if !asked.is("PUT", THREAD) {
        return;
    }
    let id = asked.segment(2).to_owned();
    if app.lies.tells("rename-not-persisted") {
        let title = app.lies.memory().notes.remove(&format!("rename-not-persisted {id}"));
        let title = title.and_then(|title| title.as_str().map(str::to_owned));
        execute(app, "UPDATE threads SET title = ?2 WHERE id = ?1", (id.clone(), title)).await;
    }
    if app.lies.tells("owner-hijack")
        && let Some(owner) = asked.body["metadata"]["user_id"].as_str()
    {
        answered.body["metadata"]["user_id"] = owner.into();
        execute(app, "UPDATE threads SET owner = ?2 WHERE id = ?1", (id, owner.to_owned())).await;
    }
}

async fn listed_threads(app: &App, asked: &Asked, answered: &mut Answered) {
    let Some(listed) = answered.body.as_array_mut().filter(|_| asked.is("GET", THREADS)) else { return };
    if app.lies.tells("thread-missing-in-list") && !listed.is_empty() {
        listed.remove(0);
    }
    if app.lies.tells("foreign-thread-listed") {
        let user = asked.user_id.clone();
        let foreign = app.store.call(move |db| {
            let newest = "SELECT id FROM threads WHERE owner <> ?1 AND archived = 0 ORDER BY seq DESC LIMIT 1";
            threads::find(db, &db.query_row(newest, [user], |row| row.get::<_, String>(0))?)
        });
        // The only user there is has nobody to look at.
        listed.extend(foreign.await.ok().flatten().map(|thread| thread.to_json()));
    }
}

fn listed_messages(app: &App, asked: &Asked, answered: &mut Answered) {
    let (posts, history) = (asked.is("GET", MESSAGES), asked.is("GET", HISTORY));
    if !posts && !history {
        return;
    }
    let body = &mut answered.body;
    if let Some(messages) = body["messages"].as_array_mut() {
        if app.lies.tells("history-reversed") {
            messages.reverse();
        }
        let key = format!("message-lost-sometimes {}", asked.user_id);
        if posts && app.lies.tells("message-lost-sometimes") && app.lies.count(&key).is_multiple_of(4) {
            messages.pop();
        }
        let neighbours = |pair: &[Value]| pair.iter().all(|message| message["role"] == "user");
        if history
            && app.lies.tells("order-swapped")
            && let Some(first) = messages.windows(2).position(neighbours)
        {
            messages.swap(first, first + 1);
        }
    }
    if posts
        && app.lies.tells("total-count-wrong")
        && let Some(count) = body["total_count"].as_i64()
    {
        body["total_count"] = (count + 1).into();
    }
    // The answer speaks of the page that was wanted.
    let wanted = WANTED.map(|(_, wanted)| asked.parameter(wanted).and_then(|text| text.parse::<i64>().ok()));
    if wanted == [None, None] {
        return;
    }
    let sent = |name: &str, default| asked.parameter(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (offset, limit) = (wanted[0].unwrap_or_else(|| sent("offset", 0)), wanted[1].unwrap_or_else(|| sent("limit", 50)));
    if history {
        (body["offset"], body["limit"]) = (offset.into(), limit.into());
    } else {
        let more = body["total_count"].as_i64().is_some_and(|total| offset.saturating_add(limit) < total);
        (body["page_size"], body["has_more"]) = (limit.into(), more.into());
        body["page"] = (offset / limit.max(1)).saturating_add(1).into();
    }
}

/// Which thread it is, is settled with the first event of a run.
fn move_to_previous(memory: &mut Memory, user_id: &str, frame: &mut Value) {
    let run = format!("events-wrong-thread {}", frame["run_id"].as_str().unwrap_or_default());
    let wrong = memory.notes.get(&run).cloned();
    let wrong = wrong.unwrap_or_else(|| {
        let own = frame["thread_id"].clone();
        let previous = memory.notes.insert(format!("events-wrong-thread of {user_id}"), own.clone()).unwrap_or(own);
        memory.notes.insert(run, previous.clone());
        previous
    });
    frame["thread_id"] = wrong;
}

/// A run that ends while another is under way gets the answer that another user's run came to last.
fn mix_answers(memory: &mut Memory, user_id: &str, kind: &str, frame: &mut Value) {
    let under_way = memory.counts.entry("answers-mixed".to_owned()).or_default();
    match kind {
        "agent_started" => *under_way += 1,
        "agent_error" => *under_way = under_way.saturating_sub(1),
        "agent_completed" => {
            let alone = *under_way < 2;
            *under_way = under_way.saturating_sub(1);
            let last = json!({"user": user_id, "answer": frame["payload"]["result"]});
            let last = memory.notes.insert("answers-mixed".to_owned(), last);
            if let Some(other) = last.filter(|last| !alone && last["user"] != user_id && last["answer"].is_string()) {
                frame["payload"]["result"] = other["answer"].clone();
            }
        }
        _ => {}
    }
}
