//! Certificates of a CA of others, by ACME (RFC 8555): an account, orders in steps that their keeper writes down between,
//! and when a CA wants a certificate renewed (RFC 9773).

mod http;

use http::Client;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, Key, NewOrder,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a CA may take to validate, and to issue.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));
/// All that one conversation may take.
const LONGEST: Duration = Duration::from_secs(180);

/// Which CA, and how it is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// Its directory.
    pub directory_url: String,
    /// PEM of the roots by which its server is trusted; public ones when absent.
    pub roots: Option<String>,
    /// Contact of the account.
    pub email: Option<String>,
}

/// How a name is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// A file over HTTP.
    Http01,
    /// A certificate (RFC 8737).
    TlsAlpn01,
    /// A record of DNS.
    Dns01,
}

/// What convinces a CA of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The name.
    pub name: String,
    /// HTTP-01: the last part of the path.
    pub token: String,
    /// HTTP-01: what answers there.
    pub authorisation: String,
    /// DNS-01: the text of the record `_acme-challenge.NAME`.
    pub dns_value: String,
    digest: Vec<u8>,
}

/// A CA does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// It refuses: names, account or rate.
    #[error("the CA refuses: {0}")]
    Refused(String),
    /// It did not answer as RFC 8555 says, or not at all.
    #[error("the ACME server cannot be used: {0}")]
    Server(String),
    /// The order has failed or is gone: the next attempt begins a new one.
    #[error("the order has failed: {0}")]
    OrderLost(String),
    /// It does not offer this way of proving a name.
    #[error("the CA offers no {0:?} for {1}")]
    NoChallenge(Challenge, String),
    /// It took too long.
    #[error("the CA has not answered within {} s", LONGEST.as_secs())]
    Late,
    /// The account's key, or the roots.
    #[error("what is configured for ACME cannot be used: {0}")]
    Config(String),
    /// A key or a request could not be made.
    #[error("a certificate cannot be asked for")]
    Make(#[from] rcgen::Error),
}

impl AcmeError {
    /// What a person can do about it, where the problem's type says it (RFC 8555 section 6.7).
    pub fn next_step(&self, name: &str, challenge: Challenge) -> Option<String> {
        let words = match self {
            Self::Refused(words) | Self::OrderLost(words) => words,
            Self::Server(_) | Self::Late => {
                return Some("see that this machine reaches edge.tls.acme_directory_url".into());
            }
            Self::NoChallenge(..) => return Some("say another edge.tls.acme_challenge".into()),
            Self::Config(_) | Self::Make(_) => return None,
        };
        let (_, problem) = words.split_once("urn:ietf:params:acme:error:")?;
        let end = problem.find(|c: char| !c.is_ascii_alphanumeric());
        match &problem[..end.unwrap_or(problem.len())] {
            "dns" if challenge == Challenge::Dns01 => {
                Some(format!("delegate the zone of {name} to this server"))
            }
            "dns" => Some(format!("let the DNS records of {name} lead to this machine")),
            "connection" | "tls" | "unauthorized" | "incorrectResponse" => Some(match challenge {
                Challenge::Http01 => format!("let {name} and its port 80 lead to this machine's plain HTTP"),
                Challenge::TlsAlpn01 => format!("let {name} and its port 443 lead to this machine's https"),
                Challenge::Dns01 => format!("delegate the zone of {name} to this server"),
            }),
            "caa" => Some(format!("allow this CA in the CAA records of {name}")),
            "rejectedIdentifier" | "unsupportedIdentifier" => Some(format!(
                "get a certificate for {name} elsewhere: this CA issues none"
            )),
            "rateLimited" => Some("wait: it is asked again when the CA allows it".into()),
            "invalidContact" | "unsupportedContact" => Some("say another edge.tls.email".into()),
            "externalAccountRequired" => Some("choose a CA that needs no account made beforehand".into()),
            _ => None,
        }
    }
}

/// An account at a CA.
pub struct Acme {
    account: Account,
    /// When it said that it wants to be left alone.
    wait: http::Wait,
}

/// An order under way.
pub struct Order {
    order: instant_acme::Order,
    challenge: Challenge,
}

impl Acme {
    /// A new account key, PEM: a secret.
    pub fn generate_key() -> Result<String, AcmeError> {
        Ok(KeyPair::generate()?.serialize_pem())
    }

