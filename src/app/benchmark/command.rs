//! Runs of a command: wall, user and system time, and the most memory it had at once.

use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use wait4::Wait4;

use super::measured;
use crate::app::global::WrongUsage;
use crate::insight::benchmark::BenchmarkPlan;
use crate::insight::regress::Measured;
use crate::stats::compare::Centre;
use crate::world::World;

/// A process begins as a copy of this one, whose peak counts as its own until it is larger: by so much, since the system counts
/// pages in lots.
const PEAK_ABOVE: f64 = 1.25;

/// What is run.
#[derive(Debug, PartialEq)]
pub(super) struct Program {
    /// As it was typed.
    text: String,
    words: Vec<String>,
}

/// What one run took; seconds and bytes.
struct Run {
    wall: f64,
    user: f64,
    system: f64,
    peak: f64,
    status: ExitStatus,
}

impl Program {
    pub(super) fn parse(text: &str, by_shell: bool) -> Result<Program, WrongUsage> {
        let words = if by_shell { ["sh", "-c", text].map(str::to_owned).to_vec() } else { words(text)? };
        if text.trim().is_empty() {
            return Err(WrongUsage("--command is empty: write what to run, as in 'sleep 0.1'".to_owned()));
        }
        Ok(Program { text: text.to_owned(), words })
    }

    fn run(&self, world: &World) -> anyhow::Result<Run> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = world.clock.elapsed();
        let mut child =
            command.spawn().with_context(|| format!("cannot start `{}`: write its whole path", self.words[0]))?;
        let ended = child.wait4().with_context(|| format!("cannot wait for `{}`", self.text))?;
        let wall = world.clock.elapsed().saturating_sub(start).as_secs_f64();
        let (user, system) = (ended.rusage.utime.as_secs_f64(), ended.rusage.stime.as_secs_f64());
        Ok(Run { wall, user, system, peak: ended.rusage.maxrss as f64, status: ended.status })
    }
}

/// Runs it as planned. Metrics are named after the command.
///
/// # Errors
/// Where it cannot be started, or ends with another code than 0 and `ignore_failure` is not set.
pub(super) fn run(
    program: &Program,
    plan: &BenchmarkPlan,
    ignore_failure: bool,
    world: &World,
) -> anyhow::Result<Vec<(String, Measured)>> {
    let one = || {
        let run = program.run(world)?;
        if !ignore_failure && !run.status.success() {
            bail!("`{}` ended with {}: run it by itself to see why, or add --ignore-failure", program.text, run.status);
        }
        Ok(run)
    };
    for _ in 0..plan.warmup {
        one()?;
    }
    let (start, mut walls, mut runs) = (world.clock.elapsed(), Vec::new(), Vec::new());
    while !plan.is_done(&walls, world.clock.elapsed().saturating_sub(start)) {
        let run = one()?;
        walls.push(run.wall);
        runs.push(run);
    }
    let metric = |suffix: &str, unit: &str, of: fn(&Run) -> f64| {
        (format!("{}{suffix}", program.text), measured(unit, Centre::Median, runs.iter().map(of).collect()))
    };
    let mut metrics = vec![metric("", "s", |run| run.wall)];
    metrics.push(metric(" user", "s", |run| run.user));
    metrics.push(metric(" system", "s", |run| run.system));
    if own_peak().is_some_and(|own| runs.iter().all(|run| run.peak > PEAK_ABOVE * own)) {
        metrics.push(metric(" peak memory", "B", |run| run.peak));
    }
    Ok(metrics)
}

/// The most memory that this process had, in bytes; `None` where nobody tells.
fn own_peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

/// Words parted by blanks; what stands in single or double quotes is part of one.
fn words(text: &str) -> Result<Vec<String>, WrongUsage> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in text.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    match quote {
        Some(open) => Err(WrongUsage(format!("--command {text} has a {open} that nothing closes: write a second one"))),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parted_by_blanks_outside_of_quotes() {
        let table: [(&str, Option<&[&str]>); 6] = [
            ("sleep 0.1", Some(&["sleep", "0.1"])),
            ("  a   b ", Some(&["a", "b"])),
            ("sh -c 'a \"b\" c'", Some(&["sh", "-c", "a \"b\" c"])),
            ("a \"\" b'c'd", Some(&["a", "", "bcd"])),
            ("", Some(&[])),
            ("a 'b", None),
        ];
        for (text, expected) in table {
            assert_eq!(
                words(text).ok().as_deref(),
                expected.map(|words| words.iter().map(ToString::to_string).collect::<Vec<_>>()).as_deref()
            );
        }
    }
}
