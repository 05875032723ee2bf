//! `verify` and `repair`: what is wrong at rest, and setting it right.

use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use clap::Args;

use super::global::{Global, WrongUsage};
use super::node::{Node, is_store, settings};
use super::print::Printer;
use super::remote::Remote;
use crate::query::{Verified, loss_rows};
use crate::store::{Store, Wrong};
use crate::world::World;

/// The gate: something at rest is wrong.
const WRONG: u8 = 3;

#[derive(Args)]
pub(super) struct RepairArgs {
    /// Make the catalog anew from the files, even where nothing is wrong with it
    #[arg(long)]
    rebuild_catalog: bool,
}

pub(super) fn verify(global: &Global, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let verified = match &global.url {
        Some(url) => serde_json::from_value(Remote::new(url).get("/api/v1/verify")?)?,
        None => verify_here(global)?,
    };
    told(&verified, printer)
}

fn verify_here(global: &Global) -> anyhow::Result<Verified> {
    let settings = settings(global)?;
    is_store(&global.data)?;
    Ok(Store::verify_closed(&World::real(), &global.data, &settings.store_spec())?)
}

fn told(verified: &Verified, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    let Verified { wrong, files, bytes, seconds } = verified;
    if !wrong.is_empty() {
        let batch = rows(wrong)?;
        printer.rows(&batch.schema(), &[batch])?;
    }
    let rate = *bytes as f64 / 1e6 / seconds.max(1e-6);
    eprintln!("{files} files, {bytes} bytes read at {rate:.0} MB/s: {} wrong", wrong.len());
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
}

fn rows(wrong: &[Wrong]) -> anyhow::Result<RecordBatch> {
    let text =
        |of: fn(&Wrong) -> &String| -> ArrayRef { Arc::new(StringArray::from_iter_values(wrong.iter().map(of))) };
    Ok(RecordBatch::try_from_iter([
        ("path", text(|wrong| &wrong.path)),
        ("what", text(|wrong| &wrong.what)),
        ("remedy", text(|wrong| &wrong.remedy)),
    ])?)
}

pub(super) fn repair(global: &Global, args: &RepairArgs, printer: &mut Printer) -> anyhow::Result<ExitCode> {
    if global.url.is_some() {
        return Err(WrongUsage("repair works on a data directory that no server has open: stop it first".into()).into());
    }
    is_store(&global.data)?;
    if args.rebuild_catalog {
        // What is wrong with the settings is told before anything is changed.
        settings(global)?;
        Store::forget_catalog(&World::real(), &global.data)?;
    }
    let node = Node::open(global)?;
    for note in node.store.degraded() {
        eprintln!("{note}");
    }
    for wrong in node.store.repair()? {
        eprintln!("{}: {}", wrong.path, wrong.what);
    }
    let losses = node.store.open_losses();
    if !losses.is_empty() {
        let batch = loss_rows(&losses)?;
        printer.rows(&batch.schema(), &[batch])?;
    }
    node.store.acknowledge_losses()?;
    node.close()?;
    eprintln!("{} losses; damaged and unknown files are in {}", losses.len(), global.data.join("set-aside").display());
    told(&verify_here(global)?, printer)
}
