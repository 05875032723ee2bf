//! Prometheus remote write, versions 1.0 and 2.0: the plain bytes of a request become samples.
//!
//! ```text
//! 1.0  prometheus.WriteRequest               2.0  io.prometheus.write.v2.Request
//!        1 timeseries*                              4 symbols*        texts, the first one empty
//!          1 labels*      1 name  2 value           5 timeseries*
//!          2 samples*     1 value 2 ms                1 labels_refs   places of name, value, name, value, …
//!          3 exemplars*                               2 samples*      1 value 2 ms
//!          4 histograms*  `native`                    3 histograms*   `native`
//!        3 metadata*                                  4 exemplars*
//!          1 type  2 family  4 help  5 unit           5 metadata      1 type  3 help_ref  4 unit_ref
//! ```
//!
//! A series is known by the bytes of its labels (1.0) or by their texts (2.0): a known one costs one lookup, and neither
//! it nor a sample an allocation. The staleness marker ends a series; other NaN and infinities are counted and left out,
//! since a refusal would cost the whole request. Exemplars are counted. Labels may come in any order.

#[cfg(test)]
mod messages;
mod metadata;
mod native;
mod reader;
mod v1;
mod v2;
pub(super) mod wire;

use reader::Reader;

use super::Known;
use super::gather::{About, Gather};
use crate::flow::Refusal;
use crate::model::{Labels, Oversize, SeriesDef, Timestamp};

/// A version of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoteWrite {
    V1,
    V2,
}

/// What was taken of a request, and what was left out on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Staleness markers among them.
    pub samples: u64,
    pub histograms: u64,
    /// Counted, not stored.
    pub exemplars: u64,
    /// NaN and infinities, which are left out.
    pub nonfinite: u64,
}

impl RemoteWrite {
    /// By the header `Content-Type`; empty is 1.0, as its first senders had it. `None` for other bodies.
    pub fn of_content_type(text: &str) -> Option<RemoteWrite> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
            return None;
        }
        let parameters = parts.filter_map(|part| part.split_once('='));
        let mut protos = parameters.filter(|(name, _)| name.eq_ignore_ascii_case("proto"));
        let Some((_, proto)) = protos.next() else { return Some(RemoteWrite::V1) };
        let is = |name: &str| proto.trim_matches('"').eq_ignore_ascii_case(name);
        match () {
            () if is("prometheus.WriteRequest") => Some(RemoteWrite::V1),
            () if is("io.prometheus.write.v2.Request") => Some(RemoteWrite::V2),
            () => None,
        }
    }

    /// Reads the body of a request, without its compression. What is wrong with it is a fault of `gather`, with the number
    /// of the time series, from 1, as its line; what is good is taken.
    ///
    /// # Errors
    /// Where samples are not taken now, or ever.
    pub fn read(self, body: &[u8], now: Timestamp, known: &Known, gather: &mut Gather<'_>) -> Result<Written, Refusal> {
        known.age(now);
        let mut reader = Reader::new(known);
        let read = match self {
            RemoteWrite::V1 => v1::read(body, &mut reader, gather),
            RemoteWrite::V2 => v2::read(body, &mut reader, gather),
        };
        reader.share();
        read.map(|()| reader.written)
    }
}

/// A fault of the whole body.
fn broken_at(at: usize, body: &[u8]) -> String {
    format!(
        "the request breaks off or is no protobuf from byte {at} of {} on: what was before it is stored",
        body.len()
    )
}

/// The label that is the metric's name.
const NAME: &str = "__name__";

/// Metric and labels as a request has them.
struct Names<'t> {
    metric: &'t str,
    /// Sorted by name, each name once.
    labels: Vec<(&'t str, &'t str)>,
}

impl<'t> Names<'t> {
    fn of(pairs: Vec<(&'t str, &'t str)>) -> Result<Self, String> {
        let bytes = pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        // The metric's name is a label here.
        Oversize::check(pairs.len().saturating_sub(1), bytes.saturating_sub(NAME.len()))
            .map_err(|oversize| oversize.to_string())?;
        let mut names = Names { metric: "", labels: pairs };
        names.labels.sort_by_key(|&(name, _)| name);
        if let Some(twice) = names.labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("the label `{}` is there twice: send it once", twice[0].0));
        }
        if names.labels.first().is_some_and(|(name, _)| name.is_empty()) {
            return Err("a label has no name: send each with one".to_owned());
        }
        let at = names.labels.binary_search_by_key(&NAME, |&(name, _)| name);
        names.metric = at.map_or("", |at| names.labels.remove(at).1);
        if names.metric.is_empty() {
            let labels: Vec<String> = names.labels.iter().take(3).map(|(n, v)| format!("{n}={v:?}")).collect();
            return Err(format!("no metric's name: send the label `__name__` beside {{{}}}", labels.join(",")));
        }
        Ok(names)
    }

    fn def(&self, about: About<'_>) -> SeriesDef {
        let mut def = SeriesDef::new(self.metric, Labels::new(self.labels.iter().copied()));
        def.kind = about.kind.unwrap_or(def.kind);
        def.unit = about.unit.into();
        def.help = about.help.into();
        def
    }
}

#[cfg(test)]
mod tests;
