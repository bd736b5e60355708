//! Functions, as they are written.

use super::ExpressionError;
use super::call::{Call, Function, Replacement, Step};
use super::check::{Check, Order, regex};
use super::error::nearest;
use super::lex::Token;
use super::parse::{Operand, Parser, Test};
use super::value::{Part, Pick, Source, Type, Value};

const NAMES: &[&str] = &[
    "all",
    "any",
    "concat",
    "decode_base64",
    "ends_with",
    "has_key",
    "has_value",
    "len",
    "lookup_json_integer",
    "lookup_json_string",
    "lower",
    "regex_replace",
    "remove_bytes",
    "starts_with",
    "substring",
    "to_string",
    "upper",
    "url_decode",
];

/// Functions of rules that rewrite: they would make a filter depend on chance, or on what is nowhere else.
const REWRITING: &[&str] = &[
    "uuidv4",
    "wildcard_replace",
    "remove_query_args",
    "encode_base64",
    "sha256",
];

type Result<T> = std::result::Result<T, ExpressionError>;

/// Behind the opening parenthesis, up to the closing one.
pub(super) fn call(parser: &mut Parser<'_>, name: &str, at: usize) -> Result<Operand> {
    let function = match name {
        "any" => {
            let (value, check) = parser.comparison_of_many(name)?;
            return Ok(Operand::Test(Test::Any(value, check)));
        }
        "all" => {
            let (value, check) = parser.comparison_of_many(name)?;
            return Ok(Operand::Test(Test::All(value, check)));
        }
        "has_key" | "has_value" => return has(parser, name),
        "len" => return len(parser),
        "concat" => {
            let mut values = vec![value(parser, &[Type::Bytes])?];
            while parser.sign(",")? {
                values.push(value(parser, &[Type::Bytes])?);
            }
            if values.iter().filter(|value| value.is_many()).count() > 1 {
                return Err(ExpressionError::new(
                    at,
                    "'[*]' can be in one argument of concat() only",
                ));
            }
            return made(Function::Concat, values);
        }
        "lower" => Function::Lower,
        "upper" => Function::Upper,
        "decode_base64" => Function::DecodeBase64,
        "to_string" => {
            let one = value(parser, &[Type::Int, Type::Ip, Type::Bool])?;
            return made(Function::ToString, vec![one]);
        }
        "starts_with" | "ends_with" => {
            let one = value(parser, &[Type::Bytes])?;
            parser.expect(",")?;
            let text = parser.text()?.into();
            let function = if name == "starts_with" {
                Function::StartsWith(text)
            } else {
                Function::EndsWith(text)
            };
            return made(function, vec![one]);
        }
        "remove_bytes" => {
            let one = value(parser, &[Type::Bytes])?;
            parser.expect(",")?;
            let mut removed = Box::new([false; 256]);
            for byte in parser.text()? {
                removed[usize::from(byte)] = true;
            }
            return made(Function::RemoveBytes(removed), vec![one]);
        }
        "substring" => {
            let one = value(parser, &[Type::Bytes])?;
            parser.expect(",")?;
            let start = parser.int()?;
            let end = if parser.sign(",")? {
                Some(parser.int()?)
            } else {
                None
            };
            return made(Function::Substring(start, end), vec![one]);
        }
        "url_decode" => {
            let one = value(parser, &[Type::Bytes])?;
            let options = if parser.sign(",")? {
                options(parser)?
            } else {
                Vec::new()
            };
            let function = Function::UrlDecode {
                again: options.contains(&b'r'),
                unicode: options.contains(&b'u'),
            };
            return made(function, vec![one]);
        }
        "lookup_json_string" => return lookup(parser, Type::Bytes),
        "lookup_json_integer" => return lookup(parser, Type::Int),
        "regex_replace" => return replace(parser, at),
        _ => return Err(unknown(name, at)),
    };
    let one = value(parser, &[Type::Bytes])?;
    made(function, vec![one])
}

fn made(function: Function, values: Vec<Value>) -> Result<Operand> {
    Ok(Operand::Value(Value::Call(Box::new(Call { function, values }))))
}

fn unknown(name: &str, at: usize) -> ExpressionError {
    if REWRITING.contains(&name) {
        return ExpressionError::new(
            at,
            format!("{name}() is of rules that rewrite, and not of those that filter"),
        );
    }
    let mut error = ExpressionError::new(at, format!("unknown function '{name}'"));
    error.hint = nearest(name, NAMES.iter().copied()).map(|near| format!("did you mean '{near}'?"));
    error
}

/// An argument that is one value, or many.
fn value(parser: &mut Parser<'_>, kinds: &[Type]) -> Result<Value> {
    let start = parser.start;
    match parser.operand()? {
        Operand::Value(value) if kinds.contains(&value.kind()) => Ok(value),
        Operand::Value(value) => {
            let kinds: Vec<_> = kinds.iter().map(Type::to_string).collect();
            let what = format!("expected {}, found {}", kinds.join(" or "), value.kind());
            Err(ExpressionError::new(start, what))
        }
        Operand::Array(_) | Operand::Map(_) => {
            Err(ExpressionError::new(start, "expected one value, found many")
                .hint("take one with [\"name\"][0], or each with [*]"))
        }
        Operand::Test(_) => Err(ExpressionError::new(start, "expected a value, found a test")),
    }
}

