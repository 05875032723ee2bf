//! The hit rate by prefix, from what MONITOR shows in a short time.
//!
//! MONITOR shows commands, not their answers. So whether a read found its key is inferred:
//! - a key that was written or deleted before, while we listened, was there or was not;
//! - a key that its reader writes next was not there: that is how caches are filled;
//! - else the key is looked up right after listening: it was there if it is there now.
//!
//! Reads that are followed by somebody else's write or by a deletion are left out. Wrong are: a reader that refreshes
//! what it found (taken for a miss), and a key that expired or was evicted in between (taken for a miss as well).

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use redis::{Pipeline, Value};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::connect::{Failed, Line, Stream, open, told};
use super::info::about;
use super::keys::{Lookups, prefix};
use super::spec::RedisSpec;
use crate::ingest::source::{Readings, SourceError};
use crate::world::World;

/// Commands looked at in a pass.
const COMMANDS: usize = 50_000;
/// Different keys followed in a pass.
const KEYS: usize = 5_000;
/// Reads in a pass that wait for being decided; further ones are not counted.
const OPEN: usize = 200_000;
/// Bytes kept of a line: the command and its first keys, not the values.
const LINE: usize = 4096;

/// Commands that find a value or do not; by their first key, or by all.
#[rustfmt::skip]
const READS: &[&str] = &[
    "get", "getex", "getrange", "strlen", "hget", "hmget", "hgetall", "hexists", "hlen", "hkeys", "hvals", "hscan", "lrange",
    "lindex", "llen", "smembers", "sismember", "smismember", "scard", "srandmember", "zrange", "zrangebyscore", "zrevrange",
    "zscore", "zrank", "zcard", "zcount", "getbit", "bitcount", "xrange", "xlen",
];
const READS_OF_MANY: &[&str] = &["mget", "exists"];
/// Commands after which the key is there.
#[rustfmt::skip]
const WRITES: &[&str] = &[
    "set", "setex", "psetex", "setnx", "getset", "append", "setrange", "setbit", "incr", "incrby", "incrbyfloat", "decr",
    "decrby", "hset", "hmset", "hsetnx", "hincrby", "lpush", "rpush", "sadd", "zadd", "zincrby", "xadd", "restore",
];
const DELETES: &[&str] = &["del", "unlink", "getdel"];

/// What was inferred since the source's start, by prefix.
#[derive(Debug, Default)]
pub(super) struct Monitor {
    sums: BTreeMap<String, Sum>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Sum {
    reads: u64,
    hits: u64,
    /// Of the latest pass.
    recent: (u64, u64),
}

impl Monitor {
    /// Listens for `time`, looks up what is undecided, and tells of it.
    pub(super) async fn listen(
        &mut self,
        line: &mut Line,
        spec: &RedisSpec,
        world: &World,
        time: Duration,
        lookups: &mut Lookups,
        readings: &mut Readings,
    ) -> Result<(), Failed> {
        let mut heard = Heard::default();
        let listened = tokio::time::timeout(time, hear(spec, world, line.db, &mut heard)).await;
        if let Ok(Err(error)) = listened {
            return Err(Failed::Command(error.0));
        }
        let open: Vec<Vec<u8>> = heard.undecided();
        for keys in open.chunks(500) {
            let mut commands = Pipeline::with_capacity(keys.len());
            for key in keys {
                commands.cmd("EXISTS").arg(key);
            }
            for (key, answer) in keys.iter().zip(line.ask_all(&mut commands).await?) {
                let is_there = answer.map_err(Failed::Command)? == Value::Int(1);
                lookups.count(is_there);
                heard.decide(key, is_there);
            }
        }
        self.add(&heard, spec.prefixes as usize);
        self.put(readings, &line.db.to_string());
        Ok(())
    }

    fn add(&mut self, heard: &Heard, most: usize) {
        self.sums.values_mut().for_each(|sum| sum.recent = (0, 0));
        for (key, seen) in heard.keys.iter().filter(|(_, seen)| seen.reads > 0) {
            let mut name = prefix(key);
            if self.sums.len() >= most && !self.sums.contains_key(&name) {
                name = "(others)".into();
            }
            let sum = self.sums.entry(name).or_default();
            sum.reads += seen.reads;
            sum.hits += seen.hits;
            sum.recent = (sum.recent.0 + seen.reads, sum.recent.1 + seen.hits);
        }
    }

