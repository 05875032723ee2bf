//! The HTTP door: writes in, SQL out, and what the program says of itself.

mod about;
mod body;
mod count;
mod error;
mod grpc;
mod influx;
mod listeners;
mod ops;
mod otlp;
mod own;
mod push;
mod remote_write;
mod requests;
mod server;
mod sql;
mod state;
mod text;
mod write;

pub use server::{Server, ServerParts};
pub use state::{Limits, Reload};
