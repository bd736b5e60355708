//! Rules and requests in few words.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use astraler_waf::compile::Program;
use astraler_waf::engine::{Limits, Report, Request, Response, Stores, Transaction};
use astraler_waf::seclang::Rules;

/// Compiles rules.
pub(crate) fn rules(text: &str) -> Program {
    Program::new(&read(text)).unwrap()
}

/// What is wrong with rules, one problem a line.
pub(crate) fn problems(text: &str) -> Vec<String> {
    let problems = Program::new(&read(text)).err().map(|error| error.problems);
    problems
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn read(text: &str) -> Rules {
    Rules::default().text(text, Path::new("test.conf"))
}

/// A request.
#[derive(Clone)]
pub(crate) struct Sent<'t> {
    pub(crate) method: &'t str,
    pub(crate) target: &'t str,
    pub(crate) headers: &'t [(&'t [u8], &'t [u8])],
    pub(crate) body: &'t [u8],
    pub(crate) client: [u8; 4],
    pub(crate) now: u64,
}

impl Default for Sent<'_> {
    fn default() -> Self {
        Self {
            method: "GET",
            target: "/",
            headers: &[(b"Host", b"example.com")],
            body: b"",
            client: [192, 0, 2, 1],
            now: 1_700_000_000,
        }
    }
}

impl<'t> Sent<'t> {
    pub(crate) fn get(target: &'t str) -> Self {
        Self {
            target,
            ..Self::default()
        }
    }

    pub(crate) fn request(&self) -> Request<'t> {
        Request {
            client: IpAddr::V4(Ipv4Addr::from(self.client)),
            client_port: 40_000,
            server: IpAddr::V4(Ipv4Addr::LOCALHOST),
            server_port: 443,
            method: self.method.as_bytes(),
            target: self.target.as_bytes(),
            protocol: b"HTTP/1.1",
            headers: self.headers,
            unique_id: "test",
            now: self.now,
            country: Some("CH"),
        }
    }

    pub(crate) fn through(&self, program: &Program) -> Report {
        self.through_with(program, None, Limits::default())
    }

    pub(crate) fn through_with(&self, program: &Program, stores: Option<&Stores>, limits: Limits) -> Report {
        let mut transaction: Transaction<'_> = program.begin(self.request(), stores, limits);
        transaction.request_headers();
        transaction.request_body(self.body, false);
        transaction.response_headers(Response {
            status: 200,
            protocol: b"HTTP/1.1",
            headers: &[(b"Content-Type", b"text/html")],
        });
        transaction.response_body(b"<html>hello</html>", false);
        transaction.finish()
    }
}

/// The ids of the rules that matched.
pub(crate) fn ids(report: &Report) -> Vec<u64> {
    report.matches.iter().map(|one| one.rule).collect()
}
