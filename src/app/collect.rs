//! The collector of this machine's own metrics, on a thread and an interval.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::flow::Intake;
use crate::ingest::{Gather, SystemCollector, TimeBounds};
use crate::world::World;

/// Owns the collector's thread; stops and joins it when dropped.
pub(super) struct Collecting {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collecting {
    pub fn start(world: World, intake: Arc<dyn Intake>, every: Duration, future: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let thread = std::thread::Builder::new().name("collect-system".into()).spawn(move || {
            let mut collector = SystemCollector::new();
            let bounds = || TimeBounds::new(world.clock.now(), future, None);
            let mut gather = Gather::new(&*intake, bounds());
            let mut due = world.clock.elapsed();
            loop {
                gather.set_bounds(bounds());
                // Whole milliseconds: finer times say nothing and take room.
                let now = world.clock.now().floor(1_000_000);
                let collected = collector.collect(now, &mut gather).and_then(|()| gather.flush());
                if let Err(refusal) = collected {
                    tracing::warn!(%refusal, "a pass of the system collector was lost");
                }
                due = (due + every).max(world.clock.elapsed());
                let wait = due.saturating_sub(world.clock.elapsed());
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Collecting { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
