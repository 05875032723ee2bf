//! Traffic by interface, sockets and what TCP and UDP count: `/proc/net`.

use super::Pass;
use super::files::{Files, Readings};

/// Interfaces that come and go with containers, or carry what another one counts too.
const VIRTUAL: [&str; 5] = ["veth", "cali", "lxc", "ifb", "dummy"];

/// Metric of a column of `/proc/net/dev`, by the column's place.
const TRAFFIC: [(usize, &str); 8] = [
    (0, "system_network_receive_bytes_total"),
    (1, "system_network_receive_packets_total"),
    (2, "system_network_receive_errors_total"),
    (3, "system_network_receive_drops_total"),
    (8, "system_network_transmit_bytes_total"),
    (9, "system_network_transmit_packets_total"),
    (10, "system_network_transmit_errors_total"),
    (11, "system_network_transmit_drops_total"),
];

/// Protocol, column and metric of `/proc/net/snmp`.
const SNMP: [(&str, &str, &str); 10] = [
    ("Tcp", "ActiveOpens", "system_tcp_active_opens_total"),
    ("Tcp", "PassiveOpens", "system_tcp_passive_opens_total"),
    ("Tcp", "AttemptFails", "system_tcp_failed_opens_total"),
    ("Tcp", "EstabResets", "system_tcp_resets_total"),
    ("Tcp", "InSegs", "system_tcp_received_segments_total"),
    ("Tcp", "OutSegs", "system_tcp_sent_segments_total"),
    ("Tcp", "RetransSegs", "system_tcp_retransmitted_segments_total"),
    ("Udp", "InDatagrams", "system_udp_received_datagrams_total"),
    ("Udp", "OutDatagrams", "system_udp_sent_datagrams_total"),
    ("Udp", "InErrors", "system_udp_receive_errors_total"),
];

const CONNECTIONS: &str = "system_tcp_connections";

pub(super) fn collect(files: &mut Files, pass: &mut Pass) {
    for Interface { name, traffic } in files.proc("net/dev", parse_dev).into_iter().flatten() {
        for (metric, count) in traffic {
            pass.put_of(metric, &[("interface", &name)], count);
        }
    }
    if let Some(Snmp { established, counts }) = files.proc("net/snmp", parse_snmp) {
        pass.put_of(CONNECTIONS, &[("state", "established")], established);
        pass.put_all(Some(counts));
    }
    if let Some(sockets) = files.proc("net/sockstat", parse_sockstat) {
        pass.put("system_sockets", sockets.used);
        pass.put_of(CONNECTIONS, &[("state", "time_wait")], sockets.time_wait);
        pass.put_of(CONNECTIONS, &[("state", "orphan")], sockets.orphan);
    }
}

#[derive(Debug, PartialEq)]
struct Interface {
    name: String,
    traffic: Readings,
}

/// Two lines of headings, then `name: 16 numbers` for each interface.
fn parse_dev(text: &str) -> Option<Vec<Interface>> {
    let interfaces = text.lines().skip(2).map(|line| {
        let (name, numbers) = line.rsplit_once(':')?;
        let numbers = numbers.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<Vec<f64>>>()?;
        let traffic = TRAFFIC.iter().map(|&(column, metric)| Some((metric, *numbers.get(column)?)));
        Some(Interface { name: name.trim().to_owned(), traffic: traffic.collect::<Option<_>>()? })
    });
    let mut interfaces = interfaces.collect::<Option<Vec<_>>>()?;
    interfaces.retain(|interface| !is_virtual(&interface.name));
    Some(interfaces)
}

pub(super) fn is_virtual(interface: &str) -> bool {
    VIRTUAL.iter().any(|prefix| interface.starts_with(prefix))
}

#[derive(Debug, PartialEq)]
struct Snmp {
    /// TCP connections, over IPv6 as well; those the other side has closed are among them.
    established: f64,
    counts: Readings,
}

