//! The commands in the guide work, in the order in which they stand there.

use crate::support::small;

#[test]
fn every_command_of_the_guide_works() {
    let guide = include_str!("../../../../docs/guide.md");
    let platform = small();
    let mut ran = 0;
    let mut inside = false;
    for line in guide.lines() {
        match line {
            "```sh run" => inside = true,
            "```" => inside = false,
            command if inside => {
                let words: Vec<&str> = command.split_whitespace().skip(1).collect();
                let finished = if words.first() == Some(&"up") {
                    let up = platform.up(&words[1..]);
                    // Something for the access log.
                    platform.get("/api/health").unwrap();
                    up
                } else {
                    platform.run(&words)
                };
                let finished = finished.unwrap();
                assert_eq!(
                    finished.code, 0,
                    "`{command}`\n{}\n{}",
                    finished.out, finished.err
                );
                assert!(!finished.out.trim().is_empty(), "`{command}` says nothing");
                ran += 1;
            }
            _ => {}
        }
    }
    assert!(ran >= 15, "the guide has commands: {ran}");
    assert_eq!(platform.processes(), []);
}
