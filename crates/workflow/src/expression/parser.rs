//! Tokens to a tree. Stacks instead of recursion, because the text is a stranger's.

use super::lexer::{Kind, Lexer, Operator, Token, Unexpected};
use super::value::Value;
use super::{Allowed, Error, ErrorKind, MAX_DEPTH, MAX_LENGTH};
use std::sync::Arc;

/// A part of an expression.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Literal(Value),
    Wildcard,
    /// A context.
    Named(String),
    Call(Function, Vec<Node>),
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Compare(Operator, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

/// A function that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Case,
    Contains,
    EndsWith,
    Format,
    FromJson,
    Join,
    StartsWith,
    ToJson,
    Always,
    Cancelled,
    Failure,
    Success,
    HashFiles,
    /// Where any name may stand: it is never called.
    Unknown,
}

/// Name, function, fewest and most parameters.
type Signature = (&'static str, Function, usize, usize);
const MANY: usize = 255;
/// They are there everywhere.
const WELL_KNOWN: [Signature; 8] = [
    ("case", Function::Case, 3, MANY),
    ("contains", Function::Contains, 2, 2),
    ("endsWith", Function::EndsWith, 2, 2),
    ("format", Function::Format, 1, MANY),
    ("join", Function::Join, 1, 2),
    ("startsWith", Function::StartsWith, 2, 2),
    ("toJson", Function::ToJson, 1, 1),
    ("fromJson", Function::FromJson, 1, 1),
];
/// They must be allowed.
const SPECIAL: [(&str, Function); 5] = [
    ("always", Function::Always),
    ("cancelled", Function::Cancelled),
    ("failure", Function::Failure),
    ("success", Function::Success),
    ("hashFiles", Function::HashFiles),
];

struct Parser<'a> {
    text: &'a str,
    allowed: &'a Allowed<'a>,
    operands: Vec<Operand>,
    operators: Vec<Token<'a>>,
    /// Some part is deeper than may be, and was left out.
    too_deep: bool,
}

/// A node with its depth, and what is known of a function whose parameters are still to come.
struct Operand {
    node: Node,
    depth: usize,
    limits: (usize, usize),
}

/// None where there is no token at all.
pub(super) fn parse(text: &str, allowed: &Allowed<'_>) -> Result<Option<Arc<Node>>, Error> {
    if text.len() > MAX_LENGTH && text.encode_utf16().count() > MAX_LENGTH {
        return Err(Error::parsing(format!(
            "Exceeded max expression length {MAX_LENGTH}"
        )));
    }
    let mut parser = Parser {
        text,
        allowed,
        operands: vec![],
        operators: vec![],
        too_deep: false,
    };
    let mut lexer = Lexer::new(text);
    let mut last: Option<Token<'_>> = None;
    loop {
        let token = match lexer.next() {
            Ok(Some(token)) => token,
            Ok(None) => break,
            Err(unexpected) => return Err(parser.unexpected(&unexpected)),
        };
        if is_operator(token.kind) {
            parser.push_operator(&token, last.as_ref())?;
        } else {
            parser.push_operand(&token)?;
        }
        last = Some(token);
    }
    let Some(last) = last else { return Ok(None) };
    let ends_early = match last.kind {
        Kind::EndGroup | Kind::EndIndex | Kind::EndParameters => false,
        Kind::Function => true,
        kind => is_operator(kind),
    };
    if !parser.operators.is_empty() && (ends_early || lexer.has_open()) {
        return Err(parser.error("Unexpected end of expression", &last));
    }
    while !parser.operators.is_empty() {
        parser.flush();
    }
    let operand = parser.pop();
    if parser.too_deep || operand.depth > MAX_DEPTH {
        return Err(Error::parsing(format!(
            "Exceeded max expression depth {MAX_DEPTH}"
        )));
    }
    Ok(Some(Arc::new(operand.node)))
}

impl<'a> Parser<'a> {
    fn unexpected(&self, what: &Unexpected<'_>) -> Error {
        let error = self.located("Unexpected symbol", what.raw, what.index);
        let kind = if what.lexical {
            ErrorKind::Lexing
        } else {
            ErrorKind::Parsing
        };
        Error { kind, ..error }
    }

