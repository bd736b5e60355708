//! A rule set in folders: which files belong to it, and what is set for it between its setup and its rules.
//!
//! Three layouts are known: the Core Rule Set as it is released (`rules/` beside `crs-setup.conf`), as Debian installs it
//! (rules under `/usr/share`, setup under `/etc`), and a folder of rule files.

use std::path::{Path, PathBuf};

use crate::compile::Program;
use crate::engine::Transaction;
use crate::seclang::{LoadError, Mode, Problem, Rules};

/// Where Debian and Ubuntu install the Core Rule Set (`apt install modsecurity-crs`).
pub const INSTALLED: &str = "/usr/share/modsecurity-crs";
/// Where the same package has its setup.
const INSTALLED_SETUP: &str = "/etc/modsecurity/crs";
/// The setup by its names; an example is one that nobody has changed.
const SETUPS: [&str; 2] = ["crs-setup.conf", "crs-setup.conf.example"];

/// The files of a rule set, in the order in which they are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// What the rules are set up with.
    pub setup: Vec<PathBuf>,
    /// The rules, by their names.
    pub rules: Vec<PathBuf>,
}

/// What is set for a rule set. Nothing said leaves what its own setup says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether it blocks.
    pub mode: Option<Mode>,
    /// The Core Rule Set's paranoia level, from 1 to 4.
    pub paranoia_level: Option<u8>,
    /// From which score on a request is refused.
    pub inbound_threshold: Option<u32>,
    /// From which score on a response is.
    pub outbound_threshold: Option<u32>,
    /// How much of a request's body is looked at. There may be more of it: it is not refused for its size.
    pub request_body_limit_bytes: Option<u64>,
    /// More rules, behind the setup and before the rules of the set: exceptions, for one.
    pub more: String,
}

/// What one transaction is set up with, in place of what its program was compiled with: servers that differ in these alone
/// share a program. Nothing said leaves what that says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Setup {
    /// The Core Rule Set's paranoia level, from 1 to 4.
    pub paranoia_level: Option<u8>,
    /// From which score on a request is refused.
    pub inbound_threshold: Option<u32>,
    /// From which score on a response is.
    pub outbound_threshold: Option<u32>,
}

impl Setup {
    /// Tells a transaction, before its first phase. Its program is one of [`Files::compile`].
    pub fn tell(&self, transaction: &mut Transaction<'_>) {
        let values = [
            self.paranoia_level.map(i64::from),
            self.inbound_threshold.map(i64::from),
            self.outbound_threshold.map(i64::from),
        ];
        for ((said, _), value) in SAID.iter().zip(values) {
            if let Some(value) = value {
                transaction.set_variable(said, value);
            }
        }
    }
}

impl Files {
    /// The files of a folder.
    pub fn find(folder: &Path) -> Result<Self, LoadError> {
        let inner = folder.join("rules");
        let (within, beside) = if inner.is_dir() {
            (inner.as_path(), Some(folder))
        } else {
            (folder, folder.parent().filter(|_| folder.ends_with("rules")))
        };
        let mut rules = crate::suite::rule_files(within);
        if rules.is_empty() {
            return Err(none(folder, within));
        }
        let places = [Some(within), beside].into_iter().flatten();
        let mut setup: Vec<PathBuf> = places
            .flat_map(|place| SETUPS.map(|name| place.join(name)))
            .find(|file| file.is_file())
            .into_iter()
            .collect();
        let is_installed = folder.starts_with(INSTALLED);
        if is_installed && setup.is_empty() {
            let own = Path::new(INSTALLED_SETUP);
            let before = ["crs-setup.conf", "REQUEST-900-EXCLUSION-RULES-BEFORE-CRS.conf"];
            setup.extend(
                before
                    .map(|name| own.join(name))
                    .into_iter()
                    .filter(|file| file.is_file()),
            );
            let after = own.join("RESPONSE-999-EXCLUSION-RULES-AFTER-CRS.conf");
            rules.extend(after.is_file().then_some(after));
        }
        Ok(Self { setup, rules })
    }

