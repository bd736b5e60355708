//! Static files of a release, with the words of Cloudflare's static assets.
//!
//! Three steps: [`resolve`] says which file (or redirect) a path means, [`mod@file`] opens it without ever leaving the folder,
//! [`conditional`] says how much of it the client needs.

mod cache;
mod conditional;
mod file;
mod resolve;
mod variant;

use crate::body::{self, Body, BoxError};
use crate::checks::Checked;
use crate::compress::{self, Wish};
use crate::config::ms;
use crate::fault::{Fault, Kind};
use astraler_model::AssetConfig;
use bytes::Bytes;
use cache::Bounded;
use conditional::{Answer, Range};
use file::{Folder, Found};
use futures_util::StreamExt;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::StreamBody;
use resolve::Resolution;
use std::io::{self, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// A resolution is believed for so long without looking at the disk again.
const FRESH_MS: u64 = 1_000;
/// Files up to this size are kept in memory.
const SMALL_BYTES: u64 = 64 << 10;
/// All kept files of one release together.
const KEPT_BYTES: usize = 16 << 20;
/// Paths remembered for one release, found or not.
const KEPT_PATHS: usize = 4096;
/// One read of a streamed file.
const CHUNK_BYTES: usize = 64 << 10;
/// An unsafe method on a file, or OPTIONS.
pub(crate) const READ_ONLY: Fault = Kind::MethodNotAllowed.because("files can only be read");
/// Cloudflare's default for assets.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");

/// The assets of one deployment.
#[derive(Debug)]
pub(crate) struct Assets {
    shared: Arc<Shared>,
    /// What paths mean, as of a moment ago.
    paths: Mutex<Bounded<String, (Instant, Arc<Resolution>)>>,
    variants: variant::Variants,
}

#[derive(Debug)]
struct Shared {
    config: AssetConfig,
    folder: Folder,
}

impl Assets {
    pub(crate) fn new(config: &AssetConfig) -> Self {
        let folder = Folder::new(config.directory.clone());
        let shared = Shared {
            config: config.clone(),
            folder,
        };
        Self {
            shared: Arc::new(shared),
            paths: Mutex::new(Bounded::new(KEPT_PATHS + KEPT_BYTES / 1024)),
            variants: variant::Variants::default(),
        }
    }

    async fn resolve(&self, path: &str) -> Result<Arc<Resolution>, Fault> {
        self.known(path, |shared, path| {
            resolve::resolve(&shared.folder, &shared.config, path)
        })
        .await
    }

    /// What a moment ago was the answer for `path`, or what `look` finds now.
    async fn known(
        &self,
        path: &str,
        look: impl FnOnce(&Shared, &str) -> io::Result<Resolution> + Send + 'static,
    ) -> Result<Arc<Resolution>, Fault> {
        let known = self
            .paths
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path);
        if let Some((at, resolution)) = known
            && at.elapsed() < ms(FRESH_MS)
        {
            return Ok(resolution);
        }
        let (shared, asked) = (self.shared.clone(), path.to_owned());
        let resolution = tokio::task::spawn_blocking(move || look(&shared, &asked))
        .await
        .map_err(|_| Kind::AssetUnreadable.because("reading the file failed"))?
        .map_err(|error| {
            tracing::error!(folder = %self.shared.config.directory.display(), %error, "cannot read an asset");
            Kind::AssetUnreadable.because("the file cannot be read")
        })?;
        let resolution = Arc::new(resolution);
        // Weight in units of a kilobyte and a bit: a path weighs one, a kept file its size.
        let weight = 1 + (path.len() + resolution.kept_bytes()) / 1024;
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.insert(path.to_owned(), (Instant::now(), resolution.clone()), weight);
        Ok(resolution)
    }
}

/// Answers from the files of a release.
pub(crate) async fn serve(
    assets: &Assets,
    method: &Method,
    headers: &HeaderMap,
    checked: &Checked,
    wish: &Wish,
) -> Result<Response<Body>, Fault> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(READ_ONLY);
    }
    match &*assets.resolve(checked.path()).await? {
        Resolution::Nothing => Err(Kind::NotFound.because("no file has this name")),
        Resolution::Redirect(to) => Ok(redirect(to, checked.query())),
        Resolution::File { found, status } => answer(assets, found, *status, method, headers, wish).await,
    }
}

/// A small file by its exact name, for a page of the edge's own.
pub(crate) async fn page(assets: &Assets, path: &str) -> Option<(Bytes, HeaderValue)> {
    let name = path.trim_start_matches('/').to_owned();
    // Paths of requests begin with a slash: this is none of them.
    let key = format!("page {path}");
    let resolution = assets.known(&key, move |shared, _| {
        Ok(match shared.folder.find(&name)? {
            Some(found) => Resolution::File {
                found: Box::new(found),
                status: StatusCode::OK,
            },
            None => Resolution::Nothing,
        })
    });
    match &*resolution.await.ok()? {
        Resolution::File { found, .. } => Some((found.content.clone()?, found.content_type.clone())),
        _ => None,
    }
}

