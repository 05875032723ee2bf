//! Samples sent to upstreams that answer, refuse and go away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use prost::Message;

use super::*;
use crate::flow::{Haste, Overflow};
use crate::model::{Batch, Labels, SeriesDef, Timestamp};

/// Series and value of a sample, as an upstream takes it.
type Taken = Vec<(String, i64, f64)>;

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<OneSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct OneSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<OneLabel>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<OneSample>,
}

#[derive(Clone, PartialEq, Message)]
struct OneLabel {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct OneSample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Takes remote write in a thread, or answers with another status.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    taken: Arc<Mutex<Taken>>,
    ends: Arc<AtomicBool>,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let upstream = Upstream {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(204)),
            taken: Arc::default(),
            ends: Arc::default(),
        };
        let serving = upstream.clone();
        let thread = std::thread::Builder::new().spawn(move || {
            for stream in listener.incoming().take_while(|_| !serving.ends.load(Ordering::SeqCst)) {
                serving.answer(stream.unwrap());
            }
        });
        drop(thread.unwrap());
        upstream
    }

    fn answer(&self, mut stream: TcpStream) {
        let (mut bytes, mut piece) = (Vec::new(), [0; 65_536]);
        let body = loop {
            let read = stream.read(&mut piece).unwrap_or(0);
            bytes.extend_from_slice(&piece[..read]);
            let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
            if let Some(head_end) = head_end {
                let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                if bytes.len() >= head_end + length.parse::<usize>().unwrap() {
                    break bytes[head_end..].to_vec();
                }
            }
            if read == 0 {
                return;
            }
        };
        // Pages that are asked for are not there.
        let status = if body.is_empty() { 404 } else { self.status.load(Ordering::SeqCst) };
        if status == 204 {
            let plain = snap::raw::Decoder::new().decompress_vec(&body).unwrap();
            let mut taken = self.taken.lock().unwrap();
            for series in Request::decode(&*plain).unwrap().timeseries {
                let labels: Vec<String> =
                    series.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
                let sample = |sample: &OneSample| (labels.join(","), sample.timestamp, sample.value);
                taken.extend(series.samples.iter().map(sample));
            }
        }
        let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }

    fn taken(&self) -> Taken {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort_by(|a, b| a.partial_cmp(b).unwrap());
        taken
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // The one in the thread is the last but one.
        if Arc::strong_count(&self.ends) == 2 {
            self.ends.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(self.address);
        }
    }
}

fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::new(1 << 20, Overflow::Wait, Arc::new(Haste::default())))
}

fn courier(upstreams: &[&Upstream], strategy: &str, outbox: &Arc<Outbox>) -> Box<dyn Courier> {
    let urls: Vec<String> =
        upstreams.iter().map(|upstream| format!("http://{}/api/v1/write", upstream.address)).collect();
    let spec: ForwardSpec = toml::from_str(&format!("urls = {urls:?}\nstrategy = \"{strategy}\"\nbatch = 5")).unwrap();
    assert_eq!(spec.fault(), None);
    let names: Names = Arc::new(|id: SeriesId| SeriesDef::new("cpu", Labels::new([("host", format!("h{}", id.0))])));
    open("s", &spec, names, outbox.clone(), &World::real()).unwrap()
}

fn parcel(from: i64, series: u32) -> Parcel {
    let mut batch = Batch::default();
    (0..series).for_each(|id| batch.push(SeriesId(id), Timestamp::from_millis(from), from as f64));
    Parcel::Samples(Arc::new(batch))
}

fn expected(times: std::ops::Range<i64>, series: u32) -> Taken {
    let all = times.flat_map(|time| (0..series).map(move |id| (format!("__name__=cpu,host=h{id}"), time, time as f64)));
    let mut all: Taken = all.collect();
    all.sort_by(|a, b| a.partial_cmp(b).unwrap());
    all
}

fn until_empty(outbox: &Outbox) {
    while outbox.waiting() > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_sample_reaches_one_upstream_by_every_strategy() {
    for strategy in ["round-robin", "weighted", "least-connections", "least-response-time", "resource", "hash"] {
        let (one, two, outbox) = (Upstream::start(), Upstream::start(), outbox());
        let _courier = courier(&[&one, &two], strategy, &outbox);
        (0..20).for_each(|time| outbox.put(parcel(time, 7)));
        until_empty(&outbox);
        let mut all = [one.taken(), two.taken()].concat();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert_eq!(all, expected(0..20, 7), "{strategy}");
    }
}

#[test]
fn what_one_does_not_take_goes_to_the_other_and_a_hashed_series_comes_back() {
    let (one, two, outbox) = (Upstream::start(), Upstream::start(), outbox());
    let _courier = courier(&[&one, &two], "hash", &outbox);
    outbox.put(parcel(0, 40));
    until_empty(&outbox);
    let series = |upstream: &Upstream, time: i64| -> Vec<String> {
        upstream.taken().into_iter().filter(|taken| taken.1 == time).map(|taken| taken.0).collect()
    };
    let (of_one, of_two) = (series(&one, 0), series(&two, 0));
    assert!(!of_one.is_empty() && !of_two.is_empty() && of_one.len() + of_two.len() == 40);
    one.status.store(500, Ordering::SeqCst);
    outbox.put(parcel(1, 40));
    until_empty(&outbox);
    assert_eq!((series(&one, 1).len(), series(&two, 1).len()), (0, 40));
    one.status.store(204, Ordering::SeqCst);
    // It is tried again some time; from then on each has its own.
    let mut time = 2;
    loop {
        outbox.put(parcel(time, 40));
        until_empty(&outbox);
        if !series(&one, time).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
        time += 1;
    }
    // Of those some may have gone before it was tried.
    outbox.put(parcel(time + 1, 40));
    until_empty(&outbox);
    assert_eq!((series(&one, time + 1), series(&two, time + 1)), (of_one, of_two));
}

#[test]
fn samples_that_are_refused_are_given_up_and_counted() {
    let (one, outbox) = (Upstream::start(), outbox());
    let _courier = courier(&[&one], "round-robin", &outbox);
    one.status.store(400, Ordering::SeqCst);
    outbox.put(parcel(0, 3));
    until_empty(&outbox);
    assert_eq!(outbox.dropped().get("refused"), Some(&3));
}

#[test]
fn a_courier_ends_while_all_are_away_and_what_was_not_delivered_is_known() {
    let (one, outbox) = (Upstream::start(), outbox());
    let courier = courier(&[&one], "round-robin", &outbox);
    one.status.store(503, Ordering::SeqCst);
    outbox.put(parcel(0, 3));
    outbox.settle(Duration::from_secs(600));
    drop(courier);
    assert_eq!(outbox.undelivered().len(), 1);
}
