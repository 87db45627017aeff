//! Every matcher has a case that holds and one that does not, with its text.

use std::time::Duration;

use netra_critical::event::{Event, Run, all_differ, events, is_real};
use netra_critical::exchange::Close;
use netra_critical::expect::{Is, Mismatch, difference, fields};
use netra_critical::history::{Witness, each_has_its_own_word, median, no_word_crosses, not_decreasing, pages_tile, same_sequence};
use netra_critical::refusal::Refusal;
use netra_critical::ws::Arrived;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case(Is::exactly("a"), json!("a"), json!("b"))]
#[case(Is::Text, json!("a"), json!(" "))]
#[case(Is::TextOrNull, json!(null), json!(1))]
#[case(Is::Number, json!(1.5), json!("1.5"))]
#[case(Is::IntFrom(1), json!(1), json!(0))]
#[case(Is::IntFrom(1), json!(2), json!(1.5))]
#[case(Is::Within(0.0, 1.0), json!(1), json!(1.01))]
#[case(Is::Bool, json!(false), json!("false"))]
#[case(Is::OneOf(&["a", "b"]), json!("b"), json!("c"))]
#[case(Is::IsoTime, json!("2026-11-22T17:01:29.208122+00:00"), json!(1_795_366_889))]
#[case(Is::Moment, json!(1_795_366_889.1), json!("yesterday"))]
#[case(Is::Object, json!({}), json!([]))]
#[case(Is::List, json!([]), json!({}))]
#[case(Is::FilledList, json!([1]), json!([]))]
fn a_field_is_accepted_or_shown(#[case] is: Is, #[case] right: Value, #[case] wrong: Value) {
    let wanted = is.to_string();
    assert_eq!(fields(&json!({ "x": right }), &[("/x", is.clone())]), Ok(()));
    let mismatch = fields(&json!({ "x": wrong }), &[("/x", is.clone())]).expect_err("must differ");
    assert_eq!(mismatch, Mismatch::new(format!("/x {wanted}"), format!("/x {wrong}")));
    if !matches!(is, Is::TextOrNull) {
        assert_eq!(fields(&json!({}), &[("/x", is)]).expect_err("must be absent").got, "/x absent");
    }
}

#[test]
fn all_wrong_fields_are_told_at_once() {
    let mismatch = fields(&json!({"a": 1, "b": 2, "c": 3}), &[("/a", Is::Text), ("/b", Is::Number), ("/c", Is::Bool)]);
    assert_eq!(mismatch, Err(Mismatch::new("/a a string that is not blank; /c true or false", "/a 1; /c 3")));
    assert_eq!(fields(&json!({"a": 1}), &[("/b", Is::Present)]), Err(Mismatch::new("/b present", "/b absent")));
}

#[test]
fn long_texts_are_shown_where_they_part() {
    let wanted = "x".repeat(5000);
    let got = format!("{}y", &wanted[..4000]);
    let mismatch = difference(&wanted, &got);
    assert!(mismatch.got.ends_with("xxxy") && mismatch.got.starts_with("(4001 characters)"), "{mismatch:?}");
    assert!(mismatch.wanted.len() < 500, "{mismatch:?}");
    let in_a_field = fields(&json!({ "x": got }), &[("/x", Is::exactly(wanted))]).expect_err("must differ");
    assert!(in_a_field.got.ends_with("xxxy\"") && in_a_field.got.len() < 500, "{in_a_field:?}");
}

#[rstest]
#[case::lost(&["a", "c"], "lost: [\"b\"]")]
#[case::twice(&["a", "b", "b", "c"], "twice or foreign: [\"b\", \"b\"]")]
#[case::foreign(&["a", "b", "c", "d"], "twice or foreign: [\"d\"]")]
#[case::swapped(&["a", "c", "b"], "out of order from place 2 on")]
#[case::both(&["a", "b", "x"], "lost: [\"c\"]; twice or foreign: [\"x\"]")]
fn a_damaged_sequence_names_the_damage(#[case] got: &[&str], #[case] part: &str) {
    assert_eq!(same_sequence(&["a", "b", "c"], &["a", "b", "c"]), Ok(()));
    let mismatch = same_sequence(&["a", "b", "c"], got).expect_err("must differ");
    assert!(mismatch.got.contains(part), "{mismatch:?}");
    let kinds = ["lost: ", "twice or foreign: ", "out of order"];
    assert!(kinds.iter().all(|kind| mismatch.got.matches(kind).count() == part.matches(kind).count()), "{mismatch:?}");
}

