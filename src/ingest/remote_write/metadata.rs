//! What a request says of metrics: in 1.0 of whole families, apart from samples; in 2.0 of the metric of each series.

use super::wire::{Broken, Message, Value};
use crate::flow::Intake;
use crate::ingest::gather::About;
use crate::ingest::prometheus_text::{kind_of_part, unit_of_part};
use crate::model::{Description, Kind};

/// Type of a family by its number in both versions: what its metrics append to its name, and its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct FamilyType(u8);

const COUNTER: FamilyType = FamilyType(1);
const HISTOGRAM: FamilyType = FamilyType(3);
const GAUGE_HISTOGRAM: FamilyType = FamilyType(4);
const SUMMARY: FamilyType = FamilyType(5);

impl FamilyType {
    fn of_number(number: u64) -> Self {
        FamilyType(u8::try_from(number).unwrap_or_default())
    }

    fn kind(self) -> Option<Kind> {
        match self.0 {
            1 => Some(Kind::Counter),
            // Buckets of a gauge histogram go down as well; information and states are gauges of one.
            2 | 4 | 6 | 7 => Some(Kind::Gauge),
            3 => Some(Kind::Histogram),
            5 => Some(Kind::Summary),
            _ => None,
        }
    }

    const fn suffixes(self) -> &'static [&'static str] {
        match self {
            COUNTER => &["_total", "_created"],
            HISTOGRAM => &["_bucket", "_count", "_sum", "_created"],
            GAUGE_HISTOGRAM => &["_bucket", "_gcount", "_gsum"],
            SUMMARY => &["_count", "_sum", "_created"],
            _ => &[],
        }
    }
}

/// What 1.0 says of a family: `1 type, 2 metric_family_name, 4 help, 5 unit`.
#[derive(Debug, Default)]
pub(super) struct Family<'b> {
    family: FamilyType,
    name: &'b str,
    unit: &'b str,
    help: &'b str,
}

impl<'b> Family<'b> {
    pub fn decode(bytes: &'b [u8]) -> Result<Self, Broken> {
        let (mut fields, mut said) = (Message::new(bytes), Family::default());
        while let Some((number, value)) = fields.next()? {
            let text = |text| str::from_utf8(text).map_err(|_| Broken);
            match (number, value) {
                (1, Value::Varint(number)) => said.family = FamilyType::of_number(number),
                (2, Value::Bytes(name)) => said.name = text(name)?,
                (4, Value::Bytes(help)) => said.help = text(help)?,
                (5, Value::Bytes(unit)) => said.unit = text(unit)?,
                _ => {}
            }
        }
        Ok(said)
    }

    /// Describes each metric that the family may have.
    pub fn describe(&self, intake: &dyn Intake) {
        if self.name.is_empty() {
            return;
        }
        describe_part(intake, self.name, self.family, self.unit, self.help);
        for suffix in self.family.suffixes().iter().filter(|suffix| !self.name.ends_with(**suffix)) {
            describe_part(intake, &format!("{}{suffix}", self.name), self.family, self.unit, self.help);
        }
    }
}

/// What 2.0 says with a series: `1 type, 3 help_ref, 4 unit_ref`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Said {
    pub family: FamilyType,
    pub help_ref: u32,
    pub unit_ref: u32,
}

impl Said {
    /// From the field 5 of a time series; `None` where it has none that reads.
    pub fn of_series(series: &[u8]) -> Option<Self> {
        let mut fields = Message::new(series);
        while let Ok(Some(field)) = fields.next() {
            if let (5, Value::Bytes(metadata)) = field {
                return Self::decode(metadata).ok();
            }
        }
        None
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Broken> {
        let (mut fields, mut said) = (Message::new(bytes), Said::default());
        let place = |number| u32::try_from(number).map_err(|_| Broken);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Varint(number)) => said.family = FamilyType::of_number(number),
                (3, Value::Varint(number)) => said.help_ref = place(number)?,
                (4, Value::Varint(number)) => said.unit_ref = place(number)?,
                _ => {}
            }
        }
        Ok(said)
    }

    /// The place 0 holds the empty text.
    pub fn is_nothing(self) -> bool {
        self == Said::default()
    }
}

/// The key under which it is known that this was said. Keys of series of either version do not begin so.
pub(super) fn said_key(key: &mut Vec<u8>, metric: &str, family: FamilyType, unit: &str, help: &str) {
    key.clear();
    key.extend_from_slice(&[0xFE, family.0]);
    for text in [metric, unit, help] {
        key.extend_from_slice(text.as_bytes());
        key.push(0xFF);
    }
}

/// What is known of a metric by what is said of its family.
pub(super) fn about_part<'t>(
    metric: &str,
    labels: &[(&str, &str)],
    family: FamilyType,
    unit: &'t str,
    help: &'t str,
) -> About<'t> {
    let suffix = family.suffixes().iter().find(|suffix| metric.ends_with(**suffix)).unwrap_or(&"");
    let kind = family.kind().and_then(|kind| kind_of_part(kind, suffix, labels));
    About { kind, unit: unit_of_part(suffix, unit), help }
}

/// Says it of the metric, whatever its labels.
pub(super) fn describe_part(intake: &dyn Intake, metric: &str, family: FamilyType, unit: &str, help: &str) {
    let about = about_part(metric, &[], family, unit, help);
    let kind = about.kind.unwrap_or_else(|| Kind::of_metric(metric));
    intake.describe(metric, &Description { kind, unit: about.unit.into(), help: help.into() });
}
