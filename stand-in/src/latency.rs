//! A network that takes its time: every byte arrives later, in order, and none is held up by the one before it.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split},
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// As much as may be on its way in one direction, in chunks; more waits, as it does on a real wire.
const CHUNKS_IN_FLIGHT: usize = 1024;
const CHUNK_BYTES: usize = 16 * 1024;

/// The near end of a connection whose bytes take `delay` in each direction.
pub(crate) fn delayed(connection: TcpStream, delay: Duration) -> DuplexStream {
    let (near, far) = tokio::io::duplex(CHUNK_BYTES);
    let (from_server, to_server) = split(far);
    let (from_client, to_client) = connection.into_split();
    tokio::spawn(carry(from_client, to_server, delay));
    tokio::spawn(carry(from_server, to_client, delay));
    near
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin + Send + 'static,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (wire, mut arrivals) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_IN_FLIGHT);
    tokio::spawn(async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let end = !matches!(from.read_buf(&mut chunk).await, Ok(n) if n > 0);
            // The end of the stream travels as an empty chunk: it too takes its time.
            if wire.send((Instant::now() + delay, chunk)).await.is_err() || end {
                return;
            }
        }
    });
    while let Some((due, chunk)) = arrivals.recv().await {
        sleep_until(due).await;
        if chunk.is_empty() || to.write_all(&chunk).await.is_err() {
            break;
        }
    }
    // The other side may be gone already; then there is nobody to tell.
    drop(to.shutdown().await);
}
