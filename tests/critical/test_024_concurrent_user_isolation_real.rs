//! 024: many users at once get an answer each, their own, and nobody waits for, or hears of, anybody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use netra_critical::context::Asked;
use netra_critical::event::{Event, is_real};
use netra_critical::expect::Trouble;
use netra_critical::history::{Witness, each_has_its_own_word, median, no_word_crosses};
use netra_critical::identity::Identity;
use netra_critical::ws::Socket;
use netra_critical::{Area, Check, Cx, Held, Outcome, Staging};
use rstest::rstest;

use crate::staging;

pub(crate) static CHECK: Check = Check {
    id: 24,
    name: "test_024_concurrent_user_isolation_real",
    title: "many users at once get an answer each, their own",
    area: Area::Streams,
    impact: "load mixes customers up",
    alone: false,
};

/// One with a long run, and two to compare with each other.
const FEWEST_USERS: usize = 3;
/// Runs shorter than this are all equally fast: below it, what differs is the scheduling of this machine.
const SHORTEST_S: f64 = 0.1;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_024_concurrent_user_isolation_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let prompts = &cx.settings().prompts;
            let count = cx.settings().load.concurrent_users;
            if count < FEWEST_USERS {
                let remedy = format!("set load.concurrent_users to {FEWEST_USERS} or more");
                return Err(Trouble::suite(format!("{count} users at once say nothing about isolation"), remedy));
            }
            let labels: Vec<_> = (1..=count).map(|place| format!("user-{place:02}")).collect();
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            let users = cx.crowd(&labels).await?;

            // Everybody listens before anybody speaks.
            let seats = all_at_once(users.into_iter().map(|user| Seat::take(cx.clone(), user))).await?;
            // The first user's work is long: whoever had to wait for it would show.
            let asking = seats.into_iter().enumerate().map(|(place, seat)| {
                let prompt = prompts.with_word(&seat.word);
                let prompt = if place == 0 { format!("{} {prompt}", prompts.long) } else { prompt };
                seat.ask(cx.clone(), prompt)
            });
            let turns = all_at_once(asking).await?;
            // Only when all runs have ended, since a foreign event may come to one whose own run ended long ago.
            let turns = all_at_once(turns.into_iter().map(Turn::listen)).await?;

            // Crossed answers may well leave somebody without one: so what was seen is judged first.
            let witnesses: Vec<_> = turns.iter().map(Turn::witness).collect();
            let about = || turns.iter().map(|turn| turn.seat.socket.exchange());
            cx.must("no user's word reaches another user").about(about()).hold(no_word_crosses(&witnesses))?;
            let mut answered = Vec::new();
            for turn in turns {
                let asked = turn.asked?;
                let end = asked.run.terminal().map(|event| event.kind.clone()).unwrap_or_default();
                turn.seat.socket.must("every user's run completes").equal(end.as_str(), "agent_completed")?;
                turn.seat.socket.must("every user's answer is real work").hold(is_real(asked.run.answer(), &turn.prompt))?;
                answered.push((asked, turn.took));
            }
            cx.must("every user's answer has the user's own word").hold(each_has_its_own_word(&witnesses))?;
            judge_times(cx, &answered)
        })
        .await
}

/// A user who is ready to ask.
struct Seat {
    user: Arc<Identity>,
    /// Known to this user alone.
    word: String,
    thread: String,
    socket: Socket,
}

impl Seat {
    async fn take(cx: Cx, user: Arc<Identity>) -> Held<Self> {
        let thread = cx.thread(&user, "crowd").await?;
        let socket = cx.socket(&user).await?;
        Ok(Self { user, word: cx.word(), thread, socket })
    }

    async fn ask(self, cx: Cx, prompt: String) -> Held<Turn> {
        let began = Instant::now();
        let asked = cx.ask(&self.socket, Some(&self.thread), &prompt).await;
        Ok(Turn { seat: self, prompt, asked, took: began.elapsed(), seen: Vec::new() })
    }
}

/// What became of one user's question.
struct Turn {
    seat: Seat,
    prompt: String,
    /// Looked at only after all users' frames have been judged together.
    asked: Held<Asked>,
    took: Duration,
    seen: Vec<String>,
}

impl Turn {
    async fn listen(mut self) -> Held<Self> {
        let frames = self.seat.socket.quiet(0).await?;
        self.seen = frames.into_iter().map(|frame| frame.data.to_string()).collect();
        Ok(self)
    }

    fn witness(&self) -> Witness {
        let answer = self.asked.as_ref().map(|asked| asked.run.answer().to_owned()).unwrap_or_default();
        Witness { user: self.seat.user.label.clone(), word: self.seat.word.clone(), answer, seen: self.seen.clone() }
    }
}

/// Does the same for all users at the same time.
async fn all_at_once<T: Send + 'static>(
    tasks: impl Iterator<Item = impl Future<Output = Held<T>> + Send + 'static>,
) -> Held<Vec<T>> {
    let handles: Vec<_> = tasks.map(tokio::spawn).collect();
    let mut done = Vec::with_capacity(handles.len());
    for handle in handles {
        let ended = handle.await.map_err(|error| Trouble::suite(error.to_string(), "this is a defect of the check"));
        done.push(ended??);
    }
    Ok(done)
}

/// A queue behind one long run, or behind each other, shows in three ways: in who ends last, in how long nothing happens, and in
/// how far apart equals are. Each is a comparison within this run, so it holds on fast and on slow targets.
fn judge_times(cx: &Cx, answered: &[(Asked, Duration)]) -> Held {
    let seconds = |(_, took): &(Asked, Duration)| took.as_secs_f64();
    let work = |(asked, _): &(Asked, Duration)| {
        let at = |event: Option<&Event>| event.map_or(0.0, |event| event.at.as_secs_f64());
        at(asked.run.terminal()) - at(asked.run.events.first())
    };
    let [long, equals @ ..] = answered else { return Ok(()) };
    let mut times: Vec<_> = equals.iter().map(seconds).collect();
    times.sort_by(f64::total_cmp);
    let (fastest, slowest) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    let waits: Vec<_> = equals.iter().map(|turn| seconds(turn) - work(turn)).collect();
    let works: Vec<_> = equals.iter().map(work).collect();
    let users = answered.len();
    cx.note(format!(
        "{users} users at once: fastest {fastest:.3} s, median {:.3} s, slowest {slowest:.3} s, of it {:.3} s (median) before the \
         first event; the long run {:.3} s",
        median(&times),
        median(&waits),
        seconds(long)
    ));

    let later = times.iter().filter(|took| **took > seconds(long)).count();
    cx.must("one user's long run does not hold up the others").that(
        2 * later < times.len(),
        format!("most of the others done before the long run, which took {:.3} s", seconds(long)),
        format!("{later} of {} after it; their times in seconds: {times:.3?}", times.len()),
    )?;
    cx.must("runs begin without a queue, however many users ask").that(
        median(&waits) < median(&works).max(SHORTEST_S),
        format!("a run begins sooner than it takes: in less than {:.3} s (median)", median(&works).max(SHORTEST_S)),
        format!("{:.3} s (median) until its first event; in seconds: {waits:.3?}", median(&waits)),
    )?;
    let limit = f64::from(u32::try_from(users).unwrap_or(u32::MAX)) * fastest.max(SHORTEST_S);
    cx.must("the slowest user does not take as many times as long as the fastest as there are users").that(
        slowest < limit,
        format!("less than {users} × the fastest of {:.3} s", fastest.max(SHORTEST_S)),
        format!("{slowest:.3} s; in seconds: {times:.3?}"),
    )
}
