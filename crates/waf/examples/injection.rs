//! `cargo xtask waf-compare injection [--count N] [--seed S]` (or `--strings FILE`): asks ModSecurity 3, in nginx, and this engine whether strings
//! are SQL injection or cross-site scripting. ModSecurity has the C library libinjection in it. Both run the same rules,
//! which are `@detectSQLi` and `@detectXSS` for each of many arguments, without transformations. Prints how many answers
//! agree and each that does not, with the fingerprint; ends with an error where one is of no class that is known.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    missing_docs
)]

#[path = "compare/chance.rs"]
mod chance;
#[path = "../benches/waf/peer.rs"]
mod peer;
#[path = "injection/text.rs"]
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use astraler_waf::compile::Program;
use astraler_waf::seclang::Rules;
use astraler_waf::suite;
use chance::Chance;
use peer::{Connection, Peer, With};
use text::Maker;

/// Strings of one request.
const TOGETHER: usize = 200;
/// Ids of the rules for each argument begin here.
const SQL: u64 = 1000;
const HTML: u64 = 2000;
/// After this long it ends with what it has asked.
const LONGEST: Duration = Duration::from_secs(900);
/// Differences of one class that are printed.
const SHOWN: usize = 100;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(unknown) => {
            eprintln!(
                "{unknown} differences are of no class that is known: look at them, and mend or explain them"
            );
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<usize, String> {
    let (count, seed, given) = arguments()?;
    let known_count = given.as_ref().map_or(usize::MAX, Vec::len);
    let count = count.min(known_count);
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for nginx: {error}"))?;
    // nginx's worker has a user of its own.
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(|error| error.to_string())?;
    let rules = rules();
    let program = Program::new(&Rules::default().text(&rules, Path::new("injection.conf")));
    let program = program.map_err(|error| error.to_string())?;
    let peer = Peer::start_with(With::Own, &rules, folder.path())?;
    let mut judge = Judge::new(&peer)?;
    let known = known()?;
    let maker = Maker::new(&known);
    let mut chance = Chance::new(seed);
    let begun = Instant::now();
    let mut sum = Sum::default();
    let mut given = given.into_iter().flatten();
    while sum.strings < count && begun.elapsed() < LONGEST {
        let many = TOGETHER.min(count - sum.strings);
        let strings: Vec<Vec<u8>> = (0..many)
            .map(|_| given.next().unwrap_or_else(|| maker.make(&mut chance)))
            .collect();
        let request = request(&strings);
        let (status, report) = suite::send(&program, &request);
        let report = report.filter(|_| status == 200);
        let report = report.ok_or("this engine does not read the request")?;
        let ours: Matches = report
            .matches
            .into_iter()
            .map(|one| (one.rule, one.data))
            .collect();
        let theirs = judge.ask(&request)?;
        if count == known_count {
            for (place, string) in (0..).zip(&strings) {
                let said = |first: u64| theirs.get(&(first + place)).map_or("-", String::as_str);
                println!("{}\t{}\t{}", said(SQL), said(HTML), string.escape_ascii());
            }
        }
        sum.compare(&strings, &ours, &theirs);
    }
    Ok(sum.print(seed, begun.elapsed()))
}

type Strings = Vec<Vec<u8>>;

/// How many strings, from which seed; or those of a file, one a line with `\\` and `\xHH`, whose verdicts are printed.
fn arguments() -> Result<(usize, u64, Option<Strings>), String> {
    let (mut count, mut seed, mut given) = (100_000, 20_261_128, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().unwrap_or_default();
        match (name.as_str(), value.parse::<u64>()) {
            ("--count", Ok(value)) => count = usize::try_from(value).unwrap_or(usize::MAX),
            ("--seed", Ok(value)) => seed = value,
            ("--strings", _) => {
                let text = std::fs::read_to_string(&value).map_err(|error| format!("{value}: {error}"))?;
                given = Some(text.lines().map(unescaped).collect());
            }
            _ => return Err("injection [--count N] [--seed S] | injection --strings FILE".to_owned()),
        }
    }
    Ok((count, seed, given))
}

/// Two rules for each argument. What a rule matches is logged once, so one rule for all of them would not do.
fn rules() -> String {
    let mut rules = "SecRuleEngine DetectionOnly\nSecRequestBodyAccess On\nSecArgumentsLimit 1000\n\
                     SecRequestBodyLimit 13107200\nSecRequestBodyNoFilesLimit 13107200\n"
        .to_owned();
    for place in 0..TOGETHER {
        let (sql, html) = (SQL + place as u64, HTML + place as u64);
        let _ = write!(
            rules,
            "SecRule ARGS:s{place} \"@detectSQLi\" \"id:{sql},phase:2,t:none,pass,log,capture,logdata:'%{{TX.0}}'\"\n\
             SecRule ARGS:s{place} \"@detectXSS\" \"id:{html},phase:2,t:none,pass,log,logdata:'xss'\"\n",
        );
    }
    rules
}

/// The committed strings that the C library was asked about: attacks and others, about half of each.
fn known() -> Result<Vec<Vec<u8>>, String> {
    let mut known = Vec::new();
    for file in ["libinjection-sqli.tsv", "libinjection-xss.tsv"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(file);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        known.extend(
            text.lines()
                .filter_map(|line| Some(unescaped(line.split_once('\t')?.1))),
        );
    }
    Ok(known)
}

/// `\\` and `\xHH`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let (byte, after) = match (byte, tail) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let value = std::str::from_utf8(&[*high, *low])
                    .ok()
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (value.unwrap_or(b'?'), after)
            }
            _ => (*byte, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// A form with an argument for each string.
fn request(strings: &[Vec<u8>]) -> Vec<u8> {
    let mut body = String::new();
    for (place, string) in strings.iter().enumerate() {
        let _ = write!(body, "{}s{place}=", if place > 0 { "&" } else { "" });
        for byte in string {
            let _ = write!(body, "%{byte:02x}");
        }
    }
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head, body].concat().into_bytes()
}

