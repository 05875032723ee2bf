//! A bell that ends the waits of threads: they sleep by it, and are woken to stop.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Rung once, when it is time to stop.
#[derive(Debug, Default)]
pub struct Bell {
    is_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    /// Waits for so long, or until it is rung; `true` when it is.
    pub fn wait(&self, time: Duration) -> bool {
        let is_rung = self.is_rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(is_rung, time, |is_rung| !*is_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub fn ring(&self) {
        *self.is_rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rung.notify_all();
    }
}
