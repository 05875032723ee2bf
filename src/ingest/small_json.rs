//! JSON values that are kept only where they are small: as values they take many times the room of their text.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values within one that is kept.
pub(super) const VALUES_MAX: usize = 10_000;

/// A value; `None` where there are over [`VALUES_MAX`] in it.
pub(super) struct Small(pub Option<Value>);

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let mut count = 0;
        let value = Counting(&mut count).deserialize(reader)?;
        Ok(Small((count <= VALUES_MAX).then_some(value)))
    }
}

/// Reads a value, and counts those in it.
struct Counting<'c>(&'c mut usize);

impl Counting<'_> {
    fn counted(self, value: impl Into<Value>) -> Value {
        *self.0 += 1;
        value.into()
    }

    fn is_full(&self) -> bool {
        *self.0 > VALUES_MAX
    }
}

impl<'de> DeserializeSeed<'de> for Counting<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Counting<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(self.counted(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(self.counted(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(self.counted(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(self.counted(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(self.counted(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(self.counted(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        *self.0 += 1;
        let mut array = Vec::new();
        while !self.is_full() {
            let Some(element) = elements.next_element_seed(Counting(self.0))? else { return Ok(array.into()) };
            array.push(element);
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        *self.0 += 1;
        let mut object = Map::new();
        while !self.is_full() {
            let Some(name) = members.next_key::<String>()? else { return Ok(object.into()) };
            object.insert(name, members.next_value_seed(Counting(self.0))?);
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_are_as_they_are() {
        for text in
            ["null", "true", "-1", "18446744073709551615", "0.5", r#""a\n""#, "[]", r#"{"a":[1,{"b":null}],"c":{}}"#]
        {
            let small: Small = serde_json::from_str(text).unwrap();
            assert_eq!(small.0, Some(serde_json::from_str(text).unwrap()), "{text}");
        }
        for text in ["", "[1", r#"{"a"}"#, "1e999", "[".repeat(200).as_str()] {
            assert!(serde_json::from_str::<Small>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn large_values_are_not_kept() {
        let many = |count: usize| vec!["1"; count].join(",");
        for (count, is_small) in [(VALUES_MAX - 1, true), (VALUES_MAX, false), (3 * VALUES_MAX, false)] {
            let members: Vec<String> = (0..count).map(|at| format!("\"{at}\":1")).collect();
            for text in [format!("[{}]", many(count)), format!("{{{}}}", members.join(","))] {
                let small: Small = serde_json::from_str(&text).unwrap();
                assert_eq!(small.0.is_some(), is_small, "{count}");
            }
        }
    }
}
