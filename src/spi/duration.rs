//! Spans of time as Go writes them: `90s`, `1h30m`, `1.5h`, `250ms`. Pure.

use std::time::Duration;

/// The units, and how many nanoseconds each has; of two that begin alike the
/// longer one first. Unicode has two letters for micro.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The longest span that Go has, some 292 years, in nanoseconds.
const LONGEST: u128 = i64::MAX as u128;

/// More digits than this behind the point are less than a nanosecond of an hour.
const FRACTION_DIGITS: usize = 15;

/// The text is no span of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a duration such as 90s, 1h30m or 1.5h")]
pub(super) struct InvalidDuration(String);

/// The span that this text says, as Go's `time.ParseDuration` reads it, which
/// takes one or more numbers with a unit each, and `0` alone. Not negative.
pub(super) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    nanoseconds(text).ok_or_else(|| InvalidDuration(text.to_owned()))
}

fn nanoseconds(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut total = 0;
    while !rest.is_empty() {
        let (amount, after) = amount(rest)?;
        let (unit, after) = unit(after)?;
        total += amount.of(unit)?;
        if total > LONGEST {
            return None;
        }
        rest = after;
    }
    u64::try_from(total).ok().map(Duration::from_nanos)
}

/// A number with at most one point, such as `1.5`, `.5` and `1.`.
struct Amount<'a> {
    whole: &'a str,
    fraction: &'a str,
}

impl Amount<'_> {
    /// So many of a unit, in nanoseconds; nothing if that is more than there is.
    fn of(&self, unit: u128) -> Option<u128> {
        let whole: u128 = match self.whole {
            "" => 0,
            digits => digits.parse().ok()?,
        };
        let digits = &self.fraction[..self.fraction.len().min(FRACTION_DIGITS)];
        let part = match digits {
            "" => 0,
            digits => {
                let scale = (0..digits.len()).fold(1, |scale, _| scale * 10);
                digits.parse::<u128>().ok()? * unit / scale
            }
        };
        whole.checked_mul(unit)?.checked_add(part)
    }
}

fn amount(text: &str) -> Option<(Amount<'_>, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    Some((Amount { whole, fraction }, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn unit(text: &str) -> Option<(u128, &str)> {
    UNITS.iter().find_map(|(name, size)| Some((*size, text.strip_prefix(name)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("+0", 0),
            ("0s", 0),
            ("90s", 90_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("250ms", 250_000_000),
            ("10m", 600_000_000_000),
            ("1m1ms1us1ns", 60_001_001_001),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1\u{b5}s1\u{3bc}s", 2_000),
            ("30s1h", 3_630_000_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_span_is_refused_and_repeated() {
        for text in [
            "",
            "+",
            "-1s",
            "1",
            "s",
            ".s",
            ".",
            "1 s",
            "1s ",
            "1,5h",
            "1d",
            "1S",
            "1e3s",
            "ten minutes",
            "1s2",
            "2562047h47m16.854775808s",
            "99999999999999999999999999999999999999999h",
        ] {
            let refused = parse(text).expect_err(text).to_string();
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn hours_minutes_and_seconds_add_up(hours in 0u64..1000, minutes in 0u64..100, thousandths in 0u64..100_000) {
            let text = format!("{hours}h{minutes}m{}.{:03}s", thousandths / 1000, thousandths % 1000);
            let expected = (hours * 3600 + minutes * 60) * 1000 + thousandths;
            prop_assert_eq!(parse(&text), Ok(Duration::from_millis(expected)));
        }

        #[test]
        fn any_number_of_nanoseconds_that_go_has_is_read(number in 0..=i64::MAX as u64) {
            prop_assert_eq!(parse(&format!("{number}ns")), Ok(Duration::from_nanos(number)));
        }

        #[test]
        fn no_text_panics(text: String, like in "[0-9.+hmsnu-]{0,40}") {
            let _ = parse(&text);
            let _ = parse(&like);
        }
    }
}
