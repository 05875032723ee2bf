//! Runs in sled: one tree, `runs`, so that a change of runs and marks is one batch.
//!
//! ```text
//! key    "m" job                        a job's mark
//!        "o" job 0 time                 a run that is not over
//!        "r" job 0 time                 one that is
//! time   nanoseconds, u64 be, the sign bit flipped: in the order of time
//! value  crc32c of key and value, u32 le; JSON
//! ```

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{RunChange, RunLog, RunRecord, Through};
use crate::catalog::CatalogError;
use crate::catalog::sealed::{guarded, seal, unseal};
use crate::model::{Span, Timestamp};

const MARK: u8 = b'm';
const OPEN: u8 = b'o';
const OVER: u8 = b'r';

/// The runs of all jobs, in a tree of the catalog's own database.
pub struct Runs {
    db: sled::Db,
    tree: sled::Tree,
}

impl Runs {
    /// The runs kept in `db`; none where it is new.
    pub fn open(db: &sled::Db) -> Result<Runs, CatalogError> {
        let tree = guarded(|| Ok(db.open_tree("runs")?))?;
        Ok(Runs { db: db.clone(), tree })
    }

    /// Forgets all of it, where its entries are damaged: jobs begin as if they were new.
    pub fn clear(&self) -> Result<(), CatalogError> {
        guarded(|| {
            self.tree.clear()?;
            self.db.flush()?;
            Ok(())
        })
    }

    /// Takes all that another has, as it stands there.
    pub fn copy_of(&self, other: &Runs) -> Result<(), CatalogError> {
        guarded(|| {
            for entry in &other.tree {
                let (key, value) = entry?;
                self.tree.insert(key, value)?;
            }
            self.db.flush()?;
            Ok(())
        })
    }

    fn scan<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, CatalogError> {
        guarded(|| self.tree.scan_prefix(prefix).map(read).collect())
    }
}

impl RunLog for Runs {
    fn put(&self, change: &RunChange) -> Result<(), CatalogError> {
        let mut batch = sled::Batch::default();
        for record in &change.records {
            let (kind, other) = if record.state.is_open() { (OPEN, OVER) } else { (OVER, OPEN) };
            let key = run_key(kind, &record.job, record.scheduled);
            batch.remove(run_key(other, &record.job, record.scheduled));
            batch.insert(&key[..], sealed(&key, record));
        }
        for (job, through) in &change.through {
            let key = mark_key(job);
            batch.insert(&key[..], sealed(&key, through));
        }
        guarded(|| {
            self.tree.apply_batch(batch)?;
            self.db.flush()?;
            Ok(())
        })
    }

    fn get(&self, job: &str, scheduled: Timestamp) -> Result<Option<RunRecord>, CatalogError> {
        let span = Span::new(scheduled, scheduled.plus(1));
        Ok(self.range(job, span)?.pop())
    }

    fn range(&self, job: &str, span: Span) -> Result<Vec<RunRecord>, CatalogError> {
        let mut found = Vec::new();
        for kind in [OPEN, OVER] {
            let keys = run_key(kind, job, span.start)..run_key(kind, job, span.end);
            if !span.is_empty() {
                let entries = guarded(|| self.tree.range(keys).map(read).collect::<Result<Vec<_>, _>>())?;
                found.extend(entries.into_iter().map(|(_, record): (_, RunRecord)| record));
            }
        }
        found.sort_by_key(|record| record.scheduled);
        Ok(found)
    }

    fn newest(&self, job: &str, count: usize) -> Result<Vec<RunRecord>, CatalogError> {
        let mut found = Vec::new();
        for kind in [OPEN, OVER] {
            let of_job = self.tree.scan_prefix(job_key(kind, job)).rev().take(count);
            let entries = guarded(|| of_job.map(read).collect::<Result<Vec<_>, _>>())?;
            found.extend(entries.into_iter().map(|(_, record): (_, RunRecord)| record));
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.scheduled));
        found.truncate(count);
        Ok(found)
    }

    fn open_runs(&self) -> Result<Vec<RunRecord>, CatalogError> {
        Ok(self.scan(&[OPEN])?.into_iter().map(|(_, record)| record).collect())
    }

    fn through(&self) -> Result<BTreeMap<String, Through>, CatalogError> {
        let job = |key: &[u8]| String::from_utf8_lossy(&key[1..]).into_owned();
        Ok(self.scan(&[MARK])?.into_iter().map(|(key, through)| (job(&key), through)).collect())
    }

    fn prune(&self, job: &str, keep: usize) -> Result<usize, CatalogError> {
        guarded(|| {
            let old = self.tree.scan_prefix(job_key(OVER, job)).rev().skip(keep);
            let old = old.map(|entry| Ok(entry?.0)).collect::<sled::Result<Vec<_>>>()?;
            old.iter().try_for_each(|key| self.tree.remove(key).map(|_| ()))?;
            Ok(old.len())
        })
    }
}

fn mark_key(job: &str) -> Vec<u8> {
    [&[MARK], job.as_bytes()].concat()
}

