//! Version 1.0: each series with all its labels.

use super::metadata::Family;
use super::reader::{Head, Reader, Stop};
use super::wire::{Broken, Message, Value, bytes};
use super::{Names, broken_at};
use crate::flow::Refusal;
use crate::ingest::gather::{About, Gather};
use crate::model::LABELS_MAX;

/// Key of a field `labels`: number 1, bytes.
const LABEL: u8 = 0x0A;

pub(super) fn read(body: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
    let (mut request, mut is_one) = (Message::new(body), body.is_empty());
    loop {
        let at = body.len() - request.left();
        match request.next() {
            Ok(Some((1, Value::Bytes(series)))) => {
                reader.number += 1;
                one(series, reader, gather)?;
                reader.pause_if_due(gather)?;
                is_one = true;
            }
            Ok(Some((3, Value::Bytes(metadata)))) => {
                match Family::decode(metadata) {
                    Ok(family) => family.describe(gather.intake()),
                    Err(Broken) => gather.faults.add(reader.number, broken_at(at, body)),
                }
                is_one = true;
            }
            Ok(Some((4 | 5, _))) => {
                let told = "this is a request of version 2.0: send it with `Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request`";
                gather.faults.add(reader.number, told);
                return Ok(());
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                if !is_one {
                    gather.faults.add(0, "no time series in it: send the protobuf message prometheus.WriteRequest");
                }
                return Ok(());
            }
            Err(Broken) => {
                gather.faults.add(reader.number, broken_at(at, body));
                return Ok(());
            }
        }
    }
}

/// Reads a time series.
fn one(series: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
    let (head, rest) = series.split_at(labels_length(series));
    let head = RawLabels(head);
    match fields(&head, rest, reader, gather) {
        Ok(()) => Ok(()),
        Err(Stop::Fault(reason)) => {
            reader.fault(&reason, &head, gather);
            Ok(())
        }
        Err(Stop::Refused(refusal)) => Err(refusal),
    }
}

fn fields(head: &RawLabels<'_>, rest: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<(), Stop> {
    let (mut fields, mut series) = (Message::new(rest), None);
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Bytes(sample)) => {
                if series.is_none() {
                    series = reader.series(head, gather)?;
                }
                let Some(series) = series else { return Ok(()) };
                reader.sample(series, sample, head, gather)?;
            }
            (3, _) => reader.written.exemplars += 1,
            (4, Value::Bytes(histogram)) => reader.histogram(histogram, head, gather)?,
            (1, _) => return Err(Stop::Fault("a label after its samples: send labels first".to_owned())),
            _ => {}
        }
    }
    Ok(())
}

/// Length of the labels at the front; where they break off that is left to the fields that follow.
#[inline]
fn labels_length(series: &[u8]) -> usize {
    let mut rest = series;
    while let [LABEL, label @ ..] = rest {
        let mut after = label;
        if bytes(&mut after).is_err() {
            break;
        }
        rest = after;
    }
    series.len() - rest.len()
}

/// The labels of a series as the request has them, one after the other.
struct RawLabels<'b>(&'b [u8]);

impl Head for RawLabels<'_> {
    fn key(&self) -> &[u8] {
        self.0
    }

    fn names(&self) -> Result<Names<'_>, String> {
        let (mut labels, mut pairs) = (Message::new(self.0), Vec::new());
        while let Ok(Some((_, Value::Bytes(label)))) = labels.next() {
            pairs.push(pair(label)?);
            if pairs.len() > LABELS_MAX + 1 {
                break;
            }
        }
        Names::of(pairs)
    }

    fn about(&self, _: &Names<'_>) -> About<'_> {
        About::default()
    }
}

fn pair(label: &[u8]) -> Result<(&str, &str), String> {
    let (mut fields, mut name, mut value) = (Message::new(label), &b""[..], &b""[..]);
    loop {
        match fields.next() {
            Ok(Some((1, Value::Bytes(text)))) => name = text,
            Ok(Some((2, Value::Bytes(text)))) => value = text,
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(Broken) => return Err("a label is cut or no protobuf message".to_owned()),
        }
    }
    let text = |bytes| str::from_utf8(bytes).map_err(|_| "a label is not UTF-8 text".to_owned());
    Ok((text(name)?, text(value)?))
}
