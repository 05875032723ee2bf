//! The statements under way and those that ended lately: `system.queries`, `KILL`, the limit of time, the log of slow ones.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array};
use arrow::error::ArrowError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::cache::CacheSpec;
use super::error::QueryError;
use super::pace::Elapsed;
use crate::model::Timestamp;

/// Statements that are kept after their end.
const ENDED_KEPT: usize = 200;
/// Characters of a statement that are kept.
const TEXT_KEPT: usize = 2000;

/// Says what time it is.
pub(super) type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What statements may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How long one may take; without it as long as it takes.
    pub time: Option<Duration>,
    /// Those that take longer are told in the log.
    pub slow: Option<Duration>,
    /// Bytes that one may hold; without it all that they may hold together.
    pub memory: Option<usize>,
    /// Statements under way at once; others wait for their turn.
    pub at_once: usize,
    /// Statements that may wait.
    pub waiting: usize,
    /// Whether summaries that files have are used in place of samples, where they say the same.
    pub summaries: bool,
    /// How answers are kept.
    pub cache: CacheSpec,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            time: None,
            slow: None,
            memory: None,
            at_once: default_at_once(),
            waiting: 1000,
            summaries: true,
            cache: CacheSpec::default(),
        }
    }
}

/// As many as keep all processors at work while some wait for their clients.
pub fn default_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).saturating_mul(4)
}

/// What became of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    Done,
    Failed(String),
    Killed,
    TooLong,
    /// Whoever asked went away.
    Left,
}

impl End {
    fn told(&self) -> String {
        match self {
            End::Done => "done".to_owned(),
            End::Failed(told) => format!("failed: {told}"),
            End::Killed => "killed".to_owned(),
            End::TooLong => "ended: it took too long".to_owned(),
            End::Left => "left: nobody waited for it any more".to_owned(),
        }
    }
}

/// A statement, under way or over.
struct Statement {
    number: u64,
    text: String,
    started: Timestamp,
    since: Duration,
    rows: AtomicU64,
    is_killed: AtomicBool,
    killed: Notify,
    is_waiting: AtomicBool,
}

impl Statement {
    fn state(&self) -> &'static str {
        if self.is_waiting.load(Ordering::Relaxed) { "waiting" } else { "running" }
    }
}

struct Ended {
    statement: Arc<Statement>,
    took: Duration,
    end: End,
}

/// All statements of an engine.
pub(super) struct Queries {
    now: Now,
    elapsed: Elapsed,
    limits: Limits,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Arc<Statement>>>,
    ended: Mutex<VecDeque<Ended>>,
}

