//! `REQUEST_HEADERS:Host|!ARGS:password|&TX:/^a/`: what a rule looks at.

use super::Wrong;

/// A variable: a collection, and which of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// The collection.
    pub collection: Collection,
    /// Which members.
    pub selector: Selector,
}

/// Which members of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All.
    All,
    /// Those of this name, whatever its case.
    Name(String),
    /// Those whose names match, whatever their case.
    Pattern(String),
    /// `XML:/*`: an XPath expression.
    Path(String),
}

/// A variable in a rule's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The variable.
    pub variable: Variable,
    /// `&`: how many members, instead of what they hold.
    pub count: bool,
    /// `!`: not these.
    pub exclude: bool,
}

/// Whether a collection has members with names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    Single,
    /// Many.
    Many,
}

macro_rules! collections {
    ($($variant:ident $name:literal $kind:ident,)*) => {
        /// Everything that a rule can look at: ModSecurity's variables.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Collection { $($variant,)* }

        impl Collection {
            /// All there are.
            pub const ALL: &'static [Collection] = &[$(Collection::$variant,)*];

            /// Its name in rules and logs.
            pub fn name(self) -> &'static str {
                match self { $(Collection::$variant => $name,)* }
            }

            /// Whether it has members.
            pub fn kind(self) -> Kind {
                match self { $(Collection::$variant => Kind::$kind,)* }
            }
        }
    };
}

