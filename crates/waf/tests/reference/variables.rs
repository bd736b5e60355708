//! What each variable holds.

use astraler_waf::country::Place;
use astraler_waf::engine::{Limits, Response, Stores};

use super::judge;
use crate::with::{Sent, ids, rules};

const FORM: &[(&[u8], &[u8])] = &[
    (b"Host", b"app.example:8443"),
    (b"Cookie", b"sid=abc; theme=dark"),
    (b"Authorization", b"Basic YWRhOnNlY3JldA=="),
    (b"Content-Type", b"application/x-www-form-urlencoded"),
];
const PARTS: &[(&[u8], &[u8])] = &[
    (b"Host", b"app.example"),
    (b"Content-Type", b"multipart/form-data; boundary=x"),
];
const UPLOAD: &[u8] = b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\none\r\n\
    --x\r\nContent-Disposition: form-data; name=\"f\"; filename=\"b.txt\"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--x--\r\n";

/// What a variable holds when a request has come through phase 4.
fn holds(variable: &str, value: &str, sent: &Sent<'_>) -> bool {
    let negated = value.strip_prefix('!');
    let operator = match negated {
        Some(value) => format!("!@streq {value}"),
        None => format!("@streq {value}"),
    };
    let program = rules(&format!(
        "SecAction \"id:1,phase:1,nolog,pass,initcol:ip=%{{REMOTE_ADDR}},initcol:global=all,setsid:s1,setuid:u1,setrsc:r1,\
         setvar:ip.n=1,setvar:global.n=2,setvar:session.n=3,setvar:user.n=4,setvar:resource.n=5,setvar:tx.n=6,setenv:n=7\"\n\
         SecRule REQUEST_METHOD \"@rx ^(.)\" \"id:2,phase:4,log,pass,severity:2,capture,chain\"\n\
         SecRule ARGS_GET:q \"@streq one\" \"t:none\"\n\
         SecRule {variable} \"{operator}\" \"id:3,phase:4,log,pass,severity:5\""
    ));
    let stores = Stores::new(10);
    let place = Place {
        continent: "EU".into(),
        region_code: "BE".into(),
        city: "Bern".into(),
        postal_code: "3011".into(),
        latitude: "46.94810".into(),
        longitude: "7.44740".into(),
        metro_code: "1".into(),
        ..Place::default()
    };
    let mut transaction = program.begin(sent.request(), Some(&stores), Limits::default());
    if program.looks_at_places() {
        transaction.set_place(&place);
    }
    transaction.set_elapsed(1500);
    transaction.request_headers();
    transaction.request_body(sent.body, false);
    transaction.response_headers(Response {
        status: 404,
        protocol: b"HTTP/1.1",
        headers: &[(b"Content-Type", b"text/html"), (b"X-Tag", b"one")],
    });
    transaction.response_body(b"<html>", false);
    ids(&transaction.finish()).contains(&3)
}

