//! The addresses behind the names of the endpoints: looked up anew for each attempt to connect, and
//! each an endpoint of its own.

use crate::config::Endpoint;
use crate::locking::lock;
use futures_util::future::{BoxFuture, FutureExt, Shared, join_all};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

/// How long an attempt waits for name servers before it goes on with what is known.
const LOOK_UP_MAX: Duration = Duration::from_millis(500);

/// The most addresses of one name that are used.
const ADDRESSES_MAX: usize = 32;

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its place in the list of endpoints.
    pub(crate) endpoint: usize,
    /// Where it is; or why nobody knows.
    pub(crate) address: Result<SocketAddr, String>,
}

/// What is known of the names, shared by all connections.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    names: Mutex<HashMap<(String, u16), Name>>,
    /// Sidecars of a fleet prefer different addresses of a name.
    order: RandomState,
}

#[derive(Debug, Default)]
struct Name {
    known: Vec<SocketAddr>,
    look_up: Option<LookUp>,
}

/// There is one at a time for each name, because the system's resolver blocks a thread.
type LookUp = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

impl Addresses {
    /// All targets of the endpoints, in the order of the endpoints. A name whose look-up fails is
    /// one target without an address, and so is one that no name server has answered for yet. While
    /// name servers are silent, the last answer counts.
    pub(crate) async fn targets(&self, endpoints: &[Endpoint]) -> Vec<Target> {
        let each = endpoints.iter().map(|endpoint| self.of(&endpoint.host, endpoint.port));
        let found = join_all(each).await.into_iter().enumerate();
        found
            .flat_map(|(endpoint, found)| {
                let addresses = match found {
                    Ok(addresses) => addresses.into_iter().map(Ok).collect(),
                    Err(reason) => vec![Err(reason)],
                };
                addresses.into_iter().map(move |address| Target { endpoint, address })
            })
            .collect()
    }

    /// The endpoint that has this address, as was known last.
    pub(crate) fn endpoint_of(&self, address: SocketAddr, endpoints: &[Endpoint]) -> Option<usize> {
        let names = lock(&self.names);
        endpoints.iter().position(|Endpoint { host, port, .. }| match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, *port) == address,
            Err(_) => names.get(&(host.clone(), *port)).is_some_and(|name| name.known.contains(&address)),
        })
    }

    async fn of(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let answer = tokio::time::timeout(LOOK_UP_MAX, self.look_up(host, port)).await;
        let mut names = lock(&self.names);
        let name = names.entry((host.to_owned(), port)).or_default();
        let Ok(answer) = answer else {
            let silent = || "no name server has answered yet".to_owned();
            return if name.known.is_empty() { Err(silent()) } else { Ok(name.known.clone()) };
        };
        name.look_up = None;
        name.known = self.in_our_order(answer.clone().unwrap_or_default());
        answer?;
        if name.known.is_empty() { Err("the name has no address".to_owned()) } else { Ok(name.known.clone()) }
    }

    fn look_up(&self, host: &str, port: u16) -> LookUp {
        let key = (host.to_owned(), port);
        let mut names = lock(&self.names);
        let name = names.entry(key.clone()).or_default();
        let look_up = || async move {
            let found = tokio::net::lookup_host(key).await.map_err(|error| error.to_string())?;
            Ok(found.collect())
        };
        name.look_up.get_or_insert_with(|| look_up().boxed().shared()).clone()
    }

    /// Name servers answer in changing orders; connections are spread by a lasting one. The family
    /// that the system prefers stays first.
    fn in_our_order(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let mut ordered = addresses;
        ordered.sort_by_cached_key(|address| {
            (address.is_ipv6() != prefers_v6, self.order.hash_one(address.ip()), *address)
        });
        ordered.dedup();
        ordered.truncate(ADDRESSES_MAX);
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_order_of_addresses_does_not_follow_the_name_server() {
        let addresses = Addresses::default();
        let [a, b, c] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(address);
        let ordered = addresses.in_our_order(vec![a, b, c, a]);
        assert_eq!(ordered.len(), 3);
        assert_eq!(addresses.in_our_order(vec![c, a, b]), ordered);
    }

    #[test]
    fn the_preferred_family_comes_first() {
        let addresses = Addresses::default();
        let [v6, v4] = ["[::1]:1", "127.0.0.1:1"].map(address);
        assert_eq!(addresses.in_our_order(vec![v6, v4]), [v6, v4]);
        assert_eq!(addresses.in_our_order(vec![v4, v6]), [v4, v6]);
    }

    #[tokio::test]
    async fn addresses_need_no_name_server_and_names_that_fail_say_why() {
        let addresses = Addresses::default();
        let found = addresses.of("::1", 5672).await;
        assert_eq!(found, Ok(vec![address("[::1]:5672")]));
        assert!(addresses.of("there-is-no-such-host.invalid", 5672).await.is_err());
    }
}
