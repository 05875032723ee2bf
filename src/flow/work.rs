//! One thread of a stage: takes a step of each of its inputs in turn, lets the stage work, hands on what it made.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::event::{Event, Step, Watermark};
use super::link::{Outlet, send_all};
use super::merge::{gathered, merged};
use super::meter::{Meter, Poison};
use super::stage::{Out, Sink, Stage};
use crate::model::Timestamp;
use crate::world::World;

/// How often a stage may do what it put off.
const IDLE_EVERY: Duration = Duration::from_secs(1);
/// And what part of the time that may take.
const IDLE_SHARE: u32 = 5;

/// A state at a cut: whose, which cut, and the bytes.
pub(super) type State = (String, u64, Vec<u8>);

pub(super) struct Work {
    /// `pipeline/stage/shard`
    pub key: String,
    /// What the stage is made from: a state of another makes no sense to it.
    pub fingerprint: u64,
    pub world: World,
    pub stage: Box<dyn Stage>,
    pub inputs: Vec<Receiver<Step>>,
    /// Whether these bring the same series; else each brings its own.
    pub merges: bool,
    pub outlets: Vec<Outlet>,
    /// Where the store takes its rows.
    pub store: Option<Arc<dyn Sink>>,
    /// Whether it takes the samples that are handed on, too.
    pub keeps: bool,
    pub states: Sender<State>,
    pub meter: Arc<Meter>,
    pub poison: Poison,
}

/// Counts the rows that pass.
struct Counting<'s> {
    inner: &'s dyn Sink,
    meter: &'s Meter,
}

impl Sink for Counting<'_> {
    fn rows(&self, rows: crate::model::Rows) {
        self.meter.rows.fetch_add(rows.batch.num_rows() as u64, Ordering::Relaxed);
        self.inner.rows(rows);
    }

    fn samples(&self, batch: &crate::model::Batch) {
        self.inner.samples(batch);
    }
}

/// Work of one thread that goes on from step to step.
struct Progress {
    next_idle: Duration,
    sources: BTreeMap<Arc<str>, Timestamp>,
}

impl Work {
    /// A stage that panics ends its pipeline only: what it is sent is dropped, the store goes on.
    pub fn run(mut self) {
        let mut progress = Progress { next_idle: self.world.clock.elapsed() + IDLE_EVERY, sources: BTreeMap::new() };
        let mut step = Step::new();
        loop {
            let Some(taken) = self.take(&mut progress, &mut step) else { return };
            let control: Step = taken.iter().filter(|event| event.is_control()).cloned().collect();
            let is_end = control.iter().any(|event| matches!(event, Event::Stop));
            if self.poison.told().is_none() {
                self.guarded(|work, step| work.step(taken, &mut progress, step), &mut step);
            }
            if self.poison.told().is_some() {
                step = control;
            }
            send_all(&self.outlets, std::mem::take(&mut step));
            if is_end {
                return;
            }
        }
    }

    /// A step of each input: what it brings, then what steers, which all say alike, but for the watermarks of stages that
    /// hold samples back. `None` where nobody sends any more.
    fn take(&mut self, progress: &mut Progress, out: &mut Step) -> Option<Step> {
        let first = loop {
            match self.inputs[0].recv_timeout(IDLE_EVERY) {
                Ok(step) => break step,
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.poison.told().is_none() => {
                    self.guarded(|work, step| work.idle(progress, step), out);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        if self.inputs.len() == 1 {
            return Some(first);
        }
        let others = self.inputs[1..].iter().map(|input| input.recv().ok());
        let steps = std::iter::once(Some(first)).chain(others).collect::<Option<Vec<Step>>>()?;
        Some(if self.merges { merged(steps) } else { gathered(steps) })
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self, &mut Step), step: &mut Step) {
        let caught = catch_unwind(AssertUnwindSafe(|| work(self, step)));
        if let Err(panic) = caught {
            let told = panic.downcast_ref::<&str>().map(|told| (*told).to_owned());
            let told = told.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            let stage = &self.key;
            tracing::error!(stage, told, "a stage failed: its pipeline gives no more rows until the next start");
            self.poison.set(format!("stage {stage} failed: {told}"));
        }
    }

    fn step(&mut self, taken: Step, progress: &mut Progress, step: &mut Step) {
        let started = self.world.clock.elapsed();
        for event in taken {
            self.event(event, progress, step);
        }
        if self.world.clock.elapsed() >= progress.next_idle {
            self.idle(progress, step);
        }
        self.meter.put_off.store(self.stage.put_off(), Ordering::Relaxed);
        let dropped = self.stage.dropped();
        if !dropped.is_empty() {
            self.meter.set_dropped(dropped);
        }
        let busy = u64::try_from((self.world.clock.elapsed() - started).as_nanos()).unwrap_or(u64::MAX);
        self.meter.busy_nanos.fetch_add(busy, Ordering::Relaxed);
    }

    fn event(&mut self, event: Event, progress: &mut Progress, step: &mut Step) {
        let counting = self.store.as_deref().map(|inner| Counting { inner, meter: &self.meter });
        let store = counting.as_ref().map(|counting| counting as &dyn Sink);
        let mut out = Out { store, step, is_followed: !self.outlets.is_empty(), keeps: self.keeps };
        match event {
            Event::Batch(batch) => {
                self.stage.batch(&batch, &mut out);
                self.meter.samples.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.meter.batches.fetch_add(1, Ordering::Relaxed);
                self.meter.arrived.fetch_max(batch.arrived.nanos(), Ordering::Relaxed);
            }
            Event::Late(batch) => {
                self.stage.late(&batch, &mut out);
                self.meter.late.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            Event::Ahead(batch) => self.stage.ahead(&batch, &mut out),
            Event::Rows(rows) => self.stage.rows(&rows, &mut out),
            Event::Watermark(watermark) => {
                self.stage.watermark(&watermark, &mut out);
                progress.note(&watermark, &self.meter);
                step.push(Event::Watermark(watermark));
            }
            Event::Pressure(compression) => {
                self.stage.pressure(compression);
                step.push(Event::Pressure(compression));
            }
            Event::Checkpoint(cut) => {
                let mut state = self.fingerprint.to_le_bytes().to_vec();
                state.append(&mut self.stage.checkpoint(cut, &mut out));
                let _ = self.states.send((self.key.clone(), cut.number, state));
                step.push(Event::Checkpoint(cut));
            }
            Event::Stop => step.push(Event::Stop),
        }
    }

    /// Rows go to the store at once, and to stages behind with the next step.
    fn idle(&mut self, progress: &mut Progress, step: &mut Step) {
        let started = self.world.clock.elapsed();
        let counting = self.store.as_deref().map(|inner| Counting { inner, meter: &self.meter });
        let store = counting.as_ref().map(|counting| counting as &dyn Sink);
        let controls = step.iter().position(Event::is_control).unwrap_or(step.len());
        let mut steering = step.split_off(controls);
        self.stage.idle(&mut Out { store, step, is_followed: !self.outlets.is_empty(), keeps: self.keeps });
        step.append(&mut steering);
        let ended = self.world.clock.elapsed();
        progress.next_idle = ended + IDLE_EVERY.max((ended - started) * IDLE_SHARE);
        self.meter.put_off.store(self.stage.put_off(), Ordering::Relaxed);
    }
}

impl Progress {
    fn note(&mut self, watermark: &Watermark, meter: &Meter) {
        self.sources.insert(watermark.source.clone(), watermark.time);
        let behind = self.sources.values().filter(|time| **time != Timestamp::MAX).min();
        meter.set_watermark(behind.map(|time| time.nanos()));
    }
}
