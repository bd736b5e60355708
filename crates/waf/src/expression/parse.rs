//! From text to a checked, compiled test. Every value has its type when it is read, so that what is wrong is said at the
//! place where it stands.

use memchr::memmem::Finder;

use super::check::{Check, Order, regex, wildcard};
use super::error::ExpressionError;
use super::field::{self, Collection, Field, Named};
use super::lex::{self, Token};
use super::list::Lists;
use super::value::{Part, Pick, Source, Type, Value};
use super::{MAX_BYTES, MAX_DEPTH, MAX_PATTERNS, Needs, function};

/// A compiled test.
#[derive(Debug, Clone)]
pub(super) enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Xor(Box<Test>, Box<Test>),
    Not(Box<Test>),
    /// A comparison.
    One(Value, Check),
    /// Whether it holds for any of many.
    Any(Value, Check),
    /// Whether it holds for all of many.
    All(Value, Check),
}

/// Something that a comparison, an index or a function can be of.
pub(super) enum Operand {
    Value(Value),
    Array(Source),
    /// What a function makes of each of many, or its many parts: an array, too.
    Many(Value),
    Map(Collection),
    /// A function that decides by itself.
    Test(Test),
}

pub(super) struct Parser<'s> {
    source: &'s str,
    pub(super) lists: &'s Lists,
    /// The word that is next.
    pub(super) token: Token<'s>,
    /// Where it begins.
    pub(super) start: usize,
    /// Where it ends.
    end: usize,
    depth: usize,
    patterns: usize,
    /// Whether `regex_replace` was used: once is allowed.
    pub(super) replaced: bool,
    needs: Needs,
}

pub(super) type Result<T> = std::result::Result<T, ExpressionError>;

pub(super) fn expression(source: &str, lists: &Lists) -> Result<(Test, Needs)> {
    if source.len() > MAX_BYTES {
        let what = format!(
            "the expression has {} bytes, and may have {MAX_BYTES}",
            source.len()
        );
        return Err(ExpressionError::new(MAX_BYTES, what).hint("put values into a list: in $name"));
    }
    let mut parser = Parser {
        source,
        lists,
        token: Token::End,
        start: 0,
        end: 0,
        depth: 0,
        patterns: 0,
        replaced: false,
        needs: Needs::default(),
    };
    parser.advance()?;
    let test = parser.or()?;
    match &parser.token {
        Token::End => Ok((test, parser.needs)),
        _ => Err(parser.unexpected("'and', 'or' or the end of the expression")),
    }
}

impl<'s> Parser<'s> {
    fn or(&mut self) -> Result<Test> {
        let mut all = vec![self.xor()?];
        while self.operator("or", "||")? {
            all.push(self.xor()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Test::Or(all)
        })
    }

    fn xor(&mut self) -> Result<Test> {
        let mut test = self.and()?;
        while self.operator("xor", "^^")? {
            test = Test::Xor(Box::new(test), Box::new(self.and()?));
        }
        Ok(test)
    }

    fn and(&mut self) -> Result<Test> {
        let mut all = vec![self.not()?];
        while self.operator("and", "&&")? {
            all.push(self.not()?);
        }
        Ok(if all.len() == 1 {
            all.remove(0)
        } else {
            Test::And(all)
        })
    }

    fn not(&mut self) -> Result<Test> {
        let mut negated = false;
        while self.operator("not", "!")? {
            negated = !negated;
        }
        let test = if self.token == Token::Sign("(") {
            self.enter()?;
            self.advance()?;
            let test = self.or()?;
            self.expect(")")?;
            self.depth -= 1;
            test
        } else {
            self.comparison()?
        };
        Ok(if negated { Test::Not(Box::new(test)) } else { test })
    }

    fn comparison(&mut self) -> Result<Test> {
        let start = self.start;
        match self.operand()? {
            Operand::Test(test) => Ok(test),
            Operand::Value(value) | Operand::Many(value) => {
                if value.is_many() {
                    return Err(ExpressionError::new(
                        start,
                        "'[*]' is many values, and a comparison is of one",
                    )
                    .hint("write any(… [*] …) or all(… [*] …)"));
                }
                let check = self.check(&value, start)?;
                Ok(Test::One(value, check))
            }
            Operand::Array(_) | Operand::Map(_) => Err(self.not_one(start)),
        }
    }

    /// What is inside `any(…)` and `all(…)`.
    pub(super) fn comparison_of_many(&mut self, function: &str) -> Result<(Value, Check)> {
        let mut negated = false;
        while self.operator("not", "!")? {
            negated = !negated;
        }
        let start = self.start;
        match self.operand()? {
            Operand::Value(value) | Operand::Many(value) if value.is_many() => {
                let check = self.check(&value, start)?;
                Ok((
                    value,
                    if negated {
                        Check::Not(Box::new(check))
                    } else {
                        check
                    },
                ))
            }
            _ => {
                let what = format!("{function}() is of a comparison with '[*]' in it");
                Err(ExpressionError::new(start, what).hint(format!(
                    "write {function}(http.request.headers[\"name\"][*] eq \"value\")"
                )))
            }
        }
    }

