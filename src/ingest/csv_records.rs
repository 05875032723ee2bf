//! CSV cut into records: cells, quotes and lines, an input at a time.

use std::io::{self, BufRead};

use memchr::{memchr, memchr_iter};

use super::format::{Line, Lines};

/// Bytes after which a quote counts as never closed, and its line as bad.
const QUOTED_BYTES_MAX: usize = 64 << 10;

/// Bytes that may be read again whatever the length of the input, and for each byte of it.
const AGAIN_SPARE: usize = 16 * QUOTED_BYTES_MAX;
const AGAIN_SHARE: usize = 8;

/// What [`Records::read`] found.
pub(super) enum Record {
    Whole,
    Bad(String),
    End,
}

/// The records of an input, one at a time.
pub(super) struct Records<'r> {
    lines: Lines<'r>,
    /// Line on which the record begins, from 1.
    pub start: u64,
    /// Line read last.
    number: u64,
    line: Vec<u8>,
    /// Cells of a record that has quotes, with them undone.
    unquoted: Vec<u8>,
    /// Where each cell is: in `unquoted` if the record has quotes, else in `line`.
    cells: Vec<(usize, usize)>,
    has_quotes: bool,
    /// Lines that were read as part of a quoted cell which was never closed, to be read again, and how far that is.
    again: Vec<u8>,
    again_at: usize,
    /// Bytes that were put there, and bytes of the input.
    bytes_again: usize,
    bytes: usize,
    /// Comma, unless the first line has none of it but semicolons or tabs.
    delimiter: Option<u8>,
}

impl<'r> Records<'r> {
    pub fn new(input: &'r mut dyn BufRead) -> Self {
        Records {
            lines: Lines::new(input),
            start: 0,
            number: 0,
            line: Vec::new(),
            unquoted: Vec::new(),
            cells: Vec::new(),
            has_quotes: false,
            again: Vec::new(),
            again_at: 0,
            bytes_again: 0,
            bytes: 0,
            delimiter: None,
        }
    }

    /// Number of cells.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// A cell without the blanks around it.
    pub fn cell(&self, at: usize) -> &[u8] {
        let (start, end) = self.cells[at];
        let text = if self.has_quotes { &self.unquoted } else { &self.line };
        text[start..end].trim_ascii()
    }

    pub fn texts(&self) -> Vec<String> {
        (0..self.len()).map(|at| String::from_utf8_lossy(self.cell(at)).into_owned()).collect()
    }

    /// Reads the next record; blank lines are none.
    pub fn read(&mut self) -> io::Result<Record> {
        loop {
            let mut line = std::mem::take(&mut self.line);
            let found = self.next_line(&mut line);
            self.line = line;
            self.start = self.number;
            match found? {
                Line::End => return Ok(Record::End),
                Line::TooLong => return Ok(Record::Bad(Line::too_long())),
                Line::Whole if self.line.trim_ascii().is_empty() => {}
                Line::Whole => break,
            }
        }
        let delimiter = *self.delimiter.get_or_insert_with(|| sniffed(&self.line));
        self.cells.clear();
        self.has_quotes = memchr(b'"', &self.line).is_some();
        if self.has_quotes {
            return self.read_quoted(delimiter);
        }
        let mut start = 0;
        for end in memchr_iter(delimiter, &self.line) {
            self.cells.push((start, end));
            start = end + 1;
        }
        self.cells.push((start, self.line.len()));
        Ok(Record::Whole)
    }

    /// Splits a record with quotes, which may go on over further lines.
    pub fn read_quoted(&mut self, delimiter: u8) -> io::Result<Record> {
        self.unquoted.clear();
        let line = std::mem::take(&mut self.line);
        let mut open = self.split_quoted(&line, false, delimiter);
        self.line = line;
        let (mut further, mut more) = (Vec::new(), Vec::new());
        while open {
            let may_go_on = further.len() < QUOTED_BYTES_MAX && self.may_look_ahead();
            let found = if may_go_on { self.next_line(&mut more)? } else { Line::End };
            if found != Line::End {
                further.extend_from_slice(&more);
                further.push(b'\n');
            }
            if found != Line::Whole {
                self.read_again(further);
                return Ok(Record::Bad("a quote is opened and not closed: write `\"` in a cell as `\"\"`".to_owned()));
            }
            self.unquoted.push(b'\n');
            open = self.split_quoted(&more, true, delimiter);
        }
        Ok(Record::Whole)
    }

    /// Appends the cells of a line. `inside`: whether it begins within quotes; the answer: whether it ends so.
    pub fn split_quoted(&mut self, line: &[u8], mut inside: bool, delimiter: u8) -> bool {
        let (mut at, mut fresh) = (0, !inside);
        loop {
            if inside {
                let Some(length) = memchr(b'"', &line[at..]) else {
                    self.unquoted.extend_from_slice(&line[at..]);
                    return true;
                };
                self.unquoted.extend_from_slice(&line[at..at + length]);
                at += length + 1;
                inside = line.get(at) == Some(&b'"');
                if inside {
                    self.unquoted.push(b'"');
                    at += 1;
                }
                fresh = false;
                continue;
            }
            match line.get(at) {
                None => {
                    self.end_cell();
                    return false;
                }
                Some(&byte) if byte == delimiter => {
                    self.end_cell();
                    fresh = true;
                }
                Some(b'"') if fresh => inside = true,
                Some(&byte) => {
                    self.unquoted.push(byte);
                    fresh = false;
                }
            }
            at += 1;
        }
    }

    pub fn end_cell(&mut self) {
        let start = self.cells.last().map_or(0, |&(_, end)| end);
        self.cells.push((start, self.unquoted.len()));
    }

    /// Whether little was read twice yet: else a quote that is open at the end of a line counts as never closed.
    fn may_look_ahead(&self) -> bool {
        self.bytes_again <= AGAIN_SPARE + AGAIN_SHARE * self.bytes
    }

    /// Puts lines back before those not read yet.
    pub fn read_again(&mut self, mut further: Vec<u8>) {
        self.number = self.start;
        if further.is_empty() {
            return;
        }
        self.bytes_again += further.len() + self.again.len() - self.again_at;
        further.extend_from_slice(&self.again[self.again_at..]);
        self.again = further;
        self.again_at = 0;
    }

    pub fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        let waiting = &self.again[self.again_at..];
        let found = match memchr(b'\n', waiting) {
            Some(end) => {
                line.clear();
                line.extend_from_slice(&waiting[..end]);
                self.again_at += end + 1;
                Line::Whole
            }
            None => {
                let found = self.lines.read(line)?;
                self.bytes += line.len() + 1;
                found
            }
        };
        self.number += u64::from(found != Line::End);
        Ok(found)
    }
}

pub(super) fn sniffed(header: &[u8]) -> u8 {
    let has = |byte: u8| memchr(byte, header).is_some();
    [b',', b';', b'\t'].into_iter().find(|&byte| has(byte)).unwrap_or(b',')
}
