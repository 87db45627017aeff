//! URLs that a service gives out, wherever they stand in an answer. They are judged, and followed only to hosts of the target.

use crate::config::Target;
use serde_json::Value;
use url::Url;

/// A URL in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Where it stands: a JSON pointer.
    pub at: String,
    /// The URL as it stands there.
    pub text: String,
}

impl Advertised {
    /// The URL, if it is one and leads to a host of this target.
    #[must_use]
    pub fn own(&self, target: &Target) -> Option<Url> {
        Url::parse(&self.text).ok().filter(|url| target.owns(url))
    }
}

/// Every http, https, ws and wss URL in an answer, also in the midst of a text.
#[must_use]
pub fn advertised(answer: &Value) -> Vec<Advertised> {
    let mut found = Vec::new();
    walk(answer, "", &mut found);
    found
}

/// Those that lead anywhere else, as text for a person; empty if there are none.
#[must_use]
pub fn foreign(target: &Target, urls: &[Advertised]) -> String {
    let allowed = |url: &Advertised| Url::parse(&url.text).is_ok_and(|url| target.may_advertise(&url));
    let foreign: Vec<_> = urls.iter().filter(|url| !allowed(url)).map(|url| format!("{} at {}", url.text, url.at)).collect();
    foreign.join("; ")
}

fn walk(value: &Value, at: &str, found: &mut Vec<Advertised>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| walk(inner, &format!("{at}/{name}"), found)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, inner)| walk(inner, &format!("{at}/{i}"), found)),
        Value::String(text) => found.extend(urls_of(text).map(|text| Advertised { at: at.to_owned(), text: text.to_owned() })),
        _ => {}
    }
}

fn urls_of(text: &str) -> impl Iterator<Item = &str> {
    const SCHEMES: [&str; 4] = ["http://", "https://", "ws://", "wss://"];
    text.split(|c: char| c.is_whitespace() || "\"'`<>()".contains(c)).filter_map(|word| {
        let lower = word.to_ascii_lowercase();
        let start = SCHEMES.iter().filter_map(|scheme| lower.find(scheme)).min()?;
        Some(word[start..].trim_end_matches(['.', ',', ';']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_found_at_any_depth_and_in_the_midst_of_a_text() {
        let answer = serde_json::json!({
            "url": "https://a.test", "port": 1, "none": null,
            "deep": [{"ws": "WSS://b.test/ws?x=1"}, "curl --url=http://c.test/d, then <ws://e.test>.", "no://url, a/b"],
        });
        let found: Vec<_> = advertised(&answer).into_iter().map(|url| format!("{} {}", url.at, url.text)).collect();
        let wanted = ["/url https://a.test", "/deep/0/ws WSS://b.test/ws?x=1", "/deep/1 http://c.test/d", "/deep/1 ws://e.test"];
        assert_eq!(found, wanted);
    }
}
