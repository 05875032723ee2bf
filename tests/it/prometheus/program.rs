//! The program `prometheus`, and what it says over its API.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::until;

pub type Labels = BTreeMap<String, String>;

/// A sample as Prometheus writes it.
#[derive(Debug, Clone)]
pub struct Sample {
    pub millis: i64,
    pub text: String,
}

/// It ends with this.
pub struct Prometheus {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Prometheus {
    /// One that scrapes `targets` each second as the job `t`; `None` where it is not installed, which it must be in CI.
    pub fn start(folder: &Path, targets: &[String]) -> Option<Self> {
        if !is_installed("prometheus") {
            return None;
        }
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\nscrape_configs:\n- job_name: t\n  static_configs:\n  - targets: {targets:?}\n"
        );
        std::fs::write(&config, text).unwrap();
        let place = free_place();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={place}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let prometheus = Prometheus { child, url: format!("http://{place}"), agent: agent() };
        until("prometheus is ready", || {
            let ready = prometheus.agent.get(format!("{}/-/ready", prometheus.url)).call();
            ready.is_ok_and(|answer| answer.status() == 200)
        });
        Some(prometheus)
    }

    fn query(&self, query: &str, millis: Option<i64>) -> Vec<Value> {
        let mut request = self.agent.get(format!("{}/api/v1/query", self.url)).query("query", query);
        if let Some(millis) = millis {
            request = request.query("time", format!("{}.{:03}", millis / 1000, millis % 1000));
        }
        let text = request.call().unwrap().body_mut().read_to_string().unwrap();
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {text}");
        match answer["data"]["result"].take() {
            Value::Array(series) => series,
            other => panic!("{query}: {other}"),
        }
    }

    /// The value of each series at a time in milliseconds since 1970.
    pub fn instant(&self, query: &str, millis: i64) -> BTreeMap<Labels, f64> {
        let series = self.query(query, Some(millis));
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        series.iter().map(|series| (labels(series), value(series))).collect()
    }

    /// All samples of a span up to now.
    pub fn samples(&self, query: &str) -> BTreeMap<Labels, Vec<Sample>> {
        let sample = |pair: &Value| Sample {
            millis: (pair[0].as_f64().unwrap() * 1000.0).round() as i64,
            text: pair[1].as_str().unwrap().to_owned(),
        };
        let series = self.query(query, None);
        let samples = |series: &Value| series["values"].as_array().unwrap().iter().map(sample).collect();
        series.iter().map(|series| (labels(series), samples(series))).collect()
    }
}

fn labels(series: &Value) -> Labels {
    let labels = series["metric"].as_object().unwrap();
    labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// Whether a program is there; it must be in CI.
fn is_installed(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok_and(|ran| ran.status.success());
    if !is_there && std::env::var_os("CI").is_none() {
        eprintln!("skipped: there is no program `{program}` (apt install {program})");
        return false;
    }
    true
}

/// Free now, and nobody else asks for it in the next moment.
fn free_place() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn agent() -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(60)));
    config.build().new_agent()
}

/// `prometheus-node-exporter`; it ends with this.
pub struct NodeExporter {
    child: Child,
    pub place: String,
}

impl NodeExporter {
    pub fn start() -> Option<Self> {
        if !is_installed("prometheus-node-exporter") {
            return None;
        }
        let place = free_place();
        let child = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address={place}"))
            .args(["--log.level=error", "--collector.disable-defaults", "--collector.cpu", "--collector.meminfo"])
            .args(["--collector.uname", "--collector.loadavg", "--collector.netdev", "--collector.stat"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the exporter starts");
        let exporter = NodeExporter { child, place };
        until("the exporter answers", || exporter.ask().is_some());
        Some(exporter)
    }

    fn ask(&self) -> Option<String> {
        let mut answer = agent().get(format!("http://{}/metrics", self.place)).call().ok()?;
        answer.body_mut().read_to_string().ok()
    }

    /// What it tells now.
    pub fn text(&self) -> String {
        self.ask().expect("the exporter answers")
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
