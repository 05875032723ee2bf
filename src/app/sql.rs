//! `sql`: one statement, a file of them, or typed ones.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::global::{Global, WrongUsage};
use super::print::Printer;
use super::repl;
use super::source::Source;

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
