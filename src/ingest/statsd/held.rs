//! One series between flushes: what is held of it, by its type, and how that is told.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::Duration;

use foldhash::fast::FixedState;

use super::line::{Metric, Type};
use super::spread::{Spread, Told};
use crate::flow::Refusal;
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

    pub fn add(&mut self, metric: &Metric<'_>, value: f64, is_change: bool) {
        match self {
            State::Counter(sum) => *sum += value * metric.weight,
            State::Gauge(at) if is_change => *at += value,
            State::Gauge(at) => *at = value,
            // Seconds of milliseconds.
            State::Spread(spread) if metric.of == Type::Timer => spread.add(value / 1e3, metric.weight),
            State::Spread(spread) => spread.add(value, metric.weight),
            State::Set(_) => {}
        }
    }
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
