//! Places in a JSON document: where a number is, and where the texts of its labels are.
//!
//! ```text
//! $.pools[*].used     JSONPath (RFC 9535)
//! /pools/0/used       JSON pointer (RFC 6901)
//! ```
//! A label is looked for around the number it is for:
//!
//! ```text
//! name, meta.name     a member of the nearest object around the number that has it
//! ~0, ~1              the key of the number itself, of what it is in, …
//! $.host, /host       a place in the whole document
//! ```

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json_path::{JsonPath, PathElement};

/// Where something is in a document.
#[derive(Debug, Clone)]
pub struct Place {
    text: String,
    how: How,
}

#[derive(Debug, Clone)]
enum How {
    Path(JsonPath),
    Pointer(Vec<String>),
}

/// A value and the way to it.
pub(super) struct Found<'v> {
    pub value: &'v Value,
    steps: Vec<Step<'v>>,
}

#[derive(Clone, Copy)]
enum Step<'v> {
    Name(&'v str),
    Index(usize),
}

impl Place {
    pub fn parse(text: &str) -> Result<Place, String> {
        let how = if text.is_empty() || text.starts_with('/') {
            let plain = |part: &str| part.replace("~1", "/").replace("~0", "~");
            How::Pointer(text.split('/').skip(1).map(plain).collect())
        } else {
            let told = |error| {
                format!("`{text}` is no place in JSON ({error}): write one as $.list[*].value or /list/0/value")
            };
            How::Path(JsonPath::parse(text).map_err(told)?)
        };
        Ok(Place { text: text.to_owned(), how })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it may well find nothing, as in an empty list.
    pub(super) fn is_of_many(&self) -> bool {
        matches!(self.how, How::Path(_)) && ["*", "?", "..", ":", ","].iter().any(|many| self.text.contains(many))
    }

    pub(super) fn find<'v>(&self, document: &'v Value) -> Vec<Found<'v>> {
        match &self.how {
            How::Path(path) => path.query_located(document).into_iter().map(|node| Found::of_node(&node)).collect(),
            How::Pointer(parts) => Found::at(document, parts).into_iter().collect(),
        }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Place::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

impl<'v> Step<'v> {
    fn take(self, value: &'v Value) -> Option<&'v Value> {
        match self {
            Step::Name(name) => value.get(name),
            Step::Index(index) => value.get(index),
        }
    }
}

impl<'v> Found<'v> {
    fn of_node(node: &serde_json_path::LocatedNode<'v>) -> Self {
        let step = |element: &PathElement<'v>| match element {
            PathElement::Name(name) => Step::Name(name),
            PathElement::Index(index) => Step::Index(*index),
        };
        Found { value: node.node(), steps: node.location().iter().map(step).collect() }
    }

    fn at(document: &'v Value, parts: &[String]) -> Option<Self> {
        let mut found = Found { value: document, steps: Vec::with_capacity(parts.len()) };
        for part in parts {
            let step = match found.value {
                Value::Object(members) => Step::Name(members.get_key_value(part)?.0),
                Value::Array(_) => Step::Index(part.parse().ok()?),
                _ => return None,
            };
            found.value = step.take(found.value)?;
            found.steps.push(step);
        }
        Some(found)
    }
}

/// Where the text of a label is.
#[derive(Debug, Clone, PartialEq)]
pub enum LabelPlace {
    Around(Vec<String>),
    Key(usize),
    Whole(Place),
}

impl LabelPlace {
    pub fn parse(text: &str) -> Result<LabelPlace, String> {
        if text.starts_with(['$', '/']) {
            return Place::parse(text).map(LabelPlace::Whole);
        }
        if let Some(number) = text.strip_prefix('~') {
            let told = |_| format!("`{text}` is no key: write ~0 for the number's own, ~1 for that of what it is in");
            return number.parse().map(LabelPlace::Key).map_err(told);
        }
        let names: Vec<String> = text.trim_start_matches("@.").split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(format!("`{text}` is no label's place: write one as name, ~1 or $.host"));
        }
        Ok(LabelPlace::Around(names))
    }

    /// The text for a number in `document`; `None` where there is none.
    pub(super) fn text(&self, document: &Value, of: &Found<'_>) -> Option<String> {
        match self {
            LabelPlace::Whole(place) => text(place.find(document).first()?.value),
            LabelPlace::Key(up) => match of.steps.get(of.steps.len().checked_sub(up + 1)?)? {
                Step::Name(name) => Some((*name).to_owned()),
                Step::Index(index) => Some(index.to_string()),
            },
            LabelPlace::Around(names) => {
                let mut around = vec![document];
                for step in &of.steps {
                    around.push(step.take(around.last()?)?);
                }
                let of_object =
                    |value: &&Value| names.iter().try_fold(*value, |value, name| value.get(name)).and_then(text);
                around.iter().rev().find_map(of_object)
            }
        }
    }
}

impl<'de> Deserialize<'de> for LabelPlace {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        LabelPlace::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_labels_are_found() {
        let document = serde_json::json!({
            "host": "a", "a/b": 1,
            "pools": [{"name": "x", "meta": {"zone": 7}, "stats": {"used": 5}}, {"name": "y", "stats": {"used": 6}}],
            "by": {"red": {"n": 1}, "blue": {"n": 2}},
        });
        let cases: [(&str, &str, &[&str]); 9] = [
            ("$.pools[*].stats.used", "name", &["5 x", "6 y"]),
            ("$.pools[*].stats.used", "meta.zone", &["5 7", "6 -"]),
            ("$.pools[*].stats.used", "host", &["5 a", "6 a"]),
            ("$.pools[0].stats.used", "$.pools[1].name", &["5 y"]),
            ("$.pools[?@.name == 'y'].stats.used", "~0", &["6 used"]),
            ("/pools/1/stats/used", "~2", &["6 1"]),
            ("/a~1b", "~0", &["1 a/b"]),
            ("$.by.*.n", "~1", &["2 blue", "1 red"]),
            ("$.by.green.n", "~1", &[]),
        ];
        for (place, label, wanted) in cases {
            let label = LabelPlace::parse(label).unwrap();
            let told = |found: &Found<'_>| {
                format!("{} {}", found.value, label.text(&document, found).unwrap_or_else(|| "-".into()))
            };
            let found: Vec<String> = Place::parse(place).unwrap().find(&document).iter().map(told).collect();
            assert_eq!(found, wanted, "{place}");
        }
    }

    #[test]
    fn what_is_no_place_says_how_to_write_one() {
        for text in ["pools[0]", "$.a[", "$..", "a"] {
            let told = Place::parse(text).unwrap_err();
            assert!(told.contains("write one as $.list[*].value"), "{told}");
        }
        for text in ["", "a..b", "~x", "$.["] {
            assert!(LabelPlace::parse(text).unwrap_err().contains("write"), "{text}");
        }
    }
}
