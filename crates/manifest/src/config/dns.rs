//! `[edge.dns]`.

use astraler_model::{DnsName, DnsRecord, Network};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Authoritative DNS for the manifest's domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// Port for queries, UDP and TCP; 53 where the world shall ask. 0 serves no DNS.
    pub port: u16,
    /// Sign the zone. Resolvers look at signatures when the registrar has the DS record that `astraler dns show` prints.
    pub dnssec: bool,
    /// Addresses by which the world reaches this machine: what the names of the environments lead to. Absent:
    /// `edge.listen_addresses`.
    pub addresses: Vec<IpAddr>,
    /// Names of the zone's servers, as the registrar has them. Absent: `ns1` of the domain.
    pub name_servers: Vec<String>,
    /// Mailbox of who answers for the zone. Absent: `hostmaster` at the domain.
    pub contact: Option<String>,
    /// How long resolvers keep a record that says nothing else.
    #[schemars(range(min = 1, max = 604_800))]
    pub ttl_s: u32,
    /// How long resolvers remember that a name is not there.
    #[schemars(range(min = 1, max = 86_400))]
    pub negative_ttl_s: u32,
    /// Further records in zone-file form, such as `www CNAME app` or `@ MX 10 mail.example.net.`. What they say about a
    /// name takes the place of what the platform says about it. `ALIAS` has the addresses of another name.
    pub records: Vec<String>,
    /// Who may issue certificates for the domain (CAA records); empty is everybody.
    pub caa_issuers: Vec<String>,
    /// Address of the resolver that is asked for the addresses of an `ALIAS` that leads out of the zone. Absent: nobody is
    /// asked, and such an alias is an error.
    #[schemars(with = "Option<String>")]
    pub resolver: Option<Resolver>,
    /// Servers that may transfer the zone (AXFR with TSIG), and are told when it changes.
    pub secondaries: Vec<Secondary>,
    /// Equal answers to one network (/24, /56) in a second; 0 is no limit. Of those above, every second one says "ask over
    /// TCP", which a real client does.
    pub response_rate_per_s: u32,
    /// Networks without that limit, in CIDR form.
    #[schemars(with = "Vec<String>")]
    pub rate_exempt: Vec<Network>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            port: 3053,
            dnssec: true,
            addresses: vec![],
            name_servers: vec![],
            contact: None,
            ttl_s: 300,
            negative_ttl_s: 300,
            records: vec![],
            caa_issuers: vec!["letsencrypt.org".into()],
            resolver: None,
            secondaries: vec![],
            response_rate_per_s: 20,
            rate_exempt: vec![],
        }
    }
}

impl Dns {
    /// The further records of a domain.
    pub fn records(&self, domain: &DnsName) -> Vec<DnsRecord> {
        // Each was checked when the manifest was read.
        let records = self.records.iter();
        records
            .filter_map(|line| DnsRecord::parse(line, domain, self.ttl_s).ok())
            .collect()
    }
}

/// A server that has the zone from us.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secondary {
    /// Name of the key, the same on both sides.
    pub key_name: String,
    /// Name of the secret with the key in Base64, in `astraler secrets --env platform`.
    pub key_secret: String,
    /// Addresses (with a port where it is not 53) that are told about each change.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub notify: Vec<Resolver>,
}

/// Address of a DNS server; port 53 where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Resolver(pub SocketAddr);

impl From<Resolver> for String {
    fn from(resolver: Resolver) -> Self {
        resolver.0.to_string()
    }
}

impl TryFrom<String> for Resolver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bare = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        let whole = bare.or_else(|_| text.parse::<SocketAddr>());
        whole
            .map(Self)
            .map_err(|_| format!("\"{text}\" is no address of a DNS server"))
    }
}
