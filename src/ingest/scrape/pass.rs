//! One scrape: what a target's text says becomes readings, what is missing since the scrape before ends.
//!
//! As Prometheus does it: labels of the target win over those of the text, which become `exported_…` (with
//! `honor_labels` those of the text win); then `metric_relabel`; then the limit on samples. A scrape that fails ends all
//! series of its target. Series with times of their own never end. Two things differ: a bad line is left out and the
//! rest counts, where Prometheus refuses the whole text; and a value that is no finite number is no sample, so a series that
//! goes to NaN ends there.

use std::time::Duration;

use super::seen::{Put, Seen, read_key, write_key};
use crate::flow::Refusal;
use crate::ingest::prometheus_text::{Said, Taker, read_exposition};
use crate::ingest::source::TEXTS_MAX;
use crate::ingest::{About, Faults, Readings, SourceError};
use crate::model::Kind;
use crate::model::relabel::{LabelSet, NAME, Relabel, relabel};

/// How a target's text is read.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    /// Of the target, for all its series.
    pub labels: Vec<(String, String)>,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub rules: Vec<Relabel>,
    /// Samples after the rules; more fail the scrape.
    pub sample_limit: usize,
}

/// What a target answered.
pub(super) struct Answer {
    pub body: Vec<u8>,
    /// Whether it is OpenMetrics, which says where it ends.
    pub is_open_metrics: bool,
}

/// The scrapes of one target.
#[derive(Debug, Default)]
pub(super) struct Scrapes {
    reading: Reading,
    /// Of the last scrape that went well.
    last: Seen,
    /// Whether they have all ended since.
    is_over: bool,
}

/// What Prometheus tells of each scrape.
#[derive(Debug, Default)]
struct Report {
    scraped: usize,
    kept: usize,
    added: usize,
}

impl Scrapes {
    pub fn new(reading: Reading) -> Self {
        Scrapes { reading, ..Scrapes::default() }
    }

    /// Readings of one scrape that went so. `took` is asked last.
    pub fn settle(&mut self, answer: Result<Answer, String>, took: impl FnOnce() -> Duration) -> Readings {
        let read = answer.and_then(|answer| self.read(&answer));
        let (mut readings, report) = match read {
            Ok((mut readings, report, faults)) => {
                readings.lack = told(&faults).map(SourceError::new);
                (readings, report)
            }
            Err(error) => {
                let mut readings = self.end_all();
                readings.fault = Some(SourceError::new(error));
                (readings, Report::default())
            }
        };
        self.report(&mut readings, !self.is_over, &report, took());
        readings
    }

    fn read(&mut self, answer: &Answer) -> Result<(Readings, Report, Faults), String> {
        let mut pass = Pass::of(&self.reading, &self.last);
        let read = read_exposition(&mut &answer.body[..], &mut pass);
        let read = match (pass.failed.take(), read) {
            (Some(told), _) => return Err(told),
            (None, read) => read.map_err(|error| error.to_string())?,
        };
        if pass.report.scraped == 0
            && let Some(told) = told(&pass.faults)
        {
            return Err(told);
        }
        if answer.is_open_metrics && !read.has_end {
            return Err(
                "the answer is OpenMetrics and does not end with `# EOF`: it was cut off, and nothing of it is taken"
                    .to_owned(),
            );
        }
        let Pass { mut readings, now, report, faults, .. } = pass;
        if !self.is_over {
            self.last.missing(&now).for_each(|key| end(&mut readings, key));
        }
        (self.last, self.is_over) = (now, false);
        Ok((readings, report, faults))
    }

    fn end_all(&mut self) -> Readings {
        let mut readings = Readings::default();
        if !self.is_over {
            self.last.missing(&Seen::default()).for_each(|key| end(&mut readings, key));
        }
        self.is_over = true;
        readings
    }

    fn report(&self, readings: &mut Readings, is_up: bool, report: &Report, took: Duration) {
        let labels: Vec<(&str, &str)> = self.reading.labels.iter().map(|(n, v)| (&**n, &**v)).collect();
        let mut put = |metric, unit, help, value| {
            readings.put(metric, &labels, About { kind: Some(Kind::Gauge), unit, help }, value);
        };
        put("up", "", "1 where the target answered.", f64::from(u8::from(is_up)));
        put("scrape_duration_seconds", "seconds", "How long the scrape took.", took.as_secs_f64());
        put("scrape_samples_scraped", "", "Samples the target told.", report.scraped as f64);
        let help = "Samples left after metric_relabel.";
        put("scrape_samples_post_metric_relabeling", "", help, report.kept as f64);
        put("scrape_series_added", "", "Series that were not in the scrape before.", report.added as f64);
    }
}

