//! A request through rules of every kind: it ends, within its limits, and twice the same.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use astraler_waf::compile::Program;
use astraler_waf::engine::Limits;
use astraler_waf::seclang::Rules;
use astraler_waf::suite;

/// Each collection, operator and kind of action once.
const RULES: &str = r#"
SecAction "id:1,phase:1,pass,nolog,setvar:tx.critical=5,initcol:ip=%{REMOTE_ADDR},setvar:ip.seen=+1"
SecRule REQUEST_HEADERS|REQUEST_COOKIES|REQUEST_COOKIES_NAMES|ARGS|ARGS_NAMES|REQUEST_URI_RAW|REQUEST_FILENAME \
    "@rx (?i)(?:union\s+select|<script|\.\./|[;|&]\s*(?:cat|ls)\b)" \
    "id:2,phase:2,pass,capture,t:none,t:utf8toUnicode,t:urlDecodeUni,t:htmlEntityDecode,t:jsDecode,t:cssDecode,\
    multiMatch,logdata:'%{TX.0} in %{MATCHED_VAR_NAME}',setvar:tx.score=+%{tx.critical}"
SecRule ARGS|REQUEST_BODY|XML:/*|XML://@*|FILES|FILES_NAMES|MULTIPART_PART_HEADERS "@pm select passwd boot.ini" \
    "id:3,phase:2,pass,t:none,t:removeWhitespace,t:cmdLine,t:normalizePath,setvar:'tx.seen_%{MATCHED_VAR_NAME}=1'"
SecRule ARGS "@detectSQLi" "id:4,phase:2,pass,capture,t:urlDecodeUni,t:removeNulls"
SecRule ARGS "@detectXSS" "id:5,phase:2,pass,t:urlDecodeUni"
SecRule REQUEST_HEADERS|ARGS "@validateByteRange 1-255" "id:6,phase:2,pass,t:urlDecodeUni"
SecRule ARGS "@validateUrlEncoding" "id:7,phase:2,pass,chain"
    SecRule MATCHED_VARS "@rx %u[fF]{2}" "t:base64DecodeExt,t:hexDecode,t:sqlHexDecode,t:compressWhitespace"
SecRule TX:/^seen_/ "@unconditionalMatch" "id:8,phase:2,pass"
SecRule TX:score "@ge 10" "id:9,phase:2,deny,msg:'%{tx.score}'"
SecRule &ARGS "@gt 100" "id:10,phase:2,deny"
"#;

static PROGRAM: LazyLock<Program> = LazyLock::new(|| {
    let rules = Rules::base().text(RULES, Path::new("rules.conf"));
    Program::new(&rules).expect("our own rules")
});

libfuzzer_sys::fuzz_target!(|request: &[u8]| {
    let (status, report) = suite::send_within(&PROGRAM, request, Limits::default());
    let (again, second) = suite::send_within(&PROGRAM, request, Limits::default());
    assert_eq!(status, again);
    let ids = |report: Option<&astraler_waf::engine::Report>| {
        report.map(|report| report.matches.iter().map(|one| one.rule).collect::<Vec<_>>())
    };
    assert_eq!(ids(report.as_ref()), ids(second.as_ref()));
    if let Some(report) = report {
        assert!(report.matches.len() <= Limits::default().matches);
    }
});
