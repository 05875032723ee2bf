//! `from.prometheus` as it is written, and the targets it names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::Deserialize;

use super::labels::label_fault;
use super::pass::Reading;
use super::target::Target;
use crate::ingest::http_client::{BasicAuth, Credentials, TlsSpec, header_faults};
use crate::model::relabel::{Relabel, RelabelSpec, rules};

/// Prometheus targets: `from.prometheus = { targets = ["localhost:9100"] }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusSpec {
    /// `host:port`, or whole addresses, whose scheme and path count before those here.
    pub targets: Vec<String>,
    pub scheme: Scheme,
    pub path: String,
    /// What is asked for behind the `?`.
    pub params: BTreeMap<String, Vec<String>>,
    /// Labels of all series of all targets. `job` is the source's id and `instance` is host:port where they are not
    /// here.
    pub labels: BTreeMap<String, String>,
    /// Whether labels that a target tells win over those here; else they become `exported_…`.
    pub honor_labels: bool,
    /// Whether times that a target tells count.
    pub honor_timestamps: bool,
    /// Rules for targets, with `__address__`, `__scheme__`, `__metrics_path__` and `__param_…` as labels.
    pub relabel: Vec<RelabelSpec>,
    /// Rules for samples, with `__name__` as a label.
    pub metric_relabel: Vec<RelabelSpec>,
    pub bearer_token: Option<String>,
    /// Read anew for each scrape.
    pub bearer_token_file: Option<PathBuf>,
    pub basic_auth: Option<BasicAuth>,
    /// Headers that are sent besides.
    pub headers: BTreeMap<String, String>,
    /// Bytes of an answer after decompression; more fail the scrape.
    pub body_limit: ByteSize,
    /// Samples of a scrape after `metric_relabel`; more fail the scrape.
    pub sample_limit: usize,
    pub tls: TlsSpec,
}

/// How targets are spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl Default for PrometheusSpec {
    fn default() -> Self {
        PrometheusSpec {
            targets: Vec::new(),
            scheme: Scheme::Http,
            path: "/metrics".to_owned(),
            params: BTreeMap::new(),
            labels: BTreeMap::new(),
            honor_labels: false,
            honor_timestamps: true,
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            bearer_token: None,
            bearer_token_file: None,
            basic_auth: None,
            headers: BTreeMap::new(),
            body_limit: ByteSize::mib(64),
            sample_limit: 1_000_000,
            tls: TlsSpec::default(),
        }
    }
}

type Told = (&'static str, String);

impl PrometheusSpec {
    /// All that is wrong with it: the key, and what to write.
    pub fn faults(&self) -> Vec<Told> {
        let mut faults = Vec::new();
        let mut check = |is_so: bool, key, told: &str| {
            if !is_so {
                faults.push((key, told.to_owned()));
            }
        };
        check(!self.targets.is_empty(), "targets", "write at least one, as in targets = [\"localhost:9100\"]");
        check(self.path.starts_with('/'), "path", "write it from the root, as in path = \"/metrics\"");
        check(self.sample_limit > 0, "sample_limit", "write at least 1, as in sample_limit = 1000000");
        check(self.body_limit.as_u64() > 0, "body_limit", "write a size, as in body_limit = \"64 MiB\"");
        faults.extend(self.labels.keys().filter_map(|name| label_fault(name)));
        faults.extend(header_faults(&self.headers));
        faults.extend(self.credentials().err());
        faults.extend(self.tls.fault());
        faults.extend(rules(&self.metric_relabel).err().map(|told| ("metric_relabel", told)));
        match rules(&self.relabel) {
            Ok(relabel) => faults.extend(self.faults_of_targets(&relabel)),
            Err(told) => faults.push(("relabel", told)),
        }
        faults
    }

    fn faults_of_targets<'s>(&'s self, relabel: &'s [Relabel]) -> impl Iterator<Item = Told> + 's {
        let faults = self.targets.iter().filter_map(|target| Target::of(target, "job", self, relabel).err());
        faults.map(|told| ("targets", told))
    }

    /// Who asks.
    ///
    /// # Errors
    /// The key, and what to write.
    pub(super) fn credentials(&self) -> Result<Credentials, Told> {
        let (token, file) = (self.bearer_token.as_deref(), self.bearer_token_file.as_deref());
        Credentials::written(self.basic_auth.as_ref(), token, file)
    }

    /// The targets that the rules leave, each once.
    pub(super) fn targets(&self, job: &str) -> Vec<Target> {
        let rules = rules(&self.relabel).unwrap_or_default();
        let mut targets: Vec<Target> = Vec::new();
        for written in &self.targets {
            // What is no target was told when the settings were read.
            if let Ok(Some(target)) = Target::of(written, job, self, &rules)
                && !targets.contains(&target)
            {
                targets.push(target);
            }
        }
        targets
    }

    /// Labels of a source are those of its targets: rules and text may take them away again.
    pub(super) fn with_labels(&self, labels: &[(String, String)]) -> PrometheusSpec {
        let mut joined = self.clone();
        for (name, value) in labels {
            joined.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        joined
    }

    /// How the text of a target with these labels is read.
    pub(super) fn reading(&self, labels: Vec<(String, String)>) -> Reading {
        Reading {
            labels,
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps,
            rules: rules(&self.metric_relabel).unwrap_or_default(),
            sample_limit: self.sample_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_source_are_those_of_its_targets() {
        let spec: PrometheusSpec = toml::from_str("targets = ['h:1']\nlabels = { a = 'own' }").unwrap();
        let outer = [("a", "outer"), ("b", "outer")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let labels = spec.with_labels(&outer).targets("n").remove(0).labels;
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["a=own", "b=outer", "instance=h:1", "job=n"]);
    }

    #[test]
    fn what_cannot_be_asked_is_a_fault_of_its_key() {
        let table = [
            ("", "targets"),
            ("targets = ['h:1/x']", "targets"),
            ("targets = ['h']\npath = 'metrics'", "path"),
            ("targets = ['h']\nlabels = { 'a-b' = 'c' }", "labels"),
            ("targets = ['h']\nsample_limit = 0", "sample_limit"),
            ("targets = ['h']\nbody_limit = 0", "body_limit"),
            ("targets = ['h']\nbearer_token = 'x'\nbasic_auth = { username = 'u' }", "bearer_token"),
            ("targets = ['h']\nbasic_auth = { username = 'u', password = 'p', password_file = 'f' }", "basic_auth"),
            ("targets = ['h']\ntls = { key_file = 'x' }", "key_file"),
            ("targets = ['h']\n[[relabel]]\nregex = '('", "relabel"),
            ("targets = ['h']\n[[metric_relabel]]\naction = 'hashmod'\ntarget_label = 'x'", "metric_relabel"),
        ];
        for (written, key) in table {
            let spec: PrometheusSpec = toml::from_str(written).unwrap();
            let keys: Vec<&str> = spec.faults().into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [key], "{written}");
        }
        let many = "targets = ['h/x', 'i/x']\npath = 'm'\nsample_limit = 0\nlabels = { 'a b' = 'c' }\nheaders = { 'a b' = 'S3', c = \"S3\\nx\" }";
        let faults = toml::from_str::<PrometheusSpec>(many).unwrap().faults();
        let keys: Vec<&str> = faults.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["path", "sample_limit", "labels", "headers", "headers", "targets", "targets"]);
        assert!(!format!("{faults:?}").contains("S3"), "{faults:?}");
        assert!(toml::from_str::<PrometheusSpec>("target = ['h']").is_err());
    }
}
