//! One stored response as a file: a prefix with lengths and checksum, a head as JSON, the content.
//!
//! A file is written beside and renamed, and nothing is synced: after a crash of the machine it may hold anything, and
//! the checksum finds out.

use crate::cache::entry::{Entry, Lineage, Now, Origin};
use astraler_http_cache::{Key, Settings, Stored, Variant};
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

const MAGIC: &[u8; 8] = b"ASTCACH1";
/// Magic, length of the head, length of the content, checksum of both.
pub(super) const PREFIX: usize = 8 + 4 + 8 + 4;
/// A longer head is none of ours.
pub(super) const MAX_HEAD_BYTES: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    key: String,
    /// The part of the key that is the URL.
    url: usize,
    environment: astraler_model::Environment,
    deployment: String,
    tags: Vec<Box<str>>,
    epoch: u64,
    status: u16,
    /// Bytes of values as characters.
    fields: Vec<(String, String)>,
    /// Of the request, those that select.
    selecting: Vec<(String, String)>,
    received_ms: u64,
    initial_age_ms: u64,
}

/// All but the content.
pub(super) fn write_head(entry: &Entry) -> Option<Vec<u8>> {
    let stored = &entry.stored;
    let text = |value: &[u8]| value.iter().map(|&byte| char::from(byte)).collect::<String>();
    let head = Head {
        key: entry.key.as_str().to_owned(),
        url: entry.key.url().len(),
        environment: entry.lineage.environment,
        deployment: entry.lineage.deployment.to_string(),
        tags: entry.tags.to_vec(),
        epoch: entry.epoch,
        status: stored.status.as_u16(),
        fields: stored
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())))
            .collect(),
        selecting: stored
            .variant
            .request_fields()
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        received_ms: millis(stored.received.duration_since(SystemTime::UNIX_EPOCH).ok()?),
        initial_age_ms: millis(stored.initial_age),
    };
    let head = serde_json::to_vec(&head)
        .ok()
        .filter(|head| head.len() <= MAX_HEAD_BYTES)?;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&head);
    checksum.update(&entry.body);
    let mut bytes = Vec::with_capacity(PREFIX + head.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    bytes.extend_from_slice(&(entry.body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&checksum.finalize().to_le_bytes());
    bytes.extend_from_slice(&head);
    Some(bytes)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Lengths of head and content.
pub(super) fn lengths(prefix: &[u8]) -> Option<(usize, u64)> {
    let rest = prefix.strip_prefix(MAGIC)?;
    let head = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let content = u64::from_le_bytes(rest.get(4..12)?.try_into().ok()?);
    (head <= MAX_HEAD_BYTES).then_some((head, content))
}

/// Reads a whole file. `None` for one that is not exactly what was written.
pub(super) fn read(file: &Bytes, settings: &Settings, now: Now) -> Option<Entry> {
    let (head_length, content_length) = lengths(file.get(..PREFIX)?)?;
    let rest = file.slice(PREFIX..);
    if (rest.len() as u64).checked_sub(head_length as u64)? != content_length {
        return None;
    }
    let sum = u32::from_le_bytes(file.get(PREFIX - 4..PREFIX)?.try_into().ok()?);
    if crc32fast::hash(&rest) != sum {
        return None;
    }
    let head: Head = serde_json::from_slice(&rest[..head_length]).ok()?;
    let content = Bytes::copy_from_slice(&rest[head_length..]);
    head.entry(content, settings, now)
}

impl Head {
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        serde_json::from_slice(head).ok()
    }

    /// What a purge is compared with.
    pub(super) fn subject(&self) -> Option<crate::cache::purge::Subject<'_>> {
        Some(crate::cache::purge::Subject {
            url: self.key.get(..self.url)?,
            environment: self.environment,
            tags: &self.tags,
            epoch: self.epoch,
        })
    }

    fn entry(self, content: Bytes, settings: &Settings, now: Now) -> Option<Entry> {
        let headers = fields(&self.fields)?;
        let variant = Variant::of(&headers, &fields(&self.selecting)?)?;
        let received = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.received_ms))?;
        let stored = Stored::restore(
            StatusCode::from_u16(self.status).ok()?,
            headers,
            variant,
            received,
            Duration::from_millis(self.initial_age_ms),
            content.len() as u64,
            settings,
        );
        let origin = Origin {
            key: Key::restore(self.key, self.url)?,
            lineage: Lineage {
                environment: self.environment,
                deployment: self.deployment.into(),
            },
            tags: self.tags.into(),
            epoch: self.epoch,
        };
        Some(Entry::new(origin, stored, content, now))
    }
}