    fn put(&self, readings: &mut Readings, db: &str) {
        let mut put = |metric: &str, prefix: &str, help, value: f64| {
            readings.put(metric, &[("db", db), ("prefix", prefix)], about(metric, help), value);
        };
        for (prefix, sum) in &self.sums {
            let (reads, hits) = sum.recent;
            put("redis_prefix_sampled_reads_total", prefix, "Reads seen while listening.", sum.reads as f64);
            let help = "Those that found their key, inferred.";
            put("redis_prefix_sampled_hits_total", prefix, help, sum.hits as f64);
            if reads > 0 {
                let help = "Share of the pass's reads that found their key, inferred.";
                put("redis_prefix_hit_ratio", prefix, help, hits as f64 / reads as f64);
            }
        }
    }
}

/// What lines of MONITOR tell, `there` being the only key that is there in the end.
pub(in crate::ingest) fn inferred(lines: &[u8], there: &[u8]) -> Readings {
    let mut heard = Heard::default();
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(command) = Command::parse(line) {
            heard.take(&command);
        }
    }
    for key in heard.undecided() {
        heard.decide(&key, key == there);
    }
    let (mut monitor, mut readings) = (Monitor::default(), Readings::default());
    monitor.add(&heard, 8);
    monitor.put(&mut readings, "0");
    readings
}

/// Takes commands until it is dropped, or there are enough of them.
async fn hear(spec: &RedisSpec, world: &World, db: i64, heard: &mut Heard) -> Result<(), SourceError> {
    let opened = open(spec, world, Duration::from_secs(4)).await?;
    let lost = |error: std::io::Error| told(spec, &format!("listening failed: {error}"), "");
    let mut stream = BufReader::new(opened.stream);
    let mut words: Vec<Vec<&str>> = vec![vec!["MONITOR"]];
    if let Some(password) = opened.settings.password() {
        let user = opened.settings.username().into_iter();
        words.insert(0, ["AUTH"].into_iter().chain(user).chain([password]).collect());
    }
    for words in &words {
        stream.write_all(&packed(words)).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        let mut answer = Vec::new();
        read_line(&mut stream, &mut answer).await.map_err(lost)?;
        if answer.first() == Some(&b'-') {
            let error = String::from_utf8_lossy(&answer[1..]).trim_end().to_owned();
            return Err(told(spec, &error, "allow MONITOR with ACL SETUSER, or leave `monitor` out"));
        }
    }
    let mut line = Vec::new();
    for _ in 0..COMMANDS {
        line.clear();
        read_line(&mut stream, &mut line).await.map_err(lost)?;
        if let Some(command) = Command::parse(&line).filter(|command| command.db == db) {
            heard.take(&command);
        }
    }
    Ok(())
}

/// Words as the server takes them: how many there are, then each with its length.
fn packed(words: &[&str]) -> Vec<u8> {
    let each: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{each}", words.len()).into_bytes()
}

/// Reads a line and keeps its first [`LINE`] bytes.
async fn read_line(stream: &mut BufReader<Box<dyn Stream>>, line: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let bytes = stream.fill_buf().await?;
        if bytes.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let end = memchr::memchr(b'\n', bytes);
        let taken = end.map_or(bytes.len(), |end| end + 1);
        let room = LINE.saturating_sub(line.len());
        line.extend_from_slice(&bytes[..taken.min(room)]);
        stream.consume(taken);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// A line such as `+1339518083.107412 [0 127.0.0.1:60866] "get" "key"`.
#[derive(Debug, PartialEq)]
struct Command<'l> {
    db: i64,
    client: &'l [u8],
    /// Name, then arguments.
    words: Vec<Vec<u8>>,
}

impl<'l> Command<'l> {
    fn parse(line: &'l [u8]) -> Option<Self> {
        let open = memchr::memchr(b'[', line)?;
        let close = open + memchr::memchr(b']', &line[open..])?;
        let mut place = line[open + 1..close].splitn(2, |byte| *byte == b' ');
        let db = std::str::from_utf8(place.next()?).ok()?.parse().ok()?;
        // An address of IPv6 is in brackets itself.
        let quote = close + memchr::memchr(b'"', &line[close..])?;
        let words = words(&line[quote..]);
        (!words.is_empty()).then_some(Command { db, client: place.next()?, words })
    }
}

