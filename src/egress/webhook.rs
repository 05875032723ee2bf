//! Rows posted as JSON arrays, so many at a time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::lines::{Known, objects};
use super::web::{Answer, Bell, Web, back_off, run};
use crate::flow::{Courier, Names, Outbox, Parcel, WebhookSpec};
use crate::world::World;

const HEADERS: [(&str, &str); 1] = [("content-type", "application/json")];
/// Rows that are taken from the outbox at a time.
const AT_ONCE: usize = 10_000;

pub(super) fn open(
    sink: &str,
    spec: &WebhookSpec,
    names: Names,
    outbox: Arc<Outbox>,
    world: &World,
) -> io::Result<Box<dyn Courier>> {
    let web = Web::new(&spec.web, world);
    let (sink_name, spec, taken) = (sink.to_owned(), spec.clone(), outbox.clone());
    run(sink, outbox, move |bell| async move {
        let known = Known::new(names);
        Posting { sink: sink_name, spec, web, outbox: taken, bell, known, rows: VecDeque::new() }.run().await;
    })
}

struct Posting {
    sink: String,
    spec: WebhookSpec,
    web: Web,
    outbox: Arc<Outbox>,
    bell: Bell,
    known: Known,
    /// Rows that wait, with the number of the parcel each came in.
    rows: VecDeque<(u64, Value)>,
}

impl Posting {
    async fn run(mut self) {
        loop {
            self.bell.mark_unchanged();
            self.take();
            if self.rows.is_empty() {
                if self.bell.changed().await.is_err() {
                    return;
                }
                continue;
            }
            self.gather().await;
            self.post().await;
        }
    }

    fn take(&mut self) {
        for (number, parcel) in self.outbox.take(AT_ONCE) {
            match &*parcel {
                Parcel::Rows(rows) => {
                    self.rows.extend(objects(rows, &mut self.known).into_iter().map(|row| (number, row)));
                }
                Parcel::Samples(_) => self.outbox.done(number),
            }
        }
    }

    /// Waits for more rows, as long as the first may wait.
    async fn gather(&mut self) {
        let started = self.web.world.clock.elapsed();
        while self.rows.len() < self.spec.batch && !self.outbox.is_urgent() {
            let waited = self.web.world.clock.elapsed().saturating_sub(started);
            let Some(left) = self.spec.every.checked_sub(waited).filter(|left| !left.is_zero()) else { return };
            if tokio::time::timeout(left, self.bell.changed()).await.is_err() {
                return;
            }
            self.take();
        }
    }

    /// Posts the first of the rows until they are taken.
    async fn post(&mut self) {
        let count = self.rows.len().min(self.spec.batch);
        let rows: Vec<&Value> = self.rows.iter().take(count).map(|(_, row)| row).collect();
        let body = serde_json::to_vec(&rows).unwrap_or_default();
        let mut failures = 0;
        loop {
            match self.web.post(&self.spec.url, &HEADERS, body.clone()).await {
                Answer::Taken => break,
                Answer::Refused(told) => {
                    tracing::warn!(sink = self.sink, told, rows = count, "a webhook refuses rows: they are given up");
                    self.outbox.give_up("refused", count);
                    break;
                }
                Answer::Failed { told, retry_after } => {
                    failures += 1;
                    self.outbox.set_troubled(true);
                    if failures == 1 {
                        tracing::warn!(sink = self.sink, told, "a webhook fails: it is tried again");
                    }
                    tokio::time::sleep(back_off(failures, retry_after).max(Duration::from_millis(1))).await;
                }
            }
        }
        self.outbox.set_troubled(false);
        for _ in 0..count {
            let Some((number, _)) = self.rows.pop_front() else { break };
            if self.rows.front().is_none_or(|(next, _)| *next != number) {
                self.outbox.done(number);
            }
        }
    }
}
