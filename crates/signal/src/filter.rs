//! What `--where` says: `status>=500 and path~"/api"`. Read into a tree of conditions, checked against the stream's own
//! columns, evaluated on columns.

mod evaluate;
mod parse;

pub(crate) use evaluate::evaluate;

use crate::stream::Stream;
use arrow_schema::DataType;
use std::collections::BTreeSet;

/// A condition on records.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub(crate) root: Condition,
}

/// The text is no condition on records of the stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}, at character {at} of `{text}`")]
pub struct FilterError {
    /// What was read.
    pub text: String,
    /// Where, counted from 1.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl Filter {
    /// Reads a condition.
    pub fn parse(text: &str, stream: Stream) -> Result<Self, FilterError> {
        Ok(Self {
            root: parse::parse(text, stream)?,
        })
    }

    /// Records of one environment.
    pub fn environment(name: &str) -> Self {
        Self {
            root: Condition::Is {
                column: "environment",
                compare: Compare::Equal,
                value: Value::Text(name.to_owned()),
            },
        }
    }

    /// Both must hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let mut all = Vec::new();
        for side in [self.root, other.root] {
            match side {
                Condition::And(sides) => all.extend(sides),
                one => all.push(one),
            }
        }
        Self {
            root: Condition::And(all),
        }
    }

    /// What must hold one by one, the cheapest first.
    pub(crate) fn conjuncts(&self, stream: Stream) -> Vec<Condition> {
        let mut all = match &self.root {
            Condition::And(sides) => sides.clone(),
            one => vec![one.clone()],
        };
        let schema = stream.schema();
        all.sort_by_key(|side| {
            let columns = side.columns().into_iter();
            columns
                .map(
                    |name| match schema.field_with_name(name).map(arrow_schema::Field::data_type) {
                        Ok(DataType::Utf8) => 10,
                        _ => 1,
                    },
                )
                .sum::<u32>()
        });
        all
    }
}

/// The tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    Is {
        column: &'static str,
        compare: Compare,
        value: Value,
    },
    /// Some text of the record has it.
    Grep(String, Vec<&'static str>),
}

impl Condition {
    pub(crate) fn columns(&self) -> BTreeSet<&'static str> {
        match self {
            Self::And(sides) | Self::Or(sides) => sides.iter().flat_map(Self::columns).collect(),
            Self::Not(side) => side.columns(),
            Self::Is { column, .. } => BTreeSet::from([*column]),
            Self::Grep(_, columns) => columns.iter().copied().collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    Lacks,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Number(i64),
    Text(String),
    Id([u8; 16]),
    Bool(bool),
}

/// Columns that hold text, for a search in all of them.
pub(crate) fn text_columns(stream: Stream) -> Vec<&'static str> {
    match stream {
        Stream::Access => vec![
            "environment",
            "deployment",
            "host",
            "method",
            "path",
            "query",
            "client_ip",
            "user_agent",
            "referer",
            "route",
            "error",
            "error_reason",
        ],
        Stream::Application | Stream::Error => vec!["environment", "deployment", "part", "level", "message"],
    }
}
