//! Texts within addresses: `%41`, forms, base64.

/// `%41` undone. A `%` that begins nothing stays; what is no UTF-8 becomes the sign for that.
pub(super) fn unescaped(text: &str) -> String {
    let (mut plain, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2).and_then(hex)).flatten();
        plain.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    Some((digit(digits[0])? * 16 + digit(digits[1])?) as u8)
}

/// Names and values of a query or a form, as they come.
pub(super) fn form(text: &str) -> Vec<(String, String)> {
    let plain = |text: &str| unescaped(&text.replace('+', " "));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name), plain(value))
    };
    text.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Base64 of either alphabet, with its `=` or without; `None` where it is none.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        held = held << 6 & 0xFFFF | u32::from(six);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    // Six bits alone are no byte.
    (bits < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let cases =
            [("a%20b%2Fc", "a b/c"), ("100%", "100%"), ("%zz%4", "%zz%4"), ("%C3%A9", "é"), ("%ff", "\u{FFFD}")];
        for (text, plain) in cases {
            assert_eq!(unescaped(text), plain);
        }
        let told = form("q=CREATE+DATABASE+%22a%2Bb%22&db=&&x");
        let told: Vec<(&str, &str)> = told.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(told, [("q", "CREATE DATABASE \"a+b\""), ("db", ""), ("x", "")]);
    }

    #[test]
    fn base64_of_either_alphabet_is_read() {
        let cases: [(&str, Option<&[u8]>); 8] = [
            ("L3Zhci90bXA", Some(b"/var/tmp")),
            ("L3Zhci90bXA=", Some(b"/var/tmp")),
            ("_-8", Some(&[0xFF, 0xEF])),
            ("/+8=", Some(&[0xFF, 0xEF])),
            ("=", Some(b"")),
            ("", Some(b"")),
            ("a b", None),
            ("A", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(base64(text).as_deref(), bytes, "{text}");
        }
    }
}
