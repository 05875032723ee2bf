//! The engine: a session for each statement, over a snapshot of its own, that can read and nothing else.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryConsumer, MemoryPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{FunctionRegistry, SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{ColumnarValue, LogicalPlan, ScalarUDF, Volatility, create_udf};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;

use super::aggregate::AggregateTracks;
use super::allowance::Allowance;
use super::anomalies::{BacktestFunction, ScoresFunction};
use super::answer::{Answer, Held};
use super::approx_percentile::approx_percentile;
use super::array_labels::ArrayLabels;
use super::cache::{CacheStats, ResultCache};
use super::changepoints::ChangepointsFunction;
use super::correlate_window::CorrelateWindowFunction;
use super::error::QueryError;
use super::explain_window::ExplainWindowFunction;
use super::forecast::{ForecastFunction, ForecastRequest, Progress};
use super::gapfill::{self, FillGaps, GapFillPlanner};
use super::growth;
use super::instant::InstantFunction;
use super::newest::ReadNewest;
use super::pace::{Elapsed, PaceJoins};
use super::parameters;
use super::pins::{Pin, Pins};
use super::postgres::{PG_CATALOG, PgStatement, Postgres};
use super::queries::{End, Limits, Now, Queries, Running, number_to_kill};
use super::resample::ResampleFunction;
use super::schemas::{SYSTEM, Schemas};
use super::seasonality::SeasonalityFunction;
use super::size::check_size;
use super::sketch_quantile::sketch_quantile;
use super::system::{OtherTables, SystemTable, TellMemory};
use super::tables::{CATALOG, SCHEMA, session};
use crate::model::Issued;
use crate::store::{Backup, Snapshot, Store, StoreError, StoreStats, Verified, told_with_causes};

/// Bytes that an answer takes as text, for each of its columns in memory.
const TEXT_FACTOR: usize = 4;
/// Bytes a sort sets aside to merge what it spilled.
const SORT_RESERVATION: usize = 10 << 20;

/// Functions that make a value of any size out of two numbers, past every budget: there are none of these.
const UNBOUNDED: [&str; 8] =
    ["repeat", "lpad", "rpad", "array_repeat", "range", "generate_series", "array_resize", "array_pad"];

/// Whether a text is a statement, as far as can be told without tables.
pub fn parse(sql: &str) -> Result<(), QueryError> {
    check_size(sql)?;
    datafusion::sql::parser::DFParser::parse_sql(sql).map(|_| ()).map_err(QueryError::from)
}

/// Whose names and ways to write a statement is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    Own,
    Postgres,
}

/// A statement, and how it is asked.
pub struct Asked<'s> {
    pub sql: &'s str,
    pub dialect: Dialect,
    /// What goes in for `$1`, `$2`, …
    pub parameters: Option<ParamValues>,
    /// How long it may take, where that is less than any may.
    pub timeout: Option<Duration>,
}

impl<'s> Asked<'s> {
    pub fn plainly(sql: &'s str) -> Asked<'s> {
        Asked { sql, dialect: Dialect::Own, parameters: None, timeout: None }
    }
}

/// What is known of a statement before it runs.
pub struct Described {
    /// Columns of its answer.
    pub schema: SchemaRef,
    /// Of `$1`, `$2`, … what each has to be, as far as that can be told.
    pub parameters: Vec<Option<DataType>>,
}

/// A table that a statement may name.
pub struct NamedTable {
    pub schema: &'static str,
    pub name: String,
    pub columns: SchemaRef,
}

/// Answers SQL over a store.
pub struct Engine {
    store: Arc<Store>,
    base: SessionState,
    /// Made when somebody first asks in that dialect.
    postgres: OnceLock<Postgres>,
    schemas: Arc<Schemas>,
    limits: Limits,
    queries: Arc<Queries>,
    pins: Arc<Pins>,
    cache: Arc<ResultCache>,
}

impl Engine {
    /// `memory` bounds what the statements under way may take together; sorts, joins and aggregates spill beyond.
    pub fn new(store: Arc<Store>, others: OtherTables, memory: usize, limits: Limits) -> Result<Engine, QueryError> {
        let OtherTables { mut system, live } = others;
        let pool: Arc<dyn MemoryPool> = Arc::new(FairSpillPool::new(memory));
        let of_one = limits.memory.unwrap_or(memory).min(memory);
        let base = base_session(&store, &pool, of_one, limits.summaries)?;
        let queries = Queries::new(now(&store), elapsed(&store), limits);
        let pins = Pins::new(now(&store), elapsed(&store));
        let holders: Arc<RwLock<Vec<TellMemory>>> = Arc::default();
        let cache = ResultCache::new(limits.cache, pool.clone());
        let told = cache.clone();
        let rows = Arc::new(move || told.rows().expect("columns of one length"));
        system.push(SystemTable { name: "caches", rows });
        let schemas =
            Schemas { store: Arc::downgrade(&store), system, live, pool, memory, holders, queries: queries.clone() };
        Ok(Engine { store, base, postgres: OnceLock::new(), schemas: Arc::new(schemas), limits, queries, pins, cache })
    }

