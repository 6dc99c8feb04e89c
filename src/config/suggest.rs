//! Suggestions for an unknown key.

use super::keys::{SECTIONS, all_keys};
use super::schema::Key;
use strsim::osa_distance;

/// "did you mean …?" for a near miss, else the names that exist. `spell` writes a key in the form
/// of its source.
pub(super) fn suggest(written: &str, spell: impl Fn(&Key) -> String) -> String {
    let near = nearest(written);
    if !near.is_empty() {
        let names: Vec<_> = near.into_iter().map(spell).collect();
        return format!("did you mean {}?", names.join(" or "));
    }
    match SECTIONS.iter().find(|section| written.split('.').next() == Some(section.name)) {
        Some(section) => section.listing(),
        None => {
            let names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
            format!("the sections are {}", names.join(", "))
        }
    }
}

/// The keys nearest to `written`; none if all are far from it. The whole path is compared first,
/// and then the name alone, because a key may be in the wrong section.
fn nearest(written: &str) -> Vec<&'static Key> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    let name = written.rsplit('.').next().unwrap_or_default();
    let by_path = within_reach(&written, |key| key.path);
    if by_path.is_empty() { within_reach(name, Key::name) } else { by_path }
}

fn within_reach(written: &str, part: impl Fn(&Key) -> &'static str) -> Vec<&'static Key> {
    // The distance counts letters to insert, drop, replace or swap with their neighbour.
    // Up to a third of the letters wrong is a typing error; more is another word.
    let reach = (written.chars().count() / 3).min(4);
    let distances: Vec<_> = all_keys().map(|key| (osa_distance(written, part(key)), key)).collect();
    let Some(best) = distances.iter().map(|(distance, _)| *distance).filter(|best| *best <= reach).min()
    else {
        return Vec::new();
    };
    distances.into_iter().filter(|(distance, _)| *distance == best).map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_slips() {
        assert_eq!(osa_distance("", "abc"), 3);
        assert_eq!(osa_distance("abc", ""), 3);
        assert_eq!(osa_distance("abc", "abc"), 0);
        assert_eq!(osa_distance("abc", "acb"), 1);
        assert_eq!(osa_distance("heartbeat", "hartbeet"), 2);
    }

    #[test]
    fn near_misses_are_recognised() {
        for (written, meant) in [
            ("broker.hartbeat", "broker.heartbeat"),
            ("brokr.conections", "broker.connections"),
            ("publish.max-in-flight", "publish.max_in_flight"),
            ("link.connections", "broker.connections"),
            ("connections", "broker.connections"),
            ("log.lvl", "log.level"),
            ("server.listen", "http.listen or admin.listen"),
        ] {
            assert_eq!(
                suggest(written, |key| key.path.to_owned()),
                format!("did you mean {meant}?"),
                "{written}"
            );
        }
    }

    #[test]
    fn a_key_near_to_nothing_gets_the_list() {
        insta::assert_snapshot!(suggest("log.colour", |key| key.path.to_owned()), @"log has level, format");
        assert_eq!(
            suggest("zzz", |key| key.path.to_owned()),
            "the sections are http, admin, broker, publish, breaker, spool, idempotency, shutdown, log, \
             runtime"
        );
    }
}
