//! Programs of managed rules: compiled off the path of requests, once for all environments that want the same, and again
//! when their files have changed. Rules that cannot be used replace none that can.

use super::Waf;
use super::databases::{DatabaseFault, Databases, Places};
use crate::EdgeSnapshot;
use astraler_model::{Environment, RuleProblem, RulesFound, WafConfig, WafMode};
use astraler_waf::compile::Program;
use astraler_waf::country::Countries;
use astraler_waf::engine::Stores;
use astraler_waf::network::Networks;
use astraler_waf::ruleset::{Files, Options};
use astraler_waf::seclang::LoadError;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Problems that are told at once.
const MAX_PROBLEMS: usize = 50;
/// Programs that are kept for a snapshot to come: one for each kind of environment.
const MAX_ASKED: usize = 4;

/// Clients and sessions that the rules of one environment remember.
const REMEMBERED: usize = 10_000;

/// As much of a body as an environment may want to have looked at; how much it wants is each transaction's own.
const MOST_OF_BODY: u64 = 16 << 20;

/// What makes one program differ from another: the folder of its rules. Whether it blocks, its paranoia level, thresholds
/// and so on are said to each transaction, so environments that differ in these have one program.
type Key = PathBuf;

/// Size and time of each file.
type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// A program, and of which files it was made.
#[derive(Debug, Clone)]
struct Compiled {
    program: Arc<Program>,
    stamp: Stamp,
}

/// All that are in use.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    compiled: HashMap<Key, Compiled>,
    /// What was asked about last, a few: a snapshot that goes by it comes next.
    asked: VecDeque<(Key, Compiled)>,
    countries: Databases<Countries>,
    networks: Databases<Networks>,
    of: HashMap<Environment, Standing>,
}

/// What an environment has.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// None where the managed rules cannot be used, or are not wanted.
    pub(super) program: Option<Arc<Program>>,
    /// What rules remember of clients.
    pub(super) stores: Arc<Stores>,
    pub(super) places: Places,
}

