//! The series as a table in memory: which label columns there are, and what stands in them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::error::Result;

use crate::catalog::{Key, Registry};
use crate::model::SeriesId;

/// Columns of `metrics` that are not labels. A label of such a name is a column `label_NAME`.
const TAKEN: [&str; 3] = ["metric", "time", "value"];

/// A text for each series, each distinct one kept once.
pub(super) struct TextColumn {
    pub values: ArrayRef,
    /// Place in `values`, by series; `None` where the series has no such label.
    pub keys: Vec<Option<i32>>,
}

impl TextColumn {
    /// A row a series.
    pub fn array(mut self) -> Result<ArrayRef> {
        let keys = std::mem::take(&mut self.keys);
        self.of_keys(Int32Array::from(keys))
    }

    /// A row for each of these places in `values`.
    pub fn of_keys(&self, keys: Int32Array) -> Result<ArrayRef> {
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, self.values.clone())?))
    }
}

/// All series of a snapshot.
pub(super) struct Dimension {
    registry: Arc<Registry>,
    bound: usize,
}

pub(super) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The column that shows a label.
fn column_of(label: &str) -> String {
    if TAKEN.contains(&label) { format!("label_{label}") } else { label.to_owned() }
}

/// What the texts of a column are.
pub(super) fn key_of(column: &str) -> Key<'_> {
    match column {
        "metric" => Key::Metric,
        _ => Key::Label(column.strip_prefix("label_").filter(|label| TAKEN.contains(label)).unwrap_or(column)),
    }
}

impl Dimension {
    /// Of the series below `bound`.
    pub fn new(registry: Arc<Registry>, bound: usize) -> Self {
        Dimension { registry, bound }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Series are numbered below this.
    pub fn bound(&self) -> usize {
        self.bound
    }

    pub fn has_metric(&self, metric: &str) -> bool {
        self.registry.has_metric(metric)
    }

    /// Their names, by name.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.registry.all_values(Key::Metric).map(|(_, metric)| metric).collect()
    }

    pub fn measurements(&self) -> Vec<String> {
        self.registry.measurements()
    }

    /// Fields and label columns of a measurement; `None` where there is none of that name.
    pub fn measurement(&self, name: &str) -> Option<(Vec<String>, Vec<String>)> {
        let measurement = self.registry.measurement(name)?;
        Some((measurement.fields, measurement.labels.iter().map(|label| column_of(label)).collect()))
    }

    /// A field for each label, by name; of one metric's series where one is given.
    pub fn label_fields(&self, metric: Option<&str>) -> Vec<Field> {
        let names = self.registry.label_names(metric);
        names.iter().map(|label| Field::new(column_of(label), text_type(), true)).collect()
    }

    /// The column `metric` or a label's, for the series given.
    pub fn text(&self, column: &str, series: &[SeriesId]) -> TextColumn {
        let texts = self.registry.texts(key_of(column), series);
        TextColumn { values: Arc::new(StringArray::from(texts.values)), keys: texts.keys }
    }
}