collections! {
    Args "ARGS" Many,
    ArgsCombinedSize "ARGS_COMBINED_SIZE" Single,
    ArgsGet "ARGS_GET" Many,
    ArgsGetNames "ARGS_GET_NAMES" Many,
    ArgsNames "ARGS_NAMES" Many,
    ArgsPost "ARGS_POST" Many,
    ArgsPostNames "ARGS_POST_NAMES" Many,
    AuthType "AUTH_TYPE" Single,
    Duration "DURATION" Single,
    Env "ENV" Many,
    Files "FILES" Many,
    FilesCombinedSize "FILES_COMBINED_SIZE" Single,
    FilesNames "FILES_NAMES" Many,
    FilesSizes "FILES_SIZES" Many,
    FilesTmpContent "FILES_TMP_CONTENT" Many,
    FilesTmpNames "FILES_TMPNAMES" Many,
    FullRequest "FULL_REQUEST" Single,
    FullRequestLength "FULL_REQUEST_LENGTH" Single,
    Geo "GEO" Many,
    Global "GLOBAL" Many,
    HighestSeverity "HIGHEST_SEVERITY" Single,
    InboundDataError "INBOUND_DATA_ERROR" Single,
    Ip "IP" Many,
    MatchedVar "MATCHED_VAR" Single,
    MatchedVarName "MATCHED_VAR_NAME" Single,
    MatchedVars "MATCHED_VARS" Many,
    MatchedVarsNames "MATCHED_VARS_NAMES" Many,
    ModsecBuild "MODSEC_BUILD" Single,
    MscPcreError "MSC_PCRE_ERROR" Single,
    MscPcreLimitsExceeded "MSC_PCRE_LIMITS_EXCEEDED" Single,
    MultipartBoundaryQuoted "MULTIPART_BOUNDARY_QUOTED" Single,
    MultipartBoundaryWhitespace "MULTIPART_BOUNDARY_WHITESPACE" Single,
    MultipartCrlfLfLines "MULTIPART_CRLF_LF_LINES" Single,
    MultipartDataAfter "MULTIPART_DATA_AFTER" Single,
    MultipartDataBefore "MULTIPART_DATA_BEFORE" Single,
    MultipartFileLimitExceeded "MULTIPART_FILE_LIMIT_EXCEEDED" Single,
    MultipartFilename "MULTIPART_FILENAME" Many,
    MultipartHeaderFolding "MULTIPART_HEADER_FOLDING" Single,
    MultipartInvalidHeaderFolding "MULTIPART_INVALID_HEADER_FOLDING" Single,
    MultipartInvalidPart "MULTIPART_INVALID_PART" Single,
    MultipartInvalidQuoting "MULTIPART_INVALID_QUOTING" Single,
    MultipartLfLine "MULTIPART_LF_LINE" Single,
    MultipartMissingSemicolon "MULTIPART_MISSING_SEMICOLON" Single,
    MultipartName "MULTIPART_NAME" Many,
    MultipartPartHeaders "MULTIPART_PART_HEADERS" Many,
    MultipartStrictError "MULTIPART_STRICT_ERROR" Single,
    MultipartUnmatchedBoundary "MULTIPART_UNMATCHED_BOUNDARY" Single,
    OutboundDataError "OUTBOUND_DATA_ERROR" Single,
    PathInfo "PATH_INFO" Single,
    QueryString "QUERY_STRING" Single,
    RemoteAddr "REMOTE_ADDR" Single,
    RemoteHost "REMOTE_HOST" Single,
    RemotePort "REMOTE_PORT" Single,
    RemoteUser "REMOTE_USER" Single,
    ReqbodyError "REQBODY_ERROR" Single,
    ReqbodyErrorMsg "REQBODY_ERROR_MSG" Single,
    ReqbodyProcessor "REQBODY_PROCESSOR" Single,
    ReqbodyProcessorError "REQBODY_PROCESSOR_ERROR" Single,
    ReqbodyProcessorErrorMsg "REQBODY_PROCESSOR_ERROR_MSG" Single,
    RequestBasename "REQUEST_BASENAME" Single,
    RequestBody "REQUEST_BODY" Single,
    RequestBodyLength "REQUEST_BODY_LENGTH" Single,
    RequestCookies "REQUEST_COOKIES" Many,
    RequestCookiesNames "REQUEST_COOKIES_NAMES" Many,
    RequestFilename "REQUEST_FILENAME" Single,
    RequestHeaders "REQUEST_HEADERS" Many,
    RequestHeadersNames "REQUEST_HEADERS_NAMES" Many,
    RequestLine "REQUEST_LINE" Single,
    RequestMethod "REQUEST_METHOD" Single,
    RequestProtocol "REQUEST_PROTOCOL" Single,
    RequestUri "REQUEST_URI" Single,
    RequestUriRaw "REQUEST_URI_RAW" Single,
    Resource "RESOURCE" Many,
    ResponseBody "RESPONSE_BODY" Single,
    ResponseContentLength "RESPONSE_CONTENT_LENGTH" Single,
    ResponseContentType "RESPONSE_CONTENT_TYPE" Single,
    ResponseHeaders "RESPONSE_HEADERS" Many,
    ResponseHeadersNames "RESPONSE_HEADERS_NAMES" Many,
    ResponseProtocol "RESPONSE_PROTOCOL" Single,
    ResponseStatus "RESPONSE_STATUS" Single,
    Rule "RULE" Many,
    ServerAddr "SERVER_ADDR" Single,
    ServerName "SERVER_NAME" Single,
    ServerPort "SERVER_PORT" Single,
    Session "SESSION" Many,
    SessionId "SESSIONID" Single,
    StatusLine "STATUS_LINE" Single,
    Time "TIME" Single,
    TimeDay "TIME_DAY" Single,
    TimeEpoch "TIME_EPOCH" Single,
    TimeHour "TIME_HOUR" Single,
    TimeMin "TIME_MIN" Single,
    TimeMon "TIME_MON" Single,
    TimeSec "TIME_SEC" Single,
    TimeWday "TIME_WDAY" Single,
    TimeYear "TIME_YEAR" Single,
    Tx "TX" Many,
    UniqueId "UNIQUE_ID" Single,
    UrlencodedError "URLENCODED_ERROR" Single,
    User "USER" Many,
    UserId "USERID" Single,
    WebAppId "WEBAPPID" Single,
    Xml "XML" Many,
}

impl Collection {
    pub(crate) fn parse(name: &str) -> Result<Self, Wrong> {
        let found = Self::ALL
            .iter()
            .find(|collection| collection.name().eq_ignore_ascii_case(name));
        if let Some(collection) = found {
            return Ok(*collection);
        }
        let alias = match name.to_ascii_uppercase().as_str() {
            // The server says who the client is, whatever proxies are in between.
            "REMOTE_IP" | "USERAGENT_IP" => Some(Self::RemoteAddr),
            "MULTIPART_CRLF_LF_LINE" => Some(Self::MultipartCrlfLfLines),
            _ => None,
        };
        alias.ok_or_else(|| unknown(name))
    }
}