impl Programs {
    /// Compiles what a snapshot wants and is not there. It takes its time; requests go on with what they have.
    pub(crate) async fn prepare(self: &Arc<Self>, snapshot: &Arc<EdgeSnapshot>) {
        let wants_any = snapshot.routes.iter().any(|route| route.policy.waf.is_some());
        let (own, snapshot) = (self.clone(), snapshot.clone());
        if !wants_any {
            own.take(&snapshot);
        } else if let Err(error) = tokio::task::spawn_blocking(move || own.take(&snapshot)).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the firewall's rules were not compiled"
            );
        }
    }

    /// What an environment goes by; as of the last snapshot that was prepared.
    pub(crate) fn waf(&self, config: &WafConfig, environment: Environment) -> Waf {
        let mut inner = self.lock();
        let standing = inner.of.entry(environment).or_insert_with(Standing::new);
        Waf::of(config, standing.clone())
    }

    /// Whether the rules that a firewall names can be used. Nothing goes by them yet. It takes its time.
    pub(crate) fn check(&self, config: &WafConfig) -> RulesFound {
        let mut found = key_of(config).map_or_else(RulesFound::default, |key| self.check_rules(key));
        let (countries, networks) = {
            let inner = self.lock();
            (inner.countries.clone(), inner.networks.clone())
        };
        let mut tell = |file: &Path, key, error: DatabaseFault| {
            found.problems.push(RuleProblem {
                file: file.to_owned(),
                line: 0,
                message: error.to_string(),
                hint: Some(format!(
                    "`edge.waf.{key}` is a `.mmdb` file that the edge's user can read"
                )),
            });
        };
        if let Some(file) = &config.countries
            && let Err(error) = Databases::default().take(file, &countries, Countries::new)
        {
            tell(file, "countries", error);
        }
        if let Some(file) = &config.networks
            && let Err(error) = Databases::default().take(file, &networks, Networks::new)
        {
            tell(file, "networks", error);
        }
        found
    }

    fn check_rules(&self, key: Key) -> RulesFound {
        let known = {
            let inner = self.lock();
            let asked = inner.asked.iter().rfind(|(asked, _)| *asked == key);
            asked
                .map(|(_, compiled)| compiled)
                .or_else(|| inner.compiled.get(&key))
                .cloned()
        };
        match compile(&key, known) {
            Ok(compiled) => {
                let rules = compiled.program.rules().count();
                let mut inner = self.lock();
                inner.asked.retain(|(asked, _)| *asked != key);
                if inner.asked.len() == MAX_ASKED {
                    inner.asked.pop_front();
                }
                inner.asked.push_back((key, compiled));
                RulesFound {
                    rules,
                    ..RulesFound::default()
                }
            }
            Err(error) => RulesFound {
                rules: 0,
                left_out: error.problems.len().saturating_sub(MAX_PROBLEMS),
                problems: error
                    .problems
                    .into_iter()
                    .take(MAX_PROBLEMS)
                    .map(problem)
                    .collect(),
            },
        }
    }

    fn take(&self, snapshot: &EdgeSnapshot) {
        let (mut known, asked, countries_before, networks_before) = {
            let mut inner = self.lock();
            (
                std::mem::take(&mut inner.compiled),
                std::mem::take(&mut inner.asked),
                std::mem::take(&mut inner.countries),
                std::mem::take(&mut inner.networks),
            )
        };
        let (mut countries, mut networks) = (Databases::default(), Databases::default());
        let mut places: HashMap<Environment, Found> = HashMap::new();
        known.extend(asked);
        let mut compiled: HashMap<Key, Compiled> = HashMap::new();
        let mut of: HashMap<Environment, Option<Arc<Program>>> = HashMap::new();
        for route in &snapshot.routes {
            let Some(config) = &route.policy.waf else { continue };
            let found = Found {
                countries: told(config.countries.as_deref(), |file| {
                    countries.take(file, &countries_before, Countries::new)
                }),
                networks: told(config.networks.as_deref(), |file| {
                    networks.take(file, &networks_before, Networks::new)
                }),
            };
            places.insert(route.environment, found);
            let Some(key) = key_of(config) else {
                of.insert(route.environment, None);
                continue;
            };
            if !compiled.contains_key(&key) {
                match compile(&key, known.remove(&key)) {
                    Ok(one) => {
                        compiled.insert(key.clone(), one);
                    }
                    Err(error) => tracing::error!(
                        rules = %key.display(),
                        error = &error as &dyn std::error::Error,
                        "rules of the firewall cannot be used; what was there before stays in force"
                    ),
                }
            }
            if let Some(one) = compiled.get(&key) {
                of.insert(route.environment, Some(one.program.clone()));
            }
        }
        let mut inner = self.lock();
        inner.compiled = compiled;
        inner.countries = countries;
        inner.networks = networks;
        let served: Vec<Environment> = snapshot.routes.iter().map(|route| route.environment).collect();
        inner.of.retain(|environment, _| served.contains(environment));
        for (environment, program) in of {
            inner.of.entry(environment).or_insert_with(Standing::new).program = program;
        }
        for (environment, found) in places {
            let standing = inner.of.entry(environment).or_insert_with(Standing::new);
            if let Some(countries) = found.countries {
                standing.places.countries = countries;
            }
            if let Some(networks) = found.networks {
                standing.places.networks = networks;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn new() -> Self {
        Self {
            program: None,
            stores: Arc::new(Stores::new(REMEMBERED)),
            places: Places::default(),
        }
    }
}

/// The databases of an environment, by what its files hold now. None: what was known before holds.
struct Found {
    countries: Option<Option<Arc<Countries>>>,
    networks: Option<Option<Arc<Networks>>>,
}

/// What a file holds, if one is named; an error is told.
fn told<T>(
    file: Option<&Path>,
    take: impl FnOnce(&Path) -> Result<Arc<T>, DatabaseFault>,
) -> Option<Option<Arc<T>>> {
    match file.map(take).transpose() {
        Ok(found) => Some(found),
        Err(error) => {
            tracing::error!(
                file = ?file,
                error = &error as &dyn std::error::Error,
                "where clients are cannot be told from this file; what was known before holds"
            );
            None
        }
    }
}

/// None where no managed rules are wanted.
fn key_of(config: &WafConfig) -> Option<Key> {
    config.rules.clone().filter(|_| config.mode != WafMode::Off)
}

fn problem(problem: astraler_waf::seclang::Problem) -> RuleProblem {
    RuleProblem {
        file: problem.file,
        line: problem.line,
        message: problem.message,
        hint: problem.hint,
    }
}

fn compile(key: &Key, known: Option<Compiled>) -> Result<Compiled, LoadError> {
    let found = Files::find(key).map(|files| {
        let stamp = stamp(&files);
        (files, stamp)
    });
    let (files, stamp) = match (found, known) {
        (Ok((_, stamp)), Some(known)) if known.stamp == stamp => return Ok(known),
        (Ok(found), _) => found,
        (Err(error), _) => return Err(error),
    };
    let begun = Instant::now();
    let program = files.compile(&Options {
        request_body_limit_bytes: Some(MOST_OF_BODY),
        ..Options::default()
    })?;
    for warning in program.warnings() {
        tracing::warn!(%warning, "a rule of the firewall");
    }
    tracing::info!(
        rules = program.rules().count(),
        folder = %key.display(),
        took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "rules of the firewall compiled"
    );
    Ok(Compiled {
        program: Arc::new(program),
        stamp,
    })
}

/// A list that a rule names lies beside it, so its folder is looked at as well.
fn stamp(files: &Files) -> Stamp {
    let named = files.setup.iter().chain(&files.rules);
    let mut folders: Vec<PathBuf> = named
        .clone()
        .filter_map(|file| Some(file.parent()?.to_owned()))
        .collect();
    folders.sort();
    folders.dedup();
    let lists = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    let mut paths: Vec<PathBuf> = lists.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let about = std::fs::metadata(&path).ok()?;
            let is_file = about.is_file();
            is_file.then(|| (path, about.len(), about.modified().ok()))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use astraler_model::{EdgePolicy, EdgeSnapshot, Route};

    #[test]
    fn environments_that_differ_in_levels_and_limits_share_one_program() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.conf"),
            "SecRule ARGS \"@contains x\" \"id:1,phase:2,deny\"",
        )
        .unwrap();
        let of = |environment, paranoia_level, inbound_threshold, body_limit_bytes| Route {
            environment,
            policy: EdgePolicy {
                waf: Some(WafConfig {
                    rules: Some(folder.path().to_owned()),
                    paranoia_level,
                    inbound_threshold,
                    body_limit_bytes,
                    ..WafConfig::default()
                }),
                ..EdgePolicy::default()
            },
            hosts: vec![],
            deployment: String::new(),
            workers: vec![],
            assets: None,
            wake: None,
            cache: None,
        };
        let programs = Programs::default();
        programs.take(&EdgeSnapshot {
            routes: vec![
                of(Environment::Staging, 4, 5, 1000),
                of(Environment::Production, 1, 10, 1 << 20),
            ],
            ..EdgeSnapshot::default()
        });
        let inner = programs.lock();
        let program = |environment| inner.of[&environment].program.clone().unwrap();
        assert!(Arc::ptr_eq(
            &program(Environment::Staging),
            &program(Environment::Production)
        ));
        assert_eq!(inner.compiled.len(), 1);
    }
}
