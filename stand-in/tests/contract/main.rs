//! The stand-in keeps the contract, also where the suite does not look.

#[path = "../support/mod.rs"]
mod support;

mod binary;
mod guards;
mod isolation;
mod lifecycle;
mod runs;
mod sessions;
mod socket;
mod tokens;
