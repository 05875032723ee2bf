//! Rows of a `COPY … TO STDOUT`, in PostgreSQL's text format or as CSV.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{CopyResponse, QueryResponse};
use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::pgwire::messages::copy::CopyData;
use datafusion_postgres::pgwire::messages::data::DataRow;
use futures::StreamExt;

use super::convert::streamed;
use crate::query::{Answer, CopyForm};

/// The rows of an answer as they come, a line each.
pub(super) fn copied(answer: Answer, form: CopyForm) -> PgWireResult<CopyResponse> {
    let QueryResponse { row_schema, data_rows, .. } = streamed(answer, &Format::UnifiedText)?;
    let columns = row_schema.len();
    // It goes with the first row, since what is sent is counted as rows.
    let mut before = BytesMut::new();
    if form.header {
        let names = row_schema.iter().map(|field| Some(field.name().as_bytes()));
        line(names, &form, &mut before);
    }
    let end = form.header.then(|| before.clone().freeze());
    let mut is_first = true;
    let rows = data_rows.map(move |row| {
        let mut data = if std::mem::take(&mut is_first) { std::mem::take(&mut before) } else { BytesMut::new() };
        line(cells(row?).iter().map(Option::as_deref), &form, &mut data);
        Ok(CopyData::new(data.freeze()))
    });
    // Of no row at all the header alone is left.
    let mut any = false;
    let rows = rows.map(Some).chain(futures::stream::iter([None])).filter_map(move |row| {
        any |= row.is_some();
        let alone = if any { None } else { end.clone().map(|end| Ok(CopyData::new(end))) };
        futures::future::ready(row.or(alone))
    });
    Ok(CopyResponse::new(0, columns, rows))
}

/// The texts of a row; NULL is none.
fn cells(row: DataRow) -> Vec<Option<Bytes>> {
    let mut data = row.data.freeze();
    let cell = |_| match data.get_i32() {
        ..0 => None,
        length => Some(data.split_to(length.unsigned_abs() as usize)),
    };
    (0..row.field_count).map(cell).collect()
}

fn line<'c>(cells: impl Iterator<Item = Option<&'c [u8]>>, form: &CopyForm, out: &mut BytesMut) {
    let mut letter = [0; 4];
    let delimiter = form.delimiter.encode_utf8(&mut letter).as_bytes().to_owned();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.put_slice(&delimiter);
        }
        match cell {
            None => out.put_slice(form.null.as_bytes()),
            Some(cell) if form.is_csv => quoted(cell, form, &delimiter, out),
            Some(cell) => escaped(cell, &delimiter, out),
        }
    }
    out.put_u8(b'\n');
}

/// With backslashes before what would end a cell or a line.
fn escaped(cell: &[u8], delimiter: &[u8], out: &mut BytesMut) {
    for &byte in cell {
        match byte {
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            byte if [byte] == delimiter => out.put_slice(&[b'\\', byte]),
            byte => out.put_u8(byte),
        }
    }
}

/// In quotes where it holds a delimiter, a quote or the end of a line, or reads as NULL.
fn quoted(cell: &[u8], form: &CopyForm, delimiter: &[u8], out: &mut BytesMut) {
    let mut letter = [0; 4];
    let quote = form.quote.encode_utf8(&mut letter).as_bytes();
    let has = |part: &[u8]| cell.windows(part.len().max(1)).any(|window| window == part);
    if !(has(delimiter) || has(quote) || has(b"\n") || has(b"\r") || cell == form.null.as_bytes()) {
        return out.put_slice(cell);
    }
    out.put_slice(quote);
    let mut rest = cell;
    while let Some(at) = rest.windows(quote.len()).position(|window| window == quote) {
        let (before, after) = rest.split_at(at + quote.len());
        out.put_slice(before);
        out.put_slice(quote);
        rest = after;
    }
    out.put_slice(rest);
    out.put_slice(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_cell_is_escaped_or_quoted() {
        let form = |is_csv| CopyForm {
            is_csv,
            header: false,
            delimiter: if is_csv { ',' } else { '\t' },
            null: if is_csv { String::new() } else { "\\N".to_owned() },
            quote: '"',
        };
        let cells: [Option<&str>; 6] = [Some("a"), None, Some(""), Some("x,\"y\""), Some("one\ntwo\t\\"), Some("é")];
        let told = |is_csv| {
            let mut out = BytesMut::new();
            line(cells.iter().map(|cell| cell.map(str::as_bytes)), &form(is_csv), &mut out);
            String::from_utf8(out.to_vec()).unwrap()
        };
        assert_eq!(told(false), "a\t\\N\t\tx,\"y\"\tone\\ntwo\\t\\\\\té\n");
        assert_eq!(told(true), "a,,\"\",\"x,\"\"y\"\"\",\"one\ntwo\t\\\",é\n");
    }
}
