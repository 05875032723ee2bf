//! A job as it is written in the settings: `[[job]]`.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::cron::CronFault;
use super::schedule::Schedule;

/// One `[[job]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Unique: its runs are kept under it. A job with another name is another job.
    pub name: String,
    /// How often it runs, counted from 1970 in UTC: `every = "1m"` is at whole minutes.
    #[serde(default, with = "humantime_serde")]
    pub every: Option<Duration>,
    /// Or when: minute, hour, day of month, month and day of week, as in `cron = "0 2 * * *"`.
    #[serde(default)]
    pub cron: Option<String>,
    /// Where the clock of `cron` hangs, as in `Europe/Berlin`; UTC without it.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Keeps a forecast, so that it can be held against what comes.
    #[serde(default)]
    pub forecast: Option<ForecastSpec>,
    /// A query.
    #[serde(default)]
    pub sql: Option<String>,
    /// The metric its rows are kept as: each has a `value`, and may have a `time` (else that of the run) and a `metric`; every other
    /// column is a label.
    #[serde(default)]
    pub into: Option<String>,
    /// A file of `queries/`, without its ending.
    #[serde(default)]
    pub report: Option<String>,
    /// The folder reports are written to.
    #[serde(default)]
    pub out: Option<String>,
    /// Judges the service level objectives.
    #[serde(default)]
    pub slo: bool,
    /// Which of the runs it missed are made up for: `all`, `last` or `none`.
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Of `all` at most so many, the newest.
    #[serde(default = "catch_up_max")]
    pub catch_up_max: usize,
    /// How long an attempt may take.
    #[serde(default = "timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// How often a run is tried again after it failed, 5 s later, then 10 s, at most 5 min.
    #[serde(default)]
    pub retries: u32,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What becomes of a run that is due before the one before it is over: `skip`, or `queue`, where the newest waits.
    #[serde(default)]
    pub overlap: Overlap,
    /// Starts up to so much later, always by the same length, so that not all jobs start at once.
    #[serde(default, with = "humantime_serde")]
    pub jitter: Duration,
    /// Runs that are kept in the table `jobs`.
    #[serde(default = "history")]
    pub history: usize,
}

/// `forecast = { metric = "disk_used", horizon = "30d", as = "disk" }`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastSpec {
    /// `%` stands for any letters.
    pub metric: String,
    /// Which series, as in `host=a,region=eu`; all of the metric without it.
    #[serde(default, rename = "where")]
    pub series: Option<String>,
    #[serde(with = "humantime_serde")]
    pub horizon: Duration,
    /// Share of what comes that lies between `lo` and `hi`.
    #[serde(default = "level")]
    pub level: f64,
    /// What it is kept as; the job's name without it.
    #[serde(default, rename = "as")]
    pub name: Option<String>,
}

/// Which missed runs are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    All,
    #[default]
    Last,
    None,
}

/// What becomes of a run that is due before the one before it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    Skip,
    /// It waits, in place of one that does already.
    #[default]
    Queue,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    Forecast(ForecastSpec),
    Sql { text: String, into: Option<String> },
    Report { name: String, out: Option<String> },
    Slo,
}

/// A job, checked.
#[derive(Debug, Clone)]
pub struct Job {
    pub name: String,
    pub schedule: Schedule,
    pub work: Work,
    pub catch_up: CatchUp,
    pub catch_up_max: usize,
    pub timeout: Duration,
    pub retries: u32,
    pub enabled: bool,
    pub overlap: Overlap,
    /// By how much it starts later than scheduled.
    pub delay: Duration,
    pub history: usize,
}

/// One thing that is wrong with a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFault {
    /// Place of the job in the list.
    pub job: usize,
    pub key: &'static str,
    /// What to write.
    pub told: String,
}

/// Shortest and longest interval.
const EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(366 * 86_400)];
/// Longest name of a job or a table, bytes.
const NAME_MAX: usize = 100;
/// Most runs that are made up for, and least and most that are kept.
const CATCH_UP_MAX: usize = 10_000;
const HISTORY: [usize; 2] = [10, 100_000];

fn yes() -> bool {
    true
}

fn catch_up_max() -> usize {
    100
}

fn timeout() -> Duration {
    Duration::from_secs(300)
}

