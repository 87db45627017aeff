//! Lies about connection.

use super::{Family, Fault};

pub(super) struct Connection;

const FAULTS: &[Fault] = &[];

impl Family for Connection {
    fn faults(&self) -> &'static [Fault] {
        FAULTS
    }
}
