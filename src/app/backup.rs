//! `snapshot` and `restore`: a copy of a store in use, and a store, or samples into one, from a copy.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::global::{Global, WrongUsage};
use super::node::{Node, is_store, settings};
use super::remote::Remote;
use crate::flow::{Intake, Refusal, Sources};
use crate::model::{Batch, Pattern, SeriesId, Span, Timestamp};
use crate::store::{Backup, Store, StoreSpec};
use crate::world::{RealDisk, World};

/// Samples handed on at once.
const BATCH: usize = 65_536;

#[derive(Args)]
pub(super) struct SnapshotArgs {
    /// Folder that is not there yet
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args)]
pub(super) struct RestoreArgs {
    /// A snapshot, or any data directory that no process has open
    #[arg(value_name = "SNAPSHOT")]
    snapshot: PathBuf,
    /// Only samples of metrics like this, `*` or `%` being anything, into the store there is
    #[arg(long, value_name = "PATTERN")]
    metric: Option<String>,
    /// Only samples from this time on (RFC 3339, or as in 2h: so long ago), into the store there is
    #[arg(long, value_name = "T")]
    from: Option<String>,
    /// Only samples before this time, into the store there is
    #[arg(long, value_name = "T")]
    to: Option<String>,
}

pub(super) fn snapshot(global: &Global, args: &SnapshotArgs) -> anyhow::Result<()> {
    let dir = std::path::absolute(&args.dir)?;
    let made = match &global.url {
        Some(url) => {
            let body = serde_json::json!({ "dir": dir });
            serde_json::from_value(Remote::new(url).post("/api/v1/snapshot", &body)?)?
        }
        None => Node::open(global)?.store.snapshot_to(&dir)?,
    };
    said(&made, &dir);
    Ok(())
}

fn said(made: &Backup, dir: &Path) {
    let Backup { files, bytes, linked } = made;
    eprintln!("{}: {files} files, {bytes} bytes; {linked} of the files are shared, not copied", dir.display());
}

pub(super) fn restore(global: &Global, args: &RestoreArgs) -> anyhow::Result<()> {
    if global.url.is_some() {
        return Err(
            WrongUsage("restore works on a data directory that no server has open: stop it first".into()).into()
        );
    }
    is_store(&args.snapshot)?;
    if args.metric.is_none() && args.from.is_none() && args.to.is_none() {
        said(&Store::restore(&World::real(), &args.snapshot, &global.data)?, &global.data);
        return Ok(());
    }
    let world = World::real();
    let now = world.clock.now();
    let at = |text: &Option<String>, default| match text {
        None => Ok(default),
        Some(text) => time(text, now),
    };
    let span = Span::new(at(&args.from, Timestamp::MIN)?, at(&args.to, Timestamp::MAX)?);
    let node = Node::open_to_write(&global.data, settings(global)?)?;
    let taken = take_samples(&node, &args.snapshot, args.metric.as_deref().unwrap_or("*"), span)?;
    node.close()?;
    eprintln!("{}: {taken} samples restored", global.data.display());
    Ok(())
}

fn time(text: &str, now: Timestamp) -> Result<Timestamp, WrongUsage> {
    match humantime::parse_duration(text) {
        Ok(ago) => Ok(now.plus(-i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))),
        Err(_) => Timestamp::parse(text).map_err(|error| WrongUsage(error.to_string())),
    }
}

/// Reads a copy of the snapshot, since opening a store changes it.
fn take_samples(node: &Node, snapshot: &Path, pattern: &str, span: Span) -> anyhow::Result<u64> {
    let copy = Copy(node.store.dir().with_added_extension(format!("restore-{}", std::process::id())));
    Store::restore(&node.world, snapshot, &copy.0)?;
    let store = Store::open(node.world.clone(), &copy.0, StoreSpec::default())
        .with_context(|| format!("cannot read {}", snapshot.display()))?;
    let view = store.snapshot();
    let ids = (0..view.series_count() as u32).map(SeriesId);
    let glob = glob(pattern);
    let wanted = |metric: &str| glob.as_ref().is_some_and(|glob| glob.fits(metric));
    let wanted: Vec<SeriesId> = ids.filter(|&id| wanted(&view.registry().metric(id))).collect();
    let intake = node.doors.source("restore");
    let (mut batch, mut taken) = (Batch::default(), 0);
    for run in view.scan(wanted, span) {
        let run = run?;
        if run.samples.is_empty() {
            continue;
        }
        // An operator's act: it has no budget.
        let series = node.store.registry().intern(view.registry().def(run.series));
        for sample in run.samples {
            batch.push(series, sample.time, sample.value);
            if batch.len() == BATCH {
                taken += hand_on(&*intake, std::mem::take(&mut batch))?;
            }
        }
    }
    Ok(taken + hand_on(&*intake, batch)?)
}

fn hand_on(intake: &dyn Intake, batch: Batch) -> Result<u64, Refusal> {
    let samples = batch.len() as u64;
    loop {
        match intake.accept(batch.clone()) {
            Err(Refusal::Behind { .. }) => {}
            answered => return answered.map(|()| samples),
        }
    }
}

/// Removed when dropped.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = RealDisk.remove_folder(&self.0);
    }
}

/// The pattern of `--metric`; `None`, which fits nothing, where it is empty.
fn glob(text: &str) -> Option<Pattern> {
    text.replace('%', "*").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn a_star_stands_for_anything() {
        let cases = [
            ("cpu", "cpu", true),
            ("cpu", "cpu_user", false),
            ("cpu*", "cpu_user", true),
            ("*_total", "a_total", true),
            ("*_total", "a_total_b", false),
            ("a%b*c", "a1b2b3c", true),
            ("*", "", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(glob(pattern).is_some_and(|glob| glob.fits(name)), wanted, "{pattern} {name}");
        }
    }
}
