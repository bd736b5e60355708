//! Functions, as they are written.

use super::ExpressionError;
use super::call::{Call, Function, Step};
use super::check::{Check, Order};
use super::error::nearest;
use super::field::Field;
use super::lex::Token;
use super::parse::{Operand, Parser, Test};
use super::replace;
use super::value::{Part, Pick, Source, Type, Value};

const NAMES: &[&str] = &[
    "all",
    "any",
    "cidr",
    "cidr6",
    "concat",
    "decode_base64",
    "ends_with",
    "has_key",
    "has_value",
    "join",
    "len",
    "lookup_json_integer",
    "lookup_json_string",
    "lower",
    "regex_replace",
    "remove_bytes",
    "remove_query_args",
    "split",
    "starts_with",
    "substring",
    "to_string",
    "upper",
    "url_decode",
    "wildcard_replace",
];

/// Functions of Cloudflare's that are none here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("encode_base64", REWRITING),
    ("sha256", REWRITING),
    ("uuidv4", REWRITING),
    (
        "is_timed_hmac_valid_v0",
        "is not here: its key would stand in the manifest; let the application check signed links",
    ),
    ("bit_slice", "is of packets; expressions are asked about requests"),
];
const REWRITING: &str = "is of rules that rewrite, and not of those that filter";

/// Elements of `split` at most, as at Cloudflare.
const MAX_SPLIT: i64 = 128;

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
        "cidr" => {
            let one = value(parser, &[Type::Ip])?;
            let four = bits(parser, 32)?;
            let six = bits(parser, 128)?;
            return made(Function::Cidr(four, six), vec![one]);
        }
        "cidr6" => {
            let one = value(parser, &[Type::Ip])?;
            let six = bits(parser, 128)?;
            return made(Function::Cidr(32, six), vec![one]);
        }
        "join" => return join(parser),
        "split" => {
            let one = value(parser, &[Type::Bytes])?;
            parser.expect(",")?;
            let start = parser.start;
            let separator = parser.text()?;
            if separator.is_empty() {
                return Err(ExpressionError::new(start, "split() is at something"));
            }
            parser.expect(",")?;
            let start = parser.start;
            let limit = parser.int()?;
            if !(1..=MAX_SPLIT).contains(&limit) {
                return Err(ExpressionError::new(start, "split() makes 1 to 128 elements"));
            }
            let limit = usize::try_from(limit).unwrap_or(1);
            return made(Function::Split(separator.into(), limit), vec![one]);
        }
        "remove_query_args" => {
            let start = parser.start;
            let one = value(parser, &[Type::Bytes])?;
            if !matches!(one, Value::Field(Field::Query, _)) {
                let what = "remove_query_args() is of http.request.uri.query";
                return Err(ExpressionError::new(start, what));
            }
            let mut names = Vec::new();
            while parser.sign(",")? {
                names.push(parser.text()?.into());
            }
            if names.is_empty() {
                return Err(parser.unexpected("',' and the name of an argument"));
            }
            return made(Function::RemoveQueryArgs(names.into()), vec![one]);
        }
        "wildcard_replace" => return replace::wildcards(parser, at),
        "lookup_json_string" => return lookup(parser, Type::Bytes),
        "lookup_json_integer" => return lookup(parser, Type::Int),
        "regex_replace" => return replace::pattern(parser, at),
        _ => return Err(unknown(name, at)),
    };
    let one = value(parser, &[Type::Bytes])?;
    made(function, vec![one])
}

pub(super) fn made(function: Function, values: Vec<Value>) -> Result<Operand> {
    Ok(Operand::Value(Value::Call(Box::new(Call { function, values }))))
}

fn unknown(name: &str, at: usize) -> ExpressionError {
    if let Some((_, why)) = ELSEWHERE.iter().find(|(known, _)| *known == name) {
        return ExpressionError::new(at, format!("{name}() {why}"));
    }
    let mut error = ExpressionError::new(at, format!("unknown function '{name}'"));
    error.hint = nearest(name, NAMES.iter().copied()).map(|near| format!("did you mean '{near}'?"));
    error
}

/// An argument that is one value, or many.
pub(super) fn value(parser: &mut Parser<'_>, kinds: &[Type]) -> Result<Value> {
    let start = parser.start;
    match parser.operand()? {
        Operand::Value(value) | Operand::Many(value) if kinds.contains(&value.kind()) => Ok(value),
        Operand::Value(value) | Operand::Many(value) => {
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
        (Operand::Many(value), "has_value") => {
            Ok(Operand::Test(Test::Any(value, Check::Bytes(Order::Equal, text))))
        }
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
        Operand::Many(value) => Ok(Operand::Value(Value::CountOf(Box::new(value)))),
        _ => Err(ExpressionError::new(start, "len() is of a string or an array")),
    }
}

/// `join(array, "separator")`.
fn join(parser: &mut Parser<'_>) -> Result<Operand> {
    let start = parser.start;
    let many = match parser.operand()? {
        Operand::Array(source) => Value::Items(source, Pick::All),
        Operand::Many(value) if value.kind() == Type::Bytes => value,
        _ => return Err(ExpressionError::new(start, "join() is of an array of strings")),
    };
    parser.expect(",")?;
    let separator = parser.text()?.into();
    made(Function::Join(separator), vec![many])
}

/// Bits of a network, behind a comma.
fn bits(parser: &mut Parser<'_>, most: i64) -> Result<u8> {
    parser.expect(",")?;
    let start = parser.start;
    let bits = parser.int()?;
    match u8::try_from(bits) {
        Ok(bits @ 1..) if i64::from(bits) <= most => Ok(bits),
        _ => Err(ExpressionError::new(start, format!("bits are 1 to {most}"))),
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
