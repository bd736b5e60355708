//! Variables of one value.

use super::items::Family;
use super::name::Held;
use super::subject::Subject;
use super::texts::NodeId;
use super::{Transaction, uri, write};
use crate::seclang::{Collection, Processor};
use crate::transform::{self, Transformation};

/// Values that do not change within a phase, by their variable.
#[derive(Debug, Default)]
pub(super) struct Memo(Vec<Option<NodeId>>);

impl Memo {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn get(&self, collection: Collection) -> Option<NodeId> {
        self.0.get(collection as usize).copied().flatten()
    }

    fn set(&mut self, collection: Collection, node: NodeId) {
        if self.0.len() <= collection as usize {
            self.0.resize(Collection::ALL.len(), None);
        }
        self.0[collection as usize] = Some(node);
    }
}

impl<'t> Transaction<'t> {
    /// The value of a variable that has one; none where it has none now.
    pub(super) fn single(&mut self, collection: Collection) -> Option<Subject> {
        if let Some(node) = self.memo.get(collection) {
            return Some(Subject::Node(node));
        }
        if let Some(number) = self.single_number(collection) {
            return Some(Subject::Number(number));
        }
        match collection {
            Collection::MatchedVar => {
                return match &self.matched.last()?.value {
                    Held::Text(text) => Some(Subject::Text(*text)),
                    Held::Number(number) => Some(Subject::Number(*number)),
                };
            }
            Collection::MatchedVarName => {
                let mut name = Vec::new();
                self.write_name(&self.matched.last()?.name, &mut name);
                return Some(Subject::Text(self.texts.owned(&name)));
            }
            _ => {}
        }
        if let Some(bytes) = self.single_borrowed(collection) {
            let text = self.texts.borrowed(bytes);
            let node = self.texts.node(text);
            if collection != Collection::ReqbodyProcessor {
                self.memo.set(collection, node);
            }
            return Some(Subject::Node(node));
        }
        let bytes = self.single_built(collection)?;
        let text = self.texts.owned(&bytes);
        let node = self.texts.node(text);
        self.memo.set(collection, node);
        Some(Subject::Node(node))
    }

    fn single_number(&self, collection: Collection) -> Option<i64> {
        use Collection as C;
        let flag = |on: bool| Some(i64::from(on));
        let multipart = &self.body.multipart;
        match collection {
            C::ArgsCombinedSize => {
                let size = |family: Family| -> usize {
                    self.items
                        .list(family)
                        .iter()
                        .map(|item| {
                            let value = self.texts.base(item.value);
                            self.text(item.name).len() + self.text(value).len()
                        })
                        .sum()
                };
                Some(write::count(size(Family::ArgsGet) + size(Family::ArgsPost)))
            }
            C::FilesCombinedSize => {
                let files = self.items.list(Family::FilesContent).iter();
                let sizes = files.map(|item| self.text(self.texts.base(item.value)).len());
                Some(write::count(sizes.sum()))
            }
            C::Duration => i64::try_from(self.elapsed).ok(),
            C::MscPcreError | C::MscPcreLimitsExceeded => Some(0),
            C::FullRequestLength => Some(write::count(self.whole_request().len())),
            C::HighestSeverity => Some(self.highest_severity.map_or(255, i64::from)),
            C::InboundDataError => flag(self.body_cut[0]),
            C::OutboundDataError => flag(self.body_cut[1]),
            C::MultipartBoundaryQuoted => flag(multipart.boundary_quoted),
            C::MultipartBoundaryWhitespace => flag(multipart.boundary_whitespace),
            C::MultipartCrlfLfLines => flag(multipart.crlf_lf_lines),
            C::MultipartDataAfter => flag(multipart.data_after),
            C::MultipartDataBefore => flag(multipart.data_before),
            C::MultipartFileLimitExceeded => flag(multipart.file_limit_exceeded),
            C::MultipartHeaderFolding => flag(multipart.header_folding),
            C::MultipartInvalidHeaderFolding => flag(multipart.invalid_header_folding),
            C::MultipartInvalidPart => flag(multipart.invalid_part),
            C::MultipartInvalidQuoting => flag(multipart.invalid_quoting),
            C::MultipartLfLine => flag(multipart.lf_line),
            C::MultipartMissingSemicolon => flag(multipart.missing_semicolon),
            C::MultipartStrictError => {
                let is_multipart = self.chosen_processor() == Some(Processor::Multipart);
                flag(multipart.strict_error() || is_multipart && self.body.error.is_some())
            }
            C::MultipartUnmatchedBoundary => flag(multipart.unmatched_boundary),
            C::RemotePort => Some(i64::from(self.request.client_port)),
            C::ServerPort => Some(i64::from(self.request.server_port)),
            C::ReqbodyError | C::ReqbodyProcessorError => flag(self.body.error.is_some()),
            C::RequestBodyLength => Some(write::count(self.request_body.map_or(0, <[u8]>::len))),
            C::ResponseContentLength => Some(write::count(self.response_body.map_or(0, <[u8]>::len))),
            C::ResponseStatus => self.response.as_ref().map(|one| i64::from(one.status)),
            C::UrlencodedError => flag(self.body.invalid_escapes > 0),
            C::TimeEpoch => i64::try_from(self.request.now).ok(),
            _ => None,
        }
    }

