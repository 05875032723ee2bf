//! Attributes as labels: of the resource, of the scope, of the point; a later one wins over an earlier one.
//!
//! ```text
//! resource   service.namespace/service.name → job    service.instance.id → instance    others under their names
//! scope      name, version, attributes → otel_scope_name, otel_scope_version, otel_scope_…
//! point      attributes under their names
//! ```
//!
//! Names that become one label at the same level have their values joined by `;`, in the order of the names: so the
//! series does not depend on the order in which a client sends them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::json;

use super::name::label_name;

/// Labels of one level.
pub(super) type Level = BTreeMap<String, String>;

pub(super) fn of_resource(resource: &Resource) -> Level {
    let named = |name: &str| text_of_key(&resource.attributes, name).filter(|text| !text.is_empty());
    let job = named("service.name").map(|name| match named("service.namespace") {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    });
    let instance = named("service.instance.id");
    let is_said = |key: &str| match key {
        "service.name" | "service.namespace" => job.is_some(),
        "service.instance.id" => instance.is_some(),
        _ => false,
    };
    let mut labels = level("", resource.attributes.iter().filter(|attribute| !is_said(&attribute.key)));
    labels.extend(job.clone().map(|job| ("job".to_owned(), job)));
    labels.extend(instance.clone().map(|instance| ("instance".to_owned(), instance)));
    labels
}

pub(super) fn of_scope(scope: &InstrumentationScope) -> Level {
    let mut labels = level("otel_scope_", &scope.attributes);
    for (name, value) in [("otel_scope_name", &scope.name), ("otel_scope_version", &scope.version)] {
        if !value.is_empty() {
            labels.insert(name.to_owned(), value.clone());
        }
    }
    labels
}

pub(super) fn of_point(attributes: &[KeyValue]) -> Level {
    level("", attributes)
}

fn level<'a>(prefix: &str, attributes: impl IntoIterator<Item = &'a KeyValue>) -> Level {
    let mut attributes: Vec<&KeyValue> = attributes.into_iter().collect();
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    let mut labels = Level::new();
    for attribute in attributes {
        let text = text_of(attribute.value.as_ref());
        let label = format!("{prefix}{}", label_name(&attribute.key));
        match labels.get_mut(&label) {
            Some(former) => {
                former.push(';');
                former.push_str(&text);
            }
            None => {
                labels.insert(label, text.into_owned());
            }
        }
    }
    labels.remove("");
    labels
}

fn text_of_key(attributes: &[KeyValue], key: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text_of(attribute.value.as_ref()).into_owned())
}

/// A value as text: lists and maps as JSON, bytes as base64, none as nothing.
pub(super) fn text_of(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => Cow::Borrowed(text),
        Some(Value::BoolValue(value)) => value.to_string().into(),
        Some(Value::IntValue(value)) => value.to_string().into(),
        Some(Value::DoubleValue(value)) => value.to_string().into(),
        Some(Value::BytesValue(bytes)) => base64(bytes).into(),
        Some(value @ (Value::ArrayValue(_) | Value::KvlistValue(_))) => json_of(Some(value)).to_string().into(),
        Some(Value::StringValueStrindex(_)) | None => Cow::Borrowed(""),
    }
}

fn json_of(value: Option<&Value>) -> serde_json::Value {
    let of_any = |value: &AnyValue| json_of(value.value.as_ref());
    match value {
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(value)) => json!(value),
        Some(Value::IntValue(value)) => json!(value),
        Some(Value::DoubleValue(value)) if value.is_finite() => json!(value),
        Some(Value::DoubleValue(value)) => json!(value.to_string()),
        Some(Value::BytesValue(bytes)) => json!(base64(bytes)),
        Some(Value::ArrayValue(list)) => list.values.iter().map(of_any).collect(),
        Some(Value::KvlistValue(map)) => {
            let pair = |pair: &KeyValue| (pair.key.clone(), pair.value.as_ref().map_or(json!(null), of_any));
            serde_json::Value::Object(map.values.iter().map(pair).collect())
        }
        Some(Value::StringValueStrindex(_)) | None => json!(null),
    }
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let letter = |at: u32| char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
        (0..4).for_each(|at| text.push(if at as usize <= chunk.len() { letter(at) } else { '=' }));
    }
    text
}

/// Ends a text in a key; in no UTF-8 text.
pub(super) const END: u8 = 0xFF;
/// Ends a list of attributes in a key: stands where the next name would begin.
const LIST_END: u8 = 0xFE;

