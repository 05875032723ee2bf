//! What clients of PostgreSQL expect: the catalog they look tables up in, functions they call, and statements that are about
//! their session and not about data.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, Int32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::SchemaProvider;
use datafusion::common::plan_datafusion_err;
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    CloseCursor, Declare, DeclareType, Expr, FetchDirection, Ident, Set, Statement, Value, ValueWithSpan,
    visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::{
    PgCatalogSchemaProvider, PgCatalogStaticTables, setup_pg_catalog,
};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::engine::version_function;
use super::error::QueryError;
use super::postgres_copy::{CopyForm, copied};
use super::queries::number_to_kill;
use super::schemas::{SYSTEM, Schemas};
use super::size::check_size;
use super::tables::{CATALOG, SCHEMA, session};

/// The schema in which clients look tables, columns and types up.
pub(super) const PG_CATALOG: &str = "pg_catalog";

/// Clients read the number of a version they know, people the rest.
pub const PG_VERSION: &str = concat!("16.6 (plimsoll ", env!("CARGO_PKG_VERSION"), ")");

/// A statement as a client of PostgreSQL means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PgStatement {
    /// One with an answer.
    Query(String),
    Set {
        name: String,
        value: String,
    },
    Show(String),
    Begin,
    Commit,
    Rollback,
    Declare {
        cursor: String,
        query: String,
        /// Whether it outlives its transaction.
        hold: bool,
    },
    /// The rows of a query as lines of text.
    Copy {
        query: String,
        form: CopyForm,
    },
    /// The next rows of a cursor, all without a number.
    Fetch {
        cursor: String,
        rows: Option<usize>,
    },
    /// All cursors without a name.
    Close(Option<String>),
    /// One that changes nothing here, by what a client is told that it did.
    Nothing(&'static str),
}

/// Names and ways to write of PostgreSQL.
pub(super) struct Postgres {
    parser: PostgresCompatibilityParser,
    base: SessionState,
    catalog: Arc<dyn SchemaProvider>,
}

impl Postgres {
    /// Over the sessions that `base` makes.
    pub fn new(base: &SessionState, schemas: Arc<Schemas>) -> Result<Postgres> {
        let context = SessionContext::new_with_state(session(base, [])?);
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
        context.register_udf(version_function(concat!("PostgreSQL 16.6 (plimsoll ", env!("CARGO_PKG_VERSION"), ")")));
        let tables = Arc::new(PgCatalogStaticTables::try_new()?);
        context.register_udf(to_regtype(&tables)?);
        let catalog = PgCatalogSchemaProvider::try_new(Live(schemas), tables, EmptyContextProvider)?;
        Ok(Postgres { parser: PostgresCompatibilityParser::new(), base: context.state(), catalog: Arc::new(catalog) })
    }

    pub fn base(&self) -> &SessionState {
        &self.base
    }

    pub fn catalog(&self) -> (&'static str, Arc<dyn SchemaProvider>) {
        (PG_CATALOG, self.catalog.clone())
    }

    /// The statements of a text.
    ///
    /// # Errors
    /// A text that is none, or one that is not taken.
    pub fn statements(&self, sql: &str) -> Result<Vec<PgStatement>, QueryError> {
        if number_to_kill(sql).is_some() {
            return Ok(vec![PgStatement::Query(sql.to_owned())]);
        }
        check_size(sql)?;
        let mut parsed = self.parser.parse(sql).map_err(|error| QueryError::from(DataFusionError::from(error)))?;
        for statement in &mut parsed {
            escape_by_backslash(statement);
            leave_sequences_out(statement);
        }
        parsed.iter().map(meant).collect()
    }
}

