//! What a command prints, run at an interval: Prometheus text, line protocol, JSON, or what plugins of Nagios print.
//!
//! No shell is between. A command runs in a process group of its own. That is killed when the command has ended, so that
//! nothing is left in the background, and when it is not done within the timeout.

pub(super) mod nagios;
mod run;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytesize::ByteSize;
use serde::Deserialize;

use self::run::{Ended, Program};
use super::json::{JsonMetric, JsonRules, metrics_fault};
use super::line_protocol::{LineCache, LineOptions, Precision, read_lines};
use super::prometheus_text::{Said, Taker, read_exposition};
use super::source::readings_of;
use super::{Faults, Readings, Source, SourceError};
use crate::flow::Refusal;
use crate::model::Timestamp;

/// Bytes of names of a command's lines.
const NAMES: usize = 1 << 20;

/// `from.exec = { command = ["/usr/local/bin/check", "--all"], format = "prometheus" }`; only with `exec = true` under
/// `[collect]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSpec {
    /// The program and its arguments, as they are: no shell reads them.
    pub command: Vec<String>,
    #[serde(default)]
    pub format: ExecFormat,
    /// Variables besides our own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it runs; our own folder without it.
    #[serde(default)]
    pub dir: Option<PathBuf>,
    /// Most that it may print.
    #[serde(default = "output_max")]
    pub output_max: ByteSize,
    /// Of JSON: what is taken; without any, all numbers.
    #[serde(default)]
    pub metrics: Vec<JsonMetric>,
    /// Of JSON: begins the name of each flattened number; without it the source's id does.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Of JSON: whether texts that are numbers count as numbers.
    #[serde(default)]
    pub numeric_text: bool,
}

fn output_max() -> ByteSize {
    ByteSize::mib(4)
}

/// What a command prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecFormat {
    /// Prometheus text or OpenMetrics.
    #[default]
    Prometheus,
    /// Line protocol.
    Influx,
    Json,
    /// `OK - text | load1=0.5;1;2;0`, with the state as exit code.
    Nagios,
}

impl ExecSpec {
    pub(super) fn faults(&self) -> Vec<(&'static str, String)> {
        let output = || ("output_max", "write at least 1KB, as in output_max = \"4MB\"".to_owned());
        let output = (self.output_max < ByteSize::kb(1)).then(output);
        self.command_fault().into_iter().chain(output).chain(metrics_fault(&self.metrics)).collect()
    }

    fn command_fault(&self) -> Option<(&'static str, String)> {
        let Some(program) = self.command.first().filter(|program| !program.trim().is_empty()) else {
            return Some(("command", "write program and arguments, as in command = [\"/usr/bin/uptime\"]".to_owned()));
        };
        if self.command.len() == 1 && program.contains(' ') && !program.starts_with('/') {
            let words: Vec<String> = program.split_whitespace().map(|word| format!("{word:?}")).collect();
            return Some(("command", format!("no shell reads it: write command = [{}]", words.join(", "))));
        }
        None
    }
}

/// A command as a source.
pub struct ExecSource {
    program: Program,
    reader: Arc<Reader>,
}

/// How what it prints is read.
struct Reader {
    format: ExecFormat,
    rules: JsonRules,
    id: String,
}

impl ExecSource {
    /// `id` begins the names of flattened numbers where nothing else is written.
    pub fn new(spec: &ExecSpec, id: &str) -> Self {
        let rules = JsonRules::new(&spec.metrics, spec.prefix.as_deref(), id, spec.numeric_text);
        let reader = Reader { format: spec.format, rules, id: id.to_owned() };
        ExecSource { program: Program::new(spec), reader: Arc::new(reader) }
    }

    /// What was printed, and what was wrong with it. Much of it takes long to read, so a thread of its own does.
    async fn readings(&self, ended: &Arc<Ended>, now: Timestamp) -> Result<Readings, SourceError> {
        let (reader, ended) = (self.reader.clone(), ended.clone());
        let read = tokio::task::spawn_blocking(move || reader.read(&ended, now)).await;
        read.unwrap_or_else(|error| Err(SourceError::new(format!("what it printed was not read: {error}"))))
    }
}

impl Reader {
    fn read(&self, ended: &Ended, now: Timestamp) -> Result<Readings, SourceError> {
        let out = ended.out.as_slice();
        match self.format {
            ExecFormat::Json => self.rules.read(out),
            ExecFormat::Nagios => nagios::read(out, ended.code, &self.id),
            ExecFormat::Prometheus => {
                let mut printed = Printed::default();
                let read = read_exposition(&mut &*out, &mut printed);
                read.map_err(|error| SourceError::new(error.to_string()))?;
                Ok(with_faults((printed.readings, printed.faults)))
            }
            ExecFormat::Influx => {
                let cache = LineCache::with_labels(Vec::new(), NAMES);
                let options = LineOptions { precision: Precision::Nanos, now };
                let read = readings_of(|gather| read_lines(out, 1, options, &cache, gather).map(|_| ()));
                read.map(with_faults).map_err(|refusal: Refusal| SourceError::new(refusal.to_string()))
            }
        }
    }
}

/// Prometheus text as a command prints it. NaN and infinity are no samples, and ordinary, as in a scrape.
#[derive(Default)]
struct Printed {
    readings: Readings,
    faults: Faults,
}

impl Taker for Printed {
    fn sample(&mut self, _line: u64, said: &Said<'_>) -> Result<(), Refusal> {
        match said.time {
            _ if !said.value.is_finite() => {}
            Some(time) => self.readings.put_at(said.metric, said.labels, said.about, time, said.value),
            None => self.readings.put(said.metric, said.labels, said.about, said.value),
        }
        Ok(())
    }

