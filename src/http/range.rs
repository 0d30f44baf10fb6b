//! Which part of a file a request gets: conditions and ranges (RFC 9110 §13
//! and §14) as arithmetic. Pure.

/// The headers of a request that choose what of a file it gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `Range` (RFC 9110 §14.2).
    pub range: Option<String>,
    /// `If-Range` (RFC 9110 §13.1.5).
    pub if_range: Option<String>,
    /// `If-None-Match` (RFC 9110 §13.1.2).
    pub if_none_match: Option<String>,
    /// `If-Modified-Since` (RFC 9110 §13.1.3).
    pub if_modified_since: Option<String>,
}

/// What is known of a file before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its length in bytes.
    pub length: u64,
    /// Its strong entity tag, with quotes.
    pub entity_tag: String,
    /// When it was written, as an HTTP date (RFC 9110 §5.6.7).
    pub last_modified: String,
}

/// What of a file a request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All of it: 200.
    Whole,
    /// `length` bytes from `first` on, at least one and all within: 206.
    Part {
        /// The first byte, counted from zero.
        first: u64,
        /// How many.
        length: u64,
    },
    /// Nothing, since the client has it: 304.
    NotModified,
    /// Nothing, since the file ends before the range: 416.
    Unsatisfiable,
}

impl Conditions {
    /// What of this file the request gets, in the order of RFC 9110 §13.2.2.
    ///
    /// Dates are compared to the letter: a client has them from us.
    #[must_use]
    pub fn select(&self, file: &Facts) -> Selection {
        let unmodified = match (&self.if_none_match, &self.if_modified_since) {
            (Some(tags), _) => matches_weakly(tags, &file.entity_tag),
            (None, Some(date)) => *date == file.last_modified,
            (None, None) => false,
        };
        if unmodified {
            return Selection::NotModified;
        }
        let Some(range) = &self.range else {
            return Selection::Whole;
        };
        match &self.if_range {
            Some(known) if *known != file.entity_tag && *known != file.last_modified => {
                Selection::Whole
            }
            Some(_) | None => part(range, file.length),
        }
    }
}

/// The weak comparison of RFC 9110 §8.8.3.2, with each of a list.
fn matches_weakly(tags: &str, own: &str) -> bool {
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == own)
}

/// RFC 9110 §14.1.2. A range that we do not understand is no range, and of
/// several the whole file is as good an answer (§14.2).
fn part(range: &str, length: u64) -> Selection {
    let Some(range) = range.trim().strip_prefix("bytes=") else {
        return Selection::Whole;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Selection::Whole;
    };
    match (number(first), number(last)) {
        // A suffix: the last so many bytes.
        (None, Some(count)) if first.is_empty() => match (count, length) {
            (0, _) => Selection::Unsatisfiable,
            (_, 0) => Selection::Whole,
            (count, length) => {
                let count = count.min(length);
                Selection::Part { first: length - count, length: count }
            }
        },
        (Some(first), Some(last)) if last < first => Selection::Whole,
        (Some(first), Some(_)) if first >= length => Selection::Unsatisfiable,
        (Some(first), Some(last)) => {
            let last = last.min(length - 1);
            Selection::Part { first, length: last - first + 1 }
        }
        (Some(first), None) if last.is_empty() => match length.checked_sub(first) {
            None | Some(0) => Selection::Unsatisfiable,
            Some(length) => Selection::Part { first, length },
        },
        (Some(_) | None, None) | (None, Some(_)) => Selection::Whole,
    }
}

/// Digits only; more than fit count as the largest number.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(length: u64) -> Facts {
        Facts {
            length,
            entity_tag: "\"a-1\"".to_owned(),
            last_modified: "Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
        }
    }

    fn ranged(range: &str) -> Selection {
        Conditions { range: Some(range.to_owned()), ..Conditions::default() }.select(&file(10))
    }

    #[test]
    fn a_range_is_clamped_to_the_file() {
        for (range, first, length) in [
            ("bytes=0-0", 0, 1),
            ("bytes=5-100", 5, 5),
            ("bytes=9-", 9, 1),
            ("bytes=0-99999999999999999999999", 0, 10),
            ("bytes=-3", 7, 3),
            ("bytes=-300", 0, 10),
        ] {
            assert_eq!(ranged(range), Selection::Part { first, length }, "{range}");
        }
    }

    #[test]
    fn a_range_behind_the_end_is_unsatisfiable() {
        for range in ["bytes=10-", "bytes=10-11", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(ranged(range), Selection::Unsatisfiable, "{range}");
        }
    }

    #[test]
    fn what_is_no_single_range_gets_the_whole_file() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "lines=1-2",
        ] {
            assert_eq!(ranged(range), Selection::Whole, "{range}");
        }
    }

    #[test]
    fn an_empty_file_has_no_part() {
        let conditions =
            |range: &str| Conditions { range: Some(range.to_owned()), ..Conditions::default() };
        assert_eq!(conditions("bytes=0-").select(&file(0)), Selection::Unsatisfiable);
        assert_eq!(conditions("bytes=-1").select(&file(0)), Selection::Whole);
    }

    #[test]
    fn a_range_of_another_file_state_gets_the_whole_file() {
        for (if_range, expected) in [
            ("\"a-1\"", Selection::Part { first: 1, length: 1 }),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Selection::Part { first: 1, length: 1 }),
            ("W/\"a-1\"", Selection::Whole),
            ("\"b\"", Selection::Whole),
        ] {
            let conditions = Conditions {
                range: Some("bytes=1-1".to_owned()),
                if_range: Some(if_range.to_owned()),
                ..Conditions::default()
            };
            assert_eq!(conditions.select(&file(10)), expected, "{if_range}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again() {
        for (tags, expected) in [
            ("\"a-1\"", Selection::NotModified),
            ("\"x\", W/\"a-1\"", Selection::NotModified),
            ("*", Selection::NotModified),
            ("\"x\"", Selection::Whole),
        ] {
            let conditions = Conditions {
                if_none_match: Some(tags.to_owned()),
                // RFC 9110 §13.1.3: ignored beside If-None-Match.
                if_modified_since: Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
                ..Conditions::default()
            };
            assert_eq!(conditions.select(&file(10)), expected, "{tags}");
        }
    }

    proptest! {
        #[test]
        fn every_part_is_within_the_file(
            range in "(bytes=)?[0-9]{0,21}-?[0-9]{0,21}", length: u64
        ) {
            if let Selection::Part { first, length: part } = part(&range, length) {
                prop_assert!(part > 0 && first.checked_add(part).is_some_and(|end| end <= length));
            }
        }

        #[test]
        fn no_header_panics(range: String, tags: String, length: u64) {
            let conditions = Conditions {
                range: Some(range.clone()),
                if_range: Some(tags.clone()),
                if_none_match: Some(tags),
                if_modified_since: Some(range),
            };
            let _ = conditions.select(&file(length));
        }
    }
}
