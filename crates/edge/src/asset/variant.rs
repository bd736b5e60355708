//! Compressed forms of files: made once, kept in memory.

use super::Shared;
use super::cache::Bounded;
use super::file::{Found, Identity};
use crate::compress;
use astraler_model::Coding;
use bytes::Bytes;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;

/// All kept forms of one release together.
const KEPT_BYTES: usize = 16 << 20;
/// Larger files are compressed while they are sent.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// `None`: it does not shrink, or could not be read.
type Form = Arc<OnceCell<Option<Bytes>>>;

#[derive(Debug)]
pub(super) struct Variants(Mutex<Bounded<(Identity, Coding), Form>>);

impl Default for Variants {
    fn default() -> Self {
        Self(Mutex::new(Bounded::new(KEPT_BYTES / 1024)))
    }
}

impl Variants {
    /// The file in this coding. Of those who ask at once, one compresses.
    pub(super) async fn get(&self, shared: &Arc<Shared>, found: &Found, coding: Coding) -> Option<Bytes> {
        if found.identity.size > MAX_FILE_BYTES {
            return None;
        }
        let key = (found.identity, coding);
        let form = {
            let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match forms.get(&key) {
                Some(form) => form,
                None => {
                    let form = Form::default();
                    // Most text shrinks to less than half.
                    let weight = 1 + usize::try_from(found.identity.size).unwrap_or(usize::MAX) / 2048;
                    forms.insert(key, form.clone(), weight);
                    form
                }
            }
        };
        let make = || async {
            let (shared, name, content) = (shared.clone(), found.name.clone(), found.content.clone());
            let identity = found.identity;
            let made = tokio::task::spawn_blocking(move || make(&shared, &name, identity, content, coding));
            made.await.ok()?.ok()?
        };
        form.get_or_init(make).await.clone()
    }
}

fn make(
    shared: &Shared,
    name: &str,
    identity: Identity,
    content: Option<Bytes>,
    coding: Coding,
) -> io::Result<Option<Bytes>> {
    let content = match content {
        Some(content) => content,
        None => match shared.folder.open(name)? {
            Some((file, now)) if now == identity => {
                let mut content = Vec::new();
                file.take(identity.size).read_to_end(&mut content)?;
                if content.len() as u64 != identity.size {
                    return Ok(None);
                }
                content.into()
            }
            _ => return Ok(None),
        },
    };
    let small = compress::whole(coding, &content)?;
    Ok((small.len() < content.len()).then_some(small))
}
