//! Prometheus targets, scraped as Prometheus does: relabelling, `up` and its kin, and series that end when they are missing.
//!
//! ```text
//! spec      as written → targets        relabel: __address__, __scheme__, __metrics_path__, job, instance
//! plan      targets → sources
//! scraper   asks a target               http
//! pass      body → readings             labels joined, metric_relabel, limits, what is missing ends
//! ```

mod labels;
mod pass;
mod plan;
mod relabel;
mod scraper;
mod seen;
mod spec;
mod target;

pub(super) use labels::label_fault;
pub use relabel::{Action, RelabelSpec};
pub use spec::{PrometheusSpec, Scheme};
