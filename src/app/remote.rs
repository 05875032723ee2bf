//! A running server, asked over HTTP.

use std::io::BufReader;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Body, BodyReader};

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

    /// The rows of a statement, as they come over the line.
    pub fn rows(&self, statement: &str) -> anyhow::Result<StreamReader<BufReader<BodyReader<'static>>>> {
        let answer = self.agent.post(format!("{}/api/v1/sql?format=arrow", self.url)).send(statement);
        let body = self.answered(answer)?.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(StreamReader::try_new(BufReader::new(body), None)?)
    }

    pub fn sql(&self, statement: &str) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
        let reader = self.rows(statement)?;
        Ok((reader.schema(), reader.collect::<Result<_, _>>()?))
    }

    /// What is at a path, as JSON.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.body(self.agent.get(format!("{}{path}", self.url)).call())?)?)
    }

    /// The answer to a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        Ok(serde_json::from_slice(&self.body(request.send(body.to_string()))?)?)
    }

    fn body(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Vec<u8>> {
        Ok(self.answered(answer)?.body_mut().with_config().limit(u64::MAX).read_to_vec()?)
    }

    /// # Errors
    /// Where the server cannot be asked, or says no.
    fn answered(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let mut answer = answer.with_context(|| format!("cannot ask {}", self.url))?;
        if !answer.status().is_success() {
            let body = answer.body_mut().read_to_vec()?;
            let told: Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{}", told["error"].as_str().unwrap_or("the server gives no reason"));
        }
        Ok(answer)
    }
}
