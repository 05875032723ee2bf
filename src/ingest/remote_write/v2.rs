//! Version 2.0: texts once a request, and of each series their places.

use super::metadata::{self, Said};
use super::reader::{Head, Reader, Stop};
use super::wire::{Broken, Message, Value, each_varint};
use super::{NAME, Names, broken_at};
use crate::flow::Refusal;
use crate::ingest::gather::{About, Gather};
use crate::model::{LABELS_MAX, Oversize, SERIES_BYTES_MAX};

/// Places of texts that are kept of a series: one label more than it may have, and the metric's name.
const REFS_MAX: usize = 2 * (LABELS_MAX + 2);

pub(super) fn read(body: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
    let mut request = Request::of(body);
    let mut fields = Message::new(body);
    loop {
        let at = body.len() - fields.left();
        match fields.next() {
            Ok(Some((5, Value::Bytes(series)))) => {
                reader.number += 1;
                request.one(series, reader, gather)?;
                reader.pause_if_due(gather)?;
            }
            Ok(Some((1..=3, _))) => {
                let told = "this is a request of version 1.0: send it with `Content-Type: application/x-protobuf`";
                gather.faults.add(reader.number, told);
                return Ok(());
            }
            Ok(Some(_)) => {}
            Ok(None) => {
                if !body.is_empty() && request.symbols.is_empty() {
                    gather.faults.add(0, "no symbols in it: send the protobuf message io.prometheus.write.v2.Request");
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

/// What series of a request share, and room for the one under way.
struct Request<'b> {
    /// `None` for what is no UTF-8 text.
    symbols: Vec<Option<&'b str>>,
    /// What was said last of the metric whose name is at a place.
    said: Vec<Option<Said>>,
    /// Place of the text `__name__`.
    name: Option<u32>,
    refs: Vec<u32>,
    key: Vec<u8>,
}

impl<'b> Request<'b> {
    /// Texts may come after series that use them.
    fn of(body: &'b [u8]) -> Self {
        let (mut fields, mut symbols) = (Message::new(body), Vec::new());
        while let Ok(Some((number, value))) = fields.next() {
            if let (4, Value::Bytes(text)) = (number, value) {
                symbols.push(str::from_utf8(text).ok());
            }
        }
        let said = vec![None; symbols.len()];
        let name = symbols.iter().position(|symbol| *symbol == Some(NAME)).map(|place| place as u32);
        Request { symbols, said, name, refs: Vec::new(), key: Vec::new() }
    }

    /// Reads a time series.
    fn one(&mut self, series: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        self.refs.clear();
        self.key.clear();
        let read = match self.head(series) {
            Ok(head) => fields(&head, series, reader, gather),
            Err(stop) => Err(stop),
        };
        match read {
            Ok(said) => self.describe(said, reader, gather),
            Err(Stop::Fault(reason)) => {
                let head = TextLabels { request: self, series };
                reader.fault(&reason, &head, gather);
            }
            Err(Stop::Refused(refusal)) => return Err(refusal),
        }
        Ok(())
    }

    /// Finds the texts that name a series.
    fn head<'r>(&'r mut self, series: &'r [u8]) -> Result<TextLabels<'r>, Stop> {
        let mut fields = Message::new(series);
        while let Some((number, value)) = fields.next()? {
            if number != 1 {
                // Places come first, as every writer of protobuf has it.
                break;
            }
            let refs = &mut self.refs;
            each_varint(value, |place| {
                if refs.len() < REFS_MAX {
                    refs.push(u32::try_from(place).unwrap_or(u32::MAX));
                }
            })?;
        }
        if self.refs.len() % 2 == 1 {
            return Err(Stop::Fault("a label without a value: send an even number of `labels_refs`".to_owned()));
        }
        self.make_key()?;
        Ok(TextLabels { request: self, series })
    }

    /// The texts of a series, one after the other: each may be as long as the request, and be named again and again.
    fn make_key(&mut self) -> Result<(), String> {
        // No key of version 1.0 begins so.
        self.key.push(END);
        const MOST: usize = SERIES_BYTES_MAX + NAME.len();
        let mut left = MOST;
        for &place in &self.refs {
            let text = symbol(&self.symbols, place)?;
            let oversize = || Oversize { labels: self.refs.len() / 2 - 1, bytes: MOST - left + text.len() };
            left = left.checked_sub(text.len()).ok_or_else(|| oversize().to_string())?;
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(END);
        }
        Ok(())
    }

    /// Takes what a series says of its metric, where nobody did within the hour.
    fn describe(&mut self, said: Said, reader: &mut Reader<'_>, gather: &Gather<'_>) {
        if said.is_nothing() {
            return;
        }
        let (pairs, _) = self.refs.as_chunks::<2>();
        let Some(place) = pairs.iter().find(|pair| Some(pair[0]) == self.name).map(|pair| pair[1] as usize) else {
            return;
        };
        let Some(last) = self.said.get_mut(place) else { return };
        if *last == Some(said) {
            return;
        }
        *last = Some(said);
        let text = |place| symbol(&self.symbols, place).unwrap_or_default();
        let (metric, unit, help) = (text(place as u32), text(said.unit_ref), text(said.help_ref));
        metadata::said_key(&mut self.key, metric, said.family, unit, help);
        if !reader.is_met(&self.key) {
            metadata::describe_part(gather.intake(), metric, said.family, unit, help);
        }
    }
}

/// Between texts of a key; in no UTF-8 text.
const END: u8 = 0xFF;

fn symbol<'b>(symbols: &[Option<&'b str>], place: u32) -> Result<&'b str, String> {
    match symbols.get(place as usize) {
        Some(Some(text)) => Ok(text),
        Some(None) => Err(format!("the symbol {place} is not UTF-8 text")),
        None => Err(format!("there is no symbol {place}: there are {}", symbols.len())),
    }
}

/// Takes what is in a time series; what it says of its metric.
fn fields(head: &TextLabels<'_>, bytes: &[u8], reader: &mut Reader<'_>, gather: &mut Gather<'_>) -> Result<Said, Stop> {
    let (mut fields, mut series, mut said) = (Message::new(bytes), None, Said::default());
    let mut is_named = false;
    while let Some(field) = fields.next()? {
        is_named |= field.0 != 1;
        match field {
            (1, _) if is_named => {
                return Err(Stop::Fault("`labels_refs` after other fields: send them first".to_owned()));
            }
            (2, Value::Bytes(sample)) => {
                if series.is_none() {
                    series = reader.series(head, gather)?;
                }
                let Some(series) = series else { return Ok(Said::default()) };
                reader.sample(series, sample, head, gather)?;
            }
            (3, Value::Bytes(histogram)) => reader.histogram(histogram, head, gather)?,
            (4, _) => reader.written.exemplars += 1,
            (5, Value::Bytes(metadata)) => said = Said::decode(metadata)?,
            _ => {}
        }
    }
    Ok(said)
}

/// The labels of the series under way.
struct TextLabels<'r> {
    request: &'r Request<'r>,
    series: &'r [u8],
}

impl Head for TextLabels<'_> {
    fn key(&self) -> &[u8] {
        &self.request.key
    }

    fn names(&self) -> Result<Names<'_>, String> {
        let text = |place| symbol(&self.request.symbols, place);
        let (pairs, _) = self.request.refs.as_chunks::<2>();
        Names::of(pairs.iter().map(|&[name, value]| Ok((text(name)?, text(value)?))).collect::<Result<_, String>>()?)
    }

    fn about(&self, names: &Names<'_>) -> About<'_> {
        let Some(said) = Said::of_series(self.series) else { return About::default() };
        let text = |place| symbol(&self.request.symbols, place).unwrap_or_default();
        metadata::about_part(names.metric, &names.labels, said.family, text(said.unit_ref), text(said.help_ref))
    }
}
