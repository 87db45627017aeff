//! The one runtime that owns every socket.
//!
//! Each `#[tokio::test]` brings a runtime of its own that dies with its test; a pooled connection that was opened on it dies
//! too and breaks the next test that reuses it. So sockets live here, for as long as the process does, while the bodies of
//! checks stay on their own test's thread, where libtest captures what they print.

use std::future::Future;

use once_cell::sync::Lazy;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

static RUNTIME: Lazy<Runtime> = Lazy::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("critical-io")
        .enable_all()
        .build()
        .expect("the suite's I/O runtime needs two threads; the system gives none")
});

/// A task on the suite's runtime that ends when its handle is dropped.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a future on the suite's runtime.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    Task(RUNTIME.spawn(future))
}

/// Starts a future that lives on by itself.
pub fn detach(future: impl Future<Output = ()> + Send + 'static) {
    drop(RUNTIME.spawn(future));
}

/// Runs a future on the suite's runtime and waits for it from any other. Dropping the wait stops the future.
///
/// # Panics
/// Panics when the future panics, with its message.
pub async fn run<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let mut task = spawn(future);
    match (&mut task.0).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => panic!("an I/O task of the suite ended early: {error}"),
    }
}
