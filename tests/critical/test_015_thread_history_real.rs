//! 015: the past can be read, page by page: complete, in order, with the right totals, within the promised limits.

use std::collections::BTreeSet;
use std::sync::Arc;

use netra_critical::history::{not_decreasing, pages_tile, same_sequence};
use netra_critical::http::Caller;
use netra_critical::identity::Identity;
use netra_critical::reply::Reply;
use netra_critical::time::{moment, now};
use netra_critical::{Area, Check, Cx, Held, Is, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 15,
    name: "test_015_thread_history_real",
    title: "the past can be read, page by page",
    area: Area::Messages,
    impact: "the past cannot be read",
    alone: false,
};

/// Does not divide the number of messages, so that the last page is a short one.
const PAGE: usize = 7;
/// The clocks of service and suite may differ by this much.
const CLOCK_SKEW_S: f64 = 300.0;
/// The largest `limit` of the contract.
const LARGEST: usize = 100;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_015_thread_history_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let (many, talk) = (cx.thread(&alice, "many").await?, cx.thread(&alice, "talk").await?);
            tokio::try_join!(posted(cx, &alice, &many), conversation(cx, &alice, &talk))?;
            Ok(())
        })
        .await
}

/// Messages posted over HTTP: they cost nothing, so there are many.
async fn posted(cx: &Cx, alice: &Arc<Identity>, thread: &str) -> Held {
    let api = cx.api(alice);
    let mut ids = Vec::new();
    for place in 1..=cx.settings().load.page_messages {
        let body = json!({"content": format!("message {place}"), "thread_id": thread});
        let reply = api.post("/api/chat/messages", body).send().await?;
        ids.push(reply.must("a message can be posted").text_at("/message/id")?);
    }
    let total = ids.len();
    let says = |limit: usize, offset: usize| {
        vec![
            ("total_count", Is::exactly(total)),
            ("has_more", Is::exactly(offset + limit < total)),
            ("page", Is::IntFrom(0)),
            ("page_size", Is::IntFrom(1)),
        ]
    };
    pages(cx, alice, "messages", &format!("/api/chat/messages?thread_id={thread}"), &ids, PAGE, says).await
}

/// What was said over the socket, and the answer to it: the thread's history.
async fn conversation(cx: &Cx, alice: &Arc<Identity>, thread: &str) -> Held {
    let socket = cx.socket(alice).await?;
    let question = cx.settings().prompts.question.as_str();
    cx.ask(&socket, Some(thread), question).await?;

    let path = format!("/api/threads/{thread}/messages");
    let whole = cx.api(alice).get(&path).send().await?;
    let messages = whole.must("a history can be read").list_at("/messages")?;
    for message in &messages {
        whole.must("every message of a history is complete").fields_of(
            message,
            &[
                ("/id", Is::Text),
                ("/content/0/type", Is::exactly("text")),
                ("/content/0/text/value", Is::Text),
                ("/created_at", Is::Moment),
                ("/metadata", Is::Object),
            ],
        )?;
    }
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().unwrap_or_default()).collect();
    whole
        .must("a history has the question and its answer, oldest first")
        .equal(roles.as_slice(), ["user", "assistant"].as_slice())?;
    whole
        .must("a history has the question as it was asked")
        .fields(&[("/messages/0/content/0/text/value", Is::exactly(question))])?;
    let times = messages.iter().filter_map(|message| moment(&message["created_at"]));
    let strange: Vec<_> = times.filter(|time| (time - now()).abs() > CLOCK_SKEW_S).collect();
    whole.must("every message of a history bears the time of its making").that(
        strange.is_empty(),
        format!("times within {CLOCK_SKEW_S} s of now"),
        format!("{strange:?}"),
    )?;
    let times = messages.iter().map(|message| &message["created_at"]);
    whole.must("times do not decrease in a history").hold(not_decreasing(times))?;

    let ids = ids_of(&messages);
    let different: BTreeSet<_> = ids.iter().collect();
    whole.must("every message of a history has an id of its own").equal(&different.len(), &ids.len())?;
    whole
        .must("a history says whose it is, and how long")
        .fields(&[("/total", Is::exactly(ids.len())), ("/thread_id", Is::exactly(thread))])?;
    let says = |limit: usize, offset: usize| {
        vec![
            ("total", Is::exactly(ids.len())),
            ("limit", Is::exactly(limit)),
            ("offset", Is::exactly(offset)),
            ("thread_id", Is::exactly(thread)),
        ]
    };
    pages(cx, alice, "a history", &path, &ids, 1, says).await?;
    let unknown = format!("/api/threads/thread_{}/messages", uuid::Uuid::new_v4().simple());
    cx.api(alice).get(unknown).send().await?.must("the history of an unknown thread is no empty history").refused(&[403, 404])
}

