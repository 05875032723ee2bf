//! Pure mathematics: numbers in, numbers out. No clock, no chance, no file, and nothing of the store.

pub mod changed;
mod changepoints;
pub mod compare;
mod correlation;
pub mod couple;
pub mod detect;
mod distinct;
mod forecast;
mod growth;
pub mod ledger;
mod pairs;
mod resample;
mod robust;
mod rolling;
mod seasons;
mod sketch;
pub mod trend;

pub use changepoints::{ChangePoint, ChangePointOptions, change_points};
pub use correlation::{lag_of_best, normalize, p_value, pearson, spearman};
pub use distinct::Distinct;
pub use forecast::{
    Direction, Eta, Exception, Forecast, ForecastError, ForecastOptions, bridge, forecast, time_to_limit,
};
pub use growth::Growth;
pub use ledger::season_error;
pub use pairs::{Pair, pairs_above};
pub use resample::{ladder_step, native_step, to_grid};
pub use robust::{MAD_TO_SIGMA, mad, median, quantile, six_digits};
pub use rolling::{RollingZ, Score};
pub use seasons::{Season, find_seasons, seasons_of};
pub use sketch::{Sketch, SketchError};
