//! Arrow Flight SQL: answers as Arrow, without a row in between. ADBC and JDBC drivers ask by it.
//!
//! A ticket for a statement is its text; a prepared statement is kept by its number until it is closed or too many are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightServiceServer;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc,
    Ticket,
};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::watch::Receiver;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::query::{Answer, Asked, CATALOG, Dialect, Engine, QueryError, parameters};

/// Prepared statements that are kept; the oldest goes when there is one more.
const PREPARED_MAX: usize = 1000;
/// What clients call a table.
const TABLE: &str = "TABLE";

/// Listens from [`Flight::bind`] on.
pub(super) struct Flight {
    address: SocketAddr,
    incoming: TcpIncoming,
    service: Service,
}

impl Flight {
    pub async fn bind(address: &str, engine: Arc<Engine>) -> std::io::Result<Flight> {
        let told = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("Arrow Flight SQL (`--flight`) at {address}: {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(told)?;
        let address = listener.local_addr().map_err(told)?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Flight { address, incoming, service: Service { engine, prepared: Arc::default() } })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the other end of `stopped` is gone, then finishes the requests under way.
    pub async fn run(self, mut stopped: Receiver<()>) -> std::io::Result<()> {
        let stop = async move { while stopped.changed().await.is_ok() {} };
        let service = FlightServiceServer::new(self.service);
        let server = tonic::transport::Server::builder();
        let served = server.serve_with_incoming_shutdown(service, self.incoming, stop).await;
        served.map_err(std::io::Error::other)
    }
}

type Rows = Pin<Box<dyn Stream<Item = Result<arrow_flight::FlightData, Status>> + Send>>;

/// A prepared statement.
#[derive(Clone)]
struct Prepared {
    sql: String,
    /// One row, once it is bound.
    row: Option<RecordBatch>,
}

#[derive(Default)]
struct Statements {
    next: u64,
    kept: BTreeMap<u64, Prepared>,
}

#[derive(Clone)]
struct Service {
    engine: Arc<Engine>,
    prepared: Arc<Mutex<Statements>>,
}

static ABOUT: LazyLock<Result<SqlInfoData, FlightError>> = LazyLock::new(|| {
    let mut about = SqlInfoDataBuilder::new();
    about.append(SqlInfo::FlightSqlServerName, "plimsoll");
    about.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    about.append(SqlInfo::FlightSqlServerArrowVersion, "59");
    about.append(SqlInfo::FlightSqlServerReadOnly, true);
    about.append(SqlInfo::FlightSqlServerSql, true);
    about.append(SqlInfo::FlightSqlServerSubstrait, false);
    about.append(SqlInfo::FlightSqlServerCancel, false);
    about.append(SqlInfo::FlightSqlServerTransaction, 0_i32);
    about.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    about.build()
});

static TYPES_OF_TABLES: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("table_type", DataType::Utf8, false)])));

fn about() -> Result<&'static SqlInfoData, Status> {
    ABOUT.as_ref().map_err(|error| Status::internal(error.to_string()))
}

fn refusal(error: QueryError) -> Status {
    let told = error.to_string();
    match error {
        QueryError::Statement(_) => Status::invalid_argument(told),
        QueryError::Ended(_) => Status::cancelled(told),
        QueryError::Busy(_) => Status::unavailable(told),
        QueryError::Failed(_) => Status::internal(told),
    }
}

fn of_flight(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        FlightError::ExternalError(error) => match error.downcast::<QueryError>() {
            Ok(error) => refusal(*error),
            Err(error) => Status::internal(error.to_string()),
        },
        other => Status::internal(other.to_string()),
    }
}

fn of_arrow(error: ArrowError) -> Status {
    Status::internal(error.to_string())
}

fn read_only() -> Status {
    Status::permission_denied(
        "nothing is written by this door: it is for asking; write over HTTP, as line protocol at /write",
    )
}

/// What a plan says of missing values is not what the rows' maker says: clients hold the two against each other.
fn nullable(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns as they are sent: texts come as such, not as numbers of texts.
fn sent(schema: SchemaRef) -> SchemaRef {
    let encoder = FlightDataEncoderBuilder::new().with_schema(schema.clone()).build(stream::empty());
    encoder.known_schema().unwrap_or(schema)
}

/// Rows as messages. They have the columns that were told before, whatever they are told to be by what makes them.
fn encoded(schema: SchemaRef, rows: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static) -> Rows {
    Box::pin(FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map_err(of_flight))
}

fn told(schema: &Schema, ticket: Bytes, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket { ticket });
    let info = FlightInfo::new().with_endpoint(endpoint).with_descriptor(request.into_inner());
    Ok(Response::new(info.try_with_schema(schema).map_err(of_arrow)?))
}

fn one(batch: Result<RecordBatch, FlightError>) -> Result<Response<Rows>, Status> {
    let batch = batch.map_err(of_flight)?;
    Ok(Response::new(encoded(batch.schema(), stream::iter([Ok(batch)]))))
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options).try_into().map_err(of_arrow)?;
    Ok(message.0)
}

impl Service {
    async fn described(&self, sql: &str) -> Result<SchemaRef, Status> {
        let described = self.engine.describe(Dialect::Own, sql).await.map_err(refusal)?;
        Ok(sent(nullable(&described.schema)))
    }