/// Wants pages of `limit` to be the list of these ids, oldest first, and each page to say what `says` gives.
async fn pages(
    cx: &Cx,
    who: &Arc<Identity>,
    what: &str,
    path: &str,
    ids: &[String],
    limit: usize,
    says: impl Fn(usize, usize) -> Vec<(&'static str, Is)>,
) -> Held {
    let page = async |api: &Caller, limit: usize, offset: usize| {
        let reply = api.get(path).query("limit", limit).query("offset", offset).send().await?;
        Ok((reply, limit, offset))
    };
    let told = |(reply, limit, offset): &(Reply, usize, usize)| {
        says(*limit, *offset).iter().try_for_each(|(field, is)| {
            let expect = reply.must(format!("{field} is right on every page of {what}"));
            expect.fields(&[(&format!("/{field}"), is.clone())])
        })
    };
    let api = cx.api(who);
    let whole = page(&api, LARGEST, 0).await?;
    let listed = whole.0.must(format!("a limit of 100 is taken for {what}")).list_at("/messages")?;
    let first = &ids[..ids.len().min(LARGEST)];
    whole.0.must(format!("{what} can be read whole, oldest first")).hold(same_sequence(first, &ids_of(&listed)))?;
    told(&whole)?;

    let (mut passes, mut replies) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let fresh = cx.api_on_new_connection(who)?;
        let mut pass = Vec::new();
        for offset in (0..ids.len()).step_by(limit) {
            let page = page(&fresh, limit, offset).await?;
            let messages = page.0.must(format!("a page of {what} can be read")).list_at("/messages")?;
            let obeyed = page.0.must(format!("a page of {what} obeys its limit"));
            obeyed.that(messages.len() <= limit, format!("at most {limit} messages"), messages.len())?;
            // A page that starts at the wrong place is judged below, where all pages are put together.
            let other = |message: &&Value| listed.iter().any(|whole| whole["id"] == message["id"] && whole != *message);
            let other = messages.iter().find(other).map(Value::to_string);
            page.0.must(format!("a page of {what} shows messages as the whole list does")).that(
                other.is_none(),
                "the same message",
                other.unwrap_or_default(),
            )?;
            pass.push(ids_of(&messages));
            replies.push(page);
        }
        passes.push(pass);
    }
    cx.must(format!("pages of {what} tile the list: no gap, no overlap")).hold(pages_tile(ids, &passes[0]))?;
    cx.must(format!("pages of {what} are the same when read again")).hold(pages_tile(&passes[0].concat(), &passes[1]))?;
    replies.iter().try_for_each(told)?;

    let past = page(&api, limit, ids.len() + limit).await?;
    past.0
        .must(format!("an offset past the end of {what} gives an empty page"))
        .status_and_json(&[200], &[("/messages", Is::exactly(json!([])))])?;
    told(&past)?;
    page(&api, LARGEST + 1, 0).await?.0.must(format!("a limit of 101 is refused for {what}")).invalid("limit")?;
    page(&api, 0, 0).await?.0.must(format!("a limit of 0 is refused for {what}")).invalid("limit")
}

fn ids_of(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| message["id"].as_str().unwrap_or_default().to_owned()).collect()
}
