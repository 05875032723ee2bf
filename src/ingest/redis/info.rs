//! The answer to `INFO all`: lines `key:value` under headings, and which of them are metrics.

use hashbrown::HashMap;

use crate::ingest::About;
use crate::ingest::source::Readings;
use crate::model::Kind;

/// Lines that are one number each: key, metric, help. Names as other collectors of Redis have them.
#[rustfmt::skip]
const NUMBERS: &[(&str, &str, &str)] = &[
    ("uptime_in_seconds", "redis_uptime_in_seconds", "Time since the server started."),
    ("connected_clients", "redis_connected_clients", "Clients, without replicas."),
    ("blocked_clients", "redis_blocked_clients", "Clients that wait in a blocking command."),
    ("maxclients", "redis_max_clients", "Clients there may be."),
    ("used_memory", "redis_memory_used_bytes", "Memory that the server has allocated."),
    ("used_memory_rss", "redis_memory_used_rss_bytes", "Memory as the operating system sees it."),
    ("used_memory_peak", "redis_memory_used_peak_bytes", "Most memory it had allocated."),
    ("used_memory_overhead", "redis_memory_used_overhead_bytes", "Memory for other things than data."),
    ("used_memory_dataset", "redis_memory_used_dataset_bytes", "Memory for data."),
    ("used_memory_lua", "redis_memory_used_lua_bytes", "Memory of scripts' engines."),
    ("used_memory_scripts", "redis_memory_used_scripts_bytes", "Memory of scripts."),
    ("total_system_memory", "redis_total_system_memory_bytes", "Memory of the machine."),
    ("maxmemory", "redis_memory_max_bytes", "The setting maxmemory; 0 is no limit."),
    ("mem_fragmentation_ratio", "redis_mem_fragmentation_ratio", "Memory as the system sees it over memory allocated."),
    ("mem_fragmentation_bytes", "redis_mem_fragmentation_bytes", "The difference of the two."),
    ("allocator_frag_ratio", "redis_allocator_frag_ratio", "Fragmentation within the allocator."),
    ("mem_clients_normal", "redis_mem_clients_normal_bytes", "Memory of clients' buffers."),
    ("loading", "redis_loading_dump_file", "1 while data are being loaded."),
    ("rdb_changes_since_last_save", "redis_rdb_changes_since_last_save", "Changes since the last save."),
    ("rdb_bgsave_in_progress", "redis_rdb_bgsave_in_progress", "1 while a save is under way."),
    ("rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds", "When it was last saved."),
    ("rdb_last_bgsave_time_sec", "redis_rdb_last_bgsave_duration_seconds", "How long the last save took."),
    ("aof_enabled", "redis_aof_enabled", "1 where the append-only file is on."),
    ("aof_rewrite_in_progress", "redis_aof_rewrite_in_progress", "1 while that file is being rewritten."),
    ("aof_current_size", "redis_aof_current_size_bytes", "Size of that file."),
    ("total_connections_received", "redis_connections_received_total", "Connections taken."),
    ("rejected_connections", "redis_rejected_connections_total", "Connections refused because of maxclients."),
    ("total_commands_processed", "redis_commands_processed_total", "Commands done."),
    ("instantaneous_ops_per_sec", "redis_instantaneous_ops_per_sec", "Commands a second, just now."),
    ("total_net_input_bytes", "redis_net_input_bytes_total", "Bytes received."),
    ("total_net_output_bytes", "redis_net_output_bytes_total", "Bytes sent."),
    ("expired_keys", "redis_expired_keys_total", "Keys that expired."),
    ("expired_stale_perc", "redis_expired_stale_percentage", "Keys that have expired but are still there, estimated, in percent."),
    ("evicted_keys", "redis_evicted_keys_total", "Keys evicted because of maxmemory."),
    ("evicted_clients", "redis_evicted_clients_total", "Clients evicted because of maxmemory-clients."),
    ("keyspace_hits", "redis_keyspace_hits_total", "Lookups of keys that were there, the collector's own among them."),
    ("keyspace_misses", "redis_keyspace_misses_total", "Lookups of keys that were not there."),
    ("pubsub_channels", "redis_pubsub_channels", "Channels with subscribers."),
    ("pubsub_patterns", "redis_pubsub_patterns", "Patterns with subscribers."),
    ("total_error_replies", "redis_error_replies_total", "Errors answered."),
    ("used_cpu_sys", "redis_cpu_sys_seconds_total", "CPU time in the kernel."),
    ("used_cpu_user", "redis_cpu_user_seconds_total", "CPU time outside the kernel."),
    ("connected_slaves", "redis_connected_slaves", "Replicas connected."),
    ("master_repl_offset", "redis_master_repl_offset", "Bytes of the replication stream so far."),
    ("slave_repl_offset", "redis_slave_repl_offset", "Bytes of it that this replica has."),
    ("master_last_io_seconds_ago", "redis_master_last_io_seconds_ago", "Time since the primary was last heard."),
    ("master_sync_in_progress", "redis_master_sync_in_progress", "1 while the primary's data are being taken over."),
    ("sync_full", "redis_replica_resyncs_full_total", "Whole copies given to replicas."),
    ("sync_partial_err", "redis_replica_partial_resync_denied_total", "Partial copies that were refused."),
    ("cluster_enabled", "redis_cluster_enabled", "1 where cluster mode is on."),
];

