//! A sample of the keys: how many there are by prefix, what memory they take, and which are hot.
//!
//! SCAN walks the hash table, whose order has nothing to do with names or use, so any stretch of it is a random sample.
//! Each pass goes on where the one before ended. A database of no more than `sample` keys is looked at whole.
//!
//! Where `maxmemory` is 0 Redis keeps one object for all keys with the same small number, whose use is then that of all.
//!
//! Lookups by a collector count in the server's own hits and misses: two a key here. [`Lookups`] counts them, so that
//! they can be taken off.

use hashbrown::{HashMap, HashSet};
use redis::{Pipeline, Value};

use super::connect::{Answer, Failed, Line};
use super::info::about;
use super::spec::RedisSpec;
use crate::ingest::source::Readings;

/// Keys asked for at once.
const BATCH: usize = 200;
/// Hot keys that are watched, as a multiple of those told.
const WATCHED: usize = 4;
/// How much of what is known of a key's use a pass leaves.
const MEMORY: f64 = 0.8;
/// Letters of a key or prefix in a label.
const LETTERS: usize = 100;
/// Prefixes that are told in all, as a multiple of those told in a pass: each is a series for good.
const TOLD: usize = 10;
/// Keys of a pass with which a prefix is told for the first time: `ID:cart` is no prefix but a key.
const KEYS_MIN: f64 = 2.0;

/// Our own lookups that the server counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Lookups {
    pub hits: u64,
    pub misses: u64,
}

impl Lookups {
    pub(super) fn count(&mut self, hit: bool) {
        if hit { self.hits += 1 } else { self.misses += 1 }
    }

    /// Counts a lookup that was answered; one that was refused looks nothing up.
    fn count_answer(&mut self, answer: &Answer, hit: bool) {
        if matches!(answer, Ok(Value::Int(_) | Value::Nil)) {
            self.count(hit);
        }
    }
}

/// What is remembered of the keys from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Where SCAN goes on; 0 is the beginning.
    cursor: u64,
    watched: Vec<Use>,
    /// Prefixes that were told.
    told: HashSet<String>,
}

/// How much a key is used.
#[derive(Debug, Clone, PartialEq)]
struct Use {
    key: Vec<u8>,
    /// As the server counts it (0 to 255, logarithmic), where it evicts by that; else the share of passes since each of
    /// which the key was touched, recent ones counting more.
    heat: f64,
    /// Seconds since it was touched, where nothing is counted.
    idle: Option<f64>,
}

/// What one look at a key told; `None` of a key that went meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    bytes: Option<f64>,
    life: Option<Life>,
    /// Frequency or idle seconds.
    used: Option<f64>,
}

impl Look {
    /// Of the answers to OBJECT, PTTL and MEMORY USAGE, or to the first alone. The first two are lookups.
    fn of(answers: &[Answer], lookups: &mut Lookups) -> Look {
        let used = answers.first().and_then(number);
        let life = answers.get(1).and_then(number).and_then(Life::of);
        for (answer, hit) in answers.iter().zip([used.is_some(), life.is_some()]) {
            lookups.count_answer(answer, hit);
        }
        Look { used, life, bytes: answers.get(2).and_then(number) }
    }
}

/// How long a key has to live.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Life {
    Forever,
    Seconds(f64),
}

impl Life {
    /// Of an answer to PTTL; `None` of a key that is not there.
    fn of(milliseconds: f64) -> Option<Life> {
        match milliseconds {
            -2.0 => None,
            left if left < 0.0 => Some(Life::Forever),
            left => Some(Life::Seconds(left / 1000.0)),
        }
    }
}

/// What a pass knows of the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    /// Whether the server counts how often keys are used.
    pub counts_use: bool,
    /// Since the pass before.
    pub seconds: f64,
}

