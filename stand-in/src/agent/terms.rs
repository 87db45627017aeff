//! What a prompt is about: its telling words.

/// Long enough to tell something, too common to tell anything.
const COMMON: [&str; 48] = [
    "about",
    "above",
    "after",
    "again",
    "analyse",
    "analyze",
    "answer",
    "because",
    "before",
    "being",
    "below",
    "between",
    "could",
    "describe",
    "doing",
    "during",
    "every",
    "exactly",
    "explain",
    "following",
    "further",
    "given",
    "having",
    "include",
    "including",
    "might",
    "other",
    "please",
    "question",
    "reply",
    "shall",
    "should",
    "since",
    "sentence",
    "suggest",
    "tell",
    "their",
    "there",
    "these",
    "thing",
    "those",
    "through",
    "under",
    "until",
    "where",
    "which",
    "while",
    "would",
];
/// How many words without a digit are named at most.
const MAX_WORDS: usize = 5;

/// The telling words of a prompt, the most telling first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Every word with a digit, as written: a figure or a name nobody may drop.
    pub(crate) exact: Vec<String>,
    /// Compounds, then long and rare words.
    pub(crate) words: Vec<String>,
}

impl Terms {
    pub(crate) fn of(text: &str) -> Self {
        let mut terms = Self::default();
        let mut candidates = Vec::new();
        for word in text.split_whitespace().map(bare).filter(|word| !word.is_empty()) {
            if word.chars().any(char::is_numeric) {
                push(&mut terms.exact, word);
            } else if is_telling(word) {
                push(&mut candidates, word);
            }
        }
        // Stable: among equals the earlier word wins.
        candidates.sort_by_key(|word| (!word.contains('-'), std::cmp::Reverse(word.chars().count())));
        candidates.truncate(MAX_WORDS);
        terms.words = candidates;
        terms
    }
}

/// The word without the punctuation around it; what is inside stays.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| {
        c.is_ascii_punctuation() && !matches!(c, '-' | '_' | '$' | '%' | '#' | '+') || "“”‘’„«»…".contains(c)
    })
}

fn is_telling(word: &str) -> bool {
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    letters >= 5 && !COMMON.contains(&word.to_lowercase().as_str())
}

fn push(list: &mut Vec<String>, word: &str) {
    if !list.iter().any(|known| known == word) {
        list.push(word.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_with_a_digit_is_kept_as_written() {
        let terms = Terms::of("Include the secret word \"Kiwi-42x\", please, and 3.5% of (zz9).");
        assert_eq!(terms.exact, ["Kiwi-42x", "3.5%", "zz9"]);
    }

    #[test]
    fn compounds_come_first_and_common_words_never() {
        let terms = Terms::of("Please explain which latency-budget our infrastructure should have");
        assert_eq!(terms.words, ["latency-budget", "infrastructure"]);
    }
}
