//! Rows of the table `slo`, and a sentence for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::check::Slo;
use super::counts::Count;
use super::rules::HOUR;
use super::status::{BURN_WINDOWS, Status};
use crate::model::Timestamp;

/// A row of the table `slo`: an SLO, of one value of the labels it is grouped by, at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct SloRow {
    pub slo: String,
    /// As in `service=cart, region=eu`; empty where it is not grouped.
    pub group: String,
    /// Percent.
    pub objective: f64,
    /// As in `30d`.
    pub window: String,
    pub at: Timestamp,
    /// Percent; NULL where nothing was asked, or nothing is known.
    pub sli: Option<f64>,
    pub good: f64,
    pub total: f64,
    /// How many of the total may go wrong, and how many did.
    pub budget: f64,
    pub spent: f64,
    /// Share of the budget, and the same in minutes of the window in which everything may go wrong.
    pub budget_remaining: Option<f64>,
    pub budget_minutes: f64,
    pub budget_minutes_remaining: Option<f64>,
    /// `burn_5m` to `burn_3d`, by [`BURN_WINDOWS`].
    pub burns: [Option<f64>; BURN_WINDOWS.len()],
    /// `none`, `ticket` or `page`.
    pub alert: &'static str,
    pub exhausted_at: Option<Timestamp>,
    /// Share of the window of which anything is known.
    pub data_share: f64,
    pub violated: bool,
    pub told: String,
}

impl SloRow {
    /// Of the values of the labels that the SLO is grouped by, in their order.
    pub fn new(slo: &Slo, group: &[Option<String>], status: &Status) -> SloRow {
        let group = group_name(slo, group);
        let minutes = slo.allowed() * slo.window as f64 / 60e9;
        SloRow {
            told: sentence(slo, &group, status),
            slo: slo.name.clone(),
            group,
            objective: slo.objective,
            window: length(slo.window),
            at: status.at,
            sli: status.sli.map(|share| share * 100.0),
            good: status.good,
            total: status.total,
            budget: status.budget,
            spent: status.spent,
            budget_remaining: status.remaining,
            budget_minutes: minutes,
            budget_minutes_remaining: status.remaining.map(|share| share * minutes),
            burns: status.burns.map(|burn| burn.rate),
            alert: status.alert.map_or("none", super::Severity::name),
            exhausted_at: status.exhausted_at,
            data_share: status.data_share,
            violated: status.is_violated(),
        }
    }
}

/// The columns of the table `slo`.
pub fn slo_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    let time = |name: &str, nullable| {
        Field::new(name, DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), nullable)
    };
    let mut fields = vec![text("slo"), text("group"), number("objective"), text("window"), time("at", false)];
    fields.extend(["sli", "good", "total", "budget", "spent", "budget_remaining"].map(number));
    fields.extend(["budget_minutes", "budget_minutes_remaining"].map(number));
    fields.extend(BURN_WINDOWS.map(|(name, _)| number(&format!("burn_{name}"))));
    fields.extend([text("alert"), time("exhausted_at", true), number("data_share")]);
    fields.extend([Field::new("violated", DataType::Boolean, false), text("told")]);
    Arc::new(Schema::new(fields))
}

/// The rows, with these columns.
pub fn slo_rows(rows: &[SloRow]) -> RecordBatch {
    let text = |of: fn(&SloRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let number =
        |of: &dyn Fn(&SloRow) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float64Array>()) };
    let time = |of: fn(&SloRow) -> Option<Timestamp>| -> ArrayRef {
        let nanos = rows.iter().map(|row| of(row).map(Timestamp::nanos));
        Arc::new(nanos.collect::<TimestampNanosecondArray>().with_timezone("UTC"))
    };
    let mut columns = vec![
        text(|row| &row.slo),
        text(|row| &row.group),
        number(&|row| Some(row.objective)),
        text(|row| &row.window),
        time(|row| Some(row.at)),
        number(&|row| row.sli),
        number(&|row| Some(row.good)),
        number(&|row| Some(row.total)),
        number(&|row| Some(row.budget)),
        number(&|row| Some(row.spent)),
        number(&|row| row.budget_remaining),
        number(&|row| Some(row.budget_minutes)),
        number(&|row| row.budget_minutes_remaining),
    ];
    columns.extend((0..BURN_WINDOWS.len()).map(|at| number(&|row| row.burns[at])));
    columns.extend([
        text(|row| row.alert),
        time(|row| row.exhausted_at),
        number(&|row| Some(row.data_share)),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(row.violated)))),
        text(|row| &row.told),
    ]);
    RecordBatch::try_new(slo_schema(), columns).expect("columns are of the table's schema")
}

