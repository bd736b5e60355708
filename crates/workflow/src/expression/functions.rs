//! The functions.

use super::evaluate::Evaluation;
use super::parser::{Function, Node};
use super::value::Value;
use super::{Error, fold, json};

pub(super) fn call(
    evaluation: &mut Evaluation<'_>,
    function: Function,
    parameters: &[Node],
) -> Result<Value, Error> {
    match function {
        Function::Case => case(evaluation, parameters),
        Function::Contains => contains(evaluation, parameters).map(Value::Boolean),
        Function::StartsWith => compare_texts(evaluation, parameters, |text, part| text.starts_with(part)),
        Function::EndsWith => compare_texts(evaluation, parameters, |text, part| text.ends_with(part)),
        Function::Format => format(evaluation, parameters),
        Function::Join => join(evaluation, parameters),
        Function::ToJson => {
            let value = first(evaluation, parameters)?;
            let text = json::write(&value);
            evaluation.grow(text.len())?;
            Ok(Value::String(text))
        }
        Function::FromJson => {
            let text = first(evaluation, parameters)?.to_text();
            evaluation.grow(text.len())?;
            json::read(&text).map_err(|error| Error::evaluation(format!("Error parsing fromJson: {error}")))
        }
        Function::Always => Ok(Value::Boolean(true)),
        Function::Cancelled => Ok(Value::Boolean(evaluation.scope.functions.cancelled())),
        Function::Success => {
            let jobs = texts(evaluation, parameters)?;
            Ok(Value::Boolean(evaluation.scope.functions.success(&jobs)))
        }
        Function::Failure => {
            let jobs = texts(evaluation, parameters)?;
            Ok(Value::Boolean(evaluation.scope.functions.failure(&jobs)))
        }
        Function::HashFiles => {
            let patterns = texts(evaluation, parameters)?;
            let hash = evaluation.scope.functions.hash_files(&patterns);
            hash.map(Value::String).map_err(Error::evaluation)
        }
        Function::Unknown => Err(Error::evaluation("a function without a meaning was called")),
    }
}

fn first(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<Value, Error> {
    nth(evaluation, parameters, 0)
}

fn nth(evaluation: &mut Evaluation<'_>, parameters: &[Node], at: usize) -> Result<Value, Error> {
    match parameters.get(at) {
        Some(node) => evaluation.value(node),
        None => Ok(Value::Null),
    }
}

fn texts(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<Vec<String>, Error> {
    let all = parameters.iter();
    all.map(|node| Ok(evaluation.value(node)?.to_text())).collect()
}

fn case(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<Value, Error> {
    let (pairs, otherwise) = parameters.as_chunks::<2>();
    for [predicate, result] in pairs {
        match evaluation.value(predicate)? {
            Value::Boolean(true) => return evaluation.value(result),
            Value::Boolean(false) => {}
            _ => {
                return Err(Error::evaluation(
                    "case predicate must evaluate to a boolean value",
                ));
            }
        }
    }
    first(evaluation, otherwise)
}

fn contains(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<bool, Error> {
    let left = first(evaluation, parameters)?;
    match &left {
        Value::Array(array) if !array.items().is_empty() => {
            let wanted = nth(evaluation, parameters, 1)?;
            Ok(array.items().iter().any(|item| wanted.equals(item)))
        }
        Value::Array(_) | Value::Object(_) => Ok(false),
        _ => {
            let right = nth(evaluation, parameters, 1)?;
            let found = || fold::upper(&left.to_text()).contains(&fold::upper(&right.to_text()));
            Ok(right.is_primitive() && found())
        }
    }
}

/// Without regard to case; false where one of them is no text and does not become one.
fn compare_texts(
    evaluation: &mut Evaluation<'_>,
    parameters: &[Node],
    holds: fn(&str, &str) -> bool,
) -> Result<Value, Error> {
    let left = first(evaluation, parameters)?;
    if !left.is_primitive() {
        return Ok(Value::Boolean(false));
    }
    let right = nth(evaluation, parameters, 1)?;
    let held = right.is_primitive() && holds(&fold::upper(&left.to_text()), &fold::upper(&right.to_text()));
    Ok(Value::Boolean(held))
}

fn join(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<Value, Error> {
    let items = match first(evaluation, parameters)? {
        Value::Array(array) => array,
        Value::Object(_) => return Ok(Value::String(String::new())),
        other => return Ok(Value::String(other.to_text())),
    };
    let mut separator = ",".to_owned();
    if items.items().len() > 1 && parameters.len() > 1 {
        let given = nth(evaluation, parameters, 1)?;
        if given.is_primitive() {
            separator = given.to_text();
        }
    }
    let mut text = String::new();
    for (index, item) in items.items().iter().enumerate() {
        let before = text.len();
        if index > 0 {
            text.push_str(&separator);
        }
        text.push_str(&item.to_text());
        evaluation.grow(text.len() - before)?;
    }
    Ok(Value::String(text))
}

/// A piece of a format string.
enum Piece<'a> {
    Text(&'a str),
    /// A parameter, and what stands after its colon.
    Parameter(usize, String),
}

fn format(evaluation: &mut Evaluation<'_>, parameters: &[Node]) -> Result<Value, Error> {
    let template = first(evaluation, parameters)?.to_text();
    // All of it is read before a parameter is evaluated.
    let pieces = pieces(&template, parameters.len().saturating_sub(1))?;
    let mut values: Vec<Option<Value>> = vec![None; parameters.len()];
    let mut text = String::new();
    for piece in pieces {
        let before = text.len();
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Parameter(at, specifiers) => {
                let value = match values.get(at).cloned().flatten() {
                    Some(value) => value,
                    None => {
                        let value = nth(evaluation, parameters, at + 1)?;
                        values[at] = Some(value.clone());
                        value
                    }
                };
                if !specifiers.is_empty() {
                    return Err(Error::evaluation(format!(
                        "The format specifiers '{specifiers}' are not valid for objects of type '{}'",
                        value.kind().name()
                    )));
                }
                text.push_str(&value.to_text());
            }
        }
        evaluation.grow(text.len() - before)?;
    }
    Ok(Value::String(text))
}

fn pieces(template: &str, given: usize) -> Result<Vec<Piece<'_>>, Error> {
    let invalid = || Error::evaluation(format!("The following format string is invalid: {template}"));
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        let (doubled, after) = (brace[1..].starts_with(&brace[..1]), &brace[1..]);
        if doubled {
            pieces.push(Piece::Text(&rest[..=at]));
            rest = &after[1..];
            continue;
        }
        if brace.starts_with('}') {
            return Err(invalid());
        }
        let (index, specifiers, after) = placeholder(after).ok_or_else(invalid)?;
        if index >= given {
            return Err(Error::evaluation(format!(
                "The following format string references more arguments than were supplied: {template}"
            )));
        }
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Parameter(index, specifiers));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// `DIGITS}` or `DIGITS:SPECIFIERS}`, and what comes after it.
fn placeholder(text: &str) -> Option<(usize, String, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let index: u8 = text[..digits].parse().ok()?;
    let mut rest = &text[digits..];
    let mut specifiers = String::new();
    if let Some(after) = rest.strip_prefix(':') {
        rest = after;
        loop {
            let end = rest.find('}')?;
            specifiers.push_str(&rest[..end]);
            if !rest[end + 1..].starts_with('}') {
                rest = &rest[end..];
                break;
            }
            specifiers.push('}');
            rest = &rest[end + 2..];
        }
    }
    Some((usize::from(index), specifiers, rest.strip_prefix('}')?))
}