    /// Runs one statement over the store as it is now; `KILL n` ends that of this number in `system.queries`.
    pub async fn query(&self, sql: &str) -> Result<Answer, QueryError> {
        self.ask(Asked::plainly(sql)).await
    }

    /// The same of a statement with parameters, in a dialect.
    pub async fn ask(&self, asked: Asked<'_>) -> Result<Answer, QueryError> {
        self.pins.sweep();
        let mut running = self.queries.begin(asked.sql, asked.timeout);
        match self.begin(asked, &mut running).await {
            Ok(stream) => Ok(Answer { schema: stream.schema(), stream, running }),
            Err(error) => {
                if !matches!(error, QueryError::Ended(_)) {
                    running.ends(End::Failed(error.to_string()));
                }
                Err(error)
            }
        }
    }

    async fn begin(&self, asked: Asked<'_>, running: &mut Running) -> Result<SendableRecordBatchStream, QueryError> {
        let Asked { sql, dialect, parameters, .. } = asked;
        if let Some(number) = number_to_kill(sql) {
            return self.killed(number);
        }
        let snapshot = self.store.snapshot();
        if parameters.is_none()
            && let Some(kept) = self.cache.shortcut(dialect, sql, &snapshot)?
        {
            return Ok(kept);
        }
        let context = self.session(dialect, snapshot.clone())?;
        let planned = running.until_ended(planned(&context, sql)).await.map_err(QueryError::Ended)?;
        let mut plan = planned?;
        if let Some(values) = parameters {
            plan = plan.replace_params_with_values(&values)?;
        }
        let mut state = context.state();
        if is_plain(&plan)? {
            state.config_mut().options_mut().optimizer.max_passes = 1;
        }
        let made = running.until_ended(state.create_physical_plan(&plan)).await.map_err(QueryError::Ended)?;
        let made = made?;
        if !self.reads_the_store(&plan)? {
            return Ok(execute_stream(made, self.task(&state))?);
        }
        let key = self.cache.key(dialect, sql, &plan, &made, &snapshot)?;
        if let Some(kept) = key.as_ref().map(|key| self.cache.get(key)).transpose()?.flatten() {
            return Ok(kept);
        }
        running.take_turn().await?;
        let rows = execute_stream(made, self.task(&state))?;
        Ok(match key {
            Some(key) => self.cache.keep(key, &plan, rows)?,
            None => rows,
        })
    }

    /// The columns of a statement's answer, and its parameters.
    ///
    /// # Errors
    /// A statement that cannot be answered.
    pub async fn describe(&self, dialect: Dialect, sql: &str) -> Result<Described, QueryError> {
        if number_to_kill(sql).is_some() {
            return Ok(Described { schema: killed(0)?.schema(), parameters: Vec::new() });
        }
        let plan = planned(&self.session(dialect, self.store.snapshot())?, sql).await?;
        let parameters = parameters::types(&plan)?;
        Ok(Described { schema: Arc::new(plan.schema().as_arrow().clone()), parameters })
    }

    /// The tables that there are, with their columns.
    pub async fn tables(&self) -> Result<Vec<NamedTable>, QueryError> {
        let mut tables = Vec::new();
        for (schema, provider) in self.schemas.of(&self.store.snapshot()) {
            for name in provider.table_names() {
                let Some(table) = provider.table(&name).await? else { continue };
                tables.push(NamedTable { schema, name, columns: table.schema() });
            }
        }
        Ok(tables)
    }

