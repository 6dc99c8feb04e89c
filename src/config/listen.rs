//! `ListenAddress`: where the HTTP listener accepts connections.

use crate::text::quantities::parse_number;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The longest path of a socket, in bytes: Linux stores 108, the last one is NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// One place to listen at: a TCP address or the path of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; port 0 lets the system choose a free one.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket, at most 107 bytes.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Reads `host:port` or `unix:/path`; or says what was expected.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(path) = text.strip_prefix("unix:") else {
            return parse_address(text)
                .map(Self::Tcp)
                .ok_or("host:port, the host an IP address (IPv6 in brackets) or localhost; or unix:/path");
        };
        // A relative path would depend on the working directory, and a leading NUL does not name a
        // file.
        if !path.starts_with('/') || path.contains('\0') {
            return Err("an absolute path after unix:");
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err("a path of at most 107 bytes after unix:");
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }

    /// Whether the system refuses to listen at both addresses.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => collide(*one, *other),
            (Self::Unix(one), Self::Unix(other)) => one == other,
            (Self::Tcp(_), Self::Unix(_)) | (Self::Unix(_), Self::Tcp(_)) => false,
        }
    }
}

/// Reads `host:port`. `localhost` is the IPv4 loopback, whatever the machine's host file says: one
/// text, one socket.
pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => {
            let port = u16::try_from(parse_number(port)?).ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        }
        None => text.parse().ok(),
    }
}

/// Two addresses collide on one port if they are equal or one of them is "any address". Port 0
/// never collides.
pub(super) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (any || one.ip() == other.ip())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ListenAddress {
        ListenAddress::parse(text).unwrap_or_else(|expected| panic!("{text}: {expected}"))
    }

    #[test]
    fn addresses_names_and_sockets_are_read() {
        assert_eq!(parse("127.0.0.1:8672").to_string(), "127.0.0.1:8672");
        assert_eq!(parse("localhost:0").to_string(), "127.0.0.1:0");
        assert_eq!(parse("[::1]:8672").to_string(), "[::1]:8672");
        assert_eq!(parse("unix:/run/a,b.sock"), ListenAddress::Unix(PathBuf::from("/run/a,b.sock")));
    }

    #[test]
    fn what_names_no_single_socket_is_refused() {
        for text in [
            "",
            "8672",
            ":8672",
            "*:8672",
            "::1:8672",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "localhost:+1",
            "localhost",
            "example.org:80",
            "http://127.0.0.1:80",
            "unix:",
            "unix:run/a.sock",
            "unix:@abstract",
            "unix:/a\0b",
        ] {
            assert!(ListenAddress::parse(text).is_err(), "{text:?}");
        }
        assert!(ListenAddress::parse(&format!("unix:/{}", "a".repeat(106))).is_ok());
        assert!(ListenAddress::parse(&format!("unix:/{}", "a".repeat(107))).is_err());
    }

    #[test]
    fn any_address_collides_with_each_address_of_its_family() {
        let collide = |one, other| parse(one).collides_with(&parse(other));
        assert!(collide("127.0.0.1:1", "localhost:1"));
        assert!(collide("0.0.0.0:1", "127.0.0.1:1"));
        assert!(collide("[::]:1", "[::1]:1"));
        assert!(collide("unix:/a", "unix:/a"));
        assert!(!collide("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!collide("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!collide("0.0.0.0:1", "[::]:1"));
        assert!(!collide("unix:/a", "unix:/b"));
        // Tests let the system choose every port.
        assert!(!collide("127.0.0.1:0", "127.0.0.1:0"));
    }
}
