//! Composing an answer: a few sentences that follow from the prompt, its numbers, and what was said before.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::terms::Terms;

/// How often a month a prompt is assumed to be sent, for the estimate.
const CALLS_A_MONTH: f64 = 30_000.0;

/// What the tools found out.
pub(crate) struct Findings {
    pub(crate) words: u64,
    pub(crate) characters: u64,
    pub(crate) tokens: u64,
    pub(crate) cost_usd: f64,
}

impl Findings {
    /// Reads the results of `text_statistics` and `token_cost_estimate`.
    pub(crate) fn of(statistics: &Value, cost: &Value) -> Self {
        let count = |value: &Value, name: &str| value[name].as_u64().unwrap_or_default();
        Self {
            words: count(statistics, "words"),
            characters: count(statistics, "characters"),
            tokens: count(cost, "tokens"),
            cost_usd: cost["cost_usd"].as_f64().unwrap_or_default(),
        }
    }
}

/// The answer to `prompt`: three to six sentences. The same prompt with the same past gives the same answer.
pub(crate) fn compose(agent: &str, prompt: &str, earlier: &[String], findings: &Findings) -> String {
    let terms = Terms::of(prompt);
    // Another separator, should the prompt itself be such a list: an answer never repeats the prompt.
    let text = [", ", " / "].map(|separator| sentences(agent, prompt, earlier, findings, &terms, separator).join(" "));
    let [text, other] = text;
    if repeats(&text, prompt) { other } else { text }
}

fn repeats(text: &str, prompt: &str) -> bool {
    let prompt = prompt.trim();
    prompt.contains(char::is_whitespace) && text.contains(prompt)
}

fn sentences(agent: &str, prompt: &str, earlier: &[String], findings: &Findings, terms: &Terms, separator: &str) -> Vec<String> {
    let mut sentences = vec![opening(agent, prompt, &terms.words.join(separator))];
    if !terms.exact.is_empty() {
        sentences.push(format!("Figures and names carried over unchanged: {}.", terms.exact.join(separator)));
    }
    if let Some(term) = remembered(earlier, terms) {
        sentences.push(format!("Earlier in this thread you brought up {term}, and this builds on it."));
    }
    sentences.push(format!(
        "The request has {} words in {} characters, about {} tokens.",
        findings.words, findings.characters, findings.tokens
    ));
    sentences.push(saving(prompt, findings));
    sentences.push(format!("{} The reference of this piece of work is {}.", next_step(agent), reference(prompt)));
    sentences
}

fn opening(agent: &str, prompt: &str, words: &str) -> String {
    let subject = if words.is_empty() { "a short request".to_owned() } else { words.to_owned() };
    match agent {
        "triage" => format!("Sorted as {} work on {subject}.", category(prompt)),
        "data" => format!("Data review of {subject}."),
        "optimization" => format!("Optimisation potential found around {subject}."),
        _ => format!("Main points: {subject}."),
    }
}

fn category(prompt: &str) -> &'static str {
    let prompt = prompt.to_lowercase();
    let mentions = |words: &[&str]| words.iter().any(|word| prompt.contains(word));
    if mentions(&["cost", "price", "saving", "budget", "spend"]) {
        "cost"
    } else if mentions(&["latency", "slow", "fast", "performance", "throughput"]) {
        "performance"
    } else if mentions(&["error", "fail", "bug", "crash", "broken"]) {
        "reliability"
    } else {
        "general"
    }
}

/// How much of the text repeats itself decides what caching could save.
fn saving(prompt: &str, findings: &Findings) -> String {
    let monthly = findings.cost_usd * CALLS_A_MONTH;
    let share = 0.2 + 0.5 * repeated_share(prompt);
    format!(
        "Sent {CALLS_A_MONTH:.0} times a month it would cost about {monthly:.2} USD, and caching could save {:.2} USD of it ({:.0} %).",
        monthly * share,
        share * 100.0
    )
}

#[expect(clippy::cast_precision_loss, reason = "word counts are far below 2^52")]
fn repeated_share(prompt: &str) -> f64 {
    let words: Vec<String> = prompt.split_whitespace().map(str::to_lowercase).collect();
    let distinct: std::collections::HashSet<&String> = words.iter().collect();
    if words.is_empty() { 0.0 } else { 1.0 - distinct.len() as f64 / words.len() as f64 }
}

/// A telling word of an earlier question that this one does not already name.
fn remembered(earlier: &[String], terms: &Terms) -> Option<String> {
    earlier.iter().find_map(|question| {
        let theirs = Terms::of(question);
        let new = |word: &&String| !terms.exact.contains(word) && !terms.words.contains(word);
        theirs.exact.iter().find(new).or_else(|| theirs.words.iter().find(new)).cloned()
    })
}

fn next_step(agent: &str) -> &'static str {
    match agent {
        "triage" => "Next, hand this to the agent of that category.",
        "data" => "Next, compare these numbers with last week's.",
        "optimization" => "Next, try the cache on a tenth of the traffic.",
        _ => "Next, say which of these points matters most.",
    }
}

/// Two prompts that differ anywhere have different references.
fn reference(prompt: &str) -> String {
    let digest = Sha256::digest(prompt.as_bytes());
    digest.iter().take(4).fold("W-".to_owned(), |text, byte| format!("{text}{byte:02X}"))
}

/// The text cut into at least four pieces, which give the text again when put together.
pub(crate) fn pieces(text: &str) -> Vec<String> {
    const PIECES: usize = 8;
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let size = (words.len() / PIECES).max(1);
    words.chunks(size).map(<[&str]>::concat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINDINGS: Findings = Findings { words: 4, characters: 20, tokens: 5, cost_usd: 0.00001 };

    fn answer(prompt: &str) -> String {
        compose("chat", prompt, &[], &FINDINGS)
    }

    #[test]
    fn prompts_that_differ_get_answers_that_differ() {
        assert_ne!(answer("Say hello"), answer("Say hullo"));
        assert_eq!(answer("Say hello"), answer("Say hello"));
    }

    #[test]
    fn an_answer_never_repeats_the_prompt() {
        for prompt in ["a1, b2", "latency-budget, infrastructure", "Please optimise my AI costs"] {
            assert!(!answer(prompt).contains(prompt), "{prompt} in {}", answer(prompt));
        }
    }

    #[test]
    fn what_was_said_before_is_remembered() {
        let text = compose("chat", "And what next?", &["The code word is Lima-77".into()], &FINDINGS);
        assert!(text.contains("Lima-77"), "{text}");
    }

    #[test]
    fn pieces_put_together_are_the_text() {
        let text = answer("Compare the price of 3 models");
        let pieces = pieces(&text);
        assert!(pieces.len() >= 4);
        assert_eq!(pieces.concat(), text);
    }
}
