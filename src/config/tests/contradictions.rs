//! Tests of values that are valid alone and contradict each other together.

use insta::assert_snapshot;

use super::*;

#[test]
fn values_that_contradict_each_other_are_shown_both() {
    assert_snapshot!(
        problems_of(file(
            r#"
[http]
listen = ["127.0.0.1:8672", "127.0.0.1:9672"]
[broker]
reconnect_min = "2s"
frame_max = "1MiB"
write_window = "64KiB"
[publish]
max_timeout = "1s"
max_body = "32MiB"
max_in_flight_bytes = "16MiB"
"#
        )),
        @r#"
        admin.listen = "0.0.0.0:9672" (default):
            expected an address apart from http.listen = ["127.0.0.1:8672", "127.0.0.1:9672"]
            (DIR/amqpost.toml line 3)
        broker.reconnect_min = "2s" (DIR/amqpost.toml line 5):
            expected at most broker.reconnect_max = "1s" (default)
        broker.frame_max = "1MiB" (DIR/amqpost.toml line 6):
            expected at most broker.write_window = "64KiB" (DIR/amqpost.toml line 7)
        publish.timeout = "5s" (default):
            expected at most publish.max_timeout = "1s" (DIR/amqpost.toml line 9)
        publish.max_body = "32MiB" (DIR/amqpost.toml line 10):
            expected at most publish.max_in_flight_bytes = "16MiB" (DIR/amqpost.toml line 11)
        "#
    );
}

#[test]
fn a_bad_value_contradicts_nothing() {
    assert_snapshot!(
        problems_of(flags(&[("publish.max_timeout", "never"), ("publish.timeout", "2m")])),
        @r#"publish.max_timeout = "never" (flag): expected a duration from 1ms to 1h, such as "5s""#
    );
}

#[test]
fn a_secret_is_given_directly_or_by_file_but_not_both() {
    let directory = Directory::new();
    directory.write("user", "bob");
    directory.write("password", "hunter2");
    directory.write("endpoints", "amqp://u:hunter2@host");
    assert_snapshot!(
        problems_of(directory.load(
            r#"
[broker]
endpoints = ["amqp://u:hunter2@host"]
endpoints_file = "DIR/endpoints"
user = "bob"
user_file = "DIR/user"
password = "hunter2"
password_file = "DIR/password"
"#
        )),
        @r#"
        broker.endpoints = ["amqp://***@host"] (DIR/amqpost.toml line 3):
            expected not to stand beside broker.endpoints_file = "DIR/endpoints" (DIR/amqpost.toml line
            4)
        broker.user = *** (DIR/amqpost.toml line 5):
            expected not to stand beside broker.user_file = "DIR/user" (DIR/amqpost.toml line 6)
        broker.password = *** (DIR/amqpost.toml line 7):
            expected not to stand beside broker.password_file = "DIR/password" (DIR/amqpost.toml line 8)
        "#
    );
}

#[test]
fn two_listeners_may_let_the_system_choose_their_ports() {
    flags(&[("http.listen", "127.0.0.1:0,127.0.0.1:0"), ("admin.listen", "127.0.0.1:0")]).unwrap();
}

#[test]
fn certificate_authorities_without_tls_are_a_contradiction() {
    let directory = Directory::new();
    directory.write("ca.pem", CERTIFICATE);
    directory.write("endpoints", "amqp://host");
    assert_snapshot!(problems_of(directory.load("[broker]\nca_file = \"DIR/ca.pem\"")), @r#"
    broker.ca_file = "DIR/ca.pem" (DIR/amqpost.toml line 2):
        expected an amqps URI in broker.endpoints = "amqp://***@127.0.0.1:5672/%2f" (default)
    "#);
    assert_snapshot!(
        problems_of(directory.load("[broker]\nca_file = \"DIR/ca.pem\"\nendpoints_file = \"DIR/endpoints\"")),
        @r#"
        broker.ca_file = "DIR/ca.pem" (DIR/amqpost.toml line 2):
            expected an amqps URI in broker.endpoints_file = "DIR/endpoints" (DIR/amqpost.toml line 3)
        "#
    );
    let config =
        directory.load("[broker]\nca_file = \"DIR/ca.pem\"\nendpoints = [\"amqp://a\", \"amqps://b\"]");
    let ca_file = config.unwrap().broker.ca_file.unwrap();
    assert_eq!(ca_file.path, directory.0.join("ca.pem"));
    assert_eq!(ca_file.content.unwrap().pem(), CERTIFICATE);
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
