//! Statuses of HTTP as they are written: `204`, `"200..299"`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Statuses from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    pub from: u16,
    pub to: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.from..=self.to).contains(&status)
    }

    fn parse(text: &str) -> Option<StatusRange> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
        let range = StatusRange { from: number(from)?, to: number(to.trim_start_matches('='))? };
        (range.from <= range.to).then_some(range)
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}..{}", self.from, self.to) }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl Visitor<'_> for Written {
            type Value = StatusRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status as 204, or some as \"200..299\"")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<StatusRange, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<StatusRange, E> {
                let told = || E::custom(format!("`{text}` is no status: write one as 204, or some as \"200..299\""));
                StatusRange::parse(text).ok_or_else(told)
            }
        }

        from.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_and_ranges() {
        let of = |text| StatusRange::parse(text).map(|range| (range.from, range.to));
        let cases = [
            ("204", Some((204, 204))),
            ("200..299", Some((200, 299))),
            ("200..=299", Some((200, 299))),
            ("99", None),
            ("300..200", None),
            ("2xx", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(of(text), wanted, "{text}");
        }
    }
}
