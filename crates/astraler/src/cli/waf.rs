//! `astraler waf …`.

use super::Json;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `waf …`.
#[derive(Debug, Subcommand)]
pub(crate) enum WafCommand {
    /// Compile a folder of rules, and tell everything that is wrong with it.
    #[command(after_help = "Examples:
  astraler waf check
  astraler waf check ~/coreruleset-4.7.0
  astraler waf check rules --json

The Core Rule Set as it is released, as Debian installs it, or a folder of *.conf files with a crs-setup.conf.")]
    Check {
        /// The folder; by default that of the application here, else where the distribution installs the Core Rule Set.
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        json: Json,
    },
    /// Run regression files of the Core Rule Set's format against rules in this process, or against a server.
    #[command(after_help = "Examples:
  astraler waf test --rules coreruleset/rules --setup coreruleset/crs-setup.conf.example --tests coreruleset/tests/regression/tests
  astraler waf test --tests tests --target http://127.0.0.1:8080 --log access.log

The last line says N passed, N failed, N skipped; exit code 1 when a test has failed. The rules run at paranoia level 4 and
only detect. A server's log is not seen: it must refuse with 403 what rules are expected to match, and nothing else.")]
    Test(TestArguments),
    /// Show which rules a request matches, in what, with which score, and whether it would be refused.
    #[command(after_help = "Examples:
  astraler waf explain request.txt
  printf 'GET /?q=<script> HTTP/1.1\\nHost: a.example\\n\\n' | astraler waf explain - --paranoia 2

The file is a request as it goes over the wire: request line, fields, an empty line, body. What may be a credential is not
shown.")]
    Explain(ExplainArguments),
    /// Bring the newest release of the Core Rule Set, or the one that is named, and put it in force.
    #[command(after_help = "Examples:
  astraler waf update --check
  astraler waf update
  astraler waf update --from coreruleset-4.7.0-minimal.tar.gz --sha256 3f2a…
  astraler waf update --rollback

The checksum is compared before anything is unpacked, the rules are compiled before they replace others, and the edge takes
them up without dropping a request. They are in force where the manifest names no rules of its own. --check exits with 10
where there is a newer release.")]
    Update(UpdateArguments),
    /// Have the edge read all rules again, after a package or a folder has changed in place.
    #[command(after_help = "Examples:
  sudo apt install --only-upgrade modsecurity-crs && astraler waf reload

No request is dropped. Rules that cannot be used are told, and what was in force stays.")]
    Reload {
        #[command(flatten)]
        json: Json,
    },
    /// Show which managed rules match most, on which paths; write an exception for one.
    #[command(after_help = "Examples:
  astraler waf top
  astraler waf top --env staging -n 5 --json
  astraler waf top --except 942100 --path /editor

It reads the access log. With `mode = \"detect\"` it shows what blocking would refuse.")]
    Top(TopArguments),
}

/// `waf top`.
#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// Of one environment only.
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// So many rules.
    #[arg(short = 'n', long, default_value_t = 20)]
    pub(crate) lines: usize,
    /// Another access log than the platform's.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Write an exception for this rule into astraler.toml.
    #[arg(long, value_name = "RULE")]
    pub(crate) except: Option<u64>,
    /// For this path and what is below it; may be said several times. Those that the log shows by default, if few.
    #[arg(long, value_name = "PATH", requires = "except")]
    pub(crate) path: Vec<String>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// `waf update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArguments {
    /// Only say whether there is a newer release.
    #[arg(long, conflicts_with = "rollback")]
    pub(crate) check: bool,
    /// This archive (.tar.gz) instead of the newest release.
    #[arg(long, value_name = "FILE|URL", requires = "sha256")]
    pub(crate) from: Option<String>,
    /// The archive's SHA-256.
    #[arg(long, value_name = "HEX", requires = "from")]
    pub(crate) sha256: Option<String>,
    /// Where the newest release is told, in the form of GitHub's API: a mirror.
    #[arg(long, value_name = "URL", conflicts_with = "from")]
    pub(crate) index: Option<String>,
    /// Go back to the rules that were in force before.
    #[arg(long, conflicts_with_all = ["from", "index"])]
    pub(crate) rollback: bool,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// `waf test`.
#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Folder of the rules; by default that of the application here, else where the distribution installs the Core Rule Set.
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    pub(crate) rules: Option<PathBuf>,
    /// What the rules are set up with; by default, what lies beside them.
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub(crate) setup: Option<PathBuf>,
    /// Folder of the tests: YAML files, in folders or not.
    #[arg(long, value_name = "DIR")]
    pub(crate) tests: PathBuf,
    /// Ask this server instead: http://HOST:PORT. It blocks, at paranoia level 4.
    #[arg(long, value_name = "URL")]
    pub(crate) target: Option<String>,
    /// What that server writes about requests, of ModSecurity's form or an edge's access log: then it is asked which rules
    /// matched, and need not block.
    #[arg(long, value_name = "FILE", requires = "target")]
    pub(crate) log: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: Json,
}

/// `waf explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// File with the request; `-` is standard input.
    #[arg(value_name = "REQUEST-FILE")]
    pub(crate) request: PathBuf,
    /// Folder of the rules; by default that of the application here, else where the distribution installs the Core Rule Set.
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Option<PathBuf>,
    /// Paranoia level, instead of the setup's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub(crate) paranoia: Option<u8>,
    #[command(flatten)]
    pub(crate) json: Json,
}
