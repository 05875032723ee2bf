//! Series: a metric, its labels and what is known of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Number of a series in this store: dense, from 0, in order of first sight.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SeriesId(pub u32);

impl SeriesId {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a series' numbers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Only goes up, but for restarts from zero.
    Counter,
    #[default]
    Gauge,
    Histogram,
    Summary,
    Timer,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary, Kind::Timer];

    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
            Kind::Timer => "timer",
        }
    }

    /// The kind that Prometheus' naming rules give a metric: `…_total` counts.
    pub fn of_metric(metric: &str) -> Kind {
        if metric.ends_with("_total") || metric.ends_with("_bucket") { Kind::Counter } else { Kind::Gauge }
    }
}

/// What a source says of a metric besides its numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Description {
    pub kind: Kind,
    /// As in `seconds`, `bytes`; empty where nobody said.
    pub unit: Box<str>,
    pub help: Box<str>,
}

impl Description {
    /// Appends it as bytes, as `store/FORMAT.md` draws them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        for text in [&self.unit, &self.help] {
            out.extend_from_slice(text.as_bytes());
            out.push(END);
        }
    }

    /// Reads what [`Description::encode`] wrote; `None` where it is not that.
    pub fn decode(bytes: &[u8]) -> Option<Description> {
        let (&kind, rest) = bytes.split_first()?;
        let kind = Kind::ALL.into_iter().find(|known| *known as u8 == kind)?;
        let mut texts = rest.split(|&byte| byte == END);
        let mut text = || Some(Box::from(std::str::from_utf8(texts.next()?).ok()?));
        let (unit, help) = (text()?, text()?);
        (texts.next() == Some(&[]) && texts.next().is_none()).then_some(Description { kind, unit, help })
    }
}

/// Names and values of labels, sorted by name, each name once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Sorts by name; of two values for one name the later stays; an empty value is no label.
    pub fn new<N: Into<Box<str>>, V: Into<Box<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut all: Vec<(Box<str>, Box<str>)> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        all.reverse();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, kept| later.0 == kept.0);
        all.retain(|(_, value)| !value.is_empty());
        Labels(all.into())
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|at| &*self.0[at].1)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Labels that a series has at most.
pub const LABELS_MAX: usize = 1000;
/// Bytes that its metric and the names and values of its labels have at most, together.
pub const SERIES_BYTES_MAX: usize = 64 << 10;

/// A series of more than [`LABELS_MAX`] labels, or of more than [`SERIES_BYTES_MAX`] bytes: none is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "it has {labels} labels and {bytes} bytes of names and values, where a series has at most {LABELS_MAX} and {SERIES_BYTES_MAX}: send fewer or shorter labels"
)]
pub struct Oversize {
    pub labels: usize,
    pub bytes: usize,
}

impl Oversize {
    /// Whether a series of so many labels and bytes may be.
    ///
    /// # Errors
    /// What it has, where that is too much.
    pub const fn check(labels: usize, bytes: usize) -> Result<(), Oversize> {
        if labels > LABELS_MAX || bytes > SERIES_BYTES_MAX { Err(Oversize { labels, bytes }) } else { Ok(()) }
    }
}

/// What the catalog keeps of a series. Two definitions with the same metric and labels are the same series.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SeriesDef {
    pub metric: Box<str>,
    pub labels: Labels,
    pub kind: Kind,
    /// As in `seconds`, `bytes`; empty where nobody said.
    pub unit: Box<str>,
    pub help: Box<str>,
    /// Length of the part of `metric` that names its measurement, where the source had fields:
    /// 3 in `cpu_usage_user`. 0 where it had none.
    pub measurement_len: u16,
}

impl SeriesDef {
    /// Kind by the metric's name, no unit, no help, no measurement.
    pub fn new(metric: impl Into<Box<str>>, labels: Labels) -> Self {
        let metric = metric.into();
        let kind = Kind::of_metric(&metric);
        SeriesDef { metric, labels, kind, unit: "".into(), help: "".into(), measurement_len: 0 }
    }

    /// The part of the metric that names its measurement; empty where the source had none.
    pub fn measurement(&self) -> &str {
        self.metric.get(..usize::from(self.measurement_len)).unwrap_or("")
    }

    /// Whether it is no larger than a series may be.
    ///
    /// # Errors
    /// How large it is.
    pub fn check_size(&self) -> Result<(), Oversize> {
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        Oversize::check(self.labels.iter().len(), self.metric.len() + labels)
    }

    /// The metric and labels as bytes, the same for the same series and different for different ones:
    /// metric, then name and value of each label, each ended by the byte 0xFF, which is in no UTF-8 text.
    pub fn identity(&self) -> Vec<u8> {
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        let mut bytes = Vec::with_capacity(self.metric.len() + 1 + labels);
        self.identity_into(usize::MAX, &mut bytes);
        bytes
    }

