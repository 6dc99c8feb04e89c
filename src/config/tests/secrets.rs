//! Tests of files that hold secrets, and of secrets that must not show.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

#[test]
fn user_and_password_replace_those_of_every_uri() {
    let config = flags(&[
        ("broker.endpoints", "amqp://a:b@one,amqps://two"),
        ("broker.user", "bob"),
        ("broker.password", " p@ss/word "),
    ])
    .unwrap();
    for endpoint in &config.broker.endpoints {
        assert_eq!(endpoint.user, "bob");
        assert_eq!(endpoint.password.expose(), " p@ss/word ");
    }
    let config = flags(&[("broker.endpoints", "amqp://a:b@one"), ("broker.password", "c")]).unwrap();
    assert_eq!(config.broker.endpoints[0].user, "a");
    assert_eq!(config.broker.endpoints[0].password.expose(), "c");
}

#[test]
fn secrets_are_read_from_files_without_the_newline_at_their_end() {
    let directory = Directory::new();
    directory.write("user", "bob\r\n");
    directory.write("password", "hunter 2\n\n");
    directory.write("endpoints", "# the cluster\n\n  amqp://one\r\namqp://a:b@two/v\n");
    let config = directory
        .load("[broker]\nendpoints_file='DIR/endpoints'\nuser_file='DIR/user'\npassword_file='DIR/password'")
        .unwrap();
    let shown: Vec<_> = config.broker.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["amqp://one:5672/%2f", "amqp://two:5672/v"]);
    for endpoint in &config.broker.endpoints {
        assert_eq!(endpoint.user, "bob");
        assert_eq!(endpoint.password.expose(), "hunter 2");
    }
}

#[test]
fn files_that_hold_nothing_useful_are_refused() {
    let directory = Directory::new();
    directory.write("user", "\n");
    directory.write("password", "hunter2\nhunter3\n");
    directory.write("endpoints", "amqp://u:hunter2@host:x\n#\nu:hunter2@host\namqp://host?heartbeat=1&x=2\n");
    directory.write("ca", "-----BEGIN PRIVATE KEY-----\n-----END CERTIFICATE-----\n");
    assert_snapshot!(
        problems_of(directory.load(
            "[broker]\nendpoints_file='DIR/endpoints'\nuser_file='DIR/user'\npassword_file='DIR/password'\n\
             ca_file = 'DIR/ca'"
        )),
        @r#"
        broker.endpoints_file, line 1 of "DIR/endpoints" = "amqp://***@host:x" (DIR/amqpost.toml line 2):
            expected a port from 1 to 65535 (in a user or password, write : / ? # @ as %3a %2f %3f %23
            %40)
        broker.endpoints_file, line 3 of "DIR/endpoints" = "***" (DIR/amqpost.toml line 2):
            expected a URI that begins with amqp:// or amqps://
        broker.endpoints_file, line 4 of "DIR/endpoints" = "amqp://host…" (DIR/amqpost.toml line 2):
            expected no query parameter heartbeat: set broker.heartbeat instead
        broker.endpoints_file, line 4 of "DIR/endpoints" = "amqp://host…" (DIR/amqpost.toml line 2):
            expected no query parameter x: amqpost knows none
        broker.user_file = "DIR/user" (DIR/amqpost.toml line 3):
            expected a file with one line, not empty and without control characters
        broker.password_file = "DIR/password" (DIR/amqpost.toml line 4):
            expected a file with one line, not empty and without control characters
        broker.ca_file = "DIR/ca" (DIR/amqpost.toml line 5):
            expected PEM with at least one BEGIN CERTIFICATE block
        "#
    );
    directory.write("endpoints", "# nothing yet\n");
    assert_snapshot!(problems_of(directory.load("[broker]\nendpoints_file='DIR/endpoints'")), @r#"
    broker.endpoints_file = "DIR/endpoints" (DIR/amqpost.toml line 2):
        expected a file with at least one URI
    "#);
}

#[test]
fn a_problem_with_a_uri_shows_the_uri_without_its_credentials() {
    assert_snapshot!(
        problems_of(flags(&[(
            "broker.endpoints",
            "amqp://bob:hunter2@host:99999/%zz,amqp://bob:hunter2,bob:hunter2@host,\
             amqp://host:5672?verify=none"
        )])),
        @r#"
        broker.endpoints, item 1 = "amqp://***@host:99999/%zz" (flag):
            expected a port from 1 to 65535 (in a user or password, write : / ? # @ as %3a %2f %3f %23
            %40)
        broker.endpoints, item 1 = "amqp://***@host:99999/%zz" (flag):
            expected two hexadecimal digits after each % of the vhost (a % itself is written %25)
        broker.endpoints, item 2 = "amqp://***" (flag):
            expected a port from 1 to 65535 (in a user or password, write : / ? # @ as %3a %2f %3f %23
            %40)
        broker.endpoints, item 3 = "***" (flag): expected a URI that begins with amqp:// or amqps://
        broker.endpoints, item 4 = "amqp://host:5672…" (flag):
            expected no query parameter verify: amqpost always verifies the broker's certificate
        "#
    );
    assert_snapshot!(problems_of(flags(&[("http.listen", "amqp://bob:hunter2@host")])), @r#"
    http.listen = "amqp://***@host" (flag):
        expected host:port, the host an IP address (IPv6 in brackets) or localhost; or unix:/path
    "#);
}

#[test]
fn no_form_of_the_configuration_shows_credentials() {
    let config =
        flags(&[("broker.endpoints", "amqp://user1:hunter2@h"), ("broker.password", "hunter3")]).unwrap();
    let sources = Sources { flags: pairs(&[("broker.password", "hunter3")]), ..Sources::default() };
    for shown in [
        format!("{sources:?}"),
        format!("{config:?}"),
        config.effective(),
        serde_json::to_string(&config).unwrap(),
    ] {
        for secret in ["user1", "hunter2", "hunter3"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

proptest! {
    /// An operator pastes the text of an error into a ticket; whatever was mistyped, no password
    /// goes with it.
    #[test]
    fn no_problem_shows_a_password(
        before in "((amqp|amqps|http)://|amqp:/|amqp:|)(user|us%er|)(:)|",
        middle in "[a-z0-9@:/?#,%&=. \\[\\]é]{0,12}",
        after in "@(|@)(host|host:x|\\[::1\\]|)(/v|/%zz|/a/b|)(\\?heartbeat=1|#f|)",
    ) {
        let value = format!("{before}S3cr3t{middle}S3cr3t{after}");
        for key in ["broker.endpoints", "broker.pasword", "broker.password", "broker.user"] {
            let toml = format!("\"{key}\" = 1\n[broker]\nendpoints = ['{value}']\nxpassword = '{value}'");
            for result in [flags(&[(key, value.as_str())]).map_err(|error| error.to_string()), file(&toml)] {
                let shown = result.map_or_else(|problems| problems, |config| config.effective());
                prop_assert!(!shown.contains("S3cr3t"), "{}: {}", value, shown);
            }
        }
    }
}