fn redirect(to: &str, query: Option<&str>) -> Response<Body> {
    let location = match query {
        Some(query) => format!("{to}?{query}"),
        None => to.to_owned(),
    };
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

async fn answer(
    assets: &Assets,
    found: &Found,
    status: StatusCode,
    method: &Method,
    headers: &HeaderMap,
    wish: &Wish,
) -> Result<Response<Body>, Fault> {
    // A 404 page is not the resource that the conditions speak of.
    let answer = if status == StatusCode::OK {
        conditional::evaluate(method, headers, &found.etag, found.modified, found.identity.size)
    } else {
        Answer::Whole
    };
    let mut response = Response::new(body::empty());
    // Room for what the rules add, too.
    *response.headers_mut() = HeaderMap::with_capacity(16);
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    if status == StatusCode::OK {
        fields.insert(header::ETAG, found.etag.clone());
        fields.insert(header::LAST_MODIFIED, found.last_modified.clone());
        fields.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    let (coding, varies) = wish.of_file(&found.content_type, found.identity.size);
    if varies {
        compress::vary(fields);
    }
    let range = match answer {
        Answer::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            if coding.is_some() {
                compress::weaken(response.headers_mut());
            }
            compress::settle(&mut response);
            return Ok(response);
        }
        Answer::PreconditionFailed => {
            *response.status_mut() = StatusCode::PRECONDITION_FAILED;
            return Ok(response);
        }
        Answer::Unsatisfiable => {
            fields.insert(
                header::CONTENT_RANGE,
                text(format!("bytes */{}", found.identity.size)),
            );
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(response);
        }
        Answer::Part(range) => {
            let last = range.start + range.length - 1;
            fields.insert(
                header::CONTENT_RANGE,
                text(format!("bytes {}-{last}/{}", range.start, found.identity.size)),
            );
            range
        }
        Answer::Whole => Range {
            start: 0,
            length: found.identity.size,
        },
    };
    fields.insert(header::CONTENT_TYPE, found.content_type.clone());
    fields.insert(header::CONTENT_LENGTH, HeaderValue::from(range.length));
    *response.status_mut() = if matches!(answer, Answer::Part(_)) {
        StatusCode::PARTIAL_CONTENT
    } else {
        status
    };
    if let Some(coding) = coding
        && matches!(answer, Answer::Whole)
        && let Some(small) = assets.variants.get(&assets.shared, found, coding).await
    {
        compress::mark(response.headers_mut(), coding);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(small.len()));
        if *method == Method::GET {
            *response.body_mut() = body::full(small);
        }
        return Ok(response);
    }
    if *method == Method::GET {
        *response.body_mut() = content(assets, found, range).await?;
    }
    Ok(response)
}

async fn content(assets: &Assets, found: &Found, range: Range) -> Result<Body, Fault> {
    if let Some(bytes) = &found.content {
        let bounds = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.start + range.length).ok());
        if let Some(part) =
            bounds.and_then(|(start, end)| bytes.get(start..end).map(|_| bytes.slice(start..end)))
        {
            return Ok(body::full(part));
        }
    }
    let unreadable = || Kind::AssetUnreadable.because("the file cannot be read");
    let (shared, name, identity) = (assets.shared.clone(), found.name.clone(), found.identity);
    let opened = tokio::task::spawn_blocking(move || shared.folder.open(&name))
        .await
        .map_err(|_| unreadable())?;
    let (file, now) = opened.ok().flatten().ok_or_else(unreadable)?;
    if now != identity {
        return Err(Kind::AssetUnreadable.because("the file changed just now; try again"));
    }
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(range.start))
        .await
        .map_err(|_| unreadable())?;
    let mut left = range.length;
    let stream = ReaderStream::with_capacity(file.take(range.length), CHUNK_BYTES)
        .map(|read| read.map_err(|error| Box::new(error) as BoxError))
        .chain(futures_util::stream::once(async { Ok(Bytes::new()) }))
        .map(move |read| {
            let bytes = read?;
            left -= bytes.len() as u64;
            if bytes.is_empty() && left > 0 {
                return Err(Box::new(Kind::AssetUnreadable.because("the file became shorter")) as BoxError);
            }
            Ok(bytes)
        })
        .filter(|read| std::future::ready(!matches!(read, Ok(bytes) if bytes.is_empty())))
        .map(|read| read.map(http_body::Frame::data));
    Ok(Body::new(StreamBody::new(stream)))
}

fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
