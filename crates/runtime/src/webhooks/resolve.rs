//! Names resolve to what may be connected to, each time that a connection is made: so a name that means
//! another address the next time is no way in.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Reach;

/// Resolves names to the addresses that a [`Reach`] allows.
#[derive(Debug)]
pub struct Resolver(pub Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| reach.allows(a.ip())).collect();
            if allowed.is_empty() {
                return Err("the name means no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_means_an_address_inside_is_not_connected_to() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Resolver(Reach::default()).resolve(name()).await.is_err());
        let loopback = ["127.0.0.0/8", "::1/128"].map(|n| n.parse().unwrap());
        let found: Vec<_> = Resolver(Reach::new(loopback.into())).resolve(name()).await.unwrap().collect();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback()), "{found:?}");
    }
}
