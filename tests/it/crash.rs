//! Killed in mid-load: what was acknowledged is there, once; what was not may be sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Chance, Client, Server, number, plimsoll, sql, thorough, until};

/// Six hours before a month ends: the load fills segments of two.
const T0: i64 = 1_701_367_200;
const STEP: i64 = 10;
/// Batches of the load for each kill, and at least.
const BATCHES_A_KILL: u64 = 8;
const BATCHES_MIN: u64 = 320;
const POINTS: u64 = 16;
const HOSTS: u64 = 20;
const SAMPLES: u64 = POINTS * HOSTS * 3;
/// So that segments are written while the load goes on.
const SMALL_HEAD: (&str, &str) = ("PLIMSOLL__STORE__HEAD", "1MB");

/// The load: a batch is a span of time of all hosts.
struct Load {
    seed: u64,
    batches: u64,
}

/// What can be said of a batch without regard to order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tally {
    count: u64,
    /// Sums of quarters and of whole numbers: exact.
    quarters: f64,
    wholes: f64,
    /// Of numbers with every bit in use.
    least: f64,
    most: f64,
}

impl Load {
    fn values(&self, batch: u64, point: u64, host: u64) -> (f64, f64, f64) {
        let at = batch * POINTS + point;
        let mut chance = Chance::of_seed(self.seed ^ (at * HOSTS + host));
        let (quarters, random) = (chance.below(400) as f64 / 4.0, (chance.next() >> 11) as f64 / (1_u64 << 53) as f64);
        (quarters, (at * 7 + host) as f64, random)
    }

    fn lines(&self, batch: u64) -> String {
        let mut text = String::new();
        for point in 0..POINTS {
            for host in 0..HOSTS {
                let (quarters, wholes, random) = self.values(batch, point, host);
                let time = T0 + (batch * POINTS + point) as i64 * STEP;
                text.push_str(&format!("load,host=h{host} user={quarters},n={wholes}i,x={random:e} {time}\n"));
            }
        }
        text
    }

    fn tally(&self, batch: u64) -> Tally {
        let mut tally = Tally { count: SAMPLES, quarters: 0.0, wholes: 0.0, least: f64::MAX, most: f64::MIN };
        for (point, host) in (0..POINTS).flat_map(|point| (0..HOSTS).map(move |host| (point, host))) {
            let (quarters, wholes, random) = self.values(batch, point, host);
            tally.quarters += quarters;
            tally.wholes += wholes;
            tally.least = tally.least.min(random);
            tally.most = tally.most.max(random);
        }
        tally
    }

    /// Sends batches from two threads; adds those acknowledged to `acknowledged`. Ends early where the server does.
    fn send(&self, client: &Client, batches: &[u64], acknowledged: &Mutex<BTreeSet<u64>>) {
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let client = client.clone();
                scope.spawn(move || {
                    for &batch in batches.iter().skip(thread).step_by(2) {
                        let lines = self.lines(batch);
                        loop {
                            match client.try_post("/write?precision=s", &[], lines.as_bytes()) {
                                // On a machine that is busy with other tests the pipelines may be behind.
                                Ok(answer) if answer.status == 503 => std::thread::sleep(Duration::from_millis(200)),
                                Ok(answer) => break assert_eq!(answer.status, 204, "{}", answer.text()),
                                Err(_) => return,
                            }
                        }
                        acknowledged.lock().unwrap().insert(batch);
                    }
                });
            }
        });
    }
}

/// What is stored of each batch.
fn stored(ask: impl Fn(&str) -> Vec<Value>) -> BTreeMap<u64, Tally> {
    let rows = ask(&format!(
        "SELECT (CAST(time AS BIGINT) / 1000000000 - {T0}) / {} AS batch, count(*) AS count,
                sum(CASE WHEN metric = 'load_user' THEN value END) AS quarters,
                sum(CASE WHEN metric = 'load_n' THEN value END) AS wholes,
                min(CASE WHEN metric = 'load_x' THEN value END) AS least,
                max(CASE WHEN metric = 'load_x' THEN value END) AS most
         FROM metrics GROUP BY 1",
        POINTS as i64 * STEP
    ));
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("no {name}: {row}"));
    let tally = |row: &Value| {
        let [quarters, wholes, least, most] = ["quarters", "wholes", "least", "most"].map(|name| number(row, name));
        (row["batch"].as_u64().unwrap(), Tally { count: row["count"].as_u64().unwrap(), quarters, wholes, least, most })
    };
    rows.iter().map(tally).collect()
}

