//! A running server, asked over HTTP.

use std::io::Cursor;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;

/// A server's address.
pub(super) struct Remote {
    url: String,
    agent: ureq::Agent,
}

impl Remote {
    pub fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        Remote { url: url.trim_end_matches('/').to_owned(), agent }
    }

    /// The rows of a statement.
    pub fn sql(&self, statement: &str) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
        let mut answer = self
            .agent
            .post(format!("{}/api/v1/sql?format=arrow", self.url))
            .send(statement)
            .with_context(|| format!("cannot ask {}", self.url))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
        if !status.is_success() {
            let told: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{}", told["error"].as_str().unwrap_or("the server gives no reason"));
        }
        let reader = StreamReader::try_new(Cursor::new(body), None)?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<_, _>>()?))
    }
}
