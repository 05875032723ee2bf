//! Samples to several upstreams as remote write: what one does not take goes to another, or waits.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use url::Url;

use super::lines::Known;
use super::remote_write::{HEADERS, Series, encode};
use super::upstreams::{Upstreams, utilization};
use super::web::{Answer, Bell, Web, run};
use crate::flow::{Courier, ForwardSpec, Names, Outbox, Parcel, Strategy};
use crate::model::SeriesId;
use crate::world::World;

/// Requests that are made of what is taken from the outbox at a time. The next are made when all of them are taken, so
/// the samples of a series come in order.
const REQUESTS: usize = 16;
/// How often upstreams are asked how loaded they are.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn open(
    sink: &str,
    spec: &ForwardSpec,
    names: Names,
    outbox: Arc<Outbox>,
    world: &World,
) -> io::Result<Box<dyn Courier>> {
    let forwarding = Forwarding {
        sink: sink.to_owned(),
        batch: spec.batch,
        web: Arc::new(Web::new(&spec.web, world)),
        upstreams: Upstreams::new(spec),
        outbox: outbox.clone(),
        known: Known::new(names),
        next_look: Duration::ZERO,
    };
    run(sink, outbox, move |bell| forwarding.run(bell))
}

struct Forwarding {
    sink: String,
    batch: usize,
    web: Arc<Web>,
    upstreams: Upstreams,
    outbox: Arc<Outbox>,
    known: Known,
    next_look: Duration,
}

/// What came of a request.
struct Sent {
    upstream: usize,
    series: Vec<Series>,
    answer: Answer,
    took: Duration,
}

type Requests = JoinSet<Sent>;

impl Forwarding {
    async fn run(mut self, mut bell: Bell) {
        loop {
            bell.mark_unchanged();
            let taken = self.outbox.take(self.batch.saturating_mul(REQUESTS));
            if taken.is_empty() {
                if bell.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let series = self.by_series(taken.iter().map(|(_, parcel)| &**parcel));
            self.deliver(series).await;
            taken.iter().for_each(|(number, _)| self.outbox.done(*number));
        }
    }

    /// Samples by series, each in the order they came.
    fn by_series<'p>(&mut self, parcels: impl Iterator<Item = &'p Parcel>) -> Vec<Series> {
        let mut all: BTreeMap<SeriesId, Vec<(i64, f64)>> = BTreeMap::new();
        for parcel in parcels {
            let Parcel::Samples(batch) = parcel else { continue };
            for (id, sample) in batch.iter() {
                all.entry(id).or_default().push((sample.time.millis(), sample.value));
            }
        }
        all.into_iter().map(|(id, samples)| Series { def: self.known.def(id), samples }).collect()
    }

    /// Sends until all is taken.
    async fn deliver(&mut self, mut waiting: Vec<Series>) {
        let mut requests = Requests::new();
        while !(waiting.is_empty() && requests.is_empty()) {
            self.look().await;
            waiting = self.send(waiting, &mut requests);
            if let Some(sent) = requests.join_next().await {
                waiting.extend(sent.ok().and_then(|sent| self.note(sent)).unwrap_or_default());
            } else {
                // All are left alone.
                let wait = self.upstreams.next_try().saturating_sub(self.now());
                tokio::time::sleep(wait.max(Duration::from_millis(10))).await;
            }
        }
    }

    fn now(&self) -> Duration {
        self.web.world.clock.elapsed()
    }

    /// Sends what can be sent now; gives back the rest.
    fn send(&mut self, waiting: Vec<Series>, requests: &mut Requests) -> Vec<Series> {
        if self.upstreams.strategy == Strategy::Hash {
            return self.send_by_hash(waiting, requests);
        }
        let mut rest = waiting;
        while !rest.is_empty() {
            let Some(upstream) = self.upstreams.pick(self.now()) else { break };
            let load = self.cut(&mut rest);
            self.request(upstream, load, requests);
        }
        rest
    }