    /// With so many of its labels at most.
    fn identity_into(&self, labels_max: usize, out: &mut Vec<u8>) {
        let labels = self.labels.iter().take(labels_max).flat_map(|(name, value)| [name, value]);
        for text in std::iter::once(&*self.metric).chain(labels) {
            out.extend_from_slice(text.as_bytes());
            out.push(END);
        }
    }
}

/// Ends each text in an encoded definition; in no UTF-8 text.
const END: u8 = 0xFF;

impl SeriesDef {
    /// Appends the definition as bytes, as `store/FORMAT.md` draws them. Labels after the 65,535th, which no source takes,
    /// are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend_from_slice(&self.measurement_len.to_le_bytes());
        let labels = u16::try_from(self.labels.iter().len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&labels.to_le_bytes());
        for text in [&self.unit, &self.help] {
            out.extend_from_slice(text.as_bytes());
            out.push(END);
        }
        self.identity_into(labels.into(), out);
    }

    /// Reads what [`SeriesDef::encode`] wrote from the front of `bytes`; `None` where they are not that.
    pub fn decode(bytes: &mut &[u8]) -> Option<SeriesDef> {
        let (head, mut rest) = bytes.split_first_chunk::<5>()?;
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == head[0])?;
        let mut text = || {
            let end = rest.iter().position(|&byte| byte == END)?;
            let text = std::str::from_utf8(&rest[..end]).ok()?;
            rest = &rest[end + 1..];
            Some(Box::<str>::from(text))
        };
        let (unit, help, metric) = (text()?, text()?, text()?);
        let count = u16::from_le_bytes([head[3], head[4]]);
        let labels = (0..count).map(|_| Some((text()?, text()?))).collect::<Option<Vec<_>>>()?;
        *bytes = rest;
        let measurement_len = u16::from_le_bytes([head[1], head[2]]);
        Some(SeriesDef { metric, labels: Labels::new(labels), kind, unit, help, measurement_len })
    }
}

impl fmt::Display for SeriesDef {
    /// As Prometheus writes it: `cpu_usage_user{host="a"}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.metric)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        for (at, (name, value)) in self.labels.iter().enumerate() {
            let open = if at == 0 { "{" } else { "," };
            write!(f, "{open}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_the_last_of_a_name_stays() {
        let labels = Labels::new([("b", "1"), ("a", "2"), ("b", "3"), ("empty", "")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("empty"), None);
    }

    #[test]
    fn definitions_decode_to_what_was_encoded() {
        let mut def = SeriesDef::new("cpu_usage", Labels::new([("host", "a"), ("rack", "1")]));
        def.measurement_len = 3;
        def.unit = "percent".into();
        let mut bytes = Vec::new();
        def.encode(&mut bytes);
        let all = bytes.clone();
        assert_eq!(SeriesDef::decode(&mut &bytes[..]), Some(def));
        assert!((0..all.len()).all(|cut| SeriesDef::decode(&mut &all[..cut]).is_none()));
    }

    #[test]
    fn a_series_of_too_many_labels_or_bytes_is_told_and_encodes_even_so() {
        let of = |count: usize| Labels::new((0..count).map(|at| (format!("l{at:06}"), "v")));
        assert_eq!(SeriesDef::new("m", of(LABELS_MAX)).check_size(), Ok(()));
        let over = SeriesDef::new("m", of(LABELS_MAX + 1)).check_size().unwrap_err();
        assert_eq!(over, Oversize { labels: LABELS_MAX + 1, bytes: 8 * (LABELS_MAX + 1) + 1 });
        let long = |bytes: usize| SeriesDef::new("m", Labels::new([("a", "x".repeat(bytes - 2))]));
        assert_eq!(long(SERIES_BYTES_MAX).check_size(), Ok(()));
        assert!(long(SERIES_BYTES_MAX + 1).check_size().is_err());
        let mut bytes = Vec::new();
        SeriesDef::new("m", of(70_000)).encode(&mut bytes);
        let decoded = SeriesDef::decode(&mut &bytes[..]).unwrap();
        assert_eq!(decoded.labels.iter().len(), 65_535);
    }

    #[test]
    fn descriptions_decode_to_what_was_encoded() {
        let described = Description { kind: Kind::Timer, unit: "seconds".into(), help: "How long".into() };
        let mut bytes = Vec::new();
        described.encode(&mut bytes);
        assert_eq!(Description::decode(&bytes), Some(described));
        assert!((0..bytes.len()).all(|cut| Description::decode(&bytes[..cut]).is_none()));
    }

    #[test]
    fn identity_tells_series_apart() {
        let a = SeriesDef::new("m", Labels::new([("a", "bc")]));
        let b = SeriesDef::new("m", Labels::new([("ab", "c")]));
        assert_ne!(a.identity(), b.identity());
        assert_eq!(a.to_string(), r#"m{a="bc"}"#);
    }
}
