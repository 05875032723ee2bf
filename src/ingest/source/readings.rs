//! What a source told in one pass, in few pieces of memory: texts end to end, samples that point into them.

use std::ops::Range;

use super::SourceError;
use crate::flow::Refusal;
use crate::ingest::{About, Gather};
use crate::model::{Kind, Timestamp};

/// Bytes of names, labels, units and helps of the samples of a pass: a short answer may make much of them.
pub(in crate::ingest) const TEXTS_MAX: usize = 64 << 20;

/// Bytes of a help that are kept: it is stored with each series.
const HELP_MAX: usize = 1024;

/// Samples of one pass on their way from a source to a [`Gather`].
#[derive(Debug, Default)]
pub struct Readings {
    texts: String,
    samples: Vec<Reading>,
    labels: Vec<(Place, Place)>,
    /// Bytes of texts of samples. Series that ended were within the bound in the pass before.
    weight: usize,
    is_overfull: bool,
    /// Those of the sample before.
    unit: Place,
    help: Place,
    /// What went wrong although there is something to tell.
    pub fault: Option<SourceError>,
    /// What was not told although the source answered: a privilege or a version is missing. The source counts as
    /// degraded and is asked as often as before.
    pub lack: Option<SourceError>,
}

#[derive(Debug, Clone, Copy, Default)]
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
    /// Adds a sample at the time of the pass. Beyond the bound on texts none are taken any more: see
    /// [`Readings::is_overfull`].
    pub fn put(&mut self, metric: &str, labels: &[(&str, &str)], about: About<'_>, value: f64) {
        self.add_sample(metric, labels, about, None, value);
    }

    /// Adds a sample at a time of its own.
    pub fn put_at(&mut self, metric: &str, labels: &[(&str, &str)], about: About<'_>, time: Timestamp, value: f64) {
        self.add_sample(metric, labels, about, Some(time), value);
    }

    fn add_sample(
        &mut self,
        metric: &str,
        labels: &[(&str, &str)],
        about: About<'_>,
        time: Option<Timestamp>,
        value: f64,
    ) {
        if !self.is_overfull {
            let before = self.texts.len();
            self.add(metric, labels, about, time, Some(value));
            self.weight += self.texts.len() - before;
            self.is_overfull = self.weight > TEXTS_MAX;
        }
    }

    /// Whether samples were left out because their texts were too long together: nothing of the pass counts.
    pub fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// The same where all samples were taken.
    ///
    /// # Errors
    /// That their texts were too long.
    pub(in crate::ingest) fn whole(self) -> Result<Readings, SourceError> {
        if self.is_overfull { Err(too_long()) } else { Ok(self) }
    }

    /// Says what was wrong with an answer: a lack where samples were told even so, else a fault.
    pub(in crate::ingest) fn tell(&mut self, wrong: Option<SourceError>) {
        if self.is_empty() {
            self.fault = wrong;
        } else {
            self.lack = wrong;
        }
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
        // Samples of a family stand together: what it is about is kept once.
        self.unit = self.again(self.unit, about.unit);
        self.help = self.again(self.help, &about.help[..about.help.floor_char_boundary(HELP_MAX)]);
        let (unit, help) = (self.unit, self.help);
        let labels = first..self.labels.len() as u32;
        self.samples.push(Reading { metric, labels, kind: about.kind, unit, help, time, value });
    }

    /// Texts of one pass are far below 4 GiB: at most [`TEXTS_MAX`] of samples, and as much of what ended.
    fn text(&mut self, text: &str) -> Place {
        let from = self.texts.len() as u32;
        self.texts.push_str(text);
        Place { from, to: self.texts.len() as u32 }
    }

    /// The place of a text that may be the same as the one before it.
    fn again(&mut self, last: Place, text: &str) -> Place {
        if self.get(last) == text { last } else { self.text(text) }
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

/// Why nothing of a pass counts whose texts are beyond the bound.
pub(super) fn too_long() -> SourceError {
    let limit = TEXTS_MAX >> 20;
    SourceError::new(format!(
        "names and labels of its samples are longer than {limit} MiB together, and nothing of it is taken: ask for less"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_beyond_the_bound_fail_the_pass_and_take_no_memory() {
        let (mut readings, long) = (Readings::default(), "x".repeat(1 << 20));
        (0..63).for_each(|_| readings.put(&long, &[("a", "b")], About::default(), 1.0));
        assert!(!readings.is_overfull());
        let help = "é".repeat(HELP_MAX);
        (0..100_000).for_each(|_| readings.put("m", &[], About { help: &help, ..About::default() }, 1.0));
        assert!(!readings.is_overfull(), "a help is cut, and kept once");
        (0..10_000).for_each(|_| readings.put("m", &[("a", &long)], About::default(), 1.0));
        assert!(readings.is_overfull() && readings.texts.len() <= TEXTS_MAX + (1 << 20));
        readings.end(&long, &[]);
        assert!(readings.len() < 100_070, "only what ended is told");
        assert!(readings.whole().unwrap_err().0.contains("longer than 64 MiB together"));
    }
}
