//! `astraler waf update`: the newest release of the Core Rule Set, or one that is named, in force without a request that
//! notices.
//!
//! Fetched within bounds, its checksum compared before a byte is unpacked, unpacked beside what is there, compiled as the
//! edge will, switched to by one rename, taken up by the edge. What fails on the way leaves the rules that were in force.

mod fetch;
mod shelf;
mod unpack;

use crate::cli::{Arguments, WafUpdateArguments};
use crate::failure::{Failure, Kind, Outcome};
use crate::managed_rules;
use crate::place::{self, Place};
use crate::progress::line;
use crate::table;
use astraler_control::{AdminClient, ClientError, WafReport};
use astraler_manifest::Config;
use astraler_model::{Environment, WafConfig};
use fetch::Trust;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use shelf::{Release, Shelf};
use std::io::Read;
use std::path::Path;

/// Where releases of the Core Rule Set are told, newest first of all.
const NEWEST: &str = "https://api.github.com/repos/coreruleset/coreruleset/releases/latest";
/// What of a release is taken: the rules without their tests.
const ARCHIVE: &str = "-minimal.tar.gz";
const MAX_ARCHIVE_BYTES: usize = 32 << 20;
const MAX_INDEX_BYTES: usize = 4 << 20;
/// The version stands in the first rules that are read.
const VERSION_FILE: &str = "rules/REQUEST-901-INITIALIZATION.conf";
const VERSION_MARK: &str = "ver:'OWASP_CRS/";

/// A release as GitHub tells it.
#[derive(Debug, Deserialize)]
struct Told {
    tag_name: String,
    assets: Vec<Asset>,
}

#[derive(Debug, Deserialize)]
struct Asset {
    name: String,
    browser_download_url: String,
    /// `sha256:…`
    digest: Option<String>,
}

/// What could be brought.
#[derive(Debug)]
struct Offer {
    version: Option<String>,
    from: String,
    sha256: String,
    trust: Trust,
}

/// What a command has done.
#[derive(Debug, Serialize)]
struct Done<'a> {
    changed: bool,
    current: Option<&'a Release>,
    former: Option<&'a Release>,
    folder: Option<&'a Path>,
    environments: Option<&'a [WafReport]>,
}

pub(super) fn run(arguments: &Arguments, asked: &WafUpdateArguments) -> Outcome {
    let place = Place::find(arguments)?;
    let config = place::manifest(&place)?.config;
    if asked.check {
        let offer = super::super::block_on(async { offer(asked).await })?;
        return look(&place, &offer, asked.json.json);
    }
    astraler_host::file::make_dir(&place.layout.state, 0o755, None, None)?;
    let _lock = place.lock("astraler waf update")?;
    let shelf = Shelf::open(place.layout.waf_rules())?;
    let (before, standing) = (shelf.current(), shelf.standing());
    let release = if asked.rollback {
        let former = shelf
            .former()
            .ok_or_else(|| Failure::new(Kind::General, "there are no former rules to go back to"))?;
        compiles(&config, &place.layout.waf_rules().join(former.folder()))?;
        former
    } else {
        super::super::block_on(async { bring(&shelf, &config, asked).await })?
    };
    shelf.switch(&release)?;
    let reports = match taken_up(&place) {
        Ok(reports) => reports,
        Err(failure) => {
            shelf.restore(&standing)?;
            // The edge goes by what it had; the snapshot shall say so as well.
            taken_up(&place).ok();
            return Err(
                failure.context("the edge did not take the new rules up; the former ones are in force")
            );
        }
    };
    shelf.prune()?;
    let changed = before.as_ref() != Some(&release);
    tell(&shelf, &config, changed, reports.as_deref(), asked.json.json)
}

