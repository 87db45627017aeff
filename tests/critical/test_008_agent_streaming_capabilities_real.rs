//! 008: an answer comes as a stream of events, whole and in the order of the contract; a bad request never becomes one.

use netra_critical::event::is_real;
use netra_critical::exchange::ms;
use netra_critical::expect::{difference, fields};
use netra_critical::identity::{Credential, Identity};
use netra_critical::sse::{StreamEvent, Streamed};
use netra_critical::text::of_length;
use netra_critical::time::now_seconds;
use netra_critical::token::Claims;
use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::json;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 8,
    name: "test_008_agent_streaming_capabilities_real",
    title: "an answer is streamed, whole and in order",
    area: Area::Agents,
    impact: "the answer never appears",
    alone: false,
};

const STREAM: &str = "/api/chat/stream";

/// Frames in the order of the contract (section 5); those of one step stand together.
const ORDER: [&[&str]; 9] = [
    &["stream_start"],
    &["user_message"],
    &["agent_started"],
    &["agent_thinking"],
    &["tool_executing", "tool_completed"],
    &["response_chunk"],
    &["response_complete"],
    &["agent_completed"],
    &["stream_end"],
];

#[rstest]
#[test_log::test(tokio::test)]
async fn test_008_agent_streaming_capabilities_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let thread = cx.thread(&alice, "stream").await?;
            let api = cx.api(&alice);
            let question = cx.settings().prompts.question.as_str();
            let good = json!({"content": question, "thread_id": thread});
            let stream = api.post(STREAM, good.clone()).within(cx.run_deadline()).stream().await?;

            let opened =
                format!("status {} {:?} {}", stream.status, stream.content_type, netra_critical::exchange::cut(&stream.body, 300));
            stream.must("the stream is opened").that(stream.status == 200, "status 200", &opened)?;
            let is_stream = stream.content_type.starts_with("text/event-stream");
            stream.must("the stream is an event stream").that(is_stream, "text/event-stream", &opened)?;
            stream.must("every frame of the stream is data with a JSON object").that(
                stream.malformed.is_empty() && !stream.events.is_empty(),
                "lines `data: <json>`, each followed by an empty line",
                format!("{} frames, and {:?}", stream.events.len(), stream.malformed),
            )?;
            stream.must("no error comes inside the stream").hold(no_error(&stream))?;
            in_order(&stream, question, &thread)?;

            let chunks: String = stream.of_kind("response_chunk").filter_map(|chunk| chunk.data["content"].as_str()).collect();
            let answer = stream.of_kind("response_complete").find_map(|event| event.data["message"].as_str()).unwrap_or_default();
            let same = if chunks == answer { Ok(()) } else { Err(difference(answer, &chunks)) };
            stream.must("the chunks together are the final message").hold(same)?;
            stream.must("the answer is the agent's own work").hold(is_real(answer, question))?;
            let took = stream.of_kind("agent_completed").find_map(|event| event.data["duration_ms"].as_f64()).unwrap_or(-1.0);
            let wall = ms(stream.elapsed);
            stream.must("the reported duration is no more than was waited").that(
                took > 0.0 && took <= wall,
                format!("more than 0 ms, at most {wall} ms"),
                format!("{took} ms"),
            )?;

            // None of these starts a run. That 8000 characters are taken is not tried here: it would start one.
            for (kind, field, body) in [
                ("an empty content", "content", json!({"content": "", "thread_id": thread})),
                ("a content of 8001 characters", "content", json!({"content": of_length(8001), "thread_id": thread})),
                ("a content that is no text", "content", json!({"content": [question], "thread_id": thread})),
                ("a missing content", "content", json!({"thread_id": thread})),
                ("a missing thread_id", "thread_id", json!({"content": question})),
            ] {
                let reply = api.post(STREAM, body).within(cx.run_deadline()).send().await?;
                reply.must(format!("{kind} is refused before any stream")).invalid(field)?;
            }
            cx.note("a content of 8000 characters is not tried: it would start a run, which costs money");
            let reply = cx.anonymous().post(STREAM, good.clone()).within(cx.run_deadline()).send().await?;
            reply.must("no token is refused").refused(&[401, 403])?;
            let reply = cx.api(expired(cx, &alice)?).post(STREAM, good).within(cx.run_deadline()).send().await?;
            reply.must("an expired token is refused").refused(&[401])
        })
        .await
}

