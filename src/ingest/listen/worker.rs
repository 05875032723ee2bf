//! The thread that parses: chunks from the queue, samples to the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::feed::{Feed, Now};
use super::meters::{Meters, TransportMeters};
use super::patient::Patient;
use super::queue::Chunk;
use super::spec::Taken;
use crate::flow::Refusal;
use crate::ingest::{Gather, Known, TimeBounds};
use crate::world::Clock;

/// Bytes of names of series as they are told.
const KNOWN_BYTES: usize = 16 << 20;

pub(super) struct Worker {
    pub feed: Feed,
    pub intake: Patient,
    pub clock: Arc<dyn Clock>,
    pub taken: Taken,
    pub meters: Arc<Meters>,
    pub known: Arc<Known>,
}

impl Worker {
    pub fn new(feed: Feed, intake: Patient, clock: Arc<dyn Clock>, taken: Taken, meters: Arc<Meters>) -> Self {
        Worker { feed, intake, clock, taken, meters, known: Arc::new(Known::within(KNOWN_BYTES)) }
    }

    /// Takes chunks until nobody sends any more, then tells what is held.
    pub async fn run(mut self, mut chunks: mpsc::Receiver<Chunk>) {
        let mut due = self.feed.every().map(|every| self.clock.elapsed() + every);
        loop {
            let wait = due.map_or(Duration::MAX, |due| due.saturating_sub(self.clock.elapsed()));
            match tokio::time::timeout(wait, chunks.recv()).await {
                Ok(Some(chunk)) => self.take(&chunk),
                Ok(None) => break,
                Err(_) => {}
            }
            self.meters.queued.store(chunks.len() as u64, Ordering::Relaxed);
            if let (Some(every), Some(at)) = (self.feed.every(), due)
                && self.clock.elapsed() >= at
            {
                self.tell();
                // What took too long is left out, not made up for.
                due = Some((at + every).max(self.clock.elapsed()));
            }
        }
        self.tell();
    }

    fn take(&mut self, chunk: &Chunk) {
        let meters = self.meters.clone();
        let of = meters.of(chunk.transport);
        self.gather(|feed, now, gather| {
            let taken = feed.take(&chunk.text, now, gather);
            of.refuse(&std::mem::take(&mut gather.faults));
            TransportMeters::add(&of.lines, taken?);
            Ok(())
        });
    }

    fn tell(&mut self) {
        let meters = self.meters.clone();
        self.gather(|feed, now, gather| {
            let told = feed.tell(now, gather);
            TransportMeters::add(&meters.refused_samples, std::mem::take(&mut gather.faults).count);
            told
        });
    }

    fn gather(&mut self, work: impl FnOnce(&mut Feed, Now, &mut Gather<'_>) -> Result<(), Refusal>) {
        let now = Now { time: self.clock.now(), elapsed: self.clock.elapsed() };
        self.known.age(now.time);
        let Taken { future, retention } = &self.taken;
        let bounds = TimeBounds::new(now.time, *future, retention.longest_of_samples().length());
        let mut gather = Gather::sharing(&self.intake, bounds, self.known.clone()).keeping(retention.clone(), now.time);
        let done = work(&mut self.feed, now, &mut gather);
        let held = gather.held() as u64;
        let done = done.and_then(|()| gather.flush());
        TransportMeters::add(&self.meters.samples, gather.accepted());
        if let Err(refusal) = done {
            // Those of a batch that went before are gone without a count: the store is closed, or closing.
            TransportMeters::add(&self.meters.lost_samples, held);
            tracing::warn!(listener = self.meters.listener, lost = held, error = %refusal, "samples were lost");
        }
        let (series, events) = self.feed.held();
        self.meters.series.store(series, Ordering::Relaxed);
        self.meters.events.store(events, Ordering::Relaxed);
    }
}
