//! The source of a pipeline: one thread that takes what came in, in the order of the log, and tells it to the stages in
//! the order of [`super::order`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::AsArray;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::event::{Cut, Event, Step, Watermark};
use super::governor::{Effects, Zone};
use super::link::{Outlet, send_all};
use super::meter::{Meter, Poison};
use super::order::Order;
use super::work::State;
use crate::model::{Batch, SeriesId, Table, Timestamp};
use crate::world::World;

/// Samples of a step: more wait for the next.
const STEP_SAMPLES: usize = 1 << 16;
/// A step of fewer waits for more, since each wakes all stages.
const STEP_SMALL: usize = 1 << 12;
const LINGER: Duration = Duration::from_millis(5);

/// What comes in.
pub(super) enum Told {
    Batch(Arc<Batch>),
    Cut(Cut),
    Stop,
}

/// Which series a source takes.
pub type Wanted = Box<dyn Fn(SeriesId) -> bool + Send + Sync>;

/// Gives batches, all samples in the order of time; or why it cannot go on.
pub type Batches = Box<dyn Iterator<Item = Result<Batch, String>> + Send>;

/// Where a pipeline's samples come from.
pub enum SourceSpec {
    /// What comes in, of all series or of some.
    Live(Option<Wanted>),
    /// What is there already, told once, when the pipeline starts for the first time.
    Stored(Box<dyn Fn() -> Batches + Send + Sync>),
}

/// A source and who follows it.
pub(super) struct Spring {
    pub name: String,
    pub spec: SourceSpec,
    pub outlets: Vec<Outlet>,
    pub meter: Arc<Meter>,
    /// By series: 0 not asked yet, 1 not wanted, 2 wanted.
    pub known: Vec<u8>,
}

pub(super) struct Feeder {
    pub key: String,
    pub world: World,
    pub queue: Receiver<Told>,
    pub order: Order,
    pub springs: Vec<Spring>,
    pub states: Sender<State>,
    pub poison: Poison,
    /// Whether it goes on from a state.
    pub is_resumed: bool,
    /// Whether it is to end soon: what is stored is told again at the next start.
    pub is_ending: Arc<AtomicBool>,
}

impl Feeder {
    pub fn run(mut self) {
        if !self.is_resumed {
            self.tell_stored();
        }
        let mut next = None;
        loop {
            let Some(told) = next.take().or_else(|| self.queue.recv().ok()) else { return };
            match told {
                Told::Batch(batch) if !batch.rows.is_empty() => self.pressure(&batch),
                Told::Batch(batch) => next = self.step(&batch),
                Told::Cut(cut) => self.cut(cut),
                Told::Stop => {
                    self.send(&vec![Event::Stop]);
                    return;
                }
            }
        }
    }

