//! Lies about threads.

use super::{Family, Fault};

pub(super) struct Threads;

const FAULTS: &[Fault] = &[];

impl Family for Threads {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }
}