    fn single_borrowed(&self, collection: Collection) -> Option<&'t [u8]> {
        use Collection as C;
        let program = self.program;
        match collection {
            C::QueryString => Some(uri::query(self.request.target)),
            C::ReqbodyProcessor => Some(match self.chosen_processor() {
                None => b"",
                Some(Processor::UrlEncoded) => b"URLENCODED",
                Some(Processor::Multipart) => b"MULTIPART",
                Some(Processor::Json) => b"JSON",
                Some(Processor::Xml) => b"XML",
            }),
            C::RequestBody => self.request_body.filter(|_| self.body_is_a_variable()),
            C::RequestMethod => Some(self.request.method),
            C::RequestProtocol => Some(self.request.protocol),
            C::RequestUri => Some(uri::relative(self.request.target)),
            C::RequestUriRaw => Some(self.request.target),
            C::ResponseBody => self.response_body,
            C::ResponseContentType => self.response_header(b"content-type"),
            C::ResponseProtocol => self.response.as_ref().map(|one| one.protocol),
            C::ServerName => self.header(b"host").map(uri::host_name),
            C::UniqueId => Some(self.request.unique_id.as_bytes()),
            C::WebAppId => Some(program.settings.web_app_id.as_bytes()),
            C::ModsecBuild => Some(b"030000000"),
            _ => None,
        }
    }

    fn single_built(&self, collection: Collection) -> Option<Vec<u8>> {
        use Collection as C;
        match collection {
            C::FullRequest => Some(self.whole_request().into_owned()),
            C::PathInfo | C::RequestFilename => Some(uri::path(self.request.target).into_owned()),
            C::RequestBasename => {
                let path = uri::path(self.request.target);
                Some(uri::basename(&path).to_vec())
            }
            C::RemoteAddr | C::RemoteHost => Some(self.request.client.to_string().into_bytes()),
            C::ServerAddr => Some(self.request.server.to_string().into_bytes()),
            C::ReqbodyErrorMsg | C::ReqbodyProcessorErrorMsg => {
                let error = self.body.error.as_ref()?;
                Some(error.to_string().into_bytes())
            }
            C::RequestLine => Some(self.request_line()),
            C::StatusLine => {
                let response = self.response.as_ref()?;
                let mut line = response.protocol.to_vec();
                line.push(b' ');
                write::number(i64::from(response.status), &mut line);
                Some(line)
            }
            C::AuthType => {
                let (scheme, _) = self.authorization()?;
                Some(scheme.to_vec())
            }
            C::RemoteUser => {
                let (scheme, said) = self.authorization()?;
                let mut decoded = Vec::new();
                if !scheme.eq_ignore_ascii_case(b"basic")
                    || !transform::apply(Transformation::Base64Decode, said, &mut decoded)
                {
                    return None;
                }
                let end = memchr::memchr(b':', &decoded)?;
                decoded.truncate(end);
                Some(decoded)
            }
            C::SessionId => self.key(crate::seclang::Store::Session),
            C::UserId => self.key(crate::seclang::Store::User),
            C::Time
            | C::TimeDay
            | C::TimeHour
            | C::TimeMin
            | C::TimeMon
            | C::TimeSec
            | C::TimeWday
            | C::TimeYear => Some(time(collection, self.request.now).into_bytes()),
            _ => None,
        }
    }

    /// The scheme and the rest of `Authorization`: nobody has checked it.
    fn authorization(&self) -> Option<(&'t [u8], &'t [u8])> {
        let field = self.header(b"authorization")?.trim_ascii();
        let end = memchr::memchr(b' ', field).unwrap_or(field.len());
        Some((&field[..end], field[end..].trim_ascii()))
    }

    fn key(&self, store: crate::seclang::Store) -> Option<Vec<u8>> {
        let (_, key) = self.keys.iter().find(|(own, _)| *own == store)?;
        Some(key.as_bytes().to_vec())
    }
}

/// A part of the time, in UTC.
fn time(collection: Collection, now: u64) -> String {
    use Collection as C;
    let (days, seconds) = (now / 86_400, now % 86_400);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let (year, month, day) = date(days);
    match collection {
        C::TimeDay => day.to_string(),
        C::TimeHour => hour.to_string(),
        C::TimeMin => minute.to_string(),
        C::TimeMon => (month - 1).to_string(),
        C::TimeSec => second.to_string(),
        // The first of January 1970 was a Thursday.
        C::TimeWday => ((days + 4) % 7).to_string(),
        C::TimeYear => year.to_string(),
        _ => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}

/// Year, month and day of a number of days since 1970: the calendar repeats every 400 years, which begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{Collection, date, time};

    #[test]
    fn days_have_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(19_723), (2024, 1, 1));
        assert_eq!(time(Collection::Time, 86_399), "23:59:59");
        assert_eq!(time(Collection::TimeWday, 0), "4");
    }
}
