//! What was purged, and which responses that concerns.
//!
//! Every purge and every invalidation gets a number; every request to a worker notes the number that is current when it
//! is sent. A response whose request is older than a purge that means it is not stored, and one that is read from disk
//! is not used: so a purge needs to find neither what is on its way nor what lies in files.

use super::entry::{Entry, Origin};
use astraler_model::{Environment, PurgeWhat};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Purges remembered one by one; beyond, the oldest are remembered as one of everything that is older.
const MAX_RULES: usize = 10_000;
/// Invalidated URLs share so many places: one that meets another's is not stored once, no more.
const PLACES: usize = 4096;
/// Longest text of one purge.
pub(super) const MAX_TEXT: usize = 8192;

#[derive(Debug)]
pub(super) struct Purges {
    epoch: AtomicU64,
    rules: RwLock<Rules>,
    /// The number of the last invalidation of a URL that falls on this place.
    urls: Box<[AtomicU64]>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Rules {
    by: HashMap<(Option<Environment>, PurgeWhat), u64>,
    /// Prefixes have to be looked at one by one.
    prefixes: usize,
    /// All that is older than this.
    floor: u64,
    /// All that is older than this and was not stored when its purge was forgotten.
    unstored_floor: u64,
}

/// What a purge is compared with.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) url: &'a str,
    pub(super) environment: Environment,
    pub(super) tags: &'a [Box<str>],
    pub(super) epoch: u64,
}

impl<'a> From<&'a Entry> for Subject<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            url: entry.key.url(),
            environment: entry.lineage.environment,
            tags: &entry.tags,
            epoch: entry.epoch,
        }
    }
}

impl<'a> From<&'a Origin> for Subject<'a> {
    fn from(origin: &'a Origin) -> Self {
        Self {
            url: origin.key.url(),
            environment: origin.lineage.environment,
            tags: &origin.tags,
            epoch: origin.epoch,
        }
    }
}

impl Purges {
    /// `first` is greater than every number that was given before.
    pub(super) fn new(first: u64) -> Self {
        Self {
            epoch: AtomicU64::new(first),
            rules: RwLock::default(),
            urls: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// For a request that is about to be sent.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// A new number, greater than that of every request sent before.
    pub(super) fn next(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// What is on its way from this URL is not to be stored.
    pub(super) fn invalidate_url(&self, url: &str) {
        self.place(url).store(self.next(), Ordering::SeqCst);
    }

    /// From now on, for what is older; its number.
    pub(super) fn add(&self, environment: Option<Environment>, what: PurgeWhat) -> u64 {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        // Given under the lock: see `up_to`.
        let number = self.next();
        rules.add(environment, what, number);
        number
    }

    /// One of an earlier process.
    pub(super) fn restore(&self, environment: Option<Environment>, what: PurgeWhat, number: u64) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.add(environment, what, number);
    }

    /// The greatest number of those that are remembered, and of what was given before.
    pub(super) fn up_to(&self) -> u64 {
        let _rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        self.epoch()
    }

    /// Numbers go on from here: an earlier process gave those before.
    pub(super) fn begin_at(&self, first: u64) {
        self.epoch.fetch_max(first, Ordering::SeqCst);
    }

    /// Whether any is remembered.
    pub(super) fn any(&self) -> bool {
        !self
            .rules
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by
            .is_empty()
    }

    /// Nothing stored is left that was meant by the purges up to this number: they are remembered only for what is on
    /// its way. Returns the later ones.
    pub(super) fn forget(&self, up_to: u64) -> Vec<(Option<Environment>, PurgeWhat, u64)> {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        rules.forget(up_to);
        rules.unstored_floor = rules.unstored_floor.max(up_to);
        let each = rules.by.iter();
        each.map(|((environment, what), number)| (*environment, what.clone(), *number))
            .collect()
    }

    /// Whether a response that is about to be stored is older than a purge that means it.
    pub(super) fn void(&self, subject: Subject<'_>) -> bool {
        let unstored = {
            let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
            rules.unstored_floor > subject.epoch
        };
        unstored || self.place(subject.url).load(Ordering::SeqCst) > subject.epoch || self.ruled_out(subject)
    }

    /// The same for one that was stored.
    pub(super) fn ruled_out(&self, subject: Subject<'_>) -> bool {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        if rules.floor > subject.epoch {
            return true;
        }
        if rules.by.is_empty() {
            return false;
        }
        let newer = |environment, what| {
            rules
                .by
                .get(&(environment, what))
                .is_some_and(|number| *number > subject.epoch)
        };
        let (_, bare) = split_scheme(subject.url);
        [None, Some(subject.environment)].into_iter().any(|of| {
            newer(of, PurgeWhat::Everything)
                || newer(of, PurgeWhat::Url(subject.url.to_owned()))
                || newer(of, PurgeWhat::Url(bare.to_owned()))
                || newer(of, PurgeWhat::Host(host_of(bare).to_owned()))
                || subject
                    .tags
                    .iter()
                    .any(|tag| newer(of, PurgeWhat::Tag(tag.to_string())))
        }) || rules.prefixes > 0
            && rules.by.iter().any(|((of, what), number)| {
                *number > subject.epoch
                    && of.is_none_or(|of| of == subject.environment)
                    && means(what, subject)
            })
    }

    fn place(&self, url: &str) -> &AtomicU64 {
        &self.urls[self.hasher.hash_one(url) as usize % PLACES]
    }
}

impl Rules {
    fn add(&mut self, environment: Option<Environment>, what: PurgeWhat, number: u64) {
        let prefix = matches!(what, PurgeWhat::Prefix(_));
        if self.by.insert((environment, what), number).is_none() && prefix {
            self.prefixes += 1;
        }
        if self.by.len() > MAX_RULES {
            let mut numbers: Vec<u64> = self.by.values().copied().collect();
            numbers.sort_unstable();
            let up_to = numbers[numbers.len() / 2];
            self.forget(up_to);
            self.floor = self.floor.max(up_to);
        }
    }