    fn fault(&mut self, line: u64, reason: String) {
        self.faults.add(line, reason);
    }
}

fn with_faults((mut readings, faults): (Readings, Faults)) -> Readings {
    let wrong = faults.first.first().map(|first| {
        let (count, line, error) = (faults.count, first.line, &first.error);
        SourceError::new(format!("{count} lines of its output are not taken; the first: line {line}: {error}"))
    });
    readings.tell(wrong);
    readings
}

#[async_trait]
impl Source for ExecSource {
    async fn read(&mut self, now: Timestamp) -> Result<Readings, SourceError> {
        let ended = Arc::new(self.program.run().await?);
        let name = self.program.name();
        let failed = ended.failure(self.reader.format == ExecFormat::Nagios);
        let readings = self.readings(&ended, now).await;
        let told = |told: String| SourceError::new(format!("command `{name}`: {told}"));
        match (readings, failed) {
            (Ok(mut readings), failed) => {
                readings.fault = failed.or_else(|| readings.fault.take().map(|fault| fault.0)).map(told);
                readings.lack = readings.lack.take().map(|lack| told(lack.0));
                Ok(readings)
            }
            // How it ended says more than what it printed.
            (Err(_), Some(failed)) => Err(told(failed)),
            (Err(error), None) => Err(told(error.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Lines and fault of a command, run within some seconds.
    fn run(command: &[&str], format: &str) -> (Vec<String>, String) {
        let command: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        let text =
            format!("command = {command:?}\nformat = {format:?}\noutput_max = \"1KB\"\n[env]\nANSWER = \"42\"\n");
        let spec: ExecSpec = toml::from_str(&text).unwrap();
        assert_eq!(spec.faults(), []);
        let mut source = ExecSource::new(&spec, "probe");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let now = Timestamp::from_nanos(1_700_000_000_000_000_000);
        let read = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), source.read(now)).await });
        match read.unwrap() {
            Ok(readings) => {
                let told = readings.fault.as_ref().or(readings.lack.as_ref());
                let fault = told.map_or(String::new(), |told| told.0.clone());
                (readings.lines(), fault)
            }
            Err(error) => (Vec::new(), error.0),
        }
    }

    #[test]
    fn what_a_command_prints_is_read_in_every_format() {
        let shell = |script: &str, format: &str| run(&["sh", "-c", script], format);
        let none = String::new();
        let told = shell("printf 'jobs{q=\"a\"} %s\\n' $ANSWER", "prometheus");
        assert_eq!(told, (vec!["jobs{q=\"a\"} 42".to_owned()], none.clone()));
        let told = shell("echo 'q{quantile=\"0.5\"} NaN'; echo 'q_count 0'", "prometheus");
        assert_eq!(told, (vec!["q_count 0".to_owned()], none.clone()), "nothing to tell yet is no fault");
        let told = shell("echo 'cpu,host=a usage=1.5,idle=2i'", "influx");
        let wanted = vec!["cpu_usage{host=\"a\"} 1.5".to_owned(), "cpu_idle{host=\"a\"} 2".to_owned()];
        assert_eq!(told, (wanted, none.clone()));
        assert_eq!(shell("echo '{\"a\": {\"b\": 3}}'", "json"), (vec!["probe_a_b 3".to_owned()], none));
    }

    #[test]
    fn what_went_wrong_is_told_and_the_rest_is_taken() {
        let (lines, fault) = run(&["sh", "-c", "echo 'a 1'; echo; echo oh no >&2; exit 3"], "prometheus");
        assert_eq!((lines, fault.as_str()), (vec!["a 1".to_owned()], "command `sh`: it ended with exit code 3: oh no"));
        let cases: [(&[&str], &str); 5] = [
            (&["sh", "-c", "echo 'a 1'; echo '!'"], "1 lines of its output are not taken; the first: line 2"),
            (
                &["sh", "-c", "yes | head -c 5000"],
                "it printed more than 1.0 kB: have it print less, or raise output_max",
            ),
            (&["/no/such/program"], "command `/no/such/program`: it cannot be started"),
            (&["sh", "-c", "kill -9 $$"], "it was ended by signal 9"),
            (&["sh", "-c", "exit 1"], "it ended with exit code 1"),
        ];
        for (command, wanted) in cases {
            let (_, fault) = run(command, "prometheus");
            assert!(fault.contains(wanted), "{fault}");
        }
    }

    #[test]
    fn a_part_that_was_told_is_no_failed_pass() {
        let spec: ExecSpec = toml::from_str("command = ['sh', '-c', \"echo 'a 1'; echo '!'\"]").unwrap();
        let mut source = ExecSource::new(&spec, "probe");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let readings = runtime.block_on(source.read(Timestamp::from_nanos(0))).unwrap();
        assert_eq!((readings.lines(), readings.fault), (vec!["a 1".to_owned()], None));
        assert!(readings.lack.unwrap().0.contains("1 lines of its output are not taken"));
    }

    #[test]
    fn a_shell_that_is_not_there_is_told_of() {
        let spec = |command: &str| toml::from_str::<ExecSpec>(&format!("command = {command}")).unwrap();
        assert!(spec("[]").faults()[0].1.contains("write program and arguments"));
        assert!(spec("['df -h']").faults()[0].1.contains("write command = [\"df\", \"-h\"]"));
        assert_eq!(spec("['/opt/my tools/check']").faults(), []);
    }
}