impl Keys {
    /// Looks at a sample until `is_late`, and tells of it. What the server refuses to say of single keys is an error in the
    /// end, after the rest was told.
    pub(super) async fn look(
        &mut self,
        line: &mut Line,
        spec: &RedisSpec,
        pass: Pass,
        lookups: &mut Lookups,
        is_late: &(dyn Fn() -> bool + Sync),
        readings: &mut Readings,
    ) -> Result<(), Failed> {
        let Value::Int(all) = line.ask(&redis::cmd("DBSIZE")).await? else { return Ok(()) };
        let all = all.max(0) as f64;
        let (keys, is_whole) = self.scan(line, spec.sample as usize, all, is_late).await?;
        let (mut looks, mut refused) = (Vec::with_capacity(keys.len()), None);
        for batch in keys.chunks(BATCH).take_while(|_| !is_late()) {
            looks.extend(ask(line, batch, true, pass.counts_use, lookups, &mut refused).await?);
        }
        let seen: Vec<(&[u8], Look)> = keys.iter().map(Vec::as_slice).zip(looks).collect();
        let is_whole = is_whole && seen.len() == keys.len();
        let db = line.db.to_string();
        Prefixes::of(&seen, spec.prefixes as usize, &mut self.told).put(
            readings,
            &db,
            if is_whole { None } else { Some(all) },
        );
        if spec.hot > 0 {
            self.watch(line, spec.hot as usize, pass, &seen, lookups).await?;
            self.put_hot(readings, &db, spec.hot as usize, pass.counts_use);
        }
        refused.map_or(Ok(()), |error| Err(Failed::Command(error)))
    }

    /// At least `sample` keys, or all there are; and whether they are all.
    async fn scan(
        &mut self,
        line: &mut Line,
        sample: usize,
        all: f64,
        is_late: &(dyn Fn() -> bool + Sync),
    ) -> Result<(Vec<Vec<u8>>, bool), Failed> {
        let takes_all = all <= sample as f64;
        if takes_all {
            self.cursor = 0;
        }
        let (mut found, mut keys) = (HashSet::new(), Vec::new());
        // A table from which much was deleted gives few keys a call.
        let calls = sample / 10 + 100;
        let mut begun_anew = self.cursor == 0;
        for _ in 0..calls {
            if is_late() || (!takes_all && keys.len() >= sample) {
                break;
            }
            let mut scan = redis::cmd("SCAN");
            scan.arg(self.cursor).arg("COUNT").arg(100);
            let (cursor, batch) = scanned(&line.ask(&scan).await?);
            keys.extend(batch.into_iter().filter(|key| found.insert(key.clone())));
            self.cursor = cursor;
            if cursor == 0 && begun_anew {
                return Ok((keys, true));
            }
            begun_anew |= cursor == 0;
        }
        keys.truncate(sample);
        Ok((keys, false))
    }

    /// Asks again for the keys that were hot, adds those of the sample, and keeps the hottest.
    async fn watch(
        &mut self,
        line: &mut Line,
        hot: usize,
        pass: Pass,
        seen: &[(&[u8], Look)],
        lookups: &mut Lookups,
    ) -> Result<(), Failed> {
        let known: Vec<Vec<u8>> = self.watched.iter().map(|known| known.key.clone()).collect();
        let mut again = Vec::with_capacity(known.len());
        for batch in known.chunks(BATCH) {
            // What is refused here was refused for the sample.
            again.extend(ask(line, batch, false, pass.counts_use, lookups, &mut None).await?);
        }
        let old = std::mem::take(&mut self.watched).into_iter().zip(again);
        let mut uses: Vec<Use> = old.filter_map(|(old, look)| Some(old.after(look.used?, pass))).collect();
        let names: HashSet<&[u8]> = known.iter().map(Vec::as_slice).collect();
        let new = seen.iter().filter(|(key, _)| !names.contains(key));
        uses.extend(new.filter_map(|(key, look)| Some(Use::new(key).after(look.used?, pass))));
        self.watched = hottest(uses, WATCHED * hot);
        Ok(())
    }

    fn put_hot(&self, readings: &mut Readings, db: &str, hot: usize, counts_use: bool) {
        let metric = if counts_use { "redis_hot_key_frequency" } else { "redis_hot_key_touched_ratio" };
        let help = match counts_use {
            true => "How often the key is used, as the server counts it: 0 to 255, logarithmic.",
            false => "Share of recent passes since each of which the key was touched, estimated.",
        };
        // What is never touched is not hot.
        for hot in self.watched.iter().take(hot).filter(|hot| hot.heat > 0.0) {
            let key = label(&hot.key);
            let labels = [("db", db), ("key", key.as_str())];
            readings.put(metric, &labels, about(metric, help), hot.heat);
            if let Some(idle) = hot.idle {
                let metric = "redis_hot_key_idle_seconds";
                readings.put(metric, &labels, about(metric, "Time since the key was touched."), idle);
            }
        }
    }
}

