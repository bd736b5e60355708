//! Everything that ModSecurity's reference manuals (of versions 2.9 and 3) document, by kind: what is done, with what it
//! leads to, and what is refused when rules are loaded, with file, line and reason.

mod variables;

use crate::with::{Sent, ids, problems, rules};

/// `None`: it is done. A text: what the error says.
type Verdict = Option<&'static str>;

#[track_caller]
fn judge(text: &str, verdict: Verdict) {
    let found = problems(text);
    match verdict {
        None => assert!(found.is_empty(), "{text}: {found:?}"),
        Some(reason) => {
            assert!(
                found.iter().any(|problem| problem.contains(reason)),
                "{text}: {found:?}"
            );
            assert!(
                found.iter().all(|problem| problem.starts_with("test.conf:1: ")),
                "{text}: {found:?}"
            );
        }
    }
}

#[test]
fn directives() {
    const DIRECTIVES: &[(&str, Verdict)] = &[
        ("SecAction \"id:1,phase:1,pass\"", None),
        ("SecArgumentSeparator ;", None),
        ("SecArgumentsLimit 500", None),
        ("SecAuditEngine RelevantOnly", None),
        ("SecAuditLog /var/log/a", None),
        ("SecAuditLog2 /var/log/b", None),
        ("SecAuditLogDirMode 0700", None),
        ("SecAuditLogFileMode 0600", None),
        ("SecAuditLogFormat JSON", None),
        ("SecAuditLogParts ABIJ", None),
        ("SecAuditLogPrefix a", None),
        ("SecAuditLogRelevantStatus ^5", None),
        ("SecAuditLogStorageDir /var/log", None),
        ("SecAuditLogType Serial", None),
        ("SecCacheTransformations On", None),
        ("SecChrootDir /", None),
        ("SecCollectionTimeout 60", None),
        ("SecComponentSignature \"a/1\"", None),
        ("SecConnEngine On", Some("by the server")),
        ("SecConnReadStateLimit 5", Some("by the server")),
        ("SecConnWriteStateLimit 5", Some("by the server")),
        ("SecContentInjection Off", None),
        ("SecContentInjection On", Some("only Off")),
        ("SecCookieFormat 0", None),
        ("SecCookieFormat 1", Some("one format")),
        ("SecCookieV0Separator ;", None),
        ("SecCookieV0Separator ,", Some("RFC 6265")),
        ("SecDataDir /tmp", None),
        ("SecDebugLog /tmp/a", None),
        ("SecDebugLogLevel 9", None),
        ("SecDefaultAction \"phase:2,log,deny\"", None),
        ("SecDisableBackendCompression Off", None),
        ("SecDisableBackendCompression On", Some("only Off")),
        ("SecGeoLookupDb a.mmdb", Some("the server says")),
        ("SecGsbLookupDb a", Some("no such lookup")),
        ("SecGuardianLog |a", None),
        ("SecHashEngine Off", None),
        ("SecHashEngine On", Some("only Off")),
        ("SecHashKey a", Some("not signed")),
        ("SecHashMethodPm HashHref a", Some("not signed")),
        ("SecHashMethodRx HashHref a", Some("not signed")),
        ("SecHashParam a", Some("not signed")),
        ("SecHttpBlKey a", Some("no lookup over the network")),
        ("SecInterceptOnError On", None),
        ("SecMarker A", None),
        ("SecParseXmlIntoArgs Off", None),
        ("SecParseXmlIntoArgs On", Some("only Off")),
        ("SecPcreMatchLimit 1000", None),
        ("SecPcreMatchLimitRecursion 1000", None),
        ("SecPdfProtect On", Some("readers of PDF")),
        ("SecPdfProtectMethod TokenRedirection", Some("readers of PDF")),
        ("SecPdfProtectSecret a", Some("readers of PDF")),
        ("SecPdfProtectTimeout 10", Some("readers of PDF")),
        ("SecPdfProtectTokenName a", Some("readers of PDF")),
        ("SecReadStateLimit 5", Some("by the server")),
        (
            "SecRemoteRules a https://a.example",
            Some("rules come from files"),
        ),
        ("SecRemoteRulesFailAction Abort", Some("rules come from files")),
        ("SecRequestBodyAccess On", None),
        ("SecRequestBodyInMemoryLimit 1000", None),
        ("SecRequestBodyJsonDepthLimit 10", None),
        ("SecRequestBodyLimit 1000", None),
        ("SecRequestBodyLimitAction Reject", None),
        ("SecRequestBodyNoFilesLimit 1000", None),
        ("SecResponseBodyAccess Off", None),
        ("SecResponseBodyLimit 1000", None),
        ("SecResponseBodyLimitAction ProcessPartial", None),
        ("SecResponseBodyMimeType text/html", None),
        ("SecResponseBodyMimeTypesClear", None),
        ("SecRule ARGS \"@rx a\" \"id:1,phase:2,pass\"", None),
        ("SecRuleEngine DetectionOnly", None),
        ("SecRuleInheritance Off", Some("nothing to inherit")),
        ("SecRulePerfTime 1000", None),
        ("SecRuleRemoveById 1 2 \"5-9\"", None),
        ("SecRuleRemoveByMsg a", None),
        ("SecRuleRemoveByTag a", None),
        ("SecRuleScript a.lua", Some("a script has no bound")),
        ("SecRuleUpdateActionById 1 \"deny\"", None),
        ("SecRuleUpdateTargetById 1 \"!ARGS:a\"", None),
        ("SecRuleUpdateTargetByMsg a \"!ARGS:a\"", None),
        ("SecRuleUpdateTargetByTag a \"!ARGS:a\"", None),
        ("SecSensorId a", None),
        ("SecServerSignature a", None),
        ("SecStatusEngine Off", None),
        ("SecStreamInBodyInspection On", Some("only Off")),
        ("SecStreamOutBodyInspection On", Some("only Off")),
        ("SecTmpDir /tmp", None),
        ("SecTmpSaveUploadedFiles Off", None),
        ("SecUnicodeCodePage 20127", Some("behind the file")),
        ("SecUploadDir /tmp", None),
        ("SecUploadFileLimit 5", None),
        ("SecUploadFileMode 0600", None),
        ("SecUploadKeepFiles Off", None),
        ("SecWebAppId a", None),
        ("SecWriteStateLimit 5", Some("by the server")),
        ("SecXmlExternalEntity Off", None),
        ("SecXmlExternalEntity On", Some("only Off")),
    ];
    for (text, verdict) in DIRECTIVES {
        judge(text, *verdict);
    }
}