/// The release that is asked for, in its place. Nobody goes by it yet.
async fn bring(shelf: &Shelf, config: &Config, asked: &WafUpdateArguments) -> Outcome<Release> {
    let offer = offer(asked).await?;
    let is_older = |current: &Release| {
        numbers(&offer.version)
            .zip(numbers(&current.version))
            .is_some_and(|(new, old)| new < old)
    };
    // What the user names is looked at in any case.
    if let Some(current) = shelf.current().filter(|_| asked.from.is_none()) {
        if current.sha256 == offer.sha256 {
            return Ok(current);
        }
        if is_older(&current) {
            return Err(Failure::new(
                Kind::General,
                format!(
                    "{} is offered as the newest release, and {} is in force",
                    offer.from,
                    current.shown()
                ),
            )
            .hint("nothing was changed; `--from FILE|URL --sha256 HEX` installs an older one, `--rollback` the former one"));
        }
    }
    let archive = archive(&offer).await?;
    let found = hex::encode(Sha256::digest(&archive));
    if found != offer.sha256 {
        return Err(Failure::new(
            Kind::General,
            format!("{} is not what its checksum says", offer.from),
        )
        .details(vec![
            format!("expected {}", offer.sha256),
            format!("received {found}"),
        ])
        .hint("nothing was unpacked and nothing was changed"));
    }
    let unfinished = shelf.begin()?;
    unpack::unpack(&archive, &unfinished).map_err(|error| {
        Failure::of(&error)
            .context(format!("{} cannot be used", offer.from))
            .hint("nothing was changed")
    })?;
    compiles(config, &unfinished)?;
    let release = Release {
        version: version(&unfinished).or(offer.version),
        sha256: offer.sha256,
        from: offer.from,
    };
    shelf.finish(&unfinished, &release)?;
    Ok(release)
}

/// Compiles a folder as the edge will: rules that it cannot use replace none.
fn compiles(config: &Config, folder: &Path) -> Outcome {
    let kinds = [
        Environment::Production,
        Environment::Staging,
        Environment::Development,
        Environment::Preview(1),
    ];
    let firewalls = kinds
        .iter()
        .filter_map(|environment| config.edge.policy(*environment).waf);
    let firewall = firewalls.into_iter().next().unwrap_or_else(WafConfig::default);
    managed_rules::compile(folder, &firewall).map_err(|error| {
        managed_rules::not_loaded(&error, Some(folder))
            .hint("nothing was changed: the rules that were in force are")
    })?;
    Ok(())
}

/// What is asked for: the newest release with the checksum that is told of it, or what the user names.
async fn offer(asked: &WafUpdateArguments) -> Outcome<Offer> {
    if let (Some(from), Some(sha256)) = (&asked.from, &asked.sha256) {
        return Ok(Offer {
            version: None,
            from: from.clone(),
            sha256: checksum(sha256)?,
            trust: Trust::Checksum,
        });
    }
    let index = asked.index.as_deref().unwrap_or(NEWEST);
    let hint =
        "`astraler waf update --from FILE|URL --sha256 HEX` installs a release that you have or can reach";
    let json = fetch::get(index, MAX_INDEX_BYTES, Trust::Sender)
        .await
        .map_err(|error| {
            Failure::of(&error)
                .context("the newest release is not known")
                .hint(hint)
        })?;
    let unclear = |why: String| Failure::new(Kind::General, why).hint(hint);
    let told: Told = serde_json::from_slice(&json)
        .map_err(|error| unclear(format!("{index} does not tell a release: {error}")))?;
    let asset = told
        .assets
        .into_iter()
        .find(|asset| asset.name.ends_with(ARCHIVE));
    let asset =
        asset.ok_or_else(|| unclear(format!("release {} has no archive …{ARCHIVE}", told.tag_name)))?;
    let digest = asset
        .digest
        .as_deref()
        .and_then(|digest| digest.strip_prefix("sha256:"));
    let digest = digest.ok_or_else(|| unclear(format!("release {} has no checksum", told.tag_name)))?;
    Ok(Offer {
        version: Some(told.tag_name.trim_start_matches('v').to_owned()),
        from: asset.browser_download_url,
        sha256: checksum(digest)?,
        trust: Trust::Sender,
    })
}

async fn archive(offer: &Offer) -> Outcome<Vec<u8>> {
    if offer.from.contains("://") {
        let archive = fetch::get(&offer.from, MAX_ARCHIVE_BYTES, offer.trust).await;
        return Ok(archive
            .map_err(|error| Failure::of(&error).hint("nothing was changed"))?
            .to_vec());
    }
    let mut archive = Vec::new();
    let file = std::fs::File::open(&offer.from)
        .map_err(|error| Failure::of(&error).context(format!("{} cannot be read", offer.from)))?;
    file.take(MAX_ARCHIVE_BYTES as u64 + 1)
        .read_to_end(&mut archive)?;
    if archive.len() > MAX_ARCHIVE_BYTES {
        return Err(Failure::new(
            Kind::General,
            format!("{} is larger than {MAX_ARCHIVE_BYTES} bytes", offer.from),
        ));
    }
    Ok(archive)
}

