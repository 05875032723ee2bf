//! What both versions share: series by what names them, samples, the pause in which what is gathered is handed on.

use std::sync::RwLockReadGuard;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::native::Native;
use super::wire::{Broken, Message, STALE};
use super::{Names, Written};
use crate::flow::Refusal;
use crate::ingest::gather::{About, Gather};
use crate::ingest::known::{Generations, Known, NewField};
use crate::model::{SeriesId, Timestamp};

/// Series read before others may add theirs: some ten microseconds.
const STRETCH: u64 = 256;

/// Bytes of a series' name and labels that a fault shows.
const TOLD_BYTES: usize = 200;

/// Why a series was not read to its end.
pub(super) enum Stop {
    Fault(String),
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<Broken> for Stop {
    fn from(_: Broken) -> Self {
        Stop::Fault("its bytes are cut or no protobuf message".to_owned())
    }
}

impl From<String> for Stop {
    fn from(reason: String) -> Self {
        Stop::Fault(reason)
    }
}

/// What names a series in a request.
pub(super) trait Head {
    /// The same for the same series, and for no other.
    fn key(&self) -> &[u8];

    fn names(&self) -> Result<Names<'_>, String>;

    /// What the request says of its metric, where it says it of each series.
    fn about(&self, names: &Names<'_>) -> About<'_>;
}

/// As faults name it: its beginning.
fn told(head: &impl Head) -> String {
    let Ok(names) = head.names() else { return "of unreadable labels".to_owned() };
    let mut told = names.def(About::default()).to_string();
    if told.len() > TOLD_BYTES {
        told.truncate(told.floor_char_boundary(TOLD_BYTES));
        told.push('…');
    }
    told
}

/// On its way through a request.
pub(super) struct Reader<'k> {
    known: &'k Known,
    shared: Option<RwLockReadGuard<'k, Generations>>,
    /// What is not shared yet.
    new: HashMap<Box<[u8]>, NewField, FixedState>,
    /// Of the time series under way, from 1.
    pub number: u64,
    pub written: Written,
}

impl<'k> Reader<'k> {
    pub fn new(known: &'k Known) -> Self {
        Reader { known, shared: None, new: HashMap::default(), number: 0, written: Written::default() }
    }

    fn find(&mut self, key: &[u8]) -> Option<SeriesId> {
        if !self.new.is_empty()
            && let Some(field) = self.new.get(key)
        {
            return Some(field.series);
        }
        let found = self.shared.get_or_insert_with(|| self.known.read()).get(key)?;
        let (_, series) = found.field(0)?;
        if found.is_old {
            self.remember(key, series);
        }
        Some(series)
    }

    fn remember(&mut self, key: &[u8], series: SeriesId) {
        self.new.insert(key.into(), NewField { name: [].into(), series });
    }

    /// Whether a key without a series was met within the hour; from now on it was.
    pub fn is_met(&mut self, key: &[u8]) -> bool {
        let is_met = self.find(key).is_some();
        if !is_met {
            self.remember(key, SeriesId(0));
        }
        is_met
    }