    /// Opens the account of a key, which is made where the CA does not know it yet.
    pub async fn open(config: &AcmeConfig, key: &str) -> Result<Self, AcmeError> {
        let unusable = |error: String| AcmeError::Config(error);
        let der =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable(error.to_string()))?;
        let PrivateKeyDer::Pkcs8(pkcs8) = &der else {
            return Err(unusable("the account's key is no PKCS#8".into()));
        };
        let parsed = Key::from_pkcs8_der(pkcs8.clone_key()).map_err(|error| unusable(error.to_string()))?;
        let wait = http::Wait::default();
        let client = Client::new(config.roots.as_deref(), Arc::clone(&wait)).map_err(unusable)?;
        let opened = async {
            let builder = Account::builder_with_http(Box::new(client));
            let (account, _) = builder
                .create_from_key((parsed, der), config.directory_url.clone())
                .await?;
            if let Some(email) = &config.email {
                account.update_contacts(&[&format!("mailto:{email}")]).await?;
            }
            Ok(account)
        };
        Ok(Self {
            account: in_time(opened).await?,
            wait,
        })
    }

    /// How long the CA has asked to be left alone, in seconds, in its last refusal.
    pub fn retry_after_s(&self) -> Option<u64> {
        *self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an order. Its keeper writes [`Order::url`] down before anything else.
    pub async fn begin(
        &self,
        name: &str,
        challenge: Challenge,
        replaces: Option<&str>,
    ) -> Result<Order, AcmeError> {
        let names = [Identifier::Dns(name.to_owned())];
        let new = NewOrder::new(&names);
        // A CA that knows what is renewed lets it pass its limits; one that does not may refuse the word.
        let before = replaces.and_then(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok());
        let id = before
            .as_ref()
            .and_then(|der| CertificateIdentifier::try_from(der).ok());
        let order = async {
            let replacing = match id {
                Some(id) => self.account.new_order(&NewOrder::new(&names).replaces(id)).await,
                None => Err(instant_acme::Error::Unsupported("replaces")),
            };
            match replacing {
                Ok(order) => Ok(order),
                Err(instant_acme::Error::Api(problem)) if is_rate_limit(&problem) => {
                    Err(instant_acme::Error::Api(problem))
                }
                Err(_) => self.account.new_order(&new).await,
            }
        };
        Ok(Order {
            order: in_time(order).await?,
            challenge,
        })
    }

    /// Takes an order up that was begun before.
    pub async fn resume(&self, url: &str, challenge: Challenge) -> Result<Order, AcmeError> {
        let order = in_time(self.account.order(url.to_owned())).await;
        match order {
            Ok(order) => Ok(Order { order, challenge }),
            Err(AcmeError::Refused(why)) => Err(AcmeError::OrderLost(why)),
            Err(error) => Err(error),
        }
    }

    /// When the CA wants a certificate renewed, in milliseconds since the Unix epoch; nothing where it has no opinion.
    /// Of its window the moment that `dice` says.
    pub async fn suggested_ms(&self, pem: &str, dice: u64) -> Result<Option<u64>, AcmeError> {
        let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
            return Ok(None);
        };
        let Ok(id) = CertificateIdentifier::try_from(&der) else {
            return Ok(None);
        };
        let asked = tokio::time::timeout(LONGEST, self.account.renewal_info(&id)).await;
        let window = match asked.map_err(|_| AcmeError::Late)? {
            Ok((info, _)) => info.suggested_window,
            Err(instant_acme::Error::Unsupported(_)) => return Ok(None),
            Err(error) => return Err(refusal(error)),
        };
        let ms = |at: i64| u64::try_from(at).unwrap_or(0).saturating_mul(1_000);
        let (start, end) = (ms(window.start.unix_timestamp()), ms(window.end.unix_timestamp()));
        Ok(Some(start + dice % end.saturating_sub(start).max(1)))
    }
}

impl Order {
    /// By which it can be taken up again.
    pub fn url(&self) -> &str {
        self.order.url()
    }

    /// What the CA still wants to see; nothing when it is convinced.
    pub async fn proofs(&mut self) -> Result<Vec<Proof>, AcmeError> {
        let challenge = self.challenge;
        let order = &mut self.order;
        if order.state().status == OrderStatus::Invalid {
            return Err(lost(order));
        }
        let wanted = async {
            let mut proofs = Vec::new();
            let mut all = order.authorizations();
            while let Some(authorization) = all.next().await {
                let mut authorization = authorization?;
                if authorization.status != AuthorizationStatus::Pending {
                    continue;
                }
                let name = authorization.identifier().to_string();
                match authorization.challenge(kind(challenge)) {
                    Some(offered) => {
                        let key = offered.key_authorization();
                        proofs.push(Ok(Proof {
                            name,
                            token: offered.token.clone(),
                            authorisation: key.as_str().to_owned(),
                            dns_value: key.dns_value(),
                            digest: key.digest().as_ref().to_vec(),
                        }));
                    }
                    None => proofs.push(Err(name)),
                }
            }
            Ok(proofs)
        };
        let proofs = in_time(wanted).await?;
        let missing = |name| AcmeError::NoChallenge(challenge, name);
        proofs.into_iter().map(|proof| proof.map_err(missing)).collect()
    }

