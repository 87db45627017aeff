//! 024: many users at once get an answer each, their own, and nobody waits for, or hears of, anybody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use netra_critical::event::{Event, Run, events, is_real};
use netra_critical::expect::Trouble;
use netra_critical::history::{Witness, each_has_its_own_word, median, no_word_crosses};
use netra_critical::identity::Identity;
use netra_critical::ws::{Arrived, Socket};
use netra_critical::{Area, Check, Class, Cx, Held, Mismatch, Outcome, Staging};
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

/// Beside the one with a long run: enough to compare with each other.
const FEWEST_OTHERS: usize = 2;
/// Runs shorter than this are all equally fast: below it, what differs is the scheduling of this machine.
const SHORTEST_S: f64 = 0.1;

#[rstest]
#[test_log::test(tokio::test)]
async fn test_024_concurrent_user_isolation_real(staging: Staging) -> Outcome {
    CHECK
        .run(staging, async |cx| {
            let prompts = &cx.settings().prompts;
            let labels: Vec<_> = (1..=cx.settings().load.concurrent_users).map(|place| format!("user-{place:02}")).collect();
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            let users = cx.crowd(&labels).await?;

            // Everybody listens before anybody speaks. One user's work is long, and has been taken (a socket answers in order) when
            // all others ask at the same moment: whoever has to wait for it shows.
            let mut seats = try_join_all(users.into_iter().map(|user| Seat::take(cx, user))).await?;
            let Some((long, others)) = seats.split_first_mut().filter(|(_, others)| others.len() >= FEWEST_OTHERS) else {
                let remedy = format!("set load.concurrent_users to {} or more", FEWEST_OTHERS + 1);
                return Err(Trouble::suite("too few users at once to compare them", remedy));
            };
            long.speak(format!("{} {}", prompts.long, prompts.with_word(&long.word)));
            long.socket.ping("the socket of the long question still answers").await?;
            for other in others {
                other.speak(prompts.with_word(&other.word));
            }
            let turns = try_join_all(seats.into_iter().map(|seat| seat.wait(cx.run_deadline()))).await?;
            // Only when all runs have ended, since a foreign event may come to one whose own run ended long ago.
            let turns = try_join_all(turns.into_iter().map(Turn::listen)).await?;

            // Crossed answers may well leave somebody without one: so what was seen is judged first.
            let witnesses: Vec<_> = turns.iter().map(Turn::witness).collect();
            cx.must("no user's word reaches another user")
                .about(turns.iter().map(|turn| turn.seat.socket.exchange()))
                .hold(no_word_crosses(&witnesses))?;
            let mut answered = Vec::new();
            let sockets: Vec<_> = turns.iter().map(|turn| turn.seat.socket.exchange()).collect();
            for Turn { seat, run, ended_at, seen } in turns {
                let run = run?;
                let end = run.terminal().map(|event| event.kind.clone()).unwrap_or_default();
                seat.socket.must("every user's run completes").equal(end.as_str(), "agent_completed")?;
                seat.socket.must("every user's run shows all of its events, in order").hold(whole(&run))?;
                seat.socket.must("every user hears of the own thread alone").hold(of_thread_alone(&seen, &seat.thread))?;
                seat.socket.must("every user's answer is real work").hold(is_real(run.answer(), &seat.prompt))?;
                answered.push(Answered { run, trip: seat.trip, asked_at: seat.asked_at, ended_at });
            }
            cx.must("every user's answer has the user's own word")
                .about(sockets.iter().copied())
                .hold(each_has_its_own_word(&witnesses))?;
            judge_times(cx, &answered, &sockets)
        })
        .await
}

/// A user who is ready to ask, or has asked.
struct Seat {
    user: Arc<Identity>,
    /// Known to this user alone.
    word: String,
    thread: String,
    socket: Socket,
    prompt: String,
    /// What the way to the service and back takes this user, without any work.
    trip: Duration,
    asked_at: Instant,
}

impl Seat {
    async fn take(cx: &Cx, user: Arc<Identity>) -> Held<Self> {
        let thread = cx.thread(&user, "crowd").await?;
        let socket = cx.socket(&user).await?;
        let sent = Instant::now();
        socket.ping("every user's socket answers before all ask").await?;
        let trip = sent.elapsed();
        Ok(Self { trip, user, word: cx.word(), thread, socket, prompt: String::new(), asked_at: Instant::now() })
    }

    fn speak(&mut self, prompt: String) {
        self.asked_at = Instant::now();
        self.socket.say(&uuid::Uuid::new_v4().to_string(), Some(&self.thread), &prompt);
        self.prompt = prompt;
    }

