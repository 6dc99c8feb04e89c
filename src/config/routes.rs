//! Finds the route of an exchange.

use super::keys::RouteConfig;
use crate::message::{ShortText, exchange_over_http};

impl RouteConfig {
    /// The first of the routes whose pattern fits the exchange, as it is named on the wire.
    #[must_use]
    pub fn of<'a>(routes: &'a [Self], exchange: &ShortText) -> Option<&'a Self> {
        routes.iter().find(|route| fits(&route.exchange, exchange_over_http(exchange)))
    }
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
}