fn history() -> usize {
    1000
}

fn level() -> f64 {
    0.95
}

impl JobSpec {
    /// All that is wrong with it: the key, and what to write.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if !is_name(&self.name) {
            let told = "write letters, digits, `-`, `_` and `.`, at most 100, as in name = \"nightly-report\"";
            faults.push(("name", told.to_owned()));
        }
        faults.extend(self.schedule().err());
        faults.extend(self.work().err().unwrap_or_default());
        faults.extend(self.faults_of_numbers());
        faults
    }

    fn faults_of_numbers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let timeout = (Duration::from_millis(100)..=Duration::from_secs(86_400)).contains(&self.timeout);
        let history = (HISTORY[0]..=HISTORY[1]).contains(&self.history);
        let below = self.every.is_none_or(|every| self.jitter < every);
        let jitter = self.jitter.is_zero() || below && self.jitter <= Duration::from_secs(3600);
        wrong([
            (
                (1..=CATCH_UP_MAX).contains(&self.catch_up_max),
                "catch_up_max",
                "write 1 to 10000, as in catch_up_max = 100",
            ),
            (timeout, "timeout", "write 100ms to 1d, as in timeout = \"5m\""),
            (self.retries <= 20, "retries", "write 0 to 20, as in retries = 2"),
            (jitter, "jitter", "write at most 1h, and less than `every`, as in jitter = \"30s\""),
            (history, "history", "write 10 to 100000, as in history = 1000"),
        ])
    }

    fn schedule(&self) -> Result<Schedule, (&'static str, String)> {
        let zone = self.timezone.as_deref().unwrap_or("UTC");
        match (self.every, &self.cron) {
            (None, None) => Err(("every", "write every = \"1m\", or cron = \"0 2 * * *\"".to_owned())),
            (Some(_), Some(_)) => Err(("cron", "it has `every` already: leave out one of the two".to_owned())),
            (Some(_), None) if self.timezone.is_some() => Err((
                "timezone",
                "an interval counts in UTC: leave it out, or write `cron` in place of `every`".to_owned(),
            )),
            (Some(every), None) if !(EVERY[0]..=EVERY[1]).contains(&every) => {
                Err(("every", "write 1s to 366d, as in every = \"1m\"".to_owned()))
            }
            (Some(every), None) => Schedule::every(every).ok_or_else(|| ("every", String::new())),
            (None, Some(pattern)) => Schedule::cron(pattern, zone).map_err(told_of_cron),
        }
    }

    fn work(&self) -> Result<Work, Vec<(&'static str, String)>> {
        let mut faults = Vec::new();
        let mut works = Vec::new();
        if let Some(forecast) = &self.forecast {
            faults.extend(forecast.faults());
            works.push(("forecast", Work::Forecast(forecast.clone())));
        }
        if let Some(text) = &self.sql {
            if text.trim().is_empty() {
                faults.push(("sql", "write a query, as in sql = \"SELECT …\"".to_owned()));
            }
            works.push(("sql", Work::Sql { text: text.clone(), into: self.into.clone() }));
        }
        if let Some(name) = &self.report {
            works.push(("report", Work::Report { name: name.clone(), out: self.out.clone() }));
        }
        if self.slo {
            works.push(("slo", Work::Slo));
        }
        faults.extend(self.faults_of_names());
        faults.extend(
            works.iter().skip(1).map(|(key, _)| (*key, "a job does one thing: write another for it".to_owned())),
        );
        match works.pop() {
            None => faults.push(("sql", "write what it does: `forecast`, `sql`, `report` or slo = true".to_owned())),
            Some((_, work)) if faults.is_empty() => return Ok(work),
            Some(_) => {}
        }
        Err(faults)
    }

    fn faults_of_names(&self) -> impl Iterator<Item = (&'static str, String)> {
        let table = self.into.as_deref().is_none_or(is_table);
        let report = self.report.as_deref().is_none_or(is_name);
        wrong([
            (self.into.is_none() || self.sql.is_some(), "into", "it is for `sql`: leave it out"),
            (self.out.is_none() || self.report.is_some(), "out", "it is for `report`: leave it out"),
            (table, "into", "write small letters, digits and `_`, as in into = \"busy_hosts\""),
            (
                report,
                "report",
                "write the name of a file of `queries/` without its ending, as in report = \"top-anomalies\"",
            ),
        ])
    }

    /// The job, checked.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn job(&self) -> Result<Job, Vec<(&'static str, String)>> {
        let faults = self.faults();
        let (Ok(schedule), Ok(work), true) = (self.schedule(), self.work(), faults.is_empty()) else {
            return Err(faults);
        };
        Ok(Job {
            name: self.name.clone(),
            schedule,
            work,
            catch_up: self.catch_up,
            catch_up_max: self.catch_up_max,
            timeout: self.timeout,
            retries: self.retries,
            enabled: self.enabled,
            overlap: self.overlap,
            delay: delay(&self.name, self.jitter),
            history: self.history,
        })
    }
}

