//! The doors: HTTP for writes in, SQL out and what the program says of itself; PostgreSQL's protocol and Arrow Flight SQL to ask by.

mod about;
mod body;
mod cache;
mod count;
mod error;
mod flight;
mod grpc;
mod influx;
mod listeners;
mod ops;
mod otlp;
mod own;
mod postgres;
mod push;
mod remote_write;
mod requests;
mod server;
mod sql;
mod state;
mod text;
mod write;

pub use server::{Addresses, Server, ServerParts};
pub use state::{Limits, Reload};
