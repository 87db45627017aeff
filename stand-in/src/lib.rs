//! A real server that keeps the staging contract, for machines that cannot reach staging.
//!
//! It speaks TLS, HTTP/1.1, HTTP/2, WebSocket and server-sent events, keeps what it is told in `SQLite`, and runs a small
//! agent that really works on the prompt. It knows nothing of the suite that talks to it: it shares no type and no code
//! with it, and verifies tokens with its own code, so that a renamed field breaks a check instead of compiling on both sides.
//!
//! ```no_run
//! use netra_stand_in::{Options, StandIn};
//!
//! let stand_in = StandIn::start(Options::default())?;
//! println!("{} {} {}", stand_in.api_url(), stand_in.ws_url(), stand_in.auth_url());
//! stand_in.stop();
//! # Ok::<(), netra_stand_in::StartError>(())
//! ```
//!
//! # The house
//!
//! | module | what it is about |
//! |---|---|
//! | `server`, `listener`, `tls`, `latency`, `tasks` | starting, accepting, encrypting, delaying, stopping |
//! | `line` | what breaks on a connection when a fault says so |
//! | `app` | what every request shares |
//! | `token`, `auth_service` | who is asking; the auth service on its own port |
//! | `api` | the HTTP API: the gate every request passes, then one file a subject |
//! | `socket` | the WebSocket: presenting a token, the session, the frames, who is connected |
//! | `agent` | the engine behind every run, its tools, its answers, and the runs themselves |
//! | `store` | what survives a restart |
//! | `lies` | named faults, told on purpose, at the seams of all the others |

mod agent;
mod api;
mod app;
mod auth_service;
mod clock;
mod latency;
mod lies;
mod line;
mod listener;
mod options;
mod server;
mod socket;
mod store;
mod tasks;
mod tls;
mod token;

pub use lies::{BENDS, Fault, faults};
pub use options::Options;
pub use server::{StandIn, StartError};
