//! Which series a predicate on metric and labels leaves.
//!
//! A predicate on one column is tried on the column's different texts (one that asks for given texts, on those alone);
//! the lists of series that have the texts for which it holds are laid together. Those of several predicates meet, those
//! on both sides of an `OR` join. What asks several columns at once is tried on the series that are left, and so is what
//! has more different texts to try than series are left.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, cast::as_boolean_array};
use datafusion::error::Result;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, Operator};
use datafusion::scalar::ScalarValue;

use super::dimension::{Dimension, TextColumn, key_of, text_type};
use crate::catalog::{Key, SeriesSet};
use crate::model::SeriesId;

impl Dimension {
    /// The series for which all `filters` hold, in the order of files: by metric, then number. The filters may name
    /// `metric` and labels.
    pub fn select(&self, state: &dyn Session, metric: Option<&str>, filters: &[Expr]) -> Result<Vec<SeriesId>> {
        let series: Vec<SeriesId> = self.select_set(state, metric, filters)?.iter().collect();
        Ok(self.registry().file_order(series).into_iter().map(|(_, id)| id).collect())
    }

    /// The same of each of several metrics; the filters are worked out once.
    pub fn select_each(&self, state: &dyn Session, metrics: &[String], filters: &[Expr]) -> Result<Vec<Vec<SeriesId>>> {
        let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
        let chosen = self.filtered(state, self.having(Key::Metric, &metrics), filters)?;
        let of_metric = |metric: &&str| {
            let mut set = self.having(Key::Metric, &[metric]);
            set.and(&chosen);
            set.iter().collect()
        };
        Ok(metrics.iter().map(of_metric).collect())
    }

    /// Those of one metric, or all, as a set.
    pub fn select_set(&self, state: &dyn Session, metric: Option<&str>, filters: &[Expr]) -> Result<SeriesSet> {
        let set = match metric {
            Some(metric) => self.having(Key::Metric, &[metric]),
            None => SeriesSet::all(self.bound()),
        };
        self.filtered(state, set, filters)
    }

    /// What filters leave of a set.
    fn filtered(&self, state: &dyn Session, mut set: SeriesSet, filters: &[Expr]) -> Result<SeriesSet> {
        let mut later = Vec::new();
        for filter in filters {
            match self.given(filter) {
                Some(found) => set.and(&found),
                None => later.push(filter),
            }
        }
        for filter in later {
            match self.tried(state, filter, set.len())? {
                Some(found) => set.and(&found),
                None => set = self.left(state, filter, &set)?,
            }
        }
        Ok(set)
    }

    fn having(&self, key: Key<'_>, texts: &[&str]) -> SeriesSet {
        let numbers: Vec<u32> = texts.iter().filter_map(|text| self.registry().value(key, text)).collect();
        self.of_numbers(key, &numbers)
    }

    fn of_numbers(&self, key: Key<'_>, numbers: &[u32]) -> SeriesSet {
        let mut set = SeriesSet::none(self.bound());
        self.registry().select(key, numbers, &mut set);
        set
    }