    /// The statements in a text from a client of PostgreSQL.
    ///
    /// # Errors
    /// A text that is none.
    pub fn statements(&self, sql: &str) -> Result<Vec<PgStatement>, QueryError> {
        self.postgres()?.statements(sql)
    }

    fn postgres(&self) -> Result<&Postgres, QueryError> {
        if let Some(made) = self.postgres.get() {
            return Ok(made);
        }
        let made = Postgres::new(&self.base, self.schemas.clone())?;
        Ok(self.postgres.get_or_init(|| made))
    }

    /// Where a statement runs: it holds no more than one may.
    fn task(&self, state: &SessionState) -> Arc<TaskContext> {
        let task = TaskContext::from(state);
        let limit = self.limits.memory.filter(|limit| *limit < self.schemas.memory);
        Arc::new(match limit {
            None => task,
            Some(limit) => {
                let memory_pool = Arc::new(Allowance::of(self.schemas.pool.clone(), limit));
                let runtime = RuntimeEnv { memory_pool, ..RuntimeEnv::clone(state.runtime_env()) };
                task.with_runtime(Arc::new(runtime))
            }
        })
    }

    /// Whether a statement is about more than the store itself, or what others make: those that are not can always be asked, and
    /// what makes a live table may ask statements of its own.
    fn reads_the_store(&self, plan: &LogicalPlan) -> Result<bool, DataFusionError> {
        let is_live = |name: &str| self.schemas.live.iter().any(|live| live.name == name);
        let mut reads = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let others = matches!(scan.table_name.schema(), Some(SYSTEM | PG_CATALOG | "information_schema"));
                reads |= !others && !is_live(scan.table_name.table());
            }
            Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(reads)
    }

    /// Ends a statement under way; whether there is one of that number.
    pub fn kill(&self, number: u64) -> bool {
        self.queries.kill(number)
    }

    fn killed(&self, number: u64) -> Result<SendableRecordBatchStream, QueryError> {
        if !self.kill(number) {
            let told = format!("no statement {number} is under way: `SELECT * FROM system.queries` lists them");
            return Err(QueryError::Statement(told));
        }
        let batch = killed(number)?;
        Ok(Box::pin(MemoryStream::try_new(vec![batch.clone()], batch.schema(), None)?))
    }

    /// Runs one statement as [`Engine::query`] does, all rows at once.
    pub async fn collect(&self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
        let answer = self.query(sql).await?;
        let schema = answer.schema.clone();
        Ok((schema, answer.collect().await?))
    }

    /// All rows at once, and room for their text, as part of what queries may hold.
    ///
    /// # Errors
    /// As [`Engine::query`]; an answer that is larger.
    pub async fn collect_within(&self, sql: &str) -> Result<Held, QueryError> {
        self.hold(self.query(sql).await?).await
    }

    /// The rows of an answer, as part of what queries may hold.
    pub async fn hold(&self, mut answer: Answer) -> Result<Held, QueryError> {
        let reservation = MemoryConsumer::new("answer").register(&self.schemas.pool);
        let mut held = Held { schema: answer.schema.clone(), batches: Vec::new(), reservation };
        while let Some(batch) = answer.next().await {
            let batch = batch?;
            let bytes = batch.get_array_memory_size().saturating_mul(TEXT_FACTOR);
            if held.reservation.try_grow(bytes).is_err() {
                return Err(QueryError::Statement(self.too_large()));
            }
            held.batches.push(batch);
        }
        Ok(held)
    }

    fn too_large(&self) -> String {
        let memory = bytesize::ByteSize::b(self.schemas.memory as u64);
        format!(
            "the answer, or it and those under way, are larger than the {memory} that queries may hold: ask for fewer \
             rows or columns, add LIMIT, or raise `memory`; `plimsoll export` writes any number of rows to a file"
        )
    }

    /// Forecasts series as a request says, over the store as it is now; each part is handed on as it is made, until that breaks
    /// it off.
    ///
    /// # Errors
    /// There is no such metric; a series cannot be read.
    pub fn forecasts(
        &self,
        request: &ForecastRequest,
        each: impl FnMut(Vec<Issued>, Progress) -> ControlFlow<()>,
    ) -> Result<(), QueryError> {
        Ok(request.run(&self.store.snapshot(), each)?)
    }

