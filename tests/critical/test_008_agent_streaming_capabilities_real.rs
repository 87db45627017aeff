//! 008: an answer comes as a stream of events, whole and in the order of the contract; a bad request never becomes one.

use netra_critical::event::is_real;
use netra_critical::exchange::{cut, ms};
use netra_critical::expect::{difference, fields};
use netra_critical::identity::Credential;
use netra_critical::sse::{StreamEvent, Streamed};
use netra_critical::text::of_length;
use netra_critical::{Area, Check, Held, Is, Mismatch, Outcome, Staging};
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

            let opened = format!("status {} {:?} {}", stream.status, stream.content_type, cut(&stream.body, 300));
            stream.must("the stream is opened").that(stream.status == 200, "status 200", &opened)?;
            let is_stream = stream.content_type.starts_with("text/event-stream");
            stream.must("the stream is an event stream").that(is_stream, "text/event-stream", &opened)?;
            stream.must("every frame of the stream is data with a JSON object").that(
                stream.malformed.is_empty() && !stream.events.is_empty(),
                "lines `data: <json>`, each followed by an empty line",
                format!("{} frames, and {:?}", stream.events.len(), stream.malformed),
            )?;
            let error = stream.events.iter().find(|event| matches!(event.kind(), "error" | "agent_error"));
            let shown = error.map(|event| event.data.to_string()).unwrap_or_default();
            stream.must("no error comes inside the stream").that(error.is_none(), "no error after the status 200", shown)?;
            in_order(&stream, question, &thread)?;

            let chunks: String = stream.of_kind("response_chunk").filter_map(|chunk| chunk.data["content"].as_str()).collect();
            let answer = stream.of_kind("response_complete").find_map(|event| event.data["message"].as_str()).unwrap_or_default();
            let same = if chunks == answer { Ok(()) } else { Err(difference(answer, &chunks)) };
            stream.must("the chunks together are the final message").hold(same)?;
            let result = stream.of_kind("agent_completed").find_map(|event| event.data["result"].as_str()).unwrap_or(answer);
            stream.must("the result is the final message").equal(result, answer)?;
            stream.must("the answer is the agent's own work").hold(is_real(answer, question))?;
            let took = stream.of_kind("agent_completed").find_map(|event| event.data["duration_ms"].as_f64()).unwrap_or(-1.0);
            let wall = ms(stream.elapsed);
            stream.must("the reported duration is more than none").that(took > 0.0, "more than 0 ms", format!("{took} ms"))?;
            stream.must("the reported duration is no more than was waited").that(
                took <= wall,
                format!("at most {wall} ms"),
                format!("{took} ms"),
            )?;

            // None of these starts a run.
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
            let reply = cx.api(Credential::forged(&alice)).post(STREAM, good).within(cx.run_deadline()).send().await?;
            reply.must("a forged token is refused").refused(&[401])
        })
        .await
}

/// The rules of the contract for the frames, each by its own name.
fn in_order(stream: &Streamed, question: &str, thread: &str) -> Held {
    let ends = [stream.events.first(), stream.events.last()].map(|event| event.map(StreamEvent::kind).unwrap_or_default());
    stream.must("the stream starts with stream_start").equal(ends[0], "stream_start")?;
    let start = &stream.events[0].data;
    let once: [(_, _, &[(&str, Is)]); 6] = [
        (
            "stream_start names the run and the thread, once",
            "stream_start",
            &[("/run_id", Is::Text), ("/thread_id", Is::exactly(thread))],
        ),
        ("user_message gives the question back, once", "user_message", &[("/message", Is::exactly(question))]),
        ("agent_started comes once", "agent_started", &[]),
        ("response_complete has the message, once", "response_complete", &[("/message", Is::Text)]),
        ("agent_completed has the result, once", "agent_completed", &[("/result", Is::Present), ("/duration_ms", Is::Number)]),
        ("stream_end says success, once", "stream_end", &[("/status", Is::exactly("success"))]),
    ];
    for (name, kind, wanted) in once {
        let found: Vec<_> = stream.of_kind(kind).map(|event| &event.data).collect();
        let wrong = || Mismatch::new(format!("{kind} once"), format!("{} times in {:?}", found.len(), stream.kinds()));
        stream.must(name).hold(if found.len() == 1 { fields(found[0], wanted) } else { Err(wrong()) })?;
    }
    stream.must("the stream ends with stream_end").equal(ends[1], "stream_end")?;
    let many: [(_, _, &[(&str, Is)]); 2] = [
        ("the agent thinks, and says what", "agent_thinking", &[("/thought", Is::Text), ("/step_number", Is::IntFrom(1))]),
        ("the answer comes in chunks", "response_chunk", &[("/content", Is::Present), ("/is_final", Is::Bool)]),
    ];
    for (name, kind, wanted) in many {
        let none = || Err(Mismatch::new(format!("{kind} at least once"), format!("{:?}", stream.kinds())));
        let found = stream.of_kind(kind).map(|event| fields(&event.data, wanted)).reduce(Result::and);
        stream.must(name).hold(found.unwrap_or_else(none))?;
    }
    let is_final: Vec<_> = stream.of_kind("response_chunk").map(|chunk| chunk.data["is_final"] == true).collect();
    let first = is_final.iter().position(|is_final| *is_final);
    stream.must("the last chunk is final, and no other").equal(&first, &is_final.len().checked_sub(1))?;
    stream.must("every tool that begins is completed").hold(tools_pair(stream))?;
    for id in ["run_id", "thread_id"] {
        let stray = stream.events.iter().find(|event| event.data.get(id).is_some_and(|value| *value != start[id]));
        let got = stray.map(|event| event.data.to_string()).unwrap_or_default();
        stream.must(format!("every frame that names a {id} names the same")).that(stray.is_none(), &start[id], got)?;
    }
    let places: Vec<_> = stream.events.iter().map(|event| ORDER.iter().position(|kinds| kinds.contains(&event.kind()))).collect();
    let ordered = places.iter().all(Option::is_some) && places.is_sorted();
    stream.must("the frames come in the order of the contract").that(ordered, format!("{ORDER:?}"), format!("{:?}", stream.kinds()))
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
