//! `@detectXSS`.

use libinjectionrs::xss::{Html5Flags, Html5State, TokenType};
use libinjectionrs::{XssDetector, detect_xss};

/// So many attributes of unknown names that begin with `on` are an attack on us if on nobody else.
const HANDLERS: usize = 256;
/// No event's name is longer.
const EVENT: usize = 32;

/// Where the input may be pasted into a page: C tries all five.
const PLACES: [Html5Flags; 5] = [
    Html5Flags::DataState,
    Html5Flags::ValueNoQuote,
    Html5Flags::ValueSingleQuote,
    Html5Flags::ValueDoubleQuote,
    Html5Flags::ValueBackQuote,
];

/// Whether a browser would run something of it.
pub fn xss(input: &[u8]) -> bool {
    // Every finding is a tag, a comment, a declaration or the value of an attribute.
    if memchr::memchr2(b'<', b'=', input).is_none() {
        return false;
    }
    is_found(input) || memchr::memchr(0, input).is_some() && is_found(&with_spaces(input))
}

fn is_found(input: &[u8]) -> bool {
    detect_xss(input).is_injection() || has_handler(input)
}

/// To C a NUL byte ends an attribute's name, to the port it is within it. Browsers have done either: both are asked about.
fn with_spaces(input: &[u8]) -> Vec<u8> {
    input
        .iter()
        .map(|byte| if *byte == 0 { b' ' } else { *byte })
        .collect()
}

/// Whether an attribute's name begins with an event handler's: C takes `onclick!` and `onclickx` too, the port only
/// `onclick`.
fn has_handler(input: &[u8]) -> bool {
    if !input.windows(2).any(|pair| pair.eq_ignore_ascii_case(b"on")) {
        return false;
    }
    let mut budget = HANDLERS;
    PLACES.iter().any(|place| {
        let mut page = Html5State::new(input, *place);
        let mut name: &[u8] = b"";
        while page.next() {
            let token = &page.token_start[..page.token_len];
            match page.token_type {
                TokenType::AttrName => name = token,
                TokenType::AttrValue if name.len() >= 5 && name[..2].eq_ignore_ascii_case(b"on") => {
                    budget = budget.saturating_sub(1);
                    if budget == 0 || begins_with_event(name) {
                        return true;
                    }
                    name = b"";
                }
                _ => name = b"",
            }
        }
        false
    })
}

/// Asks the port, which keeps its list of events to itself, about each beginning of `name`.
fn begins_with_event(name: &[u8]) -> bool {
    let longest = name.len().min(EVENT);
    if name[2..]
        .get(..6)
        .is_some_and(|event| event.eq_ignore_ascii_case(b"toggle"))
    {
        // The one event that C's list has beyond the port's.
        return true;
    }
    let mut question = [0; EVENT + 2];
    question[..longest].copy_from_slice(&name[..longest]);
    (4..=longest).any(|length| {
        let last = question[length];
        let behind = question[length + 1];
        question[length..length + 2].copy_from_slice(b"=1");
        let answer = XssDetector::is_xss(&question[..length + 2], Html5Flags::ValueNoQuote);
        question[length] = last;
        question[length + 1] = behind;
        answer
    })
}
