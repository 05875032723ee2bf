//! Where a statement is answered: by the store in the data directory or by a running server. And `sql`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use clap::Args;

use super::global::{Global, WrongUsage};
use super::node::Node;
use super::print::Printer;
use super::remote::Remote;
use super::repl;

/// Answers statements.
pub(super) enum Source {
    Here { node: Box<Node>, runtime: tokio::runtime::Runtime },
    There(Remote),
}

impl Source {
    pub fn open(global: &Global) -> anyhow::Result<Source> {
        match &global.url {
            Some(url) => Ok(Source::There(Remote::new(url))),
            None => Self::of(Node::open(global)?),
        }
    }

    pub fn of(node: Node) -> anyhow::Result<Source> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(Source::Here { node: Box::new(node), runtime })
    }

    /// The rows of a statement as they come.
    pub fn rows(&self, statement: &str) -> anyhow::Result<RowStream<'_>> {
        match self {
            Source::Here { node, runtime } => {
                let mut answer = runtime.block_on(node.engine.query(statement))?;
                let schema = answer.schema.clone();
                let batches = std::iter::from_fn(move || runtime.block_on(answer.next()));
                Ok(RowStream { schema, batches: Box::new(batches.map(|batch| Ok(batch?))) })
            }
            Source::There(remote) => {
                let reader = remote.rows(statement)?;
                Ok(RowStream { schema: reader.schema(), batches: Box::new(reader.map(|batch| Ok(batch?))) })
            }
        }
    }

    pub fn sql(&self, statement: &str) -> anyhow::Result<(SchemaRef, Vec<RecordBatch>)> {
        match self {
            Source::Here { node, runtime } => Ok(runtime.block_on(node.engine.collect(statement))?),
            Source::There(remote) => remote.sql(statement),
        }
    }
}

/// Rows as they come.
pub(super) struct RowStream<'s> {
    pub schema: SchemaRef,
    pub batches: Box<dyn Iterator<Item = anyhow::Result<RecordBatch>> + 's>,
}

#[derive(Args)]
pub(super) struct SqlArgs {
    /// The statement; without one, statements are typed
    statement: Option<String>,
    /// A file of statements, each ended by a semicolon
    #[arg(short, long, value_name = "FILE", conflicts_with = "statement")]
    file: Option<PathBuf>,
}

pub(super) fn sql(global: &Global, args: &SqlArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let text = match (&args.statement, &args.file) {
        (Some(statement), _) => statement.clone(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        (None, None) if std::io::stdin().is_terminal() => return repl::repl(&Source::open(global)?, printer),
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let statements = statements(&text);
    if statements.is_empty() {
        return Err(WrongUsage("there is no statement: write it behind `sql`, or give a file with -f".into()).into());
    }
    let source = Source::open(global)?;
    for statement in statements {
        printer.stream(source.rows(&statement)?)?;
    }
    Ok(())
}

/// Splits at semicolons outside quotes and comments; comments stay.
pub(super) fn statements(text: &str) -> Vec<String> {
    let (mut statements, mut current, mut quote) = (Vec::new(), String::new(), None);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '-') if letters.peek() == Some(&'-') => quote = Some('\n'),
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if letter == open => quote = None,
            (None, ';') => {
                statements.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(letter);
    }
    statements.push(current);
    let telling = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("--");
    statements.into_iter().filter(|statement| statement.lines().any(telling)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_in_texts_and_comments_end_nothing() {
        let found = statements("select ';' -- a; b\n; \n-- nothing;\n; select \"a;b\"");
        assert_eq!(found, ["select ';' -- a; b\n", " select \"a;b\""]);
    }
}
