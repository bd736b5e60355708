//! How many connections each client has. Exact under concurrency: a connection is counted before it is served, and until
//! the last of it is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Clients of different shards do not wait for each other.
const SHARDS: usize = 16;

/// By client; no more entries than there are connections.
#[derive(Debug)]
pub(crate) struct Clients {
    shards: [Mutex<HashMap<Whose, u32>>; SHARDS],
}

/// An IPv4 address, or the network of an IPv6 address: whoever has one address of a /64 has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    V4(u32),
    V6(u64),
}

/// Counts as a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    clients: Arc<Clients>,
    whose: Whose,
}

impl Clients {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
        })
    }

    /// A seat, or `None` when the client has so many; 0 is any number.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, most: u32) -> Option<Seat> {
        let whose = Whose::of(address);
        let mut shard = self.shard(whose).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(whose).or_default();
        if most > 0 && *count >= most {
            return None;
        }
        *count += 1;
        Some(Seat {
            clients: self.clone(),
            whose,
        })
    }

    fn shard(&self, whose: Whose) -> &Mutex<HashMap<Whose, u32>> {
        let bits = match whose {
            Whose::V4(bits) => u64::from(bits),
            Whose::V6(bits) => bits,
        };
        // Multiplied, so that neighbours are spread (Knuth).
        let mixed = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
        &self.shards[usize::try_from(mixed).unwrap_or(0) % SHARDS]
    }
}

impl Whose {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6(u64::try_from(address.to_bits() >> 64).unwrap_or(u64::MAX)),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut shard = self
            .clients
            .shard(self.whose)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_seats_and_they_come_back() {
        let clients = Clients::new();
        let enter = |address: &str| clients.enter(address.parse().unwrap(), 2);
        let first = [enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap()];
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        let _network = [
            enter("2001:db8:0:1::1").unwrap(),
            enter("2001:db8:0:1:ffff::2").unwrap(),
        ];
        assert!(enter("2001:db8:0:1:7::3").is_none());
        assert!(enter("2001:db8:0:2::1").is_some());
        drop(first);
        assert!(enter("192.0.2.1").is_some());
        let any = Clients::new();
        let all: Vec<_> = (0..10_000)
            .map(|_| any.enter("192.0.2.1".parse().unwrap(), 0).unwrap())
            .collect();
        drop(all);
        assert!(any.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn the_count_is_exact_however_many_threads_ask() {
        let clients = Clients::new();
        let seats: usize = std::thread::scope(|scope| {
            let askers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let address = "2001:db8::1".parse().unwrap();
                        // Some leave and come again.
                        for _ in 0..500 {
                            drop(clients.enter(address, 100));
                        }
                        (0..50)
                            .filter_map(|_| clients.enter(address, 100))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let held: Vec<_> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
            held.iter().map(Vec::len).sum()
        });
        assert!(seats <= 400);
        let held: Vec<_> = (0..200)
            .filter_map(|_| clients.enter("2001:db8::1".parse().unwrap(), 100))
            .collect();
        assert_eq!(held.len(), 100);
    }
}