/// Appends attributes as bytes that differ where the attributes do. For lookups: their order counts.
pub(super) fn key_into(attributes: &[KeyValue], key: &mut Vec<u8>) {
    for attribute in attributes {
        key.extend_from_slice(attribute.key.as_bytes());
        key.push(END);
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            None => key.push(0),
            Some(Value::BoolValue(value)) => key.extend_from_slice(&[1, u8::from(*value)]),
            Some(Value::IntValue(value)) => {
                key.push(2);
                key.extend_from_slice(&value.to_le_bytes());
            }
            Some(Value::DoubleValue(value)) => {
                key.push(3);
                key.extend_from_slice(&value.to_le_bytes());
            }
            Some(Value::StringValue(text)) => {
                key.push(4);
                key.extend_from_slice(text.as_bytes());
                key.push(END);
            }
            Some(_) => {
                key.push(5);
                key.extend_from_slice(text_of(attribute.value.as_ref()).as_bytes());
                key.push(END);
            }
        }
    }
    key.push(LIST_END);
}

#[cfg(test)]
pub(super) mod testing {
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    use super::*;

    pub(crate) fn any(value: Value) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    pub(crate) fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue { key: key.to_owned(), value: Some(any(value)), ..KeyValue::default() }
    }

    pub(crate) fn text(key: &str, value: &str) -> KeyValue {
        pair(key, Value::StringValue(value.to_owned()))
    }

    pub(crate) fn list(values: Vec<Value>) -> Value {
        Value::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() })
    }

    pub(crate) fn map(values: Vec<KeyValue>) -> Value {
        Value::KvlistValue(KeyValueList { values })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{any, list, map, pair, text};
    use super::*;

    fn told(labels: &Level) -> Vec<(&str, &str)> {
        labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn every_kind_of_value_has_a_text() {
        let cases = [
            (Value::StringValue("a b".into()), "a b"),
            (Value::BoolValue(true), "true"),
            (Value::IntValue(-3), "-3"),
            (Value::DoubleValue(1.5), "1.5"),
            (Value::DoubleValue(2.0), "2"),
            (Value::BytesValue(b"light w".to_vec()), "bGlnaHQgdw=="),
            (
                list(vec![Value::StringValue("x".into()), Value::IntValue(1), Value::BoolValue(false)]),
                r#"["x",1,false]"#,
            ),
            (map(vec![text("k", "v"), pair("n", list(vec![Value::DoubleValue(0.5)]))]), r#"{"k":"v","n":[0.5]}"#),
        ];
        for (value, wanted) in cases {
            assert_eq!(text_of(Some(&any(value))), wanted);
        }
        assert_eq!(text_of(None), "");
        assert_eq!(text_of(Some(&AnyValue::default())), "");
    }

    #[test]
    fn a_service_is_a_job_and_an_instance() {
        let resource = |attributes| Resource { attributes, ..Resource::default() };
        let all = [
            text("service.name", "shop"),
            text("service.namespace", "eu"),
            text("service.instance.id", "i-1"),
            text("host.name", "h"),
            text("job", "hidden"),
        ];
        assert_eq!(
            told(&of_resource(&resource(all.to_vec()))),
            [("host_name", "h"), ("instance", "i-1"), ("job", "eu/shop")]
        );
        let nameless = resource(vec![text("service.namespace", "eu"), text("service.name", "")]);
        assert_eq!(told(&of_resource(&nameless)), [("service_name", ""), ("service_namespace", "eu")]);
        assert_eq!(told(&of_resource(&resource(vec![text("service.name", "shop")]))), [("job", "shop")]);
    }

    #[test]
    fn a_scope_says_its_name_version_and_attributes() {
        let scope = InstrumentationScope {
            name: "lib".into(),
            version: "2".into(),
            attributes: vec![text("short.name", "l"), text("name", "other")],
            ..InstrumentationScope::default()
        };
        let wanted = [("otel_scope_name", "lib"), ("otel_scope_short_name", "l"), ("otel_scope_version", "2")];
        assert_eq!(told(&of_scope(&scope)), wanted);
        assert!(of_scope(&InstrumentationScope::default()).is_empty());
    }

    #[test]
    fn names_that_become_one_label_join_their_values_in_any_order() {
        let both = [text("a.b", "1"), text("a_b", "2"), text("", "lost")];
        let mut turned = both.clone();
        turned.reverse();
        assert_eq!(told(&of_point(&both)), [("a_b", "1;2")]);
        assert_eq!(of_point(&both), of_point(&turned));
    }

    #[test]
    fn keys_tell_attributes_apart() {
        let lists: [Vec<KeyValue>; 8] = [
            vec![],
            vec![text("a", "b")],
            vec![text("ab", "")],
            vec![text("a", ""), text("b", "")],
            vec![pair("a", Value::IntValue(1))],
            vec![pair("a", Value::BoolValue(true))],
            vec![pair("a", Value::DoubleValue(1.0))],
            vec![text("a", "1")],
        ];
        let keys: std::collections::BTreeSet<Vec<u8>> = lists
            .iter()
            .map(|list| {
                let mut key = Vec::new();
                key_into(list, &mut key);
                key
            })
            .collect();
        assert_eq!(keys.len(), lists.len());
    }
}
