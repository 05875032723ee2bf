//! The rank sum test of Mann and Whitney 1947: whether values of one side tend to be above those of another.
//!
//! Exact where there are few values and no equal ones: how often each U comes up among all orders is the coefficient of a
//! power of q in the Gaussian binomial (n + m over n). Else U is as good as normal, its variance less for equal values, and
//! half a step off for being whole.

use std::f64::consts::SQRT_2;

use statrs::function::erf::erfc;

/// Values of a side up to which U is counted out. The numbers of orders, 100 over 50 at most, fit in 128 bits.
const EXACT_MAX: usize = 50;

/// What is tested against "neither side is above the other".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tail {
    /// One of them is.
    Both,
    /// The first is above the second.
    Above,
    /// The first is below the second.
    Below,
}

/// The test's answer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MannWhitney {
    /// Pairs whose value of the first side is above that of the second; pairs of equal ones count half.
    pub u: f64,
    pub p_value: f64,
}

/// Tests two sides. NaN is left out. `None` where a side has no value.
///
/// ```
/// use plimsoll::stats::compare::{Tail, mann_whitney};
/// let found = mann_whitney(&[3.0, 4.0, 5.0], &[1.0, 2.0], Tail::Above).unwrap();
/// assert_eq!((found.u, found.p_value), (6.0, 0.1));
/// ```
pub fn mann_whitney(first: &[f64], second: &[f64], tail: Tail) -> Option<MannWhitney> {
    let ranked = Ranked::of(first, second);
    let (n, m) = ranked.counts;
    if n == 0 || m == 0 {
        return None;
    }
    let exact = ranked.ties == 0.0 && n.max(m) <= EXACT_MAX;
    let from = |u: f64| if exact { exact_above(u as usize, n, m) } else { normal_above(u, &ranked) };
    let (u, other) = (ranked.u, (n * m) as f64 - ranked.u);
    let p_value = match tail {
        Tail::Both => 2.0 * from(u.max(other)),
        Tail::Above => from(u),
        Tail::Below => from(other),
    };
    Some(MannWhitney { u, p_value: p_value.min(1.0) })
}

/// Two sides in one order.
pub(super) struct Ranked {
    /// Of the first side, as [`MannWhitney::u`].
    pub(super) u: f64,
    pub(super) counts: (usize, usize),
    /// Sum of t³ - t over groups of t equal values.
    ties: f64,
}

impl Ranked {
    pub(super) fn of(first: &[f64], second: &[f64]) -> Ranked {
        let side = |values: &[f64], side: bool| -> Vec<(f64, bool)> {
            values.iter().filter(|value| !value.is_nan()).map(|value| (*value, side)).collect()
        };
        let mut all = [side(first, true), side(second, false)].concat();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (mut u, mut ties, mut n, mut m) = (0.0, 0.0, 0, 0);
        for equal in all.chunk_by(|a, b| a.0 == b.0) {
            let of_first = equal.iter().filter(|(_, is_first)| *is_first).count();
            let of_second = equal.len() - of_first;
            u += of_first as f64 * (m as f64 + of_second as f64 / 2.0);
            ties += (equal.len() as f64).powi(3) - equal.len() as f64;
            (n, m) = (n + of_first, m + of_second);
        }
        Ranked { u, counts: (n, m), ties }
    }
}

/// Chance of this U or more.
fn exact_above(u: usize, n: usize, m: usize) -> f64 {
    let orders = orders(n, m);
    let above: i128 = orders[u..].iter().sum();
    above as f64 / orders.iter().sum::<i128>() as f64
}

/// How many orders of n and m values have each U: the product of (1 - q^(m + i)) / (1 - q^i) for i up to n. After each i it is
/// a Gaussian binomial of its own, so that all divisions come out even.
fn orders(n: usize, m: usize) -> Vec<i128> {
    let mut orders = vec![0; n * m + 1];
    orders[0] = 1;
    for i in 1..=n {
        for power in (m + i..orders.len()).rev() {
            orders[power] -= orders[power - m - i];
        }
        for power in i..orders.len() {
            orders[power] += orders[power - i];
        }
    }
    orders
}

fn normal_above(u: f64, ranked: &Ranked) -> f64 {
    let (n, m) = (ranked.counts.0 as f64, ranked.counts.1 as f64);
    let count = n + m;
    let variance = n * m / 12.0 * (count + 1.0 - ranked.ties / (count * (count - 1.0)));
    if variance <= 0.0 {
        return 1.0; // all are equal
    }
    let score = (u - n * m / 2.0 - 0.5) / variance.sqrt();
    erfc(score / SQRT_2) / 2.0
}
