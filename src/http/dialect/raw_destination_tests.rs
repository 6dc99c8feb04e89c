//! Tests of the destinations that path and query of a raw request name, and of refused ones.

use super::*;

fn exchange(path: &str, query: &str) -> Result<Destination, Rejection> {
    exchange_destination(path, Some(query))
}

fn routing_key(query: &str) -> Result<String, Rejection> {
    exchange("orders", query).map(|destination| destination.routing_key.as_str().to_owned())
}

#[test]
fn the_exchange_is_decoded_from_the_path() {
    let longest = "x".repeat(255);
    let umlauts = "%C3%A9".repeat(127);
    let cases = [
        ("orders", "orders"),
        ("a%2Fb", "a/b"),
        ("a+b%20c", "a+b c"),
        (umlauts.as_str(), &"é".repeat(127)),
        (longest.as_str(), longest.as_str()),
        ("amq.topic", "amq.topic"),
        ("amq.default", ""),
        ("amq%2Edefault", ""),
    ];
    for (path, name) in cases {
        assert_eq!(exchange(path, "").unwrap().exchange.as_str(), name, "{path}");
    }
}

#[test]
fn a_queue_is_addressed_through_the_default_exchange_by_its_own_name() {
    for (path, queue) in [("a%2Fb", "a/b"), ("amq.default", "amq.default")] {
        let destination = queue_destination(path, None).unwrap();
        assert_eq!(destination, Destination { exchange: ShortText::default(), routing_key: text(queue) });
    }
}

#[test]
fn names_in_the_path_that_do_not_decode_or_fit_are_refused() {
    let long = ["x".repeat(256), "%C3%A9".repeat(128)];
    let wrong = [long[0].as_str(), &long[1], "", "a%2", "%zz", "%FF"];
    let exchanges = wrong.map(|name| detail_of(exchange(name, "")));
    insta::assert_snapshot!(exchanges.join("\n"), @r"
    exchange: has 256 bytes, at most 255 are allowed
    exchange: has 256 bytes, at most 255 are allowed
    exchange: the name is missing
    exchange: broken percent-encoding: '%' needs two hexadecimal digits behind it
    exchange: broken percent-encoding: '%' needs two hexadecimal digits behind it
    exchange: the decoded text is not UTF-8
    ");
    for name in wrong {
        let detail = detail_of(queue_destination(name, None));
        assert!(detail.starts_with("queue: "), "{detail}");
    }
}

#[test]
fn the_routing_key_is_decoded_from_the_query() {
    let longest = "k".repeat(255);
    let cases = [
        ("routing_key=order.created", "order.created"),
        ("routing_key=a%26b%3Dc+d%2Be", "a&b=c d+e"),
        ("routing_key=a=b", "a=b"),
        ("routing%5Fkey=%C3%A9", "é"),
        ("routing_key=", ""),
        ("routing_key", ""),
        ("", ""),
        ("&routing_key=k&", "k"),
        (&format!("routing_key={longest}"), &longest),
    ];
    for (query, key) in cases {
        assert_eq!(routing_key(query).as_deref(), Ok(key), "{query}");
    }
}

#[test]
fn a_query_that_would_be_misread_is_refused() {
    let long = format!("routing_key={}", "k".repeat(256));
    let wrong = [
        long.as_str(),
        "routing_key=%2",
        "routing_key=%FF",
        "routing_key=a&routing_key=a",
        "routingkey=a",
        "routing_key=a&mandatory=false",
        "Routing_Key=a",
        "%zz=a",
    ];
    let details = wrong.map(|query| detail_of(routing_key(query)));
    insta::assert_snapshot!(details.join("\n"), @r"
    routing_key: has 256 bytes, at most 255 are allowed
    routing_key: broken percent-encoding: '%' needs two hexadecimal digits behind it
    routing_key: the decoded text is not UTF-8
    routing_key: given twice
    routingkey: unknown query parameter, expected routing_key
    mandatory: unknown query parameter, expected routing_key
    Routing_Key: unknown query parameter, expected routing_key
    query: broken percent-encoding: '%' needs two hexadecimal digits behind it
    ");
}

#[test]
fn a_queue_takes_no_query() {
    let queue = |query| queue_destination("q", Some(query));
    assert_eq!(detail_of(queue("routing_key=a")), "routing_key: a queue takes no query parameters");
    assert!(queue("").is_ok());
}

#[test]
fn a_detail_stays_short_however_long_the_name_it_quotes() {
    let detail = detail_of(routing_key(&"é".repeat(10_000)));
    assert!(detail.len() < 600, "{} bytes", detail.len());
    assert!(detail.ends_with('…'), "{detail}");
}

proptest! {
    #[test]
    fn every_path_and_query_is_read_or_refused(name in "\\PC{0,40}", query in "\\PC{0,40}") {
        let queue = queue_destination(&name, Some(&query));
        for destination in [exchange(&name, &query), queue] {
            if let Err(rejection) = destination {
                prop_assert_eq!(rejection.outcome, Outcome::InvalidRequest);
            }
        }
    }

    #[test]
    fn a_name_that_is_percent_encoded_arrives_as_it_was(name in "\\PC{1,60}") {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let destination = exchange(&encoded, &format!("routing_key={encoded}")).unwrap();
        prop_assert_eq!(destination.exchange.as_str(), name.as_str());
        prop_assert_eq!(destination.routing_key.as_str(), name.as_str());
    }
}
