//! Response rate limiting: how often one network gets equal answers over UDP, where the sender's address may be forged
//! so that our answers hit somebody else.
//!
//! In BIND's terms: `responses-per-second` for each kind of answer, networks of /24 and /56, a `window` of 15 s in which
//! who sent too much pays it back, `slip 2`: every second answer above the rate is an empty one that says "ask over
//! TCP", which a real client does and a forger cannot.

use crate::answer::Nature;
use astraler_model::{Network, ResponseRate};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

/// Seconds that a debt can grow to.
const WINDOW_S: i64 = 15;
/// Every so many answers above the rate one says "ask over TCP".
const SLIP: u8 = 2;
const V4_BITS: u32 = 24;
const V6_BITS: u32 = 56;

/// Locks, so that threads seldom wait for each other.
const SHARDS: usize = 64;
/// Groups of entries in a shard; in each the oldest makes room.
const GROUPS: usize = 64;
const WAYS: usize = 4;

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is sent.
    Send,
    /// An empty one is sent that says "ask over TCP".
    Truncate,
    /// Nothing is sent.
    Drop,
}

/// What was sent to whom. Bounded: 16,384 entries, half a megabyte.
#[derive(Debug)]
pub(crate) struct Table {
    shards: Box<[Mutex<Box<[Entry]>>]>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: u64,
    /// Thousandths of an answer that may still be sent; below zero is a debt.
    balance: i64,
    at_ms: u32,
    slip: u8,
}

