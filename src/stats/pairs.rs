//! The strongest of all pairs of many series.
//!
//! Nearly all pairs of a fleet are no pair at all, and few of their points show it: after a part of the points no more
//! can be added to the sum of products than the lengths of what is left of both rows, multiplied (Cauchy and Schwarz).
//! So rows are multiplied by strips of a few by many with the widest instructions that the machine has, some points at
//! a time, and a strip is left as soon as none of its pairs can reach what is asked for, or the weakest that would be
//! kept. What is not left is computed anew by one plain sum, so the result is the same whatever the machine.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

use pulp::{Arch, Simd, WithSimd, bytemuck};
use rayon::prelude::*;

/// Rows packed beside each other: two of the widest vectors.
const BLOCK: usize = 32;
/// Rows of one side of a strip, the other has two vectors of them: what the registers hold where they are wide and many.
const FEW: usize = 8;
/// The same on other machines.
const FEWER: usize = 4;
/// Points multiplied between two looks at whether to go on.
const STEP: usize = 4;
/// Sums kept side by side in [`dot`], so that it becomes vector instructions.
const LANES: usize = 8;

/// Two rows and how they correlate; `a < b`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pair {
    pub a: usize,
    pub b: usize,
    pub r: f32,
}

impl Pair {
    /// Strongest first, whatever its sign; equal ones by row.
    fn order(&self, other: &Pair) -> Ordering {
        let strength = other.r.abs().total_cmp(&self.r.abs());
        strength.then(self.a.cmp(&other.a)).then(self.b.cmp(&other.b))
    }
}

/// Of all pairs of rows the `keep` strongest with |r| of at least `threshold`, strongest first, then by `a` and `b`:
/// the same list on any machine and number of threads. `rows` are of one length and [`super::normalize`]d. Each thread
/// holds at most `keep` pairs.
pub fn pairs_above(rows: &[Vec<f32>], threshold: f32, keep: usize) -> Vec<Pair> {
    pairs_by(Arch::new(), rows, threshold, keep)
}

fn pairs_by(arch: Arch, rows: &[Vec<f32>], threshold: f32, keep: usize) -> Vec<Pair> {
    if rows.first().is_none_or(Vec::is_empty) || keep == 0 {
        return Vec::new();
    }
    let search = Search::new(rows, threshold, keep);
    let workers = (0..rayon::current_num_threads()).into_par_iter();
    let found: Vec<Vec<Pair>> = workers.map(|_| arch.dispatch(Worker(&search))).collect();
    let mut all = found.concat();
    all.sort_unstable_by(Pair::order);
    all.truncate(keep);
    all
}

/// What the workers share.
struct Search<'a> {
    rows: &'a [Vec<f32>],
    packed: Vec<f32>,
    threshold: f32,
    keep: usize,
    /// How far the sum of a strip may be from the plain one, by rounding alone.
    margin: f32,
    /// No pair below this counts; bits of a positive float, which order as it does. Only rises.
    enough: AtomicU32,
    /// The next block without a worker.
    next: AtomicUsize,
}

impl<'a> Search<'a> {
    fn new(rows: &'a [Vec<f32>], threshold: f32, keep: usize) -> Self {
        let points = rows[0].len();
        Search {
            rows,
            packed: pack(rows),
            threshold,
            keep,
            margin: (points + points / LANES + 32) as f32 * (f32::EPSILON / 2.0),
            enough: AtomicU32::new(threshold.max(0.0).to_bits()),
            next: AtomicUsize::new(0),
        }
    }
}

/// Floats of a packed block of rows.
fn block_size(rows: &[Vec<f32>]) -> usize {
    rows[0].len().div_ceil(STEP) * (STEP + 1) * BLOCK
}

