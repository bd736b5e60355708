//! Events to templates along a [`Definition`]: says where something stands that may not, and reads expressions
//! with the names that they may use there.

use super::schema::{ANY, Definition, Kind, Mapping, Text};
use super::yaml::{Broken, Event, Literal, Scalar, Stream};
use super::{Budget, Problems};
use crate::diagnostic::Place;
use crate::expression::{Allowed, Expression, format_number, parse, upper};
use crate::template::{Node, Template};
use std::collections::HashSet;

const OPEN: &str = "${{";
const NOT_CLOSED: &str = "The expression is not closed. An unescaped ${{ sequence was found, but the closing \
                          }} sequence was not found.";

/// Reads all of a text. None where it broke; problems say why.
pub(super) fn read(
    text: &str,
    root: &'static Definition,
    budget: &mut Budget,
    problems: &mut Problems<'_>,
) -> Option<Template> {
    let mut reader = Reader {
        stream: Stream::new(text),
        budget,
        problems,
    };
    match reader.document(root) {
        Ok(template) => Some(template),
        Err(Broken { place, message }) => {
            reader.problems.add(place, message);
            None
        }
    }
}

/// Checks a template that was read against another definition, as if it stood there.
pub(super) fn check_literal(
    template: &Template,
    definition: &'static Definition,
    problems: &mut Problems<'_>,
) {
    if let Some(literal) = literal_of(&template.node)
        && fit(&literal, definition).is_none()
    {
        problems.add(Some(template.place), unexpected(&literal));
    }
}

struct Reader<'a, 'b> {
    stream: Stream,
    budget: &'a mut Budget,
    problems: &'a mut Problems<'b>,
}

/// A definition where it stands: with the names from above.
#[derive(Clone)]
struct Here {
    definition: &'static Definition,
    names: Vec<&'static str>,
}

impl Here {
    fn root(definition: &'static Definition) -> Self {
        Self {
            definition,
            names: definition.context.to_vec(),
        }
    }

    fn below(&self, definition: &'static Definition) -> Self {
        let mut names = self.names.clone();
        for name in definition.context {
            if !names.contains(name) {
                names.push(name);
            }
        }
        Self { definition, names }
    }
}

impl Reader<'_, '_> {
    fn document(&mut self, root: &'static Definition) -> Result<Template, Broken> {
        self.expect("stream start", |event| matches!(event, Event::StreamStart))?;
        self.expect("document start", |event| matches!(event, Event::DocumentStart))?;
        let template = self.value(&Here::root(root))?;
        self.expect("document end", |event| matches!(event, Event::DocumentEnd))?;
        self.expect("stream end", |event| matches!(event, Event::StreamEnd))?;
        Ok(template)
    }

    fn expect(&mut self, what: &str, is: fn(&Event) -> bool) -> Result<(), Broken> {
        if is(&self.stream.peek()?) {
            return self.stream.advance();
        }
        Err(fatal(format!("Expected {what} parse event")))
    }

    fn value(&mut self, here: &Here) -> Result<Template, Broken> {
        self.budget.event()?;
        match self.stream.peek()? {
            Event::Scalar(scalar) => {
                let template = self.scalar(&scalar, &here.names)?;
                let template = self.validate(template, here);
                self.budget.add(&template.node)?;
                self.stream.advance()?;
                Ok(template)
            }
            Event::SequenceStart(place) => {
                self.stream.advance()?;
                self.sequence(place, here)
            }
            Event::MappingStart(place) => {
                self.stream.advance()?;
                self.mapping(place, here)
            }
            _ => Err(fatal("Expected a scalar value, a sequence, or a mapping".into())),
        }
    }

