//! Tests of the tables `[[route]]`: what they may hold, and that only the file can give them.

use insta::assert_snapshot;

use super::*;
use crate::message::Mode;

#[test]
fn routes_keep_the_order_of_the_file() {
    let config = file(
        r#"
[spool]
path = "/var/lib/amqpost"
[[route]]
exchange = "orders.*"
mode = "spool"
override = false
[[route]]
exchange = "*"
mode = "fallback"
"#,
    )
    .unwrap();
    let route = |exchange: &str, mode, r#override| {
        let exchange = exchange.to_owned();
        RouteConfig { exchange, mode, r#override, known: false, order: Overtaking::Relaxed, returns: None }
    };
    assert_eq!(config.route, [route("orders.*", Mode::Spool, false), route("*", Mode::Fallback, true)]);
    let last = r#"
[[route]]
exchange = "*"
mode = "fallback"
override = true
known = false
order = "relaxed"
"#;
    assert!(config.effective().ends_with(last), "{}", config.effective());
}

#[test]
fn everything_that_is_wrong_with_the_tables_is_listed() {
    assert_snapshot!(
        problems_of(file(
            r#"
[[route]]
exchange = "a"
mode = "sometimes"
[[route]]
mode = "direct"
overide = false
[[route]]
exchange = ""
mode = "direct"
override = "no"
[[route]]
exchange = "b"
mode = "direct"
[[route]]
exchange = "b"
mode = "fallback"
"#
        )),
        @r#"
        route.mode, table 1 = "sometimes" (DIR/amqpost.toml line 4):
            expected one of direct, fallback, spool
        route.overide, table 2 (DIR/amqpost.toml line 7):
            unknown key; route has exchange, mode, override, known, order, returns
        route.exchange, table 2 (DIR/amqpost.toml line 5):
            is missing; expected a text of 1 to 255 characters, none a control character
        route.exchange, table 3 = "" (DIR/amqpost.toml line 9):
            expected a text of 1 to 255 characters, none a control character
        route.override, table 3 = "no" (DIR/amqpost.toml line 11): expected true or false
        route.exchange, table 5 = "b" (DIR/amqpost.toml line 15):
            expected a pattern that no earlier table has
        route.mode, table 5 = "fallback" (DIR/amqpost.toml line 15):
            expected direct, or spool.path to be set
        "#
    );
}

#[test]
fn a_route_in_single_brackets_is_not_taken_for_one() {
    assert_snapshot!(
        problems_of(file("[route]\nexchange = \"a\"\nmode = \"direct\"\n")),
        @"route = <table> (DIR/amqpost.toml line 1): expected tables [[route]], in double brackets"
    );
    assert_snapshot!(
        problems_of(file("route = 3\n")),
        @"route = <integer> (DIR/amqpost.toml line 1): expected tables [[route]], in double brackets"
    );
}

#[test]
fn only_the_file_gives_routes() {
    assert_snapshot!(
        problems_of(flags(&[("route.exchange", "a")])),
        @"route.exchange (flag): unknown key; routes are given in the file only, as tables [[route]]"
    );
    assert_snapshot!(problems_of(environment(&[("AMQPOST__ROUTE__MODE", "spool")])), @"
    route.mode (environment AMQPOST__ROUTE__MODE):
        unknown key; routes are given in the file only, as tables [[route]]
    ");
}

#[test]
fn a_mode_that_keeps_messages_needs_a_spool_from_wherever() {
    let directory = Directory::new();
    let path = directory.write("a.toml", "[[route]]\nexchange = \"a\"\nmode = \"spool\"\n");
    let sources = Sources { file: Some(path.into()), ..Sources::default() };
    assert!(problems_of(Config::load(&sources)).contains("expected direct, or spool.path to be set"));
    let with_spool = Sources { flags: pairs(&[("spool.path", "/var/lib/amqpost")]), ..sources };
    assert_eq!(Config::load(&with_spool).unwrap().route.len(), 1);
}
