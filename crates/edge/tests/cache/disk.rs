//! What outlives memory and process, and what does not.

use super::origin::{Answer, Origin, answer, cached, publish, word};
use crate::support::{PATIENCE, Seen, TestEdge, run};
use astraler_edge::Limits;
use astraler_model::CacheBounds;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

async fn edge(folder: tempfile::TempDir) -> TestEdge {
    let edge = TestEdge::start_in(folder, Limits::default(), 64 << 20, |folder| {
        vec![cached(folder, Default::default(), "dep-1")]
    })
    .await;
    ready(&edge).await;
    edge
}

async fn ready(edge: &TestEdge) {
    until(edge, |disk| disk.is_object()).await;
}

/// Waits until the disk tier stands so.
async fn until(edge: &TestEdge, so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let standing = edge.control("GET", "/cache", "").await.1;
        if so(&standing["disk"]) {
            return standing;
        }
        assert!(begun.elapsed() < PATIENCE, "{standing}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Ends an edge as if it were killed as far as its cache is concerned: nothing is written at the end. Its folder stays.
async fn end(mut edge: TestEdge) -> tempfile::TempDir {
    edge.begin_stop();
    (&mut edge.task).await.unwrap().unwrap();
    let folder = std::mem::replace(&mut edge.folder, tempfile::tempdir().unwrap());
    let _ = std::fs::remove_file(folder.path().join("status.sock"));
    folder
}

fn origin(edge: &TestEdge) -> Origin {
    let socket = edge.folder.path().join("w.sock");
    let _ = std::fs::remove_file(&socket);
    Origin::start(&socket, page)
}

async fn page(seen: Seen) -> Answer {
    let fields = [
        ("cache-control", "max-age=600"),
        ("vary", "accept-language"),
        ("cache-tag", "pages"),
        ("etag", "\"1\""),
    ];
    let language = seen
        .headers
        .get("accept-language")
        .map_or("-", |value| value.to_str().unwrap());
    answer(
        200,
        &fields,
        format!("{} {language} {}", seen.target, "x".repeat(5000)),
    )
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let each = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().path())
            .collect()
    };
    each(&folder.join("cache/entries"))
        .iter()
        .flat_map(|folder| each(folder))
        .collect()
}

#[test]
fn what_is_stored_is_there_after_a_restart() {
    run(async {
        let first = edge(tempfile::tempdir().unwrap()).await;
        let one = origin(&first);
        let mut client = first.connect().await;
        for page in ["/a", "/b"] {
            client.get(page).await;
        }
        client
            .get_with("worker.test", "/a", "Accept-Language: de\r\n")
            .await;
        until(&first, |disk| disk["entries"] == 3).await;
        drop((one, client));
        let folder = end(first).await;
        assert_eq!(files(folder.path()).len(), 3);

        let second = edge(folder).await;
        let two = origin(&second);
        let mut client = second.connect().await;
        let reply = client.get("/a").await;
        assert_eq!((word(&reply), reply.text().starts_with("/a - x")), ("HIT", true));
        assert!(reply.header("cache-status").unwrap().contains("hit"));
        let reply = client
            .get_with("worker.test", "/a", "Accept-Language: de\r\n")
            .await;
        assert_eq!((word(&reply), reply.text().starts_with("/a de x")), ("HIT", true));
        assert_eq!(
            client
                .get_with("worker.test", "/b", "Range: bytes=0-1\r\n")
                .await
                .text(),
            "/b"
        );
        assert_eq!(two.count(), 0);
        assert_eq!(word(&client.get("/c").await), "MISS");
    });
}

#[test]
fn a_damaged_file_is_dropped_and_fetched_again() {
    run(async {
        let first = edge(tempfile::tempdir().unwrap()).await;
        let one = origin(&first);
        let mut client = first.connect().await;
        for page in ["/flipped", "/cut", "/whole"] {
            client.get(page).await;
        }
        until(&first, |disk| disk["entries"] == 3).await;
        drop((one, client));
        let folder = end(first).await;
        for file in files(folder.path()) {
            let mut bytes = std::fs::read(&file).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if text.contains("/flipped") {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            } else if text.contains("/cut") {
                bytes.truncate(1000);
            }
            std::fs::write(&file, bytes).unwrap();
        }
        // What was not finished is no file of ours.
        std::fs::create_dir_all(folder.path().join("cache/unfinished")).unwrap();
        std::fs::write(folder.path().join("cache/unfinished/next"), "half").unwrap();

        let second = edge(folder).await;
        let two = origin(&second);
        let mut client = second.connect().await;
        for (page, expected) in [
            ("/flipped", "MISS"),
            ("/cut", "MISS"),
            ("/whole", "HIT"),
            ("/cut", "HIT"),
        ] {
            let reply = client.get(page).await;
            assert_eq!(word(&reply), expected, "{page}");
            assert_eq!(reply.body.len(), page.len() + 3 + 5000);
        }
        assert_eq!(two.count(), 2);
        until(&second, |disk| disk["corrupted"] == 2 && disk["entries"] == 3).await;
        assert!(!second.folder.path().join("cache/unfinished/next").exists());
    });
}

