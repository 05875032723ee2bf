//! The program: its commands, and how the rooms are wired, started and stopped.

mod analyse;
mod ask;
mod backup;
mod changepoints;
mod check;
mod cli;
mod collect;
mod couple;
mod demo;
mod edges;
mod explain;
mod export;
mod files;
mod global;
mod governor;
mod import;
mod input;
mod listen;
mod node;
mod pipelines;
mod print;
mod remote;
mod repl;
mod replay;
mod report;
mod serve;
mod source;
mod sql;
mod stats;
mod verify;

pub use cli::run;
