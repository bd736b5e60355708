//! Commands that cannot share a connection with others. Rights are Redis's own business (ACL).

use bytes::Bytes;

/// They change the connection's state, turn it into a stream, or hold it up.
const REFUSED: &[&str] = &[
    "ASKING",
    "AUTH",
    "BLMOVE",
    "BLMPOP",
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZMPOP",
    "BZPOPMAX",
    "BZPOPMIN",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "REPLCONF",
    "RESET",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WAIT",
    "WAITAOF",
    "WATCH",
];

/// Whether a command may run here; the error is what the client sees.
pub(super) fn check(command: &[Bytes]) -> Result<(), String> {
    let name = command
        .first()
        .filter(|name| !name.is_empty())
        .ok_or("ERR empty command")?;
    let name = String::from_utf8_lossy(name).to_ascii_uppercase();
    let refused =
        REFUSED.binary_search(&name.as_str()).is_ok() || (blocks_when_asked(&name) && asks_to_block(command));
    if refused {
        return Err(format!("ERR Command is not available over REST: '{name}'"));
    }
    Ok(())
}

fn blocks_when_asked(name: &str) -> bool {
    matches!(name, "XREAD" | "XREADGROUP")
}

/// `BLOCK` stands before `STREAMS`; behind it are names of keys. A group may bear the name too.
fn asks_to_block(command: &[Bytes]) -> bool {
    let is = |argument: &Bytes, word: &str| argument.eq_ignore_ascii_case(word.as_bytes());
    let mut arguments = command[1..].iter();
    while let Some(argument) = arguments.next() {
        if is(argument, "STREAMS") {
            return false;
        }
        if is(argument, "BLOCK") {
            return true;
        }
        let values = if is(argument, "GROUP") {
            2
        } else {
            usize::from(is(argument, "COUNT"))
        };
        for _ in 0..values {
            arguments.next();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(words: &str) -> bool {
        check(
            &words
                .split(' ')
                .map(|word| Bytes::from(word.to_owned()))
                .collect::<Vec<_>>(),
        )
        .is_ok()
    }

    #[test]
    fn the_list_is_sorted_for_binary_search() {
        assert!(REFUSED.is_sorted());
    }

    #[test]
    fn what_holds_up_a_connection_is_refused() {
        for refused in [
            "blpop a 0",
            "SUBSCRIBE c",
            "multi",
            "client reply off",
            "XREAD COUNT 1 BLOCK 0 STREAMS s $",
            "xreadgroup GROUP g c BLOCK 1 STREAMS s >",
        ] {
            assert!(!allowed(refused), "{refused}");
        }
        for fine in [
            "SET a b",
            "XREAD STREAMS block 0",
            "XREADGROUP GROUP block block STREAMS s >",
            "XREAD COUNT block STREAMS s 0",
            "XREAD",
        ] {
            assert!(allowed(fine), "{fine}");
        }
        assert!(check(&[]).is_err());
        assert!(check(&[Bytes::new()]).is_err());
    }
}
