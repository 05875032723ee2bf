//! Memory that a program does not give back: what is in use after every collection, growing at one pace from start to end.
//!
//! ```text
//!      /|  /|  /|  restart       what counts is the floor of each stretch of time (o); a restart begins a new piece;
//!     / | / |o/ |                what the time of day explains is taken off, from two days on
//!    /  |o  o   |  /|  /|
//!   /  o        | / |o/
//!  o            |o  o
//! ```

use super::growing::{Growing, Piece, growing};
use crate::stats::{MAD_TO_SIGMA, mad, quantile};

/// Stretches of less than two days' values.
const STRETCHES: usize = 48;
/// Fewest of them that tell anything.
const STRETCHES_MIN: usize = 12;
/// The share of a stretch's values below its floor: not the lowest, which may be a slip.
const FLOOR: f64 = 0.1;
const HOUR: f64 = 3600.0;
const HOURS_A_DAY: usize = 24;
/// Seconds from which there is a time of day.
const SEASONAL: f64 = 2.0 * 24.0 * HOUR;
/// Falls that may be restarts; more of them are collections that take longer than a stretch.
const RESTARTS_MAX: usize = 4;
/// A fall is one of so many deviations of the steps between floors, and of this share of what the piece had grown.
const FALL: f64 = 6.0;
const FALLEN: f64 = 0.5;
/// The last part of each piece: it has to grow as the whole does, or growth has an end.
const LATE: f64 = 1.0 / 3.0;

/// Growth from next to nothing counts up to here.
const GROWTH_MAX: f64 = 1e6;

/// What counts as a leak.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LeakOptions {
    /// Largest p-value, one-sided.
    pub p_max: f64,
    /// Least growth over all the time, as a share of the floor at its begin.
    pub growth_min: f64,
    /// Least pace of the last third of the time, as a share of the pace of all of it.
    pub late_min: f64,
}

impl Default for LeakOptions {
    fn default() -> LeakOptions {
        LeakOptions { p_max: 1e-3, growth_min: 0.02, late_min: 0.5 }
    }
}

/// A growth without end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Leak {
    /// In the unit of the values.
    pub per_second: f64,
    /// Standard error of `per_second`.
    pub error: f64,
    /// How likely a growth as sure or surer is by chance.
    pub p_value: f64,
    /// Share of the floor's squares about its mean (of each piece) that steady growth explains, 0 to 1.
    pub explained: f64,
    /// Growth over all the time there was, as a share of the floor at its begin.
    pub growth: f64,
    pub restarts: usize,
}

/// Looks for a leak in values that are `step` seconds apart. What is not finite is a gap. `None` where there is none, and
/// where too little is known: below 24 values.
///
/// Of less than two days, a rise of the day looks like a leak as long as it is straight. Up to four large falls are taken for
/// restarts, so that the first few collections of a program that seldom collects look like a leak with as many restarts.
/// Values are of a gauge, as memory in use: what counts up without end is found to grow.
pub fn leak(values: &[f64], step: f64, options: &LeakOptions) -> Option<Leak> {
    let span = values.len() as f64 * step;
    let is_seasonal = span >= SEASONAL && step <= HOUR;
    let mut width = if is_seasonal { HOUR / step } else { (values.len() as f64 / STRETCHES as f64).max(2.0) };
    loop {
        let floors = floors(values, width);
        if floors.len() < STRETCHES_MIN {
            return None;
        }
        let pieces = pieces(&floors);
        if pieces.len() <= RESTARTS_MAX + 1 {
            let hours = is_seasonal.then_some(width * step / HOUR);
            return judge(&pieces, hours, options).map(|found| found.over(width * step));
        }
        width *= 2.0;
    }
}

impl Leak {
    /// From paces by stretch.
    fn over(self, seconds: f64) -> Leak {
        Leak { per_second: self.per_second / seconds, error: self.error / seconds, ..self }
    }
}