    /// A step of what is there; gives back what follows it and is no batch.
    fn step(&mut self, first: &Arc<Batch>) -> Option<Told> {
        let started = self.world.clock.elapsed();
        let (mut step, mut samples) = (Step::new(), 0);
        let mut next = None;
        let mut take = |feeder: &mut Self, batch: &Arc<Batch>| {
            if feeder.poison.told().is_none() {
                feeder.order.take(batch, &mut step);
            }
            samples += batch.len();
            samples
        };
        let mut taken = take(self, first);
        while taken < STEP_SAMPLES {
            let waited = self.world.clock.elapsed() - started;
            let linger = if taken < STEP_SMALL { LINGER.saturating_sub(waited) } else { Duration::ZERO };
            match self.queue.recv_timeout(linger) {
                Ok(Told::Batch(batch)) if batch.rows.is_empty() => taken = take(self, &batch),
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        if self.poison.told().is_none() {
            self.order.end_step(&mut step);
            self.send(&step);
        }
        next
    }

    /// The governor has changed its zone: a step of its own, so that it does not matter what came with it.
    fn pressure(&mut self, batch: &Batch) {
        let mut zones = batch.rows.iter().filter(|rows| rows.table == Table::Zones).filter_map(|rows| {
            let zones = rows.batch.column_by_name("zone")?.as_string_opt::<i32>()?;
            Zone::of_name(zones.iter().flatten().next_back()?)
        });
        if let Some(zone) = zones.next_back() {
            self.send(&vec![Event::Pressure(Effects::of(zone).compression)]);
        }
    }

    fn cut(&mut self, cut: Cut) {
        let ahead = self.order.ahead();
        let mut step = Step::new();
        if !ahead.is_empty() && self.poison.told().is_none() {
            step.push(Event::Ahead(Arc::new(ahead)));
        }
        step.push(Event::Checkpoint(cut));
        if self.poison.told().is_none() {
            let _ = self.states.send((self.key.clone(), cut.number, self.order.state()));
        }
        self.send(&step);
    }

    /// Tells all that is stored. It comes in the order of time, so the end of a batch is a watermark: windows before it
    /// close.
    fn tell_stored(&mut self) {
        for at in 0..self.springs.len() {
            let SourceSpec::Stored(batches) = &self.springs[at].spec else { continue };
            let mut sources = BTreeSet::new();
            for batch in batches() {
                if self.is_ending.load(Ordering::Acquire) || self.poison.told().is_some() {
                    return;
                }
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(told) => return self.fail(at, &told),
                };
                let (last, source) = (batch.times.iter().max().copied(), batch.source.clone());
                sources.insert(source.clone());
                // Of the last time there may be more.
                let watermark = last.map(|last| Watermark { source, time: Timestamp::from_nanos(last - 1) });
                self.tell_one(at, vec![Event::Batch(Arc::new(batch))], watermark);
            }
            for source in sources {
                // Nobody waits for it any more.
                self.tell_one(at, Step::new(), Some(Watermark { source, time: Timestamp::MAX }));
            }
        }
    }

    /// Ends the pipeline: as it gives no state, all that is stored is told again at the next start.
    fn fail(&self, at: usize, told: &str) {
        let pipeline = self.key.split('/').next().unwrap_or_default();
        tracing::error!(pipeline, told, "a source failed: its pipeline gives no more rows until the next start");
        self.poison.set(format!("source {} failed: {told}", self.springs[at].name));
    }

    /// A step of one source; those of the others say only how far it has come.
    fn tell_one(&self, at: usize, mut step: Step, watermark: Option<Watermark>) {
        let control: Step = watermark.into_iter().map(Event::Watermark).collect();
        step.extend(control.iter().cloned());
        for (other, spring) in self.springs.iter().enumerate() {
            spring.send(if other == at { step.clone() } else { control.clone() });
        }
    }

    fn send(&mut self, step: &Step) {
        for spring in &mut self.springs {
            let part = spring.part_of(step);
            spring.send(part);
        }
    }
}

impl Spring {
    fn send(&self, step: Step) {
        for event in &step {
            match event {
                Event::Batch(batch) => {
                    self.meter.samples.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    self.meter.batches.fetch_add(1, Ordering::Relaxed);
                    self.meter.arrived.fetch_max(batch.arrived.nanos(), Ordering::Relaxed);
                }
                Event::Late(batch) => {
                    self.meter.late.fetch_add(batch.len() as u64, Ordering::Relaxed);
                }
                Event::Watermark(watermark) if watermark.time != Timestamp::MAX => {
                    self.meter.set_watermark(Some(watermark.time.nanos()));
                }
                _ => {}
            }
        }
        send_all(&self.outlets, step);
    }

    /// What of a step this source gives.
    fn part_of(&mut self, step: &Step) -> Step {
        match &self.spec {
            SourceSpec::Live(None) => step.clone(),
            SourceSpec::Stored(_) => step.iter().filter(|event| event.is_control()).cloned().collect(),
            SourceSpec::Live(Some(wanted)) => {
                let known = &mut self.known;
                step.iter().filter_map(|event| chosen(event, known, wanted)).collect()
            }
        }
    }
}

fn chosen(event: &Event, known: &mut Vec<u8>, wanted: &Wanted) -> Option<Event> {
    let mut some = |batch: &Arc<Batch>| -> Option<Arc<Batch>> {
        let mut chosen = batch.part(0);
        for (series, sample) in batch.iter() {
            if is_wanted(series, known, wanted) {
                chosen.push(series, sample.time, sample.value);
            }
        }
        (!chosen.is_empty()).then(|| Arc::new(chosen))
    };
    match event {
        Event::Batch(batch) => some(batch).map(Event::Batch),
        Event::Late(batch) => some(batch).map(Event::Late),
        Event::Ahead(batch) => some(batch).map(Event::Ahead),
        other => Some(other.clone()),
    }
}

#[inline]
fn is_wanted(series: SeriesId, known: &mut Vec<u8>, wanted: &Wanted) -> bool {
    if series.index() >= known.len() {
        known.resize(series.index() + 1, 0);
    }
    let known = &mut known[series.index()];
    if *known == 0 {
        *known = 1 + u8::from(wanted(series));
    }
    *known == 2
}