    async fn rows(&self, sql: &str, row: Option<&RecordBatch>) -> Result<Response<Rows>, Status> {
        let schema = nullable(&self.engine.describe(Dialect::Own, sql).await.map_err(refusal)?.schema);
        let parameters = row.map(parameters).transpose().map_err(refusal)?;
        let answer = self.engine.ask(Asked { parameters, ..Asked::plainly(sql) }).await.map_err(refusal)?;
        let of_rows = schema.clone();
        let batches = stream::try_unfold(answer, async |mut answer: Answer| {
            let next = answer.next().await.transpose();
            let next = next.map_err(|error| FlightError::ExternalError(Box::new(error)))?;
            Ok(next.map(|batch| (batch, answer)))
        });
        let batches = batches.map(move |batch: Result<_, FlightError>| Ok(batch?.with_schema(of_rows.clone())?));
        Ok(Response::new(encoded(schema, batches)))
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepared(&self, handle: &[u8]) -> Result<Prepared, Status> {
        let kept = number(handle).and_then(|number| self.statements().kept.get(&number).cloned());
        kept.ok_or_else(|| Status::not_found("there is no such prepared statement any more: prepare it again"))
    }
}

fn number(handle: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(handle.try_into().ok()?))
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Service;

    /// Whoever reaches the address may ask, as over HTTP: any name and password will do.
    async fn do_handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>>, Status> {
        let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))))
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.described(&query.query).await?;
        let ticket = TicketStatementQuery { statement_handle: query.query.into() };
        told(&schema, ticket.as_any().encode_to_vec().into(), request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let sql = std::str::from_utf8(&ticket.statement_handle);
        let sql = sql.map_err(|_| Status::invalid_argument("the statement is not UTF-8 text"))?;
        self.rows(sql, None).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let described = self.engine.describe(Dialect::Own, &query.query).await.map_err(refusal)?;
        let field = |(at, known): (usize, &Option<DataType>)| {
            Field::new(format!("${}", at + 1), known.clone().unwrap_or(DataType::Utf8), true)
        };
        let parameters = Schema::new(described.parameters.iter().enumerate().map(field).collect::<Vec<_>>());
        let (dataset_schema, parameter_schema) = (ipc(&sent(nullable(&described.schema)))?, ipc(&parameters)?);
        let mut statements = self.statements();
        let number = statements.next;
        statements.next += 1;
        statements.kept.insert(number, Prepared { sql: query.query, row: None });
        if statements.kept.len() > PREPARED_MAX {
            statements.kept.pop_first();
        }
        let prepared_statement_handle = number.to_be_bytes().to_vec().into();
        Ok(ActionCreatePreparedStatementResult { prepared_statement_handle, dataset_schema, parameter_schema })
    }

    async fn do_action_close_prepared_statement(
        &self,
        query: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        if let Some(number) = number(&query.prepared_statement_handle) {
            self.statements().kept.remove(&number);
        }
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut row: Option<RecordBatch> = None;
        while let Some(batch) = batches.try_next().await.map_err(of_flight)? {
            if batch.num_rows() > 0 && row.replace(batch).is_some_and(|row| row.num_rows() > 0) {
                return Err(Status::invalid_argument("a statement is asked with one row of parameters at a time"));
            }
        }
        if let Some(row) = &row {
            // Told now, not when the rows are asked for.
            parameters(row).map_err(refusal)?;
        }
        let handle = query.prepared_statement_handle;
        let number = number(&handle);
        let mut statements = self.statements();
        let Some(kept) = number.and_then(|number| statements.kept.get_mut(&number)) else {
            return Err(Status::not_found("there is no such prepared statement any more: prepare it again"));
        };
        kept.row = row;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let prepared = self.prepared(&query.prepared_statement_handle)?;
        let schema = self.described(&prepared.sql).await?;
        told(&schema, query.as_any().encode_to_vec().into(), request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let prepared = self.prepared(&query.prepared_statement_handle)?;
        self.rows(&prepared.sql, prepared.row.as_ref()).await
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec().into();
        told(&query.into_builder().schema(), ticket, request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _: Request<Ticket>) -> Result<Response<Rows>, Status> {
        let mut catalogs = query.into_builder();
        catalogs.append(CATALOG);
        one(catalogs.build())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec().into();
        told(&query.into_builder().schema(), ticket, request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _: Request<Ticket>) -> Result<Response<Rows>, Status> {
        let mut schemas = query.into_builder();
        for schema in ["public", "system"] {
            schemas.append(CATALOG, schema);
        }
        one(schemas.build())
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec().into();
        told(&query.into_builder().schema(), ticket, request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, _: Request<Ticket>) -> Result<Response<Rows>, Status> {
        let mut tables = query.into_builder();
        for table in self.engine.tables().await.map_err(refusal)? {
            let columns = sent(table.columns);
            tables.append(CATALOG, table.schema, table.name, TABLE, &columns).map_err(of_flight)?;
        }
        one(tables.build())
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        told(&TYPES_OF_TABLES, query.as_any().encode_to_vec().into(), request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Result<Response<Rows>, Status> {
        let mut types = query.into_builder();
        types.append(TABLE);
        one(types.build())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let ticket = query.as_any().encode_to_vec().into();
        told(&query.into_builder(about()?).schema(), ticket, request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _: Request<Ticket>) -> Result<Response<Rows>, Status> {
        one(query.into_builder(about()?).build())
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(read_only())
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(read_only())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
