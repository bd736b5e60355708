//! The firewall's rules on a real platform: where they come from, what is said when they cannot be used, and others taken
//! up while it serves.

#![expect(clippy::disallowed_methods, reason = "tests: no file is for keeps")]

use crate::support::PROGRAM;
use crate::waf_update::{self, Server};
use astraler_testkit::{Finished, Platform};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const MANIFEST: &str = r#"name = "guarded"
domain = "guarded.example"
[workers.some]
path = "some"
routes = ["/api/*"]
[edge.waf]
mode = "block"
modes = { production = "off" }
rules = "RULES"
[[edge.waf.custom_rules]]
name = "no-dotfiles"
expression = 'http.request.uri.path contains "/.git"'
action = "block"
"#;

const WORKER: &str = "export default { fetch: () => new Response('hello') };\n";

/// A set in small that scores as the Core Rule Set does; a word is what it takes for an attack.
fn rules(word: &str) -> String {
    format!(
        r#"SecAction "id:900,phase:1,pass,nolog,setvar:tx.score=0"
SecRule ARGS "@contains {word}" "id:1000,phase:2,pass,log,msg:'Evil',setvar:tx.score=+5"
SecRule TX:score "@ge %{{tx.inbound_anomaly_score_threshold}}" "id:949110,phase:2,deny,status:403,msg:'Score'"
"#
    )
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn manifest(platform: &Platform, rules: &str) {
    write(
        platform.application(),
        "astraler.toml",
        &MANIFEST.replace("RULES", rules),
    );
}

fn status(platform: &Platform, path: &str) -> u16 {
    platform.get(path).unwrap().status
}

fn says(finished: &Finished, words: &[&str]) {
    for word in words {
        assert!(
            finished.err.contains(word),
            "`{word}` is not in what it said: {}{}",
            finished.out,
            finished.err
        );
    }
}

#[test]
fn rules_that_cannot_be_used_are_told_before_anything_is_done_and_a_rollback_brings_the_old_ones_back() {
    let elsewhere = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(elsewhere.path(), open.clone()).unwrap();
    let shown = elsewhere.path().join("rules").display().to_string();
    let platform = Platform::new(PROGRAM, |folder| {
        write(folder, "some/index.js", WORKER);
        write(
            folder,
            "some/wrangler.json",
            r#"{ "name": "some", "main": "index.js", "compatibility_date": "2026-10-01" }"#,
        );
        write(folder, "astraler.toml", &MANIFEST.replace("RULES", &shown));
        Ok(())
    })
    .unwrap();
    let run = |words: &[&str]| platform.run(words).unwrap();

    // A folder that is not there: nothing is begun.
    let refused = platform.up(&[]).unwrap();
    assert_eq!(refused.code, 4, "{}", refused.err);
    says(
        &refused,
        &[
            "firewall is on in development",
            &shown,
            "there is no such folder",
            "managed_rules = false",
        ],
    );
    assert!(platform.processes().is_empty());
    let doctor = run(&["doctor"]);
    assert!(
        doctor.code != 0 && doctor.out.contains("there is no such folder"),
        "{}",
        doctor.out
    );

    write(elsewhere.path(), "rules/a.conf", &rules("evil"));
    let up = platform.up(&[]).unwrap().ok();
    assert!(up.out.contains("firewall rules"), "{}", up.out);
    assert_eq!(
        (
            status(&platform, "/api/x?a=evil"),
            status(&platform, "/api/x?a=good")
        ),
        (403, 200)
    );
    let doctor = run(&["doctor", "--json"]).json();
    let about = doctor
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "OWASP Core Rule Set");
    assert_eq!(about.unwrap()["state"], "ok", "{about:?}");

    // Rules that do not load: with file and line, and the old ones hold.
    write(
        elsewhere.path(),
        "rules/b.conf",
        "\nSecRlue ARGS \"@rx x\" \"id:1\"\n",
    );
    for words in [
        &["plan"][..],
        &["deploy", "--env", "development"],
        &["apply", "--yes"],
        &["up"],
    ] {
        let refused = run(words);
        assert!(![0, 10].contains(&refused.code), "{words:?}: {}", refused.out);
        says(&refused, &["b.conf:2", "SecRule"]);
    }
    assert_eq!(
        (
            status(&platform, "/api/x?a=evil"),
            status(&platform, "/api/x?a=good")
        ),
        (403, 200)
    );
    std::fs::remove_file(elsewhere.path().join("rules/b.conf")).unwrap();

    // The folder is closed to the edge's user: whoever is root does not see it, the edge does.
    if nix::unistd::geteuid().is_root() {
        std::fs::set_permissions(elsewhere.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let refused = run(&["plan"]);
        says(&refused, &["Permission denied", "astraler-edge"]);
        let doctor = run(&["doctor"]);
        assert!(doctor.out.contains("Permission denied"), "{}", doctor.out);
        std::fs::set_permissions(elsewhere.path(), open).unwrap();
    }

    // Files that change in place are read again.
    write(elsewhere.path(), "rules/a.conf", &rules("wicked"));
    assert_eq!(status(&platform, "/api/x?a=wicked"), 200);
    let told = run(&["waf", "reload"]).ok();
    assert!(
        told.out.contains("development") && told.out.contains(&shown),
        "{}",
        told.out
    );
    let found = ["/api/x?a=evil", "/api/x?a=wicked"].map(|path| status(&platform, path));
    assert_eq!(found, [200, 403]);
    write(elsewhere.path(), "rules/a.conf", "SecRlue\n");
    says(
        &run(&["waf", "reload"]),
        &["a.conf:1", "goes on with what it had"],
    );
    assert_eq!(status(&platform, "/api/x?a=wicked"), 403);

    // Rules of the repository go with the release.
    manifest(&platform, "../outside");
    says(&run(&["deploy", "--env", "development"]), &["../outside"]);
    manifest(&platform, "security/rules");
    says(
        &run(&["deploy", "--env", "development"]),
        &["there is no folder security/rules"],
    );
    write(
        platform.application(),
        "security/rules/a.conf",
        "SecRlue ARGS \"@rx x\" \"id:1\"\n",
    );
    says(
        &run(&["deploy", "--env", "development"]),
        &["security/rules/a.conf:1"],
    );
    write(
        platform.application(),
        "security/rules/a.conf",
        &rules("mischief"),
    );
    write(
        platform.application(),
        "security/crs-setup.conf",
        "SecRuleRemoveById 2000\n",
    );
    run(&["deploy", "--env", "development"]).ok();
    assert_eq!(
        (
            status(&platform, "/api/x?a=evil"),
            status(&platform, "/api/x?a=mischief")
        ),
        (200, 403)
    );
    write(platform.application(), "security/rules/a.conf", &rules("trouble"));
    assert_eq!(
        status(&platform, "/api/x?a=trouble"),
        200,
        "what is not deployed is not in force"
    );
    run(&["deploy", "--env", "development"]).ok();
    assert_eq!(
        (
            status(&platform, "/api/x?a=trouble"),
            status(&platform, "/api/x?a=mischief")
        ),
        (403, 200)
    );
    run(&["rollback", "--env", "development"]).ok();
    assert_eq!(
        (
            status(&platform, "/api/x?a=trouble"),
            status(&platform, "/api/x?a=mischief")
        ),
        (200, 403)
    );

    // Custom rules do without managed ones.
    let toml = MANIFEST.replace("rules = \"RULES\"", "rules = \"/nowhere\"\nmanaged_rules = false");
    write(platform.application(), "astraler.toml", &toml);
    run(&["deploy", "--env", "development"]).ok();
    let statuses = ["/api/x?a=mischief", "/api/x/.git/config"].map(|path| status(&platform, path));
    assert_eq!(statuses, [200, 403]);

    brought_while_it_serves(&platform);
}

/// `astraler waf update` on a platform that serves: new rules take force without a request that notices.
fn brought_while_it_serves(platform: &Platform) {
    let run = |words: &[&str]| platform.run(words).unwrap();
    let attack = "/api/x?id=1%20UNION%20SELECT%20password%20FROM%20users";
    write(
        platform.application(),
        "astraler.toml",
        &MANIFEST.replace("rules = \"RULES\"\n", ""),
    );
    run(&["deploy", "--env", "development"]).ok();
    assert_eq!(
        [attack, "/api/x?a=novelty"].map(|path| status(platform, path)),
        [403, 200]
    );

    let server = Server::new(None);
    let novelty = "SecRule ARGS \"@contains novelty\" \"id:77,phase:2,deny,status:403,msg:'New'\"\n";
    let archive = waf_update::release("8.1.0", novelty);
    let index = server.offer("8.1.0", &archive, Some(&waf_update::sha256(&archive)));
    let ended = AtomicBool::new(false);
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut asked = 0;
            while !ended.load(Ordering::Relaxed) {
                assert_eq!(
                    [attack, "/api/x?a=good"].map(|path| status(platform, path)),
                    [403, 200]
                );
                asked += 1;
            }
            asked
        });
        let brought = platform.run(&["waf", "update", "--index", &index]).unwrap();
        ended.store(true, Ordering::Relaxed);
        assert!(brought.ok().out.contains("8.1.0"));
        asking.join().unwrap()
    });
    assert!(asked > 3, "{asked} requests while the rules changed");
    assert_eq!(
        [attack, "/api/x?a=novelty"].map(|path| status(platform, path)),
        [403, 403]
    );
    let standing = run(&["waf", "reload", "--json"]).json();
    assert!(
        standing[0]["rules"].as_str().unwrap().contains("/waf/8.1.0-"),
        "{standing}"
    );
    let broken = waf_update::release("8.2.0", "SecRlue\n");
    server.offer("8.2.0", &broken, Some(&waf_update::sha256(&broken)));
    says(
        &run(&["waf", "update", "--index", &index]),
        &["REQUEST-900-OWN.conf:1"],
    );
    let archive = waf_update::release("8.3.0", "");
    server.offer("8.3.0", &archive, Some(&waf_update::sha256(&archive)));
    run(&["waf", "update", "--index", &index]).ok();
    assert_eq!(
        [attack, "/api/x?a=novelty"].map(|path| status(platform, path)),
        [403, 200]
    );
    run(&["waf", "update", "--rollback"]).ok();
    assert_eq!(
        [attack, "/api/x?a=novelty"].map(|path| status(platform, path)),
        [403, 403]
    );
    let audit = run(&["audit", "list", "--json"]).out;
    assert!(
        audit.contains("waf reload") && audit.contains("8.3.0-"),
        "{audit}"
    );
}
