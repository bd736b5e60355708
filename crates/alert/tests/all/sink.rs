//! Real servers that say what a test wants: HTTP and SMTP.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What a server does with whoever comes.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// HTTP: answers this.
    Answers(&'static str),
    /// Ends the connection when it has heard everything.
    Breaks,
    /// Takes the connection and says nothing.
    Hangs,
    /// SMTP: takes mail.
    TakesMail,
    /// SMTP: takes mail, and hangs before it says so.
    HangsAtTheEnd,
    /// SMTP: answers this to the receiver.
    Refuses(&'static str),
}

/// A server, and what it heard.
pub(crate) struct Sink {
    pub(crate) port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Sink {
    pub(crate) async fn new(does: Does) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (does, all) = (does.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    match does {
                        Does::Hangs => std::future::pending::<()>().await,
                        Does::Answers(answer) => http(stream, Some(answer), &all).await,
                        Does::Breaks => http(stream, None, &all).await,
                        does => smtp(stream, &does, &all).await,
                    }
                });
            }
        });
        Self { port, heard }
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn http(stream: TcpStream, answer: Option<&str>, heard: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" || line.is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let text = format!("{head}\n{}", String::from_utf8(body).unwrap());
    heard.lock().unwrap().push(text);
    if let Some(answer) = answer {
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

async fn smtp(stream: TcpStream, does: &Does, heard: &Mutex<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    let mut answer = "220 sink ready\r\n";
    loop {
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            break;
        }
        said.push_str(&line);
        let word = line.split([' ', '\r']).next().unwrap_or_default().to_uppercase();
        answer = match (word.as_str(), does) {
            ("EHLO", _) => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME\r\n",
            ("AUTH", _) => "235 welcome\r\n",
            ("RCPT", Does::Refuses(refusal)) => refusal,
            ("DATA", _) => {
                stream.write_all(b"354 go on\r\n").await.unwrap();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    if line == ".\r\n" || line.is_empty() {
                        break;
                    }
                    said.push_str(&line);
                }
                heard.lock().unwrap().push(said.clone());
                if matches!(does, Does::HangsAtTheEnd) {
                    std::future::pending::<()>().await;
                }
                "250 taken\r\n"
            }
            ("QUIT", _) => {
                let _ = stream.write_all(b"221 bye\r\n").await;
                break;
            }
            _ => "250 ok\r\n",
        };
    }
}
