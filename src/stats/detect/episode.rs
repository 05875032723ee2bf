//! One alarm an episode: anomalous values that lie close together are one finding.

use super::Judged;

/// How long it has to be quiet for an episode to be over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calm {
    /// So many values in a row.
    Values(u32),
    /// More than so many nanoseconds since the last that was anomalous.
    Time(i64),
}

/// What was found, from the first anomalous value to the last. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    pub start: i64,
    pub end: i64,
    /// Where the value was furthest from what was expected as it began, and the value there.
    pub peak: i64,
    pub value: f64,
    /// What was expected as it began: later the episode itself is among what came before. The score is the largest of all.
    pub judged: Judged,
    /// Values that were anomalous.
    pub samples: u64,
}

/// What one more value comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// The episode that is over by now.
    pub over: Option<Episode>,
    /// Whether another begins.
    pub begins: bool,
}

/// Episodes of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Episodes {
    pub running: Option<Episode>,
    /// Values since the last that was anomalous.
    pub calm: u32,
}

impl Episodes {
    /// Takes what is said of the next value, `None` where it is not anomalous.
    pub fn push(&mut self, time: i64, value: f64, anomalous: Option<Judged>, calm: Calm) -> Heard {
        let is_quiet = |running: &Episode| match calm {
            Calm::Values(values) => anomalous.is_none() && self.calm + 1 >= values,
            Calm::Time(quiet) => time.saturating_sub(running.end) > quiet,
        };
        let over = self.running.take_if(|running| is_quiet(running));
        let Some(judged) = anomalous else {
            self.calm = self.calm.saturating_add(1);
            return Heard { over, begins: false };
        };
        self.calm = 0;
        let begins = self.running.is_none();
        let new = Episode { start: time, end: time, peak: time, value, judged, samples: 1 };
        let running = self.running.get_or_insert(Episode { samples: 0, ..new });
        (running.end, running.samples) = (time, running.samples + 1);
        if judged.score.abs() > running.judged.score.abs() {
            running.judged.score = judged.score;
        }
        let far = |value: f64| (value - running.judged.expected).abs();
        if far(value) > far(running.value) {
            (running.peak, running.value) = (time, value);
        }
        Heard { over, begins }
    }
}