/// What [`Slo::sql`] gave, by the values of the labels that the SLO is grouped by.
pub fn by_group(
    rows: impl IntoIterator<Item = (Vec<Option<String>>, Count)>,
) -> BTreeMap<Vec<Option<String>>, Vec<Count>> {
    let mut groups: BTreeMap<Vec<Option<String>>, Vec<Count>> = BTreeMap::new();
    for (group, count) in rows {
        groups.entry(group).or_default().push(count);
    }
    groups
}

fn group_name(slo: &Slo, group: &[Option<String>]) -> String {
    let each = slo.group_by.iter().zip(group);
    let named: Vec<String> = each.map(|(label, value)| format!("{label}={}", value.as_deref().unwrap_or(""))).collect();
    named.join(", ")
}

fn sentence(slo: &Slo, group: &str, status: &Status) -> String {
    let name = if group.is_empty() { slo.name.clone() } else { format!("{} of {group}", slo.name) };
    let window = length(slo.window);
    let (Some(sli), Some(remaining)) = (status.sli, status.remaining) else {
        if status.data_share > 0.0 {
            return format!("{name}: nothing was asked in the last {window}, as far as is known");
        }
        return format!("{name}: nothing is known of the last {window}");
    };
    let parts = [
        Some(format!("{name}: {} of the last {window} was good, {} % is the objective", percent(sli), slo.objective)),
        Some(budget_told(slo, remaining)),
        ending_told(status),
        alert_told(slo, status),
        (status.data_share < 0.99).then(|| format!("data covers {} of the window", percent(status.data_share))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn budget_told(slo: &Slo, remaining: f64) -> String {
    let whole = slo.allowed() * slo.window as f64;
    if remaining < 0.0 {
        return format!("the error budget of {} is spent {:.1} times", length(whole as i64), 1.0 - remaining);
    }
    let left = length((remaining * whole) as i64);
    format!("of the error budget {} is left, {left} of {}", percent(remaining), length(whole as i64))
}

fn ending_told(status: &Status) -> Option<String> {
    let at = status.exhausted_at?.floor(1_000_000_000);
    if status.is_violated() {
        return Some(format!("since {at}"));
    }
    let rate = status.burns.iter().find(|burn| burn.length == HOUR)?.rate?;
    Some(format!("it burns {rate:.1} times as fast as it may and is spent at {at}"))
}

fn alert_told(slo: &Slo, status: &Status) -> Option<String> {
    let rule = slo.rules.get(status.rule?)?;
    let (name, long, short) = (rule.severity.name(), length(rule.long), length(rule.short));
    Some(format!("{name}: over {long} and {short} it burns more than {:.1} times as fast", rule.burn))
}

/// A share as percent, rounded so that 1 is told of what is whole alone.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let rounded = format!("{percent:.3}");
    let told = if rounded == "100.000" && share < 1.0 {
        "99.999"
    } else {
        rounded.trim_end_matches('0').trim_end_matches('.')
    };
    format!("{told} %")
}

/// As it is written in settings, by its two largest units: `30d`, `1h 30m`, `43m 12s`.
fn length(nanos: i64) -> String {
    let seconds = nanos.unsigned_abs() / 1_000_000_000;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let told = parts[first..].iter().take(2).enumerate().filter(|(place, (count, _))| *place == 0 || *count > 0);
    told.map(|(_, (count, unit))| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_all_is_not_told_as_all() {
        let table = [
            (1.0, "100 %"),
            (0.999_999_999, "99.999 %"),
            (0.999_5, "99.95 %"),
            (0.1, "10 %"),
            (0.000_001, "0 %"),
            (-0.5, "-50 %"),
        ];
        for (share, expected) in table {
            assert_eq!(percent(share), expected);
        }
    }

    #[test]
    fn lengths_are_told_by_their_two_largest_units() {
        let second = 1_000_000_000;
        let table = [
            (0, "0s"),
            (59 * second, "59s"),
            (3600 * second, "1h"),
            (2592 * second, "43m 12s"),
            (86_401 * second, "1d"),
            (30 * 86_400 * second, "30d"),
            (131_400 * second, "1d 12h"),
        ];
        for (nanos, expected) in table {
            assert_eq!(length(nanos), expected);
        }
    }
}