#[test]
fn long_texts_are_shown_from_where_they_part_and_others_whole() {
    let long = "a".repeat(1_000);
    let early = difference(&long, &format!("b{long}"));
    assert!(early.wanted.starts_with("aaa") && early.got.starts_with("baa"), "{early:?}");
    let short = "a".repeat(600);
    assert_eq!(difference(&short, &format!("{short}b")).wanted, short);
    let late = difference(&"a".repeat(601), &format!("{}b", "a".repeat(600)));
    assert!(late.wanted.starts_with("(601 characters) …a"), "{late:?}");
}

#[test]
fn pages_that_overlap_or_leave_a_gap_are_told() {
    let whole: Vec<_> = (0..5).map(|n| format!("m{n}")).collect();
    let pages = |a: &[usize], b: &[usize]| [a, b].map(|page| page.iter().map(|n| format!("m{n}")).collect::<Vec<_>>()).to_vec();
    assert_eq!(pages_tile(&whole, &pages(&[0, 1, 2], &[3, 4])), Ok(()));
    assert!(
        pages_tile(&whole, &pages(&[0, 1, 2], &[2, 3, 4])).is_err_and(|m| m.got.contains("twice or foreign: [\"m2\", \"m2\"]"))
    );
    assert!(pages_tile(&whole, &pages(&[0, 1], &[3, 4])).is_err_and(|m| m.got.contains("lost: [\"m2\"]")));
}

#[test]
fn times_that_run_backwards_are_told() {
    let sound = [json!(1_795_366_889.1), json!("2026-11-22T17:01:29.2Z"), json!("2026-11-22T17:01:29.2")];
    assert_eq!(not_decreasing(&sound), Ok(()));
    assert!(not_decreasing(&[json!(20), json!(10)]).is_err_and(|m| m.got.contains("10 after 20")));
    assert!(not_decreasing(&[json!(20), json!("soon")]).is_err_and(|m| m.got.contains("is no time")));
}

#[test]
fn a_word_that_crosses_is_told() {
    let witness = |user: &str, word: &str, seen: &str| Witness {
        user: user.to_owned(),
        word: word.to_owned(),
        answer: format!("about {word}"),
        seen: vec![seen.to_owned()],
    };
    let sound = [witness("a", "oak", "oak oak"), witness("b", "elm", "elm")];
    assert_eq!(no_word_crosses(&sound), Ok(()));
    assert_eq!(each_has_its_own_word(&sound), Ok(()));
    let crossed = [witness("a", "oak", "oak"), witness("b", "elm", "elm and oak")];
    assert!(no_word_crosses(&crossed).is_err_and(|m| m.got.contains("\"oak\" of a reached b: elm and oak")));
    let mut empty = sound;
    empty[1].answer = "nothing".to_owned();
    assert!(each_has_its_own_word(&empty).is_err_and(|m| m.got.contains("missing for 1 of 2 users; b got \"nothing\"")));
}

#[rstest]
#[case::empty(" ", "an empty answer")]
#[case::mock("Mock triage agent response for: x", "starts with \"mock \"")]
#[case::fallback("Fallback triage agent response", "starts with \"fallback \"")]
#[case::degraded("Degraded mode: try later", "starts with \"degraded mode\"")]
#[case::processed("Well. Agent processed your message: 'x'", "contains \"agent processed")]
#[case::understood("I understand you said: x", "contains \"i understand")]
#[case::echo("How can we save cost?", "an echo")]
#[case::dressed_echo("You asked: how can we SAVE cost?", "an echo")]
fn a_canned_answer_is_told(#[case] answer: &str, #[case] part: &str) {
    let prompt = "How can we save cost?";
    let mismatch = is_real(answer, prompt).expect_err("must be told");
    assert!(mismatch.got.contains(part), "{mismatch:?}");
    assert_eq!(is_real("Three levers lower the cost: batching, quantisation and spot capacity.", prompt), Ok(()));
}