    fn not_one(&self, start: usize) -> ExpressionError {
        ExpressionError::new(start, "this field is many values, and a comparison is of one")
            .hint("take one with [\"name\"][0], or all of them with any(… [*] …)")
    }

    /// A field with its indexes, a function, or a string.
    pub(super) fn operand(&mut self) -> Result<Operand> {
        let start = self.start;
        match self.token.clone() {
            Token::Text(text) => {
                self.advance()?;
                Ok(Operand::Value(Value::Literal(text.into())))
            }
            Token::Bare(word) => {
                self.advance()?;
                if self.token == Token::Sign("(") {
                    self.enter()?;
                    self.advance()?;
                    let operand = function::call(self, word, start)?;
                    self.expect(")")?;
                    self.depth -= 1;
                    return match operand {
                        Operand::Value(value) if value.is_many() => self.index_of_many(value),
                        operand => Ok(operand),
                    };
                }
                let Some(named) = field::named(word) else {
                    let mut error = ExpressionError::new(start, format!("unknown field '{word}'"));
                    error.hint = field::hint(word);
                    return Err(error);
                };
                self.indexes(named)
            }
            _ => Err(self.unexpected("a field or a function")),
        }
    }

    /// `[*]` or `[0]` behind a function of many.
    fn index_of_many(&mut self, value: Value) -> Result<Operand> {
        if !self.sign("[")? {
            return Ok(Operand::Many(value));
        }
        Ok(Operand::Value(match self.pick()? {
            Pick::All => value,
            Pick::At(place) => Value::Nth(Box::new(value), place),
        }))
    }

    /// Behind `[`, up to `]`.
    fn pick(&mut self) -> Result<Pick> {
        let pick = match self.token.clone() {
            Token::Sign("*") => Pick::All,
            Token::Bare(word) if word.parse::<u16>().is_ok() => Pick::At(word.parse().unwrap_or_default()),
            _ => return Err(self.unexpected("a number, counted from 0, or *")),
        };
        self.advance()?;
        self.expect("]")?;
        Ok(pick)
    }

    /// An array of arrays, each of one element: `[*][0]`.
    fn nested(&mut self, source: Source) -> Result<Operand> {
        if !self.sign("[")? {
            return Ok(Operand::Array(source));
        }
        let pick = self.pick()?;
        self.expect("[")?;
        let at = self.start;
        match (pick, self.pick()?) {
            (_, Pick::At(0)) | (Pick::All, Pick::All) => Ok(Operand::Value(Value::Items(source, pick))),
            _ => Err(ExpressionError::new(at, "each part has one of these: [0]")),
        }
    }

    fn indexes(&mut self, named: Named) -> Result<Operand> {
        let collection = match named {
            Named::One(field, kind) => {
                self.need(field);
                return Ok(Operand::Value(Value::Field(field, kind)));
            }
            Named::Map(collection)
            | Named::Names(collection)
            | Named::Values(collection)
            | Named::NestedNames(collection)
            | Named::Nested(collection) => collection,
        };
        self.needs.body |= collection.is_of_body();
        self.needs.response |= collection == Collection::ResponseHeaders;
        let part = match named {
            Named::NestedNames(_) | Named::Nested(_) => {
                let part = match named {
                    Named::NestedNames(_) => Part::Names,
                    _ => Part::Values,
                };
                return self.nested(Source { collection, part });
            }
            Named::Names(_) => Part::Names,
            Named::Values(_) => Part::Values,
            _ => {
                if !self.sign("[")? {
                    return Ok(Operand::Map(collection));
                }
                let part = match self.token.clone() {
                    Token::Text(key) => Part::Of(key.into()),
                    Token::Sign("*") => Part::Values,
                    _ => return Err(self.unexpected("a name in quotes, or *")),
                };
                self.advance()?;
                self.expect("]")?;
                part
            }
        };
        let source = Source { collection, part };
        if !self.sign("[")? {
            return Ok(Operand::Array(source));
        }
        let pick = self.pick()?;
        Ok(Operand::Value(Value::Items(source, pick)))
    }

    fn need(&mut self, field: Field) {
        self.needs.body |= matches!(field, Field::BodyRaw | Field::BodySize | Field::BodyTruncated);
        self.needs.response |= matches!(field, Field::ResponseCode | Field::ResponseMediaType);
        self.needs.place |= matches!(field, Field::Place(_));
        self.needs.country |= matches!(field, Field::Country | Field::European | Field::Place(_));
        self.needs.network |= field == Field::Asn;
    }

