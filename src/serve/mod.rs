//! The HTTP door: writes in, SQL out, and what the program says of itself.

mod about;
mod body;
mod error;
mod grpc;
mod ops;
mod otlp;
mod server;
mod sql;
mod state;
mod write;

pub use server::{Server, ServerParts};
pub use state::Limits;
