//! The catalog as `store/FORMAT.md` draws it, and what is done with one of another format.

use super::sealed::{open_sled, seal};
use super::trees::HEAD;
use super::*;
use crate::model::{Description, Kind, Labels, SeriesDef};

fn place(dir: &tempfile::TempDir) -> CatalogPlace {
    CatalogPlace { dir: dir.path().join("catalog"), witness: dir.path().join("generation") }
}

/// Programs of one format read each other's catalogs: a field more or fewer is another format.
#[test]
fn what_is_kept_has_the_fields_that_the_text_of_the_format_names() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(&dir);
    let catalog = Catalog::create(&place, &World::real(), Contents::default()).unwrap();
    catalog.registry().intern(SeriesDef::new("m", Labels::new([("n", "1")])));
    let about = Description { kind: Kind::Counter, unit: "s".into(), help: "h".into() };
    catalog.registry().describe("m", &about);
    let record = SegmentRecord {
        number: 7,
        table: TableName::Samples,
        path: "samples/2026-01/0000000007.parquet".into(),
        rows: 1,
        bytes: 900,
        first: -1,
        last: 2,
        flushes: (3, 4),
        digest: 5,
        tail: (800, 6),
    };
    let loss = Loss { table: "wal".into(), path: "p".into(), reason: "r".into(), ..Loss::default() };
    let commit = Commit { add: vec![record], losses: vec![loss], series: 1, ..Commit::default() };
    catalog.commit(&commit).unwrap();
    drop(catalog);
    let db = open_sled(&place.dir).unwrap();
    let value = |tree: &str, key: &[u8]| {
        let sealed = db.open_tree(tree).unwrap().get(key).unwrap().unwrap();
        let crc = crc32c::crc32c(&[key, &sealed[4..]].concat());
        assert_eq!(sealed[..4], crc.to_le_bytes(), "{tree}");
        sealed[4..].to_vec()
    };
    let text = |tree: &str, key: &[u8]| String::from_utf8(value(tree, key)).unwrap();
    let record = text("segments", &7_u64.to_be_bytes());
    assert_eq!(
        record,
        r#"{"number":7,"table":"samples","path":"samples/2026-01/0000000007.parquet","rows":1,"bytes":900,"first":-1,"last":2,"flushes":[3,4],"digest":5,"tail":[800,6]}"#
    );
    assert_eq!(
        text("losses", &0_u64.to_be_bytes()),
        r#"{"table":"wal","path":"p","metric":null,"series":null,"first":null,"last":null,"rows":null,"reason":"r","found":0}"#
    );
    let head: serde_json::Value = serde_json::from_slice(&value("state", b"head")).unwrap();
    let store = head["store"].as_str().unwrap();
    assert!(store.len() == 16 && u64::from_str_radix(store, 16).is_ok(), "{store}");
    let wanted = serde_json::json!({
        "format": 4, "store": store, "generation": 2, "wal_floor": 0, "checkpoint": null, "next_number": 8,
        "segments": 1, "segments_sum": crc32c::crc32c(record.as_bytes()), "series": 1, "metrics": 1, "losses": 1, "acknowledged": 0,
    });
    assert_eq!(head, wanted);
    let series = zstd::stream::decode_all(&value("series", &0_u32.to_be_bytes())[..]).unwrap();
    assert_eq!(series, b"\0\0\0\x01\0s\xFFh\xFFm\xFFn\xFF1\xFF");
    assert_eq!(value("metrics", b"m"), b"\0s\xFFh\xFF");
    let witness = std::fs::read(&place.witness).unwrap();
    assert_eq!(witness[..16], *b"PLGEN\0\0\x01\x02\0\0\0\0\0\0\0");
    assert_eq!(witness[16..32], *store.as_bytes());
    assert_eq!(witness[32..], crc32c::crc32c(&witness[..32]).to_le_bytes());
}

#[test]
fn another_format_is_refused_whatever_the_size_of_its_log() {
    let first = (b"format".as_slice(), 1_u64.to_be_bytes().to_vec());
    let head = |format: u64| (HEAD, seal(HEAD, format!(r#"{{"format":{format},"else":[]}}"#).as_bytes()));
    let cases = [(first, 1), (head(FORMAT - 1), FORMAT - 1), (head(FORMAT + 1), FORMAT + 1)];
    for ((key, value), format) in cases {
        for log_segment in [512 << 10, 128 << 10, 32 << 10] {
            let dir = tempfile::tempdir().unwrap();
            let place = place(&dir);
            let db = sled::Config::new().path(&place.dir).segment_size(log_segment).open().unwrap();
            db.open_tree("state").unwrap().insert(key, value.as_slice()).unwrap();
            drop(db);
            let told = Catalog::open(&place, &World::real()).err().unwrap();
            let is_it = matches!(told, CatalogError::OtherFormat { found } if found == format);
            assert!(is_it && !told.is_damage(), "{format} {log_segment}: {told:?}");
        }
    }
}
