//! What a path means among the files of a release: Cloudflare's `html_handling` and `not_found_handling`.
//!
//! Each handling is a list of steps, tried in order. A redirect is taken only when the place it leads to would serve the
//! very file meant, so there are no loops and no redirect to a 404.
//! <https://developers.cloudflare.com/workers/static-assets/routing/advanced/html-handling/>

use super::file::{Folder, Found, Identity};
use astraler_model::{AssetConfig, HtmlHandling, NotFoundHandling};
use http::StatusCode;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::io;

/// What `encodeURIComponent` leaves alone, and `/`.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'$')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b',')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The answer to a path.
#[derive(Debug)]
pub(super) enum Resolution {
    File {
        found: Box<Found>,
        status: StatusCode,
    },
    /// A path, encoded.
    Redirect(String),
    Nothing,
}

impl Resolution {
    pub(super) fn kept_bytes(&self) -> usize {
        match self {
            Self::File { found, .. } => found.content.as_ref().map_or(0, bytes::Bytes::len),
            _ => 0,
        }
    }
}

/// Resolves a normalised path. Blocks on the disk.
pub(super) fn resolve(folder: &Folder, config: &AssetConfig, path: &str) -> io::Result<Resolution> {
    if let Some(path) = decode(path) {
        for step in steps(config.html_handling, &path) {
            match step {
                Step::Serve(file) => {
                    if let Some(found) = find(folder, &file)? {
                        return Ok(Resolution::File {
                            found: Box::new(found),
                            status: StatusCode::OK,
                        });
                    }
                }
                Step::Redirect { file, to } => {
                    if leads_to(folder, config, &to, &file)? {
                        return Ok(Resolution::Redirect(
                            utf8_percent_encode(&to, ENCODED).to_string(),
                        ));
                    }
                }
            }
        }
    }
    not_found(folder, config, path)
}

enum Step {
    /// Serve this file, if it is there.
    Serve(String),
    /// Redirect to `to`, if that would serve `file`.
    Redirect { file: String, to: String },
}

fn steps(handling: HtmlHandling, path: &str) -> Vec<Step> {
    let serve = |file: &str| Step::Serve(file.to_owned());
    let redirect = |file: String, to: &str| Step::Redirect {
        file,
        to: to.to_owned(),
    };
    let mut steps = Vec::with_capacity(6);
    let index = path
        .strip_suffix("/index.html")
        .or_else(|| path.strip_suffix("/index"));
    if path.ends_with("/index") && handling != HtmlHandling::None {
        // A file that is really called `index` comes first.
        steps.push(serve(path));
    }
    match handling {
        HtmlHandling::None => {}
        HtmlHandling::AutoTrailingSlash => {
            if let Some(base) = index {
                steps.push(redirect(format!("{base}/index.html"), &format!("{base}/")));
                steps.push(redirect(format!("{base}.html"), base));
            } else if let Some(base) = path.strip_suffix('/') {
                steps.push(serve(&format!("{base}/index.html")));
                steps.push(redirect(format!("{base}.html"), base));
            } else if let Some(base) = path.strip_suffix(".html") {
                steps.push(redirect(path.to_owned(), base));
                steps.push(redirect(format!("{base}/index.html"), &format!("{base}/")));
            }
        }
        HtmlHandling::ForceTrailingSlash => {
            if let Some(base) = index {
                steps.push(redirect(format!("{base}/index.html"), &format!("{base}/")));
                steps.push(redirect(format!("{base}.html"), &format!("{base}/")));
            } else if let Some(base) = path.strip_suffix('/') {
                steps.push(serve(&format!("{base}/index.html")));
                steps.push(serve(&format!("{base}.html")));
            } else if let Some(base) = path.strip_suffix(".html") {
                steps.push(redirect(path.to_owned(), &format!("{base}/")));
                steps.push(serve(path));
                steps.push(redirect(format!("{base}/index.html"), &format!("{base}/")));
            }
        }
        HtmlHandling::DropTrailingSlash => {
            if let Some(base) = index {
                let to = if base.is_empty() { "/" } else { base };
                let (page, folder_page) = (format!("{base}.html"), format!("{base}/index.html"));
                if path.ends_with(".html") {
                    steps.push(redirect(folder_page, to));
                    steps.push(serve(path));
                    steps.push(redirect(page, to));
                } else {
                    steps.push(redirect(page, to));
                    steps.push(redirect(folder_page, to));
                }
            } else if path == "/" {
                steps.push(serve("/index.html"));
            } else if let Some(base) = path.strip_suffix('/') {
                steps.push(redirect(format!("{base}.html"), base));
                steps.push(redirect(format!("{base}/index.html"), base));
            } else if let Some(base) = path.strip_suffix(".html") {
                steps.push(redirect(path.to_owned(), base));
                steps.push(redirect(format!("{base}/index.html"), base));
            }
        }
    }
    steps.push(serve(path));
    if path.ends_with('/') {
        return steps;
    }
    match handling {
        HtmlHandling::None => {}
        HtmlHandling::AutoTrailingSlash => {
            steps.push(serve(&format!("{path}.html")));
            steps.push(redirect(format!("{path}/index.html"), &format!("{path}/")));
        }
        HtmlHandling::ForceTrailingSlash => {
            steps.push(redirect(format!("{path}.html"), &format!("{path}/")));
            steps.push(redirect(format!("{path}/index.html"), &format!("{path}/")));
        }
        HtmlHandling::DropTrailingSlash => {
            steps.push(serve(&format!("{path}.html")));
            steps.push(serve(&format!("{path}/index.html")));
        }
    }
    steps
}