    /// The operator and what is right of it; true or false needs none.
    fn check(&mut self, value: &Value, start: usize) -> Result<Check> {
        let kind = value.kind();
        let at = self.start;
        let word = match self.token {
            Token::Bare(word) => word,
            Token::Sign(sign) => sign,
            _ => "",
        };
        let order = match word {
            "eq" | "==" => Some(Order::Equal),
            "ne" | "!=" => Some(Order::Unequal),
            "lt" | "<" => Some(Order::Less),
            "le" | "<=" => Some(Order::AtMost),
            "gt" | ">" => Some(Order::Greater),
            "ge" | ">=" => Some(Order::AtLeast),
            _ => None,
        };
        if kind == Type::Bool {
            return match order {
                Some(order @ (Order::Equal | Order::Unequal)) => {
                    self.advance()?;
                    let wanted = match self.token {
                        Token::Bare("true") => true,
                        Token::Bare("false") => false,
                        _ => return Err(self.unexpected("true or false")),
                    };
                    self.advance()?;
                    Ok(Check::Bool(wanted == (order == Order::Equal)))
                }
                _ => Ok(Check::Bool(true)),
            };
        }
        if let Some(order) = order {
            self.advance()?;
            return match kind {
                Type::Int => self.int().map(|wanted| Check::Int(order, wanted)),
                Type::Ip => self.ip().map(|wanted| Check::Ip(order, wanted)),
                _ => self.text().map(|wanted| Check::Bytes(order, wanted.into())),
            };
        }
        let of_text = |what: &str| {
            (kind == Type::Bytes).then_some(()).ok_or_else(|| {
                ExpressionError::new(at, format!("'{what}' is of strings, and this is {kind}"))
            })
        };
        match word {
            "contains" => {
                of_text(word)?;
                self.advance()?;
                Ok(Check::Contains(Box::new(Finder::new(&self.text()?).into_owned())))
            }
            "matches" | "~" => {
                of_text(word)?;
                (self.start, self.token, self.end) = lex::next_pattern(self.source, self.end)?;
                let at = self.start;
                let pattern = self.text()?;
                self.pattern(at)?;
                let pattern = String::from_utf8(pattern).map_err(|_| {
                    ExpressionError::new(at, "this pattern is no UTF-8").hint("write r\"\\xff\"")
                })?;
                let regex = regex(&pattern).map_err(|error| ExpressionError::new(at, error))?;
                Ok(Check::Matches(regex))
            }
            "wildcard" | "strict" => {
                of_text("wildcard")?;
                self.advance()?;
                let strict = word == "strict";
                if strict {
                    if self.token != Token::Bare("wildcard") {
                        return Err(self.unexpected("'wildcard' behind 'strict'"));
                    }
                    self.advance()?;
                }
                let at = self.start;
                let pattern = self.text()?;
                self.pattern(at)?;
                let regex = wildcard(&pattern, strict).map_err(|error| ExpressionError::new(at, error))?;
                Ok(Check::Matches(regex))
            }
            "in" => {
                self.advance()?;
                self.set(kind).map(Check::In)
            }
            _ => {
                let error = self.unexpected("an operator");
                if self.token == Token::End && start != at {
                    return Err(error.hint(format!("this is {kind}: compare it with something")));
                }
                Err(error.hint("eq, ne, lt, le, gt, ge, contains, matches, wildcard, strict wildcard or in"))
            }
        }
    }

    /// Counts a pattern.
    pub(super) fn pattern(&mut self, at: usize) -> Result<()> {
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            let what = format!("an expression has {MAX_PATTERNS} patterns at most");
            return Err(ExpressionError::new(at, what));
        }
        Ok(())
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let what = format!("nested deeper than {MAX_DEPTH}");
            return Err(ExpressionError::new(self.start, what));
        }
        Ok(())
    }

    pub(super) fn advance(&mut self) -> Result<()> {
        (self.start, self.token, self.end) = lex::next(self.source, self.end)?;
        Ok(())
    }

    /// Takes a sign, if it is next.
    pub(super) fn sign(&mut self, sign: &'static str) -> Result<bool> {
        let found = self.token == Token::Sign(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn operator(&mut self, word: &str, sign: &'static str) -> Result<bool> {
        let found = self.token == Token::Bare(word) || self.token == Token::Sign(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, sign: &'static str) -> Result<()> {
        if !self.sign(sign)? {
            return Err(self.unexpected(&format!("'{sign}'")));
        }
        Ok(())
    }

    pub(super) fn unexpected(&self, wanted: &str) -> ExpressionError {
        let found = match &self.token {
            Token::End => "the end".to_owned(),
            _ => format!("'{}'", &self.source[self.start..self.end]),
        };
        ExpressionError::new(self.start, format!("expected {wanted}, found {found}"))
    }
}
