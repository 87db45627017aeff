//! The end of the server: being told of it, and waiting until no connection is open.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// Waits until the server stops.
pub(crate) async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could say so is gone, which says it too.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Counts what is still open. Waiting blocks, so that it also works where no runtime may be entered.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: Mutex<usize>,
    none_left: Condvar,
}

/// One open connection; dropping it counts it out.
pub(crate) struct Open(Arc<Shared>);

impl Tasks {
    pub(crate) fn enter(&self) -> Open {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Open(Arc::clone(&self.0))
    }

    /// Waits until nothing is open, but not longer than `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.none_left.wait_timeout_while(open, limit, |open| *open > 0));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open -= 1;
        if *open == 0 {
            self.0.none_left.notify_all();
        }
    }
}
