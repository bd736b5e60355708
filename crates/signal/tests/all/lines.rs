//! An access log as the edge writes it.

use std::io::Write;
use std::path::{Path, PathBuf};

/// 2026-11-27T12:00:00Z.
pub(crate) const NOON: i64 = 1_795_780_800_000;

pub(crate) fn time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap();
    format!("{time:.3}")
}

/// Request number `number`, a second after the one before: every tenth fails, every third is of staging.
pub(crate) fn access(number: u64) -> String {
    let ts = time(NOON + i64::try_from(number).unwrap() * 1_000);
    let status = if number % 10 == 9 { 502 } else { 200 };
    let environment = if number.is_multiple_of(3) {
        "staging"
    } else {
        "production"
    };
    let cache = if number.is_multiple_of(7) { "hit" } else { "miss" };
    format!(
        r#"{{"ts":"{ts}","request_id":"{}","environment":"{environment}","deployment":"d-1","host":"app.localhost","method":"GET","path":"/api/items/{number}","query":null,"status":{status},"bytes_in":0,"bytes_out":{number},"duration_us":{},"upstream_us":900,"client_ip":"192.0.2.7","user_agent":"curl/8","referer":null,"route":"worker:api","protocol":"HTTP/1.1","upgraded":false,"error":null,"error_reason":null,"blame":null,"cache":"{cache}","connect_us":{number},"retries":{},"tls_version":"1.3","tls_cipher":"TLS13_AES_256_GCM_SHA384"}}"#,
        id(number),
        1_000 + number,
        number / 200,
    )
}

pub(crate) fn id(number: u64) -> String {
    let hex = format!("{:032x}", u128::from(number) + (1 << 100));
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// A folder with logs and a store.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("logs/edge")).unwrap();
        Self { folder }
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("signal")
    }

    pub(crate) fn access_log(&self) -> PathBuf {
        self.logs().join("edge/access.log")
    }

    /// Appends requests to the access log.
    pub(crate) fn requests(&self, numbers: std::ops::Range<u64>) {
        let text: String = numbers.map(|number| access(number) + "\n").collect();
        append(&self.access_log(), &text);
    }

    /// As the edge rotates, keeping four.
    pub(crate) fn rotate(&self) {
        let numbered = |number: u32| {
            let path = self.access_log();
            if number == 0 {
                path
            } else {
                PathBuf::from(format!("{}.{number}", path.display()))
            }
        };
        for number in (0..4).rev() {
            std::fs::rename(numbered(number), numbered(number + 1)).ok();
        }
    }
}

pub(crate) fn append(path: &Path, text: &str) {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}
