//! The support library of `netra-critical`: what 25 end-to-end checks share.
//!
//! It knows HTTP, WebSockets, tokens and evidence. It knows no check and no stand-in.
//!
//! | to understand | read |
//! |---|---|
//! | what a check is and how one runs | [`check`], then [`context`], which a check's body holds |
//! | what must hold, and how it is said | [`expect`], [`event`], [`history`] |
//! | what crosses the wire | [`http`] and [`reply`], [`sse`], [`dial`], [`refusal`] and [`ws`] with its `inbox`, over [`net`], [`wire`] and [`io`] |
//! | who asks | [`identity`], [`token`], `users` |
//! | what is left behind | [`exchange`], [`about`], [`evidence`], [`secret`]; what people and tools read of it: [`report`] |
//! | why it failed | [`diagnose`]; before and after a run [`doctor`], [`explain`], [`repro`], [`past_runs`] |
//! | where it runs | [`config`], [`suite`] |
//!
//! Borders, kept by clippy's `disallowed-methods`: only [`config`] reads the environment, only [`net`] and [`dial`] open
//! connections, only [`poll`] sleeps.

pub mod about;
pub mod advertised;
mod certificate;
pub mod check;
pub mod config;
pub mod context;
pub mod diagnose;
pub mod dial;
pub mod doctor;
pub mod event;
pub mod evidence;
pub mod exchange;
pub mod expect;
pub mod explain;
pub mod history;
pub mod http;
pub mod identity;
mod inbox;
pub mod io;
pub mod leak;
pub mod net;
pub mod past_runs;
pub mod poll;
pub mod refusal;
pub mod reply;
pub mod report;
pub mod repro;
pub mod secret;
pub mod sse;
pub mod suite;
pub mod text;
pub mod time;
pub mod token;
mod users;
pub mod wire;
pub mod ws;

pub use check::{Area, Check, Outcome, Verdict};
pub use context::Cx;
pub use expect::{Class, Held, Is, Mismatch};
pub use suite::Staging;