/// `has_key(map, "name")`, `has_value(array, "value")`.
fn has(parser: &mut Parser<'_>, name: &str) -> Result<Operand> {
    let start = parser.start;
    let source = parser.operand()?;
    parser.expect(",")?;
    let text = parser.text()?.into_boxed_slice();
    match (source, name) {
        (Operand::Map(collection), "has_key") => {
            let source = Source {
                collection,
                part: Part::Of(text),
            };
            Ok(Operand::Test(Test::One(
                Value::Count(source),
                Check::Int(Order::Greater, 0),
            )))
        }
        (Operand::Map(collection), _) => {
            let source = Source {
                collection,
                part: Part::Values,
            };
            Ok(Operand::Test(Test::Any(
                Value::Items(source, Pick::All),
                Check::Bytes(Order::Equal, text),
            )))
        }
        (Operand::Array(source), "has_value") => Ok(Operand::Test(Test::Any(
            Value::Items(source, Pick::All),
            Check::Bytes(Order::Equal, text),
        ))),
        _ => {
            let of = if name == "has_key" {
                "a map, such as http.request.headers"
            } else {
                "an array or a map"
            };
            Err(ExpressionError::new(start, format!("{name}() is of {of}")))
        }
    }
}

/// Of a string its bytes, of an array its elements.
fn len(parser: &mut Parser<'_>) -> Result<Operand> {
    let start = parser.start;
    match parser.operand()? {
        Operand::Value(value) if value.kind() == Type::Bytes => made(Function::Len, vec![value]),
        Operand::Array(source) => Ok(Operand::Value(Value::Count(source))),
        _ => Err(ExpressionError::new(start, "len() is of a string or an array")),
    }
}

fn options(parser: &mut Parser<'_>) -> Result<Vec<u8>> {
    let start = parser.start;
    let options = parser.text()?;
    if options.iter().all(|option| matches!(option, b'r' | b'u')) {
        return Ok(options);
    }
    Err(ExpressionError::new(
        start,
        "the options of url_decode() are 'r' (again and again) and 'u' (%uHHHH)",
    ))
}

fn lookup(parser: &mut Parser<'_>, kind: Type) -> Result<Operand> {
    let one = value(parser, &[Type::Bytes])?;
    let mut steps = Vec::new();
    while parser.sign(",")? {
        let start = parser.start;
        steps.push(match parser.token.clone() {
            Token::Bare(word) if word.parse::<u32>().is_ok() => {
                parser.advance()?;
                Step::Index(word.parse().unwrap_or_default())
            }
            _ => {
                let key = String::from_utf8(parser.text()?);
                let key = key.map_err(|_| ExpressionError::new(start, "a key of JSON is UTF-8"))?;
                Step::Key(key.into())
            }
        });
    }
    if steps.is_empty() {
        return Err(parser.unexpected("',' and a key"));
    }
    made(Function::LookupJson(steps.into(), kind), vec![one])
}

/// `regex_replace(source, "pattern", "replacement")`: the first match only, and once in an expression, as at Cloudflare.
fn replace(parser: &mut Parser<'_>, at: usize) -> Result<Operand> {
    if std::mem::replace(&mut parser.replaced, true) {
        return Err(ExpressionError::new(
            at,
            "regex_replace() can be used once in an expression",
        ));
    }
    let one = value(parser, &[Type::Bytes])?;
    parser.expect(",")?;
    let start = parser.start;
    let pattern = String::from_utf8(parser.text()?);
    let pattern = pattern.map_err(|_| ExpressionError::new(start, "this pattern is no UTF-8"))?;
    parser.pattern(start)?;
    let regex = regex(&pattern).map_err(|error| ExpressionError::new(start, error))?;
    parser.expect(",")?;
    let start = parser.start;
    let replacement = pieces(&parser.text()?);
    let groups = regex.group_info().group_len(regex_automata::PatternID::ZERO);
    let missing = replacement.iter().find_map(|piece| match piece {
        Replacement::Group(group) if *group >= groups => Some(*group),
        _ => None,
    });
    if let Some(group) = missing {
        return Err(ExpressionError::new(
            start,
            format!("the pattern has no group {group}"),
        ));
    }
    made(Function::RegexReplace(regex, replacement), vec![one])
}

/// `${1}` is a group, all else is text.
fn pieces(replacement: &[u8]) -> Box<[Replacement]> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut rest = replacement;
    while let Some((byte, behind)) = rest.split_first() {
        let group = rest.strip_prefix(b"${").and_then(|digits| {
            let end = digits.iter().position(|digit| *digit == b'}')?;
            let group: u8 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
            Some((usize::from(group), &digits[end + 1..]))
        });
        if let Some((group, behind)) = group {
            if !text.is_empty() {
                pieces.push(Replacement::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(Replacement::Group(group));
            rest = behind;
        } else {
            text.push(*byte);
            rest = behind;
        }
    }
    if !text.is_empty() {
        pieces.push(Replacement::Text(text.into()));
    }
    pieces.into()
}