/// Each point at which a kill can end a write or a purge, by what it leaves behind.
#[test]
fn whatever_a_kill_leaves_behind_answers_are_right() {
    run(async {
        let first = edge(tempfile::tempdir().unwrap()).await;
        let one = origin(&first);
        let mut client = first.connect().await;
        client.get("/a").await;
        client.get("/b").await;
        until(&first, |disk| disk["entries"] == 2).await;
        drop((one, client));
        let mut folder = end(first).await;
        let all: Vec<(PathBuf, Vec<u8>)> = files(folder.path())
            .into_iter()
            .map(|file| {
                let bytes = std::fs::read(&file).unwrap();
                (file, bytes)
            })
            .collect();
        let of = |page: &str| {
            let whole = all
                .iter()
                .find(|(_, bytes)| String::from_utf8_lossy(bytes).contains(page));
            whole.unwrap().clone()
        };
        let ((file, bytes), (other, other_bytes)) = (of("test/a"), of("test/b"));
        for (point, left, expected) in [
            ("in the head of a file", 20, "MISS"),
            ("in its content", 3_000, "MISS"),
            ("before it has its name", bytes.len(), "MISS"),
            ("in an older file's place", 0, "HIT"),
            (
                "a file that the system had not written when the power went",
                0,
                "MISS",
            ),
            ("in the list of purges", 0, "HIT"),
            ("between a purge's list and its files", 0, "MISS"),
        ] {
            let path = |name: &str| folder.path().join("cache").join(name);
            let _ = std::fs::remove_dir_all(path("entries"));
            let _ = std::fs::remove_file(path("purges"));
            for (file, bytes) in [(&file, &bytes), (&other, &other_bytes)] {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, bytes).unwrap();
            }
            match point {
                "in an older file's place" => std::fs::write(path("unfinished/next"), &bytes[..100]).unwrap(),
                "a file that the system had not written when the power went" => {
                    std::fs::write(&file, vec![0; bytes.len()]).unwrap();
                }
                "in the list of purges" => {
                    let began = "{\"began\":4294967296}\n{\"purge\":{\"number\":4294967297,\"env";
                    std::fs::write(path("purges"), began).unwrap();
                    std::fs::write(path("purges.new"), "{\"beg").unwrap();
                }
                "between a purge's list and its files" => {
                    let purge = format!(
                        "{{\"began\":4294967296}}\n{{\"purge\":{{\"number\":{},\"environment\":null,\"what\":{{\"tag\":\"pages\"}}}}}}\n",
                        (1_u64 << 33) - 1
                    );
                    std::fs::write(path("purges"), purge).unwrap();
                }
                _ => {
                    std::fs::remove_file(&file).unwrap();
                    std::fs::write(path("unfinished/next"), &bytes[..left]).unwrap();
                }
            }
            let next = edge(folder).await;
            let two = origin(&next);
            let mut client = next.connect().await;
            let purged = point.starts_with("between");
            for (page, expected) in [("/a", expected), ("/b", if purged { "MISS" } else { "HIT" })] {
                let reply = client.get(page).await;
                assert_eq!(word(&reply), expected, "killed {point}: {page}");
                assert_eq!(
                    reply.text(),
                    format!("{page} - {}", "x".repeat(5000)),
                    "killed {point}"
                );
            }
            until(&next, |disk| disk["entries"] == 2).await;
            assert_eq!(files(next.folder.path()).len(), 2, "killed {point}");
            assert!(!next.folder.path().join("cache/unfinished/next").exists());
            drop((two, client));
            folder = end(next).await;
        }
    });
}