#[test]
fn a_question_with_as_much_again_of_an_answer_is_no_echo() {
    assert_eq!(is_real("ab cd: why", "ab cd"), Ok(()));
    assert!(is_real("ab cd: wh", "ab cd").is_err_and(|m| m.got.contains("an echo")));
}

#[test]
fn the_same_answer_twice_is_told() {
    assert_eq!(all_differ(["a", "b"]), Ok(()));
    assert!(all_differ(["a", "b", " a"]).is_err_and(|m| m.got.contains("twice the same")));
}

#[test]
fn the_median_is_the_middle() {
    assert_eq!((median(&[]), median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (0.0, 2.0, 2.5));
}

// ---- runs -----------------------------------------------------------------------------------------------------------

fn arrived(data: Value) -> Arrived {
    Arrived { at: Duration::ZERO, data }
}

fn frame(kind: &str, sequence: i64) -> Value {
    let payload = match kind {
        "agent_started" => json!({"status": "running", "message": "on it"}),
        "agent_thinking" => json!({"reasoning": "hm", "step_number": 1}),
        "tool_executing" => json!({"tool_name": "calculator", "parameters": {}}),
        "tool_completed" => json!({"tool_name": "calculator", "result": 42, "execution_time_ms": 3}),
        "partial_result" => json!({"content": "An", "is_final": false}),
        "agent_completed" => json!({"status": "completed", "result": "An answer", "execution_time_ms": 12.5}),
        _ => json!({"status": "failed", "error_code": "AGENT_ERROR", "error_message": "no"}),
    };
    json!({"type": kind, "run_id": "r", "thread_id": "t", "agent_name": "chat", "sequence": sequence, "timestamp": 1_795_366_889.0, "payload": payload})
}

const SOUND: [&str; 6] =
    ["agent_started", "agent_thinking", "tool_executing", "tool_completed", "partial_result", "agent_completed"];

fn run(kinds: &[&str]) -> Run {
    let frames: Vec<_> = kinds.iter().zip(1..).map(|(kind, n)| arrived(frame(kind, n))).collect();
    Run::pick(&events(&frames), "r")
}

/// The rules of a run, by name.
fn broken(run: &Run) -> Vec<&'static str> {
    let rules = [
        ("starts_once", run.starts_once()),
        ("thinks", run.thinks()),
        ("tools_pair", run.tools_pair()),
        ("keeps_order", run.keeps_order()),
        ("ends_once", run.ends_once()),
        ("counts_without_gap", run.counts_without_gap()),
        ("stays_in", run.stays_in("t")),
        ("is_complete", run.is_complete()),
    ];
    rules.into_iter().filter(|(_, result)| result.is_err()).map(|(name, _)| name).collect()
}

#[rstest]
#[case::sound(&SOUND, &[])]
#[case::failed(&["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_error"], &[])]
#[case::no_start(&SOUND[1..], &["starts_once", "thinks"])]
#[case::two_starts(&["agent_started", "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed"], &["starts_once", "thinks"])]
#[case::no_thinking(&["agent_started", "tool_executing", "tool_completed", "agent_completed"], &["thinks"])]
#[case::no_tool(&["agent_started", "agent_thinking", "agent_completed"], &["tools_pair"])]
#[case::tool_not_completed(&["agent_started", "agent_thinking", "tool_executing", "agent_completed"], &["tools_pair"])]
#[case::tool_not_executed(&["agent_started", "agent_thinking", "tool_completed", "agent_completed"], &["tools_pair"])]
#[case::late_thinking(&["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_thinking", "agent_completed"], &["keeps_order"])]
#[case::piece_before_a_tool(&["agent_started", "agent_thinking", "partial_result", "tool_executing", "tool_completed", "agent_completed"], &["keeps_order"])]
#[case::piece_after_the_end(&["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed", "partial_result"], &["keeps_order", "ends_once"])]
#[case::no_end(&SOUND[..5], &["ends_once"])]
#[case::two_ends(&["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed", "agent_completed"], &["ends_once"])]
#[case::after_the_end(&["agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_completed", "agent_thinking"], &["keeps_order", "ends_once"])]
fn a_run_breaks_the_rule_that_it_breaks(#[case] kinds: &[&str], #[case] wanted: &[&str]) {
    assert_eq!(broken(&run(kinds)), wanted);
}