    /// Reads and compiles them.
    pub fn compile(&self, options: &Options) -> Result<Program, LoadError> {
        let rules = Rules::base()
            .files(&self.setup)
            .text(&options.text(self.setup.is_empty()), Path::new("options.conf"))
            .text(&options.more, Path::new("exceptions.conf"))
            .files(&self.rules);
        Program::new(&rules)
    }
}

/// Why a folder has no rules: it is not there, it is closed, or there are none in it.
fn none(folder: &Path, within: &Path) -> LoadError {
    let install = format!("`apt install modsecurity-crs` installs the Core Rule Set into {INSTALLED}");
    let (file, message, hint) = match std::fs::read_dir(within) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            (folder, "there is no such folder".to_owned(), install)
        }
        Err(error) => (
            within,
            format!("the folder cannot be read: {error}"),
            "whoever compiles rules has to be able to read them, and to enter each folder above them"
                .to_owned(),
        ),
        Ok(_) => (
            folder,
            "there are no rule files (*.conf) here, nor in rules/".to_owned(),
            install,
        ),
    };
    LoadError {
        problems: vec![Problem {
            file: file.to_path_buf(),
            line: 0,
            message,
            hint: Some(hint),
        }],
    }
}

/// The id of the action that sets what the options say: beside those of [`crate::BASE`].
const SETTINGS_ID: u64 = 200_010;
/// The first id of the rules that take over what a transaction is told.
const TOLD_ID: u64 = 200_020;
/// Variables in which a transaction is told its own [`Setup`], and those that rules look at. The names are those of the
/// Core Rule Set 4 and of 3; either set looks at its own.
const SAID: [(&str, &[&str]); 3] = [
    (
        "astraler_paranoia_level",
        &[
            "blocking_paranoia_level",
            "detection_paranoia_level",
            "paranoia_level",
            "executing_paranoia_level",
        ],
    ),
    ("astraler_inbound_threshold", &["inbound_anomaly_score_threshold"]),
    (
        "astraler_outbound_threshold",
        &["outbound_anomaly_score_threshold"],
    ),
];
/// What the Core Rule Set is told where nobody has set it up: that it was.
const SETUP_VERSION: u32 = 400;

impl Options {
    /// As rules: what is said here, and behind it what a transaction is told.
    fn text(&self, is_not_set_up: bool) -> String {
        let mut text = String::new();
        if let Some(mode) = self.mode {
            let word = match mode {
                Mode::On => "On",
                Mode::DetectionOnly => "DetectionOnly",
                Mode::Off => "Off",
            };
            text.push_str(&format!("SecRuleEngine {word}\n"));
        }
        if let Some(limit) = self.request_body_limit_bytes {
            text.push_str(&format!(
                "SecRequestBodyLimit {limit}\nSecRequestBodyNoFilesLimit {limit}\nSecRequestBodyLimitAction ProcessPartial\n"
            ));
        }
        let mut set: Vec<String> = Vec::new();
        if is_not_set_up {
            set.push(format!("crs_setup_version={SETUP_VERSION}"));
        }
        let own = [
            self.paranoia_level.map(u32::from),
            self.inbound_threshold,
            self.outbound_threshold,
        ];
        for ((_, names), value) in SAID.iter().zip(own) {
            set.extend(
                value
                    .iter()
                    .flat_map(|value| names.iter().map(move |name| format!("{name}={value}"))),
            );
        }
        if !set.is_empty() {
            text.push_str(&format!(
                "SecAction \"id:{SETTINGS_ID},phase:1,nolog,pass,t:none,{}\"\n",
                setvars(&set)
            ));
        }
        for (id, (said, names)) in (TOLD_ID..).zip(SAID) {
            let set: Vec<String> = names
                .iter()
                .map(|name| format!("{name}=%{{tx.{said}}}"))
                .collect();
            text.push_str(&format!(
                "SecRule &TX:{said} \"@gt 0\" \"id:{id},phase:1,nolog,pass,t:none,{}\"\n",
                setvars(&set)
            ));
        }
        text
    }
}

fn setvars(set: &[String]) -> String {
    let set: Vec<String> = set.iter().map(|one| format!("setvar:tx.{one}")).collect();
    set.join(",")
}
