//! `Endpoint`: one broker node, as an AMQP URI names it.
//!
//! The URI is parsed here rather than by a general URL parser, which quietly resolves `..`, drops
//! newlines and passes broken percent sequences. Each of these would connect to another address
//! than the given one.

use super::secret::{REDACTED, Secret};
use crate::text::percent::{self, BrokenEncoding};
use crate::text::quantities::parse_number;
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::Ipv6Addr;

/// RabbitMQ's own default user and password.
const GUEST: &str = "guest";

/// The longest name of a virtual host that AMQP can carry.
const VHOST_BYTES_MAX: usize = 255;

/// The longest name that DNS can hold.
const HOST_BYTES_MAX: usize = 253;

/// One broker node and how to log in to it. `Display`, `Debug` and `Serialize` give a URI without
/// credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether the connection is TLS (`amqps`).
    pub tls: bool,
    /// A host name or an IP literal; IPv6 without brackets.
    pub host: String,
    /// 1 to 65535. If the URI has none: 5672, or 5671 with TLS.
    pub port: u16,
    /// The virtual host, decoded, 1 to 255 bytes; `/` when the URI names none.
    pub vhost: String,
    /// The user to log in as, never empty.
    pub user: String,
    /// The user's password, never empty.
    pub password: Secret,
}

/// A URI cut at its delimiters, nothing decoded yet.
struct Parts<'a> {
    tls: bool,
    userinfo: Option<&'a str>,
    host_and_port: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// What to do instead of the query parameters that other AMQP libraries know.
const QUERY_PARAMETERS: &[(&str, &str)] = &[
    ("auth_mechanism", "amqpost always logs in with PLAIN"),
    ("cacertfile", "set broker.ca_file instead"),
    ("certfile", "amqpost has no client certificates"),
    ("channel_max", "amqpost chooses its channels itself"),
    ("connection_timeout", "set broker.connect_timeout instead"),
    ("frame_max", "set broker.frame_max instead"),
    ("heartbeat", "set broker.heartbeat instead"),
    ("keyfile", "amqpost has no client certificates"),
    ("name", "set broker.connection_name instead"),
    ("server_name_indication", "amqpost always sends the host of the URI"),
    ("verify", "amqpost always verifies the broker's certificate"),
];

impl Endpoint {
    /// Reads an AMQP URI; or lists everything that was expected of it, without credentials.
    pub(super) fn parse(uri: &str) -> Result<Self, Vec<String>> {
        let parts = Parts::cut(uri).map_err(|expected| vec![expected.to_owned()])?;
        let mut endpoint = Self {
            tls: parts.tls,
            host: String::new(),
            port: if parts.tls { 5671 } else { 5672 },
            vhost: "/".to_owned(),
            user: GUEST.to_owned(),
            password: Secret::new(GUEST),
        };
        let mut faults: Vec<String> = [
            endpoint.set_host_and_port(parts.host_and_port),
            endpoint.set_vhost(parts.path),
            endpoint.set_credentials(parts.userinfo),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect();
        faults.extend(parts.superfluous(faults.is_empty()));
        if faults.is_empty() { Ok(endpoint) } else { Err(faults) }
    }

    /// `host:port`, IPv6 in brackets; fit for logs and metrics.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn uri(&self, userinfo: &str) -> String {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        format!("{scheme}://{userinfo}{}/{}", self.authority(), encode(&self.vhost))
    }

    fn set_host_and_port(&mut self, text: &str) -> Result<(), String> {
        let (host, port) = split_host(text)?;
        host.clone_into(&mut self.host);
        if let Some(port) = port {
            self.port =
                parse_number(port).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).ok_or(
                    "a port from 1 to 65535 (in a user or password, write : / ? # @ as %3a %2f %3f %23 %40)",
                )?;
        }
        Ok(())
    }

    fn set_vhost(&mut self, path: &str) -> Result<(), String> {
        let name = path.strip_prefix('/').unwrap_or(path);
        // Strictly, `amqp://host/` names the empty vhost. No broker has one, and everybody who
        // writes this means the default vhost.
        if name.is_empty() {
            return Ok(());
        }
        if name.contains('/') {
            return Err("one vhost; a / inside its name is written %2f".to_owned());
        }
        self.vhost = decode(name, "vhost")?;
        if self.vhost.len() > VHOST_BYTES_MAX {
            return Err(format!("a vhost of at most {VHOST_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn set_credentials(&mut self, userinfo: Option<&str>) -> Result<(), String> {
        let Some(userinfo) = userinfo else { return Ok(()) };
        let (user, password) = userinfo.split_once(':').map_or((userinfo, None), |(u, p)| (u, Some(p)));
        self.user = decode(user, "user")?;
        if self.user.is_empty() {
            return Err("a user before the @".to_owned());
        }
        if let Some(password) = password {
            let password = decode(password, "password")?;
            if password.is_empty() {
                return Err("a password after the user's colon".to_owned());
            }
            self.password = Secret::new(password);
        }
        Ok(())
    }
}

/// A URI of the same place, without credentials.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.uri(""))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Like `Display`, but with `***` in place of the credentials.
impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.uri("***@"))
    }
}