    /// Has `system.memory` tell the shares of somebody else, too.
    pub fn tell_memory_of(&self, holder: TellMemory) {
        self.schemas.holders.write().unwrap_or_else(PoisonError::into_inner).push(holder);
    }

    /// Holds the files of all tables as they are now, and what is in memory with them, until it is let go of or its time is over.
    ///
    /// # Errors
    /// Too many are held, or longer than may be; the store takes no more writes.
    pub fn pin(&self, keep: Option<Duration>) -> Result<Pin, QueryError> {
        self.pins.pin(&self.store, keep)
    }

    /// Answers that are kept, and how they did.
    pub fn cache(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Forgets the answers about a table, or all; how many those were.
    pub fn forget(&self, table: Option<&str>) -> u64 {
        self.cache.forget(table)
    }

    /// What is held.
    pub fn pins(&self) -> Vec<Pin> {
        self.pins.all()
    }

    /// Lets go of a pin.
    ///
    /// # Errors
    /// There is none of that number.
    pub fn release(&self, pin: u64) -> Result<(), QueryError> {
        let told = || QueryError::Statement(format!("no pin {pin} is held: GET /api/v1/pins lists them"));
        self.pins.release(pin).then_some(()).ok_or_else(told)
    }

    /// What the store holds.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    /// Why the store takes no more writes, if so.
    pub fn closed(&self) -> Option<String> {
        self.store.closed()
    }

    /// Why not all that was acknowledged is served; empty where all is well.
    pub fn degraded(&self) -> Vec<String> {
        self.store.degraded()
    }

    /// Reads all that is at rest and holds it against the catalog. Takes as long as the disk does.
    pub fn verify(&self) -> Result<Verified, QueryError> {
        self.store.verify().map_err(|error| QueryError::Failed(told_with_causes(&error)))
    }

    /// Makes a snapshot of the store in a folder that is not there yet.
    pub fn snapshot_to(&self, dir: &Path) -> Result<Backup, QueryError> {
        self.store.snapshot_to(dir).map_err(|error| match error {
            StoreError::Occupied { .. } => QueryError::Statement(error.to_string()),
            _ => QueryError::Failed(told_with_causes(&error)),
        })
    }

    fn session(&self, dialect: Dialect, snapshot: Snapshot) -> Result<SessionContext, QueryError> {
        let schemas = self.schemas.of(&snapshot);
        let context = SessionContext::new_with_state(match dialect {
            Dialect::Own => session(&self.base, schemas)?,
            Dialect::Postgres => {
                let names = self.postgres()?;
                session(names.base(), schemas.into_iter().chain([names.catalog()]))?
            }
        });
        context.register_udtf("forecast", Arc::new(ForecastFunction::forecast(snapshot.clone())));
        context.register_udtf("capacity_eta", Arc::new(ForecastFunction::capacity_eta(snapshot.clone())));
        context.register_udtf("anomaly_scores", Arc::new(ScoresFunction(snapshot.clone())));
        context.register_udtf("backtest_detector", Arc::new(BacktestFunction(snapshot.clone())));
        context.register_udtf("changepoints", Arc::new(ChangepointsFunction(snapshot.clone())));
        context.register_udtf("correlate_window", Arc::new(CorrelateWindowFunction(snapshot.clone())));
        context.register_udtf("explain_window", Arc::new(ExplainWindowFunction(snapshot.clone())));
        context.register_udtf("instant", Arc::new(InstantFunction::new(snapshot.clone())));
        context.register_udtf("resample", Arc::new(ResampleFunction(snapshot.clone())));
        context.register_udtf("seasonality", Arc::new(SeasonalityFunction(snapshot)));
        context.register_udf(sketch_quantile());
        Ok(context)
    }
}

/// What all sessions have: functions, rules, the memory they share, of which each may have so many bytes.
fn base_session(
    store: &Store,
    pool: &Arc<dyn MemoryPool>,
    of_one: usize,
    summaries: bool,
) -> Result<SessionState, DataFusionError> {
    // What each merge of spilled runs sets aside must leave room for the others.
    let set_aside = SORT_RESERVATION.min(of_one / (4 * SessionConfig::new().target_partitions()));
    let config = SessionConfig::new()
        .with_sort_spill_reservation_bytes(set_aside)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool.clone()).build_arc()?;
    // First, while an aggregate or a sort still stands right above its scan.
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> =
        vec![Arc::new(AggregateTracks { summaries }), Arc::new(ReadNewest)];
    rules.extend(PhysicalOptimizer::new().rules);
    rules.push(Arc::new(PaceJoins(elapsed(store))));
    let mut base = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_analyzer_rule(Arc::new(FillGaps))
        .with_query_planner(Arc::new(GapFillPlanner))
        .with_physical_optimizer_rules(rules)
        .build();
    for function in growth::functions().chain([approx_percentile()]) {
        base.register_udaf(Arc::new(function))?;
    }
    let bin = datafusion::functions::datetime::date_bin();
    base.register_udf(Arc::new(ScalarUDF::clone(&bin).with_aliases(["time_bucket"])))?;
    for function in gapfill::functions() {
        base.register_udf(Arc::new(function))?;
    }
    for name in UNBOUNDED {
        base.deregister_udf(name)?;
    }
    base.register_udf(Arc::new(version_function(concat!("plimsoll ", env!("CARGO_PKG_VERSION")))))?;
    base.register_function_rewrite(Arc::new(ArrayLabels))?;
    Ok(base)
}