/// What was wrong with lines, in a sentence.
fn told(faults: &Faults) -> Option<String> {
    let first = faults.first.first()?;
    let others = match faults.count {
        1 => String::new(),
        count => format!("; {} more lines are bad", count - 1),
    };
    Some(format!("line {} of the answer: {}{others}", first.line, first.error))
}

fn end(readings: &mut Readings, key: &[u8]) {
    let (metric, labels) = read_key(key);
    readings.end(metric, &labels);
}

/// A text as it is read.
struct Pass<'p> {
    reading: &'p Reading,
    last: &'p Seen,
    now: Seen,
    key: Vec<u8>,
    readings: Readings,
    report: Report,
    faults: Faults,
    /// Why nothing of it counts.
    failed: Option<String>,
}

impl<'p> Pass<'p> {
    fn of(reading: &'p Reading, last: &'p Seen) -> Self {
        Pass {
            reading,
            last,
            now: Seen::default(),
            key: Vec::new(),
            readings: Readings::default(),
            report: Report::default(),
            faults: Faults::default(),
            failed: None,
        }
    }

    /// Looks at what is held of texts: labels of the target may make much of a short answer.
    fn weigh(&mut self) {
        if self.readings.is_overfull() {
            let limit = TEXTS_MAX >> 20;
            self.failed = Some(format!(
                "names and labels of its series are longer than {limit} MiB together, and nothing of it is taken: drop some with metric_relabel"
            ));
        }
    }

    /// Counts a sample that is left.
    fn keep(&mut self) -> bool {
        self.report.kept += 1;
        let limit = self.reading.sample_limit;
        if self.report.kept > limit {
            self.failed = Some(format!(
                "the target has more than the {limit} samples that `sample_limit` allows, and nothing of it is taken: raise it, or drop some with metric_relabel"
            ));
        }
        self.failed.is_none()
    }
}

/// The labels of a sample as they are stored, its name among them; `None` where a rule drops it.
fn labels_of<'t>(said: &'t Said<'_>, reading: &'t Reading) -> Option<LabelSet<'t>> {
    let mut set = LabelSet::default();
    said.labels.iter().for_each(|&(name, value)| set.push(name, value));
    join(&mut set, &reading.labels, reading.honor_labels);
    set.set(NAME, said.metric);
    relabel(&reading.rules, &mut set).then(|| {
        set.normalize();
        set
    })
}

/// Joins the labels of the target to those of a sample.
fn join<'t>(set: &mut LabelSet<'t>, target: &'t [(String, String)], honor: bool) {
    for (name, value) in target {
        if honor && set.has(name) {
            continue;
        }
        if !honor && !set.get(name).is_empty() {
            let mut exported = format!("exported_{name}");
            while set.has(&exported) || target.iter().any(|(name, _)| *name == exported) {
                exported.insert_str(0, "exported_");
            }
            set.rename(name, exported);
        }
        set.set(&**name, &**value);
    }
}

impl Taker for Pass<'_> {
    fn sample(&mut self, line: u64, said: &Said<'_>) -> Result<(), Refusal> {
        if self.failed.is_some() {
            return Ok(());
        }
        self.report.scraped += 1;
        let Some(labels) = labels_of(said, self.reading) else { return Ok(()) };
        let metric = labels.get(NAME);
        if metric.is_empty() {
            self.faults.add(line, "metric_relabel leaves no name of the metric: keep `__name__`");
            return Ok(());
        }
        let mut key = std::mem::take(&mut self.key);
        write_key(&mut key, metric, labels.iter().filter(|(name, _)| *name != NAME));
        let time = said.time.filter(|_| self.reading.honor_timestamps);
        if self.takes(&key, time.is_none(), said.value) {
            let (metric, labels) = read_key(&key);
            // What a metric is about is said once: it may be long, and of many series.
            let is_known = self.last.contains(&key);
            let about = if is_known { About { kind: said.about.kind, ..About::default() } } else { said.about };
            match time {
                Some(time) => self.readings.put_at(metric, &labels, about, time, said.value),
                None => self.readings.put(metric, &labels, about, said.value),
            }
            self.weigh();
        }
        self.key = key;
        Ok(())
    }

    fn fault(&mut self, line: u64, reason: String) {
        self.faults.add(line, reason);
    }
}