/// Rows beside each other, a block of them at a time: the first point of each, the second of each, and so on, and after
/// each [`STEP`] of points the length of what is left of each. Where a row or a point is missing there is zero.
fn pack(rows: &[Vec<f32>]) -> Vec<f32> {
    let order = by_size(rows);
    let mut packed = vec![0.0; rows.len().div_ceil(BLOCK) * block_size(rows)];
    for (block, rows) in packed.chunks_exact_mut(block_size(rows)).zip(rows.chunks(BLOCK)) {
        let mut left = [0.0; BLOCK];
        let steps = block.chunks_exact_mut((STEP + 1) * BLOCK).zip(order.chunks(STEP));
        for (step, points) in steps.rev() {
            let (step, lengths) = step.split_at_mut(STEP * BLOCK);
            lengths.iter_mut().zip(&left).for_each(|(length, left)| *length = f32::sqrt(*left));
            for (places, &point) in step.chunks_exact_mut(BLOCK).zip(points) {
                for ((place, row), left) in places.iter_mut().zip(rows).zip(&mut left) {
                    *place = row[point];
                    *left += row[point] * row[point];
                }
            }
        }
    }
    packed
}

/// The points, those first where the rows are largest: what is left after them is the least.
fn by_size(rows: &[Vec<f32>]) -> Vec<usize> {
    let mut sizes = vec![0.0; rows[0].len()];
    for row in rows {
        sizes.iter_mut().zip(row).for_each(|(size, x)| *size += x * x);
    }
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&i, &j| f32::total_cmp(&sizes[j], &sizes[i]));
    order
}

/// Takes blocks until none is left, and compares the rows of each with one another and with all later ones.
struct Worker<'a>(&'a Search<'a>);

impl WithSimd for Worker<'_> {
    type Output = Vec<Pair>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<Pair> {
        if S::F32_LANES * 2 == BLOCK { self.work::<S, FEW>(simd) } else { self.work::<S, FEWER>(simd) }
    }
}

impl Worker<'_> {
    #[inline(always)]
    fn work<S: Simd, const N: usize>(&self, simd: S) -> Vec<Pair> {
        let search = self.0;
        let mut best = Best { search, kept: BinaryHeap::new() };
        let mut patience = 0;
        loop {
            let first = search.next.fetch_add(1, Relaxed);
            let mut others = search.packed.chunks_exact(block_size(search.rows)).enumerate().skip(first).peekable();
            let Some(&(_, block)) = others.peek() else {
                return best.kept.into_iter().map(|Held(pair)| pair).collect();
            };
            for (second, other) in others {
                let (block, other) = (block.as_chunks().0, other.as_chunks().0);
                for a in (0..BLOCK).step_by(N) {
                    for b in (0..BLOCK).step_by(2 * S::F32_LANES) {
                        let sides = [Side { block, from: a }, Side { block: other, from: b }];
                        if let Some(Strip { sums, .. }) = Strip::<S, N>::new(simd, sides, best.enough(), &mut patience)
                        {
                            let sums = sums.each_ref().map(|sums| bytemuck::cast_slice(sums));
                            best.look_at(first * BLOCK + a, second * BLOCK + b, sums);
                        }
                    }
                }
            }
        }
    }
}

/// Rows of a block, from one on.
#[derive(Clone, Copy)]
struct Side<'a> {
    block: &'a [[f32; BLOCK]],
    from: usize,
}

/// Sums of the products of some rows of one block with two vectors of another's, and on the way what they can come to.
struct Strip<S: Simd, const N: usize> {
    simd: S,
    sums: [[S::f32s; 2]; N],
}

