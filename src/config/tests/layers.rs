//! Tests of precedence, of unknown keys, and of how each source spells a value.

use insta::assert_snapshot;

use super::*;

#[test]
fn flags_beat_environment_beats_file_beats_default() {
    let directory = Directory::new();
    let all = Sources {
        file: Some(directory.write("a.toml", "[broker]\nconnections = 3\nframe_max = 8192\n").into()),
        environment: pairs(&[("AMQPOST__BROKER__CONNECTIONS", "4"), ("AMQPOST__PUBLISH__TIMEOUT", "2s")]),
        flags: pairs(&[("broker.connections", "5"), ("broker.connections", "6")]),
    };
    let connections = |sources: &Sources| Config::load(sources).unwrap().broker.connections;
    assert_eq!(connections(&all), 6);
    assert_eq!(connections(&Sources { flags: Vec::new(), ..all.clone() }), 4);
    assert_eq!(connections(&Sources { flags: Vec::new(), environment: Vec::new(), ..all.clone() }), 3);
    assert_eq!(connections(&Sources::default()), 2);
    let config = Config::load(&all).unwrap();
    assert_eq!(config.broker.frame_max, 8192);
    assert_eq!(config.publish.timeout, Duration::from_secs(2));
}

#[test]
fn every_type_is_read_from_toml() {
    let config = file(
        r#"
        [http]
        listen = ["127.0.0.1:1", "unix:/run/a.sock"]
        max_header_bytes = 16_384
        [admin]
        ready_requires_link = true
        [broker]
        endpoints = ["amqp://a", "amqps://b/v"]
        connection_name = "näme, with comma"
        heartbeat = "1m"
        [publish]
        max_body = "2MiB"
        [log]
        level = "trace"
        format = "json"
        [runtime]
        worker_threads = 3
        "#,
    )
    .unwrap();
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.http.max_header_bytes, 16 << 10);
    assert!(config.admin.ready_requires_link);
    assert_eq!(config.broker.endpoints[1].to_string(), "amqps://b:5671/v");
    assert_eq!(config.broker.connection_name, "näme, with comma");
    assert_eq!(config.broker.heartbeat, Duration::from_secs(60));
    assert_eq!(config.publish.max_body, 2 << 20);
    assert_eq!(config.log, LogConfig { level: LogLevel::Trace, format: LogFormat::Json });
    assert_eq!(config.runtime.worker_threads, 3);
}

#[test]
fn every_type_is_read_from_the_environment() {
    let config = environment(&[
        ("AMQPOST__HTTP__LISTEN", "127.0.0.1:1, unix:/run/a.sock"),
        ("AMQPOST__HTTP__MAX_HEADER_BYTES", "16384"),
        ("AMQPOST__ADMIN__READY_REQUIRES_LINK", "true"),
        ("AMQPOST__BROKER__ENDPOINTS", "amqp://a,amqp://u:1%2c2@b"),
        ("AMQPOST__LOG__LEVEL", "warn"),
        ("AMQPOST__RUNTIME__WORKER_THREADS", "0"),
        ("HOME", "/somewhere"),
    ])
    .unwrap();
    assert_eq!(config.http.listen.len(), 2);
    assert_eq!(config.http.max_header_bytes, 16 << 10);
    assert!(config.admin.ready_requires_link);
    assert_eq!(config.broker.endpoints[1].password.expose(), "1,2");
    assert_eq!(config.log.level, LogLevel::Warn);
    assert_eq!(config.runtime.worker_threads, 0);
}

#[test]
fn a_single_text_is_a_list_of_one() {
    let config = file("[http]\nlisten = \"unix:/run/a,b.sock\"\n[broker]\nendpoints = \"amqp://a\"").unwrap();
    assert_eq!(config.http.listen, [ListenAddress::Unix(PathBuf::from("/run/a,b.sock"))]);
    assert_eq!(config.broker.endpoints.len(), 1);
}

#[test]
fn unknown_keys_are_refused_whatever_the_source() {
    let directory = Directory::new();
    let file = directory.write(
        "a.toml",
        "connections = 4\nhttp = 5\n\"log.level\" = \"info\"\n[brokr]\nconnections = 4\n[broker]\n\
         heart_beat = \"5s\"\n[empty]\n[log]\ncolour = true\n",
    );
    let error = Config::load(&Sources {
        file: Some(file.into()),
        environment: pairs(&[
            ("AMQPOST__BROKER__PASWORD", "hunter2"),
            ("AMQPOST__BROKER", "x"),
            ("AMQPOST__broker__password", "hunter2"),
            ("AMQPOST_BROKER_STALL_TIMEOUT", "1s"),
        ]),
        flags: pairs(&[("publish.conections", "4"), ("nonsense", "1"), ("", "1")]),
    })
    .unwrap_err();
    let problems = error.to_string().replace(&directory.0.display().to_string(), "DIR");
    assert_snapshot!(folded(&problems), @r#"
    http = <integer> (DIR/a.toml line 2): expected a table of keys
    connections (DIR/a.toml line 1): unknown key; did you mean broker.connections?
    log.level (DIR/a.toml line 3): unknown key; did you mean log.level?
    brokr.connections (DIR/a.toml line 5): unknown key; did you mean broker.connections?
    broker.heart_beat (DIR/a.toml line 7): unknown key; did you mean broker.heartbeat?
    empty (DIR/a.toml line 8):
        unknown key; the sections are http, admin, broker, publish, breaker, spool, idempotency,
        shutdown, log, runtime
    log.colour (DIR/a.toml line 10): unknown key; log has level, format
    broker.pasword (environment AMQPOST__BROKER__PASWORD):
        unknown key; did you mean AMQPOST__BROKER__PASSWORD?
    broker (environment AMQPOST__BROKER):
        unknown key; broker has endpoints, endpoints_file, user, user_file, password, password_file,
        ca_file, connections, heartbeat, stall_timeout, transfer_max, connect_timeout,
        reconnect_min, reconnect_max, rebalance_after, frame_max, write_window, connection_name
    broker.password (environment AMQPOST__broker__password):
        unknown key; did you mean AMQPOST__BROKER__PASSWORD?
    broker.stall_timeout (environment AMQPOST_BROKER_STALL_TIMEOUT):
        unknown key; did you mean AMQPOST__BROKER__STALL_TIMEOUT?
    publish.conections (flag): unknown key; did you mean broker.connections?
    nonsense (flag):
        unknown key; the sections are http, admin, broker, publish, breaker, spool, idempotency,
        shutdown, log, runtime
    "" (flag):
        unknown key; the sections are http, admin, broker, publish, breaker, spool, idempotency,
        shutdown, log, runtime
    "#);
}

#[test]
fn what_kubernetes_sets_beside_a_service_called_amqpost_is_not_ours() {
    let config = environment(&[
        ("AMQPOST_SERVICE_HOST", "10.0.0.1"),
        ("AMQPOST_PORT", "tcp://10.0.0.1:8672"),
        ("AMQPOST_HTTP_PORT_8672_TCP_ADDR", "10.0.0.1"),
        ("AMQPOST", ""),
        ("ÄMQPOST__X", ""),
    ]);
    assert_eq!(config, Ok(Config::default()));
}
