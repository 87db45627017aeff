//! How many requests one user may make in a minute.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(60);

/// Counts requests per user, or per peer where there is no user, in windows of a minute.
pub(crate) struct Limiter {
    limit: u32,
    windows: Mutex<HashMap<String, (Instant, u32)>>,
}

impl Limiter {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, windows: Mutex::new(HashMap::new()) }
    }

    /// Counts one request; over the limit, how many seconds to wait.
    pub(crate) fn take(&self, key: &str) -> Result<(), u64> {
        self.take_at(key, Instant::now())
    }

    fn take_at(&self, key: &str, now: Instant) -> Result<(), u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, taken) = windows.entry(key.to_owned()).or_insert((now, 0));
        if now.duration_since(*start) >= WINDOW {
            (*start, *taken) = (now, 0);
        }
        if *taken >= self.limit {
            return Err(WINDOW.saturating_sub(now.duration_since(*start)).as_secs().max(1));
        }
        *taken += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_each_users_own_and_ends_with_the_minute() {
        let limiter = Limiter::new(2);
        let now = Instant::now();
        assert_eq!([limiter.take_at("a", now), limiter.take_at("a", now)], [Ok(()), Ok(())]);
        assert_eq!(limiter.take_at("a", now + Duration::from_secs(20)), Err(40));
        assert_eq!(limiter.take_at("b", now), Ok(()));
        assert_eq!(limiter.take_at("a", now + WINDOW), Ok(()));
    }
}
