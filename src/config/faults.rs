//! Faults of configuration files, with the line they stand in.

use std::fmt;

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

/// Faults shown of one file; after so many the rest follow from the first.
const FAULTS_MAX: usize = 50;

/// Reads a TOML text. The parser stops at the first fault; so that all are told at once, the line of each is blanked
/// and the text read again.
pub(super) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, ConfigFaults> {
    let mut faults = Vec::new();
    let mut text = text.to_owned();
    loop {
        let error = match toml::from_str::<T>(&text) {
            Ok(value) if faults.is_empty() => return Ok(value),
            Ok(_) => return Err(ConfigFaults(faults)),
            Err(error) => error,
        };
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = error.span().map_or(0, |_| text[..start].matches('\n').count() + 1);
        faults.push(ConfigFault { file: file.to_owned(), line, error: error.message().replace('\n', " ") });
        let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let to = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let blank = error.span().is_none() || text[from..to].trim().is_empty() || text[from..to].starts_with('[');
        if blank || faults.len() == FAULTS_MAX {
            return Err(ConfigFaults(faults));
        }
        text.replace_range(from..to, "");
    }
}

/// The line in which `needle` first stands, from 1; 0 where it does not.
pub(super) fn line_of(text: &str, needle: &str) -> usize {
    text.find(needle).map_or(0, |at| text[..at].matches('\n').count() + 1)
}
