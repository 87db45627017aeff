//! The shapes of an archive: objects of HAR 1.2 with the members that are used, and those that Chromium's DevTools add.

use serde::Serialize;

use super::timings::Timings;

/// A body is shown up to this many characters; the evidence file keeps more.
const BODY_CHARS: usize = 4_000;
/// The type of a body that says none.
const UNKNOWN: &str = "x-unknown";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log<'a> {
    pub(super) version: &'static str,
    pub(super) creator: Creator<'a>,
    pub(super) pages: Vec<Page>,
    pub(super) comment: String,
}

#[derive(Serialize)]
pub(super) struct Creator<'a> {
    pub(super) name: &'static str,
    pub(super) version: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page {
    pub(super) started_date_time: String,
    pub(super) id: String,
    pub(super) title: String,
    #[serde(rename = "pageTimings")]
    pub(super) timings: PageTimings,
    pub(super) comment: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageTimings {
    pub(super) on_load: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry<'a> {
    /// Stands first and has a fixed width, so that entries sort by time as texts.
    pub(super) started_date_time: String,
    pub(super) time: f64,
    pub(super) pageref: String,
    pub(super) request: Request<'a>,
    pub(super) response: Response<'a>,
    pub(super) cache: Cache,
    pub(super) timings: Timings,
    #[serde(rename = "serverIPAddress", skip_serializing_if = "Option::is_none")]
    pub(super) server_ip_address: Option<String>,
    /// The server's port, as the format permits where the connection is not known otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection: Option<String>,
    pub(super) comment: String,
    #[serde(rename = "_resourceType")]
    pub(super) resource_type: &'static str,
    #[serde(rename = "_webSocketMessages", skip_serializing_if = "Option::is_none")]
    pub(super) messages: Option<Vec<Message<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) url: String,
    pub(super) http_version: &'a str,
    pub(super) cookies: [(); 0],
    pub(super) headers: Vec<Pair<&'a str>>,
    pub(super) query_string: Vec<Pair<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) post_data: Option<Body<'a>>,
    pub(super) headers_size: i64,
    pub(super) body_size: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response<'a> {
    pub(super) status: u16,
    pub(super) status_text: &'static str,
    pub(super) http_version: &'a str,
    pub(super) cookies: [(); 0],
    pub(super) headers: Vec<Pair<&'a str>>,
    pub(super) content: Content<'a>,
    #[serde(rename = "redirectURL")]
    pub(super) redirect_url: &'a str,
    pub(super) headers_size: i64,
    pub(super) body_size: i64,
    #[serde(rename = "_transferSize")]
    pub(super) transfer_size: u64,
    #[serde(rename = "_error", skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Content<'a> {
    pub(super) size: i64,
    #[serde(flatten)]
    pub(super) text: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    pub(super) mime_type: &'a str,
    pub(super) text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) comment: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Pair<T> {
    pub(super) name: T,
    pub(super) value: T,
}

#[derive(Serialize)]
pub(super) struct Cache {}

#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub(super) r#type: &'static str,
    /// Seconds since 1970.
    pub(super) time: f64,
    /// RFC 6455 §5.2.
    pub(super) opcode: u8,
    pub(super) data: &'a str,
}

impl<'a> Body<'a> {
    pub(super) fn of(text: &'a str, mime_type: Option<&'a str>) -> Self {
        let end = text.char_indices().nth(BODY_CHARS).map(|(end, _)| end);
        Self {
            mime_type: mime_type.unwrap_or(UNKNOWN),
            text: &text[..end.unwrap_or(text.len())],
            comment: end.map(|end| format!("cut: the first {end} of {} bytes", length(text))),
        }
    }
}

/// Bytes of a body, also of one that [`crate::exchange::cut`] shortened: it says how many there were.
pub(super) fn length(text: &str) -> i64 {
    let cut = text.strip_suffix(" bytes shown]").and_then(|text| text.rsplit_once("… [cut: "));
    let all = cut.and_then(|(_, of)| of.split_once(" of ")?.1.parse().ok());
    all.unwrap_or_else(|| i64::try_from(text.len()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::cut;

    #[test]
    fn a_long_body_is_cut_at_a_character_and_its_true_length_stays() {
        let long = "ü".repeat(BODY_CHARS + 1);
        let text = Body::of(&long, None);
        assert_eq!((text.text.chars().count(), length(&long)), (BODY_CHARS, 8_002));
        assert_eq!(text.comment.as_deref(), Some("cut: the first 8000 of 8002 bytes"));
        assert_eq!(length(&cut(&long, 100)), 8_002);
        let whole = Body::of(&long[2..], Some("text/plain"));
        assert_eq!((whole.text.len(), whole.comment, whole.mime_type), (8_000, None, "text/plain"));
    }
}
