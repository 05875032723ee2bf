//! Tests that a pipeline file holds: samples that come in, and the rows that they must lead to.

mod expected;
mod notation;
mod run;

use std::time::Duration;

use serde::Deserialize;

pub use self::expected::ExpectSpec;
use self::notation::{read_series, read_values};
pub use self::run::{Chances, Scratch, TestRun, run_test};
use super::pipeline::{List, PipelineFault};
use super::window::Length;
use crate::model::Timestamp;

/// One `[[tests]]` of a pipeline file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSpec {
    /// Unique in the file.
    pub name: String,
    /// Time of the first sample, and what times like "+1h" are counted from.
    #[serde(default = "TestSpec::default_start")]
    pub start: String,
    /// From one value to the next.
    #[serde(default = "TestSpec::default_every")]
    pub every: Length,
    /// What comes in.
    pub inputs: Vec<InputSpec>,
    /// What is found.
    #[serde(default)]
    pub expect: Vec<ExpectSpec>,
}

/// The samples of one series.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// As in `cpu{host="a"}`.
    pub series: String,
    /// As in `1 2 3+1x10 _x3`: numbers, `a+bxn` and `a-bxn` (a, and n more, each b up or down), `axn` (a, and n more),
    /// `_` and `_xn` for none, `stale` where the series ends.
    pub values: String,
    /// From one value to the next; without it the test's.
    pub every: Option<Length>,
    /// From the test's start to the first value.
    pub offset: Option<Length>,
    /// Places in `values`, from 0, of samples that come after all others.
    #[serde(default)]
    pub late: Vec<usize>,
}

impl TestSpec {
    fn default_start() -> String {
        "2026-01-01T00:00:00Z".to_owned()
    }

    fn default_every() -> Length {
        Length(Duration::from_secs(60))
    }

    fn start(&self) -> Timestamp {
        Timestamp::parse(&self.start).unwrap_or_default()
    }

    /// Every fault; `of_expect` is the place of its first expectation among all of the file.
    pub(super) fn faults(&self, place: usize, of_expect: usize, faults: &mut Vec<PipelineFault>) {
        let name = &self.name;
        let mut fault = |of: (List, usize), at: &str, error: String, of_absence: bool| {
            let (at, error) = (at.to_owned(), format!("test `{name}`: {error}"));
            faults.push(PipelineFault { of: Some(of), at, error, of_absence });
        };
        let here = (List::Tests, place);
        if let Err(error) = Timestamp::parse(&self.start) {
            fault(here, "start", error.to_string(), false);
        }
        if self.inputs.is_empty() {
            fault(
                here,
                "inputs",
                "nothing comes in: write inputs = [{ series = \"cpu\", values = \"1 2 3\" }]".into(),
                true,
            );
        }
        if self.expect.is_empty() {
            fault(here, name, "it expects nothing: add `[[tests.expect]]`".into(), true);
        }
        let lengths = self.inputs.iter().filter_map(|input| input.every).chain([self.every]);
        if lengths.into_iter().any(|every| every.0.is_zero()) {
            fault(here, "every", "every = \"0s\" cannot be: write a length of time, as in \"1m\"".into(), false);
        }
        for input in &self.inputs {
            if let Err(error) = read_series(&input.series) {
                fault(here, &input.series, error, false);
            }
            match read_values(&input.values) {
                Err(error) => fault(here, &input.values, error, false),
                Ok(values) => {
                    if let Some(late) = input.late.iter().find(|&&late| late >= values.len()) {
                        let told =
                            format!("late = {late} cannot be: there are {} values, counted from 0", values.len());
                        fault(here, "late", told, false);
                    }
                }
            }
        }
        for (at, expect) in self.expect.iter().enumerate() {
            expect.faults().into_iter().for_each(|(text, error)| {
                fault((List::Expects, of_expect + at), &text, error, false);
            });
        }
    }
}

#[cfg(test)]
mod tests;
