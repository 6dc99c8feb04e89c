//! Tests of the content of a scrape, and that nothing is missing from it.

use super::*;
use crate::outcome::Retry;

fn observed(link_state: ConnectionState) -> Observed {
    Observed {
        in_flight: 3,
        in_flight_limit: 10,
        link_state,
        connections: vec![ConnectionState::Up, ConnectionState::Down],
        breakers: HashMap::from([(BreakerState::Open, 2)]),
        spool: ObservedSpool {
            messages: 7,
            oldest_age: Duration::from_millis(1500),
            refused_for: Duration::from_millis(2500),
            ..ObservedSpool::default()
        },
    }
}

fn sample(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with(series) && line[series.len()..].starts_with(' '))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn every_outcome_of_a_message_has_a_series_from_the_start() {
    let text = Metrics::new(&[]).render(&observed(ConnectionState::Down));
    for outcome in Outcome::ALL {
        let class = outcome.class().as_str();
        let series = format!("amqpost_publishes_total{{code=\"{}\",outcome=\"{class}\"}}", outcome.code());
        let expected =
            if matches!(outcome, Outcome::NotFound | Outcome::MethodNotAllowed) { None } else { Some(0.0) };
        assert_eq!(sample(&text, &series), expected, "{series}");
    }
}

#[test]
fn a_publish_is_counted_under_its_own_outcome() {
    let metrics = Metrics::new(&[]);
    metrics.publish_answered(Outcome::Unroutable, Duration::from_millis(2));
    metrics.published(Outcome::Nacked);
    let text = metrics.render(&observed(ConnectionState::Up));
    let publishes = |labels| sample(&text, &format!("amqpost_publishes_total{{{labels}}}"));
    assert_eq!(publishes("code=\"unroutable\",outcome=\"not_published\""), Some(1.0));
    assert_eq!(publishes("code=\"nacked\",outcome=\"unknown\""), Some(1.0));
    let answered = "amqpost_publish_duration_seconds_count{outcome=\"not_published\"}";
    assert_eq!(sample(&text, answered), Some(1.0));
}

/// An attempt is repeated when its failure may pass, the link is what failed, and there is time
/// left.
fn may_be_repeated(outcome: Outcome) -> bool {
    let row = outcome.row();
    let may_pass = matches!(row.status, 502..=504) && row.retry != Retry::None;
    let is_of_the_link = !matches!(outcome, Outcome::SpoolFull | Outcome::SpoolFailed | Outcome::SpoolUnsure);
    let is_the_last =
        matches!(outcome, Outcome::DeadlineNotSent | Outcome::ConfirmTimeout | Outcome::Draining);
    may_pass && is_of_the_link && !is_the_last && outcome != Outcome::DestinationUnavailable
}

#[test]
fn each_retry_is_counted_under_the_code_of_the_failed_attempt() {
    let metrics = Metrics::new(&[]);
    for outcome in Outcome::ALL.into_iter().filter(|outcome| may_be_repeated(*outcome)) {
        let series = format!("amqpost_retries_total{{reason=\"{}\"}}", outcome.code());
        assert_eq!(sample(&metrics.render(&observed(ConnectionState::Up)), &series), Some(0.0), "{series}");
        metrics.retried(outcome);
        assert_eq!(sample(&metrics.render(&observed(ConnectionState::Up)), &series), Some(1.0), "{series}");
    }
}

#[test]
fn gauges_show_what_is_observed_at_the_scrape() {
    let text = Metrics::new(&[]).render(&observed(ConnectionState::Blocked));
    assert_eq!(sample(&text, "amqpost_link_up"), Some(0.0));
    assert_eq!(sample(&text, "amqpost_link_state{state=\"blocked\"}"), Some(1.0));
    assert_eq!(sample(&text, "amqpost_connections{state=\"up\"}"), Some(1.0));
    assert_eq!(sample(&text, "amqpost_breaker_state{state=\"open\"}"), Some(2.0));
    assert_eq!(sample(&text, "amqpost_breaker_state{state=\"half_open\"}"), Some(0.0));
    assert_eq!(sample(&text, "amqpost_in_flight"), Some(3.0));
    assert_eq!(sample(&text, "amqpost_spool_messages"), Some(7.0));
    assert_eq!(sample(&text, "amqpost_spool_oldest_age_seconds"), Some(1.5));
    assert_eq!(sample(&text, "amqpost_spool_refused_seconds"), Some(2.5));
    assert!(sample(&text, "process_resident_memory_bytes").is_some());
}
