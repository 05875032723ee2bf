//! What to do, in sentences, the most urgent first.

use serde::Serialize;

use super::analyse::Analysis;
use super::cost::Costs;
use super::resource::Resource;
use super::status::Status;
use super::tune::Tuned;
use super::usage::{DAY, HOUR};

/// Nearer than this, a limit is more urgent than any saving; nanoseconds.
const SOON: i64 = 7 * DAY;
/// Savings of a smaller share are not worth a change.
const SAVING_MIN: f64 = 0.1;
/// Busiest hour over mean from which a schedule pays.
const PEAK_MIN: f64 = 1.3;
/// Share of gaps from which figures are doubtful.
const GAPS_MAX: f64 = 0.2;

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Advice {
    /// 1 is the most urgent, 5 the least.
    pub priority: u8,
    pub resource: String,
    pub series: String,
    /// `grow`, `scale_up`, `shrink`, `autoscale`, `schedule` or `measure`.
    pub action: &'static str,
    pub text: String,
    /// A month, in the settings' currency.
    pub saving: Option<f64>,
}

/// What advice goes by.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    pub resource: &'a Resource,
    pub analysis: &'a Analysis,
    pub costs: Option<&'a Costs>,
    pub tuned: Option<&'a Tuned>,
    /// Of the costs.
    pub currency: &'a str,
}

