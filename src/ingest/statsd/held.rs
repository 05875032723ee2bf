//! One series between flushes: what is held of it, by its type, and how that is told.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::line::{Metric, Type, number};
use super::spread::{Spread, Told};
use crate::flow::Refusal;
use crate::ingest::format::Shown;
use crate::ingest::{About, Gather};
use crate::model::{Kind, Timestamp};
use crate::stats::Distinct;

/// Members of a set that are counted exactly.
const MEMBERS_MAX: usize = 4096;

/// Sorted by name, each once.
pub(super) type Labels = Box<[(Box<str>, Box<str>)]>;

/// A series that something came to.
pub(super) struct Held {
    pub metric: Box<str>,
    pub labels: Labels,
    pub state: State,
    pub of: Type,
    /// Came since the last flush, and not before.
    pub is_new: bool,
    /// When something came last, on the clock that never goes back.
    pub last: Duration,
}

/// By what is told of it.
pub(super) enum State {
    /// Since it was first seen.
    Counter(f64),
    Gauge(f64),
    Set(Members),
    Spread(Box<Spread>),
}

#[derive(Default)]
pub(super) struct Members {
    exact: HashSet<u64, FixedState>,
    many: Distinct,
}

impl State {
    pub fn new(of: Type) -> State {
        match of {
            Type::Counter => State::Counter(0.0),
            Type::Gauge => State::Gauge(0.0),
            Type::Set => State::Set(Members::default()),
            Type::Timer | Type::Histogram => State::Spread(Box::default()),
        }
    }

    /// Takes a line's values.
    ///
    /// # Errors
    /// A result that is not finite; nothing of the line is taken then.
    pub fn add(&mut self, metric: &Metric<'_>) -> Result<(), String> {
        let values = || metric.values.split(|&byte| byte == b':').filter_map(|value| number(value).ok());
        match self {
            State::Set(members) => members.add(metric.values),
            State::Counter(sum) => {
                *sum = finite(values().fold(*sum, |sum, (value, _)| sum + value * metric.weight), metric)?;
            }
            State::Gauge(at) => {
                let changed = |at, (value, is_change)| if is_change { at + value } else { value };
                *at = finite(values().fold(*at, changed), metric)?;
            }
            State::Spread(spread) => {
                // Seconds of milliseconds.
                let scale = if metric.of == Type::Timer { 1e3 } else { 1.0 };
                let values = || values().map(|(value, _)| value / scale);
                finite(spread.sum_with(values().map(|value| value * metric.weight)), metric)?;
                values().for_each(|value| spread.add(value, metric.weight));
            }
        }
        Ok(())
    }
}

fn finite(result: f64, metric: &Metric<'_>) -> Result<f64, String> {
    let (name, values) = (Shown(metric.name), Shown(metric.values));
    let told = || format!("with {values} the sum of {name} is no finite number: send smaller values");
    if result.is_finite() { Ok(result) } else { Err(told()) }
}

impl Members {
    pub fn add(&mut self, member: &[u8]) {
        let hash = foldhash::quality::FixedState::default().hash_one(member);
        if self.many.is_empty() && self.exact.len() < MEMBERS_MAX {
            self.exact.insert(hash);
            return;
        }
        self.exact.drain().for_each(|hash| self.many.add(hash));
        self.many.add(hash);
    }

    fn take(&mut self) -> u64 {
        let Members { exact, many } = std::mem::take(self);
        exact.len() as u64 + many.estimate()
    }
}

impl Held {
    /// Hands on what there is; what is new stood at zero at `before`.
    pub fn tell(&mut self, time: Timestamp, before: Timestamp, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        let since = std::mem::take(&mut self.is_new).then_some(before);
        let about = |kind| About { kind: Some(kind), ..About::default() };
        let (kind, value) = match &mut self.state {
            State::Counter(sum) => {
                if let Some(before) = since {
                    gather.sample_about(0, &self.metric, &labels, about(Kind::Counter), before, 0.0)?;
                }
                (Kind::Counter, *sum)
            }
            State::Gauge(at) => (Kind::Gauge, *at),
            State::Set(members) => (Kind::Gauge, members.take() as f64),
            State::Spread(spread) => {
                return spread.tell(&told(&self.metric, &labels, self.of), time, since, gather);
            }
        };
        gather.sample_about(0, &self.metric, &labels, about(kind), time, value)
    }

    /// Says that all its series have ended.
    pub fn end(&self, time: Timestamp, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
        if !matches!(self.state, State::Spread(_)) {
            return gather.end(&self.metric, &labels, time);
        }
        let mut ended = Ok(());
        Spread::series(&told(&self.metric, &labels, self.of), |metric, labels| {
            if ended.is_ok() {
                ended = gather.end(metric, labels, time);
            }
        });
        ended
    }
}

fn told<'t>(metric: &'t str, labels: &'t [(&'t str, &'t str)], of: Type) -> Told<'t> {
    let (kind, unit) = if of == Type::Timer { (Kind::Timer, "seconds") } else { (Kind::Summary, "") };
    Told { metric, labels, unit, kind }
}