#[test]
fn operators() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("words"), "# words\nevil\n").unwrap();
    std::fs::write(folder.path().join("networks"), "10.0.0.0/8\n192.0.2.0/24\n").unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (words, networks) = (at("words"), at("networks"));
    // What matches, and what does not.
    for (operator, yes, no) in [
        ("beginsWith ev", "evil", "devil"),
        ("contains vi", "evil", "good"),
        ("containsWord evil", "an evil one", "devils"),
        ("detectSQLi", "1' or '1'='1", "shoes"),
        ("detectXSS", "<script>alert(1)</script>", "shoes"),
        ("endsWith il", "evil", "evils"),
        ("eq 5", "5", "6"),
        ("ge 5", "5", "4"),
        ("gt 5", "6", "5"),
        ("ipMatch 192.0.2.0/24,::1", "192.0.2.7", "192.0.3.7"),
        (&format!("ipMatchF {networks}"), "10.1.2.3", "11.1.2.3"),
        (&format!("ipMatchFromFile {networks}"), "192.0.2.3", "11.1.2.3"),
        ("le 5", "5", "6"),
        ("lt 5", "4", "5"),
        ("pm evil bad", "a bad one", "good"),
        (&format!("pmf {words}"), "evil", "good"),
        (&format!("pmFromFile {words}"), "an EVIL", "good"),
        ("rx ^e.il$", "evil", "devil"),
        ("rxGlobal e.", "evil", "good"),
        ("streq evil", "evil", "Evil"),
        ("strmatch vi", "evil", "good"),
        ("validateByteRange 32-126", "\u{e9}", "evil"),
        ("validateUrlEncoding", "%zz", "%41"),
        ("validateUtf8Encoding", "\u{fffd}", "\u{e9}"),
        ("verifyCC \\d{13,16}", "4111111111111111", "4111111111111112"),
        ("verifyCPF ([0-9]{11})", "52998224725", "52998224724"),
        ("verifySSN \\d{3}-?\\d{2}-?\\d{4}", "078-05-1120", "000-05-1120"),
        ("verifySVNR ([0-9]{10})", "1237010180", "1238010180"),
        ("within a,evil,b", "evil", "devil"),
    ] {
        let program = rules(&format!(
            "SecRule REQUEST_COOKIES:c \"@{operator}\" \"id:1,phase:1,pass,log,t:none\""
        ));
        let matches = |value: &[u8]| {
            let cookie = [b"c=", value].concat();
            let headers: [(&[u8], &[u8]); 2] = [(b"Host", b"a"), (b"Cookie", &cookie)];
            let sent = Sent {
                headers: &headers,
                ..Sent::default()
            };
            !ids(&sent.through(&program)).is_empty()
        };
        // No text of ours can be what is wrong with UTF-8.
        let yes = yes.replace('\u{fffd}', "?").into_bytes();
        let yes = if operator == "validateUtf8Encoding" {
            b"\xc0\xaf".to_vec()
        } else {
            yes
        };
        assert!(matches(&yes), "@{operator} does not match");
        assert!(!matches(no.as_bytes()), "@{operator} matches {no}");
    }
    let one = |operator: &str| {
        let text = format!("SecRule REMOTE_ADDR \"{operator}\" \"id:1,phase:1,pass,log\"");
        ids(&Sent::get("/").through(&rules(&text))).len()
    };
    assert_eq!(
        [
            "@unconditionalMatch",
            "@noMatch",
            "!@noMatch",
            "@geoLookup",
            "@rbl bl.example",
            "!@streq x",
            "^192"
        ]
        .map(one),
        [1, 0, 1, 1, 0, 1, 1]
    );
    for (operator, reason) in [
        ("fuzzyHash /a 6", "not done here"),
        ("gsbLookup x", "asks nobody"),
        ("inspectFile /a", "starts none"),
        ("rsub s/a/b/", "only looks at them"),
        ("validateDTD /a", "not validated"),
        ("validateHash a", "not signed"),
        ("validateSchema /a", "not validated"),
        ("pmFromFile https://a.example/b", "fetch it first"),
        ("pmFromFile /nowhere", "cannot be read"),
        ("eqq 1", "did you mean eq?"),
    ] {
        judge(
            &format!("SecRule ARGS \"@{operator}\" \"id:1,phase:2,pass\""),
            Some(reason),
        );
    }
}

