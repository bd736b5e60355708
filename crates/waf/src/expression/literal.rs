//! What is written out on the right of a comparison: strings, numbers, addresses, sets of them.

use std::net::IpAddr;
use std::sync::Arc;

use super::error::{ExpressionError, nearest};
use super::lex::{self, Token};
use super::list::{IpSet, List, ip_range};
use super::parse::{Parser, Result};
use super::value::Type;

impl Parser<'_> {
    /// `{…}` or `$name`.
    pub(super) fn set(&mut self, kind: Type) -> Result<Arc<List>> {
        if let Token::List(name) = self.token {
            let start = self.start;
            let Some(list) = self.lists.get(name) else {
                let mut error = ExpressionError::new(start, format!("there is no list called '{name}'"));
                error.hint = nearest(name, self.lists.names()).map(|near| format!("did you mean '${near}'?"));
                return Err(error);
            };
            let found = match *list {
                List::Ip(_) => Type::Ip,
                List::Text(_) => Type::Bytes,
                List::Int(_) => Type::Int,
            };
            if found != kind {
                let what = format!("the list '{name}' is not of {kind}");
                return Err(ExpressionError::new(start, what));
            }
            self.advance()?;
            return Ok(list);
        }
        self.expect("{")?;
        let (mut ips, mut texts, mut ints) = (Vec::new(), Vec::new(), Vec::new());
        while self.token != Token::Sign("}") {
            match kind {
                Type::Ip => ips.push(self.ips()?),
                Type::Int => ints.push(self.ints()?),
                _ => texts.push(self.text()?),
            }
            // Cloudflare separates by spaces; a comma is what everyone tries first.
            self.sign(",")?;
        }
        self.advance()?;
        Ok(Arc::new(match kind {
            Type::Ip => List::Ip(IpSet::new(ips)),
            Type::Int => List::ints(ints),
            _ => List::texts(texts),
        }))
    }

    fn ips(&mut self) -> Result<(IpAddr, IpAddr)> {
        let range = match self.token {
            Token::Bare(word) => ip_range(word),
            _ => None,
        };
        let Some(range) = range else {
            return Err(self.unexpected("an IP address, a network or a range of addresses"));
        };
        self.advance()?;
        Ok(range)
    }

    fn ints(&mut self) -> Result<(i64, i64)> {
        let range = match self.token {
            Token::Bare(word) => match word.split_once("..") {
                Some((first, last)) => first.parse().ok().zip(last.parse().ok()),
                None => word.parse().ok().map(|value| (value, value)),
            },
            _ => None,
        };
        let Some(range) = range.filter(|(first, last)| first <= last) else {
            return Err(self.unexpected("a number, or a range of numbers: 1..5"));
        };
        self.advance()?;
        Ok(range)
    }

    pub(super) fn ip(&mut self) -> Result<IpAddr> {
        let (first, last) = self.ips()?;
        if first != last {
            return Err(
                ExpressionError::new(self.start, "an address is equal to one address")
                    .hint("write in {10.0.0.0/8}"),
            );
        }
        Ok(first.to_canonical())
    }

    /// A number.
    pub(super) fn int(&mut self) -> Result<i64> {
        let value = match self.token {
            Token::Bare(word) => word.parse().ok(),
            _ => None,
        };
        let Some(value) = value else {
            return Err(self.unexpected("a number"));
        };
        self.advance()?;
        Ok(value)
    }

    /// A string, or bytes as `61:62`.
    pub(super) fn text(&mut self) -> Result<Vec<u8>> {
        let text = match self.token.clone() {
            Token::Text(text) => Some(text),
            Token::Bare(word) => lex::hex_bytes(word),
            _ => None,
        };
        let Some(text) = text else {
            return Err(self.unexpected("a string in quotes"));
        };
        self.advance()?;
        Ok(text)
    }
}