    fn forget(&mut self, up_to: u64) {
        self.by.retain(|_, number| *number > up_to);
        self.prefixes = self
            .by
            .keys()
            .filter(|(_, what)| matches!(what, PurgeWhat::Prefix(_)))
            .count();
    }
}

/// Whether a purge means a response, whatever its age.
pub(super) fn means(what: &PurgeWhat, subject: Subject<'_>) -> bool {
    let (_, bare) = split_scheme(subject.url);
    match what {
        PurgeWhat::Everything => true,
        PurgeWhat::Url(url) => subject.url == url || bare == url,
        PurgeWhat::Prefix(prefix) => bare.starts_with(prefix.as_str()),
        PurgeWhat::Host(host) => host_of(bare) == host,
        PurgeWhat::Tag(tag) => subject.tags.iter().any(|own| **own == **tag),
    }
}

/// The same purge as keys are spelled: lower-case scheme and host without the scheme's own port, the path in its one
/// spelling. `None` for what cannot mean anything.
pub(super) fn spelled(what: &PurgeWhat) -> Option<PurgeWhat> {
    let bounded = |text: &str| !text.is_empty() && text.len() <= MAX_TEXT;
    match what {
        PurgeWhat::Everything => Some(PurgeWhat::Everything),
        PurgeWhat::Tag(tag) => bounded(tag).then(|| PurgeWhat::Tag(tag.trim().to_ascii_lowercase())),
        PurgeWhat::Host(host) => {
            let host = crate::host::HostName::parse(host.trim()).filter(|_| bounded(host))?;
            Some(PurgeWhat::Host(host.as_str().to_owned()))
        }
        PurgeWhat::Url(url) => {
            let url = url.split('#').next().filter(|url| bounded(url))?;
            let (scheme, bare) = split_scheme(url);
            let bare = spelled_bare(scheme, bare, true)?;
            Some(PurgeWhat::Url(match scheme {
                Some(scheme) => format!("{}://{bare}", scheme.to_ascii_lowercase()),
                None => bare,
            }))
        }
        PurgeWhat::Prefix(prefix) => {
            let (scheme, bare) = split_scheme(prefix);
            let bare = spelled_bare(scheme, bare, false).filter(|_| bounded(prefix))?;
            Some(PurgeWhat::Prefix(bare))
        }
    }
}

fn spelled_bare(scheme: Option<&str>, bare: &str, whole: bool) -> Option<String> {
    let (authority, rest) = bare.split_at(bare.find(['/', '?']).unwrap_or(bare.len()));
    crate::host::HostName::parse(authority)?;
    let mut authority = authority.to_ascii_lowercase();
    for (of, port) in [("http", ":80"), ("https", ":443")] {
        if scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(of))
            && let Some(bare) = authority.strip_suffix(port)
        {
            authority = bare.to_owned();
        }
    }
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let path = match path {
        "" if whole || query.is_some() => "/".into(),
        "" => "".into(),
        path => crate::path::normalise(path)?,
    };
    Some(match query {
        Some(query) => format!("{authority}{path}?{query}"),
        None => format!("{authority}{path}"),
    })
}

