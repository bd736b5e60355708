//! The value of a tree. It is at most [`super::MAX_DEPTH`] deep, so that recursion is bounded.

use super::lexer::Operator;
use super::parser::Node;
use super::value::{Array, Object, Value};
use super::{Error, MAX_MEMORY, Scope, functions};
use std::cmp::Ordering;

/// One evaluation, and how much it has made.
pub(super) struct Evaluation<'a> {
    pub(super) scope: &'a Scope<'a>,
    source: &'a str,
    made: usize,
}

pub(super) fn evaluate(root: &Node, source: &str, scope: &Scope<'_>) -> Result<Value, Error> {
    let mut evaluation = Evaluation {
        scope,
        source,
        made: 0,
    };
    evaluation.value(root)
}

impl Evaluation<'_> {
    pub(super) fn value(&mut self, node: &Node) -> Result<Value, Error> {
        match node {
            Node::Literal(value) => Ok(value.clone()),
            Node::Wildcard => Ok(Value::Null),
            Node::Named(name) => Ok(self.scope.contexts.get(name).cloned().unwrap_or_default()),
            Node::Call(function, parameters) => functions::call(self, *function, parameters),
            Node::Index(of, index) => self.index(of, index),
            Node::Not(of) => Ok(Value::Boolean(!self.value(of)?.is_truthy())),
            Node::Compare(operator, left, right) => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                Ok(Value::Boolean(compare(*operator, &left, &right)))
            }
            Node::And(parts) => self.first(parts, false),
            Node::Or(parts) => self.first(parts, true),
        }
    }

    /// The first that counts as this, or the last.
    fn first(&mut self, parts: &[Node], wanted: bool) -> Result<Value, Error> {
        let mut value = Value::Null;
        for part in parts {
            value = self.value(part)?;
            if value.is_truthy() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn index(&mut self, of: &Node, index: &Node) -> Result<Value, Error> {
        let all = matches!(index, Node::Wildcard);
        let of = self.value(of)?;
        let is_filtered = matches!(&of, Value::Array(array) if array.filtered);
        if of.is_primitive() {
            return Ok(if all { Array::filtered(vec![]) } else { Value::Null });
        }
        let index = self.value(index)?;
        if !all && !is_filtered {
            return Ok(item(&of, &index).cloned().unwrap_or_default());
        }
        let found: Vec<Value> = match &of {
            Value::Array(array) if array.filtered && all => {
                array.items().iter().flat_map(children).cloned().collect()
            }
            Value::Array(array) if array.filtered => {
                let items = array.items().iter();
                items.filter_map(|value| item(value, &index)).cloned().collect()
            }
            _ => children(&of).cloned().collect(),
        };
        self.grow(found.len() * size_of::<Value>())?;
        Ok(Array::filtered(found))
    }

    /// Counts what is made, so that a short expression cannot take all memory.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        self.made = self.made.saturating_add(bytes);
        if self.made <= MAX_MEMORY {
            return Ok(());
        }
        Err(Error::evaluation(format!(
            "The maximum allowed memory size was exceeded while evaluating the following expression: {}",
            self.source
        )))
    }
}

fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    let less = || left.order(right) == Some(Ordering::Less);
    let greater = || left.order(right) == Some(Ordering::Greater);
    match operator {
        Operator::Equal => left.equals(right),
        Operator::NotEqual => !left.equals(right),
        Operator::Less => less(),
        Operator::LessOrEqual => left.equals(right) || less(),
        Operator::Greater => greater(),
        Operator::GreaterOrEqual => left.equals(right) || greater(),
        Operator::Not | Operator::And | Operator::Or => false,
    }
}

/// What `*` gives.
fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(array) => Box::new(array.items().iter()),
        Value::Object(object) => Box::new(object.iter().map(|(_, value)| value)),
        _ => Box::new(std::iter::empty()),
    }
}

fn item<'a>(of: &'a Value, index: &Value) -> Option<&'a Value> {
    match of {
        Value::Array(array) => array.items().get(position(index)?),
        Value::Object(object) => named(object, index),
        _ => None,
    }
}

fn named<'a>(object: &'a Object, index: &Value) -> Option<&'a Value> {
    index
        .is_primitive()
        .then(|| object.get(&index.to_text()))
        .flatten()
}

/// The index that a value counts as.
fn position(index: &Value) -> Option<usize> {
    let number = index.to_number().floor();
    (0.0..=f64::from(i32::MAX))
        .contains(&number)
        .then_some(number as usize)
}
