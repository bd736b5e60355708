//! What directives set for all transactions.

use std::path::Path;

use crate::seclang::{BodyLimitAction, Mode, Setting};

/// What directives set for all transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether rules act.
    pub mode: Mode,
    /// Whether request bodies are looked at.
    pub request_body_access: bool,
    /// Whether response bodies are looked at.
    pub response_body_access: bool,
    /// How much of a request body is looked at.
    pub request_body_limit: usize,
    /// As much of a body that is no upload.
    pub request_body_no_files_limit: usize,
    /// What happens beyond it.
    pub request_body_limit_action: BodyLimitAction,
    /// How deep JSON may nest.
    pub json_depth: usize,
    /// How much of a response body is looked at.
    pub response_body_limit: usize,
    /// What happens beyond it.
    pub response_body_limit_action: BodyLimitAction,
    /// Which response bodies are looked at.
    pub response_body_types: Vec<String>,
    /// How many files of a multipart body are looked at.
    pub upload_file_limit: usize,
    /// How many arguments a request may have.
    pub arguments: usize,
    /// What is between two arguments.
    pub argument_separator: u8,
    /// How long a client's or a session's variables are kept, in seconds.
    pub collection_timeout: u64,
    /// `WEBAPPID`.
    pub web_app_id: String,
    /// The file and the code page of `%uHHHH`.
    pub unicode_map: Option<(std::path::PathBuf, u32)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::On,
            request_body_access: true,
            response_body_access: true,
            request_body_limit: 13_107_200,
            request_body_no_files_limit: 131_072,
            request_body_limit_action: BodyLimitAction::Reject,
            json_depth: 512,
            response_body_limit: 524_288,
            response_body_limit_action: BodyLimitAction::ProcessPartial,
            response_body_types: ["text/plain", "text/html", "text/xml", "application/json"]
                .map(str::to_owned)
                .into(),
            upload_file_limit: 100,
            arguments: 1000,
            argument_separator: b'&',
            collection_timeout: 3600,
            web_app_id: "default".to_owned(),
            unicode_map: None,
        }
    }
}

impl Settings {
    /// Takes over what a directive says; `file` is where it stands.
    pub(super) fn set(&mut self, setting: &Setting, file: &Path) {
        match setting {
            Setting::RuleEngine(mode) => self.mode = *mode,
            Setting::RequestBodyAccess(on) => self.request_body_access = *on,
            Setting::ResponseBodyAccess(on) => self.response_body_access = *on,
            Setting::RequestBodyLimit(bytes) => self.request_body_limit = *bytes,
            Setting::RequestBodyNoFilesLimit(bytes) => self.request_body_no_files_limit = *bytes,
            Setting::RequestBodyLimitAction(action) => self.request_body_limit_action = *action,
            Setting::RequestBodyJsonDepthLimit(depth) => self.json_depth = *depth,
            Setting::ResponseBodyLimit(bytes) => self.response_body_limit = *bytes,
            Setting::ResponseBodyLimitAction(action) => self.response_body_limit_action = *action,
            Setting::ResponseBodyMimeType(types) => self.response_body_types.clone_from(types),
            Setting::ResponseBodyMimeTypesClear => self.response_body_types.clear(),
            Setting::UploadFileLimit(most) => self.upload_file_limit = *most,
            Setting::ArgumentsLimit(most) => self.arguments = *most,
            Setting::ArgumentSeparator(byte) => self.argument_separator = *byte,
            Setting::CollectionTimeout(seconds) => self.collection_timeout = *seconds,
            Setting::WebAppId(id) => self.web_app_id.clone_from(id),
            Setting::UnicodeMapFile(name, page) => {
                let folder = file.parent().unwrap_or(Path::new("."));
                self.unicode_map = Some((folder.join(name), *page));
            }
            Setting::ComponentSignature(_) | Setting::Inert => {}
        }
    }
}