fn split_scheme(url: &str) -> (Option<&str>, &str) {
    match url.split_once("://") {
        Some((scheme, bare)) if !scheme.contains(['/', '?']) => (Some(scheme), bare),
        _ => (None, url),
    }
}

/// The host in `host:port/path`.
fn host_of(bare: &str) -> &str {
    let authority = &bare[..bare.find(['/', '?']).unwrap_or(bare.len())];
    if authority.starts_with('[') {
        return authority.find(']').map_or(authority, |end| &authority[..=end]);
    }
    authority.split(':').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(url: &'a str, tags: &'a [Box<str>], epoch: u64) -> Subject<'a> {
        Subject {
            url,
            environment: Environment::Staging,
            tags,
            epoch,
        }
    }

    #[test]
    fn a_purge_means_what_is_older_and_named() {
        let tags: [Box<str>; 1] = ["posts".into()];
        let page = "https://a.test:8443/x/y?z=1";
        let cases = [
            (PurgeWhat::Everything, true),
            (PurgeWhat::Url("https://A.test:8443/x/./y?z=1".into()), true),
            (PurgeWhat::Url("a.test:8443/x/y?z=1#f".into()), true),
            (PurgeWhat::Url("http://a.test:8443/x/y?z=1".into()), false),
            (PurgeWhat::Url("https://a.test:8443/x/y".into()), false),
            (PurgeWhat::Prefix("a.test:8443/x".into()), true),
            (PurgeWhat::Prefix("https://a.test:8443/x/".into()), true),
            (PurgeWhat::Prefix("a.test:8443/y".into()), false),
            (PurgeWhat::Host("A.test".into()), true),
            (PurgeWhat::Host("b.test".into()), false),
            (PurgeWhat::Tag("Posts".into()), true),
            (PurgeWhat::Tag("post".into()), false),
        ];
        for (what, meant) in cases {
            let purges = Purges::new(1);
            let before = purges.epoch();
            let spelled = spelled(&what).unwrap();
            purges.add(None, spelled.clone());
            let after = purges.epoch();
            assert_eq!(purges.void(subject(page, &tags, before)), meant, "{what:?}");
            assert!(!purges.void(subject(page, &tags, after)), "{what:?}");
            assert_eq!(means(&spelled, subject(page, &tags, after)), meant, "{what:?}");
        }
    }

    #[test]
    fn a_purge_stays_in_its_environment() {
        let purges = Purges::new(1);
        purges.add(Some(Environment::Production), PurgeWhat::Everything);
        assert!(!purges.void(subject("http://a.test/", &[], 1)));
        purges.add(Some(Environment::Staging), PurgeWhat::Everything);
        assert!(purges.void(subject("http://a.test/", &[], 1)));
    }

    #[test]
    fn what_is_forgotten_still_voids_what_is_older() {
        let purges = Purges::new(1);
        for number in 0..=MAX_RULES {
            purges.add(None, PurgeWhat::Tag(number.to_string()));
        }
        assert!(
            purges.void(subject("http://a.test/", &[], 1)),
            "the first ones are one by now"
        );
        assert!(!purges.void(subject("http://a.test/", &[], purges.epoch())));
        purges.invalidate_url("http://a.test/");
        assert!(purges.void(subject("http://a.test/", &[], purges.epoch() - 1)));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for what in [
            PurgeWhat::Url(String::new()),
            PurgeWhat::Url("/only/a/path".into()),
            PurgeWhat::Host("no host".into()),
            PurgeWhat::Tag(String::new()),
            PurgeWhat::Prefix("a".repeat(MAX_TEXT + 1)),
        ] {
            assert_eq!(spelled(&what), None, "{what:?}");
        }
    }
}