impl Table {
    pub(crate) fn new() -> Self {
        let shard = || Mutex::new(vec![Entry::default(); GROUPS * WAYS].into_boxed_slice());
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Judges one answer. `subject` is what makes two answers of one nature equal. `now_ms` need not begin anywhere; it
    /// goes on by itself.
    pub(crate) fn judge(
        &self,
        rate: &ResponseRate,
        client: IpAddr,
        nature: Nature,
        subject: (&[u8], u16),
        now_ms: u32,
    ) -> Verdict {
        if rate.per_s == 0
            || rate
                .exempt
                .iter()
                .any(|network: &Network| network.contains(client))
        {
            return Verdict::Send;
        }
        let mut hasher = self.hasher.build_hasher();
        network(client).hash(&mut hasher);
        (nature, subject).hash(&mut hasher);
        // 0 is an entry that nobody has.
        let key = hasher.finish().max(1);
        let shard = &self.shards[(key >> 32) as usize % SHARDS];
        let group = key as usize % GROUPS;
        let mut entries = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = &mut entries[group * WAYS..(group + 1) * WAYS];
        let at = ways.iter().position(|entry| entry.key == key);
        let at = at.unwrap_or_else(|| {
            let age = |entry: &Entry| match entry.key {
                0 => u32::MAX,
                _ => now_ms.wrapping_sub(entry.at_ms),
            };
            let oldest = (0..WAYS).max_by_key(|way| age(&ways[*way])).unwrap_or(0);
            ways[oldest] = Entry {
                key,
                balance: i64::from(rate.per_s) * 1_000,
                at_ms: now_ms,
                slip: 0,
            };
            oldest
        });
        ways[at].judge(i64::from(rate.per_s), now_ms)
    }
}

impl Entry {
    fn judge(&mut self, per_s: i64, now_ms: u32) -> Verdict {
        // Threads read the clock before they have the lock: a step back is no time at all.
        let passed = now_ms.wrapping_sub(self.at_ms);
        if passed < u32::MAX / 2 {
            self.balance = (self.balance + i64::from(passed) * per_s).min(per_s * 1_000);
            self.at_ms = now_ms;
        }
        self.balance = (self.balance - 1_000).max(-WINDOW_S * per_s * 1_000);
        if self.balance >= 0 {
            return Verdict::Send;
        }
        self.slip = (self.slip + 1) % SLIP;
        if self.slip == 0 {
            Verdict::Truncate
        } else {
            Verdict::Drop
        }
    }
}

fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits() >> (32 - V4_BITS)),
        // Above every IPv4 network.
        IpAddr::V6(address) => address.to_bits() >> (128 - V6_BITS) | 1 << 127,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 20;

    fn count(
        table: &Table,
        rate: &ResponseRate,
        client: &str,
        name: &[u8],
        times: u32,
        from_ms: u32,
        every_ms: u32,
    ) -> [u32; 3] {
        let mut counts = [0; 3];
        for index in 0..times {
            let now = from_ms.wrapping_add(index * every_ms);
            let client = client.parse().unwrap();
            counts[table.judge(rate, client, Nature::Found, (name, 1), now) as usize] += 1;
        }
        counts
    }

    fn rate() -> ResponseRate {
        ResponseRate {
            per_s: RATE,
            exempt: vec!["198.51.100.0/24".parse().unwrap()],
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_rate() {
        let table = Table::new();
        // 1,000 at once: the rate is sent, of the others every second one says "ask over TCP".
        assert_eq!(
            count(&table, &rate(), "192.0.2.1", b"a", 1_000, 0, 0),
            [20, 490, 490]
        );
        // Its neighbour in the /24 pays for it; another network does not, nor another answer.
        assert_eq!(count(&table, &rate(), "192.0.2.200", b"a", 2, 0, 0), [0, 1, 1]);
        assert_eq!(count(&table, &rate(), "192.0.3.1", b"a", 2, 0, 0), [2, 0, 0]);
        assert_eq!(count(&table, &rate(), "192.0.2.1", b"b", 2, 0, 0), [2, 0, 0]);
        // The debt is that of 15 s, however much was sent.
        assert_eq!(count(&table, &rate(), "192.0.2.1", b"a", 1, 14_900, 0)[0], 0);
        assert_eq!(count(&table, &rate(), "192.0.2.1", b"a", 1, 16_000, 0)[0], 1);
    }

    #[test]
    fn at_the_rate_everything_is_answered() {
        let table = Table::new();
        assert_eq!(
            count(&table, &rate(), "2001:db8::1", b"a", 2_000, u32::MAX - 500, 50),
            [2_000, 0, 0]
        );
        // Twice the rate, for 50 s.
        let [sent, truncated, dropped] = count(&table, &rate(), "2001:db8:0:ff00::1", b"a", 2_000, 0, 25);
        // BIND's window: what is above the rate is a debt, and whoever goes on at twice the rate stays in it.
        assert!((RATE..100).contains(&sent), "{sent}");
        assert_eq!(sent + truncated + dropped, 2_000);
    }

    #[test]
    fn exempt_networks_and_rate_zero_have_no_limit() {
        let table = Table::new();
        assert_eq!(
            count(&table, &rate(), "198.51.100.7", b"a", 5_000, 0, 0),
            [5_000, 0, 0]
        );
        let off = ResponseRate {
            per_s: 0,
            exempt: vec![],
        };
        assert_eq!(count(&table, &off, "192.0.2.1", b"a", 5_000, 0, 0), [5_000, 0, 0]);
    }

    #[test]
    fn a_flood_of_networks_takes_no_more_memory_and_no_room_for_good() {
        let table = Table::new();
        let rate = rate();
        for index in 0..300_000_u32 {
            let client = IpAddr::from((index << 8).to_be_bytes());
            table.judge(&rate, client, Nature::NoName, (b"z", 0), 1_000);
        }
        assert_eq!(
            count(&table, &rate, "203.0.113.1", b"new", 21, 1_000, 0),
            [20, 0, 1]
        );
    }

    #[test]
    fn threads_count_together() {
        let table = Table::new();
        let rate = rate();
        let sent: u32 = std::thread::scope(|scope| {
            let one = || count(&table, &rate, "192.0.2.1", b"a", 1_000, 0, 0)[0];
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(sent, RATE);
    }
}
