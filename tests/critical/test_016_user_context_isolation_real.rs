//! 016: what belongs to one user is closed to every other and to nobody: by id, in lists, on sockets, under a borrowed name.

use netra_critical::event::{Run, events};
use netra_critical::expect::shown;
use netra_critical::history::same_sequence;
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

/// What Alice has. The run is in a thread of its own, because it writes there.
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
            }
            let threads = lists(&bobs, &bob.user_id, &estate, PLAINLY).await?;
            for how in [IN_QUERY, IN_HEADER] {
                let same = lists(&bobs, &bob.user_id, &estate, how).await?;
                cx.must(format!("the list of threads is the same{how}")).hold(same_sequence(&threads, &same))?;
            }
            for how in [PLAINLY, IN_QUERY, IN_HEADER, IN_BODY] {
                let body = named(json!({"title": cx.name("whose")}), &estate, how);
                let made = as_if(bobs.post("/api/threads", body), &estate, how).send().await?;
                cx.archive_later(&bob, &made.must(format!("an own thread can be created{how}")).text_at("/id")?);
                made.must(format!("a new thread belongs to its creator{how}"))
                    .fields(&[("/metadata/user_id", Is::exactly(bob.user_id.as_str()))])?;
                let body = named(json!({"content": "whose?", "thread_id": own_thread}), &estate, how);
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
                let unchanged = cx.must(format!("{what} is unchanged after the attempts"));
                unchanged.fields(&after, &[("", Is::Exactly(before.clone()))])?;
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
    let body = |body: Value| named(body, of, how);
    let content = || body(json!({"content": "from a stranger", "thread_id": thread}));
    let reading = [
        ("read a run's status", api.get(format!("/api/chat/agents/{run}/status"))),
        ("read a run's status by its other route", api.get(format!("/api/agent/{run}/status")).query("thread_id", talk)),
        ("read a thread", api.get(format!("/api/threads/{thread}"))),
        ("read a history", api.get(format!("/api/threads/{talk}/messages"))),
        ("read a message", api.get(format!("/api/chat/messages/{message}"))),
    ];
    let writing = [
        ("stop a run", api.post(format!("/api/chat/agents/{run}/stop"), body(json!({})))),
        ("cancel a run", api.post(format!("/api/chat/agents/{run}/cancel"), body(json!({})))),
        ("start a run", api.post(format!("/api/chat/agents/{run}/start"), body(json!({})))),
        ("rename a thread", api.put(format!("/api/threads/{thread}"), body(json!({"title": "from a stranger"})))),
        ("write a message into a thread", api.post("/api/chat/messages", content())),
        ("stream into a thread", api.post("/api/chat/stream", content())),
    ];
    let removing = [
        ("delete a message", api.delete(format!("/api/chat/messages/{message}"))),
        ("archive a thread", api.delete(format!("/api/threads/{thread}"))),
    ];
    if how == IN_BODY {
        return writing.into();
    }
    reading.into_iter().chain(writing).chain(removing).map(|(what, request)| (what, as_if(request, of, how))).collect()
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

/// Wants the lists of a user to hold nothing of the owner's; gives the ids of the threads.
async fn lists(api: &Caller, user_id: &str, owner: &Estate, how: &str) -> Held<Vec<String>> {
    let mut threads = Vec::new();
    for (what, path, list, user) in
        [("messages", "/api/chat/messages", "/messages", "/user_id"), ("threads", "/api/threads", "", "/metadata/user_id")]
    {
        let reply = as_if(api.get(path), owner, how).send().await?;
        let items = reply.must(format!("the list of {what} can be read{how}")).list_at(list)?;
        let foreign = items.iter().find(|item| item.pointer(user) != Some(&json!(user_id)));
        let only_own = reply.must(format!("the list of {what} has nothing of another user{how}"));
        only_own.that(foreign.is_none(), "only the caller's own", shown(foreign))?;
        threads = items.iter().map(|item| item["id"].as_str().unwrap_or_default().to_owned()).collect();
    }
    let filtered = api.get("/api/chat/messages").query("thread_id", &owner.thread);
    let reply = as_if(filtered, owner, how).send().await?;
    let expect = reply.must(format!("a filter for another user's thread gives none of its messages{how}"));
    match reply.status {
        200 => expect.fields(&[("/messages", Is::exactly(json!([])))])?,
        _ => expect.refused(&[403, 404])?,
    }
    Ok(threads)
}

/// What the attempts must leave alone.
async fn seen_by_owner(api: &Caller, of: &Estate) -> Held<Vec<(&'static str, Value)>> {
    let Estate { thread, message, .. } = of;
    let mut seen = Vec::new();
    for (what, path) in [
        ("the owner's thread", format!("/api/threads/{thread}")),
        ("the owner's message", format!("/api/chat/messages/{message}")),
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
