//! What GitHub's YAML parser, a child of libyaml, lets through and YAML 1.2 does not: the text is mended, and places
//! are told as they are in the text that was given.

use crate::diagnostic::Place;
use saphyr_parser::ScanError;
use std::collections::HashMap;

/// Most work that mending takes: characters times attempts.
const MAX_WORK: usize = 5_000_000;
/// Most attempts.
const MAX_ATTEMPTS: usize = 100;

/// A text that is mended where it must be.
pub(super) struct Text {
    pub(super) characters: Vec<char>,
    /// By line, how far its characters were moved to the right.
    moved: HashMap<usize, usize>,
    attempts: usize,
}

impl Text {
    pub(super) fn new(text: &str) -> Self {
        Self {
            characters: text.chars().collect(),
            moved: HashMap::new(),
            attempts: 0,
        }
    }

    /// The place in the text that was given.
    pub(super) fn place(&self, line: usize, column: usize) -> Place {
        let moved = self.moved.get(&line).copied().unwrap_or(0);
        Place {
            line: line.max(1),
            column: column.saturating_sub(moved).max(1),
        }
    }

    /// Mends what the error says. Whether it did, so that another attempt is worth it.
    pub(super) fn mend(&mut self, error: &ScanError) -> bool {
        self.attempts += 1;
        if self.attempts > MAX_ATTEMPTS || self.attempts * self.characters.len() > MAX_WORK {
            return false;
        }
        let (index, line, column) = (
            error.marker().index(),
            error.marker().line(),
            error.marker().col(),
        );
        match error.info() {
            // `[one]#two` is a list and a comment.
            "comments must be separated from other tokens by whitespace" => {
                self.characters.get(index) == Some(&'#') && {
                    self.characters.insert(index, ' ');
                    true
                }
            }
            "':' must be followed by a valid YAML whitespace" => self.tabs_to_spaces(index),
            "invalid indentation in flow construct" | "invalid indentation" => {
                self.indent_list(index, line, column)
            }
            "invalid indentation in quoted scalar" => self.indent_quoted(index, line, column),
            _ => false,
        }
    }

    /// Tabs between a colon and its value.
    fn tabs_to_spaces(&mut self, until: usize) -> bool {
        let Some(before) = self.characters.get_mut(..until) else {
            return false;
        };
        let blank = before.iter_mut().rev().take_while(|c| matches!(c, ' ' | '\t'));
        let mut found = false;
        for c in blank.filter(|c| **c == '\t') {
            *c = ' ';
            found = true;
        }
        found
    }

    /// A list or mapping in brackets that goes on no deeper than the line in which it began.
    fn indent_list(&mut self, index: usize, line: usize, column: usize) -> bool {
        let Some(start) = index.checked_sub(column) else {
            return false;
        };
        let own = self.indentation(start);
        let mut above = start;
        // The last line above with something in it.
        while above > 0 {
            above = self.line_start(above - 1);
            if !self.is_blank(above) {
                break;
            }
        }
        let spaces = (self.indentation(above) + 1).saturating_sub(own).max(1);
        self.insert(start, spaces);
        *self.moved.entry(line).or_default() += spaces;
        true
    }

    /// A quoted text whose other lines are no deeper than what it belongs to. White space at their start does not
    /// belong to the text.
    fn indent_quoted(&mut self, index: usize, line: usize, column: usize) -> bool {
        let Some(&quote @ ('"' | '\'')) = self.characters.get(index) else {
            return false;
        };
        let mut at = index + 1;
        let mut line = line;
        let mut changed = false;
        while let Some(&c) = self.characters.get(at) {
            at += 1;
            match c {
                '\\' if quote == '"' && self.characters.get(at) != Some(&'\n') => at += 1,
                '\n' => {
                    line += 1;
                    let own = self.indentation(at);
                    if own <= column && !self.is_blank(at) {
                        self.insert(at, column + 1 - own);
                        *self.moved.entry(line).or_default() += column + 1 - own;
                        changed = true;
                    }
                }
                c if c == quote => {
                    if quote == '\'' && self.characters.get(at) == Some(&'\'') {
                        at += 1;
                        continue;
                    }
                    break;
                }
                _ => {}
            }
        }
        changed
    }

    fn insert(&mut self, at: usize, spaces: usize) {
        self.characters.splice(at..at, std::iter::repeat_n(' ', spaces));
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.characters[..at].iter().rposition(|c| *c == '\n');
        before.map_or(0, |newline| newline + 1)
    }

    fn indentation(&self, start: usize) -> usize {
        self.characters[start..].iter().take_while(|c| **c == ' ').count()
    }

    fn is_blank(&self, start: usize) -> bool {
        let mut line = self.characters[start..]
            .iter()
            .take_while(|c| !matches!(c, '\n' | '\r'));
        line.all(|c| c.is_whitespace())
    }
}
