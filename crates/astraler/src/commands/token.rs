//! `astraler token`.

use crate::cli::{Arguments, TokenCommand};
use crate::failure::{Failure, Kind, Outcome};
use crate::progress::line;
use crate::table;
use astraler_control::NewTokenRequest;
use std::io::Write;

pub(super) fn run(arguments: &Arguments, command: &TokenCommand) -> Outcome {
    let client = super::daemon(arguments)?;
    match command {
        TokenCommand::Create {
            name,
            scopes,
            expires,
            json,
        } => {
            let request = NewTokenRequest {
                name: name.clone(),
                scopes: scopes
                    .iter()
                    .map(|scope| scope.parse())
                    .collect::<Result<_, astraler_model::ParseScopeError>>()
                    .map_err(|error| Failure::of(&error).hint("`astraler token create --help` lists them"))?,
                expires_in_ms: expires.as_deref().map(duration_ms).transpose()?,
            };
            let report = super::block_on(async {
                client
                    .token_create(&request)
                    .await
                    .map_err(|error| super::not_up(&error))
            })?;
            if json.json {
                return Ok(table::print_json(&report)?);
            }
            line(&report.token);
            // Not on standard output: that is the token alone, for a pipe.
            let note = "keep it now: only its hash is stored, and it is never shown again\n";
            std::io::stderr().write_all(note.as_bytes())?;
            Ok(())
        }
        TokenCommand::List(json) => {
            let tokens =
                super::block_on(async { client.tokens().await.map_err(|error| super::not_up(&error)) })?;
            if json.json {
                return Ok(table::print_json(&tokens)?);
            }
            table::print(
                &["name", "scopes", "made", "last used", "ends"],
                tokens.as_array().into_iter().flatten().map(|token| {
                    let scopes = token["scopes"].as_array().into_iter().flatten();
                    let ends = match token["revoked_ms"].as_i64() {
                        Some(_) => "revoked".to_owned(),
                        None => date(&token["expires_ms"]),
                    };
                    vec![
                        token["name"].as_str().unwrap_or_default().to_owned(),
                        scopes
                            .filter_map(|scope| scope.as_str())
                            .collect::<Vec<_>>()
                            .join("\n"),
                        date(&token["created_ms"]),
                        date(&token["used_ms"]),
                        ends,
                    ]
                }),
            );
            Ok(())
        }
        TokenCommand::Revoke { name } => {
            super::block_on(async {
                client
                    .token_revoke(name)
                    .await
                    .map_err(|error| super::not_up(&error))
            })?;
            line(&format!("{name} is revoked"));
            Ok(())
        }
    }
}

fn date(value: &serde_json::Value) -> String {
    value
        .as_i64()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| "-".to_owned(), |time| time.strftime("%F %H:%M").to_string())
}

/// `12h`, `30d`, `90m`.
pub(super) fn duration_ms(text: &str) -> Outcome<u64> {
    let unit = |unit: char| match unit {
        'm' => Some(60_000),
        'h' => Some(3_600_000),
        'd' => Some(24 * 3_600_000),
        _ => None,
    };
    let mut digits = text.chars();
    let factor: Option<u64> = digits.next_back().and_then(unit);
    let number: Option<u64> = digits.as_str().parse().ok().filter(|number| *number > 0);
    factor
        .zip(number)
        .and_then(|(factor, number)| number.checked_mul(factor))
        .ok_or_else(|| {
            Failure::new(Kind::General, format!("`{text}` is no length of time"))
                .hint("write a number and m, h or d, as in 90m, 12h or 30d")
        })
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn lengths_of_time() {
        assert_eq!(duration_ms("90m").unwrap(), 5_400_000);
        assert_eq!(duration_ms("30d").unwrap(), 2_592_000_000);
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "1",
            "1w",
            "1.5h",
            "99999999999999999999d",
            "18446744073709551615d",
            "1ü",
        ] {
            assert!(duration_ms(bad).is_err(), "{bad}");
        }
    }
}
