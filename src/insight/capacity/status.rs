//! Whether more is needed or less would do, without changing its mind at every wiggle.

use serde::Serialize;

/// What use says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Not yet, but it comes near, or the forecast does.
    Watch,
    ScaleUp,
    ScaleDown,
}

/// A state is left only this share of the way from one threshold to the other beyond where it was entered.
const MARGIN: f64 = 0.1;
/// Less would do once it would have done this many days: all of a week.
const DOWN_DAYS: usize = 7;

impl Status {
    pub const fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Watch => "watch",
            Status::ScaleUp => "scale_up",
            Status::ScaleDown => "scale_down",
        }
    }

    /// From how busy each day was (percent, the latest last): more is needed from the first day at `up`, less would do
    /// after a week of days at `down` or below (or as many as there are). Either holds until use is a margin back from
    /// the threshold, so that a series that runs along one is of one mind.
    pub(super) fn of_days(busy: &[f64], up: f64, down: f64) -> Status {
        let margin = (up - down) * MARGIN;
        let mut status = Status::Ok;
        for (at, &today) in busy.iter().enumerate() {
            let week = &busy[(at + 1).saturating_sub(DOWN_DAYS)..=at];
            let is_low = |to: f64| week.iter().all(|&day| day <= to);
            status = match status {
                _ if today >= up => Status::ScaleUp,
                Status::ScaleUp if today >= up - margin => Status::ScaleUp,
                Status::ScaleDown if is_low(down + margin) => Status::ScaleDown,
                _ if is_low(down) => Status::ScaleDown,
                _ if today >= up - margin => Status::Watch,
                _ => Status::Ok,
            };
        }
        status
    }

    /// What is fine today is worth a look where trouble is foretold.
    pub(super) fn foretold(self, trouble: bool) -> Status {
        match self {
            Status::Ok | Status::ScaleDown if trouble => Status::Watch,
            status => status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_left_a_margin_beyond_where_it_was_entered() {
        let table: [(&[f64], Status); 13] = [
            (&[], Status::Ok),
            (&[50.0], Status::Ok),
            (&[66.0], Status::Watch),
            (&[70.0], Status::ScaleUp),
            (&[50.0, 71.0], Status::ScaleUp),
            (&[71.0, 67.0], Status::ScaleUp),
            (&[71.0, 67.0, 65.0], Status::Ok),
            (&[67.0, 67.0], Status::Watch),
            (&[30.0, 20.0], Status::ScaleDown),
            (&[20.0, 33.0], Status::ScaleDown),
            (&[20.0, 35.0], Status::Ok),
            (&[35.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0], Status::Ok),
            (&[35.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0, 20.0], Status::ScaleDown),
        ];
        for (busy, expected) in table {
            assert_eq!(Status::of_days(busy, 70.0, 30.0), expected, "{busy:?}");
        }
    }

    #[test]
    fn foretold_trouble_is_watched() {
        use Status::{Ok, ScaleDown, ScaleUp, Watch};
        for (status, expected) in [(Ok, Watch), (ScaleDown, Watch), (Watch, Watch), (ScaleUp, ScaleUp)] {
            assert_eq!((status.foretold(true), status.foretold(false)), (expected, status));
        }
    }
}
