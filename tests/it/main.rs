//! The program as its users meet it: over the command line, over HTTP, after a crash. One binary, so that DataFusion
//! is linked once.
//!
//! `PLIMSOLL_SHARED_DATA` says where the public data sets are (else `../shared/data`; tests that need them are skipped
//! without). `PLIMSOLL_THOROUGH=1` runs more crashes, `PLIMSOLL_KILLS` so many. `PLIMSOLL_SEED` repeats a run.

#![allow(clippy::disallowed_methods, reason = "tests bound real processes by the real clock")]

mod architecture;
mod bad_input;
mod cli;
mod clients;
mod crash;
mod doors;
mod engine;
mod format;
mod governor;
mod http;
mod import;
mod insight;
mod memory;
mod notebooks;
mod ops;
mod otlp;
mod overload;
mod postgres;
mod prometheus;
mod queries;
mod redis;
mod remote_write;
mod replay;
mod series;
mod servers;
mod sim;
mod sinks;
mod sources;
mod statements;
mod support;
