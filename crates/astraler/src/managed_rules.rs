//! The firewall's managed rules as the command line sees them: those of the repository, which go with a release, and those
//! of this machine, looked at before anything is begun.

use crate::cli::Arguments;
use crate::failure::{Failure, Kind, Outcome};
use crate::place::Place;
use astraler_control::Layout;
use astraler_manifest::{Config, Edge, INSTALLED_RULES, Manifest};
use astraler_model::{Environment, WafConfig};
use astraler_waf::compile::Program;
use astraler_waf::ruleset::{Files, Options};
use astraler_waf::seclang::LoadError;
use std::path::{Path, PathBuf};

/// Files beside the rules of a repository: a folder with more is something else.
const MAX_ENTRIES: usize = 1_000;

/// What of the repository's rules goes with a release, when there are some. They are compiled first: what does not load
/// is no part of a release.
pub(crate) fn copies(place: &Place, manifest: &Manifest) -> Outcome<Vec<(PathBuf, String)>> {
    let Some(own) = manifest.config.edge.waf.own_rules() else {
        return Ok(vec![]);
    };
    let folder = place.application.join(own);
    let files = Files::find(&folder).map_err(|error| not_loaded(&error, Some(&place.application)))?;
    files
        .compile(&Options::default())
        .map_err(|error| not_loaded(&error, Some(&place.application)))?;
    let target = Path::new("waf").join(own).display().to_string();
    let target = target.trim_end_matches('/');
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(&folder)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name();
        // What belongs to git, or to an editor, is nobody's rule.
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) {
            copies.push((entry.path(), format!("{target}/{name}")));
        }
    }
    // A folder `rules` has its setup beside it; in a release it stands in it, where it is found as well.
    for setup in files.setup.iter().filter(|setup| !setup.starts_with(&folder)) {
        if let Some(name) = setup.file_name().and_then(|name| name.to_str()) {
            copies.push((setup.clone(), format!("{target}/{name}")));
        }
    }
    Ok(copies)
}

/// The folder that a command is about where it names none: that of the application here, else the distribution's.
pub(crate) fn usual(arguments: &Arguments) -> PathBuf {
    let Ok(place) = Place::find(arguments) else {
        return INSTALLED_RULES.into();
    };
    match crate::place::manifest(&place)
        .ok()
        .map(|manifest| manifest.config)
    {
        Some(config) => match config.edge.waf.own_rules() {
            Some(own) => place.application.join(own),
            None => place.layout.managed_rules(&config, ""),
        },
        None => INSTALLED_RULES.into(),
    }
}

/// What is wrong with rules, each with its place; paths below `root` without that.
pub(crate) fn not_loaded(error: &LoadError, root: Option<&Path>) -> Failure {
    let message = match error.problems.len() {
        1 => "the firewall's rules cannot be used: 1 problem".to_owned(),
        count => format!("the firewall's rules cannot be used: {count} problems"),
    };
    let details = error.problems.iter().map(|problem| {
        let mut problem = problem.clone();
        if let Some(short) = root.and_then(|root| problem.file.strip_prefix(root).ok()) {
            problem.file = short.to_owned();
        }
        problem.to_string()
    });
    Failure::new(Kind::Manifest, message).details(details.collect())
}

/// The managed rules of this machine that environments go by.
pub(crate) struct OfMachine {
    /// Their folder.
    pub(crate) folder: PathBuf,
    /// Whose firewall is on.
    pub(crate) environments: Vec<Environment>,
    waf: WafConfig,
}

/// None where no firewall of these environments is on, and where the rules are those of the repository.
pub(crate) fn of_machine(
    config: &Config,
    layout: &Layout,
    environments: &[Environment],
) -> Option<OfMachine> {
    if config.edge.waf.own_rules().is_some() {
        return None;
    }
    let firewall = |environment: &Environment| {
        let waf = config.edge.policy(*environment).waf?;
        waf.rules.is_some().then_some((*environment, waf))
    };
    let (of, mut firewalls): (Vec<Environment>, Vec<WafConfig>) =
        environments.iter().filter_map(firewall).unzip();
    Some(OfMachine {
        folder: layout.managed_rules(config, ""),
        environments: of,
        waf: firewalls.pop()?,
    })
}

impl OfMachine {
    /// Compiles them as the edge will.
    pub(crate) fn compile(&self) -> Result<Program, LoadError> {
        compile(&self.folder, &self.waf)
    }
}

/// Compiles rules as the edge will.
pub(crate) fn compile(folder: &Path, waf: &WafConfig) -> Result<Program, LoadError> {
    Files::find(folder)?.compile(&Options {
        mode: None,
        paranoia_level: Some(waf.paranoia_level),
        inbound_threshold: Some(waf.inbound_threshold),
        outbound_threshold: Some(waf.outbound_threshold),
        request_body_limit_bytes: Some(waf.body_limit_bytes),
        more: String::new(),
    })
}

/// What to do about rules that cannot be used.
pub(crate) fn hint(edge: &Edge, folder: &Path) -> String {
    let install = crate::commands::install("modsecurity-crs");
    let without = "`managed_rules = false` in [edge.waf] does without";
    match &edge.waf.rules {
        None if !folder.is_dir() => format!(
            "`{install}` installs the Core Rule Set, `astraler waf update` brings its newest release; {without}"
        ),
        Some(_) => format!(
            "say in `edge.waf.rules` where they are; `astraler waf check {}` looks at them by themselves; {without}",
            folder.display()
        ),
        None => format!(
            "`astraler waf update` brings the newest release; `astraler waf check {}` looks at them by themselves; \
             {without}",
            folder.display()
        ),
    }
}

/// Says at once what is wrong with the rules that these environments go by, before anything is begun.
pub(crate) fn check(config: &Config, layout: &Layout, environments: &[Environment]) -> Outcome {
    let Some(rules) = of_machine(config, layout, environments) else {
        return Ok(());
    };
    let Err(error) = rules.compile() else {
        return Ok(());
    };
    let names: Vec<String> = rules.environments.iter().map(ToString::to_string).collect();
    Err(not_loaded(&error, None)
        .kind(Kind::Missing)
        .context(format!(
            "the firewall is on in {}, and its rules cannot be used",
            names.join(", ")
        ))
        .hint(hint(&config.edge, &rules.folder)))
}
