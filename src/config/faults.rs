//! Faults of configuration files, with the line they stand in.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    pub file: String,
    /// From 1; 0 where the fault has no place.
    pub line: usize,
    /// What is wrong and what to write.
    pub error: String,
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.error),
            line => write!(f, "{}:{line}: {}", self.file, self.error),
        }
    }
}

/// All that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFaults(pub Vec<ConfigFault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// Faults told of one file; after so many the rest follow from the first.
const FAULTS_MAX: usize = 50;

/// Reads a TOML text: what could be made of it, and its faults. The parser stops at the first fault; so that all are
/// told at once, `suspect` names the part of the text to blank around each, and the text is read again.
pub(super) fn parse<T: DeserializeOwned>(
    file: &str,
    text: &str,
    suspect: impl Fn(&str, usize) -> Range<usize>,
) -> (Option<T>, Vec<ConfigFault>) {
    let (mut faults, mut text) = (Vec::new(), text.to_owned());
    while faults.len() < FAULTS_MAX {
        let error = match toml::from_str::<T>(&text) {
            Ok(value) => return (Some(value), faults),
            Err(error) => error,
        };
        let Some(span) = error.span() else {
            faults.push(ConfigFault { file: file.to_owned(), line: 0, error: error.message().replace('\n', " ") });
            break;
        };
        let start = span.start.min(text.len());
        // What is missing may be what was blanked.
        if faults.is_empty() || !error.message().starts_with("missing field") {
            let line = text[..start].matches('\n').count() + 1;
            faults.push(ConfigFault { file: file.to_owned(), line, error: error.message().replace('\n', " ") });
        }
        let range = suspect(&text, start);
        let blank: String = text[range.clone()].chars().filter(|&letter| letter == '\n').collect();
        if text[range.clone()].trim().is_empty() {
            break;
        }
        text.replace_range(range, &blank);
    }
    (None, faults)
}

/// The line around `at`.
pub(super) fn line_around(text: &str, at: usize) -> Range<usize> {
    let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let to = text[at..].find('\n').map_or(text.len(), |end| at + end);
    from..to
}

/// The line from `from` on in which `needle` first stands as a word of its own, from 1; 0 where it does not.
pub(super) fn line_of(text: &str, from: usize, needle: &str) -> usize {
    let part_of_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    let alone = |at: usize| {
        let before = text[..at].chars().next_back().is_some_and(part_of_word);
        let after = text[at + needle.len()..].chars().next().is_some_and(part_of_word);
        !before && !after
    };
    let places = text[from..].match_indices(needle).map(|(at, _)| from + at);
    places.into_iter().find(|&at| alone(at)).map_or(0, |at| text[..at].matches('\n').count() + 1)
}

/// Where `[[name]]` begins a line; in a comment or a text it opens nothing.
pub(super) fn openings(text: &str, name: &str) -> Vec<usize> {
    let (mut places, mut at) = (Vec::new(), 0);
    for line in text.split_inclusive('\n') {
        let opened = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
        if opened.is_some_and(|(opened, _)| opened.trim() == name) {
            places.push(at);
        }
        at += line.len();
    }
    places
}
