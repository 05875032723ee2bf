//! Answers that were given before, for statements whose files are what they were: the same statement, the same plan, the same
//! series and span of time, the same segments, and nothing of it in memory. So there is no row in an answer that is not so
//! any more, and none missing; what a statement finds in memory is always read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use futures::{StreamExt, stream};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::engine::Dialect;
use super::tracks::TracksExec;
use crate::model::{SeriesId, Span};
use crate::store::Snapshot;

/// The part of all that one answer may take.
const SHARE_OF_ONE: usize = 8;

/// Which answers go when there is no more room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// Those asked for least often, of late (TinyLFU).
    #[default]
    Lfu,
    /// Those not asked for the longest.
    Lru,
}

/// How answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CacheSpec {
    /// Bytes; none are kept without.
    pub bytes: usize,
    pub policy: CachePolicy,
    /// How long an answer is kept at most.
    pub ttl: Option<Duration>,
}

/// What tells an answer from others.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    dialect: Dialect,
    sql: Arc<str>,
    /// With what goes in for `now()` and the like.
    plan: Arc<str>,
    /// SHA-256 of the series, their span and their segments.
    inputs: [u8; 32],
}

/// By which an answer is found again without planning: what its plan read, and how many series there were to choose from.
struct Shortcut {
    series: usize,
    scans: Vec<Scanned>,
    key: Key,
}

/// What one scan of a plan read.
#[derive(Clone)]
pub(super) struct Scanned {
    /// All it would read if they had samples there.
    pub series: Arc<[SeriesId]>,
    pub span: Span,
    /// Numbers of the segments.
    pub segments: Vec<u64>,
}

impl Shortcut {
    /// Whether a plan of now would read the same.
    fn holds(&self, snapshot: &Snapshot) -> bool {
        let is_so = |scan: &Scanned| {
            let segments = snapshot.segments_alone(scan.series.iter().copied(), scan.span);
            segments.is_some_and(|segments| segments == scan.segments)
        };
        self.series == snapshot.series_count() && self.scans.iter().all(is_so)
    }

    fn bytes(&self) -> usize {
        let scans = self.scans.iter().map(|scan| scan.series.len() * 4 + scan.segments.len() * 8 + 64);
        size_of::<Shortcut>() + scans.sum::<usize>()
    }
}

struct Kept {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// The tables it is about: by these it is found.
    tables: BTreeSet<String>,
    bytes: usize,
    _reservation: MemoryReservation,
}

/// How the answers that are kept did.
#[derive(Debug, Clone, Serialize)]
pub struct CacheStats {
    pub name: &'static str,
    pub policy: &'static str,
    pub entries: u64,
    pub bytes: u64,
    pub limit: u64,
    pub hits: u64,
    pub misses: u64,
    /// Statements of which no answer is kept: what they read changes, or is no sample.
    pub passed: u64,
}

/// All answers that are kept.
pub(super) struct ResultCache {
    spec: CacheSpec,
    pool: Arc<dyn MemoryPool>,
    kept: Cache<Key, Arc<Kept>>,
    shortcuts: Cache<(Dialect, Arc<str>), Arc<Shortcut>>,
    hits: AtomicU64,
    misses: AtomicU64,
    passed: AtomicU64,
}

impl ResultCache {
    /// They are part of what queries may hold: `pool`.
    pub fn new(spec: CacheSpec, pool: Arc<dyn MemoryPool>) -> Arc<ResultCache> {
        let weight = |_: &Key, kept: &Arc<Kept>| u32::try_from(kept.bytes).unwrap_or(u32::MAX);
        let policy = match spec.policy {
            CachePolicy::Lfu => EvictionPolicy::tiny_lfu(),
            CachePolicy::Lru => EvictionPolicy::lru(),
        };
        let mut kept = Cache::builder().max_capacity(spec.bytes as u64).weigher(weight).eviction_policy(policy);
        if let Some(ttl) = spec.ttl {
            kept = kept.time_to_live(ttl);
        }
        let weight = |_: &(Dialect, Arc<str>), shortcut: &Arc<Shortcut>| shortcut.bytes() as u32;
        let shortcuts = Cache::builder().max_capacity((spec.bytes / SHARE_OF_ONE) as u64).weigher(weight).build();
        let [hits, misses, passed] = [0; 3].map(AtomicU64::new);
        Arc::new(ResultCache { spec, pool, kept: kept.build(), shortcuts, hits, misses, passed })
    }

