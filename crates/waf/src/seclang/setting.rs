//! Directives that set something for all transactions.

use super::Wrong;
use super::variable::nearest;

/// What one of these directives says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Setting {
    RuleEngine(Mode),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
    RequestBodyLimit(usize),
    RequestBodyNoFilesLimit(usize),
    RequestBodyLimitAction(BodyLimitAction),
    RequestBodyJsonDepthLimit(usize),
    ResponseBodyLimit(usize),
    ResponseBodyLimitAction(BodyLimitAction),
    ResponseBodyMimeType(Vec<String>),
    ResponseBodyMimeTypesClear,
    ArgumentsLimit(usize),
    ArgumentSeparator(u8),
    CollectionTimeout(u64),
    UnicodeMapFile(String, u32),
    ComponentSignature(String),
    WebAppId(String),
    UploadFileLimit(usize),
    /// Known, and without effect on what is decided.
    Inert,
}

/// Whether rules act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// They do.
    #[default]
    On,
    /// They match and are logged, and nothing is stopped.
    DetectionOnly,
    /// They do not run.
    Off,
}

/// What happens to a body that is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimitAction {
    /// It is refused.
    Reject,
    /// What fits is looked at, the rest passes.
    ProcessPartial,
}

impl Mode {
    pub(super) fn parse(value: &str) -> Result<Self, Wrong> {
        match value.to_ascii_lowercase().as_str() {
            "on" => Ok(Self::On),
            "detectiononly" => Ok(Self::DetectionOnly),
            "off" => Ok(Self::Off),
            _ => Err(Wrong::new(format!("{value} is no mode")).hint("On, DetectionOnly or Off")),
        }
    }
}

/// The names of directives that exist elsewhere, for hints.
const NAMES: &[&str] = &[
    "SecAction",
    "SecArgumentSeparator",
    "SecArgumentsLimit",
    "SecCollectionTimeout",
    "SecComponentSignature",
    "SecDefaultAction",
    "SecMarker",
    "SecRequestBodyAccess",
    "SecRequestBodyJsonDepthLimit",
    "SecRequestBodyLimit",
    "SecRequestBodyLimitAction",
    "SecRequestBodyNoFilesLimit",
    "SecResponseBodyAccess",
    "SecResponseBodyLimit",
    "SecResponseBodyLimitAction",
    "SecResponseBodyMimeType",
    "SecResponseBodyMimeTypesClear",
    "SecRule",
    "SecRuleEngine",
    "SecRuleRemoveById",
    "SecRuleRemoveByMsg",
    "SecRuleRemoveByTag",
    "SecRuleUpdateActionById",
    "SecRuleUpdateTargetById",
    "SecRuleUpdateTargetByMsg",
    "SecRuleUpdateTargetByTag",
    "SecUnicodeMapFile",
    "SecUploadFileLimit",
    "SecWebAppId",
    "Include",
];

/// What the server does here, not this engine: its logs, its temporary files, its limits on patterns.
const INERT: &[&str] = &[
    "secauditengine",
    "secauditlog",
    "secauditlog2",
    "secauditlogdirmode",
    "secauditlogfilemode",
    "secauditlogformat",
    "secauditlogparts",
    "secauditlogrelevantstatus",
    "secauditlogstoragedir",
    "secauditlogtype",
    "secauditlogprefix",
    "secdebuglog",
    "secdebugloglevel",
    "secdatadir",
    "sectmpdir",
    "secuploaddir",
    "secuploadfilemode",
    "secuploadkeepfiles",
    "sectmpsaveuploadedfiles",
    "secpcrematchlimit",
    "secpcrematchlimitrecursion",
    "secrequestbodyinmemorylimit",
    "secsensorid",
    "secserversignature",
    "secstatusengine",
    "secguardianlog",
    "seccachetransformations",
    "secchrootdir",
    "secruleperftime",
    "secinterceptonerror",
];

/// What would change decisions and is not done here, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("secrulescript", "rules in Lua are not run: a script has no bound"),
    (
        "secremoterules",
        "rules come from files: fetch them, look at them, then load them",
    ),
    ("secremoterulesfailaction", "rules come from files"),
    (
        "secruleinheritance",
        "there is one set of rules, and nothing to inherit from",
    ),
    ("secconnengine", "connections are limited by the server"),
    ("secconnreadstatelimit", "connections are limited by the server"),
    ("secconnwritestatelimit", "connections are limited by the server"),
    ("secreadstatelimit", "connections are limited by the server"),
    ("secwritestatelimit", "connections are limited by the server"),
    ("secgsblookupdb", "there is no such lookup"),
    ("sechttpblkey", "there is no lookup over the network"),
    ("sechashkey", "links are not signed"),
    ("sechashparam", "links are not signed"),
    ("sechashmethodrx", "links are not signed"),
    ("sechashmethodpm", "links are not signed"),
    (
        "secpdfprotect",
        "what it guarded against is gone from readers of PDF",
    ),
    (
        "secpdfprotectmethod",
        "what it guarded against is gone from readers of PDF",
    ),
    (
        "secpdfprotectsecret",
        "what it guarded against is gone from readers of PDF",
    ),
    (
        "secpdfprotecttimeout",
        "what it guarded against is gone from readers of PDF",
    ),
    (
        "secpdfprotecttokenname",
        "what it guarded against is gone from readers of PDF",
    ),
    (
        "secunicodecodepage",
        "say the code page behind the file: SecUnicodeMapFile unicode.mapping 20127",
    ),
    ("secgeolookupdb", "the server says which country a client is in"),
];