impl Pass<'_> {
    /// Whether a sample of the series counts: within the limit, a number, and the first for its time.
    fn takes(&mut self, key: &[u8], is_tracked: bool, value: f64) -> bool {
        if !self.keep() || !value.is_finite() {
            return false;
        }
        let put = self.now.put(key, is_tracked);
        if put == Put::First && !self.last.contains(key) {
            self.report.added += 1;
        }
        put == Put::First || !is_tracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::relabel::{RelabelSpec, rules};

    fn target() -> Reading {
        let labels = [("instance", "h:1"), ("job", "j")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        Reading { labels, honor_timestamps: true, sample_limit: 100, ..Reading::default() }
    }

    fn body(text: &str) -> Result<Answer, String> {
        Ok(Answer { body: text.as_bytes().to_vec(), is_open_metrics: false })
    }

    /// Lines of a scrape without the labels of `target`, apart from what is told of each scrape; and up, samples, left,
    /// added.
    fn scrape(scrapes: &mut Scrapes, answer: Result<Answer, String>) -> (Vec<String>, [f64; 4], Option<String>) {
        let readings = scrapes.settle(answer, || Duration::from_millis(250));
        let (told, lines): (Vec<String>, Vec<String>) =
            readings.lines().into_iter().partition(|line| line.starts_with("up{") || line.starts_with("scrape_"));
        let number = |line: &String| line.rsplit(' ').next().unwrap().parse().unwrap();
        let told: Vec<f64> = told.iter().map(number).collect();
        assert_eq!(told[1], 0.25, "the duration");
        let plain = |line: &String| {
            let line = line.replace("instance=\"h:1\",job=\"j\"", "");
            line.replace("{,", "{").replace(",}", "}").replace("{}", "")
        };
        (
            lines.iter().map(plain).collect(),
            [told[0], told[2], told[3], told[4]],
            readings.fault.or(readings.lack).map(|fault| fault.0),
        )
    }

    #[test]
    fn what_is_missing_ends_once_and_may_come_back() {
        let mut scrapes = Scrapes::new(target());
        let mut step = |answer: Result<Answer, String>, lines: &[&str], told: [f64; 4]| {
            let found = scrape(&mut scrapes, answer);
            assert_eq!((found.0, found.1), (lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>(), told));
        };
        step(body("a 1\nb{x=\"1\"} 2\nc 3\n"), &["a 1", "b{x=\"1\"} 2", "c 3"], [1.0, 3.0, 3.0, 3.0]);
        step(body("a 1\nc NaN\n"), &["a 1", "b{x=\"1\"} ended", "c ended"], [1.0, 2.0, 2.0, 0.0]);
        step(body("a 1\nc 3\n"), &["a 1", "c 3"], [1.0, 2.0, 2.0, 1.0]);
        step(Err("gone".into()), &["a ended", "c ended"], [0.0, 0.0, 0.0, 0.0]);
        step(Err("gone".into()), &[], [0.0, 0.0, 0.0, 0.0]);
        // Known from before it failed, so not new.
        step(body("c 3\nd 4\n"), &["c 3", "d 4"], [1.0, 2.0, 2.0, 1.0]);
        step(body(""), &["c ended", "d ended"], [1.0, 0.0, 0.0, 0.0]);
        step(Err("gone".into()), &[], [0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn series_with_times_of_their_own_do_not_end() {
        let text = "a 1 1395066363000\nb 2\n";
        let mut scrapes = Scrapes::new(target());
        assert_eq!(scrape(&mut scrapes, body(text)).0, ["a 1", "b 2"]);
        assert_eq!(scrape(&mut scrapes, body("")).0, ["b ended"]);
        let mut scrapes = Scrapes::new(Reading { honor_timestamps: false, ..target() });
        assert_eq!(scrape(&mut scrapes, body(text)).0, ["a 1", "b 2"]);
        assert_eq!(scrape(&mut scrapes, body("")).0, ["a ended", "b ended"]);
        // One that gets a time of its own is not waited for any more.
        let mut scrapes = Scrapes::new(target());
        scrape(&mut scrapes, body("a 1\n"));
        assert_eq!(scrape(&mut scrapes, body("a 1 1395066363000\n")).0, ["a 1", "a ended"]);
        // Of one series there may be many times, but only one without.
        assert_eq!(scrape(&mut scrapes, body("a 1 1395066363000\na 2 1395066364000\n")).0, ["a 1", "a 2"]);
        assert_eq!(scrape(&mut scrapes, body("a 1\na 2\n")).0, ["a 1"]);
    }

    #[test]
    fn labels_of_target_and_text_join() {
        let table: [(bool, &str, &str); 6] = [
            (false, r#"m{job="own"} 1"#, r#"m{exported_job="own",instance="h:1",job="j"} 1"#),
            (
                false,
                r#"m{job="own",exported_job="x"} 1"#,
                r#"m{exported_exported_job="own",exported_job="x",instance="h:1",job="j"} 1"#,
            ),
            (false, r#"m{job=""} 1"#, r#"m{instance="h:1",job="j"} 1"#),
            (true, r#"m{job="own"} 1"#, r#"m{instance="h:1",job="own"} 1"#),
            (true, r#"m{job=""} 1"#, r#"m{instance="h:1"} 1"#),
            (true, r#"m{z="",b="1",a="2"} 1"#, r#"m{a="2",b="1",instance="h:1",job="j"} 1"#),
        ];
        for (honor_labels, text, expected) in table {
            let mut scrapes = Scrapes::new(Reading { honor_labels, ..target() });
            let readings = scrapes.settle(body(text), Duration::default);
            assert_eq!(readings.lines()[0], expected, "{honor_labels} {text}");
        }
    }

    #[test]
    fn rules_rename_and_drop_and_limits_fail_the_whole() {
        let written: [&str; 3] = [
            "action='drop'\nsource_labels=['__name__']\nregex='go_.*'",
            "source_labels=['__name__']\nregex='old_(.*)'\ntarget_label='__name__'\nreplacement='new_$1'",
            "action='labeldrop'\nregex='id'",
        ];
        let specs: Vec<RelabelSpec> = written.iter().map(|rule| toml::from_str(rule).unwrap()).collect();
        let reading = Reading { rules: rules(&specs).unwrap(), sample_limit: 2, ..target() };
        let mut scrapes = Scrapes::new(reading);
        let (lines, told, fault) = scrape(&mut scrapes, body("go_a 1\nold_b{id=\"1\"} 2\nc 3\n"));
        assert_eq!((lines, told, fault), (vec!["new_b 2".into(), "c 3".into()], [1.0, 3.0, 2.0, 2.0], None));
        let (lines, told, fault) = scrape(&mut scrapes, body("a 1\nb 1\nc 3\n"));
        assert_eq!((lines, told), (vec!["new_b ended".to_owned(), "c ended".to_owned()], [0.0; 4]));
        assert!(fault.unwrap().contains("more than the 2 samples that `sample_limit` allows"));
    }

    #[test]
    fn a_long_help_of_many_series_does_not_fill_the_memory() {
        let help = "x".repeat(8 << 20);
        let series: String = (0..100).map(|at| format!("m{{a=\"{at}\"}} 1\n")).collect();
        let mut scrapes = Scrapes::new(target());
        let (lines, told, fault) = scrape(&mut scrapes, body(&format!("# HELP m {help}\n{series}")));
        assert_eq!((lines.len(), told, fault), (100, [1.0, 100.0, 100.0, 100.0], None), "it is kept once");
        let long = vec![("long".to_owned(), "x".repeat(1 << 20))];
        let mut scrapes = Scrapes::new(Reading { labels: long, sample_limit: 100, ..Reading::default() });
        let readings = scrapes.settle(body(&series), Duration::default);
        assert!(readings.lines()[0].starts_with("up{") && readings.lines()[0].ends_with(" 0"));
        assert!(readings.fault.unwrap().0.contains("longer than 64 MiB together"));
    }

    #[test]
    fn open_metrics_that_was_cut_off_is_nothing_and_a_bad_line_is_left_out() {
        let mut scrapes = Scrapes::new(target());
        let open = |text: &str| Ok(Answer { body: text.as_bytes().to_vec(), is_open_metrics: true });
        assert_eq!(scrape(&mut scrapes, open("a 1\n# EOF\n")), (vec!["a 1".into()], [1.0, 1.0, 1.0, 1.0], None));
        let (lines, told, fault) = scrape(&mut scrapes, open("a 1\n"));
        assert_eq!((lines, told), (vec!["a ended".to_owned()], [0.0; 4]));
        assert!(fault.unwrap().contains("# EOF"));
        let readings = scrapes.settle(body("a 1\nb x\nc 2\nd y"), Duration::default);
        assert!(readings.lines()[2].starts_with("up{") && readings.lines()[2].ends_with(" 1"));
        assert_eq!(readings.lack.unwrap().0, "line 2 of the answer: value `x` is no number; 1 more lines are bad");
        assert_eq!(readings.fault, None, "the target answered");
        let (lines, told, fault) = scrape(&mut scrapes, body("<html>\n</html>"));
        assert_eq!((lines, told), (vec!["a ended".into(), "c ended".to_owned()], [0.0; 4]), "no line is a sample");
        assert!(fault.unwrap().starts_with("line 1 of the answer"));
    }
}
