//! collectd's JSON, as its plugin `write_http` sends it with `Format "JSON"`.
//!
//! ```json
//! [{"values": [12, 34], "dstypes": ["derive", "derive"], "dsnames": ["rx", "tx"], "time": 1700000000.123,
//!   "interval": 10, "host": "web-1", "plugin": "interface", "plugin_instance": "eth0", "type": "if_octets",
//!   "type_instance": ""}]
//! ```
//! Each value is a sample of `collectd_{plugin}_{type}_{dsname}`, without the last where it is `value`, with the labels
//! `host`, `plugin_instance` and `type_instance`, those that say something. `counter` and `derive` are counters: with
//! `StoreRates true` collectd sends rates under those names, so leave it off. Values of `null` are what collectd does not
//! know, and notifications are no samples: both are passed over.

use serde::Deserialize;

use super::json_array::each_of_array;
use super::{About, Gather, ReadError, names};
use crate::flow::Refusal;
use crate::model::{Kind, Timestamp};

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    values: Vec<Option<f64>>,
    #[serde(default)]
    dstypes: Vec<String>,
    #[serde(default)]
    dsnames: Vec<String>,
    /// Seconds since 1970, to the millisecond.
    #[serde(default)]
    time: f64,
    #[serde(default)]
    host: String,
    #[serde(default)]
    plugin: String,
    #[serde(default)]
    plugin_instance: String,
    #[serde(default, rename = "type")]
    of_type: String,
    #[serde(default)]
    type_instance: String,
}

/// Reads an array of value lists, one after another. The line of a fault is the place of its list in the array, from 1.
///
/// # Errors
/// A body that is no such array, before anything of it is taken.
pub fn read_collectd(body: &[u8], gather: &mut Gather<'_>) -> Result<(), ReadError> {
    let mut line = 0;
    each_of_array(body, |list: List| {
        line += 1;
        list.read(line, gather)
    })
}

impl List {
    fn read(&self, line: u64, gather: &mut Gather<'_>) -> Result<(), Refusal> {
        if self.values.is_empty() {
            return Ok(());
        }
        if self.plugin.is_empty() || self.of_type.is_empty() {
            gather.faults.add(line, "a value list has no `plugin` or no `type`");
            return Ok(());
        }
        let labels = [
            ("host", self.host.as_str()),
            ("plugin_instance", self.plugin_instance.as_str()),
            ("type_instance", self.type_instance.as_str()),
        ];
        let labels: Vec<(&str, &str)> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let time = Timestamp::from_millis((self.time * 1e3).round() as i64);
        for (at, value) in self.values.iter().enumerate() {
            let Some(value) = *value else { continue };
            let of = self.dstypes.get(at).map(String::as_str);
            let kind = if matches!(of, Some("counter" | "derive")) { Kind::Counter } else { Kind::Gauge };
            let metric = self.metric(self.dsnames.get(at).map_or("value", |name| name));
            gather.sample_about(line, &metric, &labels, About { kind: Some(kind), ..About::default() }, time, value)?;
        }
        Ok(())
    }

    fn metric(&self, dsname: &str) -> String {
        let mut name = String::from("collectd_");
        names::push_metric(&format!("{}_{}", self.plugin, self.of_type), &mut name);
        if dsname != "value" {
            name.push('_');
            names::push_label(dsname, &mut name);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Faults;
    use crate::ingest::gather::testing::{Noise, Recorder, all_times};

    fn read(body: &[u8]) -> (Recorder, Result<(), ReadError>, Faults) {
        let recorder = Recorder::default();
        let mut gather = Gather::new(&recorder, all_times());
        let read = read_collectd(body, &mut gather);
        gather.flush().unwrap();
        let faults = gather.faults;
        (recorder, read, faults)
    }

    const BODY: &str = r#"[{"values":[12,34],"dstypes":["derive","derive"],"dsnames":["rx","tx"],"time":1700000000.123,
        "interval":10,"host":"web-1","plugin":"interface","plugin_instance":"eth0","type":"if_octets","type_instance":""},
        {"message":"gone","severity":"FAILURE","time":1700000000.1,"host":"web-1"},
        {"values":[null,0.5],"dstypes":["gauge","gauge"],"dsnames":["value","value"],"time":1700000000,"plugin":"cpu","type":"percent","host":"","type_instance":"user"},
        {"values":[1],"time":1700000000}]"#;

    #[test]
    fn values_are_samples() {
        let (recorder, read, faults) = read(BODY.as_bytes());
        read.unwrap();
        let millis = 1_700_000_000_123_000_000;
        let told = [
            (r#"collectd_interface_if_octets_rx{host="web-1",plugin_instance="eth0"}"#, millis, 12.0),
            (r#"collectd_interface_if_octets_tx{host="web-1",plugin_instance="eth0"}"#, millis, 34.0),
            (r#"collectd_cpu_percent{type_instance="user"}"#, 1_700_000_000_000_000_000, 0.5),
        ];
        assert_eq!(recorder.samples(), told.map(|(series, time, value)| (series.to_owned(), time, value)));
        let kinds: Vec<Kind> = recorder.defs.lock().unwrap().iter().map(|def| def.kind).collect();
        assert_eq!(kinds, [Kind::Counter, Kind::Counter, Kind::Gauge]);
        assert_eq!((faults.count, faults.first[0].line), (1, 4));
    }

    #[test]
    fn what_is_no_array_of_lists_is_refused() {
        for body in ["", "{}", "PUTVAL a/b/c 10:1", "[1]", r#"[{"values":["a"]}]"#] {
            assert!(matches!(read(body.as_bytes()).1, Err(ReadError::Json(_))), "{body}");
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise(4);
        (0..5000).for_each(|_| drop(read(&noise.bend(BODY.as_bytes()))));
    }
}
