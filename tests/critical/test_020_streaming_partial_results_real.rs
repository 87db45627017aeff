//! 020: an answer appears while it is written: in several increments, the first of them early.

use std::time::Duration;

use netra_critical::{Area, Check, Cx, Held, Is, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 20,
    name: "test_020_streaming_partial_results_real",
    title: "an answer appears while it is written",
    area: Area::Streams,
    impact: "the screen stays blank until the end",
    alone: false,
};

/// Fewer pieces than this are no stream.
const FEWEST_PIECES: usize = 3;
/// The first piece comes before this share of the whole time.
const FIRST_BEFORE: f64 = 0.6;
/// From first to last piece passes at least this share of the whole time.
const SPREAD_OVER: f64 = 0.1;
/// Pieces closer together than this came at once.
const AT_ONCE: Duration = Duration::from_millis(1);

#[rstest]
#[test_log::test(tokio::test)]
async fn test_020_streaming_partial_results_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let alice = cx.user("alice").await?;
            let thread = cx.thread(&alice, "stream").await?;
            let prompts = &cx.settings().prompts;

            let body = json!({"content": prompts.question, "thread_id": thread});
            let stream = cx.api(&alice).post("/api/chat/stream", body).within(cx.run_deadline()).stream().await?;
            stream.must("the stream is answered with 200").that(
                stream.status == 200,
                "status 200",
                format!("status {} {}", stream.status, stream.body),
            )?;
            let error = stream.of_kind("error").next().map(|event| event.data.to_string());
            stream.must("the stream carries no error").that(error.is_none(), "no error frame", error.unwrap_or_default())?;
            let end = stream.events.last().map(|event| event.data.clone()).unwrap_or_default();
            stream
                .must("the stream ends with stream_end and success")
                .fields(&end, &[("/type", Is::exactly("stream_end")), ("/status", Is::exactly("success"))])?;
            let complete = stream.of_kind("response_complete").map(|event| text(&event.data, "message")).collect();
            let whole = stream.must("the stream carries the final message once").one(complete, "response_complete")?;
            // The stream's own time, from its first frame: how far away the service is says nothing about how it streams.
            let began = stream.events.first().map_or(Duration::ZERO, |event| event.at);
            let chunks = stream.of_kind("response_chunk");
            let pieces = chunks.map(|event| (event.at.saturating_sub(began), text(&event.data, "content"))).collect();
            let took = stream.elapsed.saturating_sub(began);
            judge(cx, "on the stream", &Answer { pieces, whole, took, exchange: stream.exchange })?;

            let socket = cx.socket(&alice).await?;
            let asked = cx.ask(&socket, Some(&thread), &prompts.other).await?;
            let partials = asked.run.partials();
            if partials.is_empty() {
                cx.note("no partial_result on the socket (permitted): judged on the HTTP stream alone");
                return Ok(());
            }
            let began = asked.run.events.first().map_or(Duration::ZERO, |event| event.at);
            let ended = asked.run.terminal().map_or(began, |event| event.at);
            let pieces = partials.iter().map(|event| (event.at.saturating_sub(began), text(&event.payload, "content"))).collect();
            let whole = asked.run.answer().to_owned();
            judge(cx, "on the socket", &Answer { pieces, whole, took: ended.saturating_sub(began), exchange: socket.exchange() })
        })
        .await
}

/// An answer as it came.
struct Answer {
    /// Each piece, with its time since the first frame.
    pieces: Vec<(Duration, String)>,
    /// The final message.
    whole: String,
    /// From the first frame to the end.
    took: Duration,
    exchange: u32,
}

fn judge(cx: &Cx, place: &str, answer: &Answer) -> Held {
    let expect = |what: &str| cx.must(format!("{place}, {what}")).about([answer.exchange]);
    let pieces: Vec<_> = answer.pieces.iter().filter(|(_, text)| !text.is_empty()).collect();
    let texts: Vec<_> = pieces.iter().map(|(_, text)| text.as_str()).collect();
    expect("an answer comes in at least three pieces").that(
        pieces.len() >= FEWEST_PIECES,
        format!("at least {FEWEST_PIECES} partial results"),
        format!("{}: {texts:?}", pieces.len()),
    )?;
    expect("each piece adds to the answer and repeats nothing").hold(adds(&texts, &answer.whole))?;
    expect("the pieces joined are the final message").equal(texts.concat().as_str(), answer.whole.as_str())?;

    let took = answer.took.as_secs_f64();
    let first = pieces.first().map_or(took, |(at, _)| at.as_secs_f64());
    let last = pieces.last().map_or(took, |(at, _)| at.as_secs_f64());
    let times = format!("pieces at {:?}, the end at {:.3?}", pieces.iter().map(|(at, _)| at).collect::<Vec<_>>(), answer.took);
    cx.note(format!("{place}, {} pieces in {took:.3} s, the first at {:.0} % of it", pieces.len(), 100.0 * first / took));
    expect("the first piece comes well before the end").that(
        first < FIRST_BEFORE * took,
        format!("the first before {:.0} % of the time", 100.0 * FIRST_BEFORE),
        format!("at {:.0} %; {times}", 100.0 * first / took),
    )?;
    let moments = 1 + pieces.windows(2).filter(|pair| pair[1].0.saturating_sub(pair[0].0) > AT_ONCE).count();
    expect("the pieces come one after the other").that(
        moments >= FEWEST_PIECES && last - first > SPREAD_OVER * took,
        format!("at least {FEWEST_PIECES} moments, spread over more than {:.0} % of the time", 100.0 * SPREAD_OVER),
        format!("{moments} moments; {times}"),
    )
}

/// Rule: pieces are increments. A service that repeats sends all the text so far with each piece, or all of it at last.
fn adds(pieces: &[&str], whole: &str) -> Result<(), Mismatch> {
    let growing = pieces.windows(2).all(|pair| pair[1].starts_with(pair[0]));
    let everything = pieces.iter().find(|piece| **piece == whole);
    match everything {
        None if !growing => Ok(()),
        None => Err(Mismatch::new("increments", format!("each piece begins with the one before: {pieces:?}"))),
        Some(piece) => Err(Mismatch::new("increments", format!("a piece with the whole answer: {piece:?}"))),
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
