//! 016: what belongs to one user is closed to every other and to nobody: by id, in lists, on sockets, under a borrowed name.

use netra_critical::event::{Run, events};
use netra_critical::http::{Caller, Request};
use netra_critical::ws::{Arrived, Socket};
use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 16,
    name: "test_016_user_context_isolation_real",
    title: "what belongs to one user is closed to all others",
    area: Area::Messages,
    impact: "one customer reads another's data",
    alone: false,
};

/// What a user has. The run is in a thread of its own, because it writes there.
struct Estate {
    user_id: String,
    thread: String,
    message: String,
    talk: String,
    run: String,
}

/// How Bob asks: as himself, or under Alice's name.
const PLAINLY: &str = "";
const IN_QUERY: &str = ", with the owner's user_id in the query";
const IN_HEADER: &str = ", with the owner's id as X-User-ID";
const IN_BODY: &str = ", with the owner's user_id in the body";

#[rstest]
#[test_log::test(tokio::test)]
async fn test_016_user_context_isolation_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let [alice, bob] = cx.users(["alice", "bob"]).await?;
            let (alices, bobs) = (cx.api(&alice), cx.api(&bob));
            let (thread, talk) = (cx.thread(&alice, "private").await?, cx.thread(&alice, "talk").await?);
            let message = post(&alices, &thread).await?;
            let own_thread = cx.thread(&bob, "own").await?;
            let own = Estate {
                user_id: bob.user_id.clone(),
                message: post(&bobs, &own_thread).await?,
                thread: own_thread,
                talk: String::new(),
                run: String::new(),
            };
            let (alices_socket, bobs_socket) = tokio::try_join!(cx.socket(&alice), cx.socket(&bob))?;
            bobs_socket
                .must("the welcome of a socket names its own user")
                .fields(bobs_socket.welcome(), &[("/data/user_id", Is::exactly(bob.user_id.as_str()))])?;
            let mark = bobs_socket.mark();

            let message_id = uuid::Uuid::new_v4().to_string();
            alices_socket.say(&message_id, Some(&talk), &cx.settings().prompts.long);
            let run = alices_socket
                .gather("the owner's run starts", cx.run_deadline(), "an event of the run", |frames| {
                    Run::of_thread(&events(frames), &talk).first().map(|run| run.id.clone())
                })
                .await?;
            let estate = Estate { user_id: alice.user_id.clone(), thread, message, talk, run };
            let before = seen_by_owner(&alices, &estate).await?;

            for how in [PLAINLY, IN_QUERY, IN_HEADER, IN_BODY] {
                for (what, request) in attempts(&bobs, &estate, how) {
                    request.send().await?.must(format!("another user cannot {what}{how}")).refused(&[403, 404])?;
                }
                lists(&bobs, &own, &estate, how).await?;
                let body = named(json!({"title": cx.name("whose")}), &estate, how);
                let made = as_if(bobs.post("/api/threads", body), &estate, how).send().await?;
                cx.archive_later(&bob, &made.must(format!("a thread can be created{how}")).text_at("/id")?);
                made.must(format!("a new thread belongs to its creator{how}"))
                    .fields(&[("/metadata/user_id", Is::exactly(bob.user_id.as_str()))])?;
                let body = named(json!({"content": "whose?", "thread_id": own.thread}), &estate, how);
                let made = as_if(bobs.post("/api/chat/messages", body), &estate, how).send().await?;
                made.must(format!("a new message belongs to its writer{how}"))
                    .json(&[("/message/user_id", Is::exactly(bob.user_id.as_str()))])?;
            }
            let attempts = attempts(&cx.anonymous(), &estate, PLAINLY).into_iter();
            let listing = ["/api/threads", "/api/chat/messages"].map(|path| ("list anything", cx.anonymous().get(path)));
            for (what, request) in attempts.chain(listing) {
                request.send().await?.must(format!("an anonymous caller cannot {what}")).refused(&[401, 403])?;
            }
            over_socket(cx, &bobs_socket, &estate).await?;

            for ((what, before), (_, after)) in before.iter().zip(seen_by_owner(&alices, &estate).await?) {
                cx.must(format!("{what} is unchanged after the attempts")).equal(&after, before)?;
            }
            let run = alices_socket
                .gather("the owner's run ends", cx.run_deadline(), "the terminal event of the run", |frames| {
                    Some(Run::pick(&events(frames), &estate.run)).filter(|run| run.terminal().is_some())
                })
                .await?;
            let end = run.terminal().map(|event| event.payload["status"].clone()).unwrap_or_default();
            alices_socket.must("the owner's run completes in spite of the attempts").equal(&end, &json!("completed"))?;
            let heard = bobs_socket.quiet(mark).await?;
            bobs_socket.must("no event of one user reaches another's socket").hold(nothing_of(&heard, &estate, &message_id))
        })
        .await
}

