//! Texts that services like to damage.

/// Each must come back from the service exactly as it was sent.
pub const AWKWARD: [&str; 8] = [
    "emoji 👩🏽‍🚀🎉 and 🇩🇪",
    "right to left: שלום עולם, مرحبا بالعالم",
    "combining: e\u{301} n\u{303} a\u{30a}\u{323}",
    "line one\nline two\r\n\ttabbed",
    r#"quotes " ' ` and \backslash\ and %20 {{x}} ${y}"#,
    "<script>alert('1')</script> <b>&amp;</b>",
    "'; DROP TABLE threads; --",
    "中文、日本語、한국어",
];

/// A text of exactly this many characters (not bytes), not all of the same kind.
#[must_use]
pub fn of_length(characters: usize) -> String {
    "Zuverlässige Software 信頼 ".chars().cycle().take(characters).collect()
}
