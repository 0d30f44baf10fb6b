//! Paths, as Event and Metadata have them: words with slashes between, or a list
//! of them. Pure.

use serde_json::Value;

use super::request::{Params, Unreadable, member, wrong};

/// A path from the root, which is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    /// Reads the parameter of this name. InfraKit's client sends `"a/b"`, although
    /// its Go type is a list of words; both are read. `.`, the empty text and null
    /// are the root, and empty words are passed over.
    pub(super) fn read(params: &Params, name: &str) -> Result<Self, Unreadable> {
        let words = |text: &str| -> Vec<String> {
            let words = text.split('/').filter(|word| !word.is_empty() && *word != ".");
            words.map(str::to_owned).collect()
        };
        match member(params, name) {
            Value::Null => Ok(Self(Vec::new())),
            Value::String(text) => Ok(Self(words(text))),
            Value::Array(list) => {
                let read = |word: &Value| match word {
                    Value::String(text) => Ok(words(text)),
                    other => Err(wrong(name, "a list of strings", other)),
                };
                let words: Result<Vec<Vec<String>>, Unreadable> = list.iter().map(read).collect();
                Ok(Self(words?.concat()))
            }
            other => Err(wrong(name, "a string or a list of strings", other)),
        }
    }

    /// The words.
    pub(super) fn words(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in crate::spi) fn read(path: Value) -> Result<Path, Unreadable> {
        let mut params = Params::new();
        params.insert("Path".to_owned(), path);
        Path::read(&params, "Path")
    }

    #[test]
    fn a_path_is_a_text_or_a_list_and_the_root_has_many_spellings() {
        for root in [json!(null), json!(""), json!("."), json!("/"), json!([]), json!(["."])] {
            assert_eq!(read(root.clone()).expect("the root").words(), [""; 0], "{root}");
        }
        for path in
            [json!("a/b"), json!("/a//b/"), json!("./a/b"), json!(["a", "b"]), json!(["a/b"])]
        {
            assert_eq!(read(path.clone()).expect("a path").words(), ["a", "b"], "{path}");
        }
        let error = read(json!(["a", 5])).expect_err("a number").to_string();
        assert_eq!(error, "params.Path: expected a list of strings, found 5");
        assert!(read(json!({"a": 5})).is_err());
    }
}