fn checksum(text: &str) -> Outcome<String> {
    let hex = text
        .trim()
        .strip_prefix("sha256:")
        .unwrap_or(text.trim())
        .to_ascii_lowercase();
    let is_one = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then_some(hex).ok_or_else(|| {
        Failure::new(
            Kind::General,
            format!("`{text}` is no SHA-256 checksum: 64 digits of 0-9 and a-f"),
        )
    })
}

/// The version that the rules say: `4.28.0`.
fn version(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(VERSION_FILE)).ok()?;
    let (_, behind) = text.split_once(VERSION_MARK)?;
    let version: String = behind
        .chars()
        .take(20)
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
        .collect();
    numbers(&Some(version.clone())).map(|_| version)
}

/// `4.28.0-rc1` → 4, 28, 0.
fn numbers(version: &Option<String>) -> Option<(u32, u32, u32)> {
    let mut parts = version.as_deref()?.split(['.', '-']);
    let mut next = || parts.next()?.parse().ok();
    Some((next()?, next()?, next()?))
}

/// Has the edge of a platform that is up take the rules up; none where it is not up: the next `astraler up` does.
fn taken_up(place: &Place) -> Outcome<Option<Vec<WafReport>>> {
    let client = AdminClient::new(place.layout.admin_socket());
    let reports = super::super::block_on(async {
        match client.waf_reload().await {
            Ok(reports) => Ok(Some(reports)),
            Err(ClientError::Connect { .. }) => Ok(None),
            Err(error) => Err(super::super::not_up(&error)),
        }
    })?;
    let found = reports
        .iter()
        .flatten()
        .filter_map(|report| report.found.as_ref());
    let problems: Vec<String> = found
        .flat_map(|found| found.problems.iter().map(ToString::to_string))
        .collect();
    match problems.is_empty() {
        true => Ok(reports),
        false => Err(Failure::new(Kind::Manifest, "the edge cannot use these rules").details(problems)),
    }
}

fn look(place: &Place, offer: &Offer, json: bool) -> Outcome {
    let shelf = Shelf::at(place.layout.waf_rules());
    let current = shelf.current();
    let is_new = current
        .as_ref()
        .is_none_or(|current| current.sha256 != offer.sha256);
    if json {
        table::print_json(&serde_json::json!({
            "update": is_new,
            "current": current,
            "newest": { "version": offer.version, "sha256": offer.sha256, "from": offer.from },
        }))?;
    } else {
        let newest = offer.version.as_deref().unwrap_or(&offer.from);
        match (&current, is_new) {
            (Some(current), false) => line(&format!(
                "{} is in force, and there is no newer one",
                current.shown()
            )),
            (Some(current), true) => line(&format!("{newest} is there; {} is in force", current.shown())),
            (None, _) => line(&format!("{newest} is there; no release was brought yet")),
        }
    }
    match is_new {
        true => Err(Failure::said(Kind::Wanted)),
        false => Ok(()),
    }
}

fn tell(shelf: &Shelf, config: &Config, changed: bool, reports: Option<&[WafReport]>, json: bool) -> Outcome {
    let (current, former, folder) = (shelf.current(), shelf.former(), shelf.current_folder());
    if json {
        return Ok(table::print_json(&Done {
            changed,
            current: current.as_ref(),
            former: former.as_ref(),
            folder: folder.as_deref(),
            environments: reports,
        })?);
    }
    let shown = current.map(|current| current.shown()).unwrap_or_default();
    match changed {
        true => line(&format!("rules    {shown}")),
        false => line(&format!("rules    {shown}, as before")),
    }
    if let Some(former) = former {
        line(&format!(
            "former   {}; `astraler waf update --rollback` goes back to it",
            former.shown()
        ));
    }
    if let Some(rules) = &config.edge.waf.rules {
        line(&format!(
            "note     `edge.waf.rules` is {}: what was brought is in force once that key is gone",
            rules.display()
        ));
    }
    match reports {
        Some(reports) => super::reload::tell(reports, false),
        None => {
            line("the platform is not up: the next `astraler up` takes them");
            Ok(())
        }
    }
}