/// Priority, action, saving and the sentence after the series' name.
type Said = (u8, &'static str, Option<f64>, String);

/// All advice on one series, the most urgent first.
pub fn advice(grounds: &Grounds<'_>) -> Vec<Advice> {
    let (resource, series) = (&grounds.resource.name, &grounds.analysis.series);
    let said = [
        grounds.near_limit(),
        grounds.busy(),
        grounds.idle(),
        grounds.elastic(),
        grounds.seasonal(),
        grounds.doubtful(),
    ];
    let told = |(priority, action, saving, text): Said| Advice {
        priority,
        resource: resource.clone(),
        series: series.clone(),
        action,
        text: format!("{resource} of {series} {text}"),
        saving,
    };
    let mut all: Vec<Advice> = said.into_iter().flatten().map(told).collect();
    all.sort_by_key(|advice| advice.priority);
    all
}

impl Grounds<'_> {
    fn near_limit(&self) -> Option<Said> {
        let (analysis, limit) = (self.analysis, self.resource.limit);
        if analysis.headroom <= 0.0 {
            let text =
                format!("is at {:.0} % (p95), beyond its limit of {limit:.0} %: {}", analysis.used.p95, self.grown());
            return Some((1, "grow", None, text));
        }
        let [early, likely, late] = analysis.to_limit;
        let likely = likely?;
        let by = match (early, late) {
            (Some(early), Some(late)) => format!(" ({} to {})", span(early), span(late)),
            (Some(early), None) => format!(" ({} at the earliest)", span(early)),
            (None, _) => String::new(),
        };
        let text = format!("reaches its limit of {limit:.0} % in {}{by}: {}", span(likely), self.grown());
        Some((if likely <= SOON { 1 } else { 2 }, "grow", None, text))
    }

    fn busy(&self) -> Option<Said> {
        let (used, from) = (self.analysis.used.p95, self.resource.scale_up);
        let text = || format!("is busy at {used:.0} % (p95), and from {from:.0} % more is needed: {}", self.grown());
        (self.analysis.status == Status::ScaleUp).then(|| (2, "scale_up", None, text()))
    }

    fn idle(&self) -> Option<Said> {
        let saving = self.costs.map(|costs| (costs.saving, costs.saving / costs.current));
        let pays = saving.is_none_or(|(_, share)| share >= SAVING_MIN);
        let calm = !matches!(self.analysis.status, Status::ScaleUp | Status::Watch);
        let smaller = self.smaller().filter(|_| pays && calm)?;
        let saved = saving.map_or(String::new(), |(saving, share)| {
            format!(", which saves {saving:.2} {} a month ({:.0} %)", self.currency, 100.0 * share)
        });
        let text = format!("is in use at {:.0} % (p95): {smaller}{saved}", self.analysis.used.p95);
        Some((3, "shrink", saving.map(|(saving, _)| saving), text))
    }

    fn elastic(&self) -> Option<Said> {
        let Tuned { rules, went, fixed, .. } = self.tuned?;
        let saved = self.costs.and_then(|costs| Some(costs.current - costs.autoscaled?)).filter(|saved| *saved > 0.0);
        let in_money =
            saved.map_or(String::new(), |saved| format!(", for {saved:.2} {} a month less than now", self.currency));
        let text = format!(
            "would need {:.1} replicas on average under an autoscaler at {:.0} %, {} to {} of them, and be above {:.0} % for {:.2} % of the time{in_money}",
            went.replicas_mean(),
            rules.target,
            rules.replicas_min,
            rules.replicas_max,
            self.resource.limit,
            went.over_limit(),
        );
        (went.replica_hours < fixed * (1.0 - SAVING_MIN)).then_some((3, "autoscale", saved, text))
    }

    fn seasonal(&self) -> Option<Said> {
        let profile = &self.analysis.profile;
        let swings = profile.peak_to_mean >= PEAK_MIN && !profile.peak_hours.is_empty();
        let text = format!(
            "is busiest from {} UTC, at {:.1} times its mean: replicas by the hour are there before an autoscaler's",
            hours(&profile.peak_hours),
            profile.peak_to_mean
        );
        (swings && self.resource.autoscale.has_replicas()).then_some((4, "schedule", None, text))
    }

    fn doubtful(&self) -> Option<Said> {
        let gaps = self.analysis.gaps;
        let text = format!("has no value for {:.0} % of the time, so its figures are doubtful", 100.0 * gaps);
        (gaps > GAPS_MAX).then_some((5, "measure", None, text))
    }

    fn grown(&self) -> String {
        let size = &self.analysis.size;
        if self.resource.autoscale.has_replicas() && f64::from(size.replicas) > size.replicas_now {
            format!("go from {:.0} to {} replicas", size.replicas_now, size.replicas)
        } else if size.recommended > size.now {
            format!("make it {:.1} times as large", size.recommended / size.now)
        } else {
            "look at what grows".to_owned()
        }
    }

    /// `None` where what there is is needed.
    fn smaller(&self) -> Option<String> {
        let size = &self.analysis.size;
        if self.resource.autoscale.has_replicas() {
            let fewer = f64::from(size.replicas) < size.replicas_now;
            return fewer.then(|| format!("{} replicas instead of {:.0} would do", size.replicas, size.replicas_now));
        }
        let share = size.recommended / size.now;
        (share < 1.0 - SAVING_MIN).then(|| format!("{:.0} % of its size would do", 100.0 * share))
    }
}

/// Days, or hours of less than two days.
fn span(nanos: i64) -> String {
    let (days, hours) = (nanos as f64 / DAY as f64, nanos as f64 / HOUR as f64);
    if days >= 2.0 { format!("{days:.0} days") } else { format!("{hours:.0} hours") }
}

/// `9 to 12, 18 to 20`: hours that follow each other as one span; its end is not one of them.
pub(super) fn hours(hours: &[u8]) -> String {
    let spans = hours.chunk_by(|a, b| a + 1 == *b);
    let one = |span: &[u8]| format!("{} to {}", span[0], span[0] + span.len() as u8);
    spans.map(one).collect::<Vec<String>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_follow_are_one_span() {
        let table: [(&[u8], &str); 4] =
            [(&[], ""), (&[9], "9 to 10"), (&[9, 10, 11, 18, 19], "9 to 12, 18 to 20"), (&[0, 23], "0 to 1, 23 to 24")];
        for (given, expected) in table {
            assert_eq!(hours(given), expected);
        }
    }

    #[test]
    fn spans_are_days_or_hours() {
        for (nanos, expected) in [(0, "0 hours"), (30 * HOUR, "30 hours"), (2 * DAY, "2 days"), (60 * DAY, "60 days")] {
            assert_eq!(span(nanos), expected);
        }
    }
}
