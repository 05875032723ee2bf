//! Links: how what one stage makes reaches the threads of the next.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::event::{Event, Step};
use super::stage::Shard;
use crate::model::Batch;

/// The way from one thread of a stage to the stage behind it.
#[derive(Clone)]
pub(super) enum Outlet {
    /// To one thread.
    One(Sender<Step>),
    /// To the threads of all shards, each its series.
    Split(Vec<Sender<Step>>),
}

impl Outlet {
    /// Waits where the other end has no room. That end lives as long as the graph.
    pub fn send(&self, step: Step) {
        match self {
            Outlet::One(link) => drop(link.send(step)),
            Outlet::Split(links) if links.len() == 1 => drop(links[0].send(step)),
            Outlet::Split(links) => {
                for (link, part) in links.iter().zip(parts(&step, links.len())) {
                    let _ = link.send(part);
                }
            }
        }
    }
}

pub(super) fn send_all(outlets: &[Outlet], step: Step) {
    let Some((last, others)) = outlets.split_last() else { return };
    others.iter().for_each(|outlet| outlet.send(step.clone()));
    last.send(step);
}

/// A step by shard. Rows go to the first, which must see all of a table.
fn parts(step: &Step, of: usize) -> Vec<Step> {
    let mut parts: Vec<Step> = vec![Step::with_capacity(step.len()); of];
    let mut each = |batch: &Arc<Batch>, event: fn(Arc<Batch>) -> Event| {
        for (part, batch) in parts.iter_mut().zip(split(batch, of)) {
            if !batch.is_empty() {
                part.push(event(Arc::new(batch)));
            }
        }
    };
    for event in step {
        match event {
            Event::Batch(batch) => each(batch, Event::Batch),
            Event::Late(batch) => each(batch, Event::Late),
            Event::Ahead(batch) => each(batch, Event::Ahead),
            _ => {}
        }
    }
    for event in step {
        match event {
            Event::Rows(_) => parts[0].push(event.clone()),
            control if control.is_control() => parts.iter_mut().for_each(|part| part.push(control.clone())),
            _ => {}
        }
    }
    parts
}

/// The batch by shard: a series is always in the same one.
fn split(batch: &Batch, of: usize) -> Vec<Batch> {
    let mut parts = vec![batch.part(batch.len() / of + 1); of];
    for (series, sample) in batch.iter() {
        parts[series.index() % of].push(series, sample.time, sample.value);
    }
    debug_assert!((0..of).all(|number| parts[number].series.iter().all(|&s| Shard { number, of }.has(s))));
    parts
}