    fn sequence(&mut self, place: Place, here: &Here) -> Result<Template, Broken> {
        self.budget.descend()?;
        self.budget.add(&Node::Sequence(vec![]))?;
        let alternatives = here.definition.alternatives();
        let item = alternatives.iter().find_map(|kind| match kind {
            Kind::Sequence(item) => Some(*item),
            _ => None,
        });
        let mut items = Vec::new();
        match item {
            Some(item) => {
                let item = here.below(item);
                while !self.ends(|event| matches!(event, Event::SequenceEnd))? {
                    items.push(self.value(&item)?);
                }
            }
            None => {
                self.problems.add(Some(place), "A sequence was not expected");
                while !self.ends(|event| matches!(event, Event::SequenceEnd))? {
                    self.skip()?;
                }
            }
        }
        self.budget.ascend();
        Ok(Template {
            place,
            node: Node::Sequence(items),
        })
    }

    fn mapping(&mut self, place: Place, here: &Here) -> Result<Template, Broken> {
        self.budget.descend()?;
        self.budget.add(&Node::Mapping(vec![]))?;
        let alternatives = here.definition.alternatives();
        let shapes: Vec<&'static Mapping> = alternatives
            .iter()
            .filter_map(|kind| match kind {
                Kind::Mapping(mapping) => Some(mapping),
                _ => None,
            })
            .collect();
        let entries = if shapes.is_empty() {
            self.problems.add(Some(place), "A mapping was not expected");
            while !self.ends(|event| matches!(event, Event::MappingEnd))? {
                self.skip()?;
                self.skip()?;
            }
            vec![]
        } else {
            self.entries(place, here, shapes)?
        };
        self.budget.ascend();
        Ok(Template {
            place,
            node: Node::Mapping(entries),
        })
    }

    fn entries(
        &mut self,
        place: Place,
        here: &Here,
        mut shapes: Vec<&'static Mapping>,
    ) -> Result<Vec<(Template, Template)>, Broken> {
        let loose = shapes.first().and_then(|shape| shape.loose);
        let only_loose = shapes.len() == 1 && shapes[0].properties.is_empty() && loose.is_some();
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        let mut has_expression = false;
        while let Event::Scalar(scalar) = self.stream.peek()? {
            let key = self.scalar(&scalar, &here.names)?;
            self.stream.advance()?;
            if matches!(key.node, Node::Expression(_) | Node::Insert) {
                has_expression = true;
                if here.names.is_empty() {
                    self.problems.add(
                        Some(key.place),
                        "A template expression is not allowed in this context",
                    );
                    self.skip()?;
                    continue;
                }
                self.budget.add(&key.node)?;
                let value = match loose.filter(|_| only_loose) {
                    Some((_, value)) => here.below(value),
                    None => here.below(&ANY),
                };
                let value = self.value(&value)?;
                entries.push((key, value));
                continue;
            }
            let name = text_of(&key.node);
            let key = Template {
                place: key.place,
                node: Node::String(name.clone()),
            };
            if !seen.insert(upper(&name)) {
                self.problems
                    .add(Some(key.place), format!("'{name}' is already defined"));
                self.skip()?;
                continue;
            }
            let known = shapes
                .iter()
                .find_map(|shape| shape.properties.iter().find(|property| property.name == name));
            if let Some(property) = known {
                shapes.retain(|shape| shape.properties.iter().any(|property| property.name == name));
                self.budget.add(&key.node)?;
                let value = self.value(&here.below(property.value))?;
                entries.push((key, value));
            } else if let Some((key_definition, value_definition)) = loose {
                let key = self.validate(key, &here.below(key_definition));
                self.budget.add(&key.node)?;
                let value = self.value(&here.below(value_definition))?;
                entries.push((key, value));
            } else {
                self.problems
                    .add(Some(key.place), format!("Unexpected value '{name}'"));
                self.skip()?;
            }
        }
        if shapes.len() > 1 {
            self.problems.add(Some(place), undetermined(&shapes));
        } else if let Some(shape) = shapes.first()
            && !has_expression
        {
            for property in shape.properties.iter().filter(|property| property.required) {
                if !seen.contains(&upper(property.name)) {
                    self.problems.add(
                        Some(place),
                        format!("Required property is missing: {}", property.name),
                    );
                }
            }
        }
        if self.ends(|event| matches!(event, Event::MappingEnd))? {
            return Ok(entries);
        }
        Err(fatal("Expected mapping end".into()))
    }

