//! Files: which one a path means, how much of it is sent, and what is never sent.

use crate::support::{Client, Reply, TestEdge, assets, route, run};
use astraler_edge::Limits;
use astraler_model::{HtmlHandling, NotFoundHandling};
use std::path::Path;

const BIG: usize = 300_000;

fn write(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

async fn site(html: HtmlHandling, not_found: NotFoundHandling) -> TestEdge {
    TestEdge::start(Limits::default(), |folder| {
        let root = folder.join("site");
        for (name, content) in [
            ("index.html", "home"),
            ("404.html", "lost"),
            ("about.html", "about"),
            ("docs/index.html", "docs"),
            ("docs/404.html", "lost in docs"),
            ("both.html", "both page"),
            ("both/index.html", "both folder"),
            ("app.js", "let x = 1"),
            ("a b/c%d.txt", "odd"),
            (".env", "secret"),
            ("sub/.git/config", "secret"),
            (".well-known/security.txt", "contact"),
            ("_headers", "secret"),
            ("_redirects", "secret"),
            ("empty.txt", ""),
            ("noext", "bytes"),
        ] {
            write(&root, name, content);
        }
        write(
            &root,
            "big.bin",
            (0..BIG).map(|n| (n % 251) as u8).collect::<Vec<_>>(),
        );
        write(folder, "outside.txt", "secret");
        std::os::unix::fs::symlink(folder.join("outside.txt"), root.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(folder, root.join("up")).unwrap();
        std::os::unix::fs::symlink("app.js", root.join("inside.js")).unwrap();
        let mut route = route("site.test", vec![]);
        route.assets = assets(root, html, not_found);
        vec![route]
    })
    .await
}

async fn get(client: &mut Client, target: &str, lines: &str) -> Reply {
    client.get_with("site.test", target, lines).await
}

/// `200 text`, `307 location`, `404`.
async fn answer(client: &mut Client, target: &str) -> String {
    let reply = get(client, target, "").await;
    match reply.status {
        307 => format!("307 {}", reply.header("location").unwrap()),
        404 if reply
            .header("content-type")
            .is_some_and(|kind| kind.contains("html"))
            && reply.text().contains("Request") =>
        {
            "404".to_owned()
        }
        status => format!("{status} {}", reply.text()),
    }
}

async fn check(html: HtmlHandling, not_found: NotFoundHandling, expected: &[(&str, &str)]) {
    let edge = site(html, not_found).await;
    let mut client = edge.connect().await;
    for (target, wanted) in expected {
        assert_eq!(answer(&mut client, target).await, *wanted, "{html:?} {target}");
    }
    drop(client);
    drop(edge.stop().await);
}

#[test]
fn html_handling_is_as_cloudflare_documents_it() {
    run(async {
        check(
            HtmlHandling::AutoTrailingSlash,
            NotFoundHandling::None,
            &[
                ("/", "200 home"),
                ("/index.html", "307 /"),
                ("/index", "307 /"),
                ("/about", "200 about"),
                ("/about.html", "307 /about"),
                ("/about/", "307 /about"),
                ("/about/index.html", "307 /about"),
                ("/about/index?q=1", "307 /about?q=1"),
                ("/docs", "307 /docs/"),
                ("/docs/", "200 docs"),
                ("/docs.html", "307 /docs/"),
                ("/docs/index.html", "307 /docs/"),
                ("/docs/index", "307 /docs/"),
                ("/both", "200 both page"),
                ("/both/", "200 both folder"),
                ("/both.html", "307 /both"),
                ("/both/index.html", "307 /both/"),
                ("/app.js", "200 let x = 1"),
                ("/absent", "404"),
                ("/absent.html", "404"),
                ("/absent/", "404"),
            ],
        )
        .await;
        check(
            HtmlHandling::ForceTrailingSlash,
            NotFoundHandling::None,
            &[
                ("/", "200 home"),
                ("/index.html", "307 /"),
                ("/about", "307 /about/"),
                ("/about.html", "307 /about/"),
                ("/about/", "200 about"),
                ("/docs", "307 /docs/"),
                ("/docs/", "200 docs"),
                ("/docs/index", "307 /docs/"),
                ("/both/", "200 both folder"),
                ("/both.html", "200 both page"),
                ("/app.js", "200 let x = 1"),
                ("/absent", "404"),
            ],
        )
        .await;
        check(
            HtmlHandling::DropTrailingSlash,
            NotFoundHandling::None,
            &[
                ("/", "200 home"),
                ("/index.html", "307 /"),
                ("/index", "307 /"),
                ("/about", "200 about"),
                ("/about.html", "307 /about"),
                ("/about/", "307 /about"),
                ("/docs", "200 docs"),
                ("/docs/", "307 /docs"),
                ("/docs/index.html", "307 /docs"),
                ("/docs/index", "307 /docs"),
                ("/both", "200 both page"),
                ("/both/", "307 /both"),
                ("/both/index.html", "200 both folder"),
                ("/app.js", "200 let x = 1"),
                ("/absent/", "404"),
            ],
        )
        .await;
        check(
            HtmlHandling::None,
            NotFoundHandling::None,
            &[
                ("/", "404"),
                ("/index.html", "200 home"),
                ("/about", "404"),
                ("/about.html", "200 about"),
                ("/docs/", "404"),
                ("/docs/index.html", "200 docs"),
            ],
        )
        .await;
    });
}

#[test]
fn not_found_handling_is_as_cloudflare_documents_it() {
    run(async {
        check(
            HtmlHandling::AutoTrailingSlash,
            NotFoundHandling::SinglePageApplication,
            &[
                ("/absent/deep", "200 home"),
                ("/.env", "200 home"),
                ("/app.js", "200 let x = 1"),
            ],
        )
        .await;
        check(
            HtmlHandling::AutoTrailingSlash,
            NotFoundHandling::NotFoundPage,
            &[
                ("/absent", "404 lost"),
                ("/docs/absent", "404 lost in docs"),
                ("/docs/absent/deep", "404 lost in docs"),
                ("/other/absent", "404 lost"),
                ("/", "200 home"),
            ],
        )
        .await;
    });
}

#[test]
fn what_is_not_meant_to_be_seen_is_not_found() {
    run(async {
        check(
            HtmlHandling::AutoTrailingSlash,
            NotFoundHandling::None,
            &[
                ("/.env", "404"),
                ("/%2eenv", "404"),
                ("/sub/.git/config", "404"),
                ("/_headers", "404"),
                ("/_redirects", "404"),
                ("/link.txt", "404"),
                ("/up/outside.txt", "404"),
                ("/up/site/app.js", "404"),
                ("/../outside.txt", "404"),
                ("/..%2foutside.txt", "404"),
                ("/docs/..%2f..%2foutside.txt", "404"),
                ("/..%5coutside.txt", "404"),
                ("//outside.txt", "404"),
                ("//evil.example/index.html", "404"),
                ("/docs//index.html", "404"),
                ("/%ff", "404"),
                ("/app.js/", "404"),
                ("/app.js/x", "404"),
                ("/.well-known/security.txt", "200 contact"),
                ("/inside.js", "200 let x = 1"),
                ("/a%20b/c%25d.txt", "200 odd"),
                ("/empty.txt", "200 "),
            ],
        )
        .await;
    });
}

#[test]
fn fields_conditions_and_ranges() {
    run(async {
        let edge = site(HtmlHandling::AutoTrailingSlash, NotFoundHandling::None).await;
        let mut client = edge.connect().await;
        for (target, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/app.js", "text/javascript; charset=utf-8"),
            ("/big.bin", "application/octet-stream"),
            ("/noext", "application/octet-stream"),
        ] {
            let reply = get(&mut client, target, "").await;
            assert_eq!(reply.header("content-type"), Some(kind), "{target}");
            assert_eq!(
                reply.header("cache-control"),
                Some("public, max-age=0, must-revalidate")
            );
            assert_eq!(reply.header("accept-ranges"), Some("bytes"));
            assert!(reply.header("last-modified").is_some() && reply.header("date").is_some());
        }
        let whole = get(&mut client, "/big.bin", "").await;
        assert_eq!(whole.body.len(), BIG);
        assert!(whole.body.iter().enumerate().all(|(n, &b)| b == (n % 251) as u8));
        let etag = whole.header("etag").unwrap().to_owned();
        assert!(etag.starts_with('"') && etag.len() == 34, "{etag}");

        let reply = get(
            &mut client,
            "/big.bin",
            &format!("If-None-Match: \"x\", {etag}\r\n"),
        )
        .await;
        assert_eq!(
            (reply.status, reply.header("etag"), reply.body.len()),
            (304, Some(etag.as_str()), 0)
        );
        assert_eq!(
            reply.header("cache-control"),
            Some("public, max-age=0, must-revalidate")
        );
        let since = whole.header("last-modified").unwrap();
        assert_eq!(
            get(
                &mut client,
                "/big.bin",
                &format!("If-Modified-Since: {since}\r\n")
            )
            .await
            .status,
            304
        );
        assert_eq!(
            get(&mut client, "/big.bin", "If-Match: \"x\"\r\n").await.status,
            412
        );

        for (target, range, content_range, start, length) in [
            ("/big.bin", "bytes=0-99", "bytes 0-99/300000", 0, 100),
            (
                "/big.bin",
                "bytes=299990-",
                "bytes 299990-299999/300000",
                299_990,
                10,
            ),
            ("/big.bin", "bytes=-10", "bytes 299990-299999/300000", 299_990, 10),
            (
                "/big.bin",
                "bytes=100000-250000",
                "bytes 100000-250000/300000",
                100_000,
                150_001,
            ),
        ] {
            let reply = get(
                &mut client,
                target,
                &format!("Range: {range}\r\nIf-Range: {etag}\r\n"),
            )
            .await;
            assert_eq!(
                (reply.status, reply.header("content-range")),
                (206, Some(content_range)),
                "{range}"
            );
            assert_eq!(reply.body.len(), length);
            assert!(
                reply
                    .body
                    .iter()
                    .enumerate()
                    .all(|(n, &b)| b == ((n + start) % 251) as u8)
            );
        }
        let small = get(&mut client, "/app.js", "Range: bytes=4-4\r\n").await;
        assert_eq!((small.status, small.text().as_str()), (206, "x"));
        let reply = get(&mut client, "/big.bin", "Range: bytes=300000-\r\n").await;
        assert_eq!(
            (reply.status, reply.header("content-range")),
            (416, Some("bytes */300000"))
        );
        assert_eq!(
            get(
                &mut client,
                "/big.bin",
                "Range: bytes=0-9\r\nIf-Range: \"old\"\r\n"
            )
            .await
            .status,
            200
        );
        assert_eq!(
            get(&mut client, "/big.bin", "Range: bytes=0-9,20-29\r\n")
                .await
                .status,
            200
        );

        client
            .send("HEAD /big.bin HTTP/1.1\r\nHost: site.test\r\n\r\n")
            .await;
        let reply = client.reply_to("HEAD").await.unwrap();
        assert_eq!(
            (reply.status, reply.header("content-length"), reply.header("etag")),
            (200, Some("300000"), Some(etag.as_str()))
        );
        client
            .send("PUT /big.bin HTTP/1.1\r\nHost: site.test\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 405);
        drop(client);
        let lines = edge.stop().await;
        assert!(
            lines
                .iter()
                .all(|line| line["route"] == "asset" && line["blame"] != "edge"),
            "{lines:?}"
        );
    });
}

#[test]
fn a_changed_file_has_another_etag_soon() {
    run(async {
        let edge = site(HtmlHandling::AutoTrailingSlash, NotFoundHandling::None).await;
        let mut client = edge.connect().await;
        let before = get(&mut client, "/app.js", "").await;
        let root = edge.folder.path().join("site");
        write(&root, "next.js", "let x = 2");
        std::fs::rename(root.join("next.js"), root.join("app.js")).unwrap();
        let begun = std::time::Instant::now();
        loop {
            let now = get(&mut client, "/app.js", "").await;
            if now.text() == "let x = 2" {
                assert_ne!(now.header("etag"), before.header("etag"));
                break;
            }
            assert_eq!(
                (now.text().as_str(), now.header("etag")),
                ("let x = 1", before.header("etag"))
            );
            assert!(begun.elapsed().as_secs() < 5);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        drop(edge.stop().await);
    });
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_a_cut_answer() {
    run(async {
        let edge = site(HtmlHandling::AutoTrailingSlash, NotFoundHandling::None).await;
        let root = edge.folder.path().join("site");
        write(&root, "huge.bin", vec![7; 64 << 20]);
        let mut client = edge.connect().await;
        client
            .send("GET /huge.bin HTTP/1.1\r\nHost: site.test\r\n\r\n")
            .await;
        let mut first = Vec::new();
        assert!(client.take(1000, &mut first).await);
        std::fs::File::options()
            .write(true)
            .open(root.join("huge.bin"))
            .unwrap()
            .set_len(20 << 20)
            .unwrap();
        let mut rest = Vec::new();
        assert!(!client.take(64 << 20, &mut rest).await);
        assert!(rest.len() < 30 << 20);
        drop(client);
        let lines = edge.stop().await;
        assert_eq!(
            (lines[0]["error"].as_str(), lines[0]["blame"].as_str()),
            (Some("asset_unreadable"), Some("edge"))
        );
    });
}
