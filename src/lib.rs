//! plimsoll: metrics in, pipelines of stages over them, Parquet at rest, SQL on top.
//!
//! Data walks `ingest` → `flow`/`stages` → `store` → `query` → `insight` → `serve`; `ARCHITECTURE.md` says which room
//! may use which, and `tests/it/architecture.rs` holds the code to it.

pub mod app;
pub mod catalog;
pub mod config;
pub mod flow;
pub mod ingest;
pub mod model;
pub mod query;
pub mod serve;
pub mod stages;
pub mod stats;
pub mod store;
pub mod world;