/// Texts in quotes; one that is cut off is left out.
fn words(mut line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    while let Some(open) = memchr::memchr(b'"', line) {
        let Some((word, length)) = unquoted(&line[open + 1..]) else { break };
        words.push(word);
        line = &line[open + 1 + length..];
    }
    words
}

/// A text up to its closing quote, and the bytes to behind that.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut word, mut at) = (Vec::new(), 0);
    loop {
        match *text.get(at)? {
            b'"' => return Some((word, at + 1)),
            b'\\' => {
                let escaped = *text.get(at + 1)?;
                let digits = text.get(at + 2..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
                let hex = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                let (byte, length) = match (escaped, hex) {
                    (b'x', Some(byte)) => (byte, 4),
                    (b'n', _) => (b'\n', 2),
                    (b'r', _) => (b'\r', 2),
                    (b't', _) => (b'\t', 2),
                    (b'a', _) => (7, 2),
                    (b'b', _) => (8, 2),
                    (other, _) => (other, 2),
                };
                word.push(byte);
                at += length;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// What was heard of each key.
#[derive(Debug, Default)]
struct Heard {
    keys: HashMap<Vec<u8>, Seen>,
    /// Reads that have come to wait, decided since or not.
    waited: usize,
}

#[derive(Debug, Default)]
struct Seen {
    /// Decided reads.
    reads: u64,
    hits: u64,
    /// Whether it is there, once that is known.
    is_there: Option<bool>,
    /// Readers before that, in order.
    open: Vec<Vec<u8>>,
}

impl Heard {
    fn take(&mut self, command: &Command<'_>) {
        let [name, arguments @ ..] = &command.words[..] else { return };
        let name = name.to_ascii_lowercase();
        let is = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
        let first = &arguments[..arguments.len().min(1)];
        if is(READS) {
            first.iter().for_each(|key| self.read(key, command.client));
        } else if is(READS_OF_MANY) {
            arguments.iter().for_each(|key| self.read(key, command.client));
        } else if is(WRITES) {
            first.iter().for_each(|key| self.write(key, command.client));
        } else if is(&["mset", "msetnx"]) {
            arguments.iter().step_by(2).for_each(|key| self.write(key, command.client));
        } else if is(DELETES) {
            arguments.iter().for_each(|key| self.delete(key));
        }
    }

    fn of(&mut self, key: &[u8]) -> Option<&mut Seen> {
        let has_room = self.keys.len() < KEYS;
        match self.keys.entry(key.to_vec()) {
            Entry::Occupied(seen) => Some(seen.into_mut()),
            Entry::Vacant(place) => has_room.then(|| place.insert(Seen::default())),
        }
    }

    fn read(&mut self, key: &[u8], client: &[u8]) {
        let has_room = self.waited < OPEN;
        let Some(seen) = self.of(key) else { return };
        match seen.is_there {
            Some(is_there) => seen.count(1, is_there),
            None if has_room => {
                seen.open.push(client.to_vec());
                self.waited += 1;
            }
            None => {}
        }
    }

    fn write(&mut self, key: &[u8], client: &[u8]) {
        let Some(seen) = self.of(key) else { return };
        let open = std::mem::take(&mut seen.open);
        if open.iter().any(|reader| reader == client) {
            seen.count(open.len() as u64, false);
        }
        seen.is_there = Some(true);
    }

    fn delete(&mut self, key: &[u8]) {
        let Some(seen) = self.of(key) else { return };
        seen.open.clear();
        seen.is_there = Some(false);
    }

    /// Keys that have to be looked up.
    fn undecided(&self) -> Vec<Vec<u8>> {
        self.keys.iter().filter(|(_, seen)| !seen.open.is_empty()).map(|(key, _)| key.clone()).collect()
    }

    fn decide(&mut self, key: &[u8], is_there: bool) {
        if let Some(seen) = self.keys.get_mut(key) {
            let open = std::mem::take(&mut seen.open).len() as u64;
            seen.count(open, is_there);
        }
    }
}

impl Seen {
    fn count(&mut self, reads: u64, is_there: bool) {
        self.reads += reads;
        self.hits += if is_there { reads } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let command =
            Command::parse(b"+1339518083.107412 [2 127.0.0.1:60866] \"GET\" \"a \\\"b\\\" \\xff\\n\\\\\"\r\n").unwrap();
        assert_eq!((command.db, command.client), (2, &b"127.0.0.1:60866"[..]));
        assert_eq!(command.words, [b"GET".to_vec(), b"a \"b\" \xff\n\\".to_vec()]);
        let six = Command::parse(b"+1.2 [0 [::1]:6379] \"get\" \"k\"\r\n").unwrap();
        assert_eq!(six.words, [b"get".to_vec(), b"k".to_vec()]);
        assert_eq!(Command::parse(b"+1.2 [0 lua] \"set\" \"k\" \"cut of").unwrap().words.len(), 2);
        for line in ["", "+OK\r\n", "+1 [", "+1 []", "+1 [x 1] \"get\"", "+1 [0 1] get", "+1 [0 1] \"", "+1 [0 1] \"\\"]
        {
            assert_eq!(Command::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn words_are_sent_with_their_lengths() {
        assert_eq!(packed(&["MONITOR"]), b"*1\r\n$7\r\nMONITOR\r\n");
        assert_eq!(packed(&["AUTH", "u", "p\r\n$w"]), b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$5\r\np\r\n$w\r\n");
    }

    /// Reads and hits after commands of (client, words), with the keys that are there in the end.
    fn inferred(commands: &[(&str, &str)], there: &[&str]) -> (u64, u64) {
        let mut heard = Heard::default();
        for (client, text) in commands {
            let words = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            heard.take(&Command { db: 0, client: client.as_bytes(), words });
        }
        for key in heard.undecided() {
            let is_there = there.iter().any(|there| there.as_bytes() == key);
            heard.decide(&key, is_there);
        }
        heard.keys.values().fold((0, 0), |(reads, hits), seen| (reads + seen.reads, hits + seen.hits))
    }

    #[test]
    fn whether_a_read_found_its_key_is_inferred() {
        type Case = (&'static [(&'static str, &'static str)], &'static [&'static str], (u64, u64));
        let cases: [Case; 8] = [
            (&[("a", "GET k"), ("b", "hget k f")], &["k"], (2, 2)),
            (&[("a", "GET k")], &[], (1, 0)),
            (&[("a", "GET k"), ("b", "GET k"), ("a", "SET k v"), ("b", "GET k")], &["k"], (3, 1)),
            (&[("a", "GET k"), ("b", "SET k v")], &["k"], (0, 0)),
            (&[("a", "GET k"), ("a", "DEL k"), ("a", "GET k")], &[], (1, 0)),
            (&[("a", "MSET k 1 l 2"), ("a", "MGET k l m")], &["k", "l"], (3, 2)),
            (&[("a", "SETEX k 10 v"), ("a", "EXISTS k m")], &["k"], (2, 1)),
            (&[("a", "PING"), ("a", "GET"), ("a", "INFO all"), ("a", "SET k v")], &["k"], (0, 0)),
        ];
        for (commands, there, wanted) in cases {
            assert_eq!(inferred(commands, there), wanted, "{commands:?}");
        }
    }

    #[test]
    fn prefixes_are_bounded_and_ratios_are_of_the_pass() {
        let mut monitor = Monitor::default();
        let mut pass = |reads: &[(&str, bool)]| {
            let mut heard = Heard::default();
            for (key, is_there) in reads {
                heard.read(key.as_bytes(), b"a");
                heard.decide(key.as_bytes(), *is_there);
            }
            monitor.add(&heard, 1);
            let mut readings = Readings::default();
            monitor.put(&mut readings, "0");
            readings.lines()
        };
        let of = |what: &str, prefix: &str, value: &str| {
            format!("redis_prefix_{what}{{db=\"0\",prefix=\"{prefix}\"}} {value}")
        };
        let user = |reads, hits| [of("sampled_reads_total", "user", reads), of("sampled_hits_total", "user", hits)];
        let others = [of("sampled_reads_total", "(others)", "1"), of("sampled_hits_total", "(others)", "0")];
        let ratio = |prefix, value| [of("hit_ratio", prefix, value)];
        assert_eq!(pass(&[("user:1", true), ("user:2", false)]), [&user("2", "1")[..], &ratio("user", "0.5")].concat());
        let wanted = [&others[..], &ratio("(others)", "0"), &user("2", "1")].concat();
        assert_eq!(pass(&[("page:1", false)]), wanted);
    }
}