/// Lines that say `ok` or `up` where all is well.
#[rustfmt::skip]
const STATES: &[(&str, &str, &str)] = &[
    ("rdb_last_bgsave_status", "redis_rdb_last_bgsave_status", "1 where the last save went well."),
    ("aof_last_write_status", "redis_aof_last_write_status", "1 where the last write to the append-only file went well."),
    ("aof_last_bgrewrite_status", "redis_aof_last_bgrewrite_status", "1 where its last rewrite went well."),
    ("master_link_status", "redis_master_link_up", "1 where the primary is connected."),
];

/// One answer, by key.
pub(in crate::ingest) struct Info<'t> {
    lines: HashMap<&'t str, &'t str>,
    /// In the order they came, for lines that are a series each.
    ordered: Vec<(&'t str, &'t str)>,
}

impl<'t> Info<'t> {
    pub(in crate::ingest) fn parse(text: &'t str) -> Self {
        let line = |line: &'t str| line.trim_end().split_once(':').filter(|(key, _)| !key.starts_with('#'));
        let ordered: Vec<(&str, &str)> = text.lines().filter_map(line).collect();
        Info { lines: ordered.iter().copied().collect(), ordered }
    }

    pub(super) fn text(&self, key: &str) -> Option<&'t str> {
        self.lines.get(key).copied()
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Whether OBJECT FREQ is answered.
    pub(super) fn counts_use(&self) -> bool {
        self.text("maxmemory_policy").is_some_and(|policy| policy.ends_with("-lfu"))
    }

    pub(in crate::ingest) fn put(&self, readings: &mut Readings) {
        for &(key, metric, help) in NUMBERS {
            if let Some(value) = self.number(key).filter(|value| key != "rdb_last_bgsave_time_sec" || *value >= 0.0) {
                readings.put(metric, &[], about(metric, help), value);
            }
        }
        for &(key, metric, help) in STATES {
            if let Some(state) = self.text(key) {
                readings.put(metric, &[], about(metric, help), f64::from(u8::from(["ok", "up"].contains(&state))));
            }
        }
        if let (Some(used), Some(most)) =
            (self.number("used_memory"), self.number("maxmemory").filter(|most| *most > 0.0))
        {
            let metric = "redis_memory_used_ratio";
            readings.put(metric, &[], about(metric, "Memory allocated as a share of maxmemory."), used / most);
        }
        let labels = [
            ("redis_version", "redis_version"),
            ("redis_mode", "redis_mode"),
            ("role", "role"),
            ("maxmemory_policy", "maxmemory_policy"),
        ];
        let labels: Vec<(&str, &str)> =
            labels.into_iter().filter_map(|(label, key)| Some((label, self.text(key)?))).collect();
        readings.put("redis_instance_info", &labels, about("redis_instance_info", "1, with what it is."), 1.0);
        self.ordered.iter().for_each(|(key, value)| put_series(readings, key, value));
    }
}