impl<'a> Parts<'a> {
    fn cut(uri: &'a str) -> Result<Self, &'static str> {
        let (tls, rest) = match uri.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqp") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("amqps") => (true, rest),
            Some(_) | None => return Err("a URI that begins with amqp:// or amqps://"),
        };
        if rest.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err("a URI without spaces and control characters; write a space as %20");
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(r, f)| (r, Some(f)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // An @ after the host means that a password was cut in two: the apparent host is the user.
        if [Some(path), query, fragment].into_iter().flatten().any(|part| part.contains('@')) {
            return Err("/ ? # @ in a user, password or vhost written as %2f %3f %23 %40");
        }
        let (userinfo, host_and_port) =
            authority.rsplit_once('@').map_or((None, authority), |(userinfo, host)| (Some(userinfo), host));
        Ok(Self { tls, userinfo, host_and_port, path, query, fragment })
    }

    /// A fault for each part that would have to be ignored: ignoring a parameter silently would be
    /// a lie. In a URI with other faults, an apparent parameter may be the end of a password and is
    /// not named.
    fn superfluous(&self, otherwise_sound: bool) -> Vec<String> {
        let mut faults = Vec::new();
        for parameter in self.query.iter().flat_map(|query| query.split('&')) {
            let name = parameter.split_once('=').map(|(name, _)| name).unwrap_or_default();
            let known = QUERY_PARAMETERS.iter().find(|(known, _)| *known == name);
            let harmless = otherwise_sound && is_parameter_name(name);
            faults.push(match known {
                Some((name, instead)) => format!("no query parameter {name}: {instead}"),
                None if harmless => format!("no query parameter {name}: amqpost knows none"),
                None => "no query (a ? in a password is written %3f)".to_owned(),
            });
        }
        if self.fragment.is_some() {
            faults.push("no fragment (a # in a password is written %23)".to_owned());
        }
        faults
    }
}

fn is_parameter_name(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The part of a text that may be shown where an endpoint's URI was expected.
pub(super) fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return REDACTED.to_owned() };
    if !["amqp", "amqps", "http", "https"].contains(&scheme) {
        return REDACTED.to_owned();
    }
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        // Without an @ the apparent host may be a user, and the port a password whose end got lost.
        None if !has_plain_authority(rest) => return format!("{scheme}://{REDACTED}"),
        None => ("", rest),
    };
    let shown = rest.split(['?', '#']).next().unwrap_or_default();
    let cut = if shown.len() < rest.len() { "…" } else { "" };
    format!("{scheme}://{userinfo}{shown}{cut}")
}

fn has_plain_authority(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    split_host(authority).is_ok_and(|(_, port)| port.is_none_or(|port| parse_number(port).is_some()))
}

/// Cuts off the port, if there is one, from a sound host.
fn split_host(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        host.parse::<Ipv6Addr>().map_err(|_| "an IPv6 address in the brackets")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("nothing but :port after the brackets"),
        };
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    if is_host_name(host) {
        Ok((host, port))
    } else {
        Err("a host: a name in ASCII, an IPv4 address, or an IPv6 address in brackets")
    }
}

fn is_host_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// Decodes percent-encoding. A broken sequence is an error: taken literally it would be another
/// password.
fn decode(text: &str, part: &str) -> Result<String, String> {
    let decoded = percent::decode(text).map_err(|broken| match broken {
        BrokenEncoding::Sequence => {
            format!("two hexadecimal digits after each % of the {part} (a % itself is written %25)")
        }
        BrokenEncoding::NotUtf8 => format!("UTF-8 in the {part}"),
    })?;
    // PLAIN separates user and password by NUL; no other control character ever comes from a
    // person.
    if decoded.contains(char::is_control) {
        return Err(format!("no control characters in the {part}"));
    }
    Ok(decoded.into_owned())
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            reserved => format!("%{reserved:02x}"),
        })
        .collect()
}

#[cfg(test)]
#[path = "tests/endpoint.rs"]
mod tests;
