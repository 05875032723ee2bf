//! `throttle`: everything goes on, but no more samples a second than it may: to spare what lies behind, or to see what a
//! slow stage does to those before it. What is told is the same.

use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;

use crate::flow::{Cut, Haste, Out, Shard, Stage};
use crate::model::Batch;
use crate::store::Store;

/// How often one that waits looks whether there is hurry.
const LOOK: Duration = Duration::from_millis(50);

/// `apply.throttle`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThrottleSpec {
    /// By the clock, over all shards.
    pub samples_per_second: u64,
}

impl ThrottleSpec {
    pub(super) fn fault(&self) -> Option<String> {
        (self.samples_per_second == 0).then(|| "samples_per_second = 0 lets nothing pass: write 1 or more".to_owned())
    }
}

/// The stage.
pub(super) struct Throttle {
    /// That one sample takes.
    each: Duration,
    store: Weak<Store>,
    /// Set when everything is to end.
    haste: Arc<Haste>,
    /// By the clock, or as far as was waited for where the clock stands still.
    now: Duration,
    /// When the next may go.
    due: Duration,
}

impl Throttle {
    pub fn new(spec: &ThrottleSpec, store: Weak<Store>, haste: Arc<Haste>, shard: Shard) -> Self {
        let each = Duration::from_secs_f64(shard.of as f64 / spec.samples_per_second.max(1) as f64);
        Throttle { each, store, haste, now: Duration::ZERO, due: Duration::ZERO }
    }

    fn look(&mut self) {
        let clock = self.store.upgrade().map(|store| store.world().clock.elapsed());
        self.now = self.now.max(clock.unwrap_or(self.now));
    }

    /// Waits until so many samples more may go. Not once everything is to end.
    fn wait(&mut self, samples: usize) {
        self.look();
        self.due = self.due.max(self.now);
        while self.now < self.due && !self.haste.is_free() {
            let part = (self.due - self.now).min(LOOK);
            std::thread::sleep(part);
            self.now += part;
            self.look();
        }
        self.due += self.each.saturating_mul(u32::try_from(samples).unwrap_or(u32::MAX));
    }
}

impl Stage for Throttle {
    fn batch(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.wait(batch.len());
        out.batch(batch.clone());
    }

    fn late(&mut self, batch: &Arc<Batch>, out: &mut Out<'_>) {
        self.wait(batch.len());
        out.late(batch.clone());
    }

    fn checkpoint(&mut self, _cut: Cut, _out: &mut Out<'_>) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _state: &[u8], _shard: Shard) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::Apply;
    use crate::stages::bench::{Bench, spec};

    #[test]
    fn everything_passes_as_it_came() {
        let bench = Bench::new();
        let mut run = bench.run(&Apply::Throttle(spec("samples_per_second = 100000")), None);
        run.batch(&[("a{}", 1, 1.0), ("b{}", 1, 2.0)]);
        run.late(&[("a{}", 0, 1.0)]);
        run.ahead(&[("a{}", 2, 1.0)]);
        assert_eq!(run.told(), ["batch a{}@1=1 b{}@1=2", "late a{}@0=1", "ahead a{}@2=1"]);
        assert!(spec::<ThrottleSpec>("samples_per_second = 0").fault().unwrap().contains("lets nothing pass"));
    }

    #[test]
    fn what_goes_is_paid_for_in_time_and_in_a_hurry_not_at_all() {
        let haste = Arc::new(Haste::default());
        let spec = ThrottleSpec { samples_per_second: 1000 };
        // Without a store there is no clock but what is waited for.
        let mut stage = Throttle::new(&spec, Weak::new(), haste.clone(), Shard { number: 0, of: 2 });
        (0..4).for_each(|_| stage.wait(10));
        assert_eq!((stage.now, stage.due), (Duration::from_millis(60), Duration::from_millis(80)));
        haste.set_free(true);
        stage.wait(1_000_000_000);
        stage.wait(1);
        assert_eq!(stage.now, Duration::from_millis(60));
    }
}