impl ForecastSpec {
    fn faults(&self) -> impl Iterator<Item = (&'static str, String)> {
        let horizon = !self.horizon.is_zero() && self.horizon <= Duration::from_secs(3660 * 86_400);
        wrong([
            (!self.metric.trim().is_empty(), "metric", "write a metric, as in metric = \"disk_used\""),
            (horizon, "horizon", "write more than 0s and at most 10 years, as in horizon = \"30d\""),
            (self.level > 0.0 && self.level < 1.0, "level", "write a share between 0 and 1, as in level = 0.95"),
            (self.name.as_deref().is_none_or(is_name), "as", "write letters, digits, `-`, `_` and `.`"),
        ])
    }
}

/// The jobs of a settings file, checked.
///
/// # Errors
/// All that is wrong with any of them.
pub fn jobs(specs: &[JobSpec]) -> Result<Vec<Arc<Job>>, Vec<JobFault>> {
    let (mut jobs, mut faults) = (Vec::new(), Vec::new());
    for (at, spec) in specs.iter().enumerate() {
        if specs[..at].iter().any(|other| other.name == spec.name) {
            let told = "another job has it: choose one of its own".to_owned();
            faults.push(JobFault { job: at, key: "name", told });
        }
        match spec.job() {
            Ok(job) => jobs.push(Arc::new(job)),
            Err(found) => faults.extend(found.into_iter().map(|(key, told)| JobFault { job: at, key, told })),
        }
    }
    if faults.is_empty() { Ok(jobs) } else { Err(faults) }
}

/// Of checks and what to write where they fail, those that fail.
fn wrong<const N: usize>(
    checks: [(bool, &'static str, &'static str); N],
) -> impl Iterator<Item = (&'static str, String)> {
    checks.into_iter().filter(|(is_well, ..)| !is_well).map(|(_, key, told)| (key, told.to_owned()))
}

