//! Operations by chance against a map in memory: what the store answers is what the map says.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use plimsoll::model::{Retention, SeriesId, Span, Timestamp};
use plimsoll::world::{Chance, Clock, Loss};

use super::bed::Bed;
use super::load::def;
use super::truth::Truth;
use super::workload::{Run, Step, settings, start};
use super::{images, statements};

/// Operations on one store; then another is begun, with other settings.
const LIFE: u64 = 2500;
/// Operations told when one fails.
const TOLD: usize = 25;
/// How long a failure is made smaller.
const SHRINKING: Duration = Duration::from_secs(60);

/// One operation: with its own seed, so that it does the same when others are left out.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    kind: Kind,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Step(Step),
    /// All samples of a series in a span, its count and its first and last time.
    Series,
    /// Everything in SQL, or a span of one series.
    Statement,
    /// Everything.
    All,
    PowerLoss(Loss),
    /// One of the next changes of the disk fails.
    Fault,
}

fn operations(seed: u64, count: u64) -> Vec<Operation> {
    let chance = Chance::seeded(seed);
    let kind = |chance: &Chance| match chance.below(1000) {
        0..500 => Kind::Step(Step::Write(1 + chance.below(6))),
        500..560 => Kind::Step(Step::Hours(chance.below(20))),
        560..562 => Kind::Step(Step::Hours(chance.below(1500))),
        562..580 => Kind::Step(Step::Flush),
        580..600 => Kind::Step(Step::Merge),
        600..603 => Kind::Step(Step::MergeAll),
        603..610 => Kind::Step(Step::Expire),
        610..618 => Kind::Step(Step::Hold),
        618..626 => Kind::Step(Step::Look),
        626..632 => Kind::Step(Step::Reopen),
        632..638 => Kind::PowerLoss(Loss::ALL[chance.below(Loss::ALL.len() as u64) as usize]),
        638..644 => Kind::Fault,
        644..648 => Kind::Statement,
        648..655 => Kind::All,
        _ => Kind::Series,
    };
    (0..count).map(|_| Operation { kind: kind(&chance), seed: chance.next_u64() }).collect()
}

/// Where a run went wrong.
struct Failure {
    at: usize,
    told: String,
}

fn run(seed: u64, operations: &[Operation]) -> Result<(), Failure> {
    let mut run = Run::new(Bed::new(settings(seed), start()), Truth::default(), seed);
    run.open().map_err(|told| Failure { at: 0, told })?;
    let mut armed = false;
    for (at, operation) in operations.iter().enumerate() {
        let done = catch_unwind(AssertUnwindSafe(|| perform(&mut run, *operation, &mut armed)));
        let told = done.unwrap_or_else(|panic| Err(images::panic_text(&*panic)));
        told.map_err(|told| Failure { at, told })?;
    }
    Ok(())
}

fn perform(run: &mut Run, operation: Operation, armed: &mut bool) -> Result<(), String> {
    run.load.chance = Chance::seeded(operation.seed);
    let done = match operation.kind {
        Kind::Step(step) => run.step(step),
        Kind::Series => series(run),
        Kind::Statement => statements::check(run),
        Kind::All => run.check().map(|_| ()),
        Kind::PowerLoss(loss) => run.lose_power(loss),
        Kind::Fault => {
            run.bed.disk.fail_at(run.bed.disk.operations() + 1 + run.load.chance.below(30));
            *armed = true;
            Ok(())
        }
    };
    match done {
        Err(told) if *armed && told.contains("simulated failure") => {
            *armed = false;
            after_fault(run)
        }
        done => done,
    }
}

/// A store that closed itself answers queries as before, and is as it was when it is opened again.
fn after_fault(run: &mut Run) -> Result<(), String> {
    if !run.is_open() {
        return run.open();
    }
    let unanswered = run.truth.lock().unwrap().pending.is_some();
    if !unanswered {
        run.check()?;
    }
    match run.store().closed() {
        None if unanswered => Err("a failed write leaves the store open".into()),
        // A merge that fails changes nothing.
        None => Ok(()),
        Some(_) if run.load.chance.below(2) == 0 => run.step(Step::Reopen),
        Some(_) => run.lose_power(Loss::ALL[run.load.chance.below(Loss::ALL.len() as u64) as usize]),
    }
}

