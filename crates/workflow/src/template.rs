//! Values of a file in which `${{ }}` may stand, and what they become.

use crate::diagnostic::Place;
use crate::expression::Expression;

/// A value of a workflow file, with its place.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub node: Node,
}

/// What a [`Template`] is.
#[derive(Debug, Clone)]
pub enum Node {
    /// Nothing.
    Null,
    /// `true`, `false`.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// Text without an expression.
    String(String),
    /// A list.
    Sequence(Vec<Template>),
    /// Keys and values, in the order of the file.
    Mapping(Vec<(Template, Template)>),
    /// A lone `${{ … }}` keeps its type; text around it makes it `format('…{0}…', …)`, which is a string.
    Expression(Expression),
    /// `${{ insert }}` as a key: the mapping under it is put in its place.
    Insert,
}