impl Use {
    fn new(key: &[u8]) -> Self {
        Use { key: key.to_vec(), heat: 0.0, idle: None }
    }

    fn after(self, used: f64, pass: Pass) -> Self {
        if pass.counts_use {
            return Use { heat: used, idle: None, ..self };
        }
        let touched = f64::from(u8::from(used <= pass.seconds));
        Use { heat: MEMORY * self.heat + (1.0 - MEMORY) * touched, idle: Some(used), ..self }
    }
}

/// The `most` that are used most, in order.
fn hottest(mut uses: Vec<Use>, most: usize) -> Vec<Use> {
    uses.sort_by(|a, b| {
        let by_idle = a.idle.unwrap_or(0.0).total_cmp(&b.idle.unwrap_or(0.0));
        b.heat.total_cmp(&a.heat).then(by_idle).then_with(|| a.key.cmp(&b.key))
    });
    uses.truncate(most);
    uses
}

/// Asks how much a batch of keys is used; and, `whole`, what memory they take and whether they expire. The first that is
/// refused is noted.
async fn ask(
    line: &mut Line,
    keys: &[Vec<u8>],
    whole: bool,
    counts_use: bool,
    lookups: &mut Lookups,
    refused: &mut Option<String>,
) -> Result<Vec<Look>, Failed> {
    let mut commands = Pipeline::with_capacity(3 * keys.len());
    for key in keys {
        commands.cmd("OBJECT").arg(if counts_use { "FREQ" } else { "IDLETIME" }).arg(key);
        if whole {
            commands.cmd("PTTL").arg(key).cmd("MEMORY").arg("USAGE").arg(key);
        }
    }
    let answers = line.ask_all(&mut commands).await?;
    if refused.is_none() {
        *refused = answers.iter().find_map(|answer| answer.as_ref().err().cloned());
    }
    Ok(answers.chunks(if whole { 3 } else { 1 }).map(|answers| Look::of(answers, lookups)).collect())
}

fn number(answer: &Answer) -> Option<f64> {
    match answer {
        Ok(Value::Int(number)) => Some(*number as f64),
        _ => None,
    }
}

/// Cursor and keys of an answer to SCAN.
fn scanned(answer: &Value) -> (u64, Vec<Vec<u8>>) {
    let Value::Array(parts) = answer else { return (0, Vec::new()) };
    let [Value::BulkString(cursor), Value::Array(keys)] = &parts[..] else { return (0, Vec::new()) };
    let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok()).unwrap_or(0);
    let key = |key: &Value| match key {
        Value::BulkString(key) => Some(key.clone()),
        _ => None,
    };
    (cursor, keys.iter().filter_map(key).collect())
}

/// What a key starts with, before the first colon, as a label.
pub(super) fn prefix(key: &[u8]) -> String {
    match key.iter().position(|byte| *byte == b':') {
        Some(end) => label(&key[..end]),
        None => "(none)".into(),
    }
}

/// Bytes as a label: short, on one line.
fn label(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LETTERS)]);
    let mut label: String = text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if let Some((at, _)) = label.char_indices().nth(LETTERS) {
        label.truncate(at);
        label.push('…');
    }
    label
}

/// Keys by prefix.
struct Prefixes {
    sums: Vec<(String, Sum)>,
    sampled: f64,
}

/// Whether a prefix is told apart: it was before, or it has several keys and there is room for one more in all.
fn is_told(prefix: &str, sum: Sum, told: &mut HashSet<String>, most: usize) -> bool {
    let has_room = sum.keys >= KEYS_MIN && told.len() < most;
    told.contains(prefix) || (has_room && told.insert(prefix.to_owned()))
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    keys: f64,
    bytes: f64,
    /// Keys whose memory was told.
    sized: f64,
    expiring: f64,
    /// Seconds that those have left, together.
    left: f64,
}