/// What the keys of a job's runs begin with. Names of jobs have no zero byte.
fn job_key(kind: u8, job: &str) -> Vec<u8> {
    [&[kind], job.as_bytes(), &[0]].concat()
}

fn run_key(kind: u8, job: &str, scheduled: Timestamp) -> Vec<u8> {
    let time = scheduled.nanos().cast_unsigned() ^ (1 << 63);
    [&job_key(kind, job)[..], &time.to_be_bytes()].concat()
}

fn sealed(key: &[u8], value: &impl Serialize) -> Vec<u8> {
    seal(key, &serde_json::to_vec(value).expect("plain data"))
}

fn read<T: DeserializeOwned>(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<(Vec<u8>, T), CatalogError> {
    let (key, sealed) = entry?;
    let value = unseal(&key, &sealed).and_then(|value| serde_json::from_slice(value).ok());
    let damaged = || CatalogError::Damaged { entry: format!("runs {}", key.escape_ascii()) };
    Ok((key.to_vec(), value.ok_or_else(damaged)?))
}

#[cfg(test)]
mod tests {
    use super::super::{RunState, SkipReason};
    use super::*;
    use crate::catalog::sealed::open_sled;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    fn record(job: &str, second: i64, state: RunState) -> RunRecord {
        RunRecord { state, attempt: 1, started: Some(at(second)), ..RunRecord::planned(job, at(second)) }
    }

    fn put(runs: &Runs, records: &[RunRecord]) {
        runs.put(&RunChange { records: records.to_vec(), ..RunChange::default() }).unwrap();
    }

    fn seconds(records: &[RunRecord]) -> Vec<i64> {
        records.iter().map(|record| record.scheduled.millis() / 1000).collect()
    }

    #[test]
    fn runs_and_marks_are_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let skipped = RunRecord::planned("a", at(3)).skip(SkipReason::Missed, at(1), 3);
        let through = Through { at: at(9), schedule: "every 1s".to_owned() };
        {
            let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
            let records = vec![skipped.clone(), record("a", -4, RunState::Started), record("ab", 2, RunState::Done)];
            runs.put(&RunChange { records, through: [("a".to_owned(), through.clone())].into() }).unwrap();
        }
        let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
        assert_eq!(runs.get("a", at(3)).unwrap(), Some(skipped));
        assert_eq!(runs.through().unwrap(), [("a".to_owned(), through)].into());
        assert_eq!(seconds(&runs.open_runs().unwrap()), [-4]);
        runs.clear().unwrap();
        assert_eq!((runs.get("a", at(3)).unwrap(), runs.through().unwrap().len()), (None, 0));
    }

    #[test]
    fn a_jobs_runs_are_read_in_the_order_of_time_and_no_other_jobs() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
        let states = [RunState::Done, RunState::Planned, RunState::Failed];
        for job in ["a", "ab", "b"] {
            put(&runs, &(-3..6).map(|n| record(job, n, states[n.rem_euclid(3) as usize])).collect::<Vec<_>>());
        }
        for (span, expected) in [((-2, 2), vec![-2, -1, 0, 1]), ((2, 2), vec![]), ((3, -3), vec![]), ((5, 9), vec![5])]
        {
            let found = runs.range("a", Span::new(at(span.0), at(span.1))).unwrap();
            assert_eq!(seconds(&found), expected, "{span:?}");
        }
        assert_eq!(seconds(&runs.newest("a", 4).unwrap()), [5, 4, 3, 2]);
        assert_eq!(runs.newest("c", 4).unwrap(), []);
    }

    #[test]
    fn a_run_is_kept_once_whatever_its_state() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
        for state in [RunState::Planned, RunState::Started, RunState::Done, RunState::Started, RunState::Failed] {
            put(&runs, &[record("a", 1, state)]);
            let found = runs.newest("a", 9).unwrap();
            assert_eq!((found.len(), found[0].state), (1, state));
            assert_eq!(runs.open_runs().unwrap().len(), usize::from(state.is_open()));
        }
        put(&runs, &[record("a", 2, RunState::Done), record("a", 2, RunState::Started)]);
        assert_eq!(runs.get("a", at(2)).unwrap().unwrap().state, RunState::Started, "the later of a change counts");
    }

    #[test]
    fn pruning_leaves_the_newest_and_what_is_not_over() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
        put(&runs, &(1..9).map(|n| record("a", n, RunState::Done)).collect::<Vec<_>>());
        put(&runs, &[record("a", 0, RunState::Started), record("b", 0, RunState::Done)]);
        assert_eq!((runs.prune("a", 3).unwrap(), runs.prune("a", 3).unwrap()), (5, 0));
        assert_eq!(seconds(&runs.newest("a", 99).unwrap()), [8, 7, 6, 0]);
        assert_eq!(runs.newest("b", 99).unwrap().len(), 1);
    }

    #[test]
    fn a_damaged_entry_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&open_sled(dir.path()).unwrap()).unwrap();
        put(&runs, &[record("a", 1, RunState::Done)]);
        runs.tree.insert(run_key(OVER, "a", at(1)), b"\0\0\0\0{}").unwrap();
        assert!(matches!(runs.get("a", at(1)), Err(CatalogError::Damaged { .. })));
    }
}