/// `version()`: what clients ask first.
pub(super) fn version_function(told: &'static str) -> ScalarUDF {
    let told = Arc::new(move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(told))));
    create_udf("version", Vec::new(), DataType::Utf8, Volatility::Immutable, told)
}

/// What a statement means over the tables of a session; one that would change anything has no meaning here.
async fn planned(context: &SessionContext, sql: &str) -> Result<LogicalPlan, QueryError> {
    check_size(sql)?;
    let plan = context.state().create_logical_plan(sql).await?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan)?;
    Ok(plan)
}

/// Whether a statement has only what one pass of the optimizer's rules does all about; a second is half of what planning costs.
fn is_plain(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let mut is_plain = true;
    plan.apply_with_subqueries(|node| {
        is_plain &= matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::TableScan(_)
        );
        Ok(if is_plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(is_plain)
}

fn killed(number: u64) -> Result<RecordBatch, DataFusionError> {
    let killed: ArrayRef = Arc::new(UInt64Array::from(vec![number]));
    Ok(RecordBatch::try_from_iter([("killed", killed)])?)
}

fn elapsed(store: &Store) -> Elapsed {
    let clock = store.world().clock.clone();
    Arc::new(move || clock.elapsed())
}

fn now(store: &Store) -> Now {
    let clock = store.world().clock.clone();
    Arc::new(move || clock.now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Labels, SeriesDef, Timestamp};
    use crate::store::StoreSpec;
    use crate::world::{Disk, RealDisk, World};

    fn put(store: &Store, minute: i64) {
        let mut batch = Batch::default();
        for field in ["user", "idle"] {
            let mut def = SeriesDef::new(format!("cpu_{field}"), Labels::new([("host", "a")]));
            def.measurement_len = 3;
            let time = Timestamp::from_nanos(1_767_225_600_000_000_000 + minute * 60_000_000_000);
            batch.push(store.registry().intern(def), time, minute as f64);
        }
        store.append(batch).unwrap();
        store.flush().unwrap();
    }

    #[test]
    fn what_was_answered_holds_no_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(World::real(), folder.path(), StoreSpec::default()).unwrap());
        let engine = Engine::new(store.clone(), OtherTables::default(), 64 << 20, Limits::default()).unwrap();
        put(&store, 0);
        put(&store, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let statements = [
            "SELECT count(*) FROM metrics WHERE value >= 0",
            "SELECT * FROM cpu ORDER BY time",
            "SELECT * FROM cpu_user",
            "SELECT * FROM system.memory",
            "SELECT * FROM system.segments",
            "SELECT count(*) FROM rollups",
            "SELECT count(*) FROM forecast('cpu_user', '1h')",
        ];
        for statement in statements {
            runtime.block_on(engine.collect(statement)).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        store.compact().unwrap();
        let files = RealDisk.list(&folder.path().join("samples/2026-01")).unwrap();
        assert_eq!(files.len(), 1, "those that were merged are gone: {files:?}");
    }
}
