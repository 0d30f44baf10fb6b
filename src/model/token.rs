//! The secrets of an instance, by which its machine is told from all others.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize};

use super::{hexadecimal, spelled};

/// What an instance's URLs have in them that nobody can guess: one for each
/// purpose, since they are known to different readers. A kernel's command line,
/// which any process of the machine can read, has those of the URLs that the
/// operator put there; the files' own is in the script alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Of the kernel and the initrds.
    pub files: Token,
    /// Of `Init`, in all its forms.
    pub init: Token,
    /// Of the place where the machine reports in.
    pub report: Token,
}

/// 128 random bits, new with each Provision: who knows them in a URL was given
/// that URL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "String")]
pub struct Token(pub u128);

impl Token {
    /// The 32 digits of the URL.
    #[must_use]
    pub fn digits(self) -> String {
        hexadecimal::text(&hexadecimal::digits_of(self.0)).to_owned()
    }
}

impl fmt::Debug for Token {
    /// Nothing of it, since debug output ends in logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// The text is no token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a token of 32 hexadecimal digits")]
pub struct InvalidToken;

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        hexadecimal::number_of(text, 32).map(Self).ok_or(InvalidToken)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        spelled::read(deserializer)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.digits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Token(7)), "Token(..)");
        assert_eq!(Token(7).digits().parse(), Ok(Token(7)));
        assert!("+0000000000000000000000000000007".parse::<Token>().is_err());
    }
}
