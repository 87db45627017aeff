//! Text within HTML: nothing that a service sent may become markup.

use std::fmt::{self, Display, Formatter};

/// Text as HTML shows it between tags. Quotes mean nothing there, and JSON is full of them: escaped, they would be a third of a
/// page.
pub(super) struct Text<'a>(pub(super) &'a str);

/// Text as HTML shows it anywhere, in quoted attributes too.
pub(super) struct Anywhere<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write(f, self.0, false)
    }
}

impl Display for Anywhere<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write(f, self.0, true)
    }
}

/// Adds long text as [`Text`] shows it, without the detour over a formatter.
pub(super) fn push(out: &mut String, text: &str) {
    let _ = write(out, text, false);
}

/// Besides the characters that mean something to HTML, control characters are shown as their pictures (U+2400 and on): NUL and
/// most others are errors in a document (HTML, §13.2.3.5), and invisible to whoever looks for them.
fn write(f: &mut impl fmt::Write, text: &str, quotes: bool) -> fmt::Result {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let shown = match byte {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' if quotes => "&#34;",
            b'\'' if quotes => "&#39;",
            b'\t' | b'\n' | b' '..=b'~' | 0x80.. => continue,
            _ => "",
        };
        f.write_str(&text[plain..at])?;
        plain = at + 1;
        if shown.is_empty() {
            let picture = if byte == 0x7f { 0x2421 } else { 0x2400 + u32::from(byte) };
            f.write_char(char::from_u32(picture).unwrap_or(char::REPLACEMENT_CHARACTER))?;
        } else {
            f.write_str(shown)?;
        }
    }
    f.write_str(&text[plain..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Anywhere(text).to_string()
    }

    #[test]
    fn what_means_something_to_html_is_escaped() {
        assert_eq!(shown("</script><a b='c' d=\"e\">&amp;"), "&lt;/script&gt;&lt;a b=&#39;c&#39; d=&#34;e&#34;&gt;&amp;amp;");
    }

    #[test]
    fn between_tags_quotes_stay_and_nothing_else_does() {
        assert_eq!(Text("{\"a\": '</b>&'}").to_string(), "{\"a\": '&lt;/b&gt;&amp;'}");
    }

    #[test]
    fn control_characters_are_shown_as_pictures_but_lines_stay_lines() {
        assert_eq!(shown("a\0b\r\n\tc\u{1b}[0m\u{7f}"), "a␀b␍\n\tc␛[0m␡");
    }

    #[test]
    fn every_script_stays_as_it_is() {
        let text = "Zuverlässig 信頼 שלום \u{202e}abc 👩🏽‍🚀";
        assert_eq!(shown(text), text);
        assert_eq!(shown(""), "");
    }
}
