//! The registry beside a plain one, over random series; and what a million take.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::Labels;
use crate::world::Chance;

/// Series with few names, some values that many share and some of their own.
fn random_def(chance: &Chance, at: u32) -> SeriesDef {
    let labels = (0..chance.below(4)).map(|_| {
        let name = format!("l{}", chance.below(5));
        let value = if chance.below(3) == 0 { format!("own-{at}") } else { format!("v{}", chance.below(6)) };
        (name, value)
    });
    let measurement = format!("m{}", chance.below(4));
    let mut def = SeriesDef::new(format!("{measurement}_f{}", chance.below(4)), Labels::new(labels));
    if chance.below(2) == 0 {
        def.measurement_len = measurement.len() as u16;
    }
    def.unit = if chance.below(2) == 0 { "bytes".into() } else { "".into() };
    def
}

#[test]
fn it_says_what_a_plain_map_says() {
    for seed in 0..60 {
        let chance = Chance::seeded(seed);
        let registry = Registry::default();
        let mut plain: Vec<SeriesDef> = Vec::new();
        let mut by_identity: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for at in 0..400 {
            let def = random_def(&chance, at);
            let known = by_identity.get(&def.identity()).copied();
            assert_eq!(registry.find(&def), known.map(SeriesId), "seed {seed}: {def}");
            let id = known.unwrap_or_else(|| {
                by_identity.insert(def.identity(), plain.len() as u32);
                plain.push(def.clone());
                plain.len() as u32 - 1
            });
            assert_eq!(registry.intern_new(&def), (SeriesId(id), known.is_none()), "seed {seed}: {def}");
        }
        assert_eq!(registry.defs(0..plain.len()), plain, "seed {seed}");
        same_answers(&registry, &plain, seed);
        same_counts(&registry, &plain, seed);
    }
}

fn same_answers(registry: &Registry, plain: &[SeriesDef], seed: u64) {
    let ids: Vec<SeriesId> = (0..plain.len() as u32).map(SeriesId).collect();
    let names: BTreeSet<&str> = plain.iter().flat_map(|def| def.labels.iter().map(|(name, _)| name)).collect();
    assert_eq!(registry.label_names(None), names.iter().copied().collect::<Vec<_>>(), "seed {seed}");
    let keys = names.iter().map(|name| Key::Label(name)).chain([Key::Metric, Key::Label("none")]);
    for key in keys {
        let text = |id: &SeriesId| match key {
            Key::Metric => Some(&*plain[id.index()].metric),
            Key::Label(name) => plain[id.index()].labels.get(name),
        };
        let texts = registry.texts(key, &ids);
        let told = texts.keys.iter().map(|place| place.map(|place| texts.values[place as usize].as_str()));
        assert!(told.eq(ids.iter().map(text)), "seed {seed}: {key:?}");
        let values = registry.values(key, 0);
        assert_eq!(values.len(), registry.distinct(key));
        for (number, value) in values {
            assert_eq!(registry.value(key, &value), Some(number));
            let mut set = SeriesSet::none(plain.len());
            registry.select(key, &[number], &mut set);
            let having = ids.iter().copied().filter(|id| text(id) == Some(&*value));
            assert!(set.iter().eq(having), "seed {seed}: {key:?} = {value}");
        }
    }
    let mut by_metric: Vec<SeriesId> = ids.clone();
    by_metric.sort_by_key(|id| (&plain[id.index()].metric, *id));
    let order = registry.file_order(ids.iter().rev().copied());
    assert!(order.iter().map(|(_, id)| *id).eq(by_metric), "seed {seed}");
    assert!(
        order.iter().all(|(metric, id)| **metric == *plain[id.index()].metric && registry.kind(*id) == Kind::Gauge)
    );
}

