//! Ways out of a pipeline: what a sink sends lies in its outbox until a courier has delivered it.
//!
//! ```text
//! stage → sink's thread → outbox (bounded) → courier → file, stdout, webhook, upstreams
//! ```
//!
//! A parcel leaves the outbox when it is delivered, and not before. What is in it at a checkpoint is the sink's state, so
//! nothing is lost, and some is sent again after a crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::delivery::{Delivery, Overflow};
use super::stage::Dropped;
use crate::model::{Batch, Rows, SeriesDef, SeriesId};

/// How often a sink that waits for room looks whether it is hurried.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a sample in an outbox.
const SAMPLE_BYTES: usize = 20;
/// Bytes that an outbox holds beyond its room so that a checkpoint need not wait for a way out that is blocked.
const BEYOND: usize = 64 << 20;

/// Tells what a series is.
pub type Names = Arc<dyn Fn(SeriesId) -> SeriesDef + Send + Sync>;

/// One thing to deliver.
#[derive(Debug, Clone)]
pub enum Parcel {
    Samples(Arc<Batch>),
    Rows(Rows),
}

impl Parcel {
    /// Samples or rows in it.
    pub fn len(&self) -> usize {
        match self {
            Parcel::Samples(batch) => batch.len(),
            Parcel::Rows(rows) => rows.batch.num_rows(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bytes(&self) -> usize {
        match self {
            Parcel::Samples(batch) => batch.len() * SAMPLE_BYTES,
            Parcel::Rows(rows) => rows.batch.get_array_memory_size(),
        }
    }
}

/// Why sinks should not wait for room, shared by those of a pipeline.
#[derive(Debug, Default)]
pub struct Haste {
    /// Checkpoints asked for so far.
    cuts: AtomicU64,
    /// Nobody may wait: the pipeline starts or ends.
    free: AtomicBool,
    /// Sinks that wait just now.
    waiting: AtomicUsize,
}

impl Haste {
    pub fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::AcqRel);
    }

    pub fn set_free(&self, free: bool) {
        self.free.store(free, Ordering::Release);
    }

    /// Whether nobody may wait.
    pub fn is_free(&self) -> bool {
        self.free.load(Ordering::Acquire)
    }

    /// Whether a sink waits for room.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

/// What a sink sends and nobody has taken for certain yet, in order.
pub struct Outbox {
    room: usize,
    overflow: Overflow,
    haste: Arc<Haste>,
    held: Mutex<Held>,
    changed: Condvar,
    /// Told of each parcel.
    bell: OnceLock<Box<dyn Fn() + Send + Sync>>,
    is_troubled: AtomicBool,
    is_urgent: AtomicBool,
}

#[derive(Default)]
struct Held {
    parcels: BTreeMap<u64, Arc<Parcel>>,
    bytes: usize,
    next: u64,
    /// The first that no courier has been given.
    ungiven: u64,
    /// Checkpoints that the sink has come past.
    cuts: u64,
    is_closed: bool,
    dropped: Dropped,
    delivered: u64,
}

impl Outbox {
    /// One with room for so many bytes.
    pub fn new(room: usize, overflow: Overflow, haste: Arc<Haste>) -> Self {
        Outbox {
            room,
            overflow,
            haste,
            held: Mutex::default(),
            changed: Condvar::new(),
            bell: OnceLock::new(),
            is_troubled: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a parcel in. Where there is no room it waits, or drops the parcel, as was chosen.
    pub fn put(&self, parcel: Parcel) {
        let mut held = self.held();
        if held.bytes >= self.room && self.overflow == Overflow::Drop {
            *held.dropped.entry("full").or_default() += parcel.len() as u64;
            return;
        }
        if !self.has_room(&held) {
            self.haste.waiting.fetch_add(1, Ordering::AcqRel);
            while !self.has_room(&held) {
                held = self.changed.wait_timeout(held, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
            self.haste.waiting.fetch_sub(1, Ordering::AcqRel);
        }
        self.add(held, parcel);
    }

    /// Puts in what was undelivered when the state was taken, whatever the room.
    pub fn put_back(&self, parcel: Parcel) {
        self.add(self.held(), parcel);
    }

    fn add(&self, mut held: MutexGuard<'_, Held>, parcel: Parcel) {
        if parcel.is_empty() {
            return;
        }
        held.bytes += parcel.bytes();
        let number = held.next;
        held.next += 1;
        held.parcels.insert(number, Arc::new(parcel));
        drop(held);
        self.tell();
    }

    fn tell(&self) {
        self.changed.notify_all();
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    fn has_room(&self, held: &Held) -> bool {
        let is_cut_asked = self.haste.cuts.load(Ordering::Acquire) > held.cuts;
        held.bytes < self.room
            || held.is_closed
            || self.haste.free.load(Ordering::Acquire)
            || (is_cut_asked && held.bytes < self.room + BEYOND)
    }

    /// The sink has come to a checkpoint.
    pub fn pass_cut(&self) {
        self.held().cuts += 1;
    }

    /// Waits until all is delivered, but not longer than `patience`, nor for a courier in trouble.
    pub fn settle(&self, patience: Duration) {
        self.is_urgent.store(true, Ordering::Release);
        self.tell();
        let goes_on = |held: &mut Held| !held.parcels.is_empty() && !self.is_troubled.load(Ordering::Acquire);
        drop(self.changed.wait_timeout_while(self.held(), patience, goes_on));
        self.is_urgent.store(false, Ordering::Release);
    }

    /// All that is not delivered, the oldest first.
    pub fn undelivered(&self) -> Vec<Arc<Parcel>> {
        self.held().parcels.values().cloned().collect()
    }

    /// Parcels that wait.
    pub fn waiting(&self) -> u64 {
        self.held().parcels.len() as u64
    }

    /// Samples and rows that were given up, by reason.
    pub fn dropped(&self) -> Dropped {
        self.held().dropped.clone()
    }

    /// Samples and rows that were delivered.
    pub fn delivered(&self) -> u64 {
        self.held().delivered
    }

    /// Nothing more is put in; who takes is told that it is the end.
    pub fn close(&self) {
        self.held().is_closed = true;
        self.tell();
    }
}

/// The courier's side.
impl Outbox {
    /// Calls `bell` whenever there may be something to do.
    pub fn ring(&self, bell: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.set(Box::new(bell));
        self.tell();
    }

    /// The next parcels, up to about so many samples and rows, with their numbers; none where there are none yet.
    pub fn take(&self, most: usize) -> Vec<(u64, Arc<Parcel>)> {
        let mut held = self.held();
        let (mut taken, mut size) = (Vec::new(), 0);
        for (&number, parcel) in held.parcels.range(held.ungiven..) {
            if size > 0 && size + parcel.len() > most {
                break;
            }
            size += parcel.len();
            taken.push((number, parcel.clone()));
        }
        held.ungiven = taken.last().map_or(held.ungiven, |(number, _)| number + 1);
        taken
    }

    /// The same for a thread: waits up to `patience` for some. `None` where the outbox is closed.
    pub fn wait(&self, most: usize, patience: Duration) -> Option<Vec<(u64, Arc<Parcel>)>> {
        let held = self.held();
        let is_idle = |held: &mut Held| !held.is_closed && held.parcels.range(held.ungiven..).next().is_none();
        let (held, _) =
            self.changed.wait_timeout_while(held, patience, is_idle).unwrap_or_else(PoisonError::into_inner);
        if held.is_closed {
            return None;
        }
        drop(held);
        Some(self.take(most))
    }

    /// Waits, as before another try; false where the outbox was closed meanwhile.
    pub fn pause(&self, length: Duration) -> bool {
        let held = self.held();
        let (held, _) = self
            .changed
            .wait_timeout_while(held, length, |held| !held.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        !held.is_closed
    }

    /// A parcel was delivered.
    pub fn done(&self, number: u64) {
        let mut held = self.held();
        if let Some(parcel) = held.parcels.remove(&number) {
            held.bytes -= parcel.bytes();
            held.delivered += parcel.len() as u64;
        }
        drop(held);
        self.changed.notify_all();
    }

    /// Samples or rows are given up for a reason: nobody takes them.
    pub fn give_up(&self, reason: &'static str, count: usize) {
        *self.held().dropped.entry(reason).or_default() += count as u64;
    }

    /// Whether deliveries fail just now.
    pub fn set_troubled(&self, troubled: bool) {
        self.is_troubled.store(troubled, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether somebody waits for all to be delivered.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent.load(Ordering::Acquire)
    }

    pub fn is_closed(&self) -> bool {
        self.held().is_closed
    }
}

/// Delivers what lies in an outbox, on threads of its own. Dropping it ends them; the outbox is closed before.
pub trait Courier: Send {
    /// Makes what was delivered durable, where that is in its power.
    fn settle(&mut self) {}
}

/// Finds a courier for each sink. Behind it stand disk and network.
pub trait Couriers: Send + Sync {
    /// Starts one that empties the outbox.
    fn open(&self, sink: &str, delivery: &Delivery, names: Names, outbox: Arc<Outbox>) -> io::Result<Box<dyn Courier>>;

    /// Whether anything is delivered. Where nothing is, sinks are left out.
    fn delivers(&self) -> bool {
        true
    }
}

/// Delivers nothing: for whoever only reads what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCouriers;

impl Couriers for NoCouriers {
    fn open(&self, _: &str, _: &Delivery, _: Names, _: Arc<Outbox>) -> io::Result<Box<dyn Courier>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn delivers(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn parcel(samples: usize) -> Parcel {
        let mut batch = Batch::default();
        (0..samples).for_each(|at| batch.push(SeriesId(0), Timestamp::from_nanos(at as i64), 1.0));
        Parcel::Samples(Arc::new(batch))
    }

    fn outbox(room: usize, overflow: Overflow) -> (Arc<Outbox>, Arc<Haste>) {
        let haste = Arc::new(Haste::default());
        (Arc::new(Outbox::new(room * SAMPLE_BYTES, overflow, haste.clone())), haste)
    }

    #[test]
    fn a_parcel_stays_until_it_is_delivered() {
        let (outbox, _) = outbox(100, Overflow::Wait);
        (1..=3).for_each(|samples| outbox.put(parcel(samples)));
        let taken = outbox.take(3);
        assert_eq!(taken.iter().map(|(_, parcel)| parcel.len()).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(outbox.take(100).len(), 1);
        assert!(outbox.take(100).is_empty());
        assert_eq!(outbox.undelivered().len(), 3);
        outbox.done(taken[0].0);
        outbox.done(taken[0].0);
        assert_eq!((outbox.undelivered().len(), outbox.delivered()), (2, 1));
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted_where_that_was_chosen() {
        let (outbox, _) = outbox(10, Overflow::Drop);
        (0..5).for_each(|_| outbox.put(parcel(6)));
        assert_eq!((outbox.undelivered().len(), outbox.dropped()), (2, Dropped::from([("full", 18)])));
    }

    #[test]
    fn who_waits_for_room_goes_on_when_some_is_made_or_a_checkpoint_is_asked_for() {
        let (outbox, haste) = outbox(1, Overflow::Wait);
        outbox.put(parcel(1));
        let putting = outbox.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            putting.put(parcel(2));
            putting.put(parcel(3));
        });
        while !haste.is_waiting() {
            std::thread::yield_now();
        }
        assert_eq!(outbox.undelivered().len(), 1);
        outbox.done(outbox.take(1)[0].0);
        while outbox.undelivered().is_empty() || !haste.is_waiting() {
            std::thread::yield_now();
        }
        assert_eq!(outbox.undelivered().len(), 1);
        haste.cut();
        thread.unwrap().join().unwrap();
        assert_eq!(outbox.undelivered().len(), 2);
        haste.set_free(true);
        outbox.pass_cut();
        outbox.put(parcel(4));
        assert!(!haste.is_waiting());
    }
}