    fn send_by_hash(&mut self, waiting: Vec<Series>, requests: &mut Requests) -> Vec<Series> {
        let now = self.now();
        let (mut by_upstream, mut rest): (BTreeMap<usize, Vec<Series>>, _) = (BTreeMap::new(), Vec::new());
        for series in waiting {
            match self.upstreams.pick_for(&series.def.identity(), now) {
                Some(upstream) => by_upstream.entry(upstream).or_default().push(series),
                None => rest.push(series),
            }
        }
        for (upstream, mut series) in by_upstream {
            if self.upstreams.is_able(upstream, now) {
                let load = self.cut(&mut series);
                self.request(upstream, load, requests);
            }
            rest.append(&mut series);
        }
        rest
    }

    /// Takes series for one request, at least one.
    fn cut(&self, waiting: &mut Vec<Series>) -> Vec<Series> {
        let mut samples = 0;
        let mut fits = |series: &Series| {
            let is_first = samples == 0;
            samples += series.samples.len();
            is_first || samples <= self.batch
        };
        let count = waiting.iter().take_while(|series| fits(series)).count();
        waiting.drain(..count).collect()
    }

    fn request(&mut self, upstream: usize, series: Vec<Series>, requests: &mut Requests) {
        self.upstreams.sent(upstream);
        let (web, url) = (self.web.clone(), self.upstreams.all[upstream].url.clone());
        requests.spawn(async move {
            let started = web.world.clock.elapsed();
            let answer = match encode(&series) {
                Ok(body) => web.post(&url, &HEADERS, body).await,
                Err(error) => Answer::Refused(error.to_string()),
            };
            Sent { upstream, series, answer, took: web.world.clock.elapsed().saturating_sub(started) }
        });
    }

    /// What is to be sent again.
    fn note(&mut self, sent: Sent) -> Option<Vec<Series>> {
        let sink = &self.sink;
        match sent.answer {
            Answer::Taken => {
                if self.upstreams.answered(sent.upstream, sent.took) {
                    tracing::info!(sink, url = self.shown(sent.upstream), "an upstream takes samples again");
                }
                self.outbox.set_troubled(false);
                None
            }
            Answer::Refused(told) => {
                self.upstreams.answered(sent.upstream, sent.took);
                let count = sent.series.iter().map(|series| series.samples.len()).sum();
                tracing::warn!(sink, told, samples = count, "an upstream refuses samples: they are given up");
                self.outbox.give_up("refused", count);
                None
            }
            Answer::Failed { told, retry_after } => {
                let now = self.now();
                if self.upstreams.failed(sent.upstream, now, retry_after) {
                    tracing::warn!(sink, told, "an upstream fails: it is left alone for a while");
                }
                self.outbox.set_troubled(self.upstreams.next_try() > now);
                Some(sent.series)
            }
        }
    }

    /// An upstream's address without a password.
    fn shown(&self, upstream: usize) -> String {
        let url = Url::parse(&self.upstreams.all[upstream].url);
        url.map_or(String::new(), |url| url[url::Position::BeforeHost..].to_owned())
    }

    /// Asks upstreams how loaded they are, where that is what they are chosen by.
    async fn look(&mut self) {
        if self.upstreams.strategy != Strategy::Resource || self.now() < self.next_look {
            return;
        }
        self.next_look = self.now() + LOOK_EVERY;
        let mut looks = JoinSet::new();
        for (at, upstream) in self.upstreams.all.iter().enumerate() {
            let Some(url) = Url::parse(&upstream.url).ok().and_then(|url| url.join("/metrics").ok()) else { continue };
            let web = self.web.clone();
            looks.spawn(async move {
                let page = tokio::time::timeout(LOOK_TIMEOUT, web.get(url.as_str())).await;
                (at, page.ok().and_then(Result::ok).and_then(|page| utilization(&page)))
            });
        }
        while let Some(looked) = looks.join_next().await {
            if let Ok((at, utilization)) = looked {
                self.upstreams.all[at].utilization = utilization;
            }
        }
    }
}

#[cfg(test)]
mod tests;
