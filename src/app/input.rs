//! Files to read: plain or compressed, or stdin, as text; how far reading has come, for the progress bar.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ingest::Compression;

/// A progress bar over `bytes`, hidden where stderr is no terminal and for what takes under a second.
pub(super) fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}");
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

/// Rows that pass by, how many there will be being unknown; hidden as the other.
pub(super) fn rows() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} rows, {per_sec} {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Opens a file, `-` being stdin; what is read of it moves the bar. What is compressed is told by its first bytes.
pub(super) fn open(path: &str, bar: &ProgressBar) -> std::io::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> =
        if path == "-" { Box::new(std::io::stdin()) } else { Box::new(bar.wrap_read(File::open(Path::new(path))?)) };
    let mut raw = BufReader::with_capacity(1 << 18, raw);
    let compression = Compression::of_content(raw.fill_buf()?);
    Ok(match compression {
        Compression::None => Box::new(raw),
        Compression::Gzip => Box::new(BufReader::with_capacity(1 << 18, flate2::read::MultiGzDecoder::new(raw))),
        Compression::Zstd => {
            Box::new(BufReader::with_capacity(1 << 18, zstd::stream::read::Decoder::with_buffer(raw)?))
        }
    })
}
