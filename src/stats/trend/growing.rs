//! Whether pieces of a series grow together, each from a level of its own, in noise that may remember all it ever did.
//!
//! A walk without a direction gets far too, and least squares take its way for a trend. So how much of the last value each
//! remembers is estimated and taken off first (Cochrane and Orcutt 1949); what remembers nearly all counts as if it did, so
//! that only its steps are left (Perron and Yabu 2009).

use statrs::function::beta::checked_beta_reg;

/// More than this what is left of steps is not taken to follow what was left before.
const FOLLOWS_MAX: f64 = 0.97;
/// Of a unit in the last place of what was fitted: less is nothing.
const ROUNDING: f64 = 1e-12;

/// The growth of all pieces.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Growing {
    /// Values a unit of x.
    pub(super) slope: f64,
    pub(super) error: f64,
    /// How likely a growth as sure or surer is if there is none; one-sided.
    pub(super) p_value: f64,
    /// Share of the squares about the pieces' means that the line explains.
    pub(super) explained: f64,
}

/// Points of one piece, in the order of x.
pub(super) type Piece = [(f64, f64)];

/// `spent` is how many further numbers were fitted to the values before. `None` for too few values.
pub(super) fn growing(pieces: &[&Piece], spent: usize) -> Option<Growing> {
    let line = least_squares(pieces)?;
    let left = |piece: &&Piece| -> Vec<f64> { piece.iter().map(|(x, y)| y - line.slope * x).collect() };
    let rests: Vec<Vec<f64>> = pieces.iter().map(left).map(centred).collect();
    let remembers = memory(&rests);
    let stepped: Vec<Vec<(f64, f64)>> = pieces.iter().map(|piece| steps(piece, remembers)).collect();
    let stepped: Vec<&Piece> = stepped.iter().map(Vec::as_slice).collect();
    let (fit, levels) =
        if remembers < 1.0 { (least_squares(&stepped)?, pieces.len()) } else { (through_origin(&stepped)?, 0) };
    let count: usize = stepped.iter().map(|piece| piece.len()).sum();
    let freedom = count.checked_sub(levels + spent + 2)? as f64 + 1.0;
    let left = |piece: &&Piece| -> Vec<f64> { piece.iter().map(|(x, y)| y - fit.slope * x).collect() };
    let rests: Vec<Vec<f64>> =
        stepped.iter().map(left).map(|rest| if remembers < 1.0 { centred(rest) } else { rest }).collect();
    let follows = correlation(&rests).clamp(0.0, FOLLOWS_MAX);
    let noise = rests.iter().flatten().map(|rest| rest * rest).sum::<f64>() / freedom;
    let error = (noise / fit.spread * (1.0 + follows) / (1.0 - follows)).sqrt();
    Some(Growing { slope: fit.slope, error, p_value: p_value(fit.slope, error, freedom), explained: line.explained })
}

/// A slope, and the squares of x that it rests on.
struct Fit {
    slope: f64,
    spread: f64,
    explained: f64,
}

impl Fit {
    fn of(xx: f64, xy: f64, yy: f64) -> Option<Fit> {
        (xx > 0.0).then(|| Fit {
            slope: xy / xx,
            spread: xx,
            explained: if yy > 0.0 { xy * xy / (xx * yy) } else { 0.0 },
        })
    }
}

/// One slope, and a level for each piece.
fn least_squares(pieces: &[&Piece]) -> Option<Fit> {
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let count = piece.len() as f64;
        let (sum_x, sum_y) = piece.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        for (x, y) in *piece {
            let (x, y) = (x - sum_x / count, y - sum_y / count);
            (xx, xy, yy) = (xx + x * x, xy + x * y, yy + y * y);
        }
    }
    Fit::of(xx, xy, yy)
}

fn through_origin(pieces: &[&Piece]) -> Option<Fit> {
    let points = || pieces.iter().flat_map(|piece| piece.iter());
    let sum = |of: fn(&(f64, f64)) -> f64| points().map(of).sum::<f64>();
    Fit::of(sum(|(x, _)| x * x), sum(|(x, y)| x * y), sum(|(_, y)| y * y))
}

/// How much of the value before each remembers: 1 for what is near it.
fn memory(rests: &[Vec<f64>]) -> f64 {
    let count = rests.iter().map(Vec::len).sum::<usize>() as f64 / rests.len().max(1) as f64;
    let follows = (count * correlation(rests) + 2.0) / (count - 4.0).max(1.0);
    if follows >= 1.0 - 1.0 / count.sqrt() { 1.0 } else { follows.max(0.0) }
}

/// First autocorrelation within pieces; 0 where there is nothing to follow.
fn correlation(rests: &[Vec<f64>]) -> f64 {
    let squares: f64 = rests.iter().flatten().map(|rest| rest * rest).sum();
    let products: f64 = rests.iter().flat_map(|rest| rest.windows(2)).map(|two| two[0] * two[1]).sum();
    if squares > 0.0 { products / squares } else { 0.0 }
}

fn centred(rest: Vec<f64>) -> Vec<f64> {
    let mean = rest.iter().sum::<f64>() / rest.len().max(1) as f64;
    rest.into_iter().map(|value| value - mean).collect()
}

/// Each point less what it remembers of the one before.
fn steps(piece: &Piece, remembers: f64) -> Vec<(f64, f64)> {
    let step = |two: &[(f64, f64)]| (two[1].0 - remembers * two[0].0, two[1].1 - remembers * two[0].1);
    piece.windows(2).map(step).collect()
}

/// Of Student's t, one-sided.
fn p_value(slope: f64, error: f64, freedom: f64) -> f64 {
    if slope <= 0.0 {
        return 1.0;
    }
    if error <= ROUNDING * slope {
        return 0.0;
    }
    let t = slope / error;
    checked_beta_reg(freedom / 2.0, 0.5, freedom / (freedom + t * t)).map_or(1.0, |p| p / 2.0)
}
