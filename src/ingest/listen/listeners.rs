//! The listeners there are: bound, started, told of, stopped.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

use super::feed::Feed;
use super::meters::{ListenerStats, Meters};
use super::patient::Patient;
use super::queue::{QUEUE, Queue};
use super::receive::{Sockets, receive};
use super::spec::{ListenSpec, Taken};
use super::worker::Worker;
use crate::flow::Sources;
use crate::world::World;

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot take {listener} on {address}: choose another address and port")]
pub struct ListenError {
    pub listener: &'static str,
    pub address: String,
    source: std::io::Error,
}

/// Listeners that run. They stop at [`Listeners::stop`], or when this is dropped.
#[derive(Default)]
pub struct Listeners {
    told: Arc<Mutex<Vec<Arc<Meters>>>>,
    running: Vec<Running>,
}

struct Running {
    stop: watch::Sender<bool>,
    stopping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Listeners {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells what every listener did, whenever it is called.
    pub fn teller(&self) -> Arc<dyn Fn() -> Vec<ListenerStats> + Send + Sync> {
        let told = self.told.clone();
        Arc::new(move || {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
            told.iter().map(|meters| meters.stats()).collect()
        })
    }

    /// Listens from now on to what `spec` names. Samples are of the sources `statsd` and `graphite`.
    ///
    /// # Errors
    /// An address that cannot be had; those before it are listened to.
    pub fn start(
        &mut self,
        spec: &ListenSpec,
        world: &World,
        sources: &dyn Sources,
        taken: &Taken,
    ) -> Result<(), ListenError> {
        let clock = &world.clock;
        if let Some(address) = &spec.statsd {
            self.start_one(
                "statsd",
                address,
                Feed::statsd(spec, clock.now().floor(1_000_000)),
                spec,
                world,
                sources,
                taken,
            )?;
        }
        if let Some(address) = &spec.graphite {
            self.start_one("graphite", address, Feed::graphite(), spec, world, sources, taken)?;
        }
        Ok(())
    }

    /// Names and addresses of those that run.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().map(|meters| (meters.listener, meters.address)).collect()
    }

    #[expect(clippy::too_many_arguments, reason = "private, and called with all that is at hand")]
    fn start_one(
        &mut self,
        listener: &'static str,
        address: &str,
        feed: Feed,
        spec: &ListenSpec,
        world: &World,
        sources: &dyn Sources,
        taken: &Taken,
    ) -> Result<(), ListenError> {
        let fault = |source| ListenError { listener, address: address.to_owned(), source };
        let sockets = bind(address, spec.udp_buffer.as_u64()).map_err(fault)?;
        let bound = sockets.udp.local_addr().map_err(fault)?;
        let buffer = socket2::SockRef::from(&sockets.udp).recv_buffer_size().unwrap_or(0);
        let meters = Arc::new(Meters::new(listener, bound, buffer as u64));
        let (chunks, waiting) = mpsc::channel(QUEUE);
        let (stop, told_to_stop) = watch::channel(false);
        let stopping = Arc::new(AtomicBool::new(false));
        let intake = Patient { inner: sources.source(listener), stopping: stopping.clone() };
        let worker = Worker::new(feed, intake, world.clock.clone(), taken.clone(), meters.clone());
        let queue = Queue { chunks, meters: meters.clone() };
        let connections = spec.connections;
        let reader = thread(format!("{listener}-read"), move |runtime| {
            if let Err(error) = runtime.block_on(receive(sockets, queue, connections, told_to_stop)) {
                tracing::error!(%error, listener, "the listener has ended");
            }
        });
        let parser = thread(listener.to_owned(), move |runtime| runtime.block_on(worker.run(waiting)));
        let threads = vec![reader.map_err(fault)?, parser.map_err(fault)?];
        self.running.push(Running { stop, stopping, threads });
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(meters);
        Ok(())
    }

    /// Reads what the kernel holds, stores what is held, and ends. May wait for the store.
    pub fn stop(&mut self) {
        for Running { stop, stopping, threads } in self.running.drain(..) {
            stopping.store(true, Ordering::Relaxed);
            stop.send_replace(true);
            for thread in threads {
                // One that panicked has said so.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A thread with a runtime of its own: what others do on theirs holds up no packets.
fn thread(name: String, work: impl FnOnce(&Runtime) + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name).spawn(move || work(&runtime))
}

/// How often a free port is looked for that both transports have.
const TRIES: usize = 20;

/// UDP and TCP of one port.
fn bind(address: &str, buffer: u64) -> std::io::Result<Sockets> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind(address)?;
        let bound = tcp.local_addr()?;
        match UdpSocket::bind(bound) {
            Ok(udp) => {
                tcp.set_nonblocking(true)?;
                udp.set_nonblocking(true)?;
                // A smaller one than was asked for is told in `system.listeners`.
                let _ =
                    socket2::SockRef::from(&udp).set_recv_buffer_size(usize::try_from(buffer).unwrap_or(usize::MAX));
                return Ok(Sockets { udp, tcp });
            }
            // Asked for any port, the one that TCP was given may be taken.
            Err(_) if address.ends_with(":0") && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}
