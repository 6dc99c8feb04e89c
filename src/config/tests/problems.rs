//! Tests of the texts that an operator reads when a value is wrong.

use insta::assert_snapshot;

use super::*;

const EACH_VALUE_WRONG: &str = r#"
[http]
listen = ["127.0.0.1:1", "127.0.0.1:1", 5, "nonsense"]
max_connections = "10"
header_timeout = 10
idle_timeout = "75"
max_header_bytes = "64KB"
[admin]
listen = "9672"
ready_requires_link = "yes"
[broker]
endpoints = []
user = 5
password = 12345
ca_file = ""
connections = 99
heartbeat = "1500ms"
stall_timeout = "1s "
connect_timeout = 1.5
reconnect_min = 1979-05-27
reconnect_max = "99999999999999999999h"
frame_max = -1
write_window = 0xffff_ffff_ffff_ffff_ff
connection_name = ""
[publish]
max_in_flight = { a = 1 }
max_in_flight_bytes = true
[log]
level = "INFO"
format = ["text"]
[runtime]
worker_threads = 65
"#;

#[test]
fn all_problems_come_together() {
    assert_snapshot!(
        problems_of(file(
            EACH_VALUE_WRONG
        )),
        @r#"
        http.listen, item 2 = "127.0.0.1:1" (DIR/amqpost.toml line 3):
            expected an address that 127.0.0.1:1 leaves free
        http.listen, item 3 = 5 (DIR/amqpost.toml line 3):
            expected host:port or unix:/path, or a list of these without doubles
        http.listen, item 4 = "nonsense" (DIR/amqpost.toml line 3):
            expected host:port, the host an IP address (IPv6 in brackets) or localhost; or unix:/path
        http.max_connections = "10" (DIR/amqpost.toml line 4): expected an integer from 1 to 1000000
        http.header_timeout = 10 (DIR/amqpost.toml line 5):
            expected a duration from 100ms to 5m, such as "5s"
        http.idle_timeout = "75" (DIR/amqpost.toml line 6):
            expected a duration from 1s to 1h, such as "5s"
        http.max_header_bytes = "64KB" (DIR/amqpost.toml line 7):
            expected a size from 8KiB to 1MiB, such as "64KiB"
        admin.listen = "9672" (DIR/amqpost.toml line 9):
            expected host:port, the host an IP address or localhost
        admin.ready_requires_link = "yes" (DIR/amqpost.toml line 10): expected true or false
        broker.endpoints = [] (DIR/amqpost.toml line 12): expected at least one item
        broker.user = *** (DIR/amqpost.toml line 13):
            expected a text that is not empty and has no control characters
        broker.password = *** (DIR/amqpost.toml line 14):
            expected a text that is not empty and has no control characters
        broker.ca_file = "" (DIR/amqpost.toml line 15): expected the path of a file
        broker.connections = 99 (DIR/amqpost.toml line 16): expected an integer from 1 to 16
        broker.heartbeat = "1500ms" (DIR/amqpost.toml line 17):
            expected a duration of whole seconds from 1s to 1m, such as "5s"
        broker.stall_timeout = "1s " (DIR/amqpost.toml line 18):
            expected a duration from 100ms to 1m, such as "5s"
        broker.connect_timeout = <float> (DIR/amqpost.toml line 19):
            expected a duration from 100ms to 1m, such as "5s"
        broker.reconnect_min = <date or time> (DIR/amqpost.toml line 20):
            expected a duration from 1ms to 10s, such as "5s"
        broker.reconnect_max = "99999999999999999999h" (DIR/amqpost.toml line 21):
            expected a duration from 10ms to 1m, such as "5s"
        broker.frame_max = -1 (DIR/amqpost.toml line 22):
            expected a size from 8KiB to 1MiB, such as "64KiB"
        broker.write_window = <integer beyond 64 bits> (DIR/amqpost.toml line 23):
            expected a size from 64KiB to 64MiB, such as "64KiB"
        broker.connection_name = "" (DIR/amqpost.toml line 24):
            expected a text of 1 to 128 characters, none a control character
        publish.max_in_flight = <table> (DIR/amqpost.toml line 26): expected an integer from 1 to 65536
        publish.max_in_flight_bytes = true (DIR/amqpost.toml line 27):
            expected a size from 64KiB to 4GiB, such as "64KiB"
        log.level = "INFO" (DIR/amqpost.toml line 29): expected one of error, warn, info, debug, trace
        log.format = ["text"] (DIR/amqpost.toml line 30): expected one of text, json
        runtime.worker_threads = 65 (DIR/amqpost.toml line 32): expected an integer from 0 to 64
        "#
    );
}