impl Sum {
    fn add(&mut self, other: Sum) {
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.sized += other.sized;
        self.expiring += other.expiring;
        self.left += other.left;
    }
}

impl Prefixes {
    /// The `most` with most keys among those that were `told` before or have several keys, the rest as `(others)`.
    fn of(seen: &[(&[u8], Look)], most: usize, told: &mut HashSet<String>) -> Self {
        let mut sums: HashMap<String, Sum> = HashMap::new();
        let mut sampled = 0.0;
        for (key, look) in seen {
            // A key that went meanwhile has no time to live.
            let Some(life) = look.life else { continue };
            let (expiring, left) = match life {
                Life::Forever => (0.0, 0.0),
                Life::Seconds(seconds) => (1.0, seconds),
            };
            sums.entry(prefix(key)).or_default().add(Sum {
                keys: 1.0,
                bytes: look.bytes.unwrap_or(0.0),
                sized: f64::from(u8::from(look.bytes.is_some())),
                expiring,
                left,
            });
            sampled += 1.0;
        }
        let mut sums: Vec<(String, Sum)> = sums.into_iter().collect();
        sums.sort_by(|(a, one), (b, other)| other.keys.total_cmp(&one.keys).then_with(|| a.cmp(b)));
        let (mut apart, mut others) = (Vec::new(), Sum::default());
        for (prefix, sum) in sums {
            if apart.len() < most && is_told(&prefix, sum, told, TOLD * most) {
                apart.push((prefix, sum));
            } else {
                others.add(sum);
            }
        }
        if others.keys > 0.0 {
            apart.push(("(others)".into(), others));
        }
        Prefixes { sums: apart, sampled }
    }

