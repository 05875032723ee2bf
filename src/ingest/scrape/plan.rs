//! The sources that `from.prometheus` makes: one a target.

use std::collections::BTreeSet;

use super::scraper::Scraper;
use super::spec::PrometheusSpec;
use super::target::Target;
use crate::ingest::source::{Planned, SourceSpec};
use crate::world::World;

impl PrometheusSpec {
    /// A source for each target: `ID` for one that is written, `ID/host:port` for several.
    pub fn plan(&self, spec: &SourceSpec, world: &World) -> Vec<Planned> {
        let joined = self.with_labels(&spec.labels);
        let mut taken = BTreeSet::new();
        let planned = |target: Target| {
            let mut planned = SourceSpec { labels: Vec::new(), ..spec.clone() };
            if self.targets.len() > 1 {
                let place = place(&target, &mut taken);
                planned.id = format!("{}/{place}", spec.id);
                planned.name = format!("{} {place}", spec.name);
            }
            let scraper = Scraper::new(&joined, target, planned.timeout, world);
            Planned { spec: planned, source: Box::new(scraper) }
        };
        joined.targets(&spec.id).into_iter().map(planned).collect()
    }
}

/// What a target is called: `host:port`, where that is taken with its path, where that is with a number.
fn place(target: &Target, taken: &mut BTreeSet<String>) -> String {
    let long = format!("{}{}", target.address, &target.url[url::Position::BeforePath..]);
    let numbered = (2..).map(|number| format!("{long}#{number}"));
    let mut names = [target.address.clone(), long.clone()].into_iter().chain(numbered);
    let name = names.find(|name| !taken.contains(name)).unwrap_or(long.clone());
    taken.insert(name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::WrittenSource;

    fn planned(written: &str) -> Vec<(String, SourceSpec)> {
        let source: WrittenSource = toml::from_str(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(source.faults(), []);
        source.plan(&World::real()).into_iter().map(|planned| (planned.spec.id.clone(), planned.spec)).collect()
    }

    #[test]
    fn each_target_is_a_source() {
        let ids = |targets: &str| -> Vec<String> {
            let written = format!("id = 'n'\nfrom.prometheus = {{ targets = {targets} }}");
            planned(&written).into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(ids("['h:1']"), ["n"]);
        assert_eq!(ids("['h:1', 'i:1', 'h:1']"), ["n/h:1", "n/i:1"]);
        assert_eq!(ids("['h:1', 'http://h:1/b', 'h']"), ["n/h:1", "n/h:1/b", "n/h:80"]);
        let spec = &planned("id = 'n'\nlabels = { env = 'p' }\nfrom.prometheus = { targets = ['h:1'] }")[0].1;
        assert_eq!((spec.kind, spec.interval.as_secs(), spec.timeout.as_secs()), ("prometheus", 60, 10));
        assert!(spec.labels.is_empty(), "they are the target's");
    }
}
