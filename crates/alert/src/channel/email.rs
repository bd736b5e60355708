//! Mail over SMTP.

use super::http::is_loopback;
use super::{Patience, rfc3339, shortened};
use crate::notice::{Notice, NoticeKind};
use crate::outbox::{Retry, SendError};
use astraler_secrets::Secret;
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use std::fmt::Write;
use std::time::Duration;

const MAX_SUBJECT: usize = 200;
const MAX_SUBJECTS: usize = 50;

/// Where mails go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    /// Name of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is encrypted.
    pub tls: SmtpTls,
    /// Sender.
    pub from: String,
    /// Who reads it.
    pub to: Vec<String>,
    /// Name to log in with; without one nobody logs in.
    pub username: Option<String>,
    /// The application.
    pub source: String,
}

/// How SMTP is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the first byte (port 465).
    Implicit,
    /// By STARTTLS, which must succeed (port 587).
    StartTls,
    /// Not at all: to a relay on this machine only.
    None,
}

/// The mail.
pub fn message(settings: &Email, notice: &Notice) -> Result<Message, SendError> {
    let wrong = |what: &str| SendError::again(format!("{what}: correct it in the manifest"));
    let mailbox = |text: &str| {
        text.parse::<Mailbox>()
            .map_err(|_| wrong(&format!("`{text}` is no mail address")))
    };
    let from = mailbox(&settings.from)?;
    let domain = from.email.domain().to_owned();
    let mut builder = Message::builder()
        .from(from)
        .subject(shortened(&notice.title(), MAX_SUBJECT))
        // The same whenever it is sent: who gets it twice sees it once.
        .message_id(Some(format!(
            "<alert-{}-{}@{domain}>",
            notice.number, notice.wall_ms
        )))
        .header(ContentType::TEXT_PLAIN);
    for to in &settings.to {
        builder = builder.to(mailbox(to)?);
    }
    if settings.to.is_empty() {
        return Err(wrong("the mail has no receiver"));
    }
    builder
        .body(words(settings, notice))
        .map_err(|error| SendError::new(Retry::Never, format!("the mail cannot be written: {error}")))
}

fn words(settings: &Email, notice: &Notice) -> String {
    let mut text = String::new();
    for subject in notice.subjects.iter().take(MAX_SUBJECTS) {
        let since = rfc3339(subject.began_wall_ms);
        // Writing to a string does not fail.
        let _ = match &notice.kind {
            NoticeKind::Resolve => writeln!(
                text,
                "{} (alert {}, since {since}) is over.\nlast: {}\n",
                subject.key.rule, subject.number, subject.summary
            ),
            NoticeKind::Acknowledge { by } => writeln!(
                text,
                "{} (alert {}) is looked after by {by}.\n",
                subject.key.rule, subject.number
            ),
            NoticeKind::Trigger => writeln!(
                text,
                "{} (alert {}, since {since})\n{}\nacknowledge it: astraler alerts ack {}\n",
                subject.key.rule, subject.number, subject.summary, subject.number
            ),
        };
    }
    if notice.subjects.len() > MAX_SUBJECTS {
        let more = notice.subjects.len() - MAX_SUBJECTS;
        let _ = writeln!(text, "and {more} more: astraler alerts list\n");
    }
    let _ = writeln!(text, "-- \n{}, {}", settings.source, notice.place());
    text
}

pub(super) async fn send(
    patience: Patience,
    settings: &Email,
    password: Option<&Secret>,
    notice: &Notice,
) -> Result<(), SendError> {
    let message = message(settings, notice)?;
    if settings.tls == SmtpTls::None && !is_loopback(&settings.host) {
        return Err(SendError::again(
            "mail goes unencrypted to a relay on this machine only: set `tls` in the manifest",
        ));
    }
    // Until the message has begun, nobody can have taken it.
    let mut connection = tokio::time::timeout(patience.connect, connect(patience, settings, password))
        .await
        .map_err(|_| SendError::again("the mail server does not answer"))??;
    let bytes = message.formatted();
    let sent = tokio::time::timeout(patience.answer, connection.send(message.envelope(), &bytes));
    match sent.await {
        Err(_) => Err(SendError::new(
            Retry::Unsure,
            "the mail server did not take the mail in time",
        )),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(_)) => {
            // It has the mail; whether it says good bye is its own affair.
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.quit()).await;
            Ok(())
        }
    }
}

async fn connect(
    patience: Patience,
    settings: &Email,
    password: Option<&Secret>,
) -> Result<AsyncSmtpConnection, SendError> {
    let again = |error: lettre::transport::smtp::Error| SendError::again(format!("mail server: {error}"));
    let hello = ClientId::default();
    let tls = match settings.tls {
        SmtpTls::None => None,
        SmtpTls::Implicit | SmtpTls::StartTls => Some(
            TlsParameters::builder(settings.host.clone())
                .build_rustls()
                .map_err(again)?,
        ),
    };
    let implicit = tls.clone().filter(|_| settings.tls == SmtpTls::Implicit);
    let address = (settings.host.as_str(), settings.port);
    let mut connection =
        AsyncSmtpConnection::connect_tokio1(address, Some(patience.connect), &hello, implicit, None)
            .await
            .map_err(again)?;
    if let Some(tls) = tls.filter(|_| settings.tls == SmtpTls::StartTls) {
        connection.starttls(tls, &hello).await.map_err(again)?;
    }
    if let Some(username) = &settings.username {
        let password = password.ok_or_else(|| SendError::again("the mail server's password is not set"))?;
        let credentials = Credentials::new(username.clone(), password.expose().to_owned());
        let mechanisms = lettre::transport::smtp::authentication::DEFAULT_MECHANISMS;
        connection.auth(mechanisms, &credentials).await.map_err(again)?;
    }
    Ok(connection)
}

fn failed(error: &lettre::transport::smtp::Error) -> SendError {
    let retry = if error.is_permanent() {
        Retry::Never
    } else if error.is_transient() {
        Retry::Again { after_s: None }
    } else {
        Retry::Unsure
    };
    SendError::new(retry, format!("mail server: {error}"))
}
