//! What a request takes in memory, told before it is read: a message of two bytes is a hundred when it is decoded.
//!
//! ```text
//! bytes → the messages in it, by number of field and length → their sizes, added up → at most 16 times the bytes
//! ```
//!
//! Texts and numbers are left out: what they take goes by what they have. A request as clients make it takes some ten
//! times its bytes.

use opentelemetry_proto::tonic::common::v1::{AnyValue, EntityRef, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::ingest::remote_write::wire::{Broken, Message, Value};

/// Bytes of memory for each of a body.
const EACH: usize = 16;
/// A body counts as so long at least.
const SMALL: usize = 64 << 10;
/// An object of JSON: about half of them are values in others.
const OBJECT: usize = 160;
/// Messages in messages that are decoded.
const DEPTH_MAX: usize = 100;

/// A kind of message.
struct Shape {
    bytes: usize,
    /// Which of its fields are messages.
    parts: &'static [(u64, &'static Shape)],
}

static REQUEST: Shape = Shape { bytes: 0, parts: &[(1, &RESOURCE_METRICS)] };
static RESOURCE_METRICS: Shape =
    Shape { bytes: size_of::<ResourceMetrics>(), parts: &[(1, &RESOURCE), (2, &SCOPE_METRICS)] };
static RESOURCE: Shape = Shape { bytes: size_of::<Resource>(), parts: &[(1, &ATTRIBUTE), (3, &ENTITY)] };
static ENTITY: Shape = Shape { bytes: size_of::<EntityRef>(), parts: &[] };
static SCOPE_METRICS: Shape = Shape { bytes: size_of::<ScopeMetrics>(), parts: &[(1, &SCOPE), (2, &METRIC)] };
static SCOPE: Shape = Shape { bytes: size_of::<InstrumentationScope>(), parts: &[(3, &ATTRIBUTE)] };
static METRIC: Shape = Shape {
    bytes: size_of::<Metric>(),
    parts: &[(5, &NUMBERS), (7, &NUMBERS), (9, &HISTOGRAMS), (10, &EXPONENTIALS), (11, &SUMMARIES), (12, &ATTRIBUTE)],
};
static NUMBERS: Shape = Shape { bytes: size_of::<Data>(), parts: &[(1, &NUMBER)] };
static HISTOGRAMS: Shape = Shape { bytes: size_of::<Data>(), parts: &[(1, &HISTOGRAM)] };
static EXPONENTIALS: Shape = Shape { bytes: size_of::<Data>(), parts: &[(1, &EXPONENTIAL)] };
static SUMMARIES: Shape = Shape { bytes: size_of::<Data>(), parts: &[(1, &SUMMARY)] };
static NUMBER: Shape = Shape { bytes: size_of::<NumberDataPoint>(), parts: &[(5, &EXEMPLAR), (7, &ATTRIBUTE)] };
static HISTOGRAM: Shape = Shape { bytes: size_of::<HistogramDataPoint>(), parts: &[(8, &EXEMPLAR), (9, &ATTRIBUTE)] };
static EXPONENTIAL: Shape = Shape {
    bytes: size_of::<ExponentialHistogramDataPoint>(),
    parts: &[(1, &ATTRIBUTE), (8, &BUCKETS), (9, &BUCKETS), (11, &EXEMPLAR)],
};
static BUCKETS: Shape = Shape { bytes: size_of::<Buckets>(), parts: &[] };
static SUMMARY: Shape = Shape { bytes: size_of::<SummaryDataPoint>(), parts: &[(6, &QUANTILE), (7, &ATTRIBUTE)] };
static QUANTILE: Shape = Shape { bytes: size_of::<ValueAtQuantile>(), parts: &[] };
static EXEMPLAR: Shape = Shape { bytes: size_of::<Exemplar>(), parts: &[(7, &ATTRIBUTE)] };
/// Its value lies in it.
static ATTRIBUTE: Shape = Shape { bytes: size_of::<KeyValue>(), parts: &[(2, &INNER_VALUE)] };
static INNER_VALUE: Shape = Shape { bytes: 0, parts: &[(5, &LIST), (6, &MAP)] };
static VALUE: Shape = Shape { bytes: size_of::<AnyValue>(), parts: &[(5, &LIST), (6, &MAP)] };
static LIST: Shape = Shape { bytes: 0, parts: &[(1, &VALUE)] };
static MAP: Shape = Shape { bytes: 0, parts: &[(1, &ATTRIBUTE)] };