/// The floor of each stretch of so many values, by its number.
fn floors(values: &[f64], width: f64) -> Vec<(f64, f64)> {
    let count = (values.len() as f64 / width) as usize;
    let place = |at: usize| ((at as f64 * width) as usize).min(values.len());
    let floor = |at: usize| {
        let present: Vec<f64> =
            values[place(at)..place(at + 1)].iter().copied().filter(|value| value.is_finite()).collect();
        Some((at as f64, quantile(&present, FLOOR)?))
    };
    (0..count).filter_map(floor).collect()
}

/// Cuts where it fell back most of the way that it had come.
fn pieces(floors: &[(f64, f64)]) -> Vec<&Piece> {
    let steps: Vec<f64> = floors.windows(2).map(|two| two[1].1 - two[0].1).collect();
    let usual = FALL * MAD_TO_SIGMA * mad(&steps).unwrap_or(0.0);
    let (mut pieces, mut from, mut lowest) = (Vec::new(), 0, f64::INFINITY);
    for at in 1..floors.len() {
        let (last, next) = (floors[at - 1].1, floors[at].1);
        lowest = lowest.min(last);
        if last - next > usual && last - next > FALLEN * (last - lowest) && last > lowest {
            pieces.push(&floors[from..at]);
            (from, lowest) = (at, f64::INFINITY);
        }
    }
    pieces.push(&floors[from..]);
    pieces
}

/// Pieces are of floors by stretch; `hours` is how long a stretch is, where the time of day may count.
fn judge(pieces: &[&Piece], hours: Option<f64>, options: &LeakOptions) -> Option<Leak> {
    let start = pieces.first()?.first()?.1;
    let profiled = hours.map(|hours| without_day(pieces, hours));
    let pieces: Vec<&Piece> =
        profiled.as_ref().map_or_else(|| pieces.to_vec(), |profiled| profiled.iter().map(Vec::as_slice).collect());
    let whole = growing(&pieces, if hours.is_some() { HOURS_A_DAY - 1 } else { 0 })?;
    let stretches: usize = pieces.iter().map(|piece| piece.len()).sum();
    let growth = (whole.slope * stretches as f64 / start.abs().max(f64::MIN_POSITIVE)).min(GROWTH_MAX);
    let is_leak =
        whole.p_value <= options.p_max && growth >= options.growth_min && is_lasting(&pieces, &whole, options);
    is_leak.then_some(Leak {
        per_second: whole.slope,
        error: whole.error,
        p_value: whole.p_value,
        explained: whole.explained,
        growth,
        restarts: pieces.len() - 1,
    })
}

/// That the end of each piece grows as the whole.
fn is_lasting(pieces: &[&Piece], whole: &Growing, options: &LeakOptions) -> bool {
    let late = |piece: &&'_ Piece| ((1.0 - LATE) * piece.len() as f64) as usize;
    let late: Vec<&Piece> = pieces.iter().map(|piece| &piece[late(piece)..]).collect();
    growing(&late, 0).is_some_and(|late| late.slope >= options.late_min * whole.slope)
}

/// Takes off what each hour of the day has on the others.
fn without_day(pieces: &[&Piece], hours: f64) -> Vec<Vec<(f64, f64)>> {
    let slope = growing(pieces, 0).map_or(0.0, |growing| growing.slope);
    let mut profile = vec![Vec::new(); HOURS_A_DAY];
    let hour = |x: f64| (x * hours) as usize % HOURS_A_DAY;
    for piece in pieces {
        let rest: Vec<f64> = piece.iter().map(|(x, y)| y - slope * x).collect();
        let level = quantile(&rest, 0.5).unwrap_or(0.0);
        piece.iter().zip(rest).for_each(|((x, _), rest)| profile[hour(*x)].push(rest - level));
    }
    let profile: Vec<f64> = profile.iter().map(|rests| quantile(rests, 0.5).unwrap_or(0.0)).collect();
    pieces.iter().map(|piece| piece.iter().map(|(x, y)| (*x, y - profile[hour(*x)])).collect()).collect()
}
