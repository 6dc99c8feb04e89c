//! Reads when a password ends, if the password is a JSON Web Token.

use crate::config::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A password that is a token, as OAuth 2 servers issue them (RFC 7519). Its signature is the
/// broker's to verify.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token {
    /// When the broker stops accepting it; `None` if it does not say.
    pub(crate) end: Option<SystemTime>,
    issued: Option<SystemTime>,
}

/// The claims of a token that matter here, in seconds since 1970.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    iat: Option<f64>,
}

impl Token {
    /// `None` for a password that is not a token.
    pub(crate) fn of(password: &Secret) -> Option<Self> {
        let parts: Vec<_> = password.expose().splitn(4, '.').collect();
        let [header, claims, _signature] = parts[..] else { return None };
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        // Any three words with dots between them decode somehow, but not to two JSON objects.
        serde_json::from_slice::<serde_json::Map<_, _>>(&decoded(header)?).ok()?;
        let Claims { exp, iat } = serde_json::from_slice(&decoded(claims)?).ok()?;
        Some(Self { end: exp.and_then(moment), issued: iat.and_then(moment) })
    }

    /// How long it is valid in total, counted from `now` if it does not say since when.
    pub(crate) fn lifetime(&self, now: SystemTime) -> Duration {
        let since = self.issued.unwrap_or(now);
        self.end.and_then(|end| end.duration_since(since).ok()).unwrap_or_default()
    }
}

fn moment(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// A token with these claims.
    pub(in crate::link::connection) fn token_with(claims: &str) -> Secret {
        let [header, claims] = [r#"{"alg":"HS256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        Secret::new(format!("{header}.{claims}.c2lnbmF0dXJl"))
    }

    /// A token that ends at this Unix time, in seconds.
    pub(in crate::link::connection) fn token_until(seconds: u64) -> Secret {
        token_with(&format!(r#"{{"exp":{seconds}}}"#))
    }
}

#[cfg(test)]
mod tests {
    use super::testing::token_with;
    use super::*;

    fn token(claims: &str) -> Option<Token> {
        Token::of(&token_with(claims))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_says_when_it_ends_and_how_long_it_lives() {
        let both = token(r#"{"exp":1700003600,"iat":1700000000,"aud":["rabbitmq"]}"#).unwrap();
        assert_eq!(both.end, Some(at(1_700_003_600)));
        assert_eq!(both.lifetime(at(1_700_003_000)), Duration::from_secs(3_600));
        let end = token(r#"{"exp":1700003600.0}"#).unwrap();
        assert_eq!(end.lifetime(at(1_700_003_000)), Duration::from_secs(600));
        assert_eq!(end.lifetime(at(1_700_003_601)), Duration::ZERO);
        assert_eq!(token("{}").unwrap().end, None);
    }

    #[test]
    fn an_end_that_no_clock_reaches_is_no_end() {
        assert_eq!(token(r#"{"exp":1e300,"iat":-1}"#).unwrap(), Token { end: None, issued: None });
    }

    #[test]
    fn an_ordinary_password_is_no_token() {
        for password in ["guest", "a.b.c", "eyJ9.eyJ9.x", "one.two", "..", "a.b.c.d"] {
            assert_eq!(Token::of(&Secret::new(password)), None, "{password}");
        }
        assert_eq!(token("[]"), None);
        assert_eq!(token(r#"{"exp":"soon"}"#), None);
    }
}
