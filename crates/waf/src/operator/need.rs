//! What a text must contain for a pattern to match it at all.
//!
//! Most values of honest requests lack something that an attack cannot do without: a quote, a bracket, a word. Asking for
//! that first costs some nanoseconds; only what has it all is given to the pattern itself.

use regex_syntax::hir::{Class, Hir, HirKind};

/// A set of byte values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ByteSet(pub(crate) [u64; 4]);

impl ByteSet {
    pub(crate) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(crate) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    pub(crate) const fn of(bytes: &[u8]) -> Self {
        let mut set = [0u64; 4];
        let mut at = 0;
        while at < bytes.len() {
            set[(bytes[at] >> 6) as usize] |= 1 << (bytes[at] & 63);
            at += 1;
        }
        Self(set)
    }

    pub(crate) fn range(low: u8, high: u8) -> Self {
        let mut set = Self::default();
        for byte in low..=high {
            set.insert(byte);
        }
        set
    }

    pub(crate) fn meets(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3]) != 0
    }

    /// Whether something is in this set that is not in the other.
    pub(crate) fn exceeds(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(own, more)| own & !more != 0)
    }

    pub(crate) fn join(mut self, other: &Self) -> Self {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255u8).filter(|byte| self.contains(*byte))
    }

    /// How likely an honest value is to contain one of these; roughly, in thousandths.
    fn likely(&self) -> u32 {
        self.iter().map(likely).sum()
    }
}

fn likely(byte: u8) -> u32 {
    match byte {
        b'a' | b'e' | b'i' | b'o' | b'n' | b'r' | b's' | b't' | b'l' | b'c' | b'd' => 300,
        b'a'..=b'z' => 150,
        b'0'..=b'9' => 120,
        b'A'..=b'Z' => 60,
        b' ' | b'.' | b'-' | b'/' | b'_' => 150,
        b',' | b':' | b';' | b'=' | b'(' | b')' | b'&' | b'%' | b'+' | b'"' => 60,
        0x21..=0x7e => 15,
        b'\n' | b'\r' | b'\t' => 15,
        0x80..=0xff => 4,
        _ => 1,
    }
}

/// What a text must have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Need {
    /// One byte of each of these sets.
    pub(crate) bytes: Box<[ByteSet]>,
    /// One of these words, whatever its case; in lower case. None: no word is needed.
    pub(crate) words: Option<Vec<Vec<u8>>>,
    /// At least so many bytes.
    pub(crate) length: usize,
}

/// How many sets are kept of one pattern.
const SETS: usize = 3;
/// Sets that are likelier than this are not worth asking.
const LIKELY: u32 = 2500;
/// How many words stand for one pattern.
const WORDS: usize = 600;
/// How many strings an exact part may multiply out to.
const EXACT: usize = 128;
/// How long such a string may get.
const EXACT_BYTES: usize = 24;

impl Need {
    pub(crate) fn of(hir: &Hir) -> Self {
        let mut sets = sets(hir);
        sets.sort_by_key(ByteSet::likely);
        sets.dedup();
        sets.retain(|set| set.likely() < LIKELY);
        sets.truncate(SETS);
        Self {
            bytes: sets.into(),
            words: words(hir),
            length: hir.properties().minimum_len().unwrap_or(0),
        }
    }
}

fn sets(hir: &Hir) -> Vec<ByteSet> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Vec::new(),
        HirKind::Literal(literal) => {
            let mut sets: Vec<ByteSet> = Vec::new();
            for byte in &literal.0 {
                let set = ByteSet::of(&[*byte]);
                if !sets.contains(&set) {
                    sets.push(set);
                }
            }
            sets
        }
        HirKind::Class(class) => class_set(class).into_iter().collect(),
        HirKind::Repetition(repetition) if repetition.min == 0 => Vec::new(),
        HirKind::Repetition(repetition) => sets(&repetition.sub),
        HirKind::Capture(capture) => sets(&capture.sub),
        HirKind::Concat(parts) => parts.iter().flat_map(sets).collect(),
        HirKind::Alternation(branches) => {
            let mut joined = ByteSet::default();
            for branch in branches {
                match sets(branch).into_iter().min_by_key(ByteSet::likely) {
                    Some(set) => joined = joined.join(&set),
                    None => return Vec::new(),
                }
            }
            vec![joined]
        }
    }
}

fn class_set(class: &Class) -> Option<ByteSet> {
    let Class::Bytes(class) = class else {
        return None;
    };
    let mut set = ByteSet::default();
    for range in class.ranges() {
        set = set.join(&ByteSet::range(range.start(), range.end()));
    }
    Some(set)
}

type Strings = Vec<Vec<u8>>;

struct Literals {
    /// All that this part matches, where that is a short list.
    exact: Option<Strings>,
    /// One of these is in every match.
    best: Option<Strings>,
}

fn words(hir: &Hir) -> Option<Strings> {
    let literals = literals(hir);
    let mut words = better(literals.best, literals.exact)?;
    words.sort();
    words.dedup();
    // A word within another says it all.
    let all = words.clone();
    words.retain(|word| {
        !all.iter()
            .any(|other| other.len() < word.len() && memchr::memmem::find(word, other).is_some())
    });
    Some(words)
}

