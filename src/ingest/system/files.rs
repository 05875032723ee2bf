//! Reads the small files a kernel answers with, and the `key value` lines many of them hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Metrics and their values.
pub(super) type Readings = Vec<(&'static str, f64)>;

/// Key in the file, metric, and the factor from the file's unit to the metric's.
pub(super) type Wanted = (&'static str, &'static str, f64);

/// Bytes a file is expected to stay below; longer ones only cost a reallocation, once.
const TEXT_BYTES: usize = 16 * 1024;

/// The folders `/proc` and `/sys`, or what stands for them.
pub(super) struct Files {
    proc: PathBuf,
    sys: PathBuf,
    text: String,
    errors: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Absence {
    Counts,
    IsFine,
}

impl Files {
    pub fn new(proc: PathBuf, sys: PathBuf) -> Self {
        Files { proc, sys, text: String::with_capacity(TEXT_BYTES), errors: 0 }
    }

    /// Files that could not be read or parsed so far.
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// What `parse` makes of the file `path` under `/proc`. `None`, and counted, if it cannot be read or parsed.
    pub fn proc<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.parsed(&self.proc.join(path), Absence::Counts, parse)
    }

    /// The same for a file that a kernel may lack.
    pub fn proc_if_present<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.parsed(&self.proc.join(path), Absence::IsFine, parse)
    }

    /// The same under `/sys`.
    pub fn sys_if_present<T>(&mut self, path: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.parsed(&self.sys.join(path), Absence::IsFine, parse)
    }

    /// How many names in the folder `path` under `/proc` are numbers: processes, threads, open files.
    pub fn count_numbers(&mut self, path: &str) -> Option<u64> {
        let is_number = |name: &[u8]| name.iter().all(u8::is_ascii_digit);
        let count = std::fs::read_dir(self.proc.join(path)).and_then(|entries| {
            entries.into_iter().try_fold(0, |count, entry| {
                let name = entry?.file_name();
                Ok(count + u64::from(is_number(name.as_encoded_bytes())))
            })
        });
        self.errors += u64::from(count.is_err());
        count.ok()
    }

    fn parsed<T>(&mut self, path: &Path, absence: Absence, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.text.clear();
        let parsed = match File::open(path).and_then(|mut file| file.read_to_string(&mut self.text)) {
            Ok(_) => parse(&self.text),
            Err(error) if absence == Absence::IsFine && is_absence(&error) => return None,
            Err(_) => None,
        };
        self.errors += u64::from(parsed.is_none());
        parsed
    }
}

/// The kernel has no such file, or has it and says that what it shows is switched off.
fn is_absence(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, Unsupported};
    matches!(error.kind(), NotFound | NotADirectory | Unsupported)
}

/// The `wanted` of lines `key value …` or `key: value …`. Keys that are not there are left out; `None` if a value is no
/// number, or nothing is there.
pub(super) fn keyed(text: &str, wanted: &[Wanted]) -> Option<Readings> {
    let mut readings = Vec::with_capacity(wanted.len());
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let key = words.next().unwrap_or_default().trim_end_matches(':');
        if let Some(&(_, metric, factor)) = wanted.iter().find(|w| w.0 == key) {
            readings.push((metric, words.next()?.parse::<f64>().ok()? * factor));
        }
    }
    (!readings.is_empty()).then_some(readings)
}
