//! What a statement does to the session behind it, as far as its text and its command tag tell. A session
//! with state of its own stays with its client.
//!
//! Not seen: state made inside of functions (`set_config` or session advisory locks called by a function), and
//! in simple queries beyond their first 64 KiB.

/// What a statement's text says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Effects {
    /// A single SET LOCAL, SET TRANSACTION or SET CONSTRAINTS.
    local_set: bool,
    /// It speaks of temporary tables.
    temporary: bool,
    /// It speaks of WITH HOLD.
    hold: bool,
    /// It calls something that leaves state behind.
    call: Option<&'static str>,
}

/// Functions that leave state behind. `pg_advisory_xact_lock` does not.
const CALLS: [(&[u8], &str); 3] = [
    (b"pg_advisory_lock", "a session's advisory lock"),
    (b"pg_try_advisory_lock", "a session's advisory lock"),
    (b"set_config", "set_config"),
];

impl Effects {
    /// Reads a query, or as much of it as is there.
    pub(super) fn of(query: &[u8]) -> Self {
        let query = query.split(|byte| *byte == 0).next().unwrap_or_default();
        let lower = query.to_ascii_lowercase();
        let has = |word: &[u8]| lower.windows(word.len()).any(|window| window == word);
        let mut words = lower
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let begins_locally = words.next() == Some(b"set".as_slice())
            && words
                .next()
                .is_some_and(|word| [b"local".as_slice(), b"transaction", b"constraints"].contains(&word));
        let single = !lower
            .trim_ascii_end()
            .strip_suffix(b";")
            .unwrap_or(&lower)
            .contains(&b';');
        // One pass for the common case: all the words below have an underscore or are rare.
        let call = if lower.contains(&b'_') {
            CALLS
                .iter()
                .find(|(word, _)| has(word))
                .map(|(_, reason)| *reason)
        } else {
            None
        };
        let temporary = lower
            .split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
            .any(|word| word == b"temp" || word == b"temporary");
        Self {
            local_set: begins_locally && single,
            temporary,
            hold: has(b"hold"),
            call,
        }
    }

    /// Why the server must stay from the moment the statement is sent.
    pub(super) fn pins_when_sent(&self) -> Option<&'static str> {
        self.call
    }
}

/// Why the server must stay after a statement completed with a tag.
pub(super) fn session_effect(tag: &[u8], effects: &Effects) -> Option<&'static str> {
    match tag {
        b"SET" if !effects.local_set => Some("SET"),
        b"RESET" => Some("RESET"),
        b"LISTEN" => Some("LISTEN"),
        b"PREPARE" => Some("PREPARE"),
        b"LOAD" => Some("LOAD"),
        b"DECLARE CURSOR" if effects.hold => Some("a cursor WITH HOLD"),
        b"CREATE TABLE" | b"CREATE TABLE AS" | b"CREATE VIEW" | b"CREATE SEQUENCE" if effects.temporary => {
            Some("a temporary table")
        }
        _ if tag.starts_with(b"SELECT") && effects.temporary => Some("a temporary table"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pins(query: &str, tag: &str) -> bool {
        let effects = Effects::of(query.as_bytes());
        effects
            .pins_when_sent()
            .or(session_effect(tag.as_bytes(), &effects))
            .is_some()
    }

    #[test]
    fn only_what_outlives_a_transaction_pins() {
        for (query, tag) in [
            ("SET search_path = x", "SET"),
            ("SET LOCAL a = 1; SET b = 2", "SET"),
            ("/* set local */ SET a = 1", "SET"),
            ("listen c", "LISTEN"),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "DECLARE CURSOR"),
            ("CREATE TEMP TABLE t (n int)", "CREATE TABLE"),
            ("SELECT 1 INTO TEMP t", "SELECT 1"),
            ("SELECT pg_try_advisory_lock(1)", "SELECT 1"),
            ("select Set_Config('a', 'b', false)", "SELECT 1"),
            ("PREPARE a AS SELECT 1", "PREPARE"),
        ] {
            assert!(pins(query, tag), "{query}");
        }
        for (query, tag) in [
            ("SET LOCAL a = 1", "SET"),
            (" set\n transaction isolation level serializable ;", "SET"),
            ("SELECT pg_advisory_xact_lock(1)", "SELECT 1"),
            ("DECLARE c CURSOR FOR SELECT 1", "DECLARE CURSOR"),
            ("SELECT temperature FROM t", "SELECT 1"),
            ("INSERT INTO t VALUES (1)", "INSERT 0 1"),
            ("CREATE TABLE t (n int)", "CREATE TABLE"),
        ] {
            assert!(!pins(query, tag), "{query}");
        }
    }
}