    /// Whether it ends here; then it is past the end.
    fn ends(&mut self, is: fn(&Event) -> bool) -> Result<bool, Broken> {
        let ends = is(&self.stream.peek()?);
        if ends {
            self.stream.advance()?;
        }
        Ok(ends)
    }

    /// Past a value of which nothing is checked.
    fn skip(&mut self) -> Result<(), Broken> {
        let mut open = 0_usize;
        loop {
            self.budget.event()?;
            match self.stream.peek()? {
                Event::Scalar(scalar) => {
                    scalar.literal()?;
                }
                Event::SequenceStart(_) | Event::MappingStart(_) => {
                    self.budget.descend()?;
                    open += 1;
                }
                Event::SequenceEnd | Event::MappingEnd if open > 0 => {
                    self.budget.ascend();
                    open -= 1;
                }
                _ => return Err(fatal("Expected a scalar value, a sequence, or a mapping".into())),
            }
            self.stream.advance()?;
            if open == 0 {
                return Ok(());
            }
        }
    }

    /// A literal that stays what it is where it fits, becomes text where text fits, and is a problem otherwise.
    fn validate(&mut self, template: Template, here: &Here) -> Template {
        match literal_of(&template.node) {
            Some(literal) => match fit(&literal, here.definition) {
                Some(literal) => Template {
                    place: template.place,
                    node: node_of(literal),
                },
                None => {
                    self.problems.add(Some(template.place), unexpected(&literal));
                    template
                }
            },
            None if matches!(template.node, Node::Insert) => {
                self.problems
                    .add(Some(template.place), "Unexpected value '${{ insert }}'");
                template
            }
            None => {
                if here.names.is_empty() {
                    self.problems.add(
                        Some(template.place),
                        "A template expression is not allowed in this context",
                    );
                }
                template
            }
        }
    }

    /// A scalar with its expressions read.
    fn scalar(&mut self, scalar: &Scalar, names: &[&str]) -> Result<Template, Broken> {
        let literal = scalar.literal()?;
        let node = match &literal {
            Literal::String(text) if text.contains(OPEN) => match segments(text, names) {
                Ok(node) => node,
                Err(message) => {
                    self.problems.add(Some(scalar.place), message);
                    node_of(literal)
                }
            },
            _ => node_of(literal),
        };
        Ok(Template {
            place: scalar.place,
            node,
        })
    }
}

fn fatal(message: String) -> Broken {
    Broken { place: None, message }
}

fn unexpected(literal: &Literal) -> String {
    format!("Unexpected value '{}'", text_of(&node_of(literal.clone())))
}

