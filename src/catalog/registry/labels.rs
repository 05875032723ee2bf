//! Labels: their names, the values of each, and which series have them. Counts are kept as series come, so that the
//! label that explodes is seen without looking at the series.

use hashbrown::HashMap;

use super::postings::Postings;
use super::texts::{Numbered, Text, Texts};

/// A label as a series has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    /// Number of the name among the names.
    pub name: u32,
    pub value: Text,
}

/// All labels.
#[derive(Default)]
pub(super) struct Labels {
    names: Numbered<Text>,
    of_name: Vec<Name>,
    pairs: Numbered<Pair>,
    of_pair: Vec<Postings>,
    /// How many values of a name (its number) came first with a metric (its number).
    brought: HashMap<(u32, u32), u32>,
    heap: usize,
}

#[derive(Default)]
struct Name {
    pairs: Vec<u32>,
    series: u32,
    /// The metric that brought most of its values, and how many.
    busiest: u32,
    busiest_values: u32,
}

/// What there is of a label name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelStats {
    pub label: String,
    /// Different values it has had.
    pub values: u64,
    /// Series that have it.
    pub series: u64,
    /// The metric that came first with most of its values, and with how many.
    pub metric: String,
    pub metric_values: u64,
    /// Its newest value.
    pub example: String,
}

impl Labels {
    pub fn find_name(&self, name: Text) -> Option<u32> {
        self.names.find(name)
    }

    pub fn find(&self, name: Text, value: Text) -> Option<u32> {
        self.pairs.find(Pair { name: self.names.find(name)?, value })
    }

    pub fn intern(&mut self, name: Text, value: Text) -> u32 {
        let (name, is_new) = self.names.intern(name);
        if is_new {
            self.of_name.push(Name::default());
        }
        self.pairs.intern(Pair { name, value }).0
    }

    pub fn pair(&self, pair: u32) -> Pair {
        self.pairs.get(pair)
    }

    pub fn name(&self, name: u32) -> Text {
        self.names.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = Text> + '_ {
        (0..self.names.len() as u32).map(|name| self.names.get(name))
    }

    /// The pairs of a name, in order of first sight.
    pub fn pairs_of(&self, name: u32) -> &[u32] {
        &self.of_name[name as usize].pairs
    }

    pub fn series_of(&self, pair: u32) -> &Postings {
        &self.of_pair[pair as usize]
    }

    /// Notes that `series`, which is new and of `metric`, has `pair`.
    pub fn add(&mut self, pair: u32, series: u32, metric: u32) {
        let number = self.pairs.get(pair).name;
        let name = &mut self.of_name[number as usize];
        name.series += 1;
        match self.of_pair.get_mut(pair as usize) {
            Some(postings) => self.heap += postings.push(series),
            None => {
                self.of_pair.push(Postings::new(series));
                let before = name.pairs.capacity();
                name.pairs.push(pair);
                self.heap += (name.pairs.capacity() - before) * 4;
                let brought = self.brought.entry((number, metric)).or_insert(0);
                *brought += 1;
                if *brought > name.busiest_values {
                    (name.busiest, name.busiest_values) = (metric, *brought);
                }
            }
        }
    }

    /// What there is of each name; `metric` gives the text of a metric's number.
    pub fn stats(&self, texts: &Texts, metric: impl Fn(u32) -> Text) -> Vec<LabelStats> {
        let stats = |(number, name): (usize, &Name)| {
            let text = |text: Text| texts.get(text).to_owned();
            LabelStats {
                label: text(self.names.get(number as u32)),
                values: name.pairs.len() as u64,
                series: u64::from(name.series),
                metric: text(metric(name.busiest)),
                metric_values: u64::from(name.busiest_values),
                example: name.pairs.last().map_or_else(String::new, |&pair| text(self.pairs.get(pair).value)),
            }
        };
        self.of_name.iter().enumerate().map(stats).collect()
    }

    /// Bytes of memory, spare room included.
    pub fn bytes(&self) -> usize {
        self.names.bytes()
            + self.of_name.capacity() * size_of::<Name>()
            + self.pairs.bytes()
            + self.of_pair.capacity() * size_of::<Postings>()
            + self.brought.capacity() / 7 * 8 * 13
            + self.heap
    }
}
