//! Values that are written as text, read without a copy of the text: a store has very
//! many of them.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserializer,
    de::{Error, Visitor},
};

/// Reads a value from its text.
pub(super) fn read<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_str(Spelled(PhantomData))
}

struct Spelled<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Spelled<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{InstanceId, Mac, Token};

    #[test]
    fn text_is_read_with_escapes_and_without_and_what_is_wrong_is_said() {
        let mac = Mac::new([2, 0, 0, 0, 0, 9]);
        let escaped = "\"\\u00302:00:00:00:00:09\"";
        assert_eq!(serde_json::from_str::<Mac>(escaped).expect("a MAC"), mac);
        let value = serde_json::Value::from("02-00-00-00-00-09");
        assert_eq!(serde_json::from_value::<Mac>(value).expect("a MAC"), mac);
        let error = serde_json::from_str::<Token>("\"7\"").expect_err("too short");
        assert!(error.to_string().contains("not a token"), "{error}");
        let error = serde_json::from_str::<InstanceId>("7").expect_err("a number");
        assert!(error.to_string().contains("expected a string"), "{error}");
    }
}
