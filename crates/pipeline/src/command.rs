//! Commands in a step's output: `::warning file=a.ts,line=3::message`.
//!
//! <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// In lower case.
    pub(crate) name: String,
    /// Properties, decoded.
    pub(crate) properties: Vec<(String, String)>,
    /// What follows, decoded.
    pub(crate) value: String,
}

impl Command {
    /// A property.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .properties
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// Reads a line of output; none where it is no command.
pub(crate) fn parse(line: &str) -> Option<Command> {
    let rest = line.trim_start().strip_prefix("::")?;
    let (head, value) = rest.split_once("::")?;
    let (name, properties) = match head.split_once(' ') {
        Some((name, properties)) => (name, properties),
        None => (head, ""),
    };
    if name.is_empty()
        || !name
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    {
        return None;
    }
    let properties = properties.trim().split(',').filter_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        Some((key.to_owned(), decode(value, true)))
    });
    Some(Command {
        name: name.to_ascii_lowercase(),
        properties: properties.collect(),
        value: decode(value, false),
    })
}

/// The end of `stop-commands`: `::TOKEN::`.
pub(crate) fn resumes(line: &str, token: &str) -> bool {
    let inner = line.trim_start().strip_prefix("::");
    inner.and_then(|rest| rest.trim_end().strip_suffix("::")) == Some(token)
}

fn decode(text: &str, property: bool) -> String {
    let text = text.replace("%0D", "\r").replace("%0A", "\n");
    let text = if property {
        text.replace("%3A", ":").replace("%2C", ",")
    } else {
        text
    };
    text.replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_and_values_are_decoded() {
        let found = parse("::error file=a%2Cb.ts,line=3, title=Bad%3A x::50%25 done%0Anext").unwrap();
        assert_eq!(found.name, "error");
        assert_eq!(found.get("FILE"), Some("a,b.ts"));
        assert_eq!(found.get("line"), Some("3"));
        assert_eq!(found.get("title"), Some("Bad: x"));
        assert_eq!(found.value, "50% done\nnext");
        assert_eq!(parse("  ::group::Name").unwrap().value, "Name");
        assert_eq!(parse("::add-mask::a::b").unwrap().value, "a::b");
    }

    #[test]
    fn ordinary_output_is_no_command() {
        for line in ["", "::", "::::", "a ::error::x", "std::vec::Vec", ":: x::y"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn commands_resume_with_the_token_alone() {
        assert!(resumes("::t0ken::", "t0ken") && !resumes("::t0ken::x", "t0ken"));
        assert!(!resumes("t0ken", "t0ken"));
    }
}
