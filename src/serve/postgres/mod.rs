//! The wire protocol of PostgreSQL: `psql`, drivers and dashboards ask as they would ask a database.

mod convert;
mod copy;
mod service;
mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::tokio::process_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

use self::service::Handlers;
use crate::query::Engine;

/// How often is looked whether a client is there that has sent more than was read.
const LOOK: Duration = Duration::from_millis(200);
/// Clients at once; others wait to be let in.
const CLIENTS: usize = 256;

/// Listens from [`Postgres::bind`] on.
pub(super) struct Postgres {
    listener: TcpListener,
    address: SocketAddr,
    engine: Arc<Engine>,
}

impl Postgres {
    pub async fn bind(address: &str, engine: Arc<Engine>) -> std::io::Result<Postgres> {
        let told = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("PostgreSQL's protocol (`--pg`) at {address}: {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(told)?;
        Ok(Postgres { address: listener.local_addr().map_err(told)?, listener, engine })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the other end of `stopped` is gone; statements under way are ended.
    pub async fn run(self, mut stopped: Receiver<()>) {
        let handlers = Arc::new(Handlers::new(self.engine));
        let room = Arc::new(Semaphore::new(CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                changed = stopped.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                Some(_) = clients.join_next() => continue,
                accepted = async {
                    // Never closed.
                    let permit = room.clone().acquire_owned().await.ok();
                    (self.listener.accept().await, permit)
                } => accepted,
            };
            match accepted {
                (Ok((socket, client)), permit) => {
                    let handlers = handlers.clone();
                    clients.spawn(async move {
                        let _permit = permit;
                        if let Err(error) = serve(socket, handlers).await {
                            tracing::debug!(%error, %client, "a client of PostgreSQL's protocol is gone");
                        }
                    });
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a client of PostgreSQL's protocol was not let in");
                    // As when there are no more file descriptors: it will not be better at once.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        clients.shutdown().await;
    }
}

/// Serves a client until it goes. A statement of one that went before its end is ended.
async fn serve(socket: TcpStream, handlers: Arc<Handlers>) -> std::io::Result<()> {
    // Rows go out as they come, not when the next acknowledgement does.
    socket.set_nodelay(true)?;
    let socket = socket.into_std()?;
    let watched = TcpStream::from_std(socket.try_clone()?)?;
    tokio::select! {
        served = process_socket(TcpStream::from_std(socket)?, None, handlers) => served,
        () = gone(&watched) => Ok(()),
    }
}

/// Is done when the other side has closed the connection: nobody reads from it while a statement runs.
async fn gone(socket: &TcpStream) {
    while socket.peek(&mut [0]).await.is_ok_and(|bytes| bytes > 0) {
        // A message that waits to be read; behind it nothing is seen.
        tokio::time::sleep(LOOK).await;
    }
}
