//! `route`: each series goes one way: that of the first route which fits it, else `rest`. Stages behind it name the way,
//! as in `inputs = ["by-kind.web"]`.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::choose::Choose;
use super::series::SeriesSpec;
use crate::model::{Sample, SeriesDef};

/// The way of what no route fits.
const REST: &str = "rest";

/// `apply.route`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    pub routes: Routes,
}

/// Routes by name, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Routes(pub Vec<(String, SeriesSpec)>);

impl<'de> Deserialize<'de> for Routes {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Routes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("routes, as in { web = { metrics = [\"http_*\"] } }")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Routes, A::Error> {
                let mut routes = Vec::new();
                while let Some(route) = map.next_entry()? {
                    routes.push(route);
                }
                Ok(Routes(routes))
            }
        }

        from.deserialize_map(InOrder)
    }
}

impl RouteSpec {
    pub(super) fn fault(&self) -> Option<String> {
        let routes = &self.routes.0;
        if routes.is_empty() {
            return Some("routes has none: write one, as in routes = { web = { metrics = [\"http_*\"] } }".into());
        }
        if routes.iter().any(|(name, _)| name == REST) {
            return Some("routes: `rest` is the way of what no route fits: name this one otherwise".into());
        }
        let fault = routes.iter().find_map(|(name, _)| super::pipeline::name_fault(name));
        fault.map(|fault| format!("routes: {fault}"))
    }

    /// The names of its ways as stages behind it write them; `stage` is its own.
    pub(super) fn ways(&self, stage: &str) -> Vec<String> {
        let names = self.routes.0.iter().map(|(name, _)| &**name).chain([REST]);
        names.map(|name| format!("{stage}.{name}")).collect()
    }

    /// What goes the way at a place of [`RouteSpec::ways`].
    pub(super) fn way(&self, place: usize) -> Arc<dyn Choose> {
        Arc::new(Way { routes: self.routes.0.iter().map(|(_, series)| series.clone()).collect(), place })
    }
}

struct Way {
    routes: Vec<SeriesSpec>,
    place: usize,
}

impl Choose for Way {
    fn series(&self, def: &SeriesDef) -> u64 {
        let first = self.routes.iter().position(|route| route.fits(def)).unwrap_or(self.routes.len());
        u64::from(first == self.place)
    }

    /// What goes another way is not lost, so it is not counted.
    #[inline]
    fn sample(&self, known: u64, _sample: Sample) -> Result<(), &'static str> {
        if known == 1 { Ok(()) } else { Err("") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use crate::stages::bench::spec;

    #[test]
    fn the_first_route_that_fits_counts_in_the_order_of_the_file() {
        let spec: RouteSpec = spec(
            "[routes]\nweb = { metrics = ['http_*'] }\nall-db = { labels = { host = 'db-*' } }\nalso = { metrics = ['*_a'] }",
        );
        assert_eq!(spec.ways("r"), ["r.web", "r.all-db", "r.also", "r.rest"]);
        let way = |metric: &str, host: &str| -> Vec<usize> {
            let def = SeriesDef::new(metric, Labels::new([("host", host)]));
            (0..4).filter(|&place| spec.way(place).series(&def) == 1).collect()
        };
        for (metric, host, wanted) in
            [("http_a", "db-1", 0), ("cpu_a", "db-1", 1), ("cpu_a", "x", 2), ("cpu", "x", 3), ("cpu", "", 3)]
        {
            assert_eq!(way(metric, host), [wanted], "{metric} {host}");
        }
    }

    #[test]
    fn routes_that_cannot_be_are_faults() {
        for (text, told) in [
            ("routes = {}", "routes has none"),
            ("routes = { rest = {} }", "`rest` is the way"),
            ("routes = { 'a.b' = {} }", "`a.b` is no name"),
        ] {
            let fault = spec::<RouteSpec>(text).fault();
            assert!(fault.as_ref().is_some_and(|fault| fault.contains(told)), "{fault:?}");
        }
    }
}
