//! Names as Prometheus' translation of OTLP has them: `http.server.duration` in `s` is `http_server_duration_seconds`.
//!
//! ```text
//! letters, digits and `:` stay, all else separates words    http.server/req → http_server_req
//! unit `s`, `By/s`, …   the word, where the name has it not  io (By/s) → io_bytes_per_second
//! unit `1`              `ratio`, of gauges alone             load (1) → load_ratio
//! unit `{requests}`     nothing
//! a sum that only grows ends with `total`                    requests → requests_total
//! a digit in front      `_` before it                        4xx → _4xx
//! ```

/// Units and the words for them.
const UNITS: [(&str, &str); 26] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

/// Units behind the stroke of `By/s`.
const PER: [(&str, &str); 7] =
    [("s", "second"), ("m", "minute"), ("h", "hour"), ("d", "day"), ("w", "week"), ("mo", "month"), ("y", "year")];

/// What of a metric's type shows in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Gauge,
    /// A sum that only grows.
    Counter,
    Other,
}

/// The metric's name here; `None` where nothing is left of it.
pub(super) fn metric_name(name: &str, unit: &str, shape: Shape) -> Option<String> {
    let mut words = words(name);
    if words.is_empty() {
        return None;
    }
    let (main, per) = unit_words(unit);
    if !main.is_empty() && !words.contains(&main.as_str()) {
        words.push(&main);
    }
    if !per.is_empty() {
        words.push(&per);
    }
    let last = match shape {
        Shape::Counter => Some("total"),
        Shape::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| *word != last);
        words.push(last);
    }
    let name = words.join("_");
    Some(if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name })
}

/// The unit in words: `bytes_per_second`; empty where it says nothing.
pub(super) fn unit_name(unit: &str, shape: Shape) -> String {
    if unit == "1" && shape == Shape::Gauge {
        return "ratio".to_owned();
    }
    let (main, per) = unit_words(unit);
    let both = [main, per];
    both.iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join("_")
}

/// The label's name: what is neither letter, digit nor `_` becomes `_`, and a digit in front gets `key_`.
pub(super) fn label_name(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let label: String = name.chars().map(plain).collect();
    if label.starts_with(|first: char| first.is_ascii_digit()) { format!("key_{label}") } else { label }
}

fn words(text: &str) -> Vec<&str> {
    let separates = |letter: char| !letter.is_ascii_alphanumeric() && letter != ':';
    text.split(separates).filter(|word| !word.is_empty()).collect()
}

/// `By/s` → `bytes`, `per_second`.
fn unit_words(unit: &str) -> (String, String) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let word = |part: &str, known: &[(&str, &str)]| {
        let part = part.trim();
        // `{…}` is a remark, no unit.
        if part.contains(['{', '}']) {
            return String::new();
        }
        let word = known.iter().find(|(unit, _)| *unit == part).map_or(part, |(_, word)| word);
        words(word).join("_")
    };
    let per = word(per, &PER);
    (word(main, &UNITS), if per.is_empty() { per } else { format!("per_{per}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_named_as_prometheus_names_them() {
        let cases = [
            ("http.server.duration", "s", Shape::Other, "http_server_duration_seconds"),
            ("http.server.duration.seconds", "s", Shape::Other, "http_server_duration_seconds"),
            ("process.memory", "By", Shape::Other, "process_memory_bytes"),
            ("requests", "1", Shape::Counter, "requests_total"),
            ("requests.total", "{requests}", Shape::Counter, "requests_total"),
            ("total.requests", "", Shape::Counter, "requests_total"),
            ("system.io", "By/s", Shape::Counter, "system_io_bytes_per_second_total"),
            ("queue.speed", "{jobs}/s", Shape::Gauge, "queue_speed_per_second"),
            ("load", "1", Shape::Gauge, "load_ratio"),
            ("load", "1", Shape::Other, "load"),
            ("hit.ratio.of.cache", "1", Shape::Gauge, "hit_of_cache_ratio"),
            ("disk used", "%", Shape::Gauge, "disk_used_percent"),
            ("4xx", "", Shape::Counter, "_4xx_total"),
            ("a__b..c-ü", "", Shape::Gauge, "a_b_c"),
            ("rule:cpu:sum", "", Shape::Gauge, "rule:cpu:sum"),
            ("speed", "m/s", Shape::Gauge, "speed_meters_per_second"),
            ("wind", "m/fortnight", Shape::Gauge, "wind_meters_per_fortnight"),
            ("odd", "kg·m^2", Shape::Gauge, "odd_kg_m_2"),
            ("temp", "Cel", Shape::Gauge, "temp_celsius"),
        ];
        for (name, unit, shape, wanted) in cases {
            assert_eq!(metric_name(name, unit, shape).as_deref(), Some(wanted), "{name} in {unit}");
        }
        assert_eq!(metric_name("", "s", Shape::Gauge), None);
        assert_eq!(metric_name("….ü", "s", Shape::Gauge), None);
    }

    #[test]
    fn units_are_words() {
        let cases = [("By/s", "bytes_per_second"), ("s", "seconds"), ("{x}", ""), ("1", ""), ("{x}/min", "per_min")];
        for (unit, wanted) in cases {
            assert_eq!(unit_name(unit, Shape::Other), wanted, "{unit}");
        }
        assert_eq!(unit_name("1", Shape::Gauge), "ratio");
    }

    #[test]
    fn labels_are_plain() {
        let cases = [("http.method", "http_method"), ("a_b", "a_b"), ("9p", "key_9p"), ("é:x", "__x"), ("", "")];
        for (name, wanted) in cases {
            assert_eq!(label_name(name), wanted, "{name}");
        }
    }
}
