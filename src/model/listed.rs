//! A machine as the operator speaks of it: listed in the inventory, with labels
//! and a note.

use std::collections::BTreeSet;

use super::{Architecture, LocalBoot, Mac, Overlay, Rate, Tags, VlanId};

/// A machine of the inventory, seen on the network or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The card that names it.
    pub mac: Mac,
    /// Its further cards.
    pub cards: BTreeSet<Mac>,
    /// What it is, as long as its firmware has not said so itself.
    pub architecture: Option<Architecture>,
    /// Its labels, each as [`check_label`] wants it.
    pub labels: Tags,
    /// A word for people, as [`check_note`] wants it.
    pub note: Option<String>,
    /// How it is sent to its own disk, and in no other way.
    pub local_boot: Option<LocalBoot>,
    /// The VLAN that it loads over.
    pub vlan: Option<VlanId>,
    /// How fast it is sent to.
    pub pace: Option<Rate>,
    /// The boot programs that it is told, the first choice first; those of its
    /// profile if there are none.
    pub loaders: Vec<String>,
    /// What it is told by DHCP, over its profile and its network.
    pub dhcp: Overlay,
}

/// The longest note of a machine, in characters.
pub const LONGEST_NOTE: usize = 200;

/// The longest name or value of a label, in characters.
pub const LONGEST_LABEL: usize = 200;

/// The most labels that a machine may have: the state is in memory, and a caller
/// that makes up names would fill it.
pub const MOST_LABELS: usize = 64;

/// Why a label cannot be a machine's. Each names it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum InvalidLabel {
    /// It has no name.
    #[error("a label's name must not be empty")]
    Nameless,
    /// `name=value` could not be read again.
    #[error("the label `{}` has an equals sign, a blank or a control character in its name", .0.escape_debug())]
    Name(String),
    /// It would tear apart what people are shown.
    #[error("the label `{}` has a control character in its value", .0.escape_debug())]
    Value(String),
    /// It is no word any more.
    #[error("the label `{}` is longer than {LONGEST_LABEL} characters", beginning(.0))]
    TooLong(String),
    /// There are too many.
    #[error("{0} labels are more than the {MOST_LABELS} that a machine may have")]
    TooMany(usize),
}

/// Why a text cannot be a machine's note.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidNote {
    /// It says nothing.
    #[error("it is empty; leave it out")]
    Empty,
    /// It would tear apart what people are shown.
    #[error("it has a control character: {0:?}")]
    Control(String),
    /// It is no note any more.
    #[error("it has {0} characters, {LONGEST_NOTE} are the most")]
    TooLong(usize),
}

/// Whether a machine may have a label of this name and value.
///
/// # Errors
///
/// Why not.
pub fn check_label(name: &str, value: &str) -> Result<(), InvalidLabel> {
    let is_odd = |letter: char| letter.is_control() || letter.is_whitespace() || letter == '=';
    match name {
        "" => Err(InvalidLabel::Nameless),
        _ if name.chars().count() > LONGEST_LABEL || value.chars().count() > LONGEST_LABEL => {
            Err(InvalidLabel::TooLong(name.to_owned()))
        }
        _ if name.contains(is_odd) => Err(InvalidLabel::Name(name.to_owned())),
        _ if value.contains(char::is_control) => Err(InvalidLabel::Value(name.to_owned())),
        _ => Ok(()),
    }
}

/// Whether a machine may have so many labels.
///
/// # Errors
///
/// That there are too many.
pub const fn check_label_count(count: usize) -> Result<(), InvalidLabel> {
    if count > MOST_LABELS { Err(InvalidLabel::TooMany(count)) } else { Ok(()) }
}

/// Whether this can be a machine's note.
///
/// # Errors
///
/// Why not.
pub fn check_note(text: &str) -> Result<(), InvalidNote> {
    let length = text.chars().count();
    match text {
        _ if text.trim().is_empty() => Err(InvalidNote::Empty),
        _ if length > LONGEST_NOTE => Err(InvalidNote::TooLong(length)),
        _ if text.contains(char::is_control) => Err(InvalidNote::Control(text.to_owned())),
        _ => Ok(()),
    }
}

/// Enough of a name to find it by.
fn beginning(text: &str) -> String {
    text.chars().take(20).flat_map(char::escape_debug).chain("..".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_short_word_and_a_short_text() {
        let long = "x".repeat(LONGEST_LABEL);
        for (name, value) in [("rack", "1"), ("rack", ""), ("é/x", "two words"), (&long, &long)] {
            assert_eq!(check_label(name, value), Ok(()), "{name}={value}");
        }
        let longer = "x".repeat(LONGEST_LABEL + 1);
        for (name, value, said) in [
            ("", "1", "must not be empty"),
            ("a b", "1", "`a b`"),
            ("a=b", "1", "`a=b`"),
            ("a\n", "1", "`a\\n`"),
            ("rack", "1\n2", "`rack`"),
            (&longer, "1", "`xxxxxxxxxxxxxxxxxxxx..`"),
            ("rack", &longer, "`rack..`"),
        ] {
            let error = check_label(name, value).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_note_is_one_line_of_two_hundred_characters_at_most() {
        assert_eq!(check_note(&"é".repeat(LONGEST_NOTE)), Ok(()));
        for (note, said) in [
            (" ".to_owned(), "empty"),
            ("é".repeat(LONGEST_NOTE + 1), "201 characters"),
            ("a\nb".to_owned(), "\"a\\nb\""),
        ] {
            let error = check_note(&note).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