/// Rules that matched, with their data.
type Matches = BTreeMap<u64, String>;

struct Judge {
    connection: Connection,
    log: std::fs::File,
}

impl Judge {
    fn new(peer: &Peer) -> Result<Self, String> {
        Ok(Self {
            connection: peer.connect()?,
            log: std::fs::File::open(&peer.log).map_err(|error| format!("nginx writes no log: {error}"))?,
        })
    }

    fn ask(&mut self, request: &[u8]) -> Result<Matches, String> {
        let status = self.connection.send(request)?;
        if status != 200 {
            return Err(format!("nginx answers {status}"));
        }
        let mut written = Vec::new();
        self.log
            .read_to_end(&mut written)
            .map_err(|error| format!("cannot read nginx's log: {error}"))?;
        let written = String::from_utf8_lossy(&written);
        // A value stands before what is asked for, and may look like it.
        let field = |line: &str, name: &str| -> Option<String> {
            let (_, value) = line.rsplit_once(&format!("[{name} \""))?;
            Some(value.split_once("\"]")?.0.to_owned())
        };
        Ok(written
            .lines()
            .filter(|line| line.contains("ModSecurity: Warning"))
            .filter_map(|line| Some((field(line, "id")?.parse().ok()?, field(line, "data")?)))
            .collect())
    }
}

#[derive(Default)]
struct Sum {
    strings: usize,
    /// Of the C library.
    attacks: [usize; 2],
    differences: BTreeMap<&'static str, Vec<String>>,
}