fn told_of_cron(fault: CronFault) -> (&'static str, String) {
    match fault {
        CronFault::Pattern(told) => {
            let wanted = "write minute, hour, day of month, month and day of week, as in cron = \"0 2 * * *\"";
            ("cron", format!("{told}: {wanted}"))
        }
        CronFault::Never => {
            ("cron", "no day is like that: write one that comes, as in cron = \"0 2 28 2 *\"".to_owned())
        }
        CronFault::Zone(zone) => {
            let told = format!("this machine knows no zone `{zone}`: write one as in timezone = \"Europe/Berlin\"");
            ("timezone", told)
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=NAME_MAX).contains(&name.len()) && name.chars().all(letter) && !name.starts_with('.')
}

fn is_table(name: &str) -> bool {
    let letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    (1..=NAME_MAX).contains(&name.len())
        && name.chars().all(letter)
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// A length below `jitter` that is the job's own: the same at each start.
fn delay(name: &str, jitter: Duration) -> Duration {
    let millis = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    let own = u64::from(crc32c::crc32c(name.as_bytes()));
    Duration::from_millis(own.checked_rem(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> JobSpec {
        toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn keys(text: &str) -> Vec<&'static str> {
        spec(text).faults().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn a_job_is_read_as_it_is_written() {
        let job = spec("name = 'a'\nevery = '1m'\nslo = true").job().unwrap();
        assert_eq!((job.work, job.catch_up, job.catch_up_max), (Work::Slo, CatchUp::Last, 100));
        assert_eq!((job.timeout, job.retries, job.enabled), (Duration::from_secs(300), 0, true));
        assert_eq!((job.overlap, job.delay, job.history), (Overlap::Queue, Duration::ZERO, 1000));
        assert_eq!(job.schedule.to_string(), "every 1m");
        let text = "name = 'f'\ncron = ' 0  2 * * *'\ntimezone = 'Europe/Berlin'\ncatch_up = 'all'\noverlap = 'skip'\n\
                    forecast = { metric = 'm', where = 'host=a', horizon = '30d', level = 0.8, as = 'disk' }";
        let job = spec(text).job().unwrap();
        assert_eq!((job.catch_up, job.overlap), (CatchUp::All, Overlap::Skip));
        assert_eq!(job.schedule.to_string(), "cron 0 2 * * * Europe/Berlin");
        let Work::Forecast(forecast) = job.work else { panic!("{:?}", job.work) };
        assert_eq!((forecast.series.as_deref(), forecast.level), (Some("host=a"), 0.8));
        assert_eq!(forecast.name.as_deref(), Some("disk"));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_by_its_key() {
        let table: [(&str, &[&str]); 14] = [
            ("name = 'a'\nevery = '1m'\nsql = 'SELECT 1'\ninto = 'b_1'", &[]),
            ("name = 'a'\ncron = '0 2 * * *'\nreport = 'top-anomalies'\nout = '/tmp/x'", &[]),
            ("name = ''", &["name", "every", "sql"]),
            ("name = 'a b'\nevery = '0s'\nslo = true\ntimeout = '1ms'", &["name", "every", "timeout"]),
            ("name = 'a'\nevery = '1m'\ncron = '0 2 * * *'\nslo = true", &["cron"]),
            ("name = 'a'\nevery = '1m'\ntimezone = 'UTC'\nslo = true", &["timezone"]),
            ("name = 'a'\ncron = '0 2 * *'\nslo = true\nretries = 99", &["cron", "retries"]),
            ("name = 'a'\ncron = '0 2 * * *'\ntimezone = 'Europe/Atlantis'\nslo = true", &["timezone"]),
            ("name = 'a'\ncron = '0 2 31 4 *'\nslo = true\ncatch_up_max = 0", &["cron", "catch_up_max"]),
            ("name = 'a'\nevery = '1m'\nslo = true\nsql = 'SELECT 1'\nout = 'x'", &["out", "slo"]),
            ("name = 'a'\nevery = '1m'\nsql = ' '\ninto = 'B'", &["sql", "into"]),
            ("name = 'a'\nevery = '1m'\nreport = '../x'\ninto = 'b'", &["into", "report"]),
            ("name = 'a'\nevery = '1m'\nslo = true\njitter = '1m'\nhistory = 0", &["jitter", "history"]),
            (
                "name = 'a'\nevery = '1m'\nforecast = { metric = ' ', horizon = '0s', level = 1, as = '' }",
                &["metric", "horizon", "level", "as"],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(keys(text), expected, "{text}");
            assert!(spec(text).faults().iter().all(|(_, told)| !told.is_empty()), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in ["name = 'a'\nevry = '1m'", "name = 'a'\ncatch_up = 'some'", "name = 'a'\nforecast = { x = 1 }"] {
            assert!(toml::from_str::<JobSpec>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn two_jobs_have_two_names() {
        let specs = ["a", "b", "a"].map(|name| spec(&format!("name = '{name}'\nevery = '1m'\nslo = true")));
        assert_eq!(jobs(&specs[..2]).unwrap().len(), 2);
        let faults = jobs(&specs).unwrap_err();
        assert_eq!((faults.len(), faults[0].job, faults[0].key), (1, 2, "name"));
    }

    #[test]
    fn jobs_with_jitter_start_apart_and_each_at_its_own_time() {
        let delay = |name: &str| delay(name, Duration::from_secs(60));
        let delays: std::collections::BTreeSet<Duration> = (0..100).map(|n| delay(&format!("job-{n}"))).collect();
        assert!(delays.len() > 90 && delays.iter().all(|delay| *delay < Duration::from_secs(60)), "{delays:?}");
        assert_eq!(delay("a"), delay("a"));
    }
}