fn series(run: &Run) -> Result<(), String> {
    let chance = &run.load.chance;
    let snapshot = run.store().snapshot();
    if snapshot.series_count() == 0 {
        return Ok(());
    }
    let id = SeriesId(chance.below(snapshot.series_count() as u64) as u32);
    let series = super::load::series_of(run.store(), id);
    if run.store().registry().def(id) != def(series) {
        return Err(format!("series {series} is defined otherwise"));
    }
    let now = run.bed.clock.now().nanos();
    let span = match chance.below(3) {
        0 => Span::ALL,
        _ => {
            let from = now - chance.below(100 * 86_400_000_000_000) as i64;
            let length = chance.below(1 << (30 + chance.below(23))) as i64;
            Span::new(Timestamp::from_nanos(from), Timestamp::from_nanos(from + length))
        }
    };
    let mut scan = snapshot.scan(vec![id], span);
    let read = scan.next().ok_or("no run")?.map_err(|error| super::bed::told(&error))?;
    let found: Vec<(i64, u64)> =
        read.samples.iter().map(|sample| (sample.time.nanos(), sample.value.to_bits())).collect();
    let seen = run.truth.lock().unwrap().seen(run.bed.oldest());
    let of_series: Vec<(i64, u64)> =
        seen.range((series, i64::MIN)..=(series, i64::MAX)).map(|(&(_, time), &bits)| (time, bits)).collect();
    let within = |(time, _): &&(i64, u64)| span.contains(Timestamp::from_nanos(*time));
    let wanted: Vec<(i64, u64)> = of_series.iter().filter(within).copied().collect();
    if found != wanted {
        return Err(format!("series {series}, {span:?}: {found:?} and not {wanted:?}"));
    }
    let range = snapshot.time_range(id).map(|(first, last)| (first.nanos(), last.nanos()));
    let wanted = of_series.first().zip(of_series.last()).map(|(first, last)| (first.0, last.0));
    let has_retention = run.bed.settings.store.retention != Retention::default();
    // Where retention hides the first samples, what is told is when the oldest may be.
    let around = range.zip(wanted).is_some_and(|(range, wanted)| range.0 <= wanted.0 && wanted.1 == range.1);
    if range != wanted && !(has_retention && around) {
        return Err(format!("series {series} lies in {range:?} and not {wanted:?}"));
    }
    match snapshot.count(id) {
        Some(count) if count != of_series.len() as u64 => {
            Err(format!("series {series} counts {count} and not {}", of_series.len()))
        }
        _ => Ok(()),
    }
}

/// Runs so many operations of a seed; on failure the last operations, and fewer that fail, too.
pub fn check(seed: u64, count: u64) -> Result<(), String> {
    let mut left = count;
    let mut life = seed;
    while left > 0 {
        let operations = operations(life, left.min(LIFE));
        run(life, &operations).map_err(|failure| report(seed, life, &operations, &failure))?;
        left -= operations.len() as u64;
        life = life.wrapping_add(0x9E37_79B9);
    }
    Ok(())
}

fn report(seed: u64, life: u64, operations: &[Operation], failure: &Failure) -> String {
    let told =
        |operations: &[Operation]| operations.iter().map(|operation| format!("  {operation:?}\n")).collect::<String>();
    let done = &operations[..=failure.at];
    let fewer = shrunk(life, done.to_vec());
    format!(
        "PLIMSOLL_SEED={seed}: operation {} of the store of seed {life}: {}\nthe last operations:\n{}{} operations that fail, too, the last of them:\n{}",
        failure.at,
        failure.told,
        told(&done[done.len().saturating_sub(TOLD)..]),
        fewer.len(),
        told(&fewer[fewer.len().saturating_sub(TOLD)..]),
    )
}

/// Leaves out what is not needed to fail, halves first, for as long as it may take.
fn shrunk(life: u64, mut operations: Vec<Operation>) -> Vec<Operation> {
    let began = Instant::now();
    let mut chunk = operations.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < operations.len() && began.elapsed() < SHRINKING {
            let without = [&operations[..at], &operations[(at + chunk).min(operations.len())..]].concat();
            match run(life, &without) {
                Err(failure) => operations = without[..=failure.at.min(without.len() - 1)].to_vec(),
                Ok(()) => at += chunk,
            }
        }
        chunk /= 2;
    }
    operations
}

#[test]
fn the_store_answers_as_a_map_does() {
    let (began, seed) = (Instant::now(), super::seed());
    let count = super::number("PLIMSOLL_OPERATIONS").unwrap_or(10_000);
    let outcome = check(seed, count);
    eprintln!("model: PLIMSOLL_SEED={seed}: {count} operations in {:.1?}", began.elapsed());
    outcome.unwrap_or_else(|told| panic!("{told}"));
}
