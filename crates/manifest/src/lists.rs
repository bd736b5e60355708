//! `[edge.lists]`: items from the manifest and from files, read as their kind says.

use crate::diagnostics::{Diagnostic, Source};
use crate::rules::{is_inside, text, texts};
use astraler_waf::expression::{List, ListKind, Lists};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use toml_edit::{Item, TableLike};

/// Items of all lists together, and their bytes: each environment's part of the edge's snapshot has them.
const MAX_ITEMS: usize = 10_000;
const MAX_BYTES: usize = 1 << 20;
const MAX_LISTS: usize = 100;
const MAX_FILE_BYTES: u64 = 1 << 20;
const MAX_NAME_BYTES: usize = 50;

/// What the files say, by the list's name; and all lists, for the rules that name them. Without a folder files are not
/// read, and their lists are known by name and kind.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) from_files: BTreeMap<String, Vec<String>>,
    pub(crate) lists: Lists,
}

/// Where files are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Base<'a> {
    pub(crate) folder: &'a Path,
    /// Files outside of it are of another machine tomorrow.
    pub(crate) is_repository: bool,
}

pub(crate) fn read(
    source: &Source,
    root: &dyn TableLike,
    base: Option<Base<'_>>,
    errors: &mut Vec<Diagnostic>,
) -> Read {
    let mut read = Read::default();
    let edge = root.get("edge").and_then(Item::as_table_like);
    let lists = edge
        .and_then(|edge| edge.get("lists"))
        .and_then(Item::as_table_like);
    let Some(lists) = lists else { return read };
    let mut wrong = |message: String, span, help: Option<&str>| {
        errors.push(source.error(span, "wrong-value", message, help.map(str::to_owned)));
    };
    if lists.len() > MAX_LISTS {
        let span = edge.and_then(|edge| edge.get("lists")).and_then(Item::span);
        wrong(format!("more than {MAX_LISTS} lists"), span.unwrap_or(0..0), None);
    }
    let mut held = (0, 0);
    for (name, list) in lists.iter() {
        let Some(list) = list.as_table_like() else {
            continue;
        };
        let at = lists.key(name).and_then(toml_edit::Key::span).unwrap_or(0..0);
        if !is_name(name) {
            let help = "1 to 50 letters, digits and `_`: rules say `$name`";
            wrong(format!("\"{name}\" cannot name a list"), at.clone(), Some(help));
        }
        let kind = match list.get("kind").and_then(Item::as_str) {
            None | Some("ip") => ListKind::Ip,
            Some("hostname") => ListKind::Hostname,
            Some("text") => ListKind::Text,
            Some("number") => ListKind::Number,
            Some("asn") => ListKind::Asn,
            // The schema has said it.
            Some(_) => continue,
        };
        let mut items: Vec<String> = Vec::new();
        for (item, span) in texts(list, "items") {
            match List::read(kind, [item.as_str()]) {
                Ok(_) => items.push(item),
                Err(error) => wrong(error.to_string(), span, None),
            }
        }
        if let Some((file, span)) = text(list, "file") {
            match base.map(|base| from_file(base, &file, kind)) {
                None => {}
                Some(Ok(more)) => {
                    items.extend_from_slice(&more);
                    read.from_files.insert(name.to_owned(), more);
                }
                Some(Err(why)) => {
                    for why in why {
                        wrong(why, span.clone(), None);
                    }
                }
            }
        }
        held.0 += items.len();
        held.1 += items.iter().map(String::len).sum::<usize>();
        if held.0 > MAX_ITEMS || held.1 > MAX_BYTES {
            let message = format!("the lists have more than {MAX_ITEMS} items or {MAX_BYTES} bytes together");
            wrong(message, at, None);
            break;
        }
        if let Ok(list) = List::read(kind, items.iter().map(String::as_str)) {
            read.lists.insert(name, list);
        }
    }
    read
}

/// Lines of a file that are wrong and told; more are not.
const MAX_TOLD: usize = 10;

/// The items of a file, or what is wrong with them, each with its line.
fn from_file(base: Base<'_>, file: &str, kind: ListKind) -> Result<Vec<String>, Vec<String>> {
    if base.is_repository && !is_inside(file) {
        return Err(vec![format!(
            "\"{file}\" is no file of this folder (nothing hidden, no `..`)"
        )]);
    }
    let path = base.folder.join(file);
    let failed = |error: std::io::Error| vec![format!("{file} cannot be read: {error}")];
    let about = fs::metadata(&path).map_err(failed)?;
    if !about.is_file() || about.len() > MAX_FILE_BYTES {
        return Err(vec![format!(
            "{file} is no file of at most {MAX_FILE_BYTES} bytes"
        )]);
    }
    let contents = fs::read_to_string(&path).map_err(failed)?;
    let (mut items, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(contents.lines()) {
        let comment = match kind {
            // A text may hold one.
            ListKind::Text => line.trim_start().starts_with('#').then_some(0),
            _ => line.find('#'),
        };
        let item = line[..comment.unwrap_or(line.len())].trim();
        if item.is_empty() {
            continue;
        }
        match List::read(kind, [item]) {
            Ok(_) => items.push(item.to_owned()),
            Err(error) => errors.push(format!("{file}:{number}: {error}")),
        }
    }
    errors.truncate(MAX_TOLD);
    match errors.is_empty() {
        true => Ok(items),
        false => Err(errors),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