#[test]
fn a_purge_outlives_the_process() {
    run(async {
        for purge in [
            r#"{"tag":"pages"}"#,
            r#""everything""#,
            r#"{"url":"worker.test/a"}"#,
        ] {
            let first = edge(tempfile::tempdir().unwrap()).await;
            let one = origin(&first);
            let mut client = first.connect().await;
            client.get("/a").await;
            until(&first, |disk| disk["entries"] == 1).await;
            // As if the process had been killed right after the answer: the file comes back.
            let kept: Vec<_> = files(first.folder.path())
                .into_iter()
                .map(|file| (std::fs::read(&file).unwrap(), file))
                .collect();
            let ledger = |folder: &Path| folder.join("cache/purges");
            let (status, _) = first
                .control("POST", "/cache/purge", &format!(r#"{{"what":[{purge}]}}"#))
                .await;
            assert_eq!(status, 200);
            let mut lines = std::fs::read_to_string(ledger(first.folder.path())).unwrap();
            if !lines.contains("purge") {
                // All files are looked through already, and the purge is forgotten: it cannot have been killed before.
                lines.clear();
            }
            until(&first, |disk| disk["entries"] == 0).await;
            drop((one, client));
            let folder = end(first).await;
            if !lines.is_empty() {
                std::fs::write(ledger(folder.path()), lines).unwrap();
                for (bytes, file) in kept {
                    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                    std::fs::write(file, bytes).unwrap();
                }
            }
            let second = edge(folder).await;
            let two = origin(&second);
            assert_eq!(word(&second.connect().await.get("/a").await), "MISS", "{purge}");
            assert_eq!(two.count(), 1);
        }
    });
}

#[test]
fn an_unsafe_request_reaches_the_disk() {
    run(async {
        let first = edge(tempfile::tempdir().unwrap()).await;
        let one = origin(&first);
        let mut client = first.connect().await;
        client.get("/a").await;
        until(&first, |disk| disk["entries"] == 1).await;
        client
            .send("DELETE /a HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        assert_eq!(client.reply().await.unwrap().status, 200);
        assert!(files(first.folder.path()).is_empty());
        assert_eq!(word(&client.get("/a").await), "MISS");
        drop(one);
    });
}

#[test]
fn the_disk_tier_is_bounded_and_memory_falls_back_on_it() {
    run(async {
        let edge = edge(tempfile::tempdir().unwrap()).await;
        let origin = origin(&edge);
        let bounds = CacheBounds {
            memory_bytes: 40_000,
            disk_bytes: 200_000,
            ..CacheBounds::default()
        };
        publish(
            &edge,
            vec![cached(edge.folder.path(), Default::default(), "dep-1")],
            bounds,
        )
        .await;
        let mut client = edge.connect().await;
        for number in 0..20 {
            client.get(&format!("/{number}")).await;
        }
        until(&edge, |disk| disk["written"] == 20).await;
        for number in 0..20 {
            assert_eq!(word(&client.get(&format!("/{number}")).await), "HIT", "{number}");
        }
        assert_eq!(origin.count(), 20);
        let standing = until(&edge, |disk| disk["hits"].as_u64() >= Some(10)).await;
        assert!(standing["bytes"].as_u64().unwrap() <= 40_000, "{standing}");
        for number in 20..100 {
            client.get(&format!("/{number}")).await;
        }
        let standing = until(&edge, |disk| disk["written"] == 100).await;
        assert!(
            standing["disk"]["bytes"].as_u64().unwrap() <= 200_000,
            "{standing}"
        );
        let bytes: u64 = files(edge.folder.path())
            .iter()
            .map(|file| file.metadata().unwrap().len())
            .sum();
        assert!(bytes <= 200_000, "{bytes}");
    });
}

/// A file system of 2 MB of its own; gone with its owner.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "this test mounts a file system: it needs root");
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

#[test]
fn a_full_disk_stops_nobody() {
    run(async {
        let small = Small::mount();
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(small.0.path(), folder.path().join("cache")).unwrap();
        let edge = edge(folder).await;
        let origin = origin(&edge);
        let mut client = edge.connect().await;
        client.get("/before").await;
        until(&edge, |disk| disk["entries"] == 1).await;
        // Somebody else takes all there is.
        let _ = std::fs::write(small.0.path().join("others"), vec![b'x'; 4 << 20]);
        for number in 0..5 {
            assert_eq!(client.get(&format!("/{number}")).await.status, 200);
            assert_eq!(
                word(&client.get(&format!("/{number}")).await),
                "HIT",
                "from memory"
            );
        }
        until(&edge, |disk| disk["not_written"] == 5).await;
        // What shall go goes, though nothing can be written down.
        let (status, _) = edge
            .control("POST", "/cache/purge", r#"{"what":["everything"]}"#)
            .await;
        assert_eq!(status, 200);
        assert_eq!(word(&client.get("/before").await), "MISS");
        std::fs::remove_file(small.0.path().join("others")).unwrap();
        client.get("/after").await;
        until(&edge, |disk| disk["entries"].as_u64() >= Some(1)).await;
        assert_eq!(origin.count(), 8);
    });
}

#[test]
fn two_edges_never_own_one_folder() {
    run(async {
        let first = edge(tempfile::tempdir().unwrap()).await;
        let one = origin(&first);
        let mut client = first.connect().await;
        client.get("/a").await;
        client.get("/b").await;
        until(&first, |disk| disk["entries"] == 2).await;
        drop(client);
        // The successor of an edge that still drains.
        let second = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(first.folder.path().join("cache"), second.path().join("cache")).unwrap();
        let second = TestEdge::start_in(second, Limits::default(), 64 << 20, |folder| {
            vec![cached(folder, Default::default(), "dep-1")]
        })
        .await;
        let two = origin(&second);
        let mut client = second.connect().await;
        assert_eq!(word(&client.get("/a").await), "MISS");
        assert_eq!(
            second.control("GET", "/cache", "").await.1["disk"],
            serde_json::Value::Null
        );
        client
            .send("DELETE /a HTTP/1.1\r\nHost: worker.test\r\n\r\n")
            .await;
        client.reply().await.unwrap();
        drop(one);
        let _folder = end(first).await;
        ready(&second).await;
        drop(two);
    });
}
