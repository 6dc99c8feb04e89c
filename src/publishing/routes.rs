//! The mode of a request: the mode that it asks for, or that of the first route that matches its
//! exchange.

use crate::config::RouteConfig;
use crate::message::{Mode, ShortText};

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
    let route = RouteConfig::of(routes, exchange);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overtaking;

    fn route(exchange: &str, mode: Mode, r#override: bool) -> RouteConfig {
        let (exchange, order) = (exchange.to_owned(), Overtaking::Relaxed);
        RouteConfig { exchange, mode, r#override, known: false, order, returns: None }
    }

    fn name(text: &str) -> ShortText {
        ShortText::new(text).unwrap()
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
