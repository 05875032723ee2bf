//! The door: samples that come in go to the store and so to the pipelines, or are refused while those are behind.

use std::sync::Arc;
use std::time::Duration;

use crate::flow::{Intake, Refusal};
use crate::model::{Batch, SeriesDef, SeriesId};
use crate::store::{Store, StoreError};

/// How often and how long a batch waits for room before it is refused.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 600;

/// The [`Intake`] of a store with its pipelines.
pub struct Door {
    store: Arc<Store>,
}

impl Door {
    pub fn new(store: Arc<Store>) -> Self {
        Door { store }
    }
}

impl Intake for Door {
    fn intern(&self, def: SeriesDef) -> Result<SeriesId, Refusal> {
        Ok(self.store.registry().intern(def))
    }

    fn accept(&self, batch: Batch) -> Result<(), Refusal> {
        let mut looks = 0;
        while let Err(behind) = self.store.ready() {
            looks += 1;
            if looks == LOOKS {
                return Err(Refusal::Behind { what: behind.what, retry_after: behind.retry_after });
            }
            std::thread::sleep(LOOK);
        }
        self.store.append(batch).map_err(|error| Refusal::Closed {
            reason: match error {
                StoreError::Closed { reason } => reason,
                other => other.to_string(),
            },
        })
    }
}
