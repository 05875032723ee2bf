//! A resource as it is used: thresholds, what one replica can do, and how many there may be.

use serde::{Deserialize, Serialize};

use super::cost::Price;

/// One thing that can run out.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// As the settings call it: `cpu`, `disk`.
    pub name: String,
    /// Metric; `%` in it stands for any letters.
    pub metric: String,
    /// Which of its series, as in `host=a,region=eu`; empty for all.
    pub labels: String,
    pub aggregate: Aggregate,
    /// Of the values, as people write it: `percent`, `bytes`, `cores`.
    pub unit: String,
    /// Percent of the capacity at which trouble begins.
    pub limit: f64,
    /// Percent from which more is needed.
    pub scale_up: f64,
    /// Percent up to which less would do.
    pub scale_down: f64,
    /// Percent to run at.
    pub target: f64,
    /// What one replica can do, in the values' unit; without it the values are percents.
    pub capacity: Option<f64>,
    pub replicas: Replicas,
    pub replicas_min: u32,
    pub replicas_max: u32,
    pub autoscale: Autoscale,
    pub price: Price,
    /// Seconds that an autoscaler waits before it adds, and before it removes; tuned where not given.
    pub windows: (Option<u32>, Option<u32>),
}

/// What becomes of several series of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    /// Each is looked at for itself.
    #[default]
    Each,
    Sum,
    Mean,
}

/// How many replicas carry the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replicas {
    Number(u32),
    /// A metric that says.
    Metric(String),
}

/// By which kind of metric an autoscaler sees the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Autoscale {
    /// The pods' CPU, in percent of what they request.
    Cpu,
    /// The pods' memory, in percent of what they request.
    Memory,
    /// A metric that each pod has.
    Pods,
    /// A metric of something outside the cluster.
    External,
    /// More replicas would not help: a disk.
    Never,
}

impl Autoscale {
    /// Whether more replicas help.
    pub fn has_replicas(self) -> bool {
        self != Autoscale::Never
    }

    /// Whether too little only makes it slow, and kills nothing: then short peaks need no room.
    pub fn can_wait(self) -> bool {
        matches!(self, Autoscale::Cpu | Autoscale::Pods | Autoscale::External)
    }
}

/// Rounding of a quotient that is whole but for the last bits.
const WHOLE: f64 = 1e-9;

impl Resource {
    /// Replicas' worth of `value` where `replicas` carry it together: a total in `unit` over what one can do, or a mean
    /// percentage times their number.
    pub fn load(&self, value: f64, replicas: f64) -> f64 {
        match self.capacity {
            Some(capacity) => value / capacity,
            None => value / 100.0 * replicas,
        }
    }

    /// Percent of what there is.
    pub fn used(&self, value: f64, replicas: f64) -> f64 {
        match self.capacity {
            Some(capacity) => 100.0 * value / (capacity * replicas),
            None => value,
        }
    }

    /// What one replica can do, in the values' unit.
    pub fn one(&self) -> f64 {
        self.capacity.unwrap_or(100.0)
    }

    /// The value at so many percent.
    pub fn at(&self, percent: f64, replicas: f64) -> f64 {
        match self.capacity {
            Some(capacity) => percent / 100.0 * capacity * replicas,
            None => percent,
        }
    }

    /// With another limit; thresholds beyond it come down to it.
    #[must_use]
    pub fn with_limit(self, limit: f64) -> Self {
        Resource { limit, scale_up: self.scale_up.min(limit), target: self.target.min(limit), ..self }
    }

    /// To be run at another percentage, at most the limit.
    #[must_use]
    pub fn with_target(self, target: f64) -> Self {
        Resource { target: target.min(self.limit), ..self }
    }

    /// Fewest replicas that carry `load` at [`Resource::target`], within their bounds. Never fewer for more load; the
    /// least of them where there is no number.
    pub fn replicas_for(&self, load: f64) -> u32 {
        replicas_for(load, self.target, (self.replicas_min, self.replicas_max))
    }
}

/// Fewest replicas that carry `load` at `target` percent, within `bounds`.
pub(super) fn replicas_for(load: f64, target: f64, bounds: (u32, u32)) -> u32 {
    let needed = (load / (target / 100.0) - WHOLE).ceil();
    // A float beyond the range of the number saturates, and NaN is 0.
    (needed as u32).clamp(bounds.0, bounds.1.max(bounds.0))
}

#[cfg(test)]
pub(super) fn cpu() -> Resource {
    let spec = super::CapacitySpec::default();
    spec.resources().into_iter().find(|resource| resource.name == "cpu").expect("a default")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Chance;

    #[test]
    fn load_is_in_replicas_and_use_in_percent() {
        let table = [
            // capacity, value, replicas; load, use
            (None, 50.0, 4.0, 2.0, 50.0),
            (Some(1000.0), 500.0, 4.0, 0.5, 12.5),
            (Some(1000.0), 5000.0, 4.0, 5.0, 125.0),
        ];
        for (capacity, value, replicas, load, used) in table {
            let resource = Resource { capacity, ..cpu() };
            assert_eq!((resource.load(value, replicas), resource.used(value, replicas)), (load, used), "{capacity:?}");
            assert_eq!(resource.at(used, replicas), value, "{capacity:?}");
        }
    }

    #[test]
    fn thresholds_stay_within_the_limit() {
        let table =
            [(80.0, 65.0, (80.0, 70.0, 65.0)), (60.0, 65.0, (60.0, 60.0, 60.0)), (95.0, 99.0, (95.0, 70.0, 95.0))];
        for (limit, target, expected) in table {
            let found = cpu().with_limit(limit).with_target(target);
            assert_eq!((found.limit, found.scale_up, found.target), expected, "{limit} {target}");
        }
    }

    #[test]
    fn replicas_carry_the_load_at_the_target() {
        let table = [(0.0, 2), (1.4, 2), (2.1, 3), (2.1000001, 4), (7.0, 10), (700.0, 10), (f64::NAN, 2), (-3.0, 2)];
        for (load, expected) in table {
            let resource = Resource { replicas_min: 2, replicas_max: 10, ..cpu() };
            assert_eq!(resource.replicas_for(load), expected, "{load}");
        }
        assert_eq!(replicas_for(f64::INFINITY, 70.0, (3, 1)), 3, "bounds the wrong way round");
    }

    #[test]
    fn more_load_never_needs_fewer_and_bounds_hold() {
        let chance = Chance::seeded(20_261);
        let part = |below: u64| chance.below(below * 1000) as f64 / 1000.0;
        for _ in 0..20_000 {
            let (least, most) = (chance.below(5) as u32, chance.below(60) as u32);
            let resource =
                Resource { target: 1.0 + part(99), replicas_min: least, replicas_max: least + most, ..cpu() };
            let (low, more) = (part(80), part(20));
            let (few, many) = (resource.replicas_for(low), resource.replicas_for(low + more));
            assert!(few <= many, "{resource:?} {low} {more}");
            assert!(least <= few && many <= least + most, "{resource:?} {low} {more}");
            let carried = f64::from(many) * resource.target / 100.0 >= low + more - 1e-6;
            assert!(carried || many == least + most, "{resource:?} {low} {more}");
        }
    }
}
