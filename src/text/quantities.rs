//! Durations and sizes: from text to value and back.

use std::time::Duration;

/// Units of a duration in milliseconds, the largest first.
const DURATION_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of a size in bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `250ms`, `5s`, `2m`, `24h`. The unit is required: a bare number does not say what it
/// counts.
pub fn parse_duration(text: &str) -> Option<Duration> {
    parse_quantity(text, &DURATION_UNITS).map(Duration::from_millis)
}

/// Reads `512B`, `64KiB`, `16MiB`, `1GiB`, or a plain number of bytes.
pub fn parse_size(text: &str) -> Option<u64> {
    parse_number(text).or_else(|| parse_quantity(text, &SIZE_UNITS))
}

/// Reads ASCII digits; no sign, no spaces, no separators.
pub fn parse_number(text: &str) -> Option<u64> {
    // `u64::from_str` alone would also take a leading plus.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The duration in the largest unit that leaves no rest. Milliseconds are the finest; less is cut
/// off.
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 { "0s".to_owned() } else { format_quantity(milliseconds, &DURATION_UNITS) }
}

/// The size in the largest unit that leaves no rest.
pub fn format_size(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { format_quantity(bytes, &SIZE_UNITS) }
}

fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(unit, _)| *unit == suffix)?;
    parse_number(number)?.checked_mul(*factor)
}

fn format_quantity(value: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| value.is_multiple_of(*factor))
        .map(|(unit, factor)| format!("{}{unit}", value / factor))
        .expect("the last unit is 1 and divides everything")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_duration("24h"), Some(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("0s"), Some(Duration::ZERO));
        for wrong in ["", "5", "s", "5 s", " 5s", "+5s", "-5s", "1.5s", "5S", "5sec", "1m30s", "٣s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_binary_units_or_plain_bytes() {
        assert_eq!(parse_size("512B"), Some(512));
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("16MiB"), Some(16 << 20));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        assert_eq!(parse_size("1048576"), Some(1 << 20));
        for wrong in ["", "KiB", "64KB", "64kib", "64 KiB", "-1", "1.5MiB", "1_000"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_overflows_is_no_value_rather_than_a_small_one() {
        assert_eq!(parse_duration("18446744073709551615h"), None);
        assert_eq!(parse_size("18446744073709551615GiB"), None);
        assert_eq!(parse_size("99999999999999999999"), None);
    }

    proptest! {
        #[test]
        fn formatting_then_parsing_gives_the_same_value(number in any::<u64>()) {
            prop_assert_eq!(parse_size(&format_size(number)), Some(number));
            let duration = Duration::from_millis(number);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>()) {
            parse_size(&text);
            parse_duration(&text);
        }
    }
}