    fn error(&self, what: &str, token: &Token<'_>) -> Error {
        self.located(what, token.raw, token.index)
    }

    /// Positions are counted as .NET counts them: in UTF-16 units, from 1.
    fn located(&self, what: &str, raw: &str, index: usize) -> Error {
        let position = self.text[..index].encode_utf16().count() + 1;
        Error::parsing(format!(
            "{what}: '{raw}'. Located at position {position} within expression: {}",
            self.text
        ))
    }

    fn push_operand(&mut self, token: &Token<'a>) -> Result<(), Error> {
        let mut limits = (0, MANY);
        let node = match token.kind {
            Kind::Function => match self.function(token.raw) {
                Some((function, least, most)) => {
                    limits = (least, most);
                    Node::Call(function, vec![])
                }
                None => return Err(self.error("Unrecognized function", token)),
            },
            Kind::NamedValue => {
                if !self.allowed.has_context(token.raw) {
                    return Err(self.error("Unrecognized named-value", token));
                }
                Node::Named(token.raw.to_owned())
            }
            Kind::Wildcard => Node::Wildcard,
            Kind::PropertyName => Node::Literal(Value::from(token.raw)),
            _ => Node::Literal(token.value.clone()),
        };
        self.operands.push(Operand {
            node,
            depth: 1,
            limits,
        });
        Ok(())
    }

    fn function(&self, name: &str) -> Option<(Function, usize, usize)> {
        let found = WELL_KNOWN
            .iter()
            .find(|(known, ..)| known.eq_ignore_ascii_case(name));
        if let Some((_, function, least, most)) = found {
            return Some((*function, *least, *most));
        }
        let special = SPECIAL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        match (special, self.allowed.function(name)) {
            (Some((_, function)), Some((least, most))) => Some((*function, least, most)),
            (None, _) | (_, None) if self.allowed.any => Some((Function::Unknown, 0, usize::MAX)),
            _ => None,
        }
    }

    fn push_operator(&mut self, token: &Token<'a>, last: Option<&Token<'a>>) -> Result<(), Error> {
        let from_left = !matches!(token.kind, Kind::StartGroup | Kind::Operator(Operator::Not));
        while from_left
            && self.operators.last().is_some_and(|top| {
                precedence(token.kind) <= precedence(top.kind)
                    && !matches!(
                        top.kind,
                        Kind::StartGroup | Kind::StartIndex | Kind::StartParameters | Kind::Separator
                    )
            })
        {
            self.flush();
        }
        match token.kind {
            Kind::EndGroup => {
                self.operators.pop();
            }
            Kind::EndIndex => {
                self.operators.pop();
                let index = self.pop();
                let of = self.pop();
                self.push_index(of, index);
            }
            Kind::EndParameters => self.end_call(last)?,
            _ => self.operators.push(token.clone()),
        }
        Ok(())
    }

    /// `)` of a call.
    fn end_call(&mut self, last: Option<&Token<'a>>) -> Result<(), Error> {
        let mut count = usize::from(last.is_none_or(|last| last.kind != Kind::StartParameters));
        while self
            .operators
            .last()
            .is_some_and(|top| top.kind == Kind::Separator)
        {
            self.operators.pop();
            count += 1;
        }
        let start = self.operators.pop();
        let at = self.operands.len().saturating_sub(count);
        let parameters = self.operands.split_off(at);
        let call = self.pop();
        let Node::Call(function, _) = call.node else {
            return Err(Error::parsing("a call without a function".into()));
        };
        let (least, most) = call.limits;
        let wrong = if count < least {
            Some("Too few parameters supplied")
        } else if count > most {
            Some("Too many parameters supplied")
        } else if function == Function::Case && count.is_multiple_of(2) {
            Some("Even number of parameters supplied, requires an odd number of parameters")
        } else {
            None
        };
        if let (Some(wrong), Some(start)) = (wrong, start) {
            return Err(self.error(wrong, &self.name_before(&start)));
        }
        let depth = 1 + parameters.iter().map(|part| part.depth).max().unwrap_or(0);
        let parameters = parameters.into_iter().map(|part| part.node).collect();
        self.push(Node::Call(function, parameters), depth);
        Ok(())
    }

