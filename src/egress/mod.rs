//! Couriers: what pipelines send goes to files, to stdout and over HTTP, one file a kind.

mod forward;
mod lines;
mod local;
mod remote_write;
mod upstreams;
mod web;
mod webhook;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::flow::{Courier, Couriers, Delivery, Names, Outbox};
use crate::world::World;

/// Writes lines for people, as to stdout.
pub type Print = Arc<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Opens the couriers of all kinds.
pub struct Egress {
    world: World,
    print: Print,
}

impl Egress {
    pub fn new(world: World, print: Print) -> Self {
        Egress { world, print }
    }
}

impl Couriers for Egress {
    fn open(&self, sink: &str, delivery: &Delivery, names: Names, outbox: Arc<Outbox>) -> io::Result<Box<dyn Courier>> {
        match delivery {
            Delivery::File(spec) => local::open_file(sink, spec, names, outbox, &self.world),
            Delivery::Stdout => local::open_stdout(sink, self.print.clone(), names, outbox),
            Delivery::Webhook(spec) => webhook::open(sink, spec, names, outbox, &self.world),
            Delivery::Forward(spec) => forward::open(sink, spec, names, outbox, &self.world),
        }
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