/// What is only accepted when it is off.
const ONLY_OFF: &[&str] = &[
    "sechashengine",
    "seccontentinjection",
    "secstreaminbodyinspection",
    "secstreamoutbodyinspection",
    "secdisablebackendcompression",
    "secparsexmlintoargs",
    "secxmlexternalentity",
];

pub(super) fn parse(name: &str, arguments: &[String]) -> Result<Setting, Wrong> {
    let lower = name.to_ascii_lowercase();
    let first = arguments.first().map_or("", String::as_str);
    let needed = || {
        if first.is_empty() {
            Err(Wrong::new(format!("{name} needs a value")))
        } else {
            Ok(first)
        }
    };
    Ok(match lower.as_str() {
        "secruleengine" => Setting::RuleEngine(Mode::parse(needed()?)?),
        "secrequestbodyaccess" => Setting::RequestBodyAccess(switch(needed()?)?),
        "secresponsebodyaccess" => Setting::ResponseBodyAccess(switch(needed()?)?),
        "secrequestbodylimit" => Setting::RequestBodyLimit(number(needed()?)?),
        "secrequestbodynofileslimit" => Setting::RequestBodyNoFilesLimit(number(needed()?)?),
        "secrequestbodylimitaction" => Setting::RequestBodyLimitAction(limit_action(needed()?)?),
        "secrequestbodyjsondepthlimit" => Setting::RequestBodyJsonDepthLimit(number(needed()?)?),
        "secresponsebodylimit" => Setting::ResponseBodyLimit(number(needed()?)?),
        "secresponsebodylimitaction" => Setting::ResponseBodyLimitAction(limit_action(needed()?)?),
        "secresponsebodymimetype" => Setting::ResponseBodyMimeType(
            arguments
                .iter()
                .flat_map(|argument| argument.split_whitespace())
                .map(str::to_ascii_lowercase)
                .collect(),
        ),
        "secresponsebodymimetypesclear" => Setting::ResponseBodyMimeTypesClear,
        "secargumentslimit" => Setting::ArgumentsLimit(number(needed()?)?),
        "secargumentseparator" => match needed()?.as_bytes() {
            [byte] => Setting::ArgumentSeparator(*byte),
            _ => return Err(Wrong::new("SecArgumentSeparator is one character")),
        },
        "seccollectiontimeout" => Setting::CollectionTimeout(number(needed()?)? as u64),
        "secunicodemapfile" => {
            let page = arguments.get(1).map_or(Ok(20127), |page| {
                page.parse()
                    .map_err(|_| Wrong::new(format!("{page} is no code page")))
            })?;
            Setting::UnicodeMapFile(needed()?.to_owned(), page)
        }
        "seccomponentsignature" => Setting::ComponentSignature(needed()?.to_owned()),
        "secuploadfilelimit" => Setting::UploadFileLimit(number(needed()?)?),
        // Cookies of version 1 are of no browser.
        "seccookieformat" if needed()? == "0" => Setting::Inert,
        "seccookieformat" => return Err(Wrong::new("cookies have one format").hint("SecCookieFormat 0")),
        "seccookiev0separator" if needed()? == ";" => Setting::Inert,
        "seccookiev0separator" => {
            return Err(Wrong::new("cookies are separated by ;, as RFC 6265 says it"));
        }
        "secwebappid" => Setting::WebAppId(needed()?.to_owned()),
        name if INERT.contains(&name) => Setting::Inert,
        other => return refused(name, other, first),
    })
}

fn refused(name: &str, lower: &str, first: &str) -> Result<Setting, Wrong> {
    if ONLY_OFF.contains(&lower) {
        return if first.eq_ignore_ascii_case("off") {
            Ok(Setting::Inert)
        } else {
            Err(Wrong::new(format!("{name} is not done here")).hint("only Off is accepted"))
        };
    }
    let reason = REFUSED.iter().find(|(refused, _)| *refused == lower);
    Err(match reason {
        Some((_, reason)) => Wrong::new(format!("{name} is not done here: {reason}")),
        None => Wrong::new(format!("unknown directive {name}")).hint(nearest(name, NAMES.iter().copied())),
    })
}

pub(super) fn switch(value: &str) -> Result<bool, Wrong> {
    match value.to_ascii_lowercase().as_str() {
        "on" | "1" | "true" => Ok(true),
        "off" | "0" | "false" => Ok(false),
        _ => Err(Wrong::new(format!("{value} is neither On nor Off"))),
    }
}

pub(super) fn number(value: &str) -> Result<usize, Wrong> {
    value
        .parse()
        .map_err(|_| Wrong::new(format!("{value} is no number")))
}

fn limit_action(value: &str) -> Result<BodyLimitAction, Wrong> {
    match value.to_ascii_lowercase().as_str() {
        "reject" => Ok(BodyLimitAction::Reject),
        "processpartial" => Ok(BodyLimitAction::ProcessPartial),
        _ => Err(Wrong::new(format!("{value} is unknown")).hint("Reject or ProcessPartial")),
    }
}
