//! How the states of all stages lie in one file: key and bytes, counted, one after another.

use std::collections::BTreeMap;

use crate::flow::codec::{Reader, Writer};

pub(super) fn pack(states: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut out = Writer::default();
    for (key, state) in states {
        out.bytes(key.as_bytes());
        out.bytes(state);
    }
    out.0
}

pub(super) fn unpack(bytes: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut reader = Reader(bytes);
    let mut states = BTreeMap::new();
    while !reader.0.is_empty() {
        let key = String::from_utf8(reader.bytes()?.to_vec()).ok()?;
        states.insert(key, reader.bytes()?.to_vec());
    }
    Some(states)
}
