//! Where a statement is answered: by the store in the data directory or by a running server.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::global::Global;
use super::node::Node;
use super::remote::Remote;
use crate::query::STATEMENT_STACK;
use crate::world::free_bytes;

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
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STATEMENT_STACK).build()?;
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

    /// Bytes free on the disk of the data directory; `None` of a server elsewhere.
    pub fn free_bytes(&self) -> Option<u64> {
        let Source::Here { node, .. } = self else { return None };
        free_bytes(node.store.dir())
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