/// Whether `to` serves, without a redirect of its own, the file named `file`; and is not a file itself.
fn leads_to(folder: &Folder, config: &AssetConfig, to: &str, file: &str) -> io::Result<bool> {
    let Some(wanted) = identity(folder, file)? else {
        return Ok(false);
    };
    if to.is_empty() || identity(folder, to)?.is_some() {
        return Ok(false);
    }
    for step in steps(config.html_handling, to) {
        if let Step::Serve(candidate) = step
            && let Some(served) = identity(folder, &candidate)?
        {
            return Ok(served == wanted);
        }
    }
    Ok(false)
}

fn not_found(folder: &Folder, config: &AssetConfig, path: &str) -> io::Result<Resolution> {
    match config.not_found_handling {
        NotFoundHandling::None => {}
        NotFoundHandling::SinglePageApplication => {
            if let Some(found) = find(folder, "/index.html")? {
                return Ok(Resolution::File {
                    found: Box::new(found),
                    status: StatusCode::OK,
                });
            }
        }
        NotFoundHandling::NotFoundPage => {
            let mut below = path;
            while let Some((parent, _)) = below.rsplit_once('/') {
                let page = decode(parent).map(|parent| format!("{parent}/404.html"));
                if let Some(page) = page
                    && let Some(found) = find(folder, &page)?
                {
                    return Ok(Resolution::File {
                        found: Box::new(found),
                        status: StatusCode::NOT_FOUND,
                    });
                }
                below = parent;
            }
        }
    }
    Ok(Resolution::Nothing)
}

fn find(folder: &Folder, file: &str) -> io::Result<Option<Found>> {
    file_name(file).map_or(Ok(None), |name| folder.find(name))
}

fn identity(folder: &Folder, file: &str) -> io::Result<Option<Identity>> {
    file_name(file).map_or(Ok(None), |name| folder.identity(name))
}

/// The name below the folder, unless it is one that is never served: hidden files (but `/.well-known/`), and the files
/// that configure Cloudflare's assets.
fn file_name(file: &str) -> Option<&str> {
    let name = file.strip_prefix('/')?;
    if matches!(name, "_headers" | "_redirects" | "_routes.json") {
        return None;
    }
    let served = |(at, segment): (usize, &str)| {
        !segment.is_empty() && (!segment.starts_with('.') || (at == 0 && segment == ".well-known"))
    };
    name.split('/').enumerate().all(served).then_some(name)
}

/// Decodes each segment. `None` when a segment holds an escaped slash or NUL, or is not UTF-8: no file has such a name.
fn decode(path: &str) -> Option<String> {
    let segments = path.split('/').map(|segment| {
        let decoded = percent_decode_str(segment).decode_utf8().ok()?;
        (!decoded.contains(['/', '\0'])).then(|| decoded.into_owned())
    });
    Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
}