fn undetermined(shapes: &[&'static Mapping]) -> String {
    let all = || shapes.iter().flat_map(|shape| shape.properties);
    let count = |name: &str| all().filter(|property| property.name == name).count();
    let mut names: Vec<&str> = all().map(|property| property.name).collect();
    names.retain(|name| count(name) == 1);
    names.sort_unstable();
    format!(
        "There's not enough info to determine what you meant. Add one of these properties: {}",
        names.join(", ")
    )
}

fn literal_of(node: &Node) -> Option<Literal> {
    match node {
        Node::Null => Some(Literal::Null),
        Node::Boolean(value) => Some(Literal::Boolean(*value)),
        Node::Number(value) => Some(Literal::Number(*value)),
        Node::String(value) => Some(Literal::String(value.clone())),
        _ => None,
    }
}

fn node_of(literal: Literal) -> Node {
    match literal {
        Literal::Null => Node::Null,
        Literal::Boolean(value) => Node::Boolean(value),
        Literal::Number(value) => Node::Number(value),
        Literal::String(value) => Node::String(value),
    }
}

/// The text that a literal becomes.
pub(super) fn text_of(node: &Node) -> String {
    match node {
        Node::Boolean(value) => value.to_string(),
        Node::Number(value) => format_number(*value),
        Node::String(value) => value.clone(),
        _ => String::new(),
    }
}

/// What a literal is under a definition.
fn fit(literal: &Literal, definition: &'static Definition) -> Option<Literal> {
    let alternatives = definition.alternatives();
    if alternatives.iter().any(|kind| matches(kind, literal)) {
        return Some(literal.clone());
    }
    let text = Literal::String(text_of(&node_of(literal.clone())));
    let as_text = alternatives.iter().any(|kind| matches(kind, &text));
    as_text.then_some(text)
}

fn matches(kind: &Kind, literal: &Literal) -> bool {
    match (kind, literal) {
        (Kind::Null, Literal::Null)
        | (Kind::Boolean, Literal::Boolean(_))
        | (Kind::Number, Literal::Number(_))
        | (Kind::Text(Text::Any), Literal::String(_)) => true,
        (Kind::Text(Text::NonEmpty), Literal::String(text)) => !text.is_empty(),
        (Kind::Text(Text::Constant(word)), Literal::String(text)) => word == text,
        (Kind::Words(words), Literal::String(text)) => words.contains(&text.as_str()),
        _ => false,
    }
}

/// A part of a text with expressions.
enum Segment<'a> {
    Text(&'a str),
    Expression(Expression),
    Insert,
}

/// A text with at least one `${{`.
fn segments(text: &str, names: &[&str]) -> Result<Node, String> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        if at > 0 {
            segments.push(Segment::Text(&rest[..at]));
        }
        let inside = &rest[at + OPEN.len()..];
        let end = end_of_expression(inside).ok_or(NOT_CLOSED)?;
        segments.push(expression(&inside[..end], names)?);
        rest = &inside[end + 2..];
    }
    if !rest.is_empty() {
        segments.push(Segment::Text(rest));
    }
    if segments.len() > 1 && segments.iter().any(|segment| matches!(segment, Segment::Insert)) {
        return Err(
            "The directive 'insert' is not allowed in this context. Directives are not supported for \
             expressions that are embedded within a string. Directives are only supported when the entire value \
             is an expression."
                .into(),
        );
    }
    if segments.len() == 1
        && let Some(only) = segments.pop()
    {
        return Ok(match only {
            Segment::Text(text) => Node::String(text.to_owned()),
            Segment::Insert => Node::Insert,
            Segment::Expression(expression) => match quoted(expression.source()) {
                // `${{ '${{ stays }}' }}` is how to write the braces themselves.
                Some(text) => Node::String(text),
                None => Node::Expression(expression),
            },
        });
    }
    let mut format = String::new();
    let mut parameters = String::new();
    let mut count = 0;
    for segment in &segments {
        match segment {
            Segment::Text(text) => {
                format.push_str(&text.replace('\'', "''").replace('{', "{{").replace('}', "}}"));
            }
            Segment::Expression(expression) => {
                format.push_str(&format!("{{{count}}}"));
                parameters.push_str(", ");
                parameters.push_str(expression.source());
                count += 1;
            }
            Segment::Insert => {}
        }
    }
    let whole = format!("format('{format}'{parameters})");
    let expression = parse(&whole, &Allowed::new(names)).map_err(|error| error.message)?;
    Ok(Node::Expression(expression))
}

/// Where `}}` stands that is not within quotes.
fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b'}' if !quoted && index > 0 && bytes[index - 1] == b'}' => return Some(index - 1),
            _ => {}
        }
    }
    None
}

fn expression<'a>(text: &'a str, names: &[&str]) -> Result<Segment<'a>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("An expression was expected".into());
    }
    if let Some(rest) = text.strip_prefix("insert")
        && (rest.is_empty() || rest.starts_with(char::is_whitespace))
    {
        let given = rest.split_whitespace().count();
        if given > 0 {
            return Err(format!(
                "Exactly 0 parameter(s) were expected following the directive 'insert'. Actual parameter \
                 count: {given}"
            ));
        }
        return Ok(Segment::Insert);
    }
    match parse(text, &Allowed::new(names)) {
        Ok(expression) => Ok(Segment::Expression(expression)),
        Err(error) => Err(error.message),
    }
}

/// The text of an expression that is a string and nothing else.
fn quoted(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?.strip_suffix('\'')?;
    let unescaped = inner.replace("''", "");
    (text.len() > 1 && !unescaped.contains('\'')).then(|| inner.replace("''", "'"))
}
