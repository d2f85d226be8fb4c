//! Where a request comes from. That is who is at the other end of the connection; what a header says
//! of it is believed only of a proxy that the server was told to trust.

use std::net::IpAddr;

use axum::extract::Request;
use http::HeaderName;
use ipnet::IpNet;

/// Who is at the other end of the connection. Whoever takes connections puts it into the extensions
/// of each request; without it nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

static FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most proxies that are looked through.
const MAX_HOPS: usize = 32;

/// Where a request comes from, as far as that is known.
pub fn of(request: &Request, trusted: &[IpNet]) -> Option<IpAddr> {
    let Peer(peer) = request.extensions().get::<Peer>()?;
    let peer = peer.to_canonical();
    let is_trusted = |address: &IpAddr| trusted.iter().any(|n| n.contains(address));
    if !is_trusted(&peer) {
        return Some(peer);
    }
    // Each proxy adds whom it has it from at the end. The last that is none of ours is the caller;
    // whatever stands before it the caller could have written.
    let all = request.headers().get_all(&FORWARDED);
    let mut hops = all.iter().rev().flat_map(|v| v.to_str().unwrap_or("?").rsplit(',')).take(MAX_HOPS);
    let mut from = peer;
    loop {
        let Some(hop) = hops.next() else { return Some(from) };
        // A hop that nobody can read: from there on nothing is known.
        from = hop.trim().parse::<IpAddr>().ok()?.to_canonical();
        if !is_trusted(&from) {
            return Some(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: Option<&str>, forwarded: &[&str], trusted: &[&str]) -> Option<String> {
        let mut request = Request::new(axum::body::Body::empty());
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        }
        for line in forwarded {
            request.headers_mut().append(&FORWARDED, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|n| n.parse().unwrap()).collect();
        of(&request, &trusted).map(|a| a.to_string())
    }

    #[test]
    fn a_header_is_believed_of_a_trusted_proxy_only() {
        assert_eq!(from(Some("203.0.113.9"), &["10.1.1.1"], &[]).as_deref(), Some("203.0.113.9"));
        assert_eq!(from(Some("203.0.113.9"), &["10.1.1.1"], &["10.0.0.0/8"]).as_deref(), Some("203.0.113.9"));
        assert_eq!(from(Some("10.0.0.2"), &["198.51.100.4"], &["10.0.0.0/8"]).as_deref(), Some("198.51.100.4"));
    }

    #[test]
    fn what_a_caller_writes_before_the_proxy_counts_for_nothing() {
        let trusted = ["10.0.0.0/8"];
        let claimed = ["127.0.0.1, 198.51.100.4, 10.0.0.7"];
        assert_eq!(from(Some("10.0.0.2"), &claimed, &trusted).as_deref(), Some("198.51.100.4"));
        let lines = ["127.0.0.1", "198.51.100.4", "10.0.0.7"];
        assert_eq!(from(Some("10.0.0.2"), &lines, &trusted).as_deref(), Some("198.51.100.4"));
    }

    #[test]
    fn what_cannot_be_read_is_nowhere() {
        assert_eq!(from(None, &["10.1.1.1"], &["10.0.0.0/8"]), None);
        assert_eq!(from(Some("10.0.0.2"), &["unknown"], &["10.0.0.0/8"]), None);
        assert_eq!(from(Some("10.0.0.2"), &[], &["10.0.0.0/8"]).as_deref(), Some("10.0.0.2"));
        assert_eq!(from(Some("::ffff:10.0.0.2"), &["198.51.100.4"], &["10.0.0.0/8"]).as_deref(), Some("198.51.100.4"));
    }
}