impl<S: Simd, const N: usize> Strip<S, N> {
    /// `None` once no sum can come to `enough`. Nobody looks before the step `patience`: the one before that which was
    /// enough for the strip before.
    #[inline(always)]
    fn new(simd: S, sides: [Side<'_>; 2], enough: f32, patience: &mut usize) -> Option<Self> {
        let [a, b] = sides.map(|side| side.from);
        assert!(a + N <= BLOCK && b + 2 * S::F32_LANES <= BLOCK, "a strip is within its blocks");
        let mut strip = Strip { simd, sums: [[simd.splat_f32s(0.0); 2]; N] };
        let steps = sides[0].block.chunks_exact(STEP + 1).zip(sides[1].block.chunks_exact(STEP + 1));
        for (at, (few, many)) in steps.enumerate() {
            for (few, many) in few.iter().zip(many).take(STEP) {
                strip.multiply(&few[a..a + N], &many[b..b + 2 * S::F32_LANES]);
            }
            let left = (&few[STEP][a..a + N], &many[STEP][b..b + 2 * S::F32_LANES]);
            if at >= *patience && !strip.reaches(left.0, left.1, enough) {
                *patience = at.saturating_sub(1);
                return None;
            }
        }
        Some(strip)
    }

    #[inline(always)]
    fn multiply(&mut self, few: &[f32], many: &[f32]) {
        let (simd, many) = (self.simd, S::as_simd_f32s(many).0);
        for (sums, &x) in self.sums.iter_mut().zip(few) {
            let x = simd.splat_f32s(x);
            *sums = [multiply_add(simd, x, many[0], sums[0]), multiply_add(simd, x, many[1], sums[1])];
        }
    }

    /// Whether a sum can come to `enough` when that much is left of the rows.
    #[inline(always)]
    fn reaches(&self, few: &[f32], many: &[f32], enough: f32) -> bool {
        let (simd, many) = (self.simd, S::as_simd_f32s(many).0);
        let mut most = simd.splat_f32s(0.0);
        for (sums, &left) in self.sums.iter().zip(few) {
            let left = simd.splat_f32s(left);
            for at in 0..2 {
                most = simd.max_f32s(most, multiply_add(simd, left, many[at], simd.abs_f32s(sums[at])));
            }
        }
        simd.first_true_m32s(simd.greater_than_or_equal_f32s(most, simd.splat_f32s(enough))) < S::F32_LANES
    }
}

/// `x * y + sum`, rounded once or twice. A machine without vectors is taken to have no instruction for it either.
#[inline(always)]
fn multiply_add<S: Simd>(simd: S, x: S::f32s, y: S::f32s, sum: S::f32s) -> S::f32s {
    if S::F32_LANES == 1 { simd.add_f32s(simd.mul_f32s(x, y), sum) } else { simd.mul_add_e_f32s(x, y, sum) }
}

/// The strongest pairs a worker found.
struct Best<'a> {
    search: &'a Search<'a>,
    /// The weakest on top.
    kept: BinaryHeap<Held>,
}

impl Best<'_> {
    /// Sums of strips below this are of no use.
    #[inline(always)]
    fn enough(&self) -> f32 {
        f32::from_bits(self.search.enough.load(Relaxed)) - self.search.margin
    }

    /// Takes those of a strip that count. It starts at row `a` on one side, at `b` on the other.
    #[inline(always)]
    fn look_at<const N: usize>(&mut self, a: usize, b: usize, sums: [&[f32]; N]) {
        let enough = self.enough();
        for (a, sums) in (a..self.search.rows.len()).zip(sums) {
            for (b, sum) in (b..self.search.rows.len()).zip(sums) {
                if sum.abs() >= enough && a < b {
                    self.take(a, b);
                }
            }
        }
    }

    #[inline(always)]
    fn take(&mut self, a: usize, b: usize) {
        let r = dot(&self.search.rows[a], &self.search.rows[b]);
        if r.abs() < self.search.threshold {
            return;
        }
        let pair = Held(Pair { a, b, r: r.clamp(-1.0, 1.0) });
        if self.kept.len() < self.search.keep {
            self.kept.push(pair);
        } else if let Some(mut weakest) = self.kept.peek_mut()
            && pair < *weakest
        {
            *weakest = pair;
        } else {
            return;
        }
        if self.kept.len() == self.search.keep
            && let Some(Held(weakest)) = self.kept.peek()
        {
            self.search.enough.fetch_max(weakest.r.abs().to_bits(), Relaxed);
        }
    }
}

/// A pair in the order of [`Pair::order`].
#[derive(PartialEq)]
struct Held(Pair);

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

