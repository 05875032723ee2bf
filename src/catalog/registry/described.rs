//! Metrics that a source described apart from their samples: kind, unit and help count for all series of the metric.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::texts::Text;

/// Metrics described; those of more are told by their series alone.
const METRICS_MAX: usize = 65_536;

/// What is known of a series besides metric and labels.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct About {
    pub kind: u8,
    pub measurement_len: u16,
    pub unit: Text,
    pub help: Text,
}

/// What is said of metrics, and of which since the last commit.
#[derive(Default)]
pub(super) struct DescribedMetrics {
    of: HashMap<Text, About>,
    new: BTreeSet<Text>,
}

impl DescribedMetrics {
    pub fn get(&self, metric: Text) -> Option<About> {
        self.of.get(&metric).copied()
    }

    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether there was room for it.
    pub fn set(&mut self, metric: Text, about: About) -> bool {
        if self.of.len() >= METRICS_MAX && !self.of.contains_key(&metric) {
            return false;
        }
        self.of.insert(metric, about);
        self.new.insert(metric);
        true
    }

    /// Those set since this was called last, or `all`.
    pub fn take_new(&mut self, all: bool) -> Vec<(Text, About)> {
        if all {
            return self.of.iter().map(|(&metric, &about)| (metric, about)).collect();
        }
        let new = std::mem::take(&mut self.new);
        new.into_iter().filter_map(|metric| Some((metric, self.get(metric)?))).collect()
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.of.capacity() * (size_of::<(Text, About)>() + 1) + self.new.len() * 16
    }
}