/// Everything that can be tried on what belongs to somebody else, by its id. The run first: it is under way, but not for long.
fn attempts(api: &Caller, of: &Estate, how: &str) -> Vec<(&'static str, Request)> {
    let Estate { thread, message, talk, run, .. } = of;
    let nothing = || named(json!({}), of, how);
    let title = named(json!({"title": "from a stranger"}), of, how);
    let content = || named(json!({"content": "from a stranger", "thread_id": thread}), of, how);
    let attempts = [
        ("read a run's status", api.get(format!("/api/chat/agents/{run}/status"))),
        ("read a run's status by its other route", api.get(format!("/api/agent/{run}/status")).query("thread_id", talk)),
        ("stop a run", api.post(format!("/api/chat/agents/{run}/stop"), nothing())),
        ("cancel a run", api.post(format!("/api/chat/agents/{run}/cancel"), nothing())),
        ("start a run", api.post(format!("/api/chat/agents/{run}/start"), nothing())),
        ("read a thread", api.get(format!("/api/threads/{thread}"))),
        ("read a history", api.get(format!("/api/threads/{talk}/messages"))),
        ("rename a thread", api.put(format!("/api/threads/{thread}"), title)),
        ("archive a thread", api.delete(format!("/api/threads/{thread}"))),
        ("write a message into a thread", api.post("/api/chat/messages", content())),
        ("stream into a thread", api.post("/api/chat/stream", content())),
        ("read a message", api.get(format!("/api/chat/messages/{message}"))),
        ("delete a message", api.delete(format!("/api/chat/messages/{message}"))),
    ];
    attempts.into_iter().map(|(what, request)| (what, as_if(request, of, how))).collect()
}

/// The request with the owner's name on it.
fn as_if(request: Request, owner: &Estate, how: &str) -> Request {
    match how {
        IN_QUERY => request.query("user_id", &owner.user_id),
        IN_HEADER => request.header("X-User-ID", &owner.user_id),
        _ => request,
    }
}

/// The body with the owner's name in it.
fn named(mut body: Value, owner: &Estate, how: &str) -> Value {
    if how == IN_BODY {
        body["user_id"] = json!(owner.user_id);
        body["metadata"] = json!({"user_id": owner.user_id});
    }
    body
}

/// Wants the lists of a user to hold the user's own things and nothing of somebody else's.
async fn lists(api: &Caller, own: &Estate, other: &Estate, how: &str) -> Held {
    let filtered = |thread: &str| format!("/api/chat/messages?thread_id={thread}");
    for (what, path, list, user, wanted) in [
        ("the list of threads", "/api/threads".to_owned(), "", "/metadata/user_id", Some(&own.thread)),
        ("the messages of an own thread", filtered(&own.thread), "/messages", "/user_id", Some(&own.message)),
        ("the list of messages", "/api/chat/messages".to_owned(), "/messages", "/user_id", None),
    ] {
        let reply = as_if(api.get(path), other, how).send().await?;
        let items = reply.must(format!("a user can read {what}{how}")).list_at(list)?;
        let found = wanted.is_none_or(|id| items.iter().any(|item| item["id"] == id.as_str()));
        reply.must(format!("{what} has the user's own{how}")).that(found, format!("{wanted:?}"), reply.summary())?;
        let foreign = items.iter().find(|item| item.pointer(user) != Some(&json!(own.user_id)));
        reply.must(format!("{what} has nothing of another user{how}")).equal(&foreign, &None)?;
    }
    let reply = as_if(api.get(filtered(&other.thread)), other, how).send().await?;
    let expect = reply.must(format!("a filter for another user's thread gives none of its messages{how}"));
    match reply.status {
        200 => expect.fields(&[("/messages", Is::exactly(json!([]))), ("/total_count", Is::exactly(0))]),
        _ => expect.refused(&[403, 404]),
    }
}

/// What the attempts must leave alone.
async fn seen_by_owner(api: &Caller, of: &Estate) -> Held<Vec<(&'static str, Value)>> {
    let Estate { thread, message, .. } = of;
    let mut seen = Vec::new();
    for (what, path) in [
        ("the owner's thread", format!("/api/threads/{thread}")),
        ("the owner's message", format!("/api/chat/messages/{message}")),
        ("the list of the owner's messages", format!("/api/chat/messages?thread_id={thread}")),
        ("the history of the owner's thread", format!("/api/threads/{thread}/messages")),
    ] {
        let reply = api.get(path).send().await?;
        reply.must(format!("{what} can be read by its owner")).status(200)?;
        seen.push((what, reply.json().clone()));
    }
    Ok(seen)
}

async fn over_socket(cx: &Cx, socket: &Socket, of: &Estate) -> Held {
    let message_id = uuid::Uuid::new_v4().to_string();
    socket.say(&message_id, Some(&of.thread), "from a stranger");
    let answer = socket
        .receive("a socket message to another user's thread is answered", cx.ack_deadline(), "an error_message", |frame| {
            frame.kind() == "error_message" || frame.acknowledges(&message_id)
        })
        .await?;
    socket
        .must("a socket message to another user's thread is refused with THREAD_ACCESS_DENIED")
        .fields(&answer.data, &[("/type", Is::exactly("error_message")), ("/error_code", Is::exactly("THREAD_ACCESS_DENIED"))])?;
    socket.ping("the socket is usable after a refused message").await?;
    Ok(())
}

/// Judges what a socket heard: no agent event, and nothing that names the owner, the run or the message that started it.
fn nothing_of(heard: &[Arrived], of: &Estate, message_id: &str) -> Result<(), Mismatch> {
    let foreign = |frame: &&Arrived| {
        let text = frame.data.to_string();
        let named = [of.run.as_str(), &of.user_id, message_id].iter().any(|name| text.contains(name));
        named || !events(std::slice::from_ref(*frame)).is_empty()
    };
    let foreign = heard.iter().find(foreign);
    foreign.map_or(Ok(()), |frame| Err(Mismatch::new("no frame of another user", &frame.data)))
}

async fn post(api: &Caller, thread: &str) -> Held<String> {
    let reply = api.post("/api/chat/messages", json!({"content": "for the writer alone", "thread_id": thread})).send().await?;
    reply.must("a user can post to an own thread").text_at("/message/id")
}