/// `to_regtype('text')`: the number of a type by its name, null where there is none.
fn to_regtype(tables: &PgCatalogStaticTables) -> Result<ScalarUDF> {
    let mut known = HashMap::new();
    for batch in tables.pg_type.data() {
        let column =
            |name: &str| batch.column_by_name(name).ok_or_else(|| plan_datafusion_err!("pg_type has no {name}"));
        let names = cast(column("typname")?, &DataType::Utf8)?;
        let numbers = cast(column("oid")?, &DataType::Int32)?;
        let (names, numbers) = (names.as_string::<i32>(), numbers.as_primitive::<Int32Type>());
        known.extend(names.iter().zip(numbers).filter_map(|(name, number)| Some((name?.to_owned(), number?))));
    }
    let find = move |args: &[ColumnarValue]| {
        let args = ColumnarValue::values_to_arrays(args)?;
        let names = args.first().map(|names| cast(names, &DataType::Utf8)).transpose()?;
        let names = names.iter().flat_map(AsArray::as_string::<i32>);
        let found = names.map(|name| known.get(name?).copied()).collect::<Int32Array>();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    Ok(create_udf("to_regtype", vec![DataType::Utf8], DataType::Int32, Volatility::Immutable, Arc::new(find)))
}

fn refused<T>(told: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::Statement(told.into()))
}