/// Every acknowledged batch is there once and whole; of the others nothing, or all.
#[track_caller]
fn check(load: &Load, acknowledged: &BTreeSet<u64>, stored: &BTreeMap<u64, Tally>, when: &str) {
    let missing: Vec<&u64> = acknowledged.iter().filter(|batch| !stored.contains_key(batch)).collect();
    assert!(missing.is_empty(), "{when}: acknowledged and lost: {missing:?}");
    for (batch, found) in stored {
        let wanted = load.tally(*batch);
        let is_near = |a: f64, b: f64| (a - b).abs() <= 1e-15;
        let is_same = (found.count, found.quarters, found.wholes) == (wanted.count, wanted.quarters, wanted.wholes)
            && is_near(found.least, wanted.least)
            && is_near(found.most, wanted.most);
        let how = if acknowledged.contains(batch) { "acknowledged" } else { "not acknowledged" };
        assert!(is_same, "{when}: batch {batch} ({how}) is {found:?} and not {wanted:?}");
    }
}

/// Hours of `rollups` that differ from what the samples say, or are on one side only.
fn wrong_rollups(data: &Path) -> Vec<Value> {
    sql(
        data,
        "WITH truth AS (
             SELECT metric, host, date_bin(interval '1 hour', time) AS hour,
                    count(*) AS n, sum(value) AS total, min(value) AS lo, max(value) AS hi,
                    first_value(value ORDER BY time) AS a, last_value(value ORDER BY time) AS z
             FROM metrics GROUP BY 1, 2, 3
         ), told AS (SELECT * FROM rollups WHERE every = '1h')
         SELECT coalesce(truth.metric, told.metric) AS metric, coalesce(truth.host, told.host) AS host,
                coalesce(truth.hour, told.time) AS hour, n, count, total, sum, lo, min, hi, max
         FROM truth FULL OUTER JOIN told
              ON truth.metric = told.metric AND truth.host = told.host AND truth.hour = told.time
         WHERE n IS NULL OR count IS NULL OR n <> count OR lo <> min OR hi <> max OR a <> first OR z <> last
               OR abs(total - sum) > 1e-9 * abs(total)
         ORDER BY 1, 2, 3 LIMIT 5",
    )
}

/// `PLIMSOLL_KILLS`, or a few.
fn kills() -> usize {
    let given = std::env::var("PLIMSOLL_KILLS").ok().and_then(|kills| kills.parse().ok());
    given.unwrap_or(if thorough() { 12 } else { 3 })
}

