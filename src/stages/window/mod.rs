//! `window`: aggregates of each series over windows of time.
//!
//! Windows of fixed length that follow each other, and longer ones made of these (`rollups`), windows that overlap
//! (`sliding`), and windows that end where a series is silent for long (`sessions`). Every row says what the samples of its
//! window say: one that comes late makes its windows dirty, and those are computed anew from what is stored.

mod aggregate;
mod session;
mod sliding;
mod tumbling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use self::session::Sessions;
use self::sliding::Sliding;
use self::tumbling::Tumbling;
use crate::flow::codec::{Reader, Writer};
use crate::flow::{Dropped, History, Stage, Watermark};
use crate::model::Timestamp;

/// Samples read again for windows put off, at a time.
const REDO_SAMPLES: usize = 2_000_000;
/// Windows that overlap at one time.
const OVERLAP_MAX: i64 = 10_000;

/// `apply.window`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowSpec {
    /// Length of a window, and where `length` is given, how far the next one's start is; windows are counted from 1970.
    pub every: Option<Length>,
    /// Lengths of further windows, each made of those before it: as in `every = "10s", tiers = ["1m", "1h", "1d"]`.
    pub tiers: Vec<Length>,
    /// Length of windows that overlap, several times `every`.
    pub length: Option<Length>,
    /// Silence that ends a window; instead of `every`.
    pub session: Option<Length>,
}

/// A length of time, as in "1h".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Length(#[serde(with = "humantime_serde")] pub Duration);

impl Length {
    pub fn nanos(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }

    fn is_possible(self) -> bool {
        self.0 >= Duration::from_millis(1) && self.0 <= Duration::from_secs(366 * 86_400)
    }
}

impl WindowSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let lengths = [("every", self.every), ("length", self.length), ("session", self.session)];
        let tiers = self.tiers.iter().map(|&tier| ("tiers", Some(tier)));
        for (key, length) in lengths.into_iter().chain(tiers) {
            if let Some(length) = length.filter(|length| !length.is_possible()) {
                return Some(format!("{key} = {:?} cannot be: write 1ms to 366d, as in \"1h\"", length.0));
            }
        }
        let (every, length) = match (self.every, self.session) {
            (None, None) => return Some("it has no length: write every = \"1h\", or session = \"5m\"".into()),
            (Some(_), Some(_)) => return Some("every and session cannot both be: leave one out".into()),
            (None, Some(_)) if self.length.is_some() || !self.tiers.is_empty() => {
                return Some("session goes with neither length nor tiers: leave them out".into());
            }
            (None, Some(_)) => return None,
            (Some(every), None) => (every.nanos(), self.length.map(Length::nanos)),
        };
        if let Some(length) = length {
            let times = length / every;
            let fits = length % every == 0 && (2..=OVERLAP_MAX).contains(&times) && self.tiers.is_empty();
            return (!fits).then(|| {
                "length must be 2 to 10000 times every, without tiers, as in every = \"1m\", length = \"5m\"".into()
            });
        }
        let steps = std::iter::once(every).chain(self.tiers.iter().map(|tier| tier.nanos()));
        let steps: Vec<i64> = steps.collect();
        let fits = steps.windows(2).all(|pair| pair[1] > pair[0] && pair[1] % pair[0] == 0);
        (!fits).then(|| {
            "each tier must be several times the one before, as in every = \"10s\", tiers = [\"1m\", \"1h\", \"1d\"]"
                .into()
        })
    }

    pub(super) fn stage(&self, history: Option<Arc<dyn History>>) -> Box<dyn Stage> {
        let every = self.every.map_or(1, Length::nanos);
        if let Some(gap) = self.session {
            return Box::new(Sessions::new(gap.nanos(), history));
        }
        if let Some(length) = self.length {
            return Box::new(Sliding::new(every, length.nanos(), history));
        }
        let tiers = std::iter::once(every).chain(self.tiers.iter().map(|tier| tier.nanos()));
        Box::new(Tumbling::new(tiers.collect(), history))
    }
}

/// Windows that stay as they were, for want of anybody who could tell their samples again.
fn lost(windows: u64) -> Dropped {
    (windows > 0).then_some(("late: its windows cannot be read again", windows)).into_iter().collect()
}

/// Sources that series come from, by number, and how far each is.
#[derive(Default)]
struct Origins {
    numbers: BTreeMap<Arc<str>, u16>,
    /// Watermarks up to which windows of series that stand still were closed.
    swept: Vec<i64>,
    last: Option<(Arc<str>, u16)>,
}

impl Origins {
    fn number(&mut self, source: &Arc<str>) -> u16 {
        if let Some((last, number)) = &self.last
            && Arc::ptr_eq(last, source)
        {
            return *number;
        }
        let next = self.swept.len().min(usize::from(u16::MAX)) as u16;
        let number = *self.numbers.entry(source.clone()).or_insert(next);
        if usize::from(number) == self.swept.len() {
            self.swept.push(i64::MIN);
        }
        self.last = Some((source.clone(), number));
        number
    }

    /// The source's number and how far it is, where that is past the next multiple of `every`.
    fn reached(&mut self, watermark: &Watermark, every: i64) -> Option<(u16, i64)> {
        let number = self.number(&watermark.source);
        let time = watermark.time.nanos();
        let reached = if watermark.time == Timestamp::MAX { time } else { aggregate::floor(time, every) };
        let swept = self.swept.get_mut(usize::from(number))?;
        let is_new = reached > *swept || watermark.time == Timestamp::MAX;
        *swept = reached;
        is_new.then_some((number, reached))
    }

    /// How far a source is.
    fn swept_of(&self, number: u16) -> i64 {
        self.swept.get(usize::from(number)).copied().unwrap_or(i64::MIN)
    }

    fn write(&self, out: &mut Writer) {
        out.u32(self.numbers.len() as u32);
        for (name, &number) in &self.numbers {
            out.bytes(name.as_bytes());
            out.u32(u32::from(number));
            out.i64(self.swept.get(usize::from(number)).copied().unwrap_or(i64::MIN));
        }
    }

    /// Takes up what another shard wrote, too; gives its numbers here by those there.
    fn read(&mut self, from: &mut Reader<'_>) -> Option<BTreeMap<u32, u16>> {
        let mut numbers = BTreeMap::new();
        for _ in 0..from.u32()? {
            let name: Arc<str> = std::str::from_utf8(from.bytes()?).ok()?.into();
            let (there, swept) = (from.u32()?, from.i64()?);
            let here = self.number(&name);
            if let Some(known) = self.swept.get_mut(usize::from(here)) {
                *known = swept.max(*known);
            }
            numbers.insert(there, here);
        }
        Some(numbers)
    }
}

#[cfg(test)]
mod tests;
