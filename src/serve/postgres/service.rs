//! What is done with each message of a client.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion_postgres::arrow_pg::datatypes::{df::deserialize_parameters_with_server_types, into_pg_type};
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{
    DataRowEncoder, DescribePortalResponse, FieldFormat, FieldInfo, QueryResponse, Response, Tag,
};
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::store::{MemPortalStore, PortalStore};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionHandle, ConnectionManager, PgWireServerHandlers, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator, Type,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::messages::startup::SecretKey;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use futures::{Sink, stream};

use super::convert::{fault, fields, held, refusal, streamed};
use super::copy::copied;
use super::session::Session;
use crate::query::{Answer, Asked, Described, Dialect, Engine, PG_VERSION, Parameters, PgStatement};

/// The handlers of a server.
pub(super) struct Handlers {
    service: Arc<Service>,
    startup: Arc<Startup>,
    cancels: Arc<Cancels>,
}

impl Handlers {
    pub fn new(engine: Arc<Engine>) -> Handlers {
        let clients = Arc::new(Clients::default());
        let startup = Startup { clients: clients.clone(), keys: RandomPidSecretKeyGenerator::default() };
        let cancels = Cancels { clients, engine: engine.clone() };
        let parser = Arc::new(Parser { engine: engine.clone() });
        Handlers {
            service: Arc::new(Service { engine, parser }),
            startup: Arc::new(startup),
            cancels: Arc::new(cancels),
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.service.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.service.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancels.clone()
    }
}

/// Who is connected, by number and key.
#[derive(Default)]
struct Clients {
    /// Those whose statement is being planned or waits for its turn.
    before: Arc<ConnectionManager>,
    sessions: Mutex<HashMap<(i32, Bytes), Weak<Session>>>,
}

impl Clients {
    fn add(&self, number: i32, key: &SecretKey, session: &Arc<Session>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.strong_count() > 0);
        // A key is read as one of another form than it is written in.
        sessions.insert((number, key.to_bytes()), Arc::downgrade(session));
    }

    fn session(&self, number: i32, key: &SecretKey) -> Option<Arc<Session>> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(&(number, key.to_bytes())).and_then(Weak::upgrade)
    }
}

fn session_of<C: ClientInfo>(client: &C) -> Arc<Session> {
    client.session_extensions().get_or_insert_with(Session::default)
}

/// Lets clients in: whoever reaches the address may ask, as over HTTP.
struct Startup {
    clients: Arc<Clients>,
    keys: RandomPidSecretKeyGenerator,
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = message else { return Ok(()) };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        let (number, key) = self.keys.generate(client);
        client.set_pid_and_secret_key(number, key.clone());
        let (handle, guard) = self.clients.before.register(number, key.clone());
        client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
        client.session_extensions().insert(guard);
        self.clients.add(number, &key, &session_of(client));
        let mut parameters = DefaultServerParameterProvider::default();
        parameters.server_version = PG_VERSION.to_owned();
        parameters.default_transaction_read_only = true;
        parameters.is_superuser = false;
        finish_authentication(client, &parameters).await
    }
}

/// Ends what a client is about when it says so, on a connection of its own.
struct Cancels {
    clients: Arc<Clients>,
    engine: Arc<Engine>,
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        self.clients.before.cancel(request.pid, &request.secret_key).await;
        let session = self.clients.session(request.pid, &request.secret_key);
        if let Some(number) = session.and_then(|session| session.under_way()) {
            self.engine.kill(number);
        }
    }
}

/// A statement as it was prepared.
#[derive(Clone)]
pub(super) struct Prepared {
    statement: PgStatement,
    /// `None` where it is about the session.
    described: Option<Arc<Described>>,
}

