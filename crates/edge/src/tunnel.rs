//! WebSocket: after 101 the edge carries bytes both ways and looks at none of them.

use crate::config::ms;
use crate::record::Access;
use crate::run::Edge;
use crate::serve::OnUpgrade;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BUFFER_BYTES: usize = 8 << 10;

/// Starts to carry once both sides have switched. Counts as in flight until it ends; a drain cuts it at its end.
pub(crate) fn start(edge: &Arc<Edge>, client: OnUpgrade, upstream: OnUpgrade, access: Access) {
    let idle_ms = edge.limits.tunnel_idle_timeout_ms;
    let aborting = edge.aborting.clone();
    edge.tasks.spawn(async move {
        aborting
            .run_until_cancelled(carry(client, upstream, access, idle_ms))
            .await;
    });
}

async fn carry(client: OnUpgrade, upstream: OnUpgrade, mut access: Access, idle_ms: u64) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client.get(), upstream.get()) else {
        return;
    };
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
    let both = async {
        // Each direction ends by itself: half-closed is not closed. An error on one side ends both.
        tokio::try_join!(
            copy(client_read, upstream_write, &up),
            copy(upstream_read, client_write, &down)
        )
    };
    let mut both = std::pin::pin!(both);
    loop {
        let before = (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
        let ended = tokio::time::timeout(ms(idle_ms), both.as_mut()).await.is_ok();
        let now = (up.load(Ordering::Relaxed), down.load(Ordering::Relaxed));
        access.tunnelled(now.0, now.1);
        if ended || before == now {
            return;
        }
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        bytes.fetch_add(count as u64, Ordering::Relaxed);
    }
}
