//! `COPY (query) TO STDOUT`: rows as a stream of text that a client writes to a file of its own. Nothing is copied anywhere else.

use datafusion::sql::sqlparser::ast::{
    CopyLegacyCsvOption, CopyLegacyOption, CopyOption, CopySource, CopyTarget, Statement,
};

use super::error::QueryError;
use super::postgres::PgStatement;

/// How rows are written, as PostgreSQL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyForm {
    /// CSV, else the text format.
    pub is_csv: bool,
    /// Whether a line with the names of the columns comes first.
    pub header: bool,
    pub delimiter: char,
    pub null: String,
    pub quote: char,
}

impl CopyForm {
    fn of(is_csv: bool) -> CopyForm {
        let (delimiter, null) = if is_csv { (',', "") } else { ('\t', "\\N") };
        CopyForm { is_csv, header: false, delimiter, null: null.to_owned(), quote: '"' }
    }
}

/// What a `COPY` asks for; `None` of another statement.
///
/// # Errors
/// It copies from or to anything but the client, or in a form that is not written here.
pub(super) fn copied(statement: &Statement) -> Option<Result<PgStatement, QueryError>> {
    let Statement::Copy { source, to, target, options, legacy_options, .. } = statement else { return None };
    if !*to || *target != CopyTarget::Stdout {
        return Some(refused(
            "COPY goes to the client alone, and nothing comes from it: write COPY (SELECT …) TO STDOUT",
        ));
    }
    let query = match source {
        CopySource::Query(query) => query.to_string(),
        CopySource::Table { table_name, columns } if columns.is_empty() => format!("SELECT * FROM {table_name}"),
        CopySource::Table { table_name, columns } => {
            let names: Vec<String> = columns.iter().map(ToString::to_string).collect();
            format!("SELECT {} FROM {table_name}", names.join(", "))
        }
    };
    Some(form(options, legacy_options).map(|form| PgStatement::Copy { query, form }))
}

fn refused<T>(told: &str) -> Result<T, QueryError> {
    Err(QueryError::Statement(told.to_owned()))
}

fn form(options: &[CopyOption], legacy: &[CopyLegacyOption]) -> Result<CopyForm, QueryError> {
    const FORMS: &str = "COPY writes FORMAT text or csv here, with HEADER, DELIMITER, NULL and QUOTE";
    let named = options.iter().find_map(|option| match option {
        CopyOption::Format(name) => Some(name.value.to_ascii_lowercase()),
        _ => None,
    });
    let is_csv = match named.as_deref() {
        Some("csv") => true,
        Some("text") => false,
        Some(_) => return refused(FORMS),
        None => legacy.iter().any(|option| matches!(option, CopyLegacyOption::Csv(_))),
    };
    let mut form = CopyForm::of(is_csv);
    for option in options {
        match option {
            CopyOption::Format(_) | CopyOption::Freeze(_) => {}
            CopyOption::Encoding(name) if name.to_ascii_lowercase().replace('-', "") == "utf8" => {}
            CopyOption::Delimiter(delimiter) => form.delimiter = *delimiter,
            CopyOption::Null(null) => form.null.clone_from(null),
            CopyOption::Header(header) => form.header = *header,
            CopyOption::Quote(quote) => form.quote = *quote,
            _ => return refused(FORMS),
        }
    }
    for option in legacy {
        match option {
            CopyLegacyOption::Csv(further) => {
                for option in further {
                    match option {
                        CopyLegacyCsvOption::Header => form.header = true,
                        CopyLegacyCsvOption::Quote(quote) => form.quote = *quote,
                        _ => return refused(FORMS),
                    }
                }
            }
            CopyLegacyOption::Header => form.header = true,
            CopyLegacyOption::Delimiter(delimiter) => form.delimiter = *delimiter,
            CopyLegacyOption::Null(null) => form.null.clone_from(null),
            _ => return refused(FORMS),
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    #[test]
    fn a_copy_goes_to_the_client_alone() {
        let asked = |sql: &str| {
            let statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
            copied(&statements[0]).unwrap()
        };
        let csv = CopyForm { header: true, ..CopyForm::of(true) };
        let semicolons = CopyForm { delimiter: ';', null: "-".to_owned(), ..CopyForm::of(false) };
        for (sql, query, form) in [
            ("COPY cpu TO STDOUT", "SELECT * FROM cpu", CopyForm::of(false)),
            ("COPY cpu (host, time) TO STDOUT", "SELECT host, time FROM cpu", CopyForm::of(false)),
            ("COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER)", "SELECT 1", csv.clone()),
            ("COPY (SELECT 1) TO STDOUT WITH CSV HEADER", "SELECT 1", csv),
            ("COPY (SELECT 1) TO STDOUT (DELIMITER ';', NULL '-')", "SELECT 1", semicolons),
        ] {
            assert_eq!(asked(sql).unwrap(), PgStatement::Copy { query: query.to_owned(), form }, "{sql}");
        }
        for sql in [
            "COPY cpu TO '/tmp/stolen'",
            "COPY cpu TO PROGRAM 'sh'",
            "COPY cpu FROM '/etc/passwd'",
            "COPY (SELECT 1) TO STDOUT (FORMAT binary)",
        ] {
            assert!(asked(sql).is_err(), "{sql}");
        }
    }
}
