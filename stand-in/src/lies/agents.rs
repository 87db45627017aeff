//! Lies about agents.

use super::{Family, Fault};

pub(super) struct Agents;

const FAULTS: &[Fault] = &[];

impl Family for Agents {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }
}