#[test]
fn a_gap_a_stray_thread_another_tool_and_a_missing_field_are_told() {
    let change = |at: usize, change: fn(&mut Event)| {
        let mut run = run(&SOUND);
        change(&mut run.events[at]);
        broken(&run)
    };
    assert_eq!(change(3, |event| event.sequence = Some(9)), ["counts_without_gap"]);
    assert_eq!(change(3, |event| event.sequence = None), ["counts_without_gap"]);
    assert_eq!(change(2, |event| event.thread_id = "other".to_owned()), ["stays_in"]);
    assert_eq!(change(3, |event| event.payload["tool_name"] = json!("other")), ["tools_pair"]);
    assert_eq!(change(1, |event| event.payload["reasoning"] = json!("")), ["is_complete"]);
    // A tool without a name pairs with nothing, not even with another one.
    let mut nameless = run(&SOUND);
    nameless.events[2..4].iter_mut().for_each(|event| event.payload["tool_name"] = json!(""));
    assert_eq!(broken(&nameless), ["tools_pair", "is_complete"]);
    let mut silent = run(&SOUND);
    silent.events[4].payload["is_final"] = json!("no");
    let told = silent.is_complete().expect_err("must be told");
    assert!(told.wanted.starts_with("partial_result with /is_final true or false"), "{told:?}");
    assert_eq!(change(5, |event| event.agent_name = String::new()), ["is_complete"]);
}