/// `LIKE pattern ESCAPE '/'` with the one escape that there is.
fn escape_by_backslash(statement: &mut Statement) {
    let _ = visit_expressions_mut(statement, |expr| {
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } = expr
            && let Some(escape) = escape_char.as_ref().map(|escape| escape.value.to_string())
            && escape != "'\\'"
            && escape.len() == 3
        {
            let escape = &escape[1..2];
            // What is escaped twice stands for itself; meanwhile it is a character that nobody writes.
            let steps = [(&*escape.repeat(2), "\u{1}"), ("\\", "\\\\"), (escape, "\\"), ("\u{1}", escape)];
            let text =
                steps.iter().fold(pattern.to_string(), |text, (from, to)| format!("replace({text}, '{from}', '{to}')"));
            let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(&text).and_then(|mut text| text.parse_expr());
            if let Ok(parsed) = parsed {
                (**pattern, *escape_char) = (parsed, None);
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Clients that look columns up ask for the default, the sequence and the collation of each: columns have none here.
fn leave_sequences_out(statement: &mut Statement) {
    const NONE_HERE: [&str; 4] = ["json_build_object(", "pg_get_expr(", ".typcollation", "pg_get_serial_sequence("];
    let _ = visit_expressions_mut(statement, |expr| {
        if let Expr::Subquery(query) = expr
            && NONE_HERE.iter().any(|what| query.to_string().contains(what))
        {
            *expr = Expr::Value(Value::Null.with_empty_span());
        }
        ControlFlow::<()>::Continue(())
    });
}

fn meant(statement: &Statement) -> Result<PgStatement, QueryError> {
    Ok(match statement {
        Statement::Set(set) => setting(set)?,
        Statement::ShowVariable { variable } => match &variable[..] {
            [one] if one.value.eq_ignore_ascii_case("tables") => PgStatement::Query("SHOW TABLES".to_owned()),
            names => PgStatement::Show(joined(names)),
        },
        Statement::StartTransaction { .. } => PgStatement::Begin,
        Statement::Commit { .. } => PgStatement::Commit,
        Statement::Rollback { savepoint: None, .. } => PgStatement::Rollback,
        Statement::Rollback { .. } => PgStatement::Nothing("ROLLBACK"),
        Statement::Savepoint { .. } => PgStatement::Nothing("SAVEPOINT"),
        Statement::ReleaseSavepoint { .. } => PgStatement::Nothing("RELEASE"),
        Statement::Discard { .. } => PgStatement::Nothing("DISCARD ALL"),
        Statement::Deallocate { .. } => PgStatement::Nothing("DEALLOCATE"),
        Statement::LISTEN { .. } => PgStatement::Nothing("LISTEN"),
        Statement::UNLISTEN { .. } => PgStatement::Nothing("UNLISTEN"),
        Statement::Declare { stmts } => declared(stmts)?,
        Statement::Fetch { name, direction, .. } => {
            PgStatement::Fetch { cursor: name.value.clone(), rows: wanted(direction)? }
        }
        Statement::Close { cursor: CloseCursor::All } => PgStatement::Close(None),
        Statement::Close { cursor: CloseCursor::Specific { name } } => PgStatement::Close(Some(name.value.clone())),
        other => match copied(other) {
            Some(copy) => copy?,
            None => PgStatement::Query(other.to_string()),
        },
    })
}

fn joined(names: &[Ident]) -> String {
    names.iter().map(|name| name.value.to_ascii_lowercase()).collect::<Vec<_>>().join(" ")
}

/// Of settings there is none of the server's: a client's own are noted, and most of them have no effect.
fn setting(set: &Set) -> Result<PgStatement, QueryError> {
    let (name, value) = match set {
        Set::SingleAssignment { variable, values, .. } => {
            (variable.to_string().to_ascii_lowercase(), values.first().map(plain).unwrap_or_default())
        }
        Set::SetTimeZone { value, .. } => ("timezone".to_owned(), plain(value)),
        _ => return Ok(PgStatement::Nothing("SET")),
    };
    if name.starts_with("datafusion.") {
        return refused(format!("`{name}` is not for clients to set: settings of the server are in its settings file"));
    }
    Ok(PgStatement::Set { name, value })
}

fn plain(value: &Expr) -> String {
    match value {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => text.clone(),
        other => other.to_string(),
    }
}

fn declared(declared: &[Declare]) -> Result<PgStatement, QueryError> {
    let [Declare { names, declare_type: Some(DeclareType::Cursor), for_query: Some(query), hold, .. }] = declared
    else {
        return refused("only cursors are declared here: write DECLARE name CURSOR FOR SELECT …");
    };
    let cursor = names.first().map(|name| name.value.clone()).unwrap_or_default();
    Ok(PgStatement::Declare { cursor, query: query.to_string(), hold: *hold == Some(true) })
}

fn wanted(direction: &FetchDirection) -> Result<Option<usize>, QueryError> {
    match direction {
        FetchDirection::Next | FetchDirection::Forward { limit: None } => Ok(Some(1)),
        FetchDirection::All | FetchDirection::ForwardAll => Ok(None),
        FetchDirection::Count { limit } | FetchDirection::Forward { limit: Some(limit) } => {
            match limit.to_string().parse() {
                Ok(rows) => Ok(Some(rows)),
                Err(_) => refused(format!("`{limit}` is no number of rows")),
            }
        }
        _ => refused("a cursor only goes forward: FETCH n, FETCH FORWARD n, FETCH ALL"),
    }
}

/// The names that there are when somebody looks, so that they have the same numbers from statement to statement.
#[derive(Clone)]
struct Live(Arc<Schemas>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Live {
    fn schema(&self, catalog: &str, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let schemas = self.0.of(&self.0.store.upgrade()?.snapshot());
        let found = schemas.into_iter().find(|(known, _)| catalog == CATALOG && *known == name);
        found.map(|(_, schema)| schema)
    }
}

#[async_trait]
impl CatalogInfo for Live {
    async fn catalog_names(&self) -> Result<Vec<String>> {
        Ok(vec![CATALOG.to_owned()])
    }

    async fn schema_names(&self, catalog: &str) -> Result<Option<Vec<String>>> {
        Ok((catalog == CATALOG).then(|| [SCHEMA, SYSTEM, PG_CATALOG].map(str::to_owned).into()))
    }

    async fn table_names(&self, catalog: &str, schema: &str) -> Result<Option<Vec<String>>> {
        Ok(self.schema(catalog, schema).map(|schema| schema.table_names()))
    }

    async fn table_schema(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<SchemaRef>> {
        let Some(schema) = self.schema(catalog, schema) else { return Ok(None) };
        Ok(schema.table(table).await?.map(|table| table.schema()))
    }

    async fn table_type(&self, catalog: &str, schema: &str, table: &str) -> Result<Option<TableType>> {
        let Some(schema) = self.schema(catalog, schema) else { return Ok(None) };
        schema.table_type(table).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(sql: &str) -> String {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap();
        escape_by_backslash(&mut statements[0]);
        statements[0].to_string()
    }

    #[test]
    fn other_escapes_are_written_as_backslashes() {
        let plain = r"SELECT a LIKE 'x\_' ESCAPE '\'";
        assert_eq!(escaped("SELECT a LIKE 'x'"), "SELECT a LIKE 'x'");
        assert!(!escaped(plain).contains("replace"));
        let told = escaped("SELECT a NOT LIKE $1 || '%' ESCAPE '/'");
        let expected = "SELECT a NOT LIKE replace(replace(replace(replace($1 || '%', '//', '\u{1}'), '\\', '\\\\'), '/', '\\'), '\u{1}', '/')";
        assert_eq!(told, expected);
    }
}