fn fields(pairs: &[(String, String)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers
            .try_append(name, HeaderValue::from_bytes(&bytes?).ok()?)
            .ok()?;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use astraler_http_cache::{Asked, KeyRules, Target, Times, admit};

    fn entry() -> Entry {
        let mut request = HeaderMap::new();
        request.insert("accept-language", "de".parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cache-control", "max-age=60"),
            ("vary", "accept-language"),
            ("etag", "\"1\""),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        headers.append("x-bytes", HeaderValue::from_bytes(b"\xe4\xff").unwrap());
        let settings = Settings::default();
        let asked = Asked::new(&http::Method::GET, &request, &settings);
        let now = Now::get();
        let times = Times {
            requested: now.wall,
            received: now.wall,
        };
        let stored = admit(&asked, StatusCode::OK, &headers, times, &settings).unwrap();
        let target = Target {
            scheme: "https",
            authority: "a.test",
            path_and_query: "/x",
        };
        let origin = Origin {
            key: Key::of(&target, &request, &KeyRules::default()),
            lineage: Lineage {
                environment: astraler_model::Environment::Preview(7),
                deployment: "d-1".into(),
            },
            tags: ["a".into()].into(),
            epoch: 9,
        };
        Entry::new(
            origin,
            stored.complete(7).unwrap(),
            Bytes::from_static(b"content"),
            now,
        )
    }

    fn file(entry: &Entry) -> Vec<u8> {
        let mut bytes = write_head(entry).unwrap();
        bytes.extend_from_slice(&entry.body);
        bytes
    }

    /// Set back, ahead, and while the machine slept: an age only grows.
    #[test]
    fn a_clock_that_jumps_makes_nothing_young() {
        let entry = entry();
        let hour = std::time::Duration::from_secs(3_600);
        let at = |wall, lived| {
            let steady = entry.anchor.steady + lived;
            entry
                .time(Now { wall, steady })
                .duration_since(entry.anchor.wall)
                .unwrap()
        };
        let began = entry.anchor.wall;
        assert_eq!(at(began + hour, hour), hour);
        assert_eq!(at(began - 24 * hour, hour), hour, "set back");
        assert_eq!(at(began - 24 * hour, 2 * hour), 2 * hour, "and it goes on");
        assert_eq!(at(began + 24 * hour, hour), 24 * hour, "set ahead, or asleep");
        assert_eq!(at(began + 2 * hour, 2 * hour), 2 * hour, "and right again");
    }

    #[test]
    fn what_was_written_is_read() {
        let entry = entry();
        let read = read(&file(&entry).into(), &Settings::default(), Now::get()).unwrap();
        assert_eq!(read.key, entry.key);
        assert_eq!(read.body, entry.body);
        assert_eq!(read.lineage, entry.lineage);
        assert_eq!((&read.tags, read.epoch), (&entry.tags, entry.epoch));
        assert_eq!(read.stored.headers, entry.stored.headers);
        assert_eq!(read.stored.variant, entry.stored.variant);
        assert_eq!(read.stored.length, Some(7));
        assert_eq!(read.stored.policy.lifetime, Duration::from_secs(60));
    }

    #[test]
    fn no_byte_can_be_another() {
        let whole = file(&entry());
        let settings = Settings::default();
        for length in 0..whole.len() {
            assert!(
                read(&whole[..length].to_vec().into(), &settings, Now::get()).is_none(),
                "{length}"
            );
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged.into(), &settings, Now::get()).is_none(), "{at}");
        }
        let mut longer = whole;
        longer.push(0);
        assert!(read(&longer.into(), &settings, Now::get()).is_none());
    }
}