/// A line that is a series of its own: a database, command, error or replica.
fn put_series(readings: &mut Readings, key: &str, line: &str) {
    let field = |name: &str| line.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    let mut put = |metric: &str, labels: &[(&str, &str)], name: &str, scale: f64, help: &'static str| {
        let value = field(name).and_then(|text| text.parse::<f64>().ok()).filter(|value| value.is_finite());
        if let Some(value) = value {
            readings.put(metric, labels, about(metric, help), value / scale);
        }
    };
    if let Some(number) = key.strip_prefix("db").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit())) {
        let labels = [("db", number)];
        put("redis_db_keys", &labels, "keys", 1.0, "Keys of the database.");
        put("redis_db_keys_expiring", &labels, "expires", 1.0, "Keys that will expire.");
        put("redis_db_avg_ttl_seconds", &labels, "avg_ttl", 1e3, "Average time until they do.");
    } else if let Some(command) = key.strip_prefix("cmdstat_") {
        let labels = [("cmd", command)];
        put("redis_commands_total", &labels, "calls", 1.0, "Runs of the command.");
        put("redis_commands_duration_seconds_total", &labels, "usec", 1e6, "Time they took.");
        put("redis_commands_rejected_calls_total", &labels, "rejected_calls", 1.0, "Runs refused before they began.");
        put("redis_commands_failed_calls_total", &labels, "failed_calls", 1.0, "Runs that failed.");
    } else if let Some(error) = key.strip_prefix("errorstat_") {
        put("redis_errors_total", &[("err", error)], "count", 1.0, "Errors answered, by kind.");
    } else if let Some(number) = key.strip_prefix("slave").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    {
        let text = |name| field(name).unwrap_or_default();
        let labels =
            [("slave", number), ("slave_ip", text("ip")), ("slave_port", text("port")), ("slave_state", text("state"))];
        put("redis_connected_slave_offset_bytes", &labels, "offset", 1.0, "Bytes of the stream that the replica has.");
        put("redis_connected_slave_lag_seconds", &labels, "lag", 1.0, "Time since the replica was last heard.");
    }
}

/// Kind and unit as the name tells.
pub(super) fn about(metric: &str, help: &'static str) -> About<'static> {
    let kind = if metric.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
    let name = metric.strip_suffix("_total").unwrap_or(metric);
    let unit = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or_default();
    About { kind: Some(kind), unit, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut readings = Readings::default();
        Info::parse(text).put(&mut readings);
        readings.lines()
    }

    #[test]
    fn numbers_states_and_series_of_their_own() {
        let text = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:50\r\nmaxmemory:200\r\n\
            maxmemory_policy:allkeys-lfu\r\nrdb_last_bgsave_status:err\r\nrdb_last_bgsave_time_sec:-1\r\n\
            used_cpu_sys:0.351662\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=14,lag=1\r\n\
            slave_repl_offset:7\r\ncmdstat_config|get:calls=2,usec=42,usec_per_call=21.00,rejected_calls=0,failed_calls=1\r\n\
            errorstat_NOPERM:count=3\r\ndb0:keys=2,expires=1,avg_ttl=1500\r\n";
        let slave = r#"{slave="0",slave_ip="10.0.0.2",slave_port="6379",slave_state="online"}"#;
        let wanted = [
            "redis_memory_used_bytes 50".to_owned(),
            "redis_memory_max_bytes 200".into(),
            "redis_cpu_sys_seconds_total 0.351662".into(),
            "redis_slave_repl_offset 7".into(),
            "redis_rdb_last_bgsave_status 0".into(),
            "redis_memory_used_ratio 0.25".into(),
            r#"redis_instance_info{redis_version="7.0.15",role="master",maxmemory_policy="allkeys-lfu"} 1"#.into(),
            format!("redis_connected_slave_offset_bytes{slave} 14"),
            format!("redis_connected_slave_lag_seconds{slave} 1"),
            r#"redis_commands_total{cmd="config|get"} 2"#.into(),
            r#"redis_commands_duration_seconds_total{cmd="config|get"} 0.000042"#.into(),
            r#"redis_commands_rejected_calls_total{cmd="config|get"} 0"#.into(),
            r#"redis_commands_failed_calls_total{cmd="config|get"} 1"#.into(),
            r#"redis_errors_total{err="NOPERM"} 3"#.into(),
            r#"redis_db_keys{db="0"} 2"#.into(),
            r#"redis_db_keys_expiring{db="0"} 1"#.into(),
            r#"redis_db_avg_ttl_seconds{db="0"} 1.5"#.into(),
        ];
        assert_eq!(lines(text), wanted);
        assert!(Info::parse(text).counts_use());
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let text = "used_memory:many\nmaxmemory:nan\ndb0:keys\ndbx:keys=1\ncmdstat_get:calls=x,,=\n:\nx\n\u{0}:1";
        assert_eq!(lines(text), ["redis_instance_info 1"]);
        assert!(!Info::parse(text).counts_use());
    }
}
