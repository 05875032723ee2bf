//! `stats` and `compact`: what the store holds, and merging what can be merged.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};

use super::global::{Global, WrongUsage};
use super::node::Node;
use super::print::Printer;
use super::remote::Remote;
use crate::store::StoreStats;

pub(super) fn stats(global: &Global, printer: &mut Printer) -> anyhow::Result<()> {
    if let Some(url) = &global.url {
        let (schema, batches) = Remote::new(url).sql(
            "SELECT \"table\", count(*) AS files, sum(rows) AS rows, sum(bytes) AS bytes FROM system.segments GROUP BY 1 ORDER BY 1",
        )?;
        return printer.rows(&schema, &batches);
    }
    let node = Node::open(global)?;
    let stats = node.store.stats();
    let whole = folder_bytes(node.store.dir());
    let batch = rows(&stats, whole)?;
    printer.rows(&batch.schema(), &[batch])?;
    stats.degraded.iter().for_each(|told| eprintln!("degraded: {told}"));
    let samples = stats.samples_at_rest + stats.samples_in_memory;
    eprintln!(
        "{} series, {samples} samples ({} in memory), {whole} bytes in all{}",
        stats.series,
        stats.samples_in_memory,
        if samples > 0 { format!(": {:.3} bytes a sample", whole as f64 / samples as f64) } else { String::new() }
    );
    Ok(())
}

fn rows(stats: &StoreStats, whole: u64) -> anyhow::Result<RecordBatch> {
    let tables = || stats.tables.iter();
    let at_rest: u64 = tables().map(|(_, table)| table.bytes).sum();
    let mut names: Vec<&str> = tables().map(|(name, _)| name.as_str()).collect();
    let mut files: Vec<Option<u64>> = tables().map(|(_, table)| Some(table.files)).collect();
    let mut rows: Vec<Option<u64>> = tables().map(|(_, table)| Some(table.rows)).collect();
    let mut bytes: Vec<u64> = tables().map(|(_, table)| table.bytes).collect();
    names.push("catalog, log and checkpoints");
    files.push(None);
    rows.push(None);
    bytes.push(whole.saturating_sub(at_rest));
    let a_row = bytes.iter().zip(&rows).map(|(&bytes, rows)| rows.map(|rows| bytes as f64 / rows.max(1) as f64));
    let a_row: ArrayRef = Arc::new(a_row.collect::<Float64Array>());
    Ok(RecordBatch::try_from_iter([
        ("table", Arc::new(StringArray::from(names)) as ArrayRef),
        ("files", Arc::new(UInt64Array::from(files))),
        ("rows", Arc::new(UInt64Array::from(rows))),
        ("bytes_a_row", a_row),
        ("bytes", Arc::new(UInt64Array::from(bytes))),
    ])?)
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

pub(super) fn compact(global: &Global) -> anyhow::Result<()> {
    if global.url.is_some() {
        return Err(WrongUsage("compact works on a data directory; a server merges by itself".into()).into());
    }
    let node = Node::open(global)?;
    node.store.flush()?;
    node.store.drop_expired()?;
    let merges = node.store.compact()?;
    eprintln!("{merges} merges");
    node.close()
}
