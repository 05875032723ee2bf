//! Series and samples as tests write them: in short, as Prometheus' tests do.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Labels, SeriesDef};

/// Values of an input.
const VALUES_MAX: usize = 1_000_000;

/// What stands at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Number(f64),
    None,
    /// The series ends.
    Stale,
}

static STEPS: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?";
    Regex::new(&format!(r"^(_|[+-]?{number})([+-]{number})?x(\d+)$")).expect("a pattern that reads")
});

/// Reads values.
///
/// # Errors
/// What is wrong, and what to write.
pub(super) fn read_values(text: &str) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    for word in text.split_whitespace() {
        read_word(word, &mut values)?;
        if values.len() > VALUES_MAX {
            return Err(format!("there are over {VALUES_MAX} values: write fewer"));
        }
    }
    Ok(values)
}

fn read_word(word: &str, into: &mut Vec<Value>) -> Result<(), String> {
    let wrong = || format!("`{word}` is no value: write numbers, 1+2x10, 1-2x10, 1x10, _, _x10 or stale");
    match word {
        "_" => into.push(Value::None),
        "stale" => into.push(Value::Stale),
        _ => match STEPS.captures(word) {
            None => {
                let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
                into.push(Value::Number(number.ok_or_else(wrong)?));
            }
            Some(parts) => {
                let times: usize = parts[3].parse().ok().filter(|&times| times <= VALUES_MAX).ok_or_else(wrong)?;
                let step = parts.get(2).map(|step| step.as_str());
                if &parts[1] == "_" {
                    into.extend((0..times).map(|_| Value::None));
                    return step.map_or(Ok(()), |_| Err(wrong()));
                }
                let number = |text: &str| text.parse::<f64>().map_err(|_| wrong());
                let (first, step) = (number(&parts[1])?, number(step.unwrap_or("0"))?);
                into.extend((0..=times).map(|at| Value::Number(first + step * at as f64)));
            }
        },
    }
    Ok(())
}

/// Reads a series.
///
/// # Errors
/// What is wrong, and what to write.
pub(super) fn read_series(text: &str) -> Result<SeriesDef, String> {
    let wrong = || format!("`{text}` is no series: write it as in cpu{{host=\"a\",core=\"0\"}}");
    let (metric, labels) = match text.split_once('{') {
        None => (text, Vec::new()),
        Some((metric, rest)) => {
            let inner = rest.trim_end().strip_suffix('}').ok_or_else(wrong)?;
            (metric, read_labels(inner).ok_or_else(wrong)?)
        }
    };
    let metric = metric.trim();
    if metric.is_empty() || metric.contains(['"', '}', ' ']) {
        return Err(wrong());
    }
    Ok(SeriesDef::new(metric, Labels::new(labels)))
}

fn read_labels(text: &str) -> Option<Vec<(String, String)>> {
    let (mut labels, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let mut letters = after.trim_start().strip_prefix('"')?.chars();
        let mut value = String::new();
        loop {
            match letters.next()? {
                '"' => break,
                '\\' => value.push(match letters.next()? {
                    'n' => '\n',
                    other => other,
                }),
                letter => value.push(letter),
            }
        }
        labels.push((name.trim().to_owned(), value));
        rest = letters.as_str().trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    labels.iter().all(|(name, _)| !name.is_empty()).then_some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        let word = |value: &Value| match value {
            Value::Number(number) => number.to_string(),
            Value::None => "_".to_owned(),
            Value::Stale => "stale".to_owned(),
        };
        read_values(text).map_or_else(|error| error, |values| values.iter().map(word).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn values_are_read_as_prometheus_has_them() {
        let cases = [
            ("", ""),
            ("1 -2.5 1e3", "1 -2.5 1000"),
            ("3+1x3", "3 4 5 6"),
            ("-1-.5x2 7x2", "-1 -1.5 -2 7 7 7"),
            ("1e1+1e-1x1", "10 10.1"),
            ("_ _x2 1 stale", "_ _ _ 1 stale"),
        ];
        cases.iter().for_each(|(text, wanted)| assert_eq!(told(text), *wanted, "{text}"));
        for wrong in ["x", "1x", "1+x2", "_+1x2", "NaN", "inf", "1x99999999", "1,2"] {
            assert!(told(wrong).contains("is no value"), "{wrong}: {}", told(wrong));
        }
    }

    #[test]
    fn series_are_read_as_they_are_shown() {
        for text in ["up", r#"m{a="b"}"#, r#"m{a="b",c="x \"y\" {z}, \\"}"#] {
            assert_eq!(read_series(text).unwrap().to_string(), text);
        }
        assert_eq!(read_series(r#"m{ b = "2" , a="1", }"#).unwrap().to_string(), r#"m{a="1",b="2"}"#);
        for wrong in ["", "{a=\"b\"}", "m{a=b}", "m{a=\"b\"", "m{a=\"b}", "m{=\"b\"}", "m{a=\"b\" c=\"d\"}", "m}"] {
            assert!(read_series(wrong).is_err(), "{wrong}");
        }
    }
}
