//! Which values of a request are not to be shown: credentials, by what they are called.

use super::Match;

/// Names that credentials have, or that are parts of such names.
const CALLED: [&str; 18] = [
    "auth",
    "bearer",
    "card",
    "cookie",
    "credential",
    "csrf",
    "cvc",
    "cvv",
    "jwt",
    "key",
    "otp",
    "pass",
    "pin",
    "pwd",
    "secret",
    "session",
    "signature",
    "token",
];
/// Variables that hold others, names and values in one text.
const WHOLE: [&str; 8] = [
    "FULL_REQUEST",
    "QUERY_STRING",
    "REQUEST_BODY",
    "REQUEST_LINE",
    "REQUEST_URI",
    "REQUEST_URI_RAW",
    "RESPONSE_BODY",
    "TX",
];

impl Match {
    /// What the variable held, at most so many characters of it; `None` where that may be a credential.
    ///
    /// A rule of thumb: it goes by names. What must not leave the machine must not be shown at all.
    pub fn excerpt(&self, characters: usize) -> Option<String> {
        let (variable, member) = match self.variable.split_once(':') {
            Some((variable, member)) => (variable, member),
            None => (self.variable.as_str(), ""),
        };
        let is_secret = variable.starts_with("REQUEST_COOKIES")
            || names_a_credential(member)
            || (WHOLE.contains(&variable) && names_a_credential(&self.value));
        // Names are no values.
        if is_secret && !variable.ends_with("_NAMES") {
            return None;
        }
        let mut text: String = self.value.chars().take(characters).collect();
        if text.len() < self.value.len() && !text.ends_with('…') {
            text.push('…');
        }
        Some(text)
    }
}

fn names_a_credential(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    CALLED.iter().any(|word| text.contains(word)) || text == "sid" || text.ends_with("_sid")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn shown(variable: &str, value: &str) -> Option<String> {
        let one = Match {
            rule: 1,
            phase: 2,
            msg: String::new(),
            data: String::new(),
            variable: variable.to_owned(),
            value: value.to_owned(),
            severity: None,
            tags: Arc::from([]),
            score: 0,
        };
        one.excerpt(20)
    }

    #[test]
    fn credentials_are_not_shown() {
        for (variable, value) in [
            ("REQUEST_COOKIES:theme", "' or 1=1"),
            ("REQUEST_HEADERS:Authorization", "Bearer x"),
            ("ARGS:new_password", "' or 1=1"),
            ("ARGS:json.user.apiKey", "x"),
            ("ARGS:sid", "x"),
            ("REQUEST_URI", "/login?token=abc"),
            ("REQUEST_BODY", "password=abc"),
        ] {
            assert_eq!(shown(variable, value), None, "{variable}");
        }
    }

    #[test]
    fn everything_else_is_as_far_as_it_is_asked_for() {
        assert_eq!(shown("ARGS:q", "' or 1=1").as_deref(), Some("' or 1=1"));
        assert_eq!(shown("ARGS_NAMES:token", "token").as_deref(), Some("token"));
        assert_eq!(
            shown("ARGS:q", &"é".repeat(30)).unwrap(),
            format!("{}…", "é".repeat(20))
        );
    }
}