/// The rules of the contract for the frames, each by its own name.
fn in_order(stream: &Streamed, question: &str, thread: &str) -> Held {
    let edge = |event: Option<&StreamEvent>, kind: &str| {
        once(stream, kind).and_then(|_| match event {
            Some(event) if event.kind() == kind => Ok(()),
            _ => Err(Mismatch::new(format!("{kind} at this end of the stream"), format!("{:?}", stream.kinds()))),
        })
    };
    stream.must("the stream starts with stream_start, once").hold(edge(stream.events.first(), "stream_start"))?;
    let start = &stream.events[0].data;
    stream
        .must("stream_start names the run and the thread that was asked")
        .fields(start, &[("/run_id", Is::Text), ("/thread_id", Is::exactly(thread))])?;
    for id in ["run_id", "thread_id"] {
        let stray = stream.events.iter().find(|event| event.data.get(id).is_some_and(|value| *value != start[id]));
        let got = stray.map(|event| event.data.to_string()).unwrap_or_default();
        stream.must(format!("every frame that names a {id} names the same")).that(stray.is_none(), &start[id], got)?;
    }
    let message = [("/message", Is::exactly(question))];
    stream
        .must("user_message gives the question back, once")
        .hold(once(stream, "user_message").and_then(|it| fields(it, &message)))?;
    stream.must("agent_started comes once").hold(once(stream, "agent_started").map(drop))?;
    let thought = [("/thought", Is::Text), ("/step_number", Is::IntFrom(1))];
    stream.must("the agent thinks, and says what").hold(some(stream, "agent_thinking", &thought))?;
    stream.must("every tool that begins is completed").hold(tools_pair(stream))?;
    let chunk = [("/content", Is::Present), ("/is_final", Is::Bool)];
    stream.must("the answer comes in chunks").hold(some(stream, "response_chunk", &chunk))?;
    let last: Vec<_> = stream.of_kind("response_chunk").map(|chunk| chunk.data["is_final"] == true).collect();
    stream.must("the last chunk is final, and no other").that(
        last.iter().position(|is_final| *is_final) == Some(last.len() - 1),
        "is_final in the last chunk only",
        format!("{last:?}"),
    )?;
    let whole = [("/message", Is::Text)];
    stream
        .must("response_complete has the message, once")
        .hold(once(stream, "response_complete").and_then(|it| fields(it, &whole)))?;
    let done = [("/result", Is::Present), ("/duration_ms", Is::Number)];
    stream.must("agent_completed has the result, once").hold(once(stream, "agent_completed").and_then(|it| fields(it, &done)))?;
    stream.must("the stream ends with stream_end, once").hold(edge(stream.events.last(), "stream_end"))?;
    let success = [("/status", Is::exactly("success"))];
    stream.must("stream_end says success").hold(once(stream, "stream_end").and_then(|it| fields(it, &success)))?;
    let places: Vec<_> = stream.events.iter().map(|event| ORDER.iter().position(|kinds| kinds.contains(&event.kind()))).collect();
    stream.must("the frames come in the order of the contract").that(
        places.iter().all(Option::is_some) && places.is_sorted(),
        format!("{ORDER:?}"),
        format!("{:?}", stream.kinds()),
    )
}

fn no_error(stream: &Streamed) -> Result<(), Mismatch> {
    let error = stream.events.iter().find(|event| matches!(event.kind(), "error" | "agent_error"));
    error.map_or(Ok(()), |event| Err(Mismatch::new("no error in a stream that was opened with 200", &event.data)))
}

fn once<'a>(stream: &'a Streamed, kind: &'a str) -> Result<&'a serde_json::Value, Mismatch> {
    let mut found = stream.of_kind(kind);
    match (found.next(), found.next()) {
        (Some(event), None) => Ok(&event.data),
        _ => Err(Mismatch::new(format!("{kind} exactly once"), format!("{:?}", stream.kinds()))),
    }
}

fn some(stream: &Streamed, kind: &str, wanted: &[(&str, Is)]) -> Result<(), Mismatch> {
    if stream.of_kind(kind).next().is_none() {
        return Err(Mismatch::new(format!("{kind} at least once"), format!("{:?}", stream.kinds())));
    }
    stream.of_kind(kind).try_for_each(|event| fields(&event.data, wanted))
}

/// Each `tool_executing` is followed by `tool_completed` of the same tool. A run without tools is permitted.
fn tools_pair(stream: &Streamed) -> Result<(), Mismatch> {
    let steps: Vec<_> = stream.events.iter().filter(|event| event.kind().starts_with("tool_")).collect();
    let pairs = steps.chunks(2).all(|pair| match pair {
        [begun, done] => {
            let named = begun.data["tool_name"].is_string() && begun.data["tool_name"] == done.data["tool_name"];
            (begun.kind(), done.kind()) == ("tool_executing", "tool_completed") && named
        }
        _ => false,
    });
    let shown: Vec<_> = steps.iter().map(|step| format!("{} {}", step.kind(), step.data["tool_name"])).collect();
    if pairs { Ok(()) } else { Err(Mismatch::new("each tool_executing with its tool_completed after it", shown.join(", "))) }
}

/// A token of this user that was good once; made afresh for each use, since refusals are cached.
fn expired(cx: &Cx, who: &Identity) -> Held<Credential> {
    let now = now_seconds();
    let claims = Claims::access(&who.user_id, &who.email).with("iat", now - 3600).with("exp", now - 1800);
    Ok(Credential::bad("expired", &claims.sign(cx.signing_secret()?)))
}
