//! The state of an SLO at any moment of its history.

use super::check::Slo;
use super::counts::{Count, Counts, Tally};
use super::rules::{HOUR, Rule};
use super::status::{BURN_WINDOWS, Burn, Status, is_spent};
use crate::model::{Span, Timestamp};

/// The rate of this time is taken to go on when it is told when a budget will be spent.
const PRESENT: i64 = HOUR;

/// What was counted of one SLO (of one value of its labels), ready to be asked about any moment.
///
/// Making it takes n log n, each question log n. For the state at a moment it needs the rows of a window before it.
#[derive(Debug, Clone)]
pub struct History<'s> {
    slo: &'s Slo,
    counts: Counts,
    allowed: f64,
    /// By bucket: since when the budget has been spent, at its end.
    spent_since: Vec<Option<i64>>,
}

impl<'s> History<'s> {
    /// Of rows in any order, as [`Count`] says.
    pub fn new(slo: &'s Slo, rows: Vec<Count>) -> History<'s> {
        let counts = Counts::new(slo, rows);
        let mut history = History { slo, counts, allowed: slo.allowed(), spent_since: Vec::new() };
        history.spent_since = history.spells();
        history
    }

    /// From the first bucket to the end of the last.
    pub fn span(&self) -> Option<Span> {
        let (first, last) = (*self.counts.times.first()?, self.counts.times.len() - 1);
        Some(Span::new(Timestamp::from_nanos(first), Timestamp::from_nanos(self.counts.end(last))))
    }

    /// The state at `at`: the window is what begins before it. A bucket that runs counts as far as it is known.
    pub fn at(&self, at: Timestamp) -> Status {
        let nanos = at.nanos();
        let whole = self.counts.over(self.slo.window, nanos);
        let remaining = self.remaining(whole);
        let burns = BURN_WINDOWS.map(|(_, length)| Burn { length, rate: self.burn(length, nanos) });
        let rule = self.firing(nanos);
        Status {
            at,
            good: whole.total - whole.bad,
            total: whole.total,
            sli: whole.bad_share().map(|share| 1.0 - share),
            budget: self.allowed * whole.total,
            spent: whole.bad,
            remaining,
            burns,
            alert: rule.map(|place| self.slo.rules[place].severity),
            rule,
            exhausted_at: self.exhausted(nanos, remaining).map(Timestamp::from_nanos),
            data_share: whole.covered as f64 / self.slo.window as f64,
        }
    }

    /// The state at each `every` nanoseconds of `span`, counted from 1970, its end among them. Without one of the last
    /// moments before a change of state the change is told up to `every` late.
    pub fn over(&self, span: Span, every: i64) -> impl Iterator<Item = Status> {
        let every = every.max(1);
        let first = span.start.plus(every - 1).floor(every).nanos();
        let moments = std::iter::successors(Some(first), move |at| at.checked_add(every));
        moments.take_while(move |&at| at <= span.end.nanos()).map(|at| self.at(Timestamp::from_nanos(at)))
    }

    fn remaining(&self, tally: Tally) -> Option<f64> {
        tally.bad_share().map(|share| 1.0 - share / self.allowed)
    }

    fn burn(&self, length: i64, at: i64) -> Option<f64> {
        self.counts.over(length, at).bad_share().map(|share| share / self.allowed)
    }

    /// The place of the most urgent rule that alerts; of several the first.
    fn firing(&self, at: i64) -> Option<usize> {
        let firing = self.slo.rules.iter().enumerate().filter(|(_, rule)| self.fires(rule, at));
        firing.max_by_key(|(place, rule)| (rule.severity, std::cmp::Reverse(*place))).map(|(place, _)| place)
    }

    /// A long window that reaches back before anything is known counts that time as well spent: what went wrong in the first
    /// minutes is no large share of the budget yet.
    fn fires(&self, rule: &Rule, at: i64) -> bool {
        let Some(&first) = self.counts.times.first() else { return false };
        let age = (at.saturating_sub(first) as f64 / rule.long as f64).min(1.0);
        let over = |length, share: f64| self.burn(length, at).is_some_and(|burn| burn * share > rule.burn);
        over(rule.short, 1.0) && over(rule.long, age)
    }

    fn exhausted(&self, at: i64, remaining: Option<f64>) -> Option<i64> {
        if is_spent(remaining) {
            let last = self.counts.before(at).checked_sub(1)?;
            let known = Some(last).filter(|&last| self.counts.end(last) <= at).or_else(|| last.checked_sub(1));
            return known.and_then(|place| self.spent_since[place]).or(Some(at));
        }
        let (left, rate) = (remaining?.max(0.0), self.burn(PRESENT, at).filter(|&rate| rate > 0.0)?);
        let windows = left / rate;
        (windows <= 1.0).then(|| at.saturating_add((windows * self.slo.window as f64) as i64))
    }

    /// A pass with both ends of the window moving on.
    fn spells(&self) -> Vec<Option<i64>> {
        let (mut since, mut from, mut to) = (None, 0, 0);
        let times = &self.counts.times;
        (0..times.len())
            .map(|place| {
                let end = self.counts.end(place);
                from = advance(times, from, end.saturating_sub(self.slo.window));
                to = advance(times, to, end);
                let tally = self.counts.between(from, to, self.slo.window, end);
                since = is_spent(self.remaining(tally)).then(|| since.unwrap_or(end));
                since
            })
            .collect()
    }
}

/// The first place from `from` on whose time is `at` or later.
fn advance(times: &[i64], from: usize, at: i64) -> usize {
    from + times[from..].iter().take_while(|&&time| time < at).count()
}
