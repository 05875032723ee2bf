//! A comparison in a sentence that names its metric.

use crate::stats::compare::{Basis, Better, CompareOptions, Comparison, Verdict};

/// p-values below this are as good as none.
const P_SMALL: f64 = 1e-9;
/// Runs of each side that are looked for, for want of which there are too few.
const RUNS_MAX: usize = 1000;

/// As in `db/query is 12.3 % slower (95 %: 10.1 to 14.6 %; p < 1e-9, 30 against 30 runs)`.
pub(super) fn sentence(metric: &str, unit: &str, found: &Comparison, options: &CompareOptions) -> String {
    match found.verdict {
        Verdict::TooFew => too_few(metric, found, options),
        Verdict::Same if is_small(found, options) => {
            format!("{metric} {}, which is too little to count{}", how(unit, found), in_brackets(found, options, false))
        }
        Verdict::Same => {
            format!("{metric} shows no change{}{}", in_brackets(found, options, true), doubt(unit, found, options))
        }
        Verdict::Regression | Verdict::Improvement => {
            format!("{metric} {}{}", how(unit, found), in_brackets(found, options, false))
        }
    }
}

/// That there is a change, but less than counts.
fn is_small(found: &Comparison, options: &CompareOptions) -> bool {
    let is_sure = found.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0);
    is_sure && found.p_value.is_some_and(|p| p <= options.alpha) && found.change.is_some_and(|change| change != 0.0)
}

fn how(unit: &str, found: &Comparison) -> String {
    match found.change {
        Some(change) => format!("is {} % {}", share(change.abs()), comparative(unit, change > 0.0)),
        None => format!("went from {} to {}", number(found.before, unit), number(found.now, unit)),
    }
}

fn comparative(unit: &str, is_more: bool) -> &'static str {
    let is_time = ["ns", "us", "µs", "ms", "s", "min", "h"].contains(&unit);
    match (is_time, is_more) {
        (true, true) => "slower",
        (true, false) => "faster",
        (false, true) => "higher",
        (false, false) => "lower",
    }
}

/// What it rests on; with the change and its sign, where nothing else tells it.
fn in_brackets(found: &Comparison, options: &CompareOptions, tells_change: bool) -> String {
    let change = found.change.filter(|_| tells_change).map(|change| format!("{change:+.1} %", change = change * 100.0));
    let interval = found.interval.map(|bounds| interval(bounds, found.change, options.confidence, tells_change));
    let level: Vec<String> = change.into_iter().chain(interval).collect();
    let sure = match (found.basis, found.p_value) {
        (Basis::Summaries, _) => "from summaries alone, so without a p-value".to_owned(),
        (_, Some(p)) if p < P_SMALL => format!("p < {P_SMALL:e}, {}", runs(found)),
        (_, Some(p)) => format!("p = {}, {}", two_digits(p), runs(found)),
        (_, None) => runs(found),
    };
    let parts: Vec<String> = [level.join(", "), sure].into_iter().filter(|part| !part.is_empty()).collect();
    format!(" ({})", parts.join("; "))
}

fn interval((low, high): (f64, f64), change: Option<f64>, confidence: f64, is_signed: bool) -> String {
    // "12 % slower, 10 to 15 %" and "12 % faster, 10 to 15 %": the words have the sign
    let (low, high) = if !is_signed && change.is_some_and(|change| change < 0.0) { (-high, -low) } else { (low, high) };
    format!("{} %: {} to {} %", share(confidence).trim_end_matches(".0"), share(low), share(high))
}

/// What a `Same` leaves open: a change for the worse that would count.
fn doubt(unit: &str, found: &Comparison, options: &CompareOptions) -> String {
    let Some((low, high)) = found.interval else { return String::new() };
    let worst = if options.better == Better::Lower { high } else { -low };
    if worst <= options.min_effect {
        return String::new();
    }
    format!("; up to {} % {} cannot be ruled out", share(worst), comparative(unit, options.better == Better::Lower))
}

fn too_few(metric: &str, found: &Comparison, options: &CompareOptions) -> String {
    if found.basis == Basis::Summaries {
        return format!("{metric} has no figure that can be compared: save its samples");
    }
    let orders = |each: usize| (1..=each).map(|at| (each + at) as f64 / at as f64).product::<f64>();
    let enough = (2..RUNS_MAX).find(|each| 2.0 / orders(*each) <= options.alpha).unwrap_or(RUNS_MAX);
    format!(
        "{metric} has too few runs to tell ({}): make {enough} of each or more, for p <= {}",
        runs(found),
        options.alpha
    )
}

fn runs(found: &Comparison) -> String {
    format!("{} against {} runs", found.counts.1, found.counts.0)
}

/// In percent.
fn share(share: f64) -> String {
    format!("{:.1}", share * 100.0)
}

fn number(value: f64, unit: &str) -> String {
    if unit.is_empty() { format!("{value}") } else { format!("{value} {unit}") }
}

/// A p-value.
pub(super) fn two_digits(p: f64) -> String {
    if p >= 0.01 || p == 0.0 { format!("{p:.2}") } else { format!("{p:.0e}") }
}
