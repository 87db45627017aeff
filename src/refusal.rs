//! How the socket refuses a token, judged.

use serde_json::Value;

use crate::exchange::Close;
use crate::expect::{Is, Mismatch, fields};

/// How a token was refused, or was not.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Number of the exchange.
    pub exchange: u32,
    /// Status of the handshake.
    pub status: u16,
    /// All frames that came after a 101.
    pub frames: Vec<Value>,
    /// How the connection ended; none if it was still open at the deadline.
    pub close: Option<Close>,
}

impl Refusal {
    /// Judges it by the contract, section 2.2: a handshake 401 or 403; or 101, exactly one `error_message` with one of these
    /// codes and every field of the contract, and close 1008.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn is_clean(&self, codes: &[&str], environment: &str) -> Result<(), Mismatch> {
        let wanted = format!("handshake 401 or 403; or one error_message {}, then close 1008", codes.join(" or "));
        let wrong = |got: String| Err(Mismatch { wanted: wanted.clone(), got });
        match self.status {
            401 | 403 => return Ok(()),
            101 => {}
            other => return wrong(format!("handshake {other}")),
        }
        if self.frames.iter().any(|frame| frame["data"]["event"] == "connection_established") {
            return wrong("a welcome: the token was accepted".to_owned());
        }
        let told = || {
            let kinds: Vec<_> =
                self.frames.iter().map(|f| f["error_code"].as_str().or(f["type"].as_str()).unwrap_or("?")).collect();
            let end =
                self.close.as_ref().map_or("still open at the deadline".to_owned(), |c| format!("close {} {:?}", c.code, c.reason));
            format!("frames {kinds:?}, {end}")
        };
        let [frame] = self.frames.as_slice() else { return wrong(told()) };
        let right_code = frame["error_code"].as_str().is_some_and(|code| codes.contains(&code));
        if frame["type"] != "error_message" || !right_code || self.close.as_ref().map(|c| c.code) != Some(1008) {
            return wrong(told());
        }
        let code = frame["error_code"].clone();
        fields(
            frame,
            &[
                ("/error_message", Is::Text),
                ("/details/environment", Is::exactly(environment)),
                ("/details/ssot_authentication", Is::exactly(true)),
                ("/details/error_code", Is::Exactly(code)),
                ("/timestamp", Is::Moment),
            ],
        )
    }

    /// What an outsider can tell refusals apart by: status, error code, message without its debug tail, close code.
    #[must_use]
    pub fn look(&self) -> String {
        let frame = self.frames.first().cloned().unwrap_or_default();
        let message = frame["error_message"].as_str().unwrap_or_default();
        let message = message.split(" | Debug").next().unwrap_or_default();
        format!("{} {} {message:?} {:?}", self.status, frame["error_code"], self.close.as_ref().map(|close| close.code))
    }
}
