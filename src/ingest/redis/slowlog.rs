//! The slow log: what came to it since the pass before, by command.

use std::collections::BTreeMap;

use redis::{Cmd, Value};

use super::info::about;
use crate::ingest::source::Readings;

/// Entries read in a pass; the server keeps 128 unless told otherwise.
const ENTRIES: u32 = 1024;

pub(super) fn command() -> Cmd {
    let mut command = redis::cmd("SLOWLOG");
    command.arg("GET").arg(ENTRIES);
    command
}

/// What came to the slow log since the source began to look.
#[derive(Debug, Default)]
pub(super) struct Slowlog {
    /// Number of the latest entry seen; `None` before the first look.
    latest: Option<i64>,
    commands: BTreeMap<String, Slow>,
    lost: u64,
}

#[derive(Debug, Default)]
struct Slow {
    entries: u64,
    micros: u64,
    /// Of the latest pass.
    longest: u64,
}

#[derive(Debug, PartialEq)]
struct Entry {
    number: i64,
    micros: u64,
    command: String,
}

impl Slowlog {
    /// A server that was started anew counts from the beginning: all it has is new.
    pub(super) fn restarted(&mut self) {
        self.latest = Some(-1);
    }

    /// Takes an answer to [`command`]. What was in the log before the first look is no news.
    pub(super) fn take(&mut self, answer: &Value) {
        let entries: Vec<Entry> = items(answer).iter().filter_map(entry).collect();
        self.commands.values_mut().for_each(|slow| slow.longest = 0);
        let newest = entries.iter().map(|entry| entry.number).max();
        let Some(latest) = self.latest else {
            self.latest = Some(newest.unwrap_or(-1));
            return;
        };
        let Some(newest) = newest.filter(|newest| *newest > latest) else { return };
        let mut seen = 0;
        for entry in entries.into_iter().filter(|entry| entry.number > latest) {
            let slow = self.commands.entry(entry.command).or_default();
            slow.entries += 1;
            slow.micros += entry.micros;
            slow.longest = slow.longest.max(entry.micros);
            seen += 1;
        }
        // After an empty log nobody knows where the numbers begin.
        if latest >= 0 {
            self.lost += newest.abs_diff(latest).saturating_sub(seen);
        }
        self.latest = Some(newest);
    }

    pub(super) fn put(&self, readings: &mut Readings) {
        let mut put = |metric: &str, labels: &[(&str, &str)], help, value: f64| {
            readings.put(metric, labels, about(metric, help), value);
        };
        for (command, slow) in &self.commands {
            let labels = [("cmd", command.as_str())];
            let seconds = |micros: u64| micros as f64 / 1e6;
            put("redis_slowlog_entries_total", &labels, "Slow runs since the collector's start.", slow.entries as f64);
            let help = "Time that slow runs took.";
            put("redis_slowlog_duration_seconds_total", &labels, help, seconds(slow.micros));
            let help = "Longest of the slow runs since the pass before; 0 where there was none.";
            put("redis_slowlog_longest_seconds", &labels, help, seconds(slow.longest));
        }
        let help = "Slow runs that the log dropped before they were read: raise slowlog-max-len.";
        put("redis_slowlog_lost_total", &[], help, self.lost as f64);
        if let Some(latest) = self.latest {
            put("redis_slowlog_last_id", &[], "Number of the latest entry; -1 where there is none.", latest as f64);
        }
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

/// `[number, time, microseconds, [command, arguments…], address, name]`.
fn entry(value: &Value) -> Option<Entry> {
    let [Value::Int(number), _, Value::Int(micros), words, ..] = items(value) else { return None };
    let Value::BulkString(command) = items(words).first()? else { return None };
    Some(Entry { number: *number, micros: u64::try_from(*micros).ok()?, command: name(command) })
}

/// A command as a label: in small letters, and nothing that is no name.
pub(super) fn name(command: &[u8]) -> String {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-|".contains(byte);
    match command.len() <= 32 && !command.is_empty() && command.iter().all(is_name) {
        true => String::from_utf8_lossy(command).to_ascii_lowercase(),
        false => "(other)".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(entries: &[(i64, i64, &str)]) -> Value {
        let entry = |&(number, micros, command): &(i64, i64, &str)| {
            let words = Value::Array(vec![Value::BulkString(command.as_bytes().to_vec())]);
            Value::Array(vec![Value::Int(number), Value::Int(1), Value::Int(micros), words])
        };
        Value::Array(entries.iter().map(entry).collect())
    }

    fn told(slowlog: &Slowlog) -> Vec<String> {
        let mut readings = Readings::default();
        slowlog.put(&mut readings);
        readings.lines()
    }

    #[test]
    fn only_what_is_new_counts() {
        let mut slowlog = Slowlog::default();
        slowlog.take(&answer(&[(7, 500, "GET"), (6, 9, "SET")]));
        assert_eq!(told(&slowlog), ["redis_slowlog_lost_total 0", "redis_slowlog_last_id 7"]);
        slowlog.take(&answer(&[(9, 3_000_000, "DEBUG"), (8, 1_000_000, "debug"), (7, 500, "GET")]));
        let debug = |entries: u32, seconds: u32, longest: u32| {
            [
                format!("redis_slowlog_entries_total{{cmd=\"debug\"}} {entries}"),
                format!("redis_slowlog_duration_seconds_total{{cmd=\"debug\"}} {seconds}"),
                format!("redis_slowlog_longest_seconds{{cmd=\"debug\"}} {longest}"),
            ]
        };
        assert_eq!(told(&slowlog)[..3], debug(2, 4, 3));
        slowlog.take(&answer(&[(9, 3_000_000, "DEBUG")]));
        assert_eq!(told(&slowlog)[..3], debug(2, 4, 0), "no news");
        slowlog.take(&answer(&[(14, 2_000_000, "debug")]));
        assert_eq!(told(&slowlog)[..3], debug(3, 6, 2));
        assert_eq!(told(&slowlog)[3..], ["redis_slowlog_lost_total 4", "redis_slowlog_last_id 14"]);
        slowlog.restarted();
        slowlog.take(&answer(&[(0, 1_000_000, "debug")]));
        assert_eq!(told(&slowlog)[..3], debug(4, 7, 1), "a server that began anew");
    }

    #[test]
    fn answers_of_another_shape_are_nothing() {
        let mut slowlog = Slowlog { latest: Some(0), ..Slowlog::default() };
        let odd = Value::Array(vec![Value::Nil, Value::Array(vec![Value::Int(1)]), Value::Int(3)]);
        for value in [Value::Nil, Value::Okay, odd] {
            slowlog.take(&value);
            assert_eq!(told(&slowlog), ["redis_slowlog_lost_total 0", "redis_slowlog_last_id 0"]);
        }
        assert_eq!([name(b"SET"), name(b"\"; x"), name(&[b'a'; 99])], ["set", "(other)", "(other)"]);
    }
}