/// Variables of ModSecurity's reference that are none here, by the beginning of their names, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("PERF_", "how long rules took is not measured in them"),
    ("SCRIPT_", "a reverse proxy has no script on its disk"),
    ("SDBM_", "collections are in memory, and no file of them can fail"),
    (
        "STREAM_",
        "bodies are looked at, and not changed; look at REQUEST_BODY or RESPONSE_BODY",
    ),
    (
        "WEBSERVER_ERROR_LOG",
        "the server's log is no part of a transaction",
    ),
];

fn unknown(name: &str) -> Wrong {
    let upper = name.to_ascii_uppercase();
    match REFUSED.iter().find(|(start, _)| upper.starts_with(start)) {
        Some((_, reason)) => Wrong::new(format!("{name} is not known here: {reason}")),
        None => Wrong::new(format!("unknown variable {name}"))
            .hint(nearest(name, Collection::ALL.iter().map(|one| one.name()))),
    }
}

/// A hint at the name that was meant.
pub(crate) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let name = name.to_ascii_lowercase();
    let best = known
        .map(|one| (distance(&name, &one.to_ascii_lowercase()), one))
        .min_by_key(|(distance, _)| *distance);
    match best {
        Some((distance, one)) if distance <= 3 => format!("did you mean {one}?"),
        _ => "docs/waf.md lists what there is".to_owned(),
    }
}

/// Levenshtein's, on names that are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Reads a list of variables.
pub(crate) fn list(text: &str) -> Result<Vec<Target>, Wrong> {
    let targets: Result<Vec<_>, _> = items(text).into_iter().map(target).collect();
    let targets = targets?;
    if targets.is_empty() {
        return Err(Wrong::new("a rule needs a variable"));
    }
    Ok(targets)
}

/// Splits at `|` and `,`, but not within quotes or slashes.
fn items(text: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut start = 0;
    let mut closing: Option<char> = None;
    let mut escaped = false;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if let Some(end) = closing {
            if c == end {
                closing = None;
            }
        } else if previous == ':' && c == '\'' {
            closing = Some('\'');
        } else if previous == ':' && c == '/' && !is_xml(&text[start..at]) {
            closing = Some('/');
        } else if c == '|' || c == ',' {
            items.push(&text[start..at]);
            start = at + 1;
        }
        previous = c;
    }
    items.push(&text[start..]);
    items
        .into_iter()
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}

fn is_xml(item: &str) -> bool {
    item.trim_start_matches(['!', '&', ' '])
        .eq_ignore_ascii_case("XML:")
}

fn target(item: &str) -> Result<Target, Wrong> {
    let (exclude, rest) = match item.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, item),
    };
    let (count, rest) = match rest.strip_prefix('&') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    Ok(Target {
        variable: variable(rest)?,
        count,
        exclude,
    })
}

fn variable(text: &str) -> Result<Variable, Wrong> {
    let (name, selector) = match text.split_once(':') {
        // v2 also wrote `TX.name`.
        Some((name, selector)) => (name, Some(selector)),
        None => match text.split_once('.') {
            Some((name, selector)) => (name, Some(selector)),
            None => (text, None),
        },
    };
    let collection = Collection::parse(name)?;
    let selector = match selector {
        None => Selector::All,
        Some(_) if collection.kind() == Kind::Single => {
            return Err(Wrong::new(format!(
                "{} has one value and takes no name",
                collection.name()
            )));
        }
        Some(path) if collection == Collection::Xml => Selector::Path(path.to_owned()),
        Some(selector) => {
            let bare = selector
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''))
                .unwrap_or(selector);
            match bare.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
                Some(pattern) => Selector::Pattern(pattern.replace("\\/", "/")),
                None => Selector::Name(bare.to_owned()),
            }
        }
    };
    Ok(Variable { collection, selector })
}