fn literals(hir: &Hir) -> Literals {
    let exact = |strings: Strings| Literals {
        exact: Some(strings),
        best: None,
    };
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => exact(vec![Vec::new()]),
        HirKind::Literal(literal) if literal.0.len() <= EXACT_BYTES => {
            exact(vec![literal.0.to_ascii_lowercase()])
        }
        HirKind::Literal(literal) => Literals {
            exact: None,
            best: Some(vec![literal.0.to_ascii_lowercase()]),
        },
        HirKind::Class(class) => {
            let mut bytes: Vec<u8> = class_set(class)
                .map(|set| set.iter().map(|byte| byte.to_ascii_lowercase()).collect())
                .unwrap_or_default();
            bytes.sort_unstable();
            bytes.dedup();
            Literals {
                exact: (1..=8)
                    .contains(&bytes.len())
                    .then(|| bytes.into_iter().map(|byte| vec![byte]).collect()),
                best: None,
            }
        }
        HirKind::Repetition(repetition) => {
            let inner = literals(&repetition.sub);
            match (repetition.min, repetition.max) {
                (0, Some(1)) => Literals {
                    exact: inner.exact.filter(|all| all.len() < EXACT).map(|mut all| {
                        all.push(Vec::new());
                        all
                    }),
                    best: None,
                },
                (0, _) => Literals {
                    exact: None,
                    best: None,
                },
                (1, Some(1)) => inner,
                (minimum, _) => {
                    // At least so many times: the first ones in a row are certain.
                    let repeated = inner.exact.clone().and_then(|all| {
                        let times = usize::try_from(minimum).unwrap_or(1).min(8);
                        (0..times).try_fold(vec![Vec::new()], |so_far, _| cross(&so_far, &all))
                    });
                    Literals {
                        exact: None,
                        best: better(better(inner.best, inner.exact), repeated),
                    }
                }
            }
        }
        HirKind::Capture(capture) => literals(&capture.sub),
        HirKind::Concat(parts) => concat(parts),
        HirKind::Alternation(branches) => alternation(branches),
    }
}

fn concat(parts: &[Hir]) -> Literals {
    let mut best = None;
    let mut running: Strings = vec![Vec::new()];
    let mut whole = true;
    for part in parts {
        let inner = literals(part);
        let grown = inner.exact.as_ref().and_then(|exact| cross(&running, exact));
        match grown {
            Some(grown) => running = grown,
            None => {
                whole = false;
                best = better(best, Some(std::mem::take(&mut running)));
                best = better(best, inner.best);
                running = match inner.exact {
                    Some(exact) => exact,
                    None => vec![Vec::new()],
                };
            }
        }
    }
    if whole {
        return Literals {
            exact: Some(running),
            best,
        };
    }
    Literals {
        exact: None,
        best: better(best, Some(running)),
    }
}

fn alternation(branches: &[Hir]) -> Literals {
    let mut exact: Option<Strings> = Some(Vec::new());
    let mut best: Option<Strings> = Some(Vec::new());
    for branch in branches {
        let inner = literals(branch);
        exact = match (exact, &inner.exact) {
            (Some(mut all), Some(more)) if all.len() + more.len() <= EXACT => {
                all.extend(more.iter().cloned());
                Some(all)
            }
            _ => None,
        };
        best = match (best, better(inner.best, inner.exact)) {
            (Some(mut all), Some(more)) if all.len() + more.len() <= WORDS => {
                all.extend(more);
                Some(all)
            }
            _ => None,
        };
    }
    Literals { exact, best }
}

fn cross(left: &Strings, right: &Strings) -> Option<Strings> {
    if left.len() * right.len() > EXACT {
        return None;
    }
    let mut all = Vec::with_capacity(left.len() * right.len());
    for a in left {
        for b in right {
            if a.len() + b.len() > EXACT_BYTES {
                return None;
            }
            all.push([a.as_slice(), b].concat());
        }
    }
    all.sort();
    all.dedup();
    Some(all)
}

/// The more telling of two lists; one that tells too little is none.
fn better(a: Option<Strings>, b: Option<Strings>) -> Option<Strings> {
    let rate = |strings: Option<Strings>| {
        strings.and_then(|strings| {
            let worst = strings.iter().map(|string| strength(string)).min()?;
            // Each doubling of the list costs a quarter of a letter.
            let cost = strings.len().ilog2() * 2;
            (worst >= WORTH).then(|| (worst.saturating_sub(cost), strings))
        })
    };
    match (rate(a), rate(b)) {
        (Some((x, a)), Some((y, b))) => Some(if y > x { b } else { a }),
        (Some((_, one)), None) | (None, Some((_, one))) => Some(one),
        (None, None) => None,
    }
}

/// In eighths of a letter.
const WORTH: u32 = 20;

fn strength(string: &[u8]) -> u32 {
    let sum: u32 = string
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' => 8,
            b' ' | b'/' | b'.' | b'-' => 6,
            _ => 14,
        })
        .sum();
    sum.min(64)
}
