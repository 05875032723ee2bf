//! Names as Prometheus has them, of what other protocols write with dots, dashes and slashes.

/// Appends `text` as a metric's name: letters, digits, `_` and `:`, all else is `_`; not a digit first.
pub(super) fn push_metric(text: &str, out: &mut String) {
    push(text, |letter| letter == ':', out);
}

/// Appends `text` as a label's name: the same without `:`.
pub(super) fn push_label(text: &str, out: &mut String) {
    push(text, |_| false, out);
}

/// `text` as a metric's name.
pub(super) fn metric(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    push_metric(text, &mut name);
    name
}

/// `text` as a label's name.
pub(super) fn label(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    push_label(text, &mut name);
    name
}

fn push(text: &str, allowed: impl Fn(char) -> bool, out: &mut String) {
    if text.starts_with(|letter: char| letter.is_ascii_digit()) {
        out.push('_');
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || allowed(letter);
    out.extend(text.chars().map(|letter| if plain(letter) { letter } else { '_' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_letter_or_digit_is_an_underscore() {
        let cases = [
            ("api.requests", "api_requests", "api_requests"),
            ("a-b/c d", "a_b_c_d", "a_b_c_d"),
            ("job:rate5m", "job:rate5m", "job_rate5m"),
            ("5xx", "_5xx", "_5xx"),
            ("größe", "gr__e", "gr__e"),
            ("", "", ""),
        ];
        for (text, as_metric, as_label) in cases {
            assert_eq!((metric(text).as_str(), label(text).as_str()), (as_metric, as_label), "{text}");
        }
    }
}
