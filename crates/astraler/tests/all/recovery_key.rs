//! The key above the backups of secrets: made, checked and put together without a platform.

use crate::support::small;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn share(folder: &Path, number: u8) -> String {
    folder
        .join(format!("share-{number}.txt"))
        .to_string_lossy()
        .into_owned()
}

#[test]
fn two_shares_of_three_give_the_key_and_everything_else_is_told_apart() {
    let platform = small();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().to_string_lossy().into_owned();
    let key = ["secrets", "recovery-key"];
    let run = |words: &[&str]| platform.run(&[&key, words].concat()).unwrap();

    let made = run(&["create", "--output", &output, "--json"]).ok().json();
    let recipient = made["recipient"].as_str().unwrap();
    assert!(recipient.starts_with("age1"), "{made:#}");
    assert_eq!(made["shares"], serde_json::json!([]), "they are in the files");
    for number in 1..=3 {
        let mode = std::fs::metadata(share(folder.path(), number)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o400);
    }
    let again = run(&["create", "--output", &output]).failed_with(1);
    assert!(again.err.contains("never overwritten"), "{}", again.err);

    // The manifest does not name it, names it, names another.
    let (one, two, three) = (
        share(folder.path(), 1),
        share(folder.path(), 2),
        share(folder.path(), 3),
    );
    let check = |first: &str, second: &str| run(&["check", "--share-file", first, "--share-file", second]);
    let checked = check(&one, &three).ok();
    assert!(checked.out.contains("no manifest here names"), "{}", checked.out);
    let manifest = platform.application().join("astraler.toml");
    let plain = std::fs::read_to_string(&manifest).unwrap();
    let name = |recipient: &str| {
        let text = format!("{plain}\n[backups]\nrecovery_recipient = \"{recipient}\"\n");
        let mut file = std::fs::File::create(&manifest).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    };
    name(recipient);
    let checked = check(&two, &three).ok();
    assert!(
        checked.out.contains("it is the one that the manifest names"),
        "{}",
        checked.out
    );
    let other = run(&["create", "--json"]).ok().json();
    name(other["recipient"].as_str().unwrap());
    let refused = check(&one, &two).failed_with(1);
    assert!(
        refused.err.contains("the manifest names another key"),
        "{}",
        refused.err
    );

    let few = run(&["check", "--share-file", &one]).failed_with(1);
    assert!(few.err.contains("2 of the 3 shares are needed"), "{}", few.err);
    assert!(few.err.contains("--share-file"), "{}", few.err);
    let twice = check(&one, &one).failed_with(1);
    assert!(twice.err.contains("1 is given"), "{}", twice.err);
    let stranger = folder.path().join("stranger.txt");
    let line = other["shares"][1].as_str().unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(&stranger).unwrap(), line.as_bytes()).unwrap();
    let mixed = check(&one, &stranger.to_string_lossy()).failed_with(1);
    assert!(mixed.err.contains("of two keys"), "{}", mixed.err);
    let typed = line.replacen(|digit: char| digit.is_ascii_digit(), "x", 3);
    std::io::Write::write_all(&mut std::fs::File::create(&stranger).unwrap(), typed.as_bytes()).unwrap();
    let slip = check(&one, &stranger.to_string_lossy()).failed_with(1);
    assert!(slip.err.contains("stranger.txt cannot be used"), "{}", slip.err);

    let whole = folder.path().join("key.txt").to_string_lossy().into_owned();
    run(&[
        "combine",
        "--share-file",
        &two,
        "--share-file",
        &three,
        "--output",
        &whole,
    ])
    .ok();
    let text = std::fs::read_to_string(&whole).unwrap();
    assert!(text.starts_with("AGE-SECRET-KEY-1"), "as age takes it");
    assert_eq!(std::fs::metadata(&whole).unwrap().mode() & 0o777, 0o400);
}