    /// The series of a head; `None` where it is new and over a budget, which is then a fault.
    pub fn series(&mut self, head: &impl Head, gather: &mut Gather<'_>) -> Result<Option<SeriesId>, Stop> {
        if let Some(series) = self.find(head.key()) {
            return Ok(Some(series));
        }
        let names = head.names()?;
        let def = names.def(head.about(&names));
        match gather.intake().intern(&def) {
            Ok(series) => {
                self.remember(head.key(), series);
                Ok(Some(series))
            }
            Err(Refusal::Budget(budget)) => {
                gather.faults.add(self.number, format_args!("the series {def} is new: {budget}"));
                Ok(None)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Takes a sample, or counts it as a fault.
    #[inline]
    pub fn sample(
        &mut self,
        series: SeriesId,
        sample: &[u8],
        head: &impl Head,
        gather: &mut Gather<'_>,
    ) -> Result<(), Stop> {
        let (value, ms) = decoded(sample)?;
        let Some(time) = self.time(ms, head, gather) else { return Ok(()) };
        if value.is_finite() {
            gather.hold(series, time, value);
            self.written.samples += 1;
        } else if value.to_bits() == STALE {
            gather.hold_end(series, time);
            self.written.samples += 1;
        } else {
            self.written.nonfinite += 1;
        }
        if gather.is_full() { self.hand_on(gather).map_err(Stop::from) } else { Ok(()) }
    }

    /// The time of milliseconds; `None` where it is not taken, which is then a fault.
    #[inline]
    fn time(&self, ms: i64, head: &impl Head, gather: &mut Gather<'_>) -> Option<Timestamp> {
        let metric = || head.names().map_or_else(|_| "".into(), |names| names.metric.to_owned().into());
        let refused = match ms.checked_mul(1_000_000).map(Timestamp::from_nanos) {
            Some(time) => {
                let Some(reason) = gather.bounds().refuse(time, 0.0).or_else(|| gather.outlived(time, metric)) else {
                    return Some(time);
                };
                reason
            }
            None => format!("time {ms} ms does not fit: times are milliseconds since 1970"),
        };
        self.fault(&refused, head, gather);
        None
    }

    /// Takes a native histogram, or counts it as a fault.
    pub fn histogram(&mut self, bytes: &[u8], head: &impl Head, gather: &mut Gather<'_>) -> Result<(), Stop> {
        let native = Native::decode(bytes)?;
        let Some(time) = self.time(native.ms, head, gather) else { return Ok(()) };
        let (names, faults) = (head.names()?, gather.faults.count);
        if native.is_stale() {
            Native::end(&names, time, gather)?;
        } else {
            let about = head.about(&names);
            native.distribution()?.gather(
                self.number,
                names.metric,
                &names.labels,
                native.about(about),
                time,
                gather,
            )?;
        }
        self.written.histograms += u64::from(gather.faults.count == faults);
        Ok(())
    }

    /// Counts something as a fault of the series under way.
    pub fn fault(&self, reason: &str, head: &impl Head, gather: &mut Gather<'_>) {
        let (number, head) = (self.number, std::fmt::from_fn(|f| f.write_str(&told(head))));
        gather.faults.add(number, format_args!("time series {number}, {head}: {reason}"));
    }

    /// After each series: lets others know the new ones, and hands on what is gathered, where it is time.
    pub fn pause_if_due(&mut self, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        if self.number.is_multiple_of(STRETCH) || gather.is_full() { self.hand_on(gather) } else { Ok(()) }
    }

    /// Handing on may take long, so nothing is held meanwhile.
    fn hand_on(&mut self, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        self.share();
        gather.flush_if_full()
    }

    /// Lets others know the new series.
    pub fn share(&mut self) {
        self.shared = None;
        if !self.new.is_empty() {
            self.known.insert(self.new.iter().map(|(key, field)| (&**key, std::slice::from_ref(field))));
            self.new.clear();
        }
    }
}

/// Value and milliseconds of a sample, `1 double, 2 int64`. What is zero may be left out.
#[inline]
fn decoded(sample: &[u8]) -> Result<(f64, i64), Broken> {
    // As nearly all are written.
    if let [0x09, value @ .., 0x10, a, b, c, d, e, f] = sample
        && let Ok(value) = <[u8; 8]>::try_from(value)
        && (a & b & c & d & e) >= 0x80
        && *f < 0x80
    {
        let ms = [a, b, c, d, e, f].into_iter().rev().fold(0, |ms, &byte| ms << 7 | i64::from(byte & 0x7F));
        return Ok((f64::from_le_bytes(value), ms));
    }
    let (mut value, mut ms, mut fields) = (0.0, 0, Message::new(sample));
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, field) => value = field.double().ok_or(Broken)?,
            (2, super::wire::Value::Varint(told)) => ms = told as i64,
            _ => {}
        }
    }
    Ok((value, ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_in_whatever_length_they_come() {
        use prost::encoding::{double, int64};
        for ms in [0, 1, 1 << 34, (1 << 35) - 1, 1 << 35, 1_790_000_000_000, (1 << 42) - 1, 1 << 42, i64::MAX, -1] {
            for value in [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY] {
                let mut bytes = Vec::new();
                double::encode(1, &value, &mut bytes);
                int64::encode(2, &ms, &mut bytes);
                let (found, time) = decoded(&bytes).unwrap();
                assert_eq!((found.to_bits(), time), (value.to_bits(), ms));
                let mut turned = Vec::new();
                int64::encode(2, &ms, &mut turned);
                double::encode(1, &value, &mut turned);
                let (found, time) = decoded(&turned).unwrap();
                assert_eq!((found.to_bits(), time), (value.to_bits(), ms));
            }
        }
        assert_eq!(decoded(&[]), Ok((0.0, 0)));
        assert_eq!(decoded(&[0x09, 1, 2]), Err(Broken));
        assert_eq!(decoded(&[0x08, 1]), Err(Broken), "a value that is no double");
    }
}
