//! What a source told in one pass, in few pieces of memory: texts end to end, samples that point into them.

use std::ops::Range;

use super::SourceError;
use crate::flow::Refusal;
use crate::ingest::{About, Gather};
use crate::model::{Kind, Timestamp};

/// Samples of one pass on their way from a source to a [`Gather`].
#[derive(Debug, Default)]
pub struct Readings {
    texts: String,
    samples: Vec<Reading>,
    labels: Vec<(Place, Place)>,
    /// What went wrong although there is something to tell.
    pub fault: Option<SourceError>,
    /// What was not told although the source answered: a privilege or a version is missing. The source counts as
    /// degraded and is asked as often as before.
    pub lack: Option<SourceError>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    from: u32,
    to: u32,
}

#[derive(Debug)]
struct Reading {
    metric: Place,
    labels: Range<u32>,
    kind: Option<Kind>,
    unit: Place,
    help: Place,
    time: Option<Timestamp>,
    /// `None`: the series has ended.
    value: Option<f64>,
}

impl Readings {
    /// Adds a sample at the time of the pass.
    pub fn put(&mut self, metric: &str, labels: &[(&str, &str)], about: About<'_>, value: f64) {
        self.add(metric, labels, about, None, Some(value));
    }

    /// Adds a sample at a time of its own.
    pub fn put_at(&mut self, metric: &str, labels: &[(&str, &str)], about: About<'_>, time: Timestamp, value: f64) {
        self.add(metric, labels, about, Some(time), Some(value));
    }

    /// Says that a series has ended: it was there in the pass before and is no more.
    pub fn end(&mut self, metric: &str, labels: &[(&str, &str)]) {
        self.add(metric, labels, About::default(), None, None);
    }

    fn add(
        &mut self,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
        time: Option<Timestamp>,
        value: Option<f64>,
    ) {
        let metric = self.text(metric);
        let first = self.labels.len() as u32;
        for (name, text) in labels {
            let label = (self.text(name), self.text(text));
            self.labels.push(label);
        }
        let (unit, help) = (self.text(about.unit), self.text(about.help));
        let labels = first..self.labels.len() as u32;
        self.samples.push(Reading { metric, labels, kind: about.kind, unit, help, time, value });
    }

    /// Texts of one pass are far below 4 GiB: answers of sources are bounded.
    fn text(&mut self, text: &str) -> Place {
        let from = self.texts.len() as u32;
        self.texts.push_str(text);
        Place { from, to: self.texts.len() as u32 }
    }

    fn get(&self, place: Place) -> &str {
        &self.texts[place.from as usize..place.to as usize]
    }

    /// How many samples and ends there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Calls `look` with metric and labels of each sample; not of ends.
    pub(super) fn each(&self, mut look: impl FnMut(&str, &[(&str, &str)])) {
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for reading in self.samples.iter().filter(|reading| reading.value.is_some()) {
            labels.clear();
            let own = &self.labels[reading.labels.start as usize..reading.labels.end as usize];
            labels.extend(own.iter().map(|&(name, value)| (self.get(name), self.get(value))));
            look(self.get(reading.metric), &labels);
        }
    }

    /// Hands all on; those without a time of their own are of `now`, and every series gets the labels `extra` that it has
    /// not itself. The caller flushes.
    ///
    /// # Errors
    /// As [`Gather::sample_about`].
    pub fn gather(&self, now: Timestamp, extra: &[(String, String)], gather: &mut Gather<'_>) -> Result<(), Refusal> {
        let mut labels: Vec<(&str, &str)> = Vec::new();
        for reading in &self.samples {
            labels.clear();
            let own = &self.labels[reading.labels.start as usize..reading.labels.end as usize];
            labels.extend(own.iter().map(|&(name, value)| (self.get(name), self.get(value))));
            let added = extra.iter().filter(|(name, _)| !own.iter().any(|&(own, _)| self.get(own) == name));
            labels.extend(added.map(|(name, value)| (name.as_str(), value.as_str())));
            let (metric, time) = (self.get(reading.metric), reading.time.unwrap_or(now));
            match reading.value {
                Some(value) => {
                    let about =
                        About { kind: reading.kind, unit: self.get(reading.unit), help: self.get(reading.help) };
                    gather.sample_about(0, metric, &labels, about, time, value)?;
                }
                None => gather.end(metric, &labels, time)?,
            }
        }
        Ok(())
    }

    /// Samples as text, one a line, in the order they were put: for tests and for looking at.
    pub fn lines(&self) -> Vec<String> {
        let line = |reading: &Reading| {
            let own = &self.labels[reading.labels.start as usize..reading.labels.end as usize];
            let labels: Vec<String> =
                own.iter().map(|&(name, value)| format!("{}={:?}", self.get(name), self.get(value))).collect();
            let value = reading.value.map_or_else(|| "ended".to_owned(), |value| value.to_string());
            match labels.is_empty() {
                true => format!("{} {value}", self.get(reading.metric)),
                false => format!("{}{{{}}} {value}", self.get(reading.metric), labels.join(",")),
            }
        };
        self.samples.iter().map(line).collect()
    }
}
