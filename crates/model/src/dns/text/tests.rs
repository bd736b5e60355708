use super::*;
use proptest::prelude::*;

fn origin() -> DnsName {
    "shop.example".parse().unwrap()
}

fn read(line: &str) -> Result<String, String> {
    DnsRecord::parse(line, &origin(), 300)
        .map(|record| record.to_string())
        .map_err(|error| format!("{}; {}", error.message, error.hint))
}

#[test]
fn records_are_read_as_a_zone_file_has_them() {
    for (line, full) in [
        ("www A 192.0.2.1", "www.shop.example. 300 IN A 192.0.2.1"),
        (
            "www 1h IN A 192.0.2.1 ; the old one",
            "www.shop.example. 3600 IN A 192.0.2.1",
        ),
        (
            "www IN 60 AAAA 2001:DB8::1",
            "www.shop.example. 60 IN AAAA 2001:db8::1",
        ),
        (
            "@ MX 10 mail.example.net.",
            "shop.example. 300 IN MX 10 mail.example.net.",
        ),
        (
            "blog CNAME www",
            "blog.shop.example. 300 IN CNAME www.shop.example.",
        ),
        (
            "@ ALIAS lb.example.net.",
            "shop.example. 300 IN ALIAS lb.example.net.",
        ),
        (
            "@ TXT \"v=spf1 -all\"",
            "shop.example. 300 IN TXT \"v=spf1 -all\"",
        ),
        (
            "t TXT one \"two three\" \"\"",
            "t.shop.example. 300 IN TXT \"one\" \"two three\" \"\"",
        ),
        (
            "t TXT \"a\\\"b\\\\c\\007;\"",
            "t.shop.example. 300 IN TXT \"a\\\"b\\\\c\\007;\"",
        ),
        (
            "_sip._tcp SRV 1 2 5060 sip",
            "_sip._tcp.shop.example. 300 IN SRV 1 2 5060 sip.shop.example.",
        ),
        (
            "@ CAA 128 ISSUE \"ca.example\"",
            "shop.example. 300 IN CAA 128 issue \"ca.example\"",
        ),
        ("sub NS ns1.sub", ""),
        (
            "sub NS ns1.sub.shop.example.",
            "sub.shop.example. 300 IN NS ns1.sub.shop.example.",
        ),
        (
            "sub DS 1 13 2 ABcd ef01",
            "sub.shop.example. 300 IN DS 1 13 2 abcdef01",
        ),
        (
            "_443._tcp TLSA 3 1 1 00ff",
            "_443._tcp.shop.example. 300 IN TLSA 3 1 1 00ff",
        ),
        (
            "x TYPE65 \\# 3 000100",
            "x.shop.example. 300 IN TYPE65 \\# 3 000100",
        ),
        ("x TYPE99 \\# 0", "x.shop.example. 300 IN TYPE99 \\# 0 "),
    ] {
        match full {
            "" => assert!(read(line).is_err(), "{line}"),
            _ => assert_eq!(read(line).as_deref(), Ok(full), "{line}"),
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_write() {
    let told = |line: &str| read(line).unwrap_err();
    insta::assert_snapshot!([
        "", "www", "www A", "www A 300.1.1.1", "www A 192.0.2.1 192.0.2.2", "www SOA x", "www RRSIG x", "www FOO x",
        "www.shop.example A 192.0.2.1", "www.other.example. A 192.0.2.1", "@ MX 10 mail.example.net",
        "@ MX mail.example.net.", "t TXT \"open", "t TXT ( a", "www 5x A 192.0.2.1", "www CH A 192.0.2.1",
        "a..b A 192.0.2.1", "x TYPE6 \\# 1 00", "x TYPE5 \\# 1 00", "x TYPE65 \\# 2 00", "x TYPE250 \\# 1 00",
        "@ CAA 0 issue", "bücher A 192.0.2.1",
    ].map(|line| format!("{line:34} {}", told(line))).join("\n"), @r#"
                                   there is no record; write NAME [TTL] TYPE DATA, such as: www 300 A 192.0.2.1
www                                the record ends before its type; write NAME [TTL] TYPE DATA, such as: www 300 A 192.0.2.1
www A                              this is no A record; write A 192.0.2.1
www A 300.1.1.1                    this is no A record; write A 192.0.2.1
www A 192.0.2.1 192.0.2.2          this is no A record; write A 192.0.2.1
www SOA x                          a SOA record cannot be written here; the server makes it by itself
www RRSIG x                        a RRSIG record cannot be written here; the server makes it by itself
www FOO x                          `FOO` is not a record type that is known here; for a type without a form of its own write TYPE65 \# LENGTH HEX (RFC 3597)
www.shop.example A 192.0.2.1       `www.shop.example` means www.shop.example.shop.example., with the domain twice; end it with a dot (`www.shop.example.`), or leave the domain out
www.other.example. A 192.0.2.1     www.other.example. is not in the zone shop.example.; only names below the manifest's domain are served here
@ MX 10 mail.example.net           `mail.example.net` has no dot at its end, so it would mean mail.example.net.shop.example.; write `mail.example.net.`, or `mail.example.net.shop.example.` when it is a name of this zone
@ MX mail.example.net.             this is no MX record; write MX 10 mail.example.net.
t TXT "open                        a quoted text does not end; add the closing quote
t TXT ( a                          a parenthesis stands outside of quotes; write one record on one line
www 5x A 192.0.2.1                 `5x` is no time to live; write seconds, such as 300, or with a unit, such as 5m, 1h, 1d
www CH A 192.0.2.1                 class CH is not served; leave the class out
a..b A 192.0.2.1                   `a..b` has an empty label; labels have 1 to 63 bytes, and a whole name up to 255
x TYPE6 \# 1 00                    a SOA record cannot be written here; the server makes it by itself
x TYPE5 \# 1 00                    this is no CNAME record; write one name, such as host.example.net.
x TYPE65 \# 2 00                   the length says 2 and there are 1 bytes; write the number of bytes that follow
x TYPE250 \# 1 00                  a TSIG record cannot be written here; the server makes it by itself
@ CAA 0 issue                      this is no CAA record; write CAA 0 issue "letsencrypt.org"
bücher A 192.0.2.1                 `bücher` has letters beyond ASCII: write its form that begins with xn--; every tool that registers such domains shows the form that begins with xn--
"#);
}

#[test]
fn a_long_text_is_divided() {
    let line = format!("t TXT \"{}\"", "x".repeat(600));
    let record = DnsRecord::parse(&line, &origin(), 300).unwrap();
    assert_eq!(record.data.wire().unwrap().len(), 600 + 3);
    assert!(read(&format!("t TXT \"{}\"", "x".repeat(4096))).is_err());
}

proptest! {
    #[test]
    fn no_line_panics_and_what_is_read_is_written(line in "[ -~\\n\\täß]{0,80}") {
        if let Ok(record) = DnsRecord::parse(&line, &origin(), 300) {
            prop_assert_eq!(DnsRecord::try_from(record.to_string()).unwrap(), record);
        }
    }

    #[test]
    fn any_text_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..255)) {
        let record = DnsRecord { name: origin(), ttl_s: 1, data: DnsData::Txt(vec![bytes.into()]) };
        prop_assert_eq!(DnsRecord::try_from(record.to_string()).unwrap(), record);
    }
}
