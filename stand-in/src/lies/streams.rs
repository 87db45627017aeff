//! Lies about streams.

use super::{Family, Fault};

pub(super) struct Streams;

const FAULTS: &[Fault] = &[];

impl Family for Streams {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }
}
