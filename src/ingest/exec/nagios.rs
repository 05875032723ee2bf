//! What plugins of Nagios print: a state as exit code, a sentence, and numbers behind a bar.
//!
//! ```text
//! DISK OK - 3326 MB free | /=2643MB;5948;5958;0;5968 'inodes free'=61%
//! more text | /boot=68MB;88;93;0;98                    further lines may have numbers, too
//! ```

use crate::ingest::json::{Wrong, start};
use crate::ingest::{About, Readings, SourceError};

/// Reads the output of a plugin: `nagios_state{check}` 0 to 3, `nagios_value{check,perfdata,unit}`.
pub(in crate::ingest) fn read(out: &[u8], code: Option<i32>, check: &str) -> Result<Readings, SourceError> {
    let text = String::from_utf8_lossy(out);
    if text.trim().is_empty() && code != Some(0) {
        return Err(SourceError::new("it printed nothing: run it by hand".to_owned()));
    }
    let (mut readings, mut faults) = (Readings::default(), Wrong::default());
    if let Some(state @ 0..=3) = code {
        let help = "0 ok, 1 warning, 2 critical, 3 unknown.";
        readings.put("nagios_state", &[("check", check)], About { help, ..About::default() }, f64::from(state));
    }
    for line in text.lines() {
        let Some((_, numbers)) = line.split_once('|') else { continue };
        let mut rest = numbers.trim();
        while !rest.is_empty() {
            match number(rest) {
                Some((label, value, unit, after)) => {
                    let labels = [("check", check), ("perfdata", &*label), ("unit", unit)];
                    if let Some(value) = value {
                        readings.put("nagios_value", &labels, About::default(), value);
                    }
                    rest = after.trim_start();
                }
                None => {
                    faults.add(|| format!("{} is no number of a plugin", start(rest.as_bytes())));
                    break;
                }
            }
        }
    }
    readings.tell(faults.told());
    Ok(readings)
}

/// `label=value unit;…` at the start: label, value, unit, what comes behind. A value `U` is not known.
fn number(text: &str) -> Option<(String, Option<f64>, &str, &str)> {
    let (label, rest) = match text.strip_prefix('\'') {
        // A quote in it is written twice.
        Some(quoted) => {
            let (label, rest) = quoted.split_once("'=")?;
            (label.replace("''", "'"), rest)
        }
        None => {
            let (label, rest) = text.split_once('=')?;
            (label.to_owned(), rest)
        }
    };
    let (number, after) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
    let number = number.split(';').next()?;
    let unit =
        number.find(|letter: char| !letter.is_ascii_digit() && !"+-.,eE".contains(letter)).unwrap_or(number.len());
    let (value, unit) = number.split_at(unit);
    let value = match (value, unit) {
        ("", "U") => None,
        (value, _) => Some(value.replace(',', ".").parse().ok()?),
    };
    (!label.is_empty()).then_some((label, value, unit, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_behind_the_bar_are_read() {
        let out = "DISK OK - free | /=2643MB;5948;5958;0;5968 'inodes free'=61%\nmore | t=-1,5s x\n";
        let readings = read(out.as_bytes(), Some(1), "disk").unwrap();
        let wanted = [
            "nagios_state{check=\"disk\"} 1",
            "nagios_value{check=\"disk\",perfdata=\"/\",unit=\"MB\"} 2643",
            "nagios_value{check=\"disk\",perfdata=\"inodes free\",unit=\"%\"} 61",
            "nagios_value{check=\"disk\",perfdata=\"t\",unit=\"s\"} -1.5",
        ];
        assert_eq!(readings.lines(), wanted);
        assert_eq!(readings.lack.unwrap().0, "`x` is no number of a plugin");
        let unknown = read(b"PING - lost | rta=U;1;2 pl=0%", Some(0), "ping").unwrap();
        let wanted = ["nagios_state{check=\"ping\"} 0", "nagios_value{check=\"ping\",perfdata=\"pl\",unit=\"%\"} 0"];
        assert_eq!((unknown.lines(), unknown.lack), (wanted.map(str::to_owned).to_vec(), None));
        assert!(read(b"", Some(3), "disk").is_err());
        assert_eq!(read(b"OK", Some(0), "disk").unwrap().lines(), ["nagios_state{check=\"disk\"} 0"]);
    }
}