/// Pairs of lines: `Tcp: names…`, `Tcp: numbers…`.
fn parse_snmp(text: &str) -> Option<Snmp> {
    let mut established = None;
    let mut counts = Vec::with_capacity(SNMP.len());
    let mut lines = text.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (protocol, names) = names.split_once(':')?;
        let (_, numbers) = numbers.split_once(':')?;
        for (name, number) in names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace()) {
            if (protocol, name) == ("Tcp", "CurrEstab") {
                established = Some(number.parse().ok()?);
            } else if let Some(&(.., metric)) = SNMP.iter().find(|(p, n, _)| (*p, *n) == (protocol, name)) {
                counts.push((metric, number.parse().ok()?));
            }
        }
    }
    Some(Snmp { established: established?, counts })
}

#[derive(Debug, PartialEq)]
struct Sockets {
    /// Of every kind.
    used: f64,
    time_wait: f64,
    /// TCP connections that no process holds any more.
    orphan: f64,
}

/// `sockets: used 16`, then lines such as `TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0`.
fn parse_sockstat(text: &str) -> Option<Sockets> {
    let of = |protocol: &str, name: &str| {
        let mut words = text.lines().find_map(|line| line.strip_prefix(protocol))?.split_ascii_whitespace();
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    Some(Sockets { used: of("sockets:", "used")?, time_wait: of("TCP:", "tw")?, orphan: of("TCP:", "orphan")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEV: &str = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n\
        lo: 3193 29 0 0 0 0 0 0 3193 29 0 0 0 0 0 0\n\
        veth12: 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n  eth0:307888369 9264 1 2 0 0 0 0 642344 6416 3 4 0 0 0 0\n";

    #[test]
    fn traffic_is_by_interface_without_those_of_containers() {
        let interfaces = parse_dev(DEV).unwrap();
        assert_eq!(interfaces.iter().map(|i| &i.name[..]).collect::<Vec<_>>(), ["lo", "eth0"]);
        let values: Vec<f64> = interfaces[1].traffic.iter().map(|t| t.1).collect();
        assert_eq!(values, [307_888_369.0, 9264.0, 1.0, 2.0, 642_344.0, 6416.0, 3.0, 4.0]);
        for text in ["\n\neth0 1 2\n", "\n\neth0: 1 2\n", "\n\neth0: 1 2 3 x 5 6 7 8 9 10 11 12\n"] {
            assert_eq!(parse_dev(text), None, "{text:?}");
        }
    }

    #[test]
    fn snmp_is_read_by_the_names_of_its_columns() {
        let text =
            "Tcp: MaxConn ActiveOpens CurrEstab RetransSegs\nTcp: -1 81 12 3\nUdp: InDatagrams Later\nUdp: 157 9\n";
        let counts = vec![
            ("system_tcp_active_opens_total", 81.0),
            ("system_tcp_retransmitted_segments_total", 3.0),
            ("system_udp_received_datagrams_total", 157.0),
        ];
        assert_eq!(parse_snmp(text), Some(Snmp { established: 12.0, counts }));
        for text in ["", "Udp: InDatagrams\nUdp: 157\n", "Tcp: CurrEstab\nTcp: x\n", "Tcp CurrEstab\nTcp 1\n"] {
            assert_eq!(parse_snmp(text), None, "{text:?}");
        }
    }

    #[test]
    fn sockets_by_state() {
        let text = "sockets: used 16\nTCP: inuse 1 orphan 2 tw 3 alloc 1 mem 0\nUDP: inuse 0 mem 0\n";
        assert_eq!(parse_sockstat(text), Some(Sockets { used: 16.0, time_wait: 3.0, orphan: 2.0 }));
        for text in ["", "sockets: used 16\n", "sockets: used\nTCP: orphan 2 tw 3\n"] {
            assert_eq!(parse_sockstat(text), None, "{text:?}");
        }
    }
}
