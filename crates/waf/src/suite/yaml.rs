//! YAML to a tree: as much of it as test files use.

use saphyr_parser::{Event, Parser};

/// A node of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Scalar(String),
    List(Vec<Node>),
    /// In the order of the file.
    Map(Vec<(String, Node)>),
}

/// How deep a document may nest.
const DEPTH: usize = 32;

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(entries) => entries.iter().find(|(own, _)| own == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The keys of a map.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match self {
            Self::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> &[Node] {
        match self {
            Self::List(nodes) => nodes,
            _ => &[],
        }
    }
}

/// Reads the first document of a text.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    enum Open {
        List(Vec<Node>),
        Map(Vec<(String, Node)>, Option<String>),
    }
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        let node = match event {
            Event::Scalar(value, ..) => Node::Scalar(value.into_owned()),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(nodes)) => Node::List(nodes),
                Some(Open::Map(entries, _)) => Node::Map(entries),
                None => return Err("an end without a beginning".to_owned()),
            },
            Event::Alias(_) => return Err("aliases are not read".to_owned()),
            _ => continue,
        };
        if open.len() > DEPTH {
            return Err(format!("nested deeper than {DEPTH}"));
        }
        match open.last_mut() {
            None => return Ok(node),
            Some(Open::List(nodes)) => nodes.push(node),
            Some(Open::Map(entries, key)) => match (key.take(), node) {
                (Some(key), node) => entries.push((key, node)),
                (None, Node::Scalar(text)) => *key = Some(text),
                (None, _) => return Err("a key that is no text".to_owned()),
            },
        }
    }
    Err("there is no document".to_owned())
}
