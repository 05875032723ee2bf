//! The data directory byte by byte. There is no code here: this is what the other files agree on.
#![doc = include_str!("FORMAT.md")]
