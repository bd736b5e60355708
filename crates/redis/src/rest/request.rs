//! What a request asks for.

use super::Refusal;
use bytes::Bytes;
use http::{Method, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::Value as Json;

/// A command's name and arguments.
pub(super) type Command = Vec<Bytes>;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call {
    Single(Command),
    Pipeline(Vec<Command>),
    Transaction(Vec<Command>),
}

/// The token: `Authorization: Bearer`, or the query parameter `_token`.
pub(super) fn token(head: &Parts) -> Option<String> {
    if let Some(value) = head.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned());
    }
    query(head)
        .find(|(name, _)| name.as_ref() == b"_token")
        .and_then(|(_, value)| String::from_utf8(value.into()).ok())
}

/// Reads path, query and body.
pub(super) fn parse(head: &Parts, body: &Bytes, max_commands: usize) -> Result<Call, Refusal> {
    let path = head.uri.path().trim_start_matches('/');
    let has_body = matches!(head.method, Method::POST | Method::PUT);
    match path.trim_end_matches('/') {
        "" if has_body => Ok(Call::Single(command(&json(body)?)?)),
        "pipeline" | "multi-exec" if !has_body => Err(Refusal::Method),
        "pipeline" => Ok(Call::Pipeline(commands(body, max_commands)?)),
        "multi-exec" => Ok(Call::Transaction(commands(body, max_commands)?)),
        _ => {
            // `/set/key/` ends with an empty argument, so only the leading slash is cut.
            let mut command: Command = path
                .split('/')
                .map(|part| Bytes::from(percent_decode_str(part).collect::<Vec<u8>>()))
                .collect();
            if has_body && !body.is_empty() {
                command.push(body.clone());
            }
            for (name, value) in query(head).filter(|(name, _)| name.as_ref() != b"_token") {
                command.push(name);
                if !value.is_empty() {
                    command.push(value);
                }
            }
            Ok(Call::Single(command))
        }
    }
}

fn query(head: &Parts) -> impl Iterator<Item = (Bytes, Bytes)> {
    let decode = |text: &str| Bytes::from(percent_decode_str(&text.replace('+', " ")).collect::<Vec<u8>>());
    head.uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
}

fn json(body: &Bytes) -> Result<Json, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        Refusal::Bad(format!(
            "ERR failed to parse command: the body is not JSON: {error}"
        ))
    })
}

fn commands(body: &Bytes, max: usize) -> Result<Vec<Command>, Refusal> {
    match json(body)? {
        Json::Array(commands) if commands.is_empty() => {
            Err(Refusal::Bad("ERR empty pipeline request".into()))
        }
        Json::Array(commands) if commands.len() > max => Err(Refusal::Bad(format!(
            "ERR {} commands in one request; there may be {max}",
            commands.len()
        ))),
        Json::Array(commands) => commands.iter().map(command).collect(),
        _ => Err(Refusal::Bad(
            "ERR failed to parse pipeline: expected an array of commands".into(),
        )),
    }
}

fn command(json: &Json) -> Result<Command, Refusal> {
    let Json::Array(arguments) = json else {
        return Err(Refusal::Bad(
            "ERR failed to parse command: expected an array".into(),
        ));
    };
    arguments
        .iter()
        .map(|argument| match argument {
            Json::String(text) => Ok(Bytes::from(text.clone())),
            Json::Number(number) => Ok(Bytes::from(number.to_string())),
            Json::Bool(truth) => Ok(Bytes::from(truth.to_string())),
            Json::Null => Ok(Bytes::from_static(b"null")),
            Json::Array(_) | Json::Object(_) => Err(Refusal::Bad(
                "ERR failed to parse command: an argument is neither text nor number; send it as JSON text"
                    .into(),
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn call(method: &str, uri: &str, body: &str) -> Result<Call, Refusal> {
        let (head, ()) = Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        parse(&head, &Bytes::from(body.to_owned()), 3)
    }

    fn single(arguments: &[&str]) -> Call {
        Call::Single(arguments.iter().map(|a| Bytes::from(a.to_string())).collect())
    }

    #[test]
    fn commands_come_by_path_body_and_query() {
        assert_eq!(
            call("GET", "/get/a%2Fb%20c", "").unwrap(),
            single(&["get", "a/b c"])
        );
        assert_eq!(
            call("POST", "/set/foo?EX=100&NX&_token=x", "bar").unwrap(),
            single(&["set", "foo", "bar", "EX", "100", "NX"])
        );
        assert_eq!(call("GET", "/set/foo/", "").unwrap(), single(&["set", "foo", ""]));
        assert_eq!(
            call("POST", "/", r#"["SET","k",1.5,true,null]"#).unwrap(),
            single(&["SET", "k", "1.5", "true", "null"])
        );
        assert!(
            matches!(call("POST", "/pipeline", r#"[["PING"],["PING"]]"#).unwrap(), Call::Pipeline(c) if c.len() == 2)
        );
        assert!(matches!(
            call("POST", "/multi-exec", r#"[["PING"]]"#).unwrap(),
            Call::Transaction(_)
        ));
    }

    #[test]
    fn nonsense_is_refused() {
        for body in ["", "{}", "[[", r#"["SET",{}]"#, "5"] {
            assert!(matches!(call("POST", "/", body), Err(Refusal::Bad(_))), "{body}");
        }
        for body in ["[]", "{}", r#"[["A"],["A"],["A"],["A"]]"#, r#"["PING"]"#] {
            assert!(
                matches!(call("POST", "/pipeline", body), Err(Refusal::Bad(_))),
                "{body}"
            );
        }
        assert!(matches!(call("GET", "/pipeline", ""), Err(Refusal::Method)));
    }
}
