//! Texts of statements as labels: short, on one line, and without the values that users typed.

/// Letters that are kept of a statement.
const LETTERS: usize = 160;

/// A statement with `?` for each text and number in it, one blank between words, and no comments, cut to [`LETTERS`].
/// Parameters (`$1`) and names that hold digits stay.
pub(in crate::ingest) fn shorten(statement: &str) -> String {
    let mut short = String::new();
    let mut rest = statement;
    while let Some(letter) = rest.chars().next() {
        // More bytes than letters are wanted: the rest cannot matter.
        if short.len() > 4 * LETTERS {
            break;
        }
        let (kind, length) = piece(rest);
        match kind {
            Piece::Blank if short.is_empty() || short.ends_with(' ') => {}
            Piece::Blank => short.push(' '),
            Piece::Value => short.push('?'),
            Piece::Name => short.push_str(&rest[..length]),
            Piece::Mark => short.push(letter),
        }
        rest = &rest[length..];
    }
    short.truncate(short.trim_end().len());
    if let Some((at, _)) = short.char_indices().nth(LETTERS) {
        short.truncate(at);
        short.push('…');
    }
    short
}

enum Piece {
    /// White space or a comment.
    Blank,
    /// A text or a number.
    Value,
    /// A name, plain or quoted, or a parameter.
    Name,
    Mark,
}

/// What the text starts with, and its bytes.
fn piece(text: &str) -> (Piece, usize) {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    let while_in = |from: usize, part: fn(char) -> bool| {
        text[from..].find(|letter| !part(letter)).map_or(text.len(), |at| from + at)
    };
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
    let first = text.chars().next().unwrap_or(' ');
    let second = text[first.len_utf8()..].chars().next();
    match (first, second) {
        ('-', Some('-')) => (Piece::Blank, until(2, "\n")),
        ('/', Some('*')) => (Piece::Blank, until(2, "*/")),
        ('\'', _) => (Piece::Value, quoted(text, false)),
        ('e' | 'E', Some('\'')) => (Piece::Value, 1 + quoted(&text[1..], true)),
        ('b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => (Piece::Value, 1 + quoted(&text[1..], false)),
        ('"', _) => (Piece::Name, until(1, "\"")),
        ('$', Some(second)) if !second.is_ascii_digit() => match dollars(text) {
            Some(length) => (Piece::Value, length),
            None => (Piece::Mark, 1),
        },
        ('$', Some(_)) => (Piece::Name, while_in(1, |letter| letter.is_ascii_digit())),
        (first, _) if first.is_whitespace() => (Piece::Blank, while_in(0, char::is_whitespace)),
        (first, _) if first.is_ascii_digit() => {
            (Piece::Value, while_in(0, |letter| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_'))
        }
        (first, _) if is_name(first) => (Piece::Name, while_in(0, is_name)),
        _ => (Piece::Mark, first.len_utf8()),
    }
}

/// Bytes of a text in quotes; two quotes in a row do not end it, nor does one behind a backslash where `escapes`.
fn quoted(text: &str, escapes: bool) -> usize {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' if escapes => drop(letters.next()),
            '\'' if letters.peek().is_some_and(|(_, next)| *next == '\'') => drop(letters.next()),
            '\'' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of `$tag$ … $tag$`; a text that was cut off runs to the end.
fn dollars(text: &str) -> Option<usize> {
    let tag = 2 + text[1..].find('$')?;
    let is_tag = text[1..tag - 1].chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    is_tag.then(|| text[tag..].find(&text[..tag]).map_or(text.len(), |at| tag + at + tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_names_stay() {
        let cases = [
            ("SELECT 1", "SELECT ?"),
            ("select *\n\tfrom t1 where a = 'it''s; me' and b>-2.5e3;", "select * from t1 where a = ? and b>-?;"),
            ("SELECT $1, x2, \"a 1\" FROM b_3", "SELECT $1, x2, \"a 1\" FROM b_3"),
            ("SELECT E'a\\'b' /* 'x' */ , b'01' -- 7\n FROM t", "SELECT ? , ? FROM t"),
            ("DO $$ BEGIN 1; END $$ x", "DO ? x"),
            ("SELECT $a$ it's $b$ $a$, 2", "SELECT ?, ?"),
            ("SELECT 'cut off", "SELECT ?"),
            ("SELECT $$cut off", "SELECT ?"),
            ("SELECT /* cut off", "SELECT"),
            ("a $ b", "a $ b"),
            ("größe = 0x1F", "größe = ?"),
            ("", ""),
            ("$", "$"),
            ("E'\\", "?"),
        ];
        for (statement, wanted) in cases {
            assert_eq!(shorten(statement), wanted, "{statement}");
        }
    }

    #[test]
    fn long_statements_are_cut_between_letters() {
        let short = shorten(&"ö,".repeat(500));
        assert_eq!(short.chars().count(), LETTERS + 1);
        assert!(short.ends_with('…'));
        assert_eq!(shorten(&"x".repeat(5000)).chars().count(), LETTERS + 1, "a name without an end");
    }
}
