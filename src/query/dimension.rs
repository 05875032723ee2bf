//! The series as a table in memory: which label columns there are, and which series a predicate leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, cast::as_boolean_array};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use hashbrown::HashMap;

use crate::model::{SeriesDef, SeriesId};

/// Columns of `metrics` that are not labels. A label of such a name is a column `label_NAME`.
const TAKEN: [&str; 3] = ["metric", "time", "value"];

/// A text for each series, each distinct one kept once.
pub(super) struct TextColumn {
    pub values: ArrayRef,
    /// Place in `values`, by series; `None` where the series has no such label.
    pub keys: Vec<Option<i32>>,
}

/// All series of a snapshot.
pub(super) struct Dimension {
    defs: Vec<Arc<SeriesDef>>,
    labels: BTreeSet<String>,
    metrics: OnceLock<BTreeSet<String>>,
}

pub(super) fn text_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The column that shows a label.
fn column_of(label: &str) -> String {
    if TAKEN.contains(&label) { format!("label_{label}") } else { label.to_owned() }
}

fn label_of(column: &str) -> &str {
    column.strip_prefix("label_").filter(|label| TAKEN.contains(label)).unwrap_or(column)
}

impl Dimension {
    pub fn new(defs: Vec<Arc<SeriesDef>>) -> Self {
        let mut labels = BTreeSet::new();
        for def in &defs {
            for (label, _) in def.labels.iter() {
                if !labels.contains(label) {
                    labels.insert(label.to_owned());
                }
            }
        }
        Dimension { defs, labels, metrics: OnceLock::new() }
    }

    pub fn def(&self, series: SeriesId) -> &SeriesDef {
        &self.defs[series.index()]
    }

    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        let all = || self.defs.iter().map(|def| String::from(&*def.metric)).collect();
        self.metrics.get_or_init(all).iter().map(String::as_str)
    }

    /// Fields and labels of a measurement; no fields where there is none of that name.
    pub fn measurement(&self, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut fields, mut labels) = (BTreeSet::new(), BTreeSet::new());
        for def in &self.defs {
            let of_it = usize::from(def.measurement_len) == name.len() && def.metric.starts_with(name);
            if let Some(field) = def.metric.get(name.len() + 1..).filter(|_| of_it) {
                fields.insert(field.to_owned());
                labels.extend(def.labels.iter().map(|(label, _)| column_of(label)));
            }
        }
        (fields, labels)
    }

    /// `label` fields for the series that pass, by name.
    pub fn label_fields(&self, of: impl Fn(&SeriesDef) -> bool, all: bool) -> Vec<Field> {
        let names: Vec<String> = if all {
            self.labels.iter().cloned().collect()
        } else {
            let passing = self.defs.iter().filter(|def| of(def));
            let names: BTreeSet<&str> = passing.flat_map(|def| def.labels.iter().map(|(label, _)| label)).collect();
            names.into_iter().map(str::to_owned).collect()
        };
        names.iter().map(|label| Field::new(column_of(label), text_type(), true)).collect()
    }

    /// The column `metric` or a label's, for the series given.
    pub fn text(&self, column: &str, series: impl Iterator<Item = SeriesId>) -> TextColumn {
        let label = label_of(column);
        let is_metric = column == "metric";
        let mut places: HashMap<&str, i32> = HashMap::new();
        let mut values: Vec<&str> = Vec::new();
        let mut key = |def| {
            let def: &SeriesDef = def;
            let text = if is_metric { Some(&*def.metric) } else { def.labels.get(label) }?;
            Some(*places.entry(text).or_insert_with(|| {
                values.push(text);
                values.len() as i32 - 1
            }))
        };
        let keys = series.map(|id| key(&*self.defs[id.index()])).collect();
        TextColumn { values: Arc::new(StringArray::from(values)), keys }
    }

    /// The series for which all `filters` hold, in the order of files: by metric, then number. The filters may name
    /// `metric` and labels.
    pub fn select(&self, state: &dyn Session, metric: Option<&str>, filters: &[Expr]) -> Result<Vec<SeriesId>> {
        let of_metric = |id: &SeriesId| metric.is_none_or(|metric| *self.def(*id).metric == *metric);
        let mut series: Vec<SeriesId> = (0..self.defs.len() as u32).map(SeriesId).filter(of_metric).collect();
        for filter in filters {
            let holds = self.holds(state, filter, &series)?;
            let kept = series.iter().zip(holds.iter()).filter(|(_, holds)| *holds == Some(true));
            series = kept.map(|(id, _)| *id).collect();
        }
        let mut ranks: BTreeMap<&str, Vec<SeriesId>> = BTreeMap::new();
        for id in series {
            ranks.entry(&self.def(id).metric).or_default().push(id);
        }
        Ok(ranks.into_values().flatten().collect())
    }

    fn holds(&self, state: &dyn Session, filter: &Expr, series: &[SeriesId]) -> Result<BooleanArray> {
        let names: BTreeSet<String> = filter.column_refs().into_iter().map(|column| column.name.clone()).collect();
        let fields: Vec<Field> = names.iter().map(|name| Field::new(name, text_type(), true)).collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let columns = names.iter().map(|name| -> Result<ArrayRef> {
            let text = self.text(name, series.iter().copied());
            Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(Int32Array::from(text.keys), text.values)?))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(series.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let bare = unqualified(filter.clone())?;
        let expr = state.create_physical_expr(bare, &DFSchema::try_from(schema)?)?;
        let answer = expr.evaluate(&batch)?.into_array(series.len())?;
        Ok(as_boolean_array(&answer)?.clone())
    }
}

/// The expression with its columns' tables taken off.
fn unqualified(expr: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let bare = expr.transform(|node| {
        Ok(match node {
            Expr::Column(column) if column.relation.is_some() => {
                Transformed::yes(Expr::Column(datafusion::common::Column::new_unqualified(column.name)))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(bare.data)
}
