//! What detectors say of stored history: `anomaly_scores` judges every value, `backtest_detector` holds what would have been
//! found against incidents that there were, and `anomaly_events` tells alarms that came together as one.

mod alarms;
mod backtest;
mod events;
mod scores;

pub(super) use alarms::{AlarmPairs, Together};
pub(super) use backtest::BacktestFunction;
pub(super) use events::events;
pub(super) use scores::ScoresFunction;

use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use super::picked::text;
use crate::stats::detect::Method;

/// The method an argument names.
fn method(expr: &Expr) -> Result<Method> {
    let names = Method::ALL.map(Method::name).join("', '");
    match text(expr).as_deref().map(Method::of_name) {
        Some(Some(method)) => Ok(method),
        _ => plan_err!("the method is one of '{names}'"),
    }
}

#[cfg(test)]
mod tests {
    use crate::query::testing::{Bench, NOON, S, examples};

    /// A wave with a step of half an hour in it, ten hours after noon.
    fn bench() -> Bench {
        let bench = Bench::new();
        let value = |minute: i64| (minute % 7) as f64 + if (600..630).contains(&minute) { 60.0 } else { 0.0 };
        let samples: Vec<(i64, f64)> = (0..900).map(|minute| (minute * 60, value(minute))).collect();
        bench.put("cpu_usage_user", &[("host", "a")], &samples);
        bench.put("cpu_usage_user", &[("host", "b")], &samples[..300]);
        bench
    }

    #[test]
    fn every_value_of_history_is_judged() {
        let bench = bench();
        let statements = examples(include_str!("scores.rs"));
        assert_eq!(statements.len(), 2, "{statements:?}");
        let found = bench.rows(&statements[0]);
        assert!(found[0].starts_with(&format!("{} ", 601 * 60)) || found[0].starts_with("36000 "), "{}", found[0]);
        bench.ask(&statements[1]).unwrap();
        let whole = "SELECT time, score FROM anomaly_scores('cpu_usage_user', 'auto', 'host=a') ORDER BY time";
        let counted = bench.rows(&format!("SELECT count(*), count(score) FROM ({whole}) AS scores"));
        assert_eq!(counted[0].split_once(' ').unwrap().0, "900");
        let error = bench.ask("SELECT * FROM anomaly_scores('cpu_usage_user', 'magic')").unwrap_err();
        assert!(error.contains("'auto', 'zscore'"), "{error}");
        let error = bench.ask("SELECT * FROM anomaly_scores('none')").unwrap_err();
        assert!(error.contains("there is no metric `none`"), "{error}");
    }

    #[test]
    fn methods_are_held_against_incidents_that_there_were() {
        let bench = bench();
        bench.ask(&examples(include_str!("backtest.rs"))[0]).unwrap();
        let time = |minute: i64| crate::model::Timestamp::from_nanos(NOON + minute * 60 * S).to_string();
        let incidents = format!("{}/{}, {}/{}", time(595), time(625), time(100), time(120));
        let found = bench.rows(&format!(
            "SELECT method, right, wrong, recall, f1 FROM backtest_detector('cpu_%', '{incidents}') WHERE method = 'auto' AND threshold = 2.4"
        ));
        assert_eq!(found, ["auto 1 0 0.5 0.6666666666666666"]);
        for (incidents, told) in
            [("", "there is no incident"), ("x", "no start/end"), ("2026-01-02/2026-01-01", "ends before")]
        {
            let error = bench.ask(&format!("SELECT * FROM backtest_detector('cpu_%', '{incidents}')")).unwrap_err();
            assert!(error.contains(told), "{incidents}: {error}");
        }
    }
}