#[test]
fn transformations() {
    for (name, from, to) in [
        ("base64Decode", "ZXZpbA==", "evil"),
        ("base64DecodeExt", "ZX!ZpbA", "evil"),
        ("base64Encode", "evil", "ZXZpbA=="),
        ("cmdLine", "C^md  /C \"x\"", "cmd/c x"),
        ("compressWhitespace", "a  \t b", "a b"),
        ("cssDecode", "\\65vil", "evil"),
        ("escapeSeqDecode", "\\x65vil", "evil"),
        ("hexDecode", "6576696c", "evil"),
        ("hexEncode", "evil", "6576696c"),
        ("htmlEntityDecode", "&lt;e&#118;il", "<evil"),
        ("jsDecode", "\\u0065vil", "evil"),
        ("length", "evil", "4"),
        ("lowercase", "EVil", "evil"),
        ("none", "Evil", "Evil"),
        ("normalisePath", "/a/../b//c", "/b/c"),
        ("normalizePath", "/a/./b", "/a/b"),
        ("normalisePathWin", "\\a\\..\\b", "/b"),
        ("normalizePathWin", "\\a\\b", "/a/b"),
        ("parityZero7bit", "evil", "evil"),
        ("removeComments", "a/*b*/c", "ac"),
        ("removeCommentsChar", "a/*b*/c", "abc"),
        ("removeNulls", "evil", "evil"),
        ("removeWhitespace", "a b", "ab"),
        ("replaceComments", "a/*b*/c", "a c"),
        ("replaceNulls", "evil", "evil"),
        ("sqlHexDecode", "0x6576696c", "evil"),
        ("trim", " evil ", "evil"),
        ("trimLeft", " evil", "evil"),
        ("trimRight", "evil ", "evil"),
        ("uppercase", "evil", "EVIL"),
        ("urlDecode", "e%76il+x", "evil x"),
        ("urlDecodeUni", "%u0065vil", "evil"),
        ("urlEncode", "a b", "a+b"),
        ("utf8toUnicode", "\u{e9}", "%u00e9"),
        ("md5,t:hexEncode", "evil", "4034a346ccee15292d823416f7510a2f"),
        (
            "sha1,t:hexEncode",
            "evil",
            "b653891162a040e1bfe6e436bdcd93827e0c56e5",
        ),
        ("parityEven7bit,t:hexEncode", "evil", "65f6696c"),
        ("parityOdd7bit,t:hexEncode", "evil", "e576e9ec"),
    ] {
        let program = rules(&format!(
            "SecRule ARGS:c \"@streq {to}\" \"id:1,phase:1,pass,log,t:none,t:{name}\"\n\
             SecRule ARGS:c \"@rx (?s)^(.*)$\" \"id:2,phase:1,pass,log,capture,t:none,t:{name},logdata:'%{{TX.1}}'\""
        ));
        let escaped: String = from.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let report = Sent::get(&format!("/?c={escaped}")).through(&program);
        assert_eq!(
            ids(&report)[0],
            1,
            "t:{name} of {from} is not {to}: {:?}",
            report.matches
        );
    }
    judge(
        "SecRule ARGS \"@rx a\" \"id:1,phase:2,pass,t:lower\"",
        Some("no transformation is called"),
    );
}