    /// `all` is how many keys the sample stands for; `None` where it is all of them.
    fn put(&self, readings: &mut Readings, db: &str, all: Option<f64>) {
        let mut put = |metric: &str, labels: &[(&str, &str)], help, value: f64| {
            readings.put(metric, labels, about(metric, help), value);
        };
        put("redis_sampled_keys", &[("db", db)], "Keys looked at in the pass.", self.sampled);
        let whole = f64::from(u8::from(all.is_none()));
        put("redis_sample_whole", &[("db", db)], "1 where these were all keys, so that nothing is estimated.", whole);
        if self.sampled == 0.0 {
            return;
        }
        let each = all.map_or(1.0, |all| all / self.sampled);
        for (prefix, sum) in &self.sums {
            let labels = [("db", db), ("prefix", prefix.as_str())];
            put("redis_prefix_keys", &labels, "Keys of the prefix, estimated from the sample.", sum.keys * each);
            if sum.sized > 0.0 {
                let help = "Memory of keys and values of the prefix, estimated from the sample.";
                put("redis_prefix_memory_bytes", &labels, help, sum.bytes * each);
            }
            let help = "Share of the prefix's keys that will expire.";
            put("redis_prefix_expiring_ratio", &labels, help, sum.expiring / sum.keys);
            if sum.expiring > 0.0 {
                let help = "Average time that those have left.";
                put("redis_prefix_ttl_seconds", &labels, help, sum.left / sum.expiring);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: f64, milliseconds: f64) -> Look {
        Look { bytes: Some(bytes), life: Life::of(milliseconds), used: Some(0.0) }
    }

    #[test]
    fn a_sample_stands_for_all_keys() {
        let seen: Vec<(&[u8], Look)> = vec![
            (b"user:1", look(50.0, 4000.0)),
            (b"user:2", look(70.0, -1.0)),
            (b"session:1", look(10.0, 500.0)),
            (b"4711:cart", look(30.0, -1.0)),
            (b"user:gone", look(1.0, -2.0)),
        ];
        let told = |most, all| {
            let mut readings = Readings::default();
            let mut before = HashSet::from(["session".to_owned()]);
            Prefixes::of(&seen, most, &mut before).put(&mut readings, "0", all);
            readings.lines()
        };
        let all = told(1, Some(40.0));
        let of = |prefix: &str, keys: u32, bytes: u32, share: f64, left: Option<f64>| {
            let labels = format!("{{db=\"0\",prefix=\"{prefix}\"}}");
            let mut lines = vec![
                format!("redis_prefix_keys{labels} {keys}"),
                format!("redis_prefix_memory_bytes{labels} {bytes}"),
                format!("redis_prefix_expiring_ratio{labels} {share}"),
            ];
            lines.extend(left.map(|left| format!("redis_prefix_ttl_seconds{labels} {left}")));
            lines
        };
        assert_eq!(all[..2], [r#"redis_sampled_keys{db="0"} 4"#, r#"redis_sample_whole{db="0"} 0"#]);
        assert_eq!(all[2..], [of("user", 20, 1200, 0.5, Some(4.0)), of("(others)", 20, 400, 0.5, Some(0.5))].concat());
        let whole = told(3, None);
        let wanted = [
            of("user", 2, 120, 0.5, Some(4.0)),
            of("session", 1, 10, 1.0, Some(0.5)),
            of("(others)", 1, 30, 0.0, None),
        ];
        assert_eq!(whole[2..], wanted.concat(), "one key is no prefix, unless it was one before");
    }

    #[test]
    fn prefixes_are_bounded_in_all() {
        let mut told = HashSet::new();
        let sum = Sum { keys: 2.0, ..Sum::default() };
        let new: Vec<bool> = (0..5).map(|at| is_told(&at.to_string(), sum, &mut told, 3)).collect();
        assert_eq!(new, [true, true, true, false, false]);
        assert!(is_told("0", Sum { keys: 1.0, ..sum }, &mut told, 3));
    }

    #[test]
    fn only_lookups_that_were_answered_are_our_own() {
        let mut lookups = Lookups::default();
        let mut look = |answers: [Answer; 3]| {
            let look = Look::of(&answers, &mut lookups);
            (look.used, look.life, look.bytes, lookups.hits, lookups.misses)
        };
        let refused = || Err("NOPERM".to_owned());
        let there = look([Ok(Value::Int(3)), Ok(Value::Int(-1)), Ok(Value::Int(50))]);
        assert_eq!(there, (Some(3.0), Some(Life::Forever), Some(50.0), 2, 0));
        assert_eq!(look([Ok(Value::Nil), Ok(Value::Int(-2)), Ok(Value::Nil)]), (None, None, None, 2, 2));
        assert_eq!(look([refused(), refused(), refused()]), (None, None, None, 2, 2));
        let in_part = look([refused(), Ok(Value::Int(1000)), refused()]);
        assert_eq!(in_part, (None, Some(Life::Seconds(1.0)), None, 3, 2));
    }

    #[test]
    fn what_is_touched_again_and_again_is_hotter_than_what_was_touched_once() {
        let pass = Pass { counts_use: false, seconds: 10.0 };
        let often = (0..5).fold(Use::new(b"often"), |known, _| known.after(3.0, pass));
        let once = Use::new(b"once").after(0.0, pass);
        let never = Use::new(b"never").after(5000.0, pass);
        let order = hottest(vec![never.clone(), once.clone(), often.clone()], 2);
        assert_eq!(order, [often, once]);
        assert_eq!((never.heat, never.idle), (0.0, Some(5000.0)));
        let counted = Pass { counts_use: true, seconds: 10.0 };
        assert_eq!(Use::new(b"x").after(200.0, counted), Use { key: b"x".to_vec(), heat: 200.0, idle: None });
    }

    #[test]
    fn labels_are_short_and_on_one_line() {
        assert_eq!([prefix(b"a:b:c"), prefix(b":x"), prefix(b"plain")], ["a", "", "(none)"]);
        assert_eq!(label(b"a\n\xFFb"), "a?\u{FFFD}b");
        assert_eq!(label("ö".repeat(500).as_bytes()).chars().count(), LETTERS + 1);
    }

    #[test]
    fn an_answer_of_another_shape_ends_the_scan() {
        let keys = Value::Array(vec![Value::BulkString(b"k".to_vec()), Value::Nil]);
        let answer = Value::Array(vec![Value::BulkString(b"12".to_vec()), keys]);
        assert_eq!(scanned(&answer), (12, vec![b"k".to_vec()]));
        assert_eq!(scanned(&Value::Nil), (0, Vec::new()));
        assert_eq!(scanned(&Value::Array(vec![Value::Int(1)])), (0, Vec::new()));
    }
}