#[test]
fn the_edges_of_a_range_are_inside_it() {
    let good = [
        ("http.max_connections", "1"),
        ("http.max_header_bytes", "1MiB"),
        ("broker.heartbeat", "60s"),
        ("broker.frame_max", "8192"),
        ("publish.max_in_flight_bytes", "4GiB"),
        ("shutdown.lame_duck", "0s"),
        ("runtime.worker_threads", "64"),
    ];
    flags(&good).unwrap();
    let bad = [
        ("http.max_connections", "0"),
        ("http.max_header_bytes", "1048577"),
        ("broker.heartbeat", "0s"),
        ("broker.frame_max", "4095"),
        ("publish.max_in_flight_bytes", "4294967297"),
        ("shutdown.lame_duck", "60001ms"),
        ("runtime.worker_threads", "65"),
    ];
    assert_eq!(flags(&bad).unwrap_err().problems().len(), bad.len());
    for (key, value) in bad {
        assert_eq!(flags(&[(key, value)]).unwrap_err().problems().len(), 1, "{key} = {value}");
    }
}

#[test]
fn each_source_is_named() {
    assert_snapshot!(
        problems_of(environment(&[("AMQPOST__BROKER__CONNECTIONS", ""), ("AMQPOST__LOG__LEVEL", "lo\nud")])),
        @r#"
        broker.connections = "" (environment AMQPOST__BROKER__CONNECTIONS):
            expected an integer from 1 to 16
        log.level = "lo\nud" (environment AMQPOST__LOG__LEVEL):
            expected one of error, warn, info, debug, trace
        "#
    );
    assert_snapshot!(problems_of(flags(&[("broker.connections", "+2"), ("broker.endpoints", "")])), @r#"
    broker.endpoints = "***" (flag): expected a URI that begins with amqp:// or amqps://
    broker.connections = "+2" (flag): expected an integer from 1 to 16
    "#);
    assert_snapshot!(
        problems_of(file("\n\n[broker]\n\nconnections = 0\n")),
        @"broker.connections = 0 (DIR/amqpost.toml line 5): expected an integer from 1 to 16"
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_line_by_line_without_being_shown() {
    assert_snapshot!(
        problems_of(file("[broker]\npassword = hunter2\nuser = \"x\nconnections = 2\nconnections = 3\n")),
        @r#"
        --config (DIR/amqpost.toml line 2):
            expected TOML: string values must be quoted, expected literal string
        --config (DIR/amqpost.toml line 3): expected TOML: invalid basic string, expected `"`
        --config (DIR/amqpost.toml line 5): expected TOML: duplicate key
        "#
    );
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let sources = Sources {
        file: Some("/nowhere/amqpost.toml".into()),
        // Without the file nobody knows whether these two contradict each other.
        flags: pairs(&[("publish.timeout", "2m"), ("broker.connections", "x")]),
        ..Sources::default()
    };
    assert_snapshot!(problems_of(Config::load(&sources)), @r#"
    --config = "/nowhere/amqpost.toml" (flag):
        expected a readable file: No such file or directory (os error 2)
    broker.connections = "x" (flag): expected an integer from 1 to 16
    "#);
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let directory = Directory::new();
    let path = directory.write("a.toml", [0xff, 0xfe]);
    let error = Config::load(&Sources { file: Some(path.into()), ..Sources::default() }).unwrap_err();
    assert_eq!(error.problems()[0].verdict, "expected a file of UTF-8 text");
    let error = Config::load(&Sources { file: Some(directory.0.clone()), ..Sources::default() }).unwrap_err();
    assert!(error.problems()[0].verdict.starts_with("expected a readable file"), "{error}");
}

#[test]
fn bytes_that_were_no_utf_8_are_not_taken_for_a_password() {
    let value = String::from_utf8_lossy(&[b'p', 0xff]);
    assert_snapshot!(
        problems_of(environment(&[("AMQPOST__BROKER__PASSWORD", &value)])),
        @"broker.password = <bytes> (environment AMQPOST__BROKER__PASSWORD): expected UTF-8"
    );
}

#[test]
fn endless_files_are_not_read_to_their_end() {
    assert_snapshot!(
        problems_of(flags(&[("broker.password_file", "/dev/zero")])),
        @r#"broker.password_file = "/dev/zero" (flag): expected a file of at most 1 MiB"#
    );
}