impl Sum {
    fn compare(&mut self, strings: &[Vec<u8>], ours: &Matches, theirs: &Matches) {
        for (place, string) in (0..).zip(strings) {
            self.strings += 1;
            for (kind, first) in [SQL, HTML].into_iter().enumerate() {
                let said = |matches: &Matches| matches.get(&(first + place)).cloned();
                let (own, other) = (said(ours), said(theirs));
                self.attacks[kind] += usize::from(other.is_some());
                if own != other {
                    let said = |verdict: &Option<String>| verdict.clone().unwrap_or_else(|| "-".to_owned());
                    let text = format!(
                        "{}: C says {}, we {}: {}",
                        ["SQL", "HTML"][kind],
                        said(&other),
                        said(&own),
                        string.escape_ascii()
                    );
                    let class = class(first == SQL, own.is_some(), string);
                    self.differences.entry(class).or_default().push(text);
                }
            }
        }
    }

    /// How many are of no class that is known.
    fn print(&self, seed: u64, took: Duration) -> usize {
        let different: usize = self.differences.values().map(Vec::len).sum();
        let answers = 2 * self.strings;
        println!(
            "{} strings (seed {seed}) in {} s: {} of {answers} answers agree; of C's, {} are SQL injection and {} XSS",
            self.strings,
            took.as_secs(),
            answers - different,
            self.attacks[0],
            self.attacks[1],
        );
        for (class, all) in &self.differences {
            println!("{}: {class}", all.len());
            for one in all.iter().take(SHOWN) {
                println!("  {one}");
            }
            if all.len() > SHOWN {
                println!("  … and {} more", all.len() - SHOWN);
            }
        }
        self.differences.get(UNKNOWN).map_or(0, Vec::len)
    }
}

const UNKNOWN: &str = "of no class that is known";

/// Why two answers differ.
fn class(is_sql: bool, we_say_attack: bool, string: &[u8]) -> &'static str {
    let is_event = |also: &[u8]| astraler_waf::libinjection::xss(&with_events(string, also));
    match (is_sql, we_say_attack) {
        (false, false) if is_event(b"") || is_event(b"<") => {
            "ModSecurity 3.0.9's version takes every attribute that begins with `on` for an event"
        }
        _ if string.contains(&0) => "a NUL byte is in the string",
        (true, _) if has_phrase(string) => {
            "C puts `create or`, `lock in`, `is distinct` and such together, which are no keywords without what follows"
        }
        (true, _) if string.windows(5).any(|five| five.eq_ignore_ascii_case(b"@user")) => {
            "`@user` with arguments is a word to C when it has looked at what stands before it"
        }
        _ => UNKNOWN,
    }
}

/// Whether there are two words that C joins although they are no keyword yet, in their order.
fn has_phrase(string: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphabetic();
    let words: Vec<String> = string
        .split(|byte| !is_word(byte))
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).to_ascii_lowercase())
        .collect();
    // What stands between them may be folded away.
    let follows = |first: &str, second: &str| {
        let mut rest = words.iter().skip_while(|word| *word != first);
        rest.any(|word| word == second)
    };
    [
        ("at", "time"),
        ("create", "or"),
        ("in", "boolean"),
        ("is", "distinct"),
        ("lock", "in"),
        ("next", "value"),
        ("previous", "value"),
    ]
    .iter()
    .any(|(first, second)| follows(first, second))
}

/// With an event's name in the place of each word that begins as one. `also`: what else ends a word.
fn with_events(string: &[u8], also: &[u8]) -> Vec<u8> {
    let ends = [b"\t\n\x0b\x0c\r /=>'\"`", also].concat();
    let mut out = Vec::new();
    let mut rest = string;
    while let Some((byte, behind)) = rest.split_first() {
        let begins = rest.get(..2).is_some_and(|two| two.eq_ignore_ascii_case(b"on"));
        if begins {
            out.extend_from_slice(b"onload");
            let length = rest.iter().take_while(|byte| !ends.contains(byte)).count();
            rest = &rest[length..];
        } else {
            out.push(*byte);
            rest = behind;
        }
    }
    out
}
