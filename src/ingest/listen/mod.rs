//! Listeners: UDP and TCP on one port for a protocol of lines.
//!
//! ```text
//! UDP ─┐ one thread: reads, joins packets   bounded queue   one thread: lines → samples → intake
//! TCP ─┴──────────────────────────────────→ of 64 chunks ──→
//! ```
//! While the store is behind, the second thread waits and the queue fills. TCP is then not read: senders wait. UDP has
//! nobody to wait: whole chunks are dropped and their packets counted, and so are those that the kernel dropped before.

mod feed;
mod listeners;
mod meters;
mod patient;
mod queue;
mod receive;
mod spec;
mod tcp;
mod udp;
mod worker;

#[cfg(test)]
mod tests;

pub use listeners::{ListenError, Listeners};
pub use meters::{ListenerStats, TransportStats};
pub use spec::{ListenSpec, Taken};
