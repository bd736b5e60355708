//! What a transaction takes in: the heads, and bodies by their kind.

use std::borrow::Cow;

use super::items::Family;
use super::{Interruption, Response, Stop, Transaction, uri};
use crate::body::{self, Item, Limits, Outcome};
use crate::seclang::{BodyLimitAction, Mode, Processor};

impl<'t> Transaction<'t> {
    /// Headers, cookies and the arguments of the query.
    pub(super) fn read_head(&mut self) {
        for (name, value) in self.request.headers {
            let text = self.texts.borrowed(name);
            let value_text = self.texts.borrowed(value);
            self.items
                .push(Family::RequestHeaders, &mut self.texts, text, value_text);
            if name.eq_ignore_ascii_case(b"cookie") {
                self.cookies(value);
            }
        }
        let query = uri::query(self.request.target);
        let separator = self.program.settings.argument_separator;
        let most = self.program.settings.arguments;
        let mut invalid = 0;
        for (name, value) in crate::url::pairs(query, separator, &mut invalid).take(most) {
            let name = self.texts.cow(name);
            let value = self.texts.cow(value);
            self.items.push(Family::ArgsGet, &mut self.texts, name, value);
        }
        self.body.invalid_escapes = invalid;
    }

    fn cookies(&mut self, header: &'t [u8]) {
        let room = self
            .program
            .settings
            .arguments
            .saturating_sub(self.items.list(Family::Cookies).len());
        for (name, value) in crate::url::cookies(header).take(room) {
            let name = self.texts.borrowed(name);
            let value = self.texts.borrowed(value);
            self.items.push(Family::Cookies, &mut self.texts, name, value);
        }
    }

    pub(super) fn header(&self, name: &[u8]) -> Option<&'t [u8]> {
        self.request
            .headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// Which reader a body gets: the rules' choice, or by its type.
    pub(super) fn chosen_processor(&self) -> Option<Processor> {
        self.processor.or_else(|| {
            let kind = self.header(b"content-type")?;
            let starts = |with: &[u8]| {
                kind.get(..with.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(with))
            };
            if starts(b"application/x-www-form-urlencoded") {
                Some(Processor::UrlEncoded)
            } else if starts(b"multipart/form-data") {
                Some(Processor::Multipart)
            } else {
                None
            }
        })
    }

    /// `REQUEST_BODY` is there for forms, and for bodies without a reader where a rule wants it: what another reader has
    /// taken apart is looked at in its parts.
    pub(super) fn body_is_a_variable(&self) -> bool {
        match self.chosen_processor() {
            Some(processor) => processor == Processor::UrlEncoded,
            None => self.force_request_body,
        }
    }

    pub(super) fn take_request_body(&mut self, bytes: &'t [u8], cut: bool) {
        self.memo.forget();
        if !self.request_body_access {
            return;
        }
        let settings = &self.program.settings;
        let processor = self.chosen_processor();
        let fits = bytes.len().min(self.most_of_body(processor));
        let cut = cut || fits < bytes.len();
        let bytes = &bytes[..fits];
        self.body_cut[0] = cut;
        self.request_body = Some(bytes);
        let reject = settings.request_body_limit_action == BodyLimitAction::Reject;
        if cut && reject && self.mode == Mode::On {
            self.interruption = Some(Interruption {
                rule: 0,
                phase: 2,
                action: Stop::Deny,
                status: 413,
            });
            return;
        }
        if let Some(processor) = processor.filter(|_| !bytes.is_empty()) {
            let invalid = self.body.invalid_escapes;
            let mut outcome = self.read_body(processor, bytes);
            if cut {
                // What is missing at the end is missing because it was not read.
                outcome.error = None;
            }
            outcome.invalid_escapes += invalid;
            self.body = outcome;
        }
    }

    /// What phase 2 has read, for rules that look back at it; what was wrong with it is known.
    pub(super) fn read_body_again(&mut self, bytes: &'t [u8]) {
        if bytes.is_empty() || !self.request_body_access || !self.program.reach.request_body {
            return;
        }
        let processor = self.chosen_processor();
        let bytes = &bytes[..bytes.len().min(self.most_of_body(processor))];
        self.request_body = Some(bytes);
        if let Some(processor) = processor {
            self.read_body(processor, bytes);
        }
    }