    /// The key of a statement; `None` where its answer is not one to keep.
    pub fn key(
        &self,
        dialect: Dialect,
        sql: &str,
        logical: &LogicalPlan,
        physical: &Arc<dyn ExecutionPlan>,
        snapshot: &Snapshot,
    ) -> Result<Option<Key>> {
        if self.spec.bytes == 0 {
            return Ok(None);
        }
        let least = steadiness(logical)?;
        let scans = if least == Volatility::Volatile { None } else { scans(physical)? };
        let Some(scans) = scans else {
            self.passed.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        let plan = displayable(physical.as_ref()).indent(false).to_string();
        let key = Key { dialect, sql: sql.trim().into(), plan: plan.into(), inputs: hash_of(&scans) };
        if least == Volatility::Immutable {
            let shortcut = Shortcut { series: snapshot.series_count(), scans, key: key.clone() };
            self.shortcuts.insert((dialect, key.sql.clone()), Arc::new(shortcut));
        }
        Ok(Some(key))
    }

    /// An answer that was given before, of a statement without parameters, where a plan of now would read the same.
    pub fn shortcut(
        &self,
        dialect: Dialect,
        sql: &str,
        snapshot: &Snapshot,
    ) -> Result<Option<SendableRecordBatchStream>> {
        let Some(shortcut) = self.shortcuts.get(&(dialect, Arc::from(sql.trim()))) else { return Ok(None) };
        if !shortcut.holds(snapshot) {
            return Ok(None);
        }
        let Some(kept) = self.kept.get(&shortcut.key) else { return Ok(None) };
        self.hits.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Box::pin(MemoryStream::try_new(kept.batches.clone(), kept.schema.clone(), None)?)))
    }

    /// An answer that was given before.
    pub fn get(&self, key: &Key) -> Result<Option<SendableRecordBatchStream>> {
        let Some(kept) = self.kept.get(key) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        self.hits.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Box::pin(MemoryStream::try_new(kept.batches.clone(), kept.schema.clone(), None)?)))
    }

    /// The rows as they come; kept once the last of them came, where they are not too large.
    pub fn keep(
        self: &Arc<Self>,
        key: Key,
        logical: &LogicalPlan,
        rows: SendableRecordBatchStream,
    ) -> Result<SendableRecordBatchStream> {
        let schema = rows.schema();
        let gathered = Gathered { key, tables: tables(logical)?, batches: Some(Vec::new()), bytes: 0 };
        let state = (self.clone(), rows, Some(gathered));
        let rows = stream::unfold(state, async |(cache, mut rows, mut gathered)| match rows.next().await {
            Some(Ok(batch)) => {
                if let Some(some) = &mut gathered {
                    some.add(&batch, cache.spec.bytes / SHARE_OF_ONE);
                }
                Some((Ok(batch), (cache, rows, gathered)))
            }
            Some(Err(error)) => Some((Err(error), (cache, rows, None))),
            None => {
                if let Some(gathered) = gathered {
                    cache.put(gathered, rows.schema());
                }
                None
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, Box::pin(rows))))
    }

    fn put(&self, gathered: Gathered, schema: SchemaRef) {
        let Gathered { key, tables, batches: Some(batches), bytes } = gathered else { return };
        let bytes = bytes + key.sql.len() + key.plan.len();
        let reservation = MemoryConsumer::new("answers that are kept").register(&self.pool);
        // What runs has precedence.
        if reservation.try_grow(bytes).is_ok() {
            self.kept.insert(key, Arc::new(Kept { schema, batches, tables, bytes, _reservation: reservation }));
        }
    }

    /// Forgets the answers about a table, or all; how many those were.
    pub fn forget(&self, table: Option<&str>) -> u64 {
        let found = self.kept.iter().filter(|(_, kept)| table.is_none_or(|table| kept.tables.contains(table)));
        let keys: Vec<Arc<Key>> = found.map(|(key, _)| key).collect();
        keys.iter().for_each(|key| self.kept.invalidate(&**key));
        self.kept.run_pending_tasks();
        keys.len() as u64
    }

    pub fn stats(&self) -> CacheStats {
        self.kept.run_pending_tasks();
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        CacheStats {
            name: "results",
            policy: match self.spec.policy {
                CachePolicy::Lfu => "lfu",
                CachePolicy::Lru => "lru",
            },
            entries: self.kept.entry_count(),
            bytes: self.kept.weighted_size(),
            limit: self.spec.bytes as u64,
            hits: count(&self.hits),
            misses: count(&self.misses),
            passed: count(&self.passed),
        }
    }

    /// `system.caches`.
    pub fn rows(&self) -> Result<RecordBatch, ArrowError> {
        let stats = self.stats();
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let number = |number: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![number])) };
        RecordBatch::try_from_iter([
            ("name", text(stats.name)),
            ("policy", text(stats.policy)),
            ("entries", number(stats.entries)),
            ("bytes", number(stats.bytes)),
            ("limit", number(stats.limit)),
            ("hits", number(stats.hits)),
            ("misses", number(stats.misses)),
            ("passed", number(stats.passed)),
        ])
    }
}