/// Why a body is not decoded.
enum Bad {
    Broken,
    Heavy,
}

impl From<Broken> for Bad {
    fn from(_: Broken) -> Self {
        Bad::Broken
    }
}

/// # Errors
/// A sentence, where the request takes too much, or is none.
pub(super) fn check_protobuf(body: &[u8]) -> Result<(), String> {
    let mut left = room(body);
    weigh(body, &REQUEST, 0, &mut left).map_err(|bad| match bad {
        Bad::Broken => "its bytes are cut off or no protobuf message".to_owned(),
        Bad::Heavy => heavy(body),
    })
}

/// The same of JSON.
pub(super) fn check_json(body: &[u8]) -> Result<(), String> {
    let objects = memchr::memchr_iter(b'{', body).count();
    if objects.saturating_mul(OBJECT) > room(body) { Err(heavy(body)) } else { Ok(()) }
}

fn room(body: &[u8]) -> usize {
    body.len().max(SMALL).saturating_mul(EACH)
}

fn heavy(body: &[u8]) -> String {
    format!(
        "decoded, its {} bytes take over {EACH} times as many: send fewer empty points, attributes and exemplars",
        body.len()
    )
}

/// Takes the messages in `bytes` off what is left.
fn weigh(bytes: &[u8], shape: &Shape, depth: usize, left: &mut usize) -> Result<(), Bad> {
    if depth > DEPTH_MAX {
        return Err(Bad::Broken);
    }
    let mut fields = Message::new(bytes);
    while let Some((number, value)) = fields.next()? {
        let part = shape.parts.iter().find(|(of, _)| *of == number);
        if let (Value::Bytes(bytes), Some((_, shape))) = (value, part) {
            *left = left.checked_sub(shape.bytes).ok_or(Bad::Heavy)?;
            weigh(bytes, shape, depth + 1, left)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `count` empty messages as field 1 of the innermost of `fields`, each a message in the one before.
    fn nested(fields: &[u8], count: usize) -> Vec<u8> {
        let mut body = [fields[fields.len() - 1] << 3 | 2, 0].repeat(count);
        for field in fields[..fields.len() - 1].iter().rev() {
            let mut outer = vec![field << 3 | 2];
            prost::encoding::encode_varint(body.len() as u64, &mut outer);
            outer.extend(body);
            body = outer;
        }
        body
    }

    #[test]
    fn empty_messages_are_few_or_refused() {
        let places: [&[u8]; 10] = [
            &[1],
            &[1, 2],
            &[1, 2, 2],
            &[1, 1, 1],
            &[1, 1, 3],
            &[1, 2, 1, 3],
            &[1, 2, 2, 5, 1],
            &[1, 2, 2, 7, 1, 5],
            &[1, 2, 2, 9, 1, 8],
            &[1, 2, 2, 10, 1, 11],
        ];
        // Quantiles and values in lists are 16 and 32 bytes.
        let small: [&[u8]; 2] = [&[1, 2, 2, 11, 1, 6], &[1, 1, 1, 2, 5, 1]];
        for place in places {
            assert_eq!(check_protobuf(&nested(place, 1000)), Ok(()), "{place:?}");
            let told = check_protobuf(&nested(place, 1 << 20)).unwrap_err();
            assert!(told.contains("over 16 times as many"), "{place:?} {told}");
        }
        for place in small {
            assert_eq!(check_protobuf(&nested(place, 1 << 20)), Ok(()), "{place:?}");
        }
        let point =
            br#"{"timeUnixNano":"1700000000000000000","asInt":"1","attributes":[{"key":"a","value":{"intValue":1}}]},"#;
        assert_eq!(check_json(&point.repeat(20_000)), Ok(()));
        assert!(check_json(&b"{},".repeat(1 << 20)).is_err());
    }

    #[test]
    fn what_is_no_message_is_told() {
        let deep = nested(&[&[1, 1, 1, 2][..], &[5, 1].repeat(60), &[5]].concat(), 1);
        for body in [&b"not a request"[..], &[0x0A, 5, 1], &[0x0B, 0x0C], &deep] {
            assert!(check_protobuf(body).is_err_and(|told| told.contains("no protobuf")), "{body:?}");
        }
    }
}