#[test]
fn runs_are_picked_by_thread_in_the_order_of_their_beginning() {
    let of = |kind: &str, run: &str, thread: &str| {
        let mut frame = frame(kind, 1);
        (frame["run_id"], frame["thread_id"]) = (json!(run), json!(thread));
        arrived(frame)
    };
    let frames = [
        of("agent_started", "b", "t"),
        of("agent_started", "a", "t"),
        of("agent_started", "x", "other"),
        of("agent_completed", "a", "t"),
        of("agent_thinking", "b", "t"),
        of("agent_error", "b", "t"),
    ];
    let runs = Run::of_thread(&events(&frames), "t");
    assert_eq!(runs.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(runs[0].kinds(), ["agent_started", "agent_thinking", "agent_error"]);
    assert_eq!(runs[0].terminal().map(|event| event.kind.as_str()), Some("agent_error"));
    assert_eq!(runs[1].terminal().map(|event| event.kind.as_str()), Some("agent_completed"));
    assert_eq!((runs[0].answer(), runs[1].answer()), ("", "An answer"));
    assert!(runs[0].partials().is_empty());
    let sound = run(&SOUND);
    assert_eq!(sound.partials().iter().map(|event| event.kind.as_str()).collect::<Vec<_>>(), ["partial_result"]);
    assert!(run(&SOUND[..5]).terminal().is_none());
}

#[test]
fn the_permitted_variants_are_one() {
    // As recorded from the product: fields in the frame itself, no sequence, the answer under another name.
    let flat = json!({"type": "agent_completed", "agent_name": "ChatAgent", "final_response": "An answer", "thread_id": "t", "run_id": "r", "timestamp": 1.0});
    let under_data = json!({"type": "agent_completed", "data": {"run_id": "r", "thread_id": "t", "result": {"response": "An answer"}}, "timestamp": "2026-11-22T17:01:29Z"});
    let canonical = frame("agent_completed", 6);
    for variant in [flat, under_data, canonical] {
        let event = Event::of(&arrived(variant.clone())).expect("an agent event");
        assert_eq!((event.run_id.as_str(), event.thread_id.as_str(), event.answer()), ("r", "t", "An answer"), "{variant}");
        assert!(event.timestamp.is_some(), "{variant}");
    }
    assert!(Event::of(&arrived(json!({"type": "pong"}))).is_none());
}

// ---- refusals -------------------------------------------------------------------------------------------------------

fn refusal(status: u16, frames: Vec<Value>, close: Option<u16>) -> Refusal {
    Refusal { exchange: 1, status, frames, close: close.map(|code| Close { code, reason: String::new() }) }
}

fn error_frame(code: &str) -> Value {
    let details = json!({"environment": "staging", "ssot_authentication": true, "error_code": code});
    json!({"type": "error_message", "error_code": code, "error_message": "no", "details": details, "timestamp": 1.0, "recovery_suggestions": null})
}

#[rstest]
#[case::by_handshake(refusal(401, vec![], None), None)]
#[case::by_frame(refusal(101, vec![error_frame("NO_TOKEN")], Some(1008)), None)]
#[case::handshake_500(refusal(500, vec![], None), Some("handshake 500"))]
#[case::welcome(refusal(101, vec![json!({"type": "system_message", "data": {"event": "connection_established"}})], None), Some("the token was accepted"))]
#[case::wrong_close(refusal(101, vec![error_frame("NO_TOKEN")], Some(1011)), Some("close 1011"))]
#[case::cut(refusal(101, vec![error_frame("NO_TOKEN")], Some(1006)), Some("close 1006"))]
#[case::stays_open(refusal(101, vec![error_frame("NO_TOKEN")], None), Some("still open"))]
#[case::no_frame(refusal(101, vec![], Some(1008)), Some("frames []"))]
#[case::two_frames(refusal(101, vec![error_frame("NO_TOKEN"), error_frame("NO_TOKEN")], Some(1008)), Some("NO_TOKEN\", \"NO_TOKEN"))]
#[case::wrong_code(refusal(101, vec![error_frame("UNEXPECTED_ERROR")], Some(1008)), Some("UNEXPECTED_ERROR"))]
fn a_refusal_is_clean_or_told(#[case] refusal: Refusal, #[case] part: Option<&str>) {
    match (refusal.is_clean(&["NO_TOKEN"], "staging"), part) {
        (Ok(()), None) => {}
        (Err(mismatch), Some(part)) => assert!(mismatch.got.contains(part), "{mismatch:?}"),
        (other, _) => panic!("{other:?}, wanted {part:?}"),
    }
}

#[test]
fn a_refusal_with_half_of_its_fields_is_told() {
    let mut frame = error_frame("NO_TOKEN");
    frame["details"]["environment"] = json!("production");
    let told = refusal(101, vec![frame], Some(1008)).is_clean(&["NO_TOKEN"], "staging");
    assert!(told.is_err_and(|mismatch| mismatch.got == "/details/environment \"production\""));
}

#[test]
fn refusals_look_the_same_but_for_what_an_outsider_could_tell_them_apart_by() {
    let told = |message: &str| {
        let mut frame = error_frame("VALIDATION_FAILED");
        frame["error_message"] = message.into();
        refusal(101, vec![frame], Some(1008)).look()
    };
    let plain = told("no");
    assert_eq!(plain, "101 \"VALIDATION_FAILED\" \"no\" Some(1008)");
    assert_eq!(told("no | Debug: 475 chars, 2 dots"), plain);
    let others = [
        told("no such user"),
        refusal(101, vec![error_frame("NO_TOKEN")], Some(1008)).look(),
        refusal(101, vec![error_frame("VALIDATION_FAILED")], Some(1011)).look(),
        refusal(401, vec![], None).look(),
    ];
    assert!(others.iter().all(|other| *other != plain), "{others:?}");
}
