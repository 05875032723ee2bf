//! plimsoll: metrics in, pipelines of stages over them, Parquet at rest, SQL on top.
//!
//! Data walks `ingest` → `flow`/`stages` → `store` → `query` → `insight` → `serve`; `ARCHITECTURE.md` says which room
//! may use which, and `tests/it/architecture.rs` holds the code to it.
//!
//! Without the feature `program` (on by default) the rooms `query`, `serve` and `app` are left out, and DataFusion with them.

#[cfg(feature = "program")]
pub mod app;
pub mod catalog;
pub mod config;
pub mod egress;
pub mod flow;
pub mod ingest;
pub mod insight;
pub mod model;
#[cfg(feature = "program")]
pub mod query;
#[cfg(feature = "program")]
pub mod serve;
pub mod stages;
pub mod stats;
pub mod store;
pub mod world;
