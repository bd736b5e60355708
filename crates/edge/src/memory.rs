//! The memory budget of the process. What counts is what the kernel says: resident memory, looked at ten times a second.
//!
//! Above 85 % of the budget the edge sheds load: new requests are answered 503 with Retry-After, new connections are
//! turned away, windows no longer grow, and idle connections are closed, those first that have been idle for longest. It
//! is over when memory is below 80 %: freed memory is given back to the system meanwhile, or it would never be.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// While memory is short: it may take milliseconds.
const GIVE_BACK_EVERY: Duration = Duration::from_millis(300);
/// Looks between two turns of the screw.
const LOOKS_A_TURN: u32 = 3;
/// Connections that have been idle for so long go first; then half as long, and so on.
const FIRST_TO_GO: Duration = Duration::from_secs(30);

/// How much there is, and whether it is too much.
#[derive(Debug)]
pub(crate) struct Memory {
    /// 0: no budget.
    most: u64,
    resident: AtomicU64,
    tight: AtomicBool,
    /// Connections that are idle since before should go.
    idle_before: watch::Sender<Option<Instant>>,
    give_back: fn(),
}

impl Memory {
    pub(crate) fn new(most: u64, give_back: fn()) -> Self {
        Self {
            most,
            resident: AtomicU64::new(0),
            tight: AtomicBool::new(false),
            idle_before: watch::Sender::new(None),
            give_back,
        }
    }

    /// No further work should be taken in.
    pub(crate) fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    /// At the last look.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Ends when a connection that is idle since then should be closed.
    pub(crate) fn squeezed(&self, idle_since: Instant) -> impl Future<Output = ()> + Send + 'static {
        let mut idle_before = self.idle_before.subscribe();
        async move {
            let must_go = |before: &Option<Instant>| before.is_some_and(|before| idle_since <= before);
            if idle_before.wait_for(must_go).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Gives back what the thread that polls this has freed, whenever memory is short: an allocator keeps what it might
    /// need again, and where nothing is served it never looks at it.
    pub(crate) async fn give_back(&self) {
        let mut tight = self.idle_before.subscribe();
        while tight.wait_for(Option::is_some).await.is_ok() {
            (self.give_back)();
            tokio::time::sleep(GIVE_BACK_EVERY).await;
        }
    }

    /// Looks for ever.
    pub(crate) async fn watch(&self) {
        if self.most == 0 {
            return;
        }
        let (high, low) = (self.most / 100 * 85, self.most / 100 * 80);
        let mut tick = tokio::time::interval(LOOK_EVERY);
        let mut patience = FIRST_TO_GO;
        for look in 0_u32.. {
            tick.tick().await;
            let resident = resident();
            self.resident.store(resident, Ordering::Relaxed);
            let was_tight = self.is_tight();
            if resident > high || (was_tight && resident > low) {
                if !was_tight {
                    tracing::warn!(resident, budget = self.most, "memory is short: load is shed");
                    self.tight.store(true, Ordering::Relaxed);
                } else if look % LOOKS_A_TURN == 0 {
                    patience /= 2;
                }
                self.idle_before
                    .send_replace(Instant::now().checked_sub(patience));
            } else if was_tight {
                tracing::info!(resident, "memory suffices again");
                self.tight.store(false, Ordering::Relaxed);
                self.idle_before.send_replace(None);
                patience = FIRST_TO_GO;
            }
        }
    }
}

/// Resident memory of this process (proc_pid_statm(5)); 0 where the system does not tell.
pub(crate) fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    pages.unwrap_or(0) * page
}

/// Gives freed memory back to the system where the allocator is the system's own: glibc's keeps it, others do so by
/// themselves.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "glibc has no safe name for it")]
        // SAFETY: malloc_trim(3) is thread-safe, takes a number and touches only memory that is free.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
