//! 004: many sockets of one user, and many users, at once: each has its own welcome, its own pong, and every event once.

use netra_critical::event::{Run, events};
use netra_critical::history::same_sequence;
use netra_critical::ws::Socket;
use netra_critical::{Area, Check, Mismatch, Outcome, Staging};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 4,
    name: "test_004_websocket_concurrent_connections_real",
    title: "many sockets of one user, and many users, live side by side",
    area: Area::WebSocket,
    impact: "a second tab breaks the first",
    alone: false,
};

#[rstest]
#[test_log::test(tokio::test)]
async fn test_004_websocket_concurrent_connections_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let load = &cx.settings().load;
            let labels: Vec<_> = (0..=load.users).map(|n| format!("user-{n}")).collect();
            let mut users = cx.crowd(&labels.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            let alice = users.remove(0);
            let thread = cx.thread(&alice, "tabs").await?;

            let mut tabs = Vec::new();
            for _ in 0..load.sockets {
                tabs.push(cx.socket(&alice).await?);
            }
            let mut ids: Vec<_> = tabs.iter().map(|tab| tab.connection_id().to_owned()).collect();
            ids.sort_unstable();
            ids.dedup();
            cx.must("each socket of one user has an id of its own").about(tabs.iter().map(Socket::exchange)).that(
                ids.len() == load.sockets,
                format!("{} ids", load.sockets),
                format!("{ids:?}"),
            )?;
            for tab in &tabs {
                tab.ping("each socket of one user gets its own pong").await?;
            }
            for tab in &tabs {
                let pongs = tab.frames().iter().filter(|frame| frame.kind() == "pong").count();
                tab.must("no socket gets the pong of another").equal(&pongs, &1)?;
            }

            // All sockets listen before the run is started, over the newest.
            let asked = cx.ask(&tabs[tabs.len() - 1], Some(&thread), &cx.settings().prompts.question).await?;
            let told =
                |run: &Run| run.events.iter().map(|event| format!("{} {:?}", event.kind, event.sequence)).collect::<Vec<_>>();
            let wanted = told(&asked.run);
            for tab in &tabs {
                let run = tab
                    .gather("events of one run reach every socket of the user", cx.run_deadline(), "the whole run", |frames| {
                        let run = Run::pick(&events(frames), &asked.run.id);
                        run.terminal().is_some().then_some(run)
                    })
                    .await?;
                tab.must("every socket gets each event of a run once, in order").hold(same_sequence(&wanted, &told(&run)))?;
            }

            tabs.pop().expect("at least one socket is configured").close("closing one socket is answered", 1000).await?;
            for tab in &tabs {
                tab.ping("closing one socket leaves the others open").await?;
            }
            for _ in 0..load.cycles {
                let dial = cx.dial().bearer(alice.access.expose()).caller(format!("alice ({})", alice.user_id), true);
                let socket = dial.proving("each of many connections in a row is welcomed").welcomed().await?;
                socket.ping("connecting and closing many times in a row works").await?;
                socket.close("each of many connections in a row closes in order", 1000).await?;
            }
            for tab in &tabs {
                tab.ping("connecting and closing many times leaves the others open").await?;
            }

            let mut sockets = Vec::new();
            for user in &users {
                sockets.push(cx.socket(user).await?);
            }
            // All ask before any answer is read.
            for (user, socket) in users.iter().zip(&sockets) {
                let id = uuid::Uuid::new_v4().to_string();
                socket.send(&serde_json::json!({"type": "ping", "payload": {"of": user.user_id, "id": id}}));
            }
            for (user, socket) in users.iter().zip(&sockets) {
                let within = cx.ack_deadline();
                let pong = socket.receive("every user gets a reply", within, "a pong", |frame| frame.kind() == "pong").await?;
                let owner = pong.data["data"]["user_id"].as_str().unwrap_or_default();
                let result = if owner == user.user_id { Ok(()) } else { Err(Mismatch::new(&user.user_id, owner)) };
                socket.must("replies never cross between users").hold(result)?;
            }
            Ok(())
        })
        .await
}
