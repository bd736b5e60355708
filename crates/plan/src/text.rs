//! A plan as people read it.

use crate::plan::{Action, Cause, Kind, Plan};
use serde_json::Value;
use std::fmt;

/// Longest value that is shown whole; the JSON form has all of it.
const MAX_SHOWN: usize = 100;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for action in &self.actions {
            write!(f, "{action}")?;
        }
        for retained in &self.retained {
            writeln!(f, "=   keep     {}\n      {}", retained.address, retained.reason)?;
        }
        if self.is_empty() {
            return writeln!(f, "nothing to change");
        }
        let by_hand = self
            .actions
            .iter()
            .filter(|action| action.cause == Cause::Drift)
            .count();
        write!(
            f,
            "{} to create, {} to change, {} to replace, {} to destroy",
            self.count(Kind::Create),
            self.count(Kind::Change),
            self.count(Kind::Replace),
            self.count(Kind::Destroy)
        )?;
        if by_hand > 0 {
            write!(f, "; {by_hand} of them changed by hand")?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, word) = match self.kind {
            Kind::Create => ("+  ", "create "),
            Kind::Change => ("~  ", "change "),
            Kind::Replace => ("-/+", "replace"),
            Kind::Destroy => ("-  ", "destroy"),
        };
        write!(f, "{sign} {word}  {}", self.address)?;
        if self.restarts {
            f.write_str(" (restarts)")?;
        }
        if self.protected {
            f.write_str(" (protected)")?;
        }
        writeln!(f, "\n      {}", self.reason)?;
        for change in &self.changes {
            let name = &change.attribute;
            match (&change.before, &change.after) {
                (Some(before), Some(after)) => {
                    writeln!(f, "      {name}: {} -> {}", shown(before), shown(after))?;
                }
                (None, Some(after)) if self.kind == Kind::Create => {
                    writeln!(f, "      {name}: {}", shown(after))?;
                }
                (None, Some(after)) => writeln!(f, "      {name}: none -> {}", shown(after))?,
                (Some(before), None) if self.kind != Kind::Destroy => {
                    writeln!(f, "      {name}: {} -> none", shown(before))?;
                }
                // What goes is named by its address; its attributes are in the JSON form.
                _ => {}
            }
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let mut cut: String = text.chars().take(MAX_SHOWN).collect();
    cut.push('…');
    cut
}
