//! What comes after the steps of a job, in reverse order.

use super::job::Job;
use crate::event::{Annotation, Conclusion, Level, RunEvent};
use crate::glob::Patterns;
use crate::sandbox::HOME;
use crate::{cache, store};

/// Something to do at the end.
#[derive(Debug, Clone)]
pub(crate) enum Post {
    /// Write a cache entry, if the job succeeded.
    SaveCache {
        /// As the workflow names the action.
        uses: String,
        key: String,
        paths: String,
    },
    /// Give the package store back what is new.
    GiveBackStore,
}

/// Where pnpm has its store.
pub(crate) const STORE: &str = "/runner/.local/share/pnpm/store";

impl Job {
    pub(super) async fn post(&mut self) {
        self.look();
        while let Some(post) = self.posts.pop() {
            match post {
                Post::SaveCache { uses, key, paths } => {
                    if self.status != Conclusion::Success {
                        continue;
                    }
                    self.number += 1;
                    let begun = std::time::Instant::now();
                    let name = format!("Post Run {uses}");
                    let event = RunEvent::StepStarted {
                        job: self.key().to_owned(),
                        step: self.number,
                        name: name.clone(),
                    };
                    self.shared.send(event).await;
                    // A cache that cannot be written is no reason to fail.
                    if let Err(message) = self.save_cache(&key, &paths).await {
                        self.say(&format!("##[warning]{message}")).await;
                        self.annotate(Annotation::new(Level::Warning, message)).await;
                    }
                    self.report(name, Conclusion::Success, Conclusion::Success, begun)
                        .await;
                }
                Post::GiveBackStore => self.give_back_store().await,
            }
        }
    }

    /// Writes a cache entry.
    pub(crate) async fn save_cache(&self, key: &str, paths: &str) -> Result<(), String> {
        let spec = &self.shared.spec;
        let patterns = Patterns::new([paths], &self.workspace, HOME);
        let (confined, trust, key_of, version) = (
            self.confined.clone(),
            spec.trust.clone(),
            key.to_owned(),
            cache::version(paths),
        );
        let (folder, most) = (spec.folders.cache.clone(), spec.limits.cache_bytes);
        let saved = tokio::task::spawn_blocking(move || {
            let files = confined.search(&patterns)?;
            if files.is_empty() {
                return Ok(None);
            }
            let cache = cache::Cache::open(&folder, &trust, most)?;
            cache.save(&version, &key_of, &files, &confined).map(Some)
        });
        match saved.await {
            Ok(Ok(Some(true))) => self.say(&format!("Cache saved with key: {key}")).await,
            Ok(Ok(Some(false))) => {
                self.say(&format!(
                    "The cache has the key {key} already; entries do not change"
                ))
                .await;
            }
            Ok(Ok(None)) => return Err("the paths of the cache match no file".to_owned()),
            Ok(Err(error)) => return Err(format!("the cache cannot be saved: {error}")),
            Err(_) => return Err("the cache cannot be saved".to_owned()),
        }
        Ok(())
    }

    async fn give_back_store(&self) {
        let spec = &self.shared.spec;
        let Ok(own) = self.confined.outside(STORE) else {
            return;
        };
        let (folder, trust) = (spec.folders.cache.clone(), spec.trust.clone());
        let given = tokio::task::spawn_blocking(move || {
            if own.is_dir() {
                store::give_back(&folder, &trust, &own)
            } else {
                Ok(0)
            }
        });
        match given.await {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => self.say(&format!("{count} new files in the package store")).await,
            Ok(Err(error)) => {
                self.say(&format!("##[warning]the package store was not written: {error}"))
                    .await;
            }
            Err(_) => {}
        }
    }
}
