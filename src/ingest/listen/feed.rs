//! What a listener makes of its lines.

use std::time::Duration;

use super::ListenSpec;
use crate::flow::Refusal;
use crate::ingest::statsd::{Aggregate, AggregateLimits};
use crate::ingest::{Gather, Known, graphite};
use crate::model::Timestamp;

/// The time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub time: Timestamp,
    pub elapsed: Duration,
}

/// A protocol of lines.
pub(super) enum Feed {
    /// Each line is a sample.
    Graphite(Box<Known>),
    /// Lines are held, and told every so often.
    Statsd { held: Box<Aggregate>, every: Duration, told: Timestamp },
}

/// Bytes of names that are known.
const KNOWN_BYTES: usize = 16 << 20;

impl Feed {
    pub fn graphite() -> Feed {
        Feed::Graphite(Box::new(Known::within(KNOWN_BYTES)))
    }

    /// One that begins at `now`.
    pub fn statsd(spec: &ListenSpec, now: Timestamp) -> Feed {
        let limits = AggregateLimits { series: spec.statsd_series, expire: spec.statsd_expire };
        Feed::Statsd { held: Box::new(Aggregate::new(limits)), every: spec.statsd_flush, told: now }
    }

    /// How often [`Feed::tell`] is due, if ever.
    pub fn every(&self) -> Option<Duration> {
        match self {
            Feed::Graphite(_) => None,
            Feed::Statsd { every, .. } => Some(*every),
        }
    }

    /// Series held, and events counted so far.
    pub fn held(&self) -> (u64, u64) {
        match self {
            Feed::Graphite(_) => (0, 0),
            Feed::Statsd { held, .. } => (held.held() as u64, held.events()),
        }
    }

    /// Takes whole lines; bad ones are faults of `gather`. How many there were.
    pub fn take(&mut self, text: &[u8], now: Now, gather: &mut Gather<'_>) -> Result<u64, Refusal> {
        if let Feed::Graphite(known) = self {
            known.age(now.time);
        }
        let mut count = 0;
        for line in text.split(|&byte| byte == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            count += 1;
            let taken = match self {
                Feed::Graphite(known) => graphite::read_graphite_line(line, now.time, known, gather)?,
                Feed::Statsd { held, .. } => held.take(line, now.elapsed, gather)?,
            };
            if let Err(error) = taken {
                gather.faults.add(0, error);
            }
        }
        Ok(count)
    }

    /// Tells what is held.
    pub fn tell(&mut self, now: Now, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        match self {
            Feed::Graphite(_) => Ok(()),
            Feed::Statsd { held, told, .. } => {
                // Whole milliseconds: finer times say nothing and take room.
                let time = now.time.floor(1_000_000);
                held.tell(time, std::mem::replace(told, time), now.elapsed, gather)
            }
        }
    }
}
