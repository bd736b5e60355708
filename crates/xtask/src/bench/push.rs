//! `cargo xtask bench push [dev]`: from `git push` of a one-line change to the change being served on development, with
//! real git and the starter's own workflow, which runs beside. `dev` drives the dev profile's binary.
//!
//! The first two pushes fill the caches and are not counted: packages are fetched once, not at every change.

use super::{load_average, shown};
use crate::Failure;
use crate::git::{commit, git};
use crate::platform::Platform;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WARM: usize = 2;
const ROUNDS: usize = 5;
const BRANCH: &str = "feature/bench";
const GIVE_UP: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(20);
const TITLE: (&str, &str) = ("<title>", "</title>");

pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<(), Failure> {
    super::on_a_platform(root, arguments, measure)
}

/// What one push took.
struct Took {
    /// To the change being served.
    live: Duration,
    /// To the end of the push, which is that of its run.
    whole: Duration,
}

fn measure(platform: &Platform) -> Result<(), Failure> {
    git(platform, &["init", "--quiet", "--initial-branch", BRANCH])?;
    commit(platform, "first")?;
    platform.astraler(&["up", "--port", &platform.port.to_string()])?;
    let (mut live, mut whole) = (Vec::new(), Vec::new());
    let mut busy = String::new();
    for round in 0..WARM + ROUNDS {
        if round == WARM {
            busy = load_average();
        }
        let took = push(platform, round)?;
        println!(
            "push {}: served after {:.1} s, run ended after {:.1} s",
            round + 1,
            took.live.as_secs_f64(),
            took.whole.as_secs_f64()
        );
        if round >= WARM {
            live.push(took.live);
            whole.push(took.whole);
        }
    }
    println!("\n{busy}");
    println!("push of a one-line change to development, {ROUNDS} times, warm caches");
    println!("served (goal: at most 30 s)      {}", shown(&mut live));
    println!("its run has ended                {}", shown(&mut whole));
    Ok(())
}

/// Changes a line of the page, pushes it, and waits for both ends.
fn push(platform: &Platform, round: usize) -> Result<Took, Failure> {
    let page = platform.application().join("web/index.html");
    let text = std::fs::read_to_string(&page).map_err(|error| format!("{error}"))?;
    let (before, rest) = text.split_once(TITLE.0).ok_or("the page has no title")?;
    let (_, after) = rest.split_once(TITLE.1).ok_or("the page's title has no end")?;
    let title = format!("{}Board, change {round}{}", TITLE.0, TITLE.1);
    std::fs::File::create(&page)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, format!("{before}{title}{after}").as_bytes())
        })
        .map_err(|error| format!("cannot change the page: {error}"))?;
    commit(platform, "change")?;

    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let served = scope.spawn(|| served(platform, &title, begun, &over));
        let said = git(platform, &["push", "astraler", BRANCH]);
        let whole = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let live = served.join().map_err(|_| "looking at the page broke")?;
        match (live, said?) {
            (Some(live), _) => Ok(Took { live, whole }),
            (None, said) => Err(format!("the change was not deployed:\n{said}")),
        }
    })
}

/// Looks at the page until it has the title. The run has deployed when it has ended, or never does.
fn served(platform: &Platform, title: &str, begun: Instant, over: &AtomicBool) -> Option<Duration> {
    while begun.elapsed() < GIVE_UP {
        let ended = over.load(Ordering::Relaxed);
        if platform.get("/").is_ok_and(|page| page.contains(title)) {
            return Some(begun.elapsed());
        }
        if ended {
            break;
        }
        #[expect(clippy::disallowed_methods, reason = "there is no executor to block")]
        std::thread::sleep(LOOK);
    }
    None
}