    fn most_of_body(&self, processor: Option<Processor>) -> usize {
        match processor {
            None | Some(Processor::Multipart) => self.request_body_limit,
            Some(_) => self
                .request_body_limit
                .min(self.program.settings.request_body_no_files_limit),
        }
    }

    fn read_body(&mut self, processor: Processor, bytes: &'t [u8]) -> Outcome {
        let settings = &self.program.settings;
        let limits = Limits {
            arguments: settings.arguments,
            depth: settings.json_depth,
            files: settings.upload_file_limit,
            ..Limits::default()
        };
        let content_type = self.header(b"content-type").unwrap_or_default();
        let items = &mut self.items;
        let texts = &mut self.texts;
        let mut sink = |item: Item<'t>| match item {
            Item::Argument { name, value } => {
                let name = texts.cow(name);
                let value = texts.cow(value);
                items.push(Family::ArgsPost, texts, name, value);
            }
            Item::File { field, name, content } => {
                let field = texts.cow(field);
                let name = texts.cow(name);
                items.push(Family::Files, texts, field, name);
                items.push(Family::FilesNames, texts, field, field);
                let mut length = Vec::new();
                super::write::number(super::write::count(content.len()), &mut length);
                let length = texts.owned(&length);
                items.push(Family::FilesSizes, texts, field, length);
                let content = texts.borrowed(content);
                items.push(Family::FilesContent, texts, field, content);
            }
            Item::PartHeader { part, line } => {
                let part = texts.cow(part);
                let line = texts.cow(line);
                items.push(Family::PartHeaders, texts, part, line);
            }
            Item::XmlText(text) => {
                let name = texts.borrowed(b"/*");
                let text = texts.cow(text);
                items.push(Family::XmlText, texts, name, text);
            }
            Item::XmlAttribute(value) => {
                let name = texts.borrowed(b"//@*");
                let value = texts.cow(value);
                items.push(Family::XmlAttributes, texts, name, value);
            }
        };
        match processor {
            Processor::UrlEncoded => body::urlencoded(bytes, settings.argument_separator, &limits, &mut sink),
            Processor::Multipart => body::multipart(content_type, bytes, &limits, &mut sink),
            Processor::Json => body::json(bytes, &limits, &mut sink),
            Processor::Xml => body::xml(bytes, &limits, &mut sink),
        }
    }

    pub(super) fn take_response(&mut self, response: Response<'t>) {
        for (name, value) in response.headers {
            let name = self.texts.borrowed(name);
            let value = self.texts.borrowed(value);
            self.items
                .push(Family::ResponseHeaders, &mut self.texts, name, value);
        }
        self.response = Some(response);
        self.memo.forget();
    }

    pub(super) fn response_header(&self, name: &[u8]) -> Option<&'t [u8]> {
        let response = self.response.as_ref()?;
        response
            .headers
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    pub(super) fn response_type_is_looked_at(&self) -> bool {
        let kind = self.response_header(b"content-type").unwrap_or_default();
        let end = memchr::memchr(b';', kind).unwrap_or(kind.len());
        let kind = kind[..end].trim_ascii();
        self.program
            .settings
            .response_body_types
            .iter()
            .any(|one| one.as_bytes().eq_ignore_ascii_case(kind) || (one == "null" && kind.is_empty()))
    }

    pub(super) fn whole_request(&self) -> Cow<'t, [u8]> {
        let mut whole = self.request_line();
        whole.extend_from_slice(b"\r\n");
        for (name, value) in self.request.headers {
            for piece in [*name, b": ", *value, b"\r\n"] {
                whole.extend_from_slice(piece);
            }
        }
        whole.extend_from_slice(b"\r\n");
        whole.extend_from_slice(self.request_body.unwrap_or_default());
        Cow::Owned(whole)
    }

    pub(super) fn request_line(&self) -> Vec<u8> {
        let request = &self.request;
        [request.method, b" ", request.target, b" ", request.protocol].concat()
    }
}
