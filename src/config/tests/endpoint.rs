//! Tests of the AMQP URI.

use proptest::prelude::*;

use super::*;

fn parse(uri: &str) -> Endpoint {
    Endpoint::parse(uri).unwrap_or_else(|faults| panic!("{uri}: {faults:?}"))
}

fn faults(uri: &str) -> String {
    Endpoint::parse(uri).expect_err(uri).join("; ")
}

#[test]
fn a_bare_host_means_the_broker_defaults() {
    for uri in ["amqp://rabbit", "amqp://rabbit/", "AMQP://rabbit", "amqp://guest:guest@rabbit:5672/%2f"] {
        let endpoint = parse(uri);
        assert!(!endpoint.tls);
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("rabbit", 5672));
        assert_eq!(endpoint.vhost, "/");
        assert_eq!((endpoint.user.as_str(), endpoint.password.expose()), ("guest", "guest"));
    }
    assert_eq!(parse("amqps://rabbit").port, 5671);
    assert!(parse("amqps://rabbit").tls);
}

#[test]
fn addresses_and_names_are_kept_as_written() {
    for (uri, host, port) in [
        ("amqp://127.0.0.1", "127.0.0.1", 5672),
        ("amqp://[::1]", "::1", 5672),
        ("amqp://[::1]:1234/x", "::1", 1234),
        ("amqp://u:p@[2001:db8::7]:1/", "2001:db8::7", 1),
        ("amqp://rabbit_1.prod.svc.cluster.local:65535", "rabbit_1.prod.svc.cluster.local", 65535),
    ] {
        let endpoint = parse(uri);
        assert_eq!((endpoint.host.as_str(), endpoint.port), (host, port), "{uri}");
    }
    assert_eq!(parse("amqp://[::1]").authority(), "[::1]:5672");
    assert_eq!(parse("amqp://127.0.0.1:9").authority(), "127.0.0.1:9");
}

#[test]
fn user_password_and_vhost_are_percent_decoded() {
    let endpoint = parse("amqp://us%40er:p%2fw%C3%A4%25:x@host/a%2Fb%20c");
    assert_eq!(endpoint.user, "us@er");
    assert_eq!(endpoint.password.expose(), "p/wä%:x");
    assert_eq!(endpoint.vhost, "a/b c");
    // A general URL parser would resolve these away.
    assert_eq!(parse("amqp://host/..").vhost, "..");
    assert_eq!(parse("amqp://host/%2e%2e").vhost, "..");
}

#[test]
fn broken_encodings_are_refused() {
    for uri in
        ["amqp://u:%@h", "amqp://u:%4@h", "amqp://u:%zz@h", "amqp://u:%+1@h", "amqp://u%:p@h", "amqp://h/%f"]
    {
        assert!(faults(uri).contains("hexadecimal"), "{uri}: {}", faults(uri));
    }
    assert!(faults("amqp://u:%ff@h").contains("UTF-8"));
    assert!(faults("amqp://u:a%00b@h").contains("control"));
}

#[test]
fn a_password_cut_in_two_is_refused_rather_than_taken_for_another_host() {
    for uri in ["amqp://user:12/34@host", "amqp://user:12?34@host", "amqp://user:12#34@host"] {
        assert_eq!(faults(uri), "/ ? # @ in a user, password or vhost written as %2f %3f %23 %40");
    }
}

#[test]
fn each_query_parameter_is_named_with_what_to_set_instead() {
    let uri = "amqp://host?heartbeat=5&frame_max=1&colour=red&Red=1#x";
    insta::assert_snapshot!(
        Endpoint::parse(uri).expect_err("five faults").join("\n"),
        @"
    no query parameter heartbeat: set broker.heartbeat instead
    no query parameter frame_max: set broker.frame_max instead
    no query parameter colour: amqpost knows none
    no query (a ? in a password is written %3f)
    no fragment (a # in a password is written %23)
    "
    );
}

#[test]
fn malformed_uris_are_refused() {
    for uri in [
        "",
        "rabbit",
        "rabbit:5672",
        "amqp:rabbit",
        "amqp:/rabbit",
        "http://rabbit",
        " amqp://rabbit",
        "amqp://",
        "amqp:///vhost",
        "amqp://:5672",
        "amqp://@host",
        "amqp://:password@host",
        "amqp://user:@host",
        "amqp://host:",
        "amqp://host:0",
        "amqp://host:65536",
        "amqp://host:+80",
        "amqp://::1",
        "amqp://::1:5672",
        "amqp://[::1",
        "amqp://[rabbit]",
        "amqp://[::1]5672",
        "amqp://h%41st",
        "amqp://hôst",
        "amqp://host\\x",
        "amqp://host/a/b",
        "amqp://host//",
        "amqp://ho\nst",
    ] {
        assert!(Endpoint::parse(uri).is_err(), "{uri:?}");
    }
    assert!(Endpoint::parse(&format!("amqp://host/{}", "v".repeat(255))).is_ok());
    assert!(Endpoint::parse(&format!("amqp://host/{}", "v".repeat(256))).is_err());
}

#[test]
fn no_way_of_showing_an_endpoint_shows_its_credentials() {
    let endpoint = parse("amqps://bob:hunter2@host/prod%2feu");
    assert_eq!(endpoint.to_string(), "amqps://host:5671/prod%2feu");
    assert_eq!(format!("{endpoint:?}"), "amqps://host:5671/prod%2feu");
    assert_eq!(serde_json::to_value(&endpoint).unwrap(), "amqps://***@host:5671/prod%2feu");
}

#[test]
fn what_is_shown_of_a_broken_uri_keeps_the_place_and_hides_the_rest() {
    for (text, shown) in [
        ("amqp://u:p@host:5672/v", "amqp://***@host:5672/v"),
        ("amqp://u:p@host/v?password=p", "amqp://***@host/v…"),
        ("amqp://u:p@w@host", "amqp://***@host"),
        ("amqp://host:80/v", "amqp://host:80/v"),
        ("amqp://[::1]/v", "amqp://[::1]/v"),
        ("amqp://user:password", "amqp://***"),
        ("http://host", "http://host"),
        ("hunter2://host", "***"),
        ("u:p@host", "***"),
        ("u:p://host", "***"),
    ] {
        assert_eq!(redact(text), shown, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        for uri in [text.clone(), format!("amqp://{}", text)] {
            prop_assert!(Endpoint::parse(&uri).is_ok() || !redact(&uri).is_empty());
        }
    }

    #[test]
    fn what_is_displayed_connects_to_the_same_place(
        tls in any::<bool>(), host in "[a-z0-9][a-z0-9.-]{0,20}", port in 1_u16.., vhost in "\\PC{1,60}"
    ) {
        let endpoint =
            Endpoint { tls, host, port, vhost, user: GUEST.to_owned(), password: Secret::new(GUEST) };
        prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint));
    }

    #[test]
    fn every_password_survives_encoding(password in "\\PC{1,40}") {
        let endpoint = Endpoint::parse(&format!("amqp://u:{}@h", encode(&password))).expect("encoded");
        prop_assert_eq!(endpoint.password.expose(), password);
    }
}
