//! All series in memory: definition by number, number by definition.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::model::{SeriesDef, SeriesId};

#[derive(Default)]
struct Inner {
    ids: HashTable<u32>,
    defs: Vec<Arc<SeriesDef>>,
}

/// Every series of the store. Numbers are dense and never given twice.
pub struct Registry {
    inner: RwLock<Inner>,
    hasher: FixedState,
    committed: AtomicUsize,
}

impl Registry {
    pub(super) fn new(defs: Vec<SeriesDef>) -> Self {
        let registry =
            Registry { inner: RwLock::default(), hasher: FixedState::default(), committed: AtomicUsize::new(0) };
        let len = defs.len();
        defs.into_iter().for_each(|def| {
            registry.intern(def);
        });
        registry.set_committed(len);
        registry
    }

    /// The number of a series, given now if it has none.
    pub fn intern(&self, def: SeriesDef) -> SeriesId {
        let hash = self.hasher.hash_one((&def.metric, &def.labels));
        if let Some(id) = self.inner.read().unwrap_or_else(PoisonError::into_inner).find(hash, &def) {
            return id;
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.find(hash, &def).unwrap_or_else(|| inner.insert(hash, def, &self.hasher))
    }

    pub fn def(&self, id: SeriesId) -> Arc<SeriesDef> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).defs[id.index()].clone()
    }

    /// Definitions by number.
    pub fn defs(&self, ids: Range<usize>) -> Vec<Arc<SeriesDef>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).defs[ids].to_vec()
    }

    pub fn len(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).defs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many, from the first, the catalog has on disk.
    pub fn committed(&self) -> usize {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn set_committed(&self, len: usize) {
        self.committed.store(len, Ordering::Release);
    }
}

impl Inner {
    fn find(&self, hash: u64, def: &SeriesDef) -> Option<SeriesId> {
        let same = |&id: &u32| {
            let known = &self.defs[id as usize];
            known.metric == def.metric && known.labels == def.labels
        };
        self.ids.find(hash, same).map(|&id| SeriesId(id))
    }

    fn insert(&mut self, hash: u64, def: SeriesDef, hasher: &FixedState) -> SeriesId {
        let id = u32::try_from(self.defs.len()).expect("fewer than 2^32 series");
        self.defs.push(Arc::new(def));
        let defs = &self.defs;
        let rehash = |&id: &u32| hasher.hash_one((&defs[id as usize].metric, &defs[id as usize].labels));
        self.ids.insert_unique(hash, id, rehash);
        SeriesId(id)
    }
}
