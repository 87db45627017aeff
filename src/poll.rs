//! Waiting for a condition until a deadline. The only module that sleeps.

use std::future::Future;
use std::time::{Duration, Instant};

/// Waits for a future for at most `within`; `None` when the deadline passed.
pub async fn within<T>(within: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(within, future).await.ok()
}

/// Asks again and again, `every` so often, until `ask` gives `Ok` or the deadline passes.
///
/// # Errors
/// The last state that `ask` reported, when the deadline passed. It is asked at least once.
pub async fn until<T, S>(deadline: Duration, every: Duration, mut ask: impl AsyncFnMut() -> Result<T, S>) -> Result<T, S> {
    let end = Instant::now() + deadline;
    loop {
        match ask().await {
            Ok(value) => return Ok(value),
            Err(state) if Instant::now() + every > end => return Err(state),
            Err(_) => pause(every).await,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the suite sleeps, between two looks at a condition")]
async fn pause(every: Duration) {
    tokio::time::sleep(every).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_state_is_given_when_the_deadline_passes() {
        let mut asked = 0;
        let state = until(Duration::from_millis(20), Duration::from_millis(5), async || {
            asked += 1;
            Err::<(), _>(format!("asked {asked} times"))
        })
        .await
        .unwrap_err();
        assert_eq!(state, format!("asked {asked} times"));
        assert!(asked >= 2, "{state}");
    }

    #[tokio::test]
    async fn a_condition_that_becomes_true_ends_the_wait() {
        let mut asked = 0;
        let ready = until(Duration::from_secs(5), Duration::from_millis(1), async || {
            asked += 1;
            if asked == 3 { Ok(asked) } else { Err(asked) }
        });
        assert_eq!(ready.await, Ok(3));
    }
}
