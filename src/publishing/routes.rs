//! The mode of a request: the mode that it asks for, or that of the first route that matches its exchange.

use crate::config::RouteConfig;
use crate::message::{DEFAULT_EXCHANGE, Mode, ShortText};

/// Why a request cannot have the mode it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeRefused {
    /// There is no spool.
    #[error("{} needs a spool, and spool.path is not set", .0.as_str())]
    NoSpool(Mode),
    /// The route does not let requests choose.
    #[error("the route of the exchange, {pattern:?}, is {} and may not be overridden", .mode.as_str())]
    Fixed {
        /// The route's pattern.
        pattern: String,
        /// The route's mode.
        mode: Mode,
    },
}

/// The mode of a message to `exchange` whose request asks for `asked`.
pub(super) fn mode(
    routes: &[RouteConfig],
    has_spool: bool,
    exchange: &ShortText,
    asked: Option<Mode>,
) -> Result<Mode, ModeRefused> {
    let name = if exchange.is_empty() { DEFAULT_EXCHANGE } else { exchange.as_str() };
    let route = routes.iter().find(|route| fits(&route.exchange, name));
    let mode = match (route, asked) {
        (Some(route), Some(asked)) if !route.r#override && asked != route.mode => {
            let (pattern, mode) = (route.exchange.clone(), route.mode);
            return Err(ModeRefused::Fixed { pattern, mode });
        }
        (_, Some(asked)) => asked,
        (Some(route), None) => route.mode,
        (None, None) => Mode::default(),
    };
    if mode != Mode::Direct && !has_spool {
        return Err(ModeRefused::NoSpool(mode));
    }
    Ok(mode)
}

/// Whether `name` is `pattern` with each `*` replaced by any characters, none included.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').map_or(("", rest), |(middle, last)| (middle, last));
    // Taking the earliest place for each part leaves the most for the parts behind it.
    for part in middle.split('*') {
        match name.find(part) {
            Some(found) => name = &name[found + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(exchange: &str, mode: Mode, r#override: bool) -> RouteConfig {
        RouteConfig { exchange: exchange.to_owned(), mode, r#override }
    }

    fn name(text: &str) -> ShortText {
        ShortText::new(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, fitting, other) in [
            ("orders", "orders", "orders.eu"),
            ("orders.*", "orders.", "orders"),
            ("orders.*", "orders.eu.de", "xorders.eu"),
            ("*", "", "\u{0}never"),
            ("*.audit", "a.b.audit", "audit"),
            ("a*b*c", "abc", "acb"),
            ("a*b*c", "a.b.b.c", "a.b.c.d"),
            ("a*a", "aa", "a"),
            ("**x**", "x", "y"),
        ] {
            assert!(fits(pattern, fitting), "{pattern} {fitting}");
            assert!(!fits(pattern, other) || pattern == "*", "{pattern} {other}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_its_definition_says(pattern in "[ab*]{0,6}", name in "[ab]{0,8}") {
            fn defined(pattern: &[u8], name: &[u8]) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) => (0..=name.len()).any(|taken| defined(rest, &name[taken..])),
                    Some((letter, rest)) => name.first() == Some(letter) && defined(rest, &name[1..]),
                }
            }
            prop_assert_eq!(fits(&pattern, &name), defined(pattern.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn the_first_route_that_fits_gives_the_mode_and_a_request_may_choose_another() {
        let routes = [route("orders.eu", Mode::Spool, true), route("orders.*", Mode::Fallback, true)];
        assert_eq!(mode(&routes, true, &name("orders.eu"), None), Ok(Mode::Spool));
        assert_eq!(mode(&routes, true, &name("orders.us"), None), Ok(Mode::Fallback));
        assert_eq!(mode(&routes, true, &name("other"), None), Ok(Mode::Direct));
        assert_eq!(mode(&routes, true, &name("orders.eu"), Some(Mode::Direct)), Ok(Mode::Direct));
    }

    #[test]
    fn a_fixed_route_takes_its_own_mode_only() {
        let routes = [route("amq.default", Mode::Spool, false)];
        assert_eq!(mode(&routes, true, &name(""), Some(Mode::Spool)), Ok(Mode::Spool));
        let refused = mode(&routes, true, &name(""), Some(Mode::Direct)).unwrap_err().to_string();
        assert_eq!(refused, "the route of the exchange, \"amq.default\", is spool and may not be overridden");
    }

    #[test]
    fn without_a_spool_only_direct_is_available() {
        assert_eq!(mode(&[], false, &name("e"), Some(Mode::Direct)), Ok(Mode::Direct));
        let refused = mode(&[], false, &name("e"), Some(Mode::Fallback)).unwrap_err().to_string();
        assert_eq!(refused, "fallback needs a spool, and spool.path is not set");
    }
}