    async fn wait(self, within: Duration) -> Held<Turn> {
        let ended =
            |frames: &[Arrived]| Run::of_thread(&events(frames), &self.thread).into_iter().find(|run| run.terminal().is_some());
        let run = self.socket.gather("every user's run ends", within, "the terminal event of the user's run", ended).await;
        Ok(Turn { run, ended_at: Instant::now(), seat: self, seen: Vec::new() })
    }
}

/// What became of one user's question.
struct Turn {
    seat: Seat,
    /// Looked at only after all users' frames have been judged together.
    run: Held<Run>,
    ended_at: Instant,
    seen: Vec<Arrived>,
}

impl Turn {
    async fn listen(mut self) -> Held<Self> {
        self.seen = self.seat.socket.quiet(0).await?;
        Ok(self)
    }

    fn witness(&self) -> Witness {
        let answer = self.run.as_ref().map(|run| run.answer().to_owned()).unwrap_or_default();
        let seen = self.seen.iter().map(|frame| frame.data.to_string()).collect();
        Witness { user: self.seat.user.label.clone(), word: self.seat.word.clone(), answer, seen }
    }
}

/// Rule: load takes nothing away from a run.
fn whole(run: &Run) -> Result<(), Mismatch> {
    run.starts_once()?;
    run.thinks()?;
    run.tools_pair()?;
    run.keeps_order()?;
    run.ends_once()
}

/// Rule: whatever names a thread names this one.
fn of_thread_alone(seen: &[Arrived], thread: &str) -> Result<(), Mismatch> {
    let all = events(seen);
    let stray = all.iter().find(|event| event.thread_id != thread);
    stray.map_or(Ok(()), |event| Err(Mismatch::new(format!("events of thread {thread:?}"), &event.frame)))
}

/// A run that completed, and when.
struct Answered {
    run: Run,
    trip: Duration,
    asked_at: Instant,
    ended_at: Instant,
}

impl Answered {
    /// From the question to the end of the run.
    fn took_s(&self) -> f64 {
        self.ended_at.duration_since(self.asked_at).as_secs_f64()
    }

    /// From the first event to the last.
    fn worked_s(&self) -> f64 {
        let at = |event: Option<&Event>| event.map_or(0.0, |event| event.at.as_secs_f64());
        at(self.run.terminal()) - at(self.run.events.first())
    }
}

/// A queue behind a long run, or of all runs, shows in who ends last, in how long nothing happens, and in how far apart equals
/// are. Each is a comparison within this run, so it holds on fast and on slow targets.
fn judge_times(cx: &Cx, answered: &[Answered], sockets: &[u32]) -> Held {
    let expect = |name: &'static str| cx.must(name).about(sockets.iter().copied()).class(Class::Application);
    let [long, equals @ ..] = answered else { return Ok(()) };
    let mut times: Vec<_> = equals.iter().map(Answered::took_s).collect();
    times.sort_by(f64::total_cmp);
    let (fastest, slowest) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
    let waits: Vec<_> = equals.iter().map(|it| it.took_s() - it.worked_s() - it.trip.as_secs_f64()).collect();
    let wait = median(&waits);
    let work = median(&equals.iter().map(Answered::worked_s).collect::<Vec<_>>()).max(SHORTEST_S);
    let users = answered.len();
    cx.note(format!(
        "{users} users at once: fastest {fastest:.3} s, median {:.3} s, slowest {slowest:.3} s, of it {wait:.3} s (median) before \
         the first event; the long run {:.3} s",
        median(&times),
        long.took_s()
    ));

    let later = equals.iter().filter(|it| it.ended_at > long.ended_at).count();
    expect("one user's long run does not hold up the others").that(
        2 * later < equals.len(),
        format!("most of the others done before the long run, which took {:.3} s", long.took_s()),
        format!("{later} of {} after it; their times in seconds: {times:.3?}", equals.len()),
    )?;
    expect("runs begin without a queue, however many users ask").that(
        wait < work,
        format!("a run begins sooner than it takes: in less than {work:.3} s (median)"),
        format!("{wait:.3} s (median) until its first event; in seconds: {waits:.3?}"),
    )?;
    let limit = f64::from(u32::try_from(users).unwrap_or(u32::MAX)) * fastest.max(SHORTEST_S);
    expect("the slowest user does not take as many times as long as the fastest as there are users").that(
        slowest < limit,
        format!("less than {limit:.3} s: {users} × the fastest, or × {SHORTEST_S} s if that is more"),
        format!("{slowest:.3} s; in seconds: {times:.3?}"),
    )
}