fn same_counts(registry: &Registry, plain: &[SeriesDef], seed: u64) {
    for stats in registry.label_stats() {
        let having = plain.iter().filter_map(|def| Some((def, def.labels.get(&stats.label)?)));
        let mut brought: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut values, mut newest) = (BTreeSet::new(), "");
        for (def, value) in having.clone() {
            if values.insert(value) {
                *brought.entry(&def.metric).or_default() += 1;
                newest = value;
            }
        }
        let told = (stats.values, stats.series, stats.metric_values, stats.example.as_str());
        let most = brought.values().copied().max().unwrap();
        assert_eq!(told, (values.len() as u64, having.count() as u64, most, newest), "seed {seed}: {}", stats.label);
        assert_eq!(brought[stats.metric.as_str()], most, "seed {seed}: {}", stats.label);
    }
    for stats in registry.metric_stats() {
        let of_it: Vec<&SeriesDef> = plain.iter().filter(|def| *def.metric == stats.metric).collect();
        let labels: BTreeSet<&str> = of_it.iter().flat_map(|def| def.labels.iter().map(|(name, _)| name)).collect();
        assert_eq!((stats.series, stats.example), (of_it.len() as u64, of_it[of_it.len() - 1].to_string()));
        assert!(stats.labels.iter().eq(labels), "seed {seed}: {}", stats.metric);
        assert_eq!(registry.label_names(Some(&stats.metric)), stats.labels);
    }
    for measurement in (0..5).map(|n| format!("m{n}")) {
        let of_it = plain.iter().filter(|def| def.measurement_len > 0 && def.metric.starts_with(&measurement));
        let fields: BTreeSet<&str> = of_it.map(|def| &def.metric[measurement.len() + 1..]).collect();
        let told = registry.measurement(&measurement).map_or_else(Vec::new, |told| told.fields);
        assert!(told.iter().eq(&fields), "seed {seed}: {measurement}: {told:?} {fields:?}");
    }
}

#[test]
fn threads_at_once_agree_on_every_number() {
    let registry = Registry::default();
    let count = 3000;
    let found: Vec<Vec<SeriesId>> = std::thread::scope(|scope| {
        let bring = |turn: u32| {
            let registry = &registry;
            // Each in an order of its own: 1009 and 3000 share no factor.
            move || {
                let order = (0..count).map(move |at| (at * 1009 + turn * 700) % count);
                let mut found: Vec<(u32, SeriesId)> = order.map(|at| (at, registry.intern(exploding(at)))).collect();
                found.sort_unstable();
                found.into_iter().map(|(_, id)| id).collect()
            }
        };
        let threads: Vec<_> = (0..4).map(|turn| scope.spawn(bring(turn))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    let mut numbers = found[0].clone();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq((0..count).map(SeriesId)), "dense, each once");
    assert!(found[0].iter().enumerate().all(|(at, &id)| registry.def(id) == exploding(at as u32)));
}

#[test]
fn a_million_series_take_few_bytes_each() {
    type Shape = (&'static str, fn(u32) -> SeriesDef, usize);
    let shapes: [Shape; 2] =
        [("100 hosts, 10,000 metrics", host_and_metric, 80), ("a label with a value for each series", exploding, 160)];
    for (name, def, most) in shapes {
        let registry = Registry::default();
        let count = 200_000;
        (0..count).for_each(|at| assert_eq!(registry.intern(def(at)), SeriesId(at)));
        let each = registry.bytes() / count as usize;
        println!("{name}: {each} bytes a series of {count}");
        assert!(each <= most, "{name}: {each} bytes a series");
    }
}

fn host_and_metric(at: u32) -> SeriesDef {
    let labels = [("host", format!("web-{:03}", at % 100)), ("region", format!("r{}", at % 100 / 25))];
    SeriesDef::new(format!("app_metric_{:05}_value", at / 100), Labels::new(labels))
}

fn exploding(at: u32) -> SeriesDef {
    let labels =
        [("host", format!("web-{:03}", at % 100)), ("request", format!("{:016x}", u64::from(at) * 0x9E37_79B9))];
    SeriesDef::new("app_requests_total", Labels::new(labels))
}