#[test]
fn variables() {
    let form = Sent {
        method: "POST",
        target: "/a/b%20c.php?q=one&r=two",
        headers: FORM,
        body: b"p=three&p=four",
        ..Sent::default()
    };
    let parts = Sent {
        method: "POST",
        target: "/up?q=one",
        headers: PARTS,
        body: UPLOAD,
        ..Sent::default()
    };
    for (variable, value) in [
        ("&ARGS", "4"),
        ("ARGS:p", "four"),
        ("ARGS_COMBINED_SIZE", "19"),
        ("ARGS_GET:r", "two"),
        ("ARGS_GET_NAMES", "r"),
        ("ARGS_NAMES", "p"),
        ("ARGS_POST:p", "three"),
        ("ARGS_POST_NAMES", "p"),
        ("AUTH_TYPE", "Basic"),
        ("DURATION", "1500"),
        ("ENV:n", "7"),
        ("FULL_REQUEST_LENGTH", "!0"),
        ("FULL_REQUEST", "!"),
        ("GEO:COUNTRY_CODE", "CH"),
        ("GEO:COUNTRY_CONTINENT", "EU"),
        ("GEO:REGION", "BE"),
        ("GEO:CITY", "Bern"),
        ("GEO:POSTAL_CODE", "3011"),
        ("GEO:LATITUDE", "46.94810"),
        ("GEO:LONGITUDE", "7.44740"),
        ("GEO:DMA_CODE", "1"),
        ("GLOBAL:n", "2"),
        ("HIGHEST_SEVERITY", "2"),
        ("INBOUND_DATA_ERROR", "0"),
        ("IP:n", "1"),
        ("MODSEC_BUILD", "030000000"),
        ("MSC_PCRE_ERROR", "0"),
        ("MSC_PCRE_LIMITS_EXCEEDED", "0"),
        ("OUTBOUND_DATA_ERROR", "0"),
        ("PATH_INFO", "/a/b c.php"),
        ("QUERY_STRING", "q=one&r=two"),
        ("REMOTE_ADDR", "192.0.2.1"),
        ("REMOTE_HOST", "192.0.2.1"),
        ("USERAGENT_IP", "192.0.2.1"),
        ("REMOTE_PORT", "40000"),
        ("REMOTE_USER", "ada"),
        ("REQBODY_ERROR", "0"),
        ("REQBODY_PROCESSOR", "URLENCODED"),
        ("REQBODY_PROCESSOR_ERROR", "0"),
        ("REQUEST_BASENAME", "b c.php"),
        ("REQUEST_BODY", "p=three&p=four"),
        ("REQUEST_BODY_LENGTH", "14"),
        ("REQUEST_COOKIES:theme", "dark"),
        ("REQUEST_COOKIES_NAMES", "sid"),
        ("REQUEST_FILENAME", "/a/b c.php"),
        ("REQUEST_HEADERS:Host", "app.example:8443"),
        ("REQUEST_HEADERS_NAMES", "Cookie"),
        ("REQUEST_LINE", "POST /a/b%20c.php?q=one&r=two HTTP/1.1"),
        ("REQUEST_METHOD", "POST"),
        ("REQUEST_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_URI", "/a/b%20c.php?q=one&r=two"),
        ("REQUEST_URI_RAW", "/a/b%20c.php?q=one&r=two"),
        ("RESOURCE:n", "5"),
        ("RESPONSE_BODY", "<html>"),
        ("RESPONSE_CONTENT_LENGTH", "6"),
        ("RESPONSE_CONTENT_TYPE", "text/html"),
        ("RESPONSE_HEADERS:X-Tag", "one"),
        ("RESPONSE_HEADERS_NAMES", "X-Tag"),
        ("RESPONSE_PROTOCOL", "HTTP/1.1"),
        ("RESPONSE_STATUS", "404"),
        ("RULE:id", "3"),
        ("RULE:severity", "5"),
        ("SERVER_ADDR", "127.0.0.1"),
        ("SERVER_NAME", "app.example"),
        ("SERVER_PORT", "443"),
        ("SESSION:n", "3"),
        ("SESSIONID", "s1"),
        ("STATUS_LINE", "HTTP/1.1 404"),
        // 2023-11-14, a Tuesday, 22:13:20 in UTC.
        ("TIME", "22:13:20"),
        ("TIME_DAY", "14"),
        ("TIME_EPOCH", "1700000000"),
        ("TIME_HOUR", "22"),
        ("TIME_MIN", "13"),
        ("TIME_MON", "10"),
        ("TIME_SEC", "20"),
        ("TIME_WDAY", "2"),
        ("TIME_YEAR", "2023"),
        ("TX:n", "6"),
        ("TX:0", "P"),
        ("UNIQUE_ID", "test"),
        ("URLENCODED_ERROR", "0"),
        ("USER:n", "4"),
        ("USERID", "u1"),
        ("WEBAPPID", "default"),
    ] {
        assert!(holds(variable, value, &form), "{variable} is not {value}");
    }
    for (variable, value) in [
        ("FILES", "b.txt"),
        ("FILES_COMBINED_SIZE", "5"),
        ("FILES_NAMES", "f"),
        ("FILES_SIZES:f", "5"),
        ("FILES_TMP_CONTENT:f", "hello"),
        ("MULTIPART_BOUNDARY_QUOTED", "0"),
        ("MULTIPART_BOUNDARY_WHITESPACE", "0"),
        ("MULTIPART_CRLF_LF_LINES", "0"),
        ("MULTIPART_DATA_AFTER", "0"),
        ("MULTIPART_DATA_BEFORE", "0"),
        ("MULTIPART_FILE_LIMIT_EXCEEDED", "0"),
        ("MULTIPART_FILENAME", "b.txt"),
        ("MULTIPART_HEADER_FOLDING", "0"),
        ("MULTIPART_INVALID_HEADER_FOLDING", "0"),
        ("MULTIPART_INVALID_PART", "0"),
        ("MULTIPART_INVALID_QUOTING", "0"),
        ("MULTIPART_LF_LINE", "0"),
        ("MULTIPART_MISSING_SEMICOLON", "0"),
        ("MULTIPART_NAME", "f"),
        ("MULTIPART_PART_HEADERS:f", "Content-Type: text/plain"),
        ("MULTIPART_STRICT_ERROR", "0"),
        ("MULTIPART_UNMATCHED_BOUNDARY", "0"),
    ] {
        assert!(holds(variable, value, &parts), "{variable} is not {value}");
    }
    // What a link of a chain has matched, the next one knows.
    for (variable, value) in [
        ("MATCHED_VAR", "one"),
        ("MATCHED_VARS", "one"),
        ("MATCHED_VAR_NAME", "ARGS_GET:q"),
        ("MATCHED_VARS_NAMES", "ARGS_GET:q"),
    ] {
        let program = rules(&format!(
            "SecRule ARGS_GET \"@streq one\" \"id:1,phase:1,log,pass,chain\"\nSecRule {variable} \"@streq {value}\" \"t:none\""
        ));
        assert_eq!(ids(&form.through(&program)), [1], "{variable} is not {value}");
    }
    let document = Sent {
        method: "POST",
        target: "/x?q=one",
        headers: &[(b"Host", b"a"), (b"Content-Type", b"text/xml")],
        body: b"<a b=\"c\">d</a>",
        ..Sent::default()
    };
    let program = rules(
        "SecAction \"id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=XML\"\n\
         SecRule XML:/* \"@streq d\" \"id:2,phase:2,pass,log\"\n\
         SecRule XML://@* \"@streq c\" \"id:3,phase:2,pass,log\"\n\
         SecRule REQBODY_ERROR_MSG|REQBODY_PROCESSOR_ERROR_MSG \"@rx .\" \"id:4,phase:2,pass,log\"\n\
         SecRule MATCHED_VARS|MATCHED_VARS_NAMES|MATCHED_VAR_NAME \"@rx .\" \"id:5,phase:2,pass,log\"",
    );
    assert_eq!(
        ids(&document.through(&program)),
        [2, 3],
        "nothing was wrong, and nothing has matched before"
    );
    for (variable, reason) in [
        ("PERF_COMBINED", "not measured"),
        ("PERF_GC", "not measured"),
        ("PERF_LOGGING", "not measured"),
        ("PERF_PHASE1", "not measured"),
        ("PERF_RULES", "not measured"),
        ("PERF_SREAD", "not measured"),
        ("PERF_SWRITE", "not measured"),
        ("SCRIPT_BASENAME", "no script"),
        ("SCRIPT_FILENAME", "no script"),
        ("SCRIPT_GID", "no script"),
        ("SCRIPT_GROUPNAME", "no script"),
        ("SCRIPT_MODE", "no script"),
        ("SCRIPT_UID", "no script"),
        ("SCRIPT_USERNAME", "no script"),
        ("SDBM_DELETE_ERROR", "in memory"),
        ("STREAM_INPUT_BODY", "not changed"),
        ("STREAM_OUTPUT_BODY", "not changed"),
        ("WEBSERVER_ERROR_LOG", "no part of a transaction"),
        ("GEO:COUNTRY_CODE3", "there are COUNTRY_CODE"),
        ("GEO:COUNTRY_NAME", "there are COUNTRY_CODE"),
        ("GEO:AREA_CODE", "there are COUNTRY_CODE"),
        ("XML:/a/b", "the path /a/b is unknown"),
    ] {
        judge(
            &format!("SecRule {variable} \"@rx a\" \"id:1,phase:2,pass\""),
            Some(reason),
        );
    }
}

#[test]
fn files_beyond_their_limit_are_flagged() {
    let program = rules(
        "SecUploadFileLimit 1\nSecAction \"id:1,phase:1,pass,nolog\"\n\
         SecRule MULTIPART_FILE_LIMIT_EXCEEDED \"@eq 1\" \"id:2,phase:2,pass,log\"",
    );
    let part = |name: &str| {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.txt\"\r\n\r\nhello\r\n"
        )
    };
    let matched = |body: &str| {
        let sent = Sent {
            method: "POST",
            headers: PARTS,
            body: body.as_bytes(),
            ..Sent::default()
        };
        ids(&sent.through(&program))
    };
    assert!(matched(&format!("{}--x--\r\n", part("a"))).is_empty());
    assert_eq!(matched(&format!("{}{}--x--\r\n", part("a"), part("b"))), [2]);
}
