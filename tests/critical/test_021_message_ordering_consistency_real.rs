//! 021: a burst of messages is acknowledged, stored and answered in the order in which it was sent, each thread in its own.

use netra_critical::event::{Run, events};
use netra_critical::expect::Trouble;
use netra_critical::history::{not_decreasing, same_sequence};
use netra_critical::ws::Arrived;
use netra_critical::{Area, Check, Mismatch, Outcome, Staging};
use rstest::rstest;
use serde_json::{Value, json};

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 21,
    name: "test_021_message_ordering_consistency_real",
    title: "a burst of messages keeps its order, each thread its own",
    area: Area::Streams,
    impact: "conversations read scrambled",
    alone: false,
};

/// The largest page of a history (contract, section 4): the check reads one page a thread.
const PAGE: usize = 100;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_021_message_ordering_consistency_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let count = cx.settings().load.burst_messages;
            if count < 4 || 2 * count > PAGE {
                let remedy = format!("set load.burst_messages to 4 or more, and {} at most", PAGE / 2);
                return Err(Trouble::suite(format!("a burst of {count} messages cannot be judged"), remedy));
            }
            let alice = cx.user("alice").await?;
            let threads = [cx.thread(&alice, "first").await?, cx.thread(&alice, "second").await?];
            let socket = cx.socket(&alice).await?;

            // One half into the first thread, the rest in turns into both.
            let burst: Vec<_> = (0..count)
                .map(|place| {
                    let thread = usize::from(place >= count / 2 && place % 2 == 0);
                    let text = format!("({} of {count}) {}", place + 1, cx.settings().prompts.question);
                    (uuid::Uuid::new_v4().to_string(), thread, text)
                })
                .collect();
            for (message_id, thread, text) in &burst {
                socket.say(message_id, Some(&threads[*thread]), text);
            }
            let sent_to = |thread: usize| burst.iter().filter(move |(_, to, _)| *to == thread);
            // Waited for here and looked at below: a message that was lost shows itself first in what is missing.
            let wanted = format!("{count} runs that have ended, as many in each thread as messages");
            // So many runs share one connection, and maybe one worker: the deadline of a run starts again with each event.
            let event = |frame: &Arrived| !events(std::slice::from_ref(frame)).is_empty();
            let ended = socket
                .gather_while("every message of the burst gets a run that ends", cx.run_deadline(), &wanted, event, |frames| {
                    let all = events(frames);
                    let ended = |thread: usize| {
                        Run::of_thread(&all, &threads[thread]).iter().filter(|run| run.terminal().is_some()).count()
                    };
                    (0..2).all(|thread| ended(thread) >= sent_to(thread).count()).then_some(())
                })
                .await;

            let frames = socket.quiet(0).await?;
            let acks: Vec<_> = frames.iter().filter(|frame| frame.is_acknowledgement()).map(|frame| &frame.data["data"]).collect();
            let acked: Vec<_> = acks.iter().map(|ack| word(&ack["original_message_id"])).collect();
            let sent: Vec<_> = burst.iter().map(|(id, ..)| id.as_str()).collect();
            socket
                .must("acknowledgements come in the order of sending, none lost, none twice")
                .hold(same_sequence(&sent, &acked))?;
            let acked: Vec<_> = acks.iter().map(|ack| word(&ack["thread_id"])).collect();
            let sent: Vec<_> = burst.iter().map(|(_, thread, _)| threads[*thread].as_str()).collect();
            socket.must("each acknowledgement names the thread of its message").hold(same_sequence(&sent, &acked))?;

            for (thread, which) in ["first", "second"].into_iter().enumerate() {
                let path = format!("/api/threads/{}/messages", threads[thread]);
                let history = cx.api(&alice).get(path).query("limit", PAGE).send().await?;
                let messages = history.must(format!("the history of the {which} thread can be read")).list_at("/messages")?;
                let mine = messages.iter().filter(|message| message["role"] == "user");
                let stored: Vec<_> = mine.map(|message| word(&message["content"][0]["text"]["value"])).collect();
                let sent: Vec<_> = sent_to(thread).map(|(.., text)| text).collect();
                history
                    .must(format!("the {which} thread holds its messages in the order of sending, none lost, none twice"))
                    .hold(same_sequence(&sent, &stored))?;
                let ids: std::collections::BTreeSet<_> = messages.iter().map(|message| word(&message["id"])).collect();
                history.must(format!("no message of the {which} thread stands in it twice")).equal(&ids.len(), &messages.len())?;
                history
                    .must(format!("times in the {which} thread do not decrease"))
                    .hold(not_decreasing(messages.iter().map(|message| &message["created_at"])))?;
            }

            ended?;
            let all = events(&frames);
            let runs: Vec<_> = threads.iter().flat_map(|thread| Run::of_thread(&all, thread)).collect();
            if all.iter().all(|event| event.sequence.is_none()) {
                cx.note("events carry no sequence (permitted): their numbering is not judged");
            }
            let each = |rule: &dyn Fn(&Run) -> Result<(), Mismatch>| {
                let judged = |run: &Run| rule(run).map_err(|it| Mismatch::new(it.wanted, format!("{}: {}", run.id, it.got)));
                runs.iter().try_for_each(judged)
            };
            socket.must("the events of every run are numbered without a gap").hold(each(&Run::counts_without_gap))?;
            socket.must("the times of the events of every run do not decrease").hold(each(&|run| {
                let times: Vec<Value> = run.events.iter().map(|event| json!(event.timestamp)).collect();
                not_decreasing(&times)
            }))
        })
        .await
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