impl Prepared {
    /// Of `$1`, `$2`, … what each is sent as.
    fn parameters(&self) -> PgWireResult<Vec<Type>> {
        let described = self.described.iter().flat_map(|described| &described.parameters);
        // Where nobody knows, a text is: it is read as whatever it stands beside.
        described.map(|known| known.as_ref().map_or(Ok(Type::TEXT), into_pg_type)).collect()
    }

    /// What a client gives for them.
    fn bound(&self, portal: &Portal<Prepared>) -> PgWireResult<Option<Parameters>> {
        let types = self.parameters()?;
        let Some(described) = self.described.as_ref().filter(|_| !types.is_empty()) else { return Ok(None) };
        if portal.parameter_len() < types.len() {
            let told = format!("{} parameters are bound, the statement has {}", portal.parameter_len(), types.len());
            return Err(fault("08P01", told));
        }
        let known: Vec<_> = described.parameters.iter().map(Option::as_ref).collect();
        let sent: Vec<_> = types.iter().map(Some).collect();
        Ok(Some(deserialize_parameters_with_server_types(portal, &known, &sent)?))
    }
}

pub(super) struct Parser {
    engine: Arc<Engine>,
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut statements = self.engine.statements(sql).map_err(refusal)?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            return Err(fault("42601", "one statement is prepared at a time"));
        }
        let described = match &statement {
            PgStatement::Query(sql)
            | PgStatement::Declare { query: sql, .. }
            | PgStatement::Copy { query: sql, .. } => {
                Some(Arc::new(self.engine.describe(Dialect::Postgres, sql).await.map_err(refusal)?))
            }
            _ => None,
        };
        Ok(Some(Prepared { statement, described }))
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        prepared.parameters()
    }

    fn get_result_schema(&self, prepared: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match (&prepared.statement, &prepared.described) {
            (PgStatement::Show(name), _) => Ok(vec![shown(name)]),
            (PgStatement::Query(_), Some(described)) => {
                fields(&described.schema, format.unwrap_or(&Format::UnifiedText))
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// Answers statements.
pub(super) struct Service {
    engine: Arc<Engine>,
    parser: Arc<Parser>,
}

impl Service {
    async fn ask(&self, session: &Session, sql: &str, parameters: Option<Parameters>) -> PgWireResult<Answer> {
        let asked = Asked { sql, dialect: Dialect::Postgres, parameters, timeout: session.timeout() };
        let answer = self.engine.ask(asked).await.map_err(refusal)?;
        session.begins(answer.number());
        Ok(answer)
    }

    /// What a statement about the session does; `None` for one about data.
    async fn about_session<C: ClientInfo + ClientPortalStore>(
        &self,
        client: &C,
        session: &Session,
        statement: &PgStatement,
        parameters: impl FnOnce() -> PgWireResult<Option<Parameters>>,
    ) -> PgWireResult<Option<Response>>
    where
        C::PortalStore: PortalStore,
    {
        let is_failed = client.transaction_status() == TransactionStatus::Error;
        let done = |tag: &str| Response::Execution(Tag::new(tag));
        Ok(Some(match statement {
            PgStatement::Commit | PgStatement::Rollback => {
                session.end_transaction();
                let is_kept = *statement == PgStatement::Commit && !is_failed;
                Response::TransactionEnd(Tag::new(if is_kept { "COMMIT" } else { "ROLLBACK" }))
            }
            _ if is_failed => {
                return Err(fault("25P02", "the transaction has failed: nothing is done until it ends, by ROLLBACK"));
            }
            PgStatement::Query(_) => return Ok(None),
            PgStatement::Begin => Response::TransactionStart(Tag::new("BEGIN")),
            PgStatement::Set { name, value } => {
                session.set(name.clone(), value.clone())?;
                done("SET")
            }
            PgStatement::Show(name) => {
                let told = |name| fault("42704", format!("there is no setting `{name}`"));
                let value = session.shown(name).ok_or_else(|| told(name))?;
                Response::Query(one_text(shown(name), value)?)
            }
            PgStatement::Declare { cursor, query, hold } => {
                let answer = self.ask(session, query, parameters()?).await?;
                session.open(cursor.clone(), *hold, answer.number(), streamed(answer, &Format::UnifiedText)?)?;
                if let Some(portals) = portals(client) {
                    portals.put_portal(Arc::new(portal_of(cursor)));
                }
                done("DECLARE CURSOR")
            }
            PgStatement::Copy { query, form } => {
                let answer = self.ask(session, query, parameters()?).await?;
                Response::CopyOut(copied(answer, form.clone())?)
            }
            PgStatement::Fetch { cursor, rows } => Response::Query(session.fetch(cursor, *rows).await?),
            PgStatement::Close(cursor) => {
                session.close(cursor.as_deref())?;
                if let (Some(portals), Some(cursor)) = (portals(client), cursor) {
                    portals.rm_portal(cursor);
                }
                done(if cursor.is_some() { "CLOSE CURSOR" } else { "CLOSE CURSOR ALL" })
            }
            PgStatement::Nothing(tag) => done(tag),
        }))
    }
}

fn portals<C: ClientPortalStore>(client: &C) -> Option<&MemPortalStore<Prepared>>
where
    C::PortalStore: PortalStore,
{
    client.portal_store().as_any().downcast_ref()
}

/// A cursor as clients ask for its columns.
fn portal_of(cursor: &str) -> Portal<Prepared> {
    let statement = PgStatement::Fetch { cursor: cursor.to_owned(), rows: None };
    let prepared = Prepared { statement, described: None };
    Portal::new_cursor(cursor.to_owned(), Arc::new(StoredStatement::new(cursor.to_owned(), prepared, Vec::new())))
}

fn shown(name: &str) -> FieldInfo {
    FieldInfo::new(name.to_owned(), None, None, Type::TEXT, FieldFormat::Text)
}

fn one_text(field: FieldInfo, text: String) -> PgWireResult<QueryResponse> {
    let fields = Arc::new(vec![field]);
    let mut row = DataRowEncoder::new(fields.clone());
    row.encode_field(&text)?;
    Ok(QueryResponse::new(fields, stream::iter([Ok(row.take_row())])))
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session_of(client);
        let statements = self.engine.statements(sql).map_err(refusal)?;
        let last = statements.len().saturating_sub(1);
        let mut responses = Vec::with_capacity(statements.len());
        for (at, statement) in statements.iter().enumerate() {
            if let Some(response) = self.about_session(client, &session, statement, || Ok(None)).await? {
                responses.push(response);
            } else if let PgStatement::Query(sql) = statement {
                let answer = self.ask(&session, sql, None).await?;
                // Of several each has its turn: only the last is read while it is sent.
                responses.push(Response::Query(if at == last {
                    streamed(answer, &Format::UnifiedText)?
                } else {
                    held(self.engine.hold(answer).await.map_err(refusal)?)?
                }));
            }
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        self.parser.clone()
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let session = session_of(client);
        let prepared = &portal.statement.statement;
        let parameters = || prepared.bound(portal);
        if let Some(response) = self.about_session(client, &session, &prepared.statement, parameters).await? {
            return Ok(response);
        }
        let PgStatement::Query(sql) = &prepared.statement else { return Ok(Response::EmptyQuery) };
        let parameters = prepared.bound(portal)?;
        let answer = self.ask(&session, sql, parameters).await?;
        Ok(Response::Query(streamed(answer, &portal.result_column_format)?))
    }

    async fn do_describe_portal<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let fields = match &prepared.statement {
            PgStatement::Fetch { cursor, .. } => {
                let fields = session_of(client).fields(cursor).await;
                fields.map_or_else(Vec::new, |fields| fields.to_vec())
            }
            _ => self.parser.get_result_schema(prepared, Some(&portal.result_column_format))?,
        };
        Ok(DescribePortalResponse::new(fields))
    }
}
