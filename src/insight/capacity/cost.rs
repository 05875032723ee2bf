//! What it costs a month, now and as it ought to be.

use serde::Serialize;

use super::analyse::Analysis;
use super::resource::Resource;
use super::tune::Tuned;

/// Hours of a month of an average year.
pub const HOURS_A_MONTH: f64 = 730.0;

/// Prices of a resource; 0 where it costs nothing or nobody said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Price {
    /// Of a unit for an hour.
    pub unit_hour: f64,
    /// Units that one replica has.
    pub units: f64,
    /// Of a replica for an hour, beside its units.
    pub replica_hour: f64,
}

impl Price {
    pub fn is_known(&self) -> bool {
        self.unit_hour > 0.0 || self.replica_hour > 0.0
    }

    /// Of replicas for a month.
    pub fn of_replicas(&self, replicas: f64) -> f64 {
        replicas * (self.units * self.unit_hour + self.replica_hour) * HOURS_A_MONTH
    }

    /// Of so many units on the replicas that there are.
    pub fn of_units(&self, units: f64, replicas: f64) -> f64 {
        (units * self.unit_hour + replicas * self.replica_hour) * HOURS_A_MONTH
    }
}

/// Costs a month, in the settings' currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    pub current: f64,
    /// At the recommended size: as many replicas as are needed, or of what has no replicas, as large.
    pub recommended: f64,
    /// What that saves; negative where more is needed.
    pub saving: f64,
    /// What the load at the end of the forecast needs, by its median and with one chance in ten that it needs more.
    pub at_horizon_p50: Option<f64>,
    pub at_horizon_p90: Option<f64>,
    /// With an autoscaler by the rules found, had the history been replayed.
    pub autoscaled: Option<f64>,
}

impl Costs {
    /// `None` without prices.
    pub fn of(resource: &Resource, analysis: &Analysis, tuned: Option<&Tuned>) -> Option<Self> {
        let (price, size) = (resource.price, &analysis.size);
        if !price.is_known() {
            return None;
        }
        let current = price.of_replicas(size.replicas_now);
        // Percent of what there is now.
        let at_use = |used: f64| {
            let load = used / 100.0 * analysis.replicas;
            used.is_finite().then(|| sized(resource, analysis, load))
        };
        let recommended = sized(resource, analysis, analysis.need.load());
        Some(Costs {
            current,
            recommended,
            saving: current - recommended,
            at_horizon_p50: at_use(analysis.ahead[1]),
            at_horizon_p90: at_use(analysis.ahead[2]),
            autoscaled: tuned.map(|tuned| price.of_replicas(tuned.went.replicas_mean())),
        })
    }
}

/// What a load costs at the size it needs. What has no replicas grows itself, with the same room as what is recommended.
fn sized(resource: &Resource, analysis: &Analysis, load: f64) -> f64 {
    let price = resource.price;
    if resource.autoscale.has_replicas() {
        return price.of_replicas(f64::from(resource.replicas_for(load)));
    }
    let (size, need) = (&analysis.size, analysis.need.load());
    let units = if need > 0.0 { size.recommended * load / need } else { 0.0 };
    price.of_units(units, size.replicas_now)
}
