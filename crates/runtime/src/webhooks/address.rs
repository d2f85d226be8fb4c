//! Where nothing is sent: addresses that are not public. A URL that a tenant gives must not make the
//! server a way into the network that it stands in (SSRF).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// Longest URL.
pub const MAX_URL: usize = 2048;

/// Which addresses may be sent to, besides public ones. The operator's to say, never a tenant's.
#[derive(Debug, Clone, Default)]
pub struct Reach(Vec<IpNet>);

impl Reach {
    #[must_use]
    pub const fn new(also: Vec<IpNet>) -> Self {
        Self(also)
    }

    /// Whether anything may be sent to the address. It is to be asked for each connection, with the
    /// address that is connected to: a name can mean another one each time.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|n| n.contains(&address))
    }

    /// A URL that something may be sent to, as far as it says itself: what its name means is looked at
    /// with [`Self::allows`]. The error says what is wrong with it.
    pub fn check(&self, text: &str) -> Result<Url, &'static str> {
        if text.len() > MAX_URL {
            return Err("at most 2048 characters");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("printable ASCII only; write other names as `xn--…`");
        }
        let url = Url::parse(text).map_err(|_| "not a URL")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("no user name and no password: requests are signed");
        }
        if url.fragment().is_some() {
            return Err("no fragment: it would not be sent");
        }
        // The parser has read every odd spelling of an address: octal, hexadecimal, without dots.
        let literal = match url.host() {
            None => return Err("a host is missing"),
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                if name == "localhost" || name.ends_with(".localhost") || !name.contains('.') {
                    return Err("not the name of a public host");
                }
                None
            }
        };
        if literal.is_some_and(|address| !self.allows(address)) {
            return Err("not a public address");
        }
        // In clear only where the operator has said that it stays within their network.
        match url.scheme() {
            "https" => Ok(url),
            "http" if literal.is_some_and(|address| !is_public(address.to_canonical())) => Ok(url),
            _ => Err("https only"),
        }
    }
}

/// Whether an address is one of the public internet (the IANA special-purpose registries say which
/// are not).
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, ..] = address.segments();
    // Global unicast is 2000::/3. In it: documentation, benchmarking, and what carries an IPv4
    // address, which would have to be looked at as one.
    (a & 0xe000) == 0x2000
        && !(a == 0x2001 && (b < 0x0200 || b == 0x0db8))
        && a != 0x2002
        && !((0x3fff..=0x3fff).contains(&a) && b < 0x1000)
        && (a, b, c, d) != (0x2620, 0x4f, 0x8000, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_public_is_told_in_every_spelling() {
        let reach = Reach::default();
        for url in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://0/",
            "https://10.0.0.1/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://198.18.0.1/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[::127.0.0.1]/",
            "https://[fe80::1]/",
            "https://[fc00::1]/",
            "https://[fd12:3456::1]/",
            "https://[ff02::1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[2001:0:7f00:1::]/",
            "https://[2001:db8::1]/",
            "https://localhost/",
            "https://localhost./",
            "https://a.localhost/",
            "https://intranet/",
        ] {
            assert!(reach.check(url).is_err(), "{url}");
        }
        for url in ["https://example.com/hook", "https://93.184.216.34/", "https://[2606:2800:220:1::1]:8443/x"] {
            assert!(reach.check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_url_is_https_and_says_who_sends_nowhere() {
        let reach = Reach::default();
        for url in [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user@example.com/",
            "https://user:secret@example.com/",
            "https://example.com/#x",
            "https://exämple.com/",
            "https:///x",
            "example.com",
            "gopher://example.com/",
        ] {
            assert!(reach.check(url).is_err(), "{url}");
        }
        assert!(reach.check(&format!("https://example.com/{}", "a".repeat(MAX_URL))).is_err());
    }

    #[test]
    fn the_operator_can_name_a_network_that_is_their_own() {
        let reach = Reach::new(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(reach.check("http://127.0.0.1:8080/hook").is_ok());
        assert!(reach.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(reach.check("http://10.0.0.1/hook").is_err());
        assert!(reach.check("http://example.com/hook").is_err());
    }
}
