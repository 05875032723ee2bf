//! The HTTP door: writes in, SQL out, and what the program says of itself.

mod about;
mod body;
mod error;
mod server;
mod sql;
mod write;

pub use server::{Limits, Server, ServerParts};
