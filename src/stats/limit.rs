//! When a forecast meets a limit: the capacity question.

use super::Forecast;

/// On which side of the limit trouble lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// A disk that fills: at or above the limit is trouble.
    Above,
    /// Free memory that shrinks: at or below the limit is trouble.
    Below,
}

/// Steps ahead at which the limit is first met, 0 being the first step after the history; `None` where the forecast
/// ends before. `early` is by the side of the interval nearest the limit, `late` by the far side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eta {
    pub early: Option<usize>,
    pub likely: Option<usize>,
    pub late: Option<usize>,
}

/// The first steps at which the forecast's interval and mean meet `limit`.
pub fn time_to_limit(forecast: &Forecast, limit: f64, direction: Direction) -> Eta {
    let first = |values: &[f64]| {
        values.iter().position(|&value| match direction {
            Direction::Above => value >= limit,
            Direction::Below => value <= limit,
        })
    };
    let (near, far) = match direction {
        Direction::Above => (&forecast.upper, &forecast.lower),
        Direction::Below => (&forecast.lower, &forecast.upper),
    };
    Eta { early: first(near), likely: first(&forecast.mean), late: first(far) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_near_side_of_the_interval_meets_the_limit_first() {
        let forecast = Forecast {
            model: "drift",
            seasons: vec![],
            mean: vec![1.0, 2.0, 3.0, 4.0],
            lower: vec![0.0, 0.0, 1.0, 1.0],
            upper: vec![2.0, 4.0, 5.0, 7.0],
            share_imputed: 0.0,
        };
        let eta = |early, likely, late| Eta { early, likely, late };
        let table = [
            (3.0, Direction::Above, eta(Some(1), Some(2), None)),
            (1.0, Direction::Above, eta(Some(0), Some(0), Some(2))),
            (9.0, Direction::Above, eta(None, None, None)),
            (1.0, Direction::Below, eta(Some(0), Some(0), None)),
            (0.0, Direction::Below, eta(Some(0), None, None)),
        ];
        for (limit, direction, expected) in table {
            assert_eq!(time_to_limit(&forecast, limit, direction), expected, "{limit} {direction:?}");
        }
    }
}
