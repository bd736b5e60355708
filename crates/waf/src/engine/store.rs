//! Variables that outlive a transaction: of clients, sessions, and of all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::seclang::Store;

/// Variables that outlive a transaction. Bounded: beyond its size what would expire first makes room.
#[derive(Debug)]
pub struct Stores {
    kept: Mutex<HashMap<(Store, Box<str>), Kept>>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Kept {
    variables: HashMap<Box<str>, Variable>,
    expires: u64,
}

#[derive(Debug)]
struct Variable {
    value: Box<[u8]>,
    /// When it is gone; never by itself where that is 0.
    expires: u64,
}

/// How many variables one client or session may have.
const VARIABLES: usize = 64;
/// How long a value may be; the rest is cut off.
const VALUE_BYTES: usize = 1024;
/// How long a name may be; a longer one is not kept.
const NAME_BYTES: usize = 256;
/// Among how many the one is chosen that makes room.
const SAMPLE: usize = 16;

impl Stores {
    /// Keeps the variables of at most so many clients and sessions.
    pub fn new(limit: usize) -> Self {
        Self {
            kept: Mutex::new(HashMap::new()),
            limit: limit.max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Store, Box<str>), Kept>> {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn all(&self, store: Store, key: &str, now: u64) -> Vec<(Box<str>, Box<[u8]>)> {
        let kept = self.lock();
        let Some(own) = kept.get(&(store, key.into())).filter(|own| own.expires > now) else {
            return Vec::new();
        };
        own.variables
            .iter()
            .filter(|(_, variable)| variable.expires == 0 || variable.expires > now)
            .map(|(name, variable)| (name.clone(), variable.value.clone()))
            .collect()
    }

    /// Changes a variable: from what it holds to what it shall hold, which may be nothing.
    pub(super) fn change(
        &self,
        place: (Store, &str, &str),
        now: u64,
        timeout: u64,
        change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>,
    ) {
        let (store, key, name) = place;
        let mut kept = self.lock();
        let id = (store, Box::from(key));
        if !kept.contains_key(&id) && kept.len() >= self.limit {
            make_room(&mut kept, now);
        }
        let own = kept.entry(id).or_default();
        if own.expires <= now {
            own.variables.clear();
        }
        own.expires = now.saturating_add(timeout);
        let old = own
            .variables
            .get(name)
            .filter(|variable| variable.expires == 0 || variable.expires > now);
        let expires = old.map_or(0, |variable| variable.expires);
        match change(old.map(|variable| &*variable.value)) {
            None => {
                own.variables.remove(name);
            }
            Some(mut value) => {
                value.truncate(VALUE_BYTES);
                let has_room = own.variables.len() < VARIABLES && name.len() <= NAME_BYTES;
                if has_room || own.variables.contains_key(name) {
                    let value = value.into();
                    own.variables.insert(name.into(), Variable { value, expires });
                }
            }
        }
    }

    /// Says when a variable is gone.
    pub(super) fn expire(&self, place: (Store, &str, &str), now: u64, seconds: u64) {
        let (store, key, name) = place;
        let mut kept = self.lock();
        if let Some(variable) = kept
            .get_mut(&(store, key.into()))
            .and_then(|own| own.variables.get_mut(name))
        {
            variable.expires = now.saturating_add(seconds).max(1);
        }
    }

    /// How many clients and sessions have variables.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none has any.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

fn make_room(kept: &mut HashMap<(Store, Box<str>), Kept>, now: u64) {
    let first = kept
        .iter()
        .take(SAMPLE)
        .min_by_key(|(_, own)| own.expires)
        .map(|(id, own)| (id.clone(), own.expires <= now));
    if let Some((id, _)) = first {
        kept.remove(&id);
    }
}
