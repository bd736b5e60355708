//! Several at work in one folder at once; and releases of many files.

use crate::hostile::in_memory;
use crate::support::{export, input, names, releases, write};
use astraler_release::{Key, KeyInput, Releases};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

#[test]
fn builders_importers_pruners_and_readers_do_not_disturb_each_other() {
    const ROUNDS: u8 = 12;
    let folder = in_memory();
    let root = folder.path().join("releases");
    let stays = Releases::prepare(&root)
        .unwrap()
        .build(&input(&folder.path().join("stays")))
        .unwrap();
    let in_use = BTreeSet::from([stays.digest.clone()]);
    std::thread::scope(|scope| {
        for worker in 0..3u8 {
            let (root, sources) = (&root, folder.path().join(format!("worker-{worker}")));
            scope.spawn(move || {
                let input = input(&sources);
                for round in 0..ROUNDS {
                    write(&sources.join("public/number"), &[worker, round]);
                    // Each opens the folder for itself, as a process of its own would.
                    let releases = Releases::prepare(root).unwrap();
                    let built = releases.build(&input).unwrap();
                    let key = Key::of(&KeyInput {
                        tree: format!("{worker} {round}"),
                        ..KeyInput::default()
                    });
                    // It may have been pruned since.
                    releases.set_key(&built.digest, &key).ok();
                }
            });
        }
        let elsewhere = releases(&folder.path().join("elsewhere"));
        let digest = elsewhere
            .build(&input(&folder.path().join("imported")))
            .unwrap()
            .digest;
        let archive = export(&elsewhere, &digest);
        let (root, in_use, stays) = (&root, &in_use, &stays);
        scope.spawn(move || {
            for _ in 0..ROUNDS {
                Releases::prepare(root)
                    .unwrap()
                    .import(archive.as_slice())
                    .unwrap();
                Releases::prepare(root).unwrap().prune(2, in_use).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(move || {
                let releases = Releases::at(root);
                for _ in 0..ROUNDS * 2 {
                    releases.verify(&stays.digest).unwrap();
                    assert!(!releases.list().unwrap().is_empty());
                }
            });
        }
    });
    let releases = Releases::prepare(&root).unwrap();
    releases.prune(1, &in_use).unwrap();
    let left = releases.list().unwrap();
    assert!(left.len() <= 2, "{left:?}");
    for stored in &left {
        releases.verify(&stored.digest).unwrap();
    }
    assert_eq!(names(&root).len(), 3 + left.len(), "{:?}", names(&root));
}

#[test]
fn a_release_of_many_files_comes_through() {
    let folder = in_memory();
    let input = input(folder.path());
    for number in 0..1500 {
        let path = folder.path().join(format!("public/{}/{number}.txt", number % 40));
        write(&path, number.to_string().as_bytes());
    }
    let one = releases(folder.path());
    let release = one.build(&input).unwrap();
    assert_eq!(release.manifest.files.len(), 1506);
    let mode = std::fs::metadata(release.directory.join("assets/39"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o755);
    let two = releases(&folder.path().join("two"));
    two.import(export(&one, &release.digest).as_slice()).unwrap();
    assert_eq!(two.verify(&release.digest).unwrap().manifest, release.manifest);
}
