//! What every command takes, and how it says that what was typed cannot be.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::query::OutputFormat;

/// What every command takes.
#[derive(Args, Clone)]
pub(super) struct Global {
    /// The data directory
    #[arg(long, global = true, env = "PLIMSOLL_DATA", default_value = "plimsoll-data", value_name = "DIR")]
    pub data: PathBuf,
    /// Ask a running server instead, as in http://127.0.0.1:9464
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// Settings file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How rows are written
    #[arg(long, global = true, value_enum, default_value = "table")]
    pub format: Format,
    /// Colours on the terminal
    #[arg(long, global = true, value_enum, default_value = "auto")]
    pub color: Color,
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Markdown,
    Csv,
    Json,
    Ndjson,
    Parquet,
    Arrow,
}

impl From<Format> for OutputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => OutputFormat::Table,
            Format::Markdown => OutputFormat::Markdown,
            Format::Csv => OutputFormat::Csv,
            Format::Json => OutputFormat::Json,
            Format::Ndjson => OutputFormat::Ndjson,
            Format::Parquet => OutputFormat::Parquet,
            Format::Arrow => OutputFormat::Arrow,
        }
    }
}

#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

/// What was typed cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WrongUsage(pub String);
