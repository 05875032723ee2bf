//! Where lines, their heads and their fields end.
//!
//! ```text
//! m,tag=5" text="a b⏎c",v=1 1700000000⏎
//! head─────┘           fields┘        └ the line's end; those within a text in double quotes are none
//! ```
//! A quote opens a text only where a field's value begins. In a text a backslash stands before a quote or a backslash.

use memchr::{memchr, memchr_iter, memchr2};

/// The lines of a body, one after another.
pub(super) struct Lines<'b> {
    /// What is not cut yet.
    pub rest: &'b [u8],
    /// What follows is not here yet: a line without its end is none.
    pub has_more: bool,
    /// A text was opened and never closed: from then on each line ends at its own line feed, whatever quotes it has.
    pub is_unclosed: bool,
}

/// A line without its end.
pub(super) struct Line<'b> {
    pub text: &'b [u8],
    /// Line feeds in its texts.
    pub feeds: u64,
}

impl<'b> Lines<'b> {
    pub fn of(body: &'b [u8]) -> Self {
        Lines { rest: body, has_more: false, is_unclosed: false }
    }

    /// Where the next line ends, and the line feeds in its texts.
    fn end(&mut self) -> (Option<usize>, u64) {
        let feed = memchr(b'\n', self.rest);
        let line = &self.rest[..feed.unwrap_or(self.rest.len())];
        if self.is_unclosed || memchr(b'"', line).is_none() {
            return (feed, 0);
        }
        let Some(fields) = fields_start(line) else { return (feed, 0) };
        let end = match outside_texts(&self.rest[fields..], b'\n') {
            Found::At(at) => Some(fields + at),
            Found::Nowhere => None,
            Found::InText if self.has_more => None,
            Found::InText => {
                self.is_unclosed = true;
                return (feed, 0);
            }
        };
        (end, memchr_iter(b'\n', &self.rest[..end.unwrap_or(self.rest.len())]).count() as u64)
    }
}

impl<'b> Iterator for Lines<'b> {
    type Item = Line<'b>;

    fn next(&mut self) -> Option<Line<'b>> {
        if self.rest.is_empty() {
            return None;
        }
        let (end, feeds) = self.end();
        let end = match end {
            Some(end) => end,
            None if self.has_more => return None,
            None => self.rest.len(),
        };
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
        let text = line.strip_suffix(b"\r").unwrap_or(line);
        Some(Line { text, feeds })
    }
}

/// Where the fields of a line start; `None` where it has none, as a comment.
fn fields_start(line: &[u8]) -> Option<usize> {
    let text = line.trim_ascii_start();
    let head = unescaped_space(text).filter(|_| text[0] != b'#')?;
    Some(line.len() - text.len() + head)
}

/// What [`outside_texts`] found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    At(usize),
    Nowhere,
    /// A text is opened and not closed.
    InText,
}

/// The first `wanted` in fields that is neither escaped nor in a text. A line feed cannot be escaped.
fn outside_texts(fields: &[u8], wanted: u8) -> Found {
    let (mut at, mut value_begins) = (0, false);
    while let Some(&byte) = fields.get(at) {
        match byte {
            b'"' if value_begins => match closing_quote(&fields[at..]) {
                Some(length) => at += length,
                None => return Found::InText,
            },
            b'\\' if fields.get(at + 1) != Some(&b'\n') => at += 1,
            _ if byte == wanted => return Found::At(at),
            _ => {}
        }
        value_begins = byte == b'=';
        at += 1;
    }
    Found::Nowhere
}

/// Where the text ends that `text` begins with: the place of its closing quote.
pub(super) fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'"' | b'\\')));
    }
}

/// First space that is not escaped.
pub(super) fn unescaped_space(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr(b' ', &text[from..])?;
        let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Where the fields end: the first space that is neither escaped nor in a text.
pub(super) fn fields_end(text: &[u8]) -> usize {
    let plain = memchr(b' ', text).unwrap_or(text.len());
    if memchr2(b'"', b'\\', &text[..plain]).is_none() {
        return plain;
    }
    match outside_texts(text, b' ') {
        Found::At(at) => at,
        Found::Nowhere | Found::InText => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<(&str, u64)> {
        Lines::of(text.as_bytes()).map(|line| (std::str::from_utf8(line.text).unwrap(), line.feeds)).collect()
    }

    #[test]
    fn lines_end_at_line_feeds_that_are_in_no_text() {
        let cases: [(&str, &[(&str, u64)]); 12] = [
            ("m v=1\r\n\nm v=2", &[("m v=1", 0), ("", 0), ("m v=2", 0)]),
            ("m s=\"a\nb\n\" 1\nm v=2\n", &[("m s=\"a\nb\n\" 1", 2), ("m v=2", 0)]),
            (" # 3\" a\nm v=1\n#\"", &[(" # 3\" a", 0), ("m v=1", 0), ("#\"", 0)]),
            ("m,t=5\" v=1\nm,t=5\" v=2", &[("m,t=5\" v=1", 0), ("m,t=5\" v=2", 0)]),
            ("m,t=\"a\\ b v=1\nm v=2", &[("m,t=\"a\\ b v=1", 0), ("m v=2", 0)]),
            ("m f\"=1\nm v=2", &[("m f\"=1", 0), ("m v=2", 0)]),
            ("m v=1\"\nm v=2", &[("m v=1\"", 0), ("m v=2", 0)]),
            ("m s=\"a\\\"\nb\\\\\" 1\nm v=2", &[("m s=\"a\\\"\nb\\\\\" 1", 1), ("m v=2", 0)]),
            ("m s=\"\"\\\nm v=2", &[("m s=\"\"\\", 0), ("m v=2", 0)]),
            ("m s=\"a\nm v=2\nm s=\"b\nc\n", &[("m s=\"a\nm v=2\nm s=\"b", 2), ("c", 0)]),
            ("m s=\"a\nm v=2\nm v=3", &[("m s=\"a", 0), ("m v=2", 0), ("m v=3", 0)]),
            ("\"\"\\\n\"\"\\\n\"", &[("\"\"\\", 0), ("\"\"\\", 0), ("\"", 0)]),
        ];
        for (text, lines) in cases {
            assert_eq!(cut(text), lines, "{text}");
        }
    }

    #[test]
    fn a_line_whose_end_is_not_here_yet_is_left() {
        let cases = [("m v=1\nm v=2", "m v=2"), ("m v=1\nm s=\"a\nb", "m s=\"a\nb"), ("m s=\"a\n\"", "m s=\"a\n\"")];
        for (text, left) in cases {
            let mut lines = Lines { has_more: true, ..Lines::of(text.as_bytes()) };
            while lines.next().is_some() {}
            assert_eq!(lines.rest, left.as_bytes(), "{text}");
        }
    }

    /// By the square of its length this would take hours.
    #[test]
    fn many_texts_that_are_never_closed_are_cut() {
        for line in ["\"\"\\\n", "m s=\"\"\\\n", "m s=\"\\\n", "m s=\"\",t=\"\n", "m,t=\" s=\"\"\"\n"] {
            let text = line.repeat(200_000) + "m s=\"";
            assert!(!cut(&text).is_empty());
        }
    }
}