    /// Says that the proofs can be seen, and waits until the CA has looked.
    pub async fn validate(&mut self) -> Result<(), AcmeError> {
        let challenge = self.challenge;
        let order = &mut self.order;
        let validated = async {
            let mut all = order.authorizations();
            while let Some(authorization) = all.next().await {
                let mut authorization = authorization?;
                if authorization.status == AuthorizationStatus::Pending
                    && let Some(mut offered) = authorization.challenge(kind(challenge))
                {
                    offered.set_ready().await?;
                }
            }
            if order.state().status == OrderStatus::Pending {
                order.poll_ready(&PATIENCE).await?;
            }
            Ok(())
        };
        let validated = in_time(validated).await;
        if self.order.state().status == OrderStatus::Invalid
            || matches!(validated, Err(AcmeError::Refused(_)))
        {
            return Err(match validated {
                Err(AcmeError::Refused(why)) => AcmeError::OrderLost(self.reason().await.unwrap_or(why)),
                _ => AcmeError::OrderLost(self.reason().await.unwrap_or_else(|| "it is invalid".into())),
            });
        }
        validated
    }

    /// What the CA says of the name that it is not convinced of.
    async fn reason(&mut self) -> Option<String> {
        let mut all = self.order.authorizations();
        while let Some(Ok(mut authorization)) = all.next().await {
            let fresh = tokio::time::timeout(LONGEST, authorization.refresh())
                .await
                .ok()?
                .ok()?;
            if let Some(problem) = fresh.challenges.iter().find_map(|one| one.error.as_ref()) {
                return Some(problem.to_string());
            }
        }
        None
    }

    /// Asks for the certificate of a key that its keeper has written down, and waits for it; PEM of the chain.
    pub async fn finish(&mut self, name: &str, key: &str) -> Result<String, AcmeError> {
        let key = KeyPair::from_pem(key)?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key)?;
        let order = &mut self.order;
        let issued = async {
            if order.state().status == OrderStatus::Ready {
                order.finalize_csr(request.der()).await?;
            }
            match order.state().status {
                OrderStatus::Valid => Ok(order.certificate().await?.unwrap_or_default()),
                _ => order.poll_certificate(&PATIENCE).await,
            }
        };
        match in_time(issued).await {
            Err(AcmeError::Refused(why)) => Err(AcmeError::OrderLost(why)),
            Err(_) if self.order.state().status == OrderStatus::Invalid => Err(lost(&mut self.order)),
            other => other,
        }
    }
}

impl Proof {
    /// TLS-ALPN-01: PEM of the certificate that proves the name, and its key.
    pub fn certificate(&self) -> Result<String, AcmeError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![self.name.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&self.digest)];
        Ok(params.self_signed(&key)?.pem() + &key.serialize_pem())
    }
}

fn kind(challenge: Challenge) -> ChallengeType {
    match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
        Challenge::Dns01 => ChallengeType::Dns01,
    }
}

fn lost(order: &mut instant_acme::Order) -> AcmeError {
    let error = order.state().error.as_ref();
    AcmeError::OrderLost(error.map_or_else(|| "it is invalid".to_owned(), ToString::to_string))
}

fn is_rate_limit(problem: &instant_acme::Problem) -> bool {
    problem.r#type.as_deref() == Some("urn:ietf:params:acme:error:rateLimited")
}

fn refusal(error: instant_acme::Error) -> AcmeError {
    match error {
        instant_acme::Error::Api(problem) => AcmeError::Refused(problem.to_string()),
        instant_acme::Error::Timeout(_) => AcmeError::Late,
        error => AcmeError::Server(error.to_string()),
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, instant_acme::Error>>) -> Result<T, AcmeError> {
    let answered = tokio::time::timeout(LONGEST, asked).await;
    answered.map_err(|_| AcmeError::Late)?.map_err(refusal)
}

/// Shared with the HTTP client.
type Shared<T> = Arc<Mutex<T>>;