impl Queries {
    pub fn new(now: Now, elapsed: Elapsed, limits: Limits) -> Arc<Queries> {
        Arc::new(Queries {
            now,
            elapsed,
            limits,
            turns: Arc::new(Semaphore::new(limits.at_once.clamp(1, Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            running: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    /// Notes a statement that begins; it counts as under way until what is given back is dropped. It may take as long as
    /// any, or only `timeout`.
    pub fn begin(self: &Arc<Self>, text: &str, timeout: Option<Duration>) -> Running {
        let statement = Arc::new(Statement {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            text: text.trim().chars().take(TEXT_KEPT).collect(),
            started: (self.now)(),
            since: (self.elapsed)(),
            rows: AtomicU64::new(0),
            is_killed: AtomicBool::new(false),
            killed: Notify::new(),
            is_waiting: AtomicBool::new(false),
        });
        self.running().insert(statement.number, statement.clone());
        let time = timeout.into_iter().chain(self.limits.time).min();
        Running { queries: self.clone(), statement, time, end: End::Left, turn: None }
    }

    /// Ends a statement under way; whether there is one of that number.
    pub fn kill(&self, number: u64) -> bool {
        let found = self.running().get(&number).cloned();
        if let Some(statement) = &found {
            statement.is_killed.store(true, Ordering::Release);
            statement.killed.notify_waiters();
        }
        found.is_some()
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Statement>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `system.queries`: those under way first, then those that ended, the latest first.
    pub fn rows(&self) -> Result<RecordBatch, ArrowError> {
        let now = (self.elapsed)();
        let running: Vec<Arc<Statement>> = self.running().values().cloned().collect();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way =
            running.iter().map(|statement| (statement, now - statement.since, statement.state().to_owned()));
        let over = ended.iter().rev().map(|ended| (&ended.statement, ended.took, ended.end.told()));
        let all: Vec<(&Arc<Statement>, Duration, String)> = under_way.chain(over).collect();
        let numbers = |of: fn(&Statement) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(all.iter().map(|(statement, ..)| of(statement))))
        };
        let started =
            TimestampNanosecondArray::from_iter_values(all.iter().map(|(statement, ..)| statement.started.nanos()));
        let seconds = Float64Array::from_iter_values(all.iter().map(|(_, took, _)| took.as_secs_f64()));
        let columns: [(&str, ArrayRef); 6] = [
            ("number", numbers(|statement| statement.number)),
            ("state", Arc::new(StringArray::from_iter_values(all.iter().map(|(.., state)| state)))),
            ("started", Arc::new(started.with_timezone("UTC"))),
            ("seconds", Arc::new(seconds)),
            ("rows", numbers(|statement| statement.rows.load(Ordering::Relaxed))),
            ("statement", Arc::new(StringArray::from_iter_values(all.iter().map(|(statement, ..)| &statement.text)))),
        ];
        RecordBatch::try_from_iter(columns)
    }
}

/// A statement under way.
pub(super) struct Running {
    queries: Arc<Queries>,
    statement: Arc<Statement>,
    /// How long it may take.
    time: Option<Duration>,
    end: End,
    /// From when on its turn has come.
    turn: Option<OwnedSemaphorePermit>,
}

impl Running {
    /// Waits until it is among those that are under way at once.
    ///
    /// # Errors
    /// As many wait as may; it was ended before its turn.
    pub async fn take_turn(&mut self) -> Result<(), QueryError> {
        let queries = self.queries.clone();
        if let Ok(turn) = queries.turns.clone().try_acquire_owned() {
            self.turn = Some(turn);
            return Ok(());
        }
        let waiting = Waiting::among(&queries, &self.statement)?;
        let turn = self.until_ended(queries.turns.clone().acquire_owned()).await.map_err(QueryError::Ended)?;
        drop(waiting);
        self.turn = turn.ok();
        Ok(())
    }

    /// What `work` gives, or why it was given up: it was killed, or took too long.
    pub async fn until_ended<T>(&mut self, work: impl Future<Output = T>) -> Result<T, String> {
        let statement = self.statement.clone();
        let killed = async {
            loop {
                let notified = statement.killed.notified();
                if statement.is_killed.load(Ordering::Acquire) {
                    return;
                }
                notified.await;
            }
        };
        let limit = self.time;
        let left = limit.map(|limit| limit.saturating_sub((self.queries.elapsed)() - self.statement.since));
        let too_long = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = killed => {
                self.end = End::Killed;
                Err(format!("the statement was ended by KILL {}", self.statement.number))
            }
            () = too_long => {
                self.end = End::TooLong;
                let limit = humantime::format_duration(limit.unwrap_or_default());
                Err(format!("the statement took longer than {limit}: ask for less, or raise `query.timeout`"))
            }
            found = work => Ok(found),
        }
    }

    pub fn number(&self) -> u64 {
        self.statement.number
    }

    pub fn count(&self, rows: usize) {
        self.statement.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub fn ends(&mut self, end: End) {
        self.end = end;
    }
}

/// A statement that waits for its turn.
struct Waiting<'q> {
    queries: &'q Queries,
    statement: Arc<Statement>,
}

impl<'q> Waiting<'q> {
    fn among(queries: &'q Queries, statement: &Arc<Statement>) -> Result<Waiting<'q>, QueryError> {
        let waiting = Waiting { queries, statement: statement.clone() };
        statement.is_waiting.store(true, Ordering::Relaxed);
        let Limits { at_once, waiting: most, .. } = queries.limits;
        if queries.waiting.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(waiting);
        }
        Err(QueryError::Busy(format!(
            "{at_once} statements are under way and {most} wait: ask again later, or raise `query.at_once` or `query.waiting`"
        )))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.statement.is_waiting.store(false, Ordering::Relaxed);
        self.queries.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let queries = &self.queries;
        queries.running().remove(&self.statement.number);
        let took = (queries.elapsed)() - self.statement.since;
        if queries.limits.slow.is_some_and(|slow| took > slow) {
            let Statement { number, text, rows, .. } = &*self.statement;
            let (seconds, rows) = (took.as_secs_f64(), rows.load(Ordering::Relaxed));
            tracing::warn!(number, seconds, rows, end = self.end.told(), statement = text, "a slow statement");
        }
        let mut ended = queries.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push_back(Ended { statement: self.statement.clone(), took, end: self.end.clone() });
        if ended.len() > ENDED_KEPT {
            ended.pop_front();
        }
    }
}

/// The number in `KILL 7` or `KILL QUERY 7`; `None` for any other statement.
pub(super) fn number_to_kill(sql: &str) -> Option<u64> {
    let mut words = sql.trim().trim_end_matches(';').split_whitespace();
    let is = |word: Option<&str>, wanted: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(wanted));
    if !is(words.next(), "kill") {
        return None;
    }
    let mut number = words.next();
    if is(number, "query") {
        number = words.next();
    }
    let number = number?.parse().ok()?;
    words.next().is_none().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_to_kill_is_read() {
        assert_eq!(number_to_kill("KILL 7"), Some(7));
        assert_eq!(number_to_kill(" kill query 12 ; "), Some(12));
        for other in ["SELECT 1", "KILL", "KILL all", "KILL 7 8", "KILL -1", "killer 7"] {
            assert_eq!(number_to_kill(other), None, "{other}");
        }
    }
}