#[test]
fn actions() {
    const ACTIONS: &[(&str, Verdict)] = &[
        ("accuracy:5", None),
        ("allow", None),
        ("allow:phase", None),
        ("allow:request", None),
        ("append:'a'", Some("append is not done here")),
        ("auditlog", None),
        ("block", None),
        ("capture", None),
        ("ctl:auditEngine=On", None),
        ("ctl:auditLogParts=+E", None),
        ("ctl:debugLogLevel=9", None),
        ("ctl:forceRequestBodyVariable=On", None),
        ("ctl:hashEnforcement=Off", None),
        ("ctl:hashEngine=On", Some("not signed")),
        ("ctl:parseXmlIntoArgs=On", Some("does not become arguments")),
        ("ctl:requestBodyAccess=Off", None),
        ("ctl:requestBodyLimit=1000", None),
        ("ctl:requestBodyProcessor=JSON", None),
        ("ctl:responseBodyAccess=Off", None),
        ("ctl:responseBodyLimit=1000", None),
        ("ctl:ruleEngine=Off", None),
        ("ctl:ruleRemoveById=5-9", None),
        ("ctl:ruleRemoveByMsg=a", None),
        ("ctl:ruleRemoveByTag=a", None),
        ("ctl:ruleRemoveTargetById=5;ARGS:a", None),
        ("ctl:ruleRemoveTargetByMsg=a;ARGS:a", None),
        ("ctl:ruleRemoveTargetByTag=a;ARGS:a", None),
        ("deny", None),
        ("deprecatevar:session.a=60/300", None),
        ("drop", None),
        ("exec:/bin/true", Some("starts none")),
        ("expirevar:session.a=60", None),
        ("initcol:ip=%{REMOTE_ADDR}", None),
        ("log", None),
        ("logdata:'%{MATCHED_VAR}'", None),
        ("maturity:5", None),
        ("msg:'a'", None),
        ("multiMatch", None),
        ("noauditlog", None),
        ("nolog", None),
        ("pass", None),
        ("pause:100", Some("pause is not done here")),
        ("prepend:'a'", Some("prepend is not done here")),
        ("proxy:http://a.example", Some("proxy is not done here")),
        ("redirect:https://a.example/%{UNIQUE_ID}", None),
        ("rev:'1'", None),
        ("sanitiseArg:a", None),
        ("sanitiseMatched", None),
        ("sanitiseMatchedBytes:1/4", None),
        ("sanitiseRequestHeader:a", None),
        ("sanitiseResponseHeader:a", None),
        ("setenv:a=b", None),
        ("setrsc:a", None),
        ("setsid:a", None),
        ("setuid:a", None),
        ("setvar:tx.a=+1", None),
        ("setvar:!tx.a", None),
        ("setvar:env.a=1", Some("cannot be written")),
        ("severity:'CRITICAL'", None),
        ("skip:1", None),
        ("skipAfter:END", None),
        ("status:404", None),
        ("t:lowercase", None),
        ("tag:'a/b'", None),
        ("ver:'a/1'", None),
        ("xmlns:a=http://a.example", None),
    ];
    for (action, verdict) in ACTIONS {
        let text = format!(
            "SecRule ARGS \"@rx a\" \"id:1,phase:2,{action}\"\nSecRule ARGS \"@rx b\" \"id:2,phase:2,pass\"\nSecMarker END"
        );
        judge(&text, *verdict);
    }
    judge(
        "SecRule ARGS \"@rx a\" \"id:1,phase:2,deny,chain\"\nSecRule ARGS \"@rx b\" \"t:none\"",
        None,
    );
    judge(
        "SecRule ARGS \"@rx a\" \"id:1,phase:6,pass\"",
        Some("6 is no phase"),
    );
}
