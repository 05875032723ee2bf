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
mod scraper;
mod seen;
mod spec;
mod target;

pub use crate::model::relabel::{Action, RelabelSpec};
pub(super) use labels::label_fault;
pub use spec::{PrometheusSpec, Scheme};
