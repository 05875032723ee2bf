//! What names a statement finds: the tables of a snapshot, and those about the store.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use datafusion::catalog::SchemaProvider;
use datafusion::execution::memory_pool::MemoryPool;

use super::queries::Queries;
use super::system::{LiveTable, MemoryShare, SystemTable, SystemTables, TellMemory};
use super::tables::{SCHEMA, Tables};
use crate::store::{HEAD_FULL, Snapshot, Store};

/// The schema of the tables about the store.
pub(super) const SYSTEM: &str = "system";

/// Makes the schemas of snapshots.
pub(super) struct Schemas {
    /// An answer that somebody still reads does not keep the store open.
    pub store: Weak<Store>,
    pub system: Vec<SystemTable>,
    pub live: Vec<LiveTable>,
    /// Of all statements.
    pub pool: Arc<dyn MemoryPool>,
    /// Bytes of the pool.
    pub memory: usize,
    /// Who else holds memory.
    pub holders: Arc<RwLock<Vec<TellMemory>>>,
    pub queries: Arc<Queries>,
}

impl Schemas {
    /// The tables of a snapshot, and those of the store as it is when they are asked.
    pub fn of(&self, snapshot: &Snapshot) -> [(&'static str, Arc<dyn SchemaProvider>); 2] {
        let tables = Arc::new(Tables::new(snapshot.clone(), self.live.clone()));
        let mut others = self.system.clone();
        let queries = self.queries.clone();
        let rows = move || queries.rows().expect("columns of one length");
        others.push(SystemTable { name: "queries", rows: Arc::new(rows) });
        let system = Arc::new(SystemTables::new(snapshot.clone(), self.store.clone(), self.memory_shares(), others));
        [(SCHEMA, tables), (SYSTEM, system)]
    }

    fn memory_shares(&self) -> TellMemory {
        let (store, pool, holders) = (self.store.clone(), self.pool.clone(), self.holders.clone());
        let memory = self.memory as u64;
        Arc::new(move || {
            let mut shares = store.upgrade().map_or_else(Vec::new, |store| store_shares(&store));
            let at_limit = "sorts, joins and aggregates spill to disk; a larger answer is refused";
            let bytes = pool.reserved() as u64;
            shares.push(MemoryShare { share: "queries", bytes, limit: Some(memory), at_limit });
            let holders = holders.read().unwrap_or_else(PoisonError::into_inner);
            shares.extend(holders.iter().flat_map(|holder| holder()));
            shares
        })
    }
}

fn store_shares(store: &Store) -> Vec<MemoryShare> {
    let (stats, spec) = (store.stats(), store.spec());
    let head = spec.head_bytes as u64;
    let share = |share, bytes, limit, at_limit| MemoryShare { share, bytes, limit, at_limit };
    let flushed = "flushed at a third of it; at it senders wait, then are told to come later";
    vec![
        share("samples", stats.head_bytes, Some(head * HEAD_FULL as u64), flushed),
        share("rows of pipelines", stats.rows_bytes, Some(head), "flushed at half of it; at it senders wait"),
        share("series and labels", stats.series_bytes, Some(spec.series_bytes as u64), "no new series are taken"),
        share("indexes of segments", stats.index_bytes, None, "merges make them fewer"),
        share("summaries of segments", stats.summary_bytes, Some(head / 4), "those asked for least are read again"),
    ]
}
