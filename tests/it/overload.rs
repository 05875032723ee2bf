//! More than can be taken: who waits too long or among too many is told when to come again, and it passes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tempfile::tempdir;

use crate::support::{Server, number, until};

/// A connection over which a request has begun.
fn begun(server: &Server, length: usize, body: &str) -> TcpStream {
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "POST /write HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .unwrap();
    stream
}

/// Status and Retry-After of what comes back.
fn answer(mut stream: TcpStream) -> (u16, Option<String>) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let retry = text.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ").map(str::to_owned));
    (status, retry)
}

#[test]
fn who_waits_too_long_or_among_too_many_is_told_to_come_again() {
    let folder = tempdir().unwrap();
    // An eighth is for bodies: eight of a mebibyte.
    let server = Server::start_with(folder.path(), &[("PLIMSOLL__MEMORY", "64MB")]);
    let slow: Vec<TcpStream> = (0..8).map(|_| begun(&server, 1 << 20, "")).collect();
    let share = "SELECT bytes >= \"limit\" AS full FROM system.memory WHERE share = 'bodies of requests'";
    until("slow senders hold all room for bodies", || server.sql(share)[0]["full"] == true);

    let crowd: Vec<TcpStream> = (0..300).map(|_| begun(&server, 5, "a v=1")).collect();
    let mut told: BTreeMap<u16, usize> = BTreeMap::new();
    for stream in crowd {
        let (status, retry) = answer(stream);
        assert_eq!(retry.as_deref(), Some("1"), "{status} says when to come again");
        *told.entry(status).or_default() += 1;
    }
    assert_eq!(told, BTreeMap::from([(429, 44), (503, 256)]), "256 wait for a while, the others do not");

    drop(slow);
    until("there is room again", || server.sql(share)[0]["full"] == false);
    server.write("a v=2 1700000000000000000\n");
    assert_eq!(number(&server.sql("SELECT count(*) FROM a")), 1.0, "nothing of what was turned away is there");
    let metrics = server.get("/metrics").ending(200).text();
    assert!(metrics.contains("\nplimsoll_ingest_turned_away_total 300\n"), "{metrics}");
}
