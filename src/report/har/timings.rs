//! Where the time of an exchange went, in the steps of HAR 1.2.

use serde::Serialize;

use crate::exchange::{Frame, Timing};

/// What is unknown or did not happen.
const NONE: f64 = -1.0;

/// Milliseconds; [`NONE`] where a step did not happen.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Timings {
    pub(super) blocked: f64,
    pub(super) dns: f64,
    pub(super) connect: f64,
    pub(super) ssl: f64,
    pub(super) send: f64,
    pub(super) wait: f64,
    pub(super) receive: f64,
}

impl Timings {
    /// The format's steps follow each other; ours are counted from the start. `ssl` is part of `connect`. Sending is not
    /// measured apart, so it is part of `wait`. What no step explains is waiting too. The last frame ends a connection that
    /// was not closed.
    pub(super) fn of(it: &Timing, last: Option<&Frame>) -> Self {
        let connect = it.tcp_ms.map(|tcp| tcp + it.tls_ms.unwrap_or_default());
        let steps = it.dns_ms.unwrap_or_default() + connect.unwrap_or_default();
        let total = it.total_ms.or(last.map(|frame| frame.at_ms));
        let first = it.first_byte_ms.or(total).unwrap_or(steps).max(steps);
        let known = |step: Option<f64>| step.map_or(NONE, |ms| round(ms, 1e3));
        Self {
            blocked: NONE,
            dns: known(it.dns_ms),
            connect: known(connect),
            ssl: known(it.tls_ms.filter(|_| connect.is_some())),
            send: 0.0,
            wait: round(first - steps, 1e3),
            receive: round((total.unwrap_or(first) - first).max(0.0), 1e3),
        }
    }

    /// The time of the entry: all that happened, without `ssl`, which `connect` holds.
    pub(super) fn sum(&self) -> f64 {
        let steps = [self.blocked, self.dns, self.connect, self.send, self.wait, self.receive];
        round(steps.iter().filter(|ms| **ms > 0.0).sum(), 1e3)
    }
}

/// To so many steps a unit.
pub(super) fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(dns: Option<f64>, tcp: Option<f64>, tls: Option<f64>, first: Option<f64>, total: Option<f64>) -> Timing {
        Timing { dns_ms: dns, tcp_ms: tcp, tls_ms: tls, first_byte_ms: first, total_ms: total }
    }

    #[test]
    fn steps_add_up_to_the_whole_time_with_tls_inside_connecting() {
        let it = Timings::of(&timing(Some(1.0), Some(2.0), Some(4.0), Some(10.0), Some(12.5)), None);
        let wanted = Timings { blocked: NONE, dns: 1.0, connect: 6.0, ssl: 4.0, send: 0.0, wait: 3.0, receive: 2.5 };
        assert_eq!(it, wanted);
        assert_eq!(it.sum().to_string(), "12.5");
    }

    #[test]
    fn a_reused_connection_has_no_steps_of_connecting() {
        let it = Timings::of(&timing(None, None, None, Some(0.1), Some(0.3)), None);
        assert_eq!((it.dns, it.connect, it.ssl, it.wait, it.receive), (NONE, NONE, NONE, 0.1, 0.2));
        assert_eq!(it.sum().to_string(), "0.3");
    }

    #[test]
    fn what_broke_before_an_answer_has_waited_until_it_broke() {
        let it = Timings::of(&timing(Some(1.0), Some(2.0), None, None, Some(50.0)), None);
        assert_eq!((it.connect, it.ssl, it.wait, it.receive), (2.0, NONE, 47.0, 0.0));
        let nothing = Timings::of(&Timing::default(), None);
        assert_eq!((nothing.wait, nothing.receive, nothing.sum()), (0.0, 0.0, 0.0));
        // Steps are measured by other clocks than the first byte: their sum may be a little more.
        assert_eq!(Timings::of(&timing(Some(1.0), Some(2.0), None, Some(2.9), None), None).wait.to_string(), "0");
    }

    #[test]
    fn the_last_frame_ends_a_connection_that_stays_open() {
        let frame = Frame { at_ms: 30.0, sent: false, text: String::new() };
        assert_eq!(Timings::of(&timing(None, None, None, Some(10.0), None), Some(&frame)).receive.to_string(), "20");
    }
}
