//! `actions/cache`, and its halves `restore` and `save`.

use super::{Context, Done, Inputs};
use crate::cache::{Cache, version};
use crate::engine::{Failed, Job, Post};
use std::collections::BTreeMap;

pub(super) async fn cache(job: &mut Job, inputs: &Inputs, context: &Context<'_>) -> Done {
    let outputs = restore(job, inputs).await?;
    if outputs.get("cache-hit").is_none_or(|hit| hit != "true") {
        job.posts.push(Post::SaveCache {
            uses: context.uses.to_owned(),
            key: inputs.required("key")?.to_owned(),
            paths: inputs.required("path")?.to_owned(),
        });
    }
    Ok(outputs)
}

pub(super) async fn restore(job: &mut Job, inputs: &Inputs) -> Done {
    let (key, paths) = (
        inputs.required("key")?.to_owned(),
        inputs.required("path")?.to_owned(),
    );
    let prefixes: Vec<String> = inputs
        .get("restore-keys")
        .map(|text| {
            text.lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect()
        })
        .unwrap_or_default();
    let spec = &job.shared.spec;
    let (folder, trust, most) = (
        spec.folders.cache.clone(),
        spec.trust.clone(),
        spec.limits.cache_bytes,
    );
    let (confined, wanted, look_only) = (job.confined.clone(), key.clone(), inputs.is("lookup-only"));
    let found = tokio::task::spawn_blocking(move || {
        let cache = Cache::open(&folder, &trust, most)?;
        let Some((found, path)) = cache.find(&version(&paths), &wanted, &prefixes)? else {
            return Ok(None);
        };
        if !look_only {
            Cache::restore(&path, &confined)?;
        }
        Ok::<_, std::io::Error>(Some(found))
    });
    let found = match found.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            job.say(&format!("##[warning]the cache cannot be read: {error}"))
                .await;
            None
        }
        Err(_) => None,
    };
    let mut outputs: BTreeMap<String, String> = [("cache-primary-key".to_owned(), key.clone())].into();
    match found {
        Some(found) => {
            job.say(&format!("Cache restored from key: {found}")).await;
            outputs.insert("cache-hit".into(), (found == key).to_string());
            outputs.insert("cache-matched-key".into(), found);
        }
        None if inputs.is("fail-on-cache-miss") => {
            return Err(Failed::Because(format!(
                "Failed to restore cache entry. Input key: {key}"
            )));
        }
        None => job.say(&format!("Cache not found for input keys: {key}")).await,
    }
    Ok(outputs)
}

pub(super) async fn save(job: &mut Job, inputs: &Inputs) -> Done {
    let (key, paths) = (
        inputs.required("key")?.to_owned(),
        inputs.required("path")?.to_owned(),
    );
    if let Err(message) = job.save_cache(&key, &paths).await {
        job.say(&format!("##[warning]{message}")).await;
    }
    Ok(BTreeMap::new())
}
