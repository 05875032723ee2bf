//! Statements typed on a terminal, with history and completion of table names.

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use arrow::array::AsArray;

use super::print::Printer;
use super::source::Source;

struct Names(Vec<String>);

impl Helper for Names {}
impl Highlighter for Names {}
impl Validator for Names {}

impl Hinter for Names {
    type Hint = String;
}

impl Completer for Names {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let start = line[..at].rfind(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '.');
        let start = start.map_or(0, |start| start + 1);
        let begun = &line[start..at];
        let fitting = self.0.iter().filter(|name| !begun.is_empty() && name.starts_with(begun));
        Ok((start, fitting.map(|name| Pair { display: name.clone(), replacement: name.clone() }).collect()))
    }
}

const KEYWORDS: [&str; 19] = [
    "SELECT ",
    "FROM ",
    "WHERE ",
    "GROUP BY ",
    "ORDER BY ",
    "LIMIT ",
    "date_bin(",
    "INTERVAL ",
    "count(",
    "avg(",
    "min(",
    "max(",
    "forecast(",
    "capacity_eta(",
    "system.series",
    "system.labels",
    "system.sources",
    "system.metrics",
    "system.segments",
];

pub(super) fn repl(source: &Source, printer: &mut Printer) -> anyhow::Result<()> {
    let tables = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
    let mut names: Vec<String> = KEYWORDS.iter().map(|&word| word.to_owned()).collect();
    for batch in source.sql(tables)?.1 {
        names.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
    }
    let mut editor: Editor<Names, DefaultHistory> = Editor::new()?;
    editor.set_helper(Some(Names(names)));
    let history = std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".plimsoll_history"));
    if let Some(path) = &history {
        // The first time there is none.
        let _ = editor.load_history(path);
    }
    eprintln!("End a statement with a semicolon; \\q or Ctrl-D ends. Tables: SHOW TABLES;");
    let mut statement = String::new();
    loop {
        match editor.readline(if statement.is_empty() { "plimsoll> " } else { "      ..> " }) {
            Ok(line) if statement.is_empty() && matches!(line.trim(), "\\q" | "quit" | "exit") => break,
            Ok(line) => {
                statement.push_str(&line);
                statement.push('\n');
                if line.trim_end().ends_with(';') {
                    let whole = std::mem::take(&mut statement);
                    let whole = whole.trim();
                    editor.add_history_entry(whole)?;
                    match source.sql(whole.trim_end_matches(';')) {
                        Ok((schema, batches)) => printer.rows(&schema, &batches)?,
                        Err(error) => eprintln!("{error:#}"),
                    }
                }
            }
            Err(ReadlineError::Interrupted) => statement.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &history {
        editor.save_history(path)?;
    }
    Ok(())
}