    /// Of a filter that asks for given texts, without trying any.
    fn given(&self, filter: &Expr) -> Option<SeriesSet> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
                let (column, text) = given_text(left, right).or_else(|| given_text(right, left))?;
                Some(self.having(key_of(column), &[text]))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                let mut set = self.given(left)?;
                set.and(&self.given(right)?);
                Some(set)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let mut set = self.given(left)?;
                set.or(&self.given(right)?);
                Some(set)
            }
            Expr::InList(InList { expr, list, negated: false }) => {
                let texts = list.iter().map(literal_text).collect::<Option<Vec<&str>>>()?;
                Some(self.having(key_of(column_name(expr)?), &texts))
            }
            _ => None,
        }
    }

    /// Of a filter, by trying the texts of its columns, if those are not more than `most`.
    fn tried(&self, state: &dyn Session, filter: &Expr, most: usize) -> Result<Option<SeriesSet>> {
        if let Some(set) = self.given(filter) {
            return Ok(Some(set));
        }
        let columns: BTreeSet<&str> = filter.column_refs().into_iter().map(|column| column.name.as_str()).collect();
        if let (Some(column), 1) = (columns.first(), columns.len()) {
            let few = self.registry().distinct(key_of(column)) <= most;
            return few.then(|| self.try_texts(state, filter, column)).transpose();
        }
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = filter else { return Ok(None) };
        if !matches!(op, Operator::And | Operator::Or) {
            return Ok(None);
        }
        let (Some(mut set), Some(other)) = (self.tried(state, left, most)?, self.tried(state, right, most)?) else {
            return Ok(None);
        };
        let meet = if *op == Operator::And { SeriesSet::and } else { SeriesSet::or };
        meet(&mut set, &other);
        Ok(Some(set))
    }

    fn try_texts(&self, state: &dyn Session, filter: &Expr, column: &str) -> Result<SeriesSet> {
        let (key, mut from, mut holding) = (key_of(column), 0, Vec::new());
        let one = [column.to_owned()];
        loop {
            let texts = self.registry().values(key, from);
            if texts.is_empty() {
                break;
            }
            from += texts.len();
            let (numbers, texts): (Vec<u32>, Vec<String>) = texts.into_iter().unzip();
            let column = TextColumn {
                keys: (0..texts.len() as i32).map(Some).collect(),
                values: Arc::new(StringArray::from(texts)),
            };
            let holds = evaluate(state, filter, &one, vec![column.array()?], numbers.len())?;
            holding.extend(numbers.iter().zip(holds.iter()).filter(|(_, holds)| *holds == Some(true)).map(|(n, _)| *n));
        }
        let mut set = self.of_numbers(key, &holding);
        let none = TextColumn { keys: vec![None], values: Arc::new(StringArray::from(Vec::<String>::new())) };
        if matches!(key, Key::Label(_)) && holds_at(&evaluate(state, filter, &one, vec![none.array()?], 1)?, 0) {
            set.or(&self.without(key));
        }
        Ok(set)
    }

    /// Series that have no text under a key.
    fn without(&self, key: Key<'_>) -> SeriesSet {
        let all: Vec<u32> = self.registry().all_values(key).map(|(number, _)| number).collect();
        let mut set = self.of_numbers(key, &all);
        set.invert();
        set
    }

    /// What a filter leaves of `set`, tried on every series of it.
    fn left(&self, state: &dyn Session, filter: &Expr, set: &SeriesSet) -> Result<SeriesSet> {
        let names: BTreeSet<String> = filter.column_refs().into_iter().map(|column| column.name.clone()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let series: Vec<SeriesId> = set.iter().collect();
        let columns = names.iter().map(|name| self.text(name, &series).array()).collect::<Result<Vec<_>>>()?;
        let holds = evaluate(state, filter, &names, columns, series.len())?;
        let mut left = SeriesSet::none(self.bound());
        series.iter().enumerate().filter(|(at, _)| holds_at(&holds, *at)).for_each(|(_, id)| left.insert(id.0));
        Ok(left)
    }
}

fn holds_at(holds: &BooleanArray, at: usize) -> bool {
    holds.is_valid(at) && holds.value(at)
}

fn evaluate(
    state: &dyn Session,
    filter: &Expr,
    names: &[String],
    columns: Vec<ArrayRef>,
    rows: usize,
) -> Result<BooleanArray> {
    let fields: Vec<Field> = names.iter().map(|name| Field::new(name, text_type(), true)).collect();
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    let expr = state.create_physical_expr(unqualified(filter.clone())?, &DFSchema::try_from(schema)?)?;
    let answer = expr.evaluate(&batch)?.into_array(rows)?;
    Ok(as_boolean_array(&answer)?.clone())
}

fn given_text<'e>(column: &'e Expr, text: &'e Expr) -> Option<(&'e str, &'e str)> {
    Some((column_name(column)?, literal_text(text)?))
}

/// The column, however its texts are packed.
fn column_name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        Expr::Cast(Cast { expr, field, .. }) if is_text(field.data_type()) => column_name(expr),
        _ => None,
    }
}

fn is_text(to: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType as D;
    match to {
        D::Utf8 | D::LargeUtf8 | D::Utf8View => true,
        D::Dictionary(_, of) => is_text(of),
        _ => false,
    }
}

fn literal_text(expr: &Expr) -> Option<&str> {
    let Expr::Literal(literal, _) = expr else { return None };
    fn text(literal: &ScalarValue) -> Option<&str> {
        match literal {
            ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text.as_deref(),
            ScalarValue::Dictionary(_, inner) => text(inner),
            _ => None,
        }
    }
    text(literal)
}

/// The expression with its columns' tables taken off.
fn unqualified(expr: Expr) -> Result<Expr> {
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