#[test]
fn acknowledged_batches_survive_kills_in_mid_load_once() {
    let folder = tempdir().unwrap();
    let data = folder.path();
    let mut chance = Chance::new("crash");
    let kills = kills();
    let batches = BATCHES_MIN.max(BATCHES_A_KILL * kills as u64);
    let load = Load { seed: chance.next(), batches };
    let acknowledged = Mutex::new(BTreeSet::new());
    let began = Instant::now();
    for kill in 0..kills {
        let sync = ["interval", "always", "never"][kill % 3];
        let server = Server::start_with(data, &[SMALL_HEAD, ("PLIMSOLL__STORE__SYNC", sync)]);
        if kill > 0 {
            check(
                &load,
                &acknowledged.lock().unwrap(),
                &stored(|statement| server.sql(statement)),
                &format!("after kill {kill}"),
            );
        }
        let done = acknowledged.lock().unwrap().clone();
        let left: Vec<u64> = (0..batches).filter(|batch| !done.contains(batch)).collect();
        let share = left.len() as u64 / (kills - kill + 1) as u64;
        let enough = done.len() + (share / 2 + chance.below(share)) as usize;
        let client = server.client.clone();
        std::thread::scope(|scope| {
            let load = scope.spawn(|| load.send(&client, &left, &acknowledged));
            until("acknowledgements", || acknowledged.lock().unwrap().len() >= enough || load.is_finished());
            server.kill();
        });
        let now = acknowledged.lock().unwrap().len();
        eprintln!("kill {kill} (sync = {sync}): {now} of {batches} batches acknowledged");
        assert!(now < batches as usize, "the kill came too late to be in mid-load");
    }
    // Opened and closed: the pipelines catch up with what the log held.
    Server::start_with(data, &[SMALL_HEAD]).stop();
    check(&load, &acknowledged.lock().unwrap(), &stored(|statement| sql(data, statement)), "after the last kill");
    assert_eq!(wrong_rollups(data), Vec::<Value>::new(), "rollups after the last kill");
    eprintln!("{kills} kills in {:.0?}: 0 batches lost, 0 doubled", began.elapsed());

    // Everything once more, what is there among it.
    let all: Vec<u64> = (0..batches).collect();
    let server = Server::start_with(data, &[SMALL_HEAD]);
    acknowledged.lock().unwrap().clear();
    load.send(&server.client.clone(), &all, &acknowledged);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len() as u64, load.batches, "{}", server.log());
    let whole = |stored: &BTreeMap<u64, Tally>, when: &str| {
        check(&load, &acknowledged, stored, when);
        assert_eq!(stored.values().map(|tally| tally.count).sum::<u64>(), load.batches * SAMPLES, "{when}");
    };
    whole(&stored(|statement| server.sql(statement)), "sent again");
    server.stop();
    whole(&stored(|statement| sql(data, statement)), "closed");
    assert_eq!(wrong_rollups(data), Vec::<Value>::new(), "rollups when all was sent again");
    plimsoll(data, &["compact"]).ending(0);
    whole(&stored(|statement| sql(data, statement)), "merged");
    assert_eq!(wrong_rollups(data), Vec::<Value>::new(), "rollups when merged");
    assert_eq!(number(&sql(data, "SELECT count(*) FROM system.series")), (HOSTS * 3) as f64);
    let at_rest = "SELECT CAST(sum(rows) AS BIGINT) FROM system.segments WHERE \"table\" = 'samples'";
    assert_eq!(number(&sql(data, at_rest)), (load.batches * SAMPLES) as f64, "nothing is kept twice at rest");
}

#[test]
fn a_torn_end_of_the_log_costs_nothing_acknowledged() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    server.write("kept v=1 1700000000000000000\nkept v=2 1700000001000000000\n");
    server.kill();
    let mut logs: Vec<_> =
        std::fs::read_dir(folder.path().join("wal")).unwrap().map(|log| log.unwrap().path()).collect();
    logs.sort();
    let log = logs.last().expect("a log");
    let whole = std::fs::read(log).unwrap();
    // The front of a frame, as a write that did not end leaves it; then plain garbage.
    for torn in [&whole[8..whole.len().min(24)], &[0xFF; 100], &[0; 4096]] {
        std::fs::OpenOptions::new().append(true).open(log).unwrap().write_all(torn).unwrap();
        let server = Server::start(folder.path());
        assert_eq!(number(&server.sql("SELECT sum(value) FROM kept_v")), 3.0, "{torn:?}");
        server.kill();
    }
    let server = Server::start(folder.path());
    server.write("kept v=4 1700000002000000000\n");
    server.kill();
    assert_eq!(number(&sql(folder.path(), "SELECT sum(value) FROM kept_v")), 7.0);
}

#[test]
fn an_orderly_stop_leaves_everything_at_rest() {
    let folder = tempdir().unwrap();
    let server = Server::start(folder.path());
    server.write("kept v=1 1700000000000000000\n");
    server.stop();
    let rows = sql(folder.path(), "SELECT CAST(sum(rows) AS BIGINT) FROM system.segments WHERE \"table\" = 'samples'");
    assert_eq!(number(&rows), 1.0);
}