/// An answer as it comes.
struct Gathered {
    key: Key,
    tables: BTreeSet<String>,
    /// `None` once it is too large.
    batches: Option<Vec<RecordBatch>>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, batch: &RecordBatch, most: usize) {
        self.bytes = self.bytes.saturating_add(batch.get_array_memory_size());
        match &mut self.batches {
            Some(batches) if self.bytes <= most => batches.push(batch.clone()),
            _ => self.batches = None,
        }
    }
}

/// The least steady of what a statement reckons with: chance, the time of day, or neither.
fn steadiness(plan: &LogicalPlan) -> Result<Volatility> {
    let mut least = Volatility::Immutable;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if expr.is_volatile_node() {
                    least = Volatility::Volatile;
                } else if let Expr::ScalarFunction(call) = expr
                    && call.func.signature().volatility != Volatility::Immutable
                    && least == Volatility::Immutable
                {
                    least = Volatility::Stable;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(least)
}

fn tables(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut tables = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            tables.insert(scan.table_name.table().to_owned());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(tables)
}

/// What a plan reads; `None` where that is not samples in files alone.
fn scans(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Vec<Scanned>>> {
    let mut scans = Some(Vec::new());
    plan.apply(|node| {
        let found = match node.downcast_ref::<TracksExec>() {
            Some(scan) => scan.tracks.scanned().map(Some),
            None if node.is::<AnalyzeExec>() => None,
            None if node.children().is_empty() && !node.is::<EmptyExec>() && !node.is::<PlaceholderRowExec>() => None,
            None => Some(None),
        };
        match (found, &mut scans) {
            (Some(found), Some(scans)) => scans.extend(found),
            _ => scans = None,
        }
        Ok(if scans.is_some() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(scans)
}

fn hash_of(scans: &[Scanned]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for Scanned { series, span, segments } in scans {
        for count in [series.len(), segments.len()] {
            hash.update((count as u64).to_le_bytes());
        }
        series.iter().for_each(|series| hash.update(series.0.to_le_bytes()));
        [span.start, span.end].into_iter().for_each(|time| hash.update(time.nanos().to_le_bytes()));
        segments.iter().for_each(|number| hash.update(number.to_le_bytes()));
    }
    hash.finalize().into()
}