/// The plain sum. With wider instructions it takes less time, and rounds no other way.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{normalize, pearson};

    /// Rows without order, 0 to 1: a full-period congruential sequence.
    fn noise(rows: usize, points: usize) -> Vec<Vec<f32>> {
        let next = |x: &u64| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let draws = std::iter::successors(Some(7), next).map(|x| (x >> 40) as f32 / (1_u64 << 24) as f32);
        let draws: Vec<f32> = draws.skip(4).take(rows * points).collect();
        draws.chunks(points).map(<[f32]>::to_vec).collect()
    }

    fn normalized(mut rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        rows.iter_mut().for_each(|row| assert!(normalize(row)));
        rows
    }

    /// Of noise, every third much like the one before it, every seventh its mirror image to the bit.
    fn family(rows: usize, points: usize) -> Vec<Vec<f32>> {
        let mut rows = noise(rows, points);
        for at in 1..rows.len() {
            let before = rows[at - 1].clone();
            match at {
                _ if at % 7 == 0 => rows[at] = before.iter().map(|x| -x).collect(),
                _ if at % 3 == 0 => rows[at].iter_mut().zip(before).for_each(|(x, y)| *x = y + *x * 0.2),
                _ => {}
            }
        }
        normalized(rows)
    }

    /// Each pair looked at by itself.
    fn one_by_one(rows: &[Vec<f32>], threshold: f32, keep: usize) -> Vec<Pair> {
        let pairs = (0..rows.len()).flat_map(|a| (a + 1..rows.len()).map(move |b| (a, b)));
        let pairs = pairs.map(|(a, b)| Pair { a, b, r: dot(&rows[a], &rows[b]).clamp(-1.0, 1.0) });
        let mut pairs: Vec<Pair> = pairs.filter(|pair| pair.r.abs() >= threshold).collect();
        pairs.sort_by(Pair::order);
        pairs.truncate(keep);
        pairs
    }

    #[test]
    fn all_pairs_agree_with_pearson_one_by_one() {
        let raw = noise(70, 29);
        let double = |row: usize| -> Vec<f64> { raw[row].iter().map(|&x| f64::from(x)).collect() };
        let found = pairs_above(&normalized(raw.clone()), 0.0, usize::MAX);
        assert_eq!(found.len(), 70 * 69 / 2);
        for pair in &found {
            let expected = pearson(&double(pair.a), &double(pair.b)).unwrap();
            assert!((f64::from(pair.r) - expected).abs() < 1e-5, "{pair:?}, not {expected}");
        }
    }

    #[test]
    fn leaving_early_loses_no_pair() {
        for (count, points) in [(1, 20), (2, 20), (31, 3), (33, 11), (64, 59), (150, 60), (90, 143)] {
            let rows = family(count, points);
            for (threshold, keep) in [(0.0, 10), (0.3, 50), (0.6, usize::MAX), (0.9, 7), (0.9, usize::MAX), (1.0, 3)] {
                let (found, expected) = (pairs_above(&rows, threshold, keep), one_by_one(&rows, threshold, keep));
                assert_eq!(found, expected, "{count} rows of {points}, {keep} from {threshold}");
            }
        }
    }

    #[test]
    fn any_machine_and_number_of_threads_gives_the_same_list() {
        let rows = family(300, 59);
        let expected = one_by_one(&rows, 0.9, 40);
        assert_eq!((expected.len(), pairs_by(Arch::Scalar, &rows, 0.9, 40)), (40, expected.clone()));
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| pairs_above(&rows, 0.9, 40)), expected, "{threads} threads");
        }
    }

    #[test]
    fn of_rows_that_are_all_the_same_the_first_pairs_are_kept() {
        let rows = vec![normalized(noise(1, 59)).remove(0); 200];
        let found: Vec<(usize, usize)> = pairs_above(&rows, 0.9, 250).iter().map(|pair| (pair.a, pair.b)).collect();
        let first = (0..2).flat_map(|a| (a + 1..200).map(move |b| (a, b))).take(250);
        assert_eq!(found, first.collect::<Vec<_>>());
    }

    #[test]
    fn a_worker_holds_no_more_pairs_than_are_kept() {
        let rows = family(200, 59);
        let search = Search::new(&rows, 0.0, 5);
        assert_eq!(Arch::new().dispatch(Worker(&search)).len(), 5);
        assert!(pairs_above(&[], 0.9, 5).is_empty());
        assert!(pairs_above(&rows, 0.9, 0).is_empty());
    }
}
