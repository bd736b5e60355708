//! What lies at the destination: the application, its sets, the times that they reach.

use super::Asked;
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_recovery::{
    Destination, DestinationConfig, Kind as Of, Point, StoredSet, list_sets, names, range, timestamp,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What of the destination a recovery may take, oldest first.
pub(super) struct Sets {
    pub(super) state: Vec<StoredSet>,
    pub(super) secrets: Vec<StoredSet>,
    pub(super) releases: Vec<StoredSet>,
    /// By cluster.
    pub(super) bases: BTreeMap<String, Vec<StoredSet>>,
}

/// The application that is recovered: the one that is named, or the only one.
pub(super) async fn name(config: &DestinationConfig, named: Option<&str>) -> Outcome<String> {
    let all = names(config).await.map_err(|error| Failure::of(&error))?;
    let shown = || match all.is_empty() {
        true => "no application has backups there".to_owned(),
        false => format!("backups of: {}", all.join(", ")),
    };
    match named {
        Some(named) if all.iter().any(|one| one == named) => Ok(named.to_owned()),
        Some(named) => Err(Failure::new(
            Kind::General,
            format!("there are no backups of `{named}` at {}", config.url),
        )
        .details(vec![shown()])),
        None => match all.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(
                Failure::new(Kind::General, format!("there are no backups at {}", config.url))
                    .hint("--from is what backups.target_url said, without the application's name"),
            ),
            _ => Err(Failure::new(
                Kind::General,
                format!("{} has backups of several applications", config.url),
            )
            .details(vec![shown()])
            .hint("say which with --name")),
        },
    }
}

impl Sets {
    pub(super) async fn list(destination: &Destination) -> Outcome<Self> {
        let list = async |kind| {
            list_sets(destination, kind, None)
                .await
                .map_err(|error| Failure::of(&error))
        };
        let mut bases: BTreeMap<String, Vec<StoredSet>> = BTreeMap::new();
        for base in list(Of::Base).await? {
            bases.entry(base.set.subject.clone()).or_default().push(base);
        }
        Ok(Self {
            state: list(Of::State).await?,
            secrets: list(Of::Secrets).await?,
            releases: list(Of::Release).await?,
            bases,
        })
    }

    /// The newest set of what the control plane knew at the point in time.
    pub(super) fn newest_state(&self, to_ms: Option<u64>) -> Option<&StoredSet> {
        newest(&self.state, to_ms)
    }

    /// Sets of secrets, newest first, of each pair of keys one.
    pub(super) fn newest_secrets(&self) -> Vec<&StoredSet> {
        let mut by_keys: BTreeMap<&str, &StoredSet> = BTreeMap::new();
        for set in &self.secrets {
            by_keys.insert(&set.set.subject, set);
        }
        let mut all: Vec<&StoredSet> = by_keys.into_values().collect();
        all.sort_by_key(|stored| std::cmp::Reverse(stored.set.started_ms));
        all
    }

    pub(super) fn release(&self, name: &str) -> Option<&StoredSet> {
        self.releases.iter().rfind(|stored| stored.set.subject == name)
    }
}

/// The last that ended before.
pub(super) fn newest(sets: &[StoredSet], to_ms: Option<u64>) -> Option<&StoredSet> {
    sets.iter()
        .rfind(|stored| to_ms.is_none_or(|to_ms| stored.set.ended_ms <= to_ms))
}

#[derive(Serialize)]
struct Plan<'a> {
    from: &'a str,
    name: &'a str,
    sets: Vec<Planned>,
    bytes: u64,
    range: BTreeMap<&'a str, Option<Point>>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Planned {
    kind: &'static str,
    subject: String,
    key: String,
    made_ms: u64,
    bytes: u64,
}

/// Says what a recovery would take, and which times are possible.
pub(super) async fn show(destination: &Destination, asked: &Asked, json: bool) -> Outcome {
    let sets = Sets::list(destination).await?;
    let mut chosen: Vec<&StoredSet> = Vec::new();
    chosen.extend(sets.newest_secrets().into_iter().take(1));
    chosen.extend(sets.newest_state(asked.to_ms));
    let mut releases: BTreeMap<&str, &StoredSet> = BTreeMap::new();
    for release in &sets.releases {
        releases.insert(&release.set.subject, release);
    }
    chosen.extend(releases.into_values());
    let mut possible = BTreeMap::new();
    for (cluster, bases) in &sets.bases {
        chosen.extend(newest(bases, asked.to_ms));
        let range = range(destination, cluster)
            .await
            .map_err(|error| Failure::of(&error))?;
        possible.insert(cluster.as_str(), range);
    }
    let plan = Plan {
        from: &asked.from,
        name: &asked.name,
        bytes: chosen.iter().map(|stored| stored.bytes()).sum(),
        sets: chosen
            .iter()
            .map(|stored| Planned {
                kind: stored.set.kind.name(),
                subject: stored.set.subject.clone(),
                key: stored.key.clone(),
                made_ms: stored.set.started_ms,
                bytes: stored.bytes(),
            })
            .collect(),
        range: possible,
        notes: super::NOTES.map(str::to_owned).into(),
    };
    if json {
        return Ok(table::print_json(&plan)?);
    }
    line(&format!("would recover {} from {}:", plan.name, plan.from));
    table::print(
        &["what", "made", "size"],
        plan.sets.iter().map(|set| {
            vec![
                format!("{} {}", set.kind, set.subject),
                timestamp(set.made_ms),
                table::size(set.bytes),
            ]
        }),
    );
    for (cluster, point) in &plan.range {
        match point {
            Some(point) => line(&format!(
                "postgres {cluster}: any time from {} to {}, and its log",
                timestamp(point.from_ms),
                timestamp(point.to_ms)
            )),
            None => line(&format!("postgres {cluster}: nothing")),
        }
    }
    for note in &plan.notes {
        line(&format!("note: {note}"));
    }
    Ok(())
}