    /// The name of the function whose parameters begin here.
    fn name_before(&self, start: &Token<'a>) -> Token<'a> {
        let before = self.text[..start.index].trim_end();
        let begins = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        Token {
            kind: Kind::Function,
            raw: &before[begins..],
            index: begins,
            value: Value::Null,
        }
    }

    /// Applies the operator on top.
    fn flush(&mut self) {
        let Some(token) = self.operators.pop() else { return };
        match token.kind {
            Kind::Dereference => {
                let index = self.pop();
                let of = self.pop();
                self.push_index(of, index);
            }
            Kind::Operator(Operator::Not) => {
                let of = self.pop();
                self.push(Node::Not(Box::new(of.node)), of.depth + 1);
            }
            Kind::Operator(operator @ (Operator::And | Operator::Or)) => {
                let right = self.pop();
                let left = self.pop();
                self.push_logical(operator, left, right);
            }
            Kind::Operator(operator) => {
                let right = self.pop();
                let left = self.pop();
                let depth = 1 + left.depth.max(right.depth);
                self.push(
                    Node::Compare(operator, Box::new(left.node), Box::new(right.node)),
                    depth,
                );
            }
            _ => {}
        }
    }

    fn push_index(&mut self, of: Operand, index: Operand) {
        let depth = 1 + of.depth.max(index.depth);
        self.push(Node::Index(Box::new(of.node), Box::new(index.node)), depth);
    }

    /// What is of the same operator becomes one node: `a && b && c` is one level deep.
    fn push_logical(&mut self, operator: Operator, left: Operand, right: Operand) {
        let part_of = |operand: &Operand| match (&operand.node, operator) {
            (Node::And(_), Operator::And) | (Node::Or(_), Operator::Or) => operand.depth - 1,
            _ => operand.depth,
        };
        let depth = part_of(&left).max(part_of(&right));
        let parts_of = |node| match (node, operator) {
            (Node::And(nested), Operator::And) | (Node::Or(nested), Operator::Or) => nested,
            (node, _) => vec![node],
        };
        let mut parts = parts_of(left.node);
        parts.extend(parts_of(right.node));
        let node = match operator {
            Operator::And => Node::And(parts),
            _ => Node::Or(parts),
        };
        self.push(node, depth + 1);
    }

    /// What is too deep is not kept, so that no tree is deep enough to overflow a stack.
    fn push(&mut self, node: Node, depth: usize) {
        self.too_deep |= depth > MAX_DEPTH;
        let node = if depth > MAX_DEPTH {
            Node::Literal(Value::Null)
        } else {
            node
        };
        self.operands.push(Operand {
            node,
            depth,
            limits: (0, MANY),
        });
    }

    /// The lexer lets through only what has its operands.
    fn pop(&mut self) -> Operand {
        self.operands.pop().unwrap_or(Operand {
            node: Node::Literal(Value::Null),
            depth: 1,
            limits: (0, MANY),
        })
    }
}

fn is_operator(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Literal | Kind::PropertyName | Kind::Function | Kind::NamedValue | Kind::Wildcard
    )
}

fn precedence(kind: Kind) -> u8 {
    match kind {
        Kind::StartGroup => 20,
        Kind::StartIndex | Kind::StartParameters | Kind::Dereference => 19,
        Kind::Operator(operator) => match operator {
            Operator::Not => 16,
            Operator::Greater | Operator::GreaterOrEqual | Operator::Less | Operator::LessOrEqual => 11,
            Operator::Equal | Operator::NotEqual => 10,
            Operator::And => 6,
            Operator::Or => 5,
        },
        Kind::EndGroup | Kind::EndIndex | Kind::EndParameters | Kind::Separator => 1,
        _ => 0,
    }
}

impl Node {
    /// Whether it, or a part of it, calls one of these.
    pub(super) fn calls(&self, functions: &[Function]) -> bool {
        match self {
            Self::Literal(_) | Self::Wildcard | Self::Named(_) => false,
            Self::Call(function, parts) => {
                functions.contains(function) || parts.iter().any(|part| part.calls(functions))
            }
            Self::Index(left, right) | Self::Compare(_, left, right) => {
                left.calls(functions) || right.calls(functions)
            }
            Self::Not(of) => of.calls(functions),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.calls(functions)),
        }
    }
}
