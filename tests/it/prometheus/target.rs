//! A target to scrape: a thread that serves text about how long it has lived.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds that one of its series is there, then away.
const FLICKER: u64 = 12;
/// When one of its counters begins.
const LATE: u64 = 17;

/// One that answers until it is told to stop.
pub struct Target {
    place: String,
    started: i64,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Target {
    pub fn start() -> Self {
        Target::at("127.0.0.1:0")
    }

    pub fn at(place: &str) -> Self {
        let listener = TcpListener::bind(place).unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let (since, is_over) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let over = is_over.clone();
        let thread = std::thread::spawn(move || serve(&listener, since, &over));
        Target { place, started: now(), is_over, thread: Some(thread) }
    }

    /// `host:port`.
    pub fn place(&self) -> String {
        self.place.clone()
    }

    /// When it changed last before a moment, both in milliseconds since 1970.
    pub fn changed_before(&self, at: i64) -> i64 {
        let flicker = FLICKER as i64 * 1000;
        let changes = (0..).map(|change| change * flicker).take_while(|age| self.started + age <= at);
        let late = Some(LATE as i64 * 1000).filter(|age| self.started + age <= at);
        // The clock was asked a moment after the start.
        self.started + changes.chain(late).max().unwrap_or(0) + 50
    }

    /// Ends it; when it was gone.
    pub fn stop(mut self) -> i64 {
        self.end();
        now()
    }

    fn end(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Whoever waits for a connection gets one.
        let _ = std::net::TcpStream::connect(&self.place);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(listener: &TcpListener, since: Instant, is_over: &AtomicBool) {
    for stream in listener.incoming() {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut stream) = stream else { continue };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(read @ 1..) => head.extend_from_slice(&buffer[..read]),
                _ => break,
            }
        }
        let body = text(since.elapsed());
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        // One that hangs up early asks again.
        let _ = stream.write_all(answer.as_bytes());
    }
}

fn text(age: Duration) -> String {
    let t = age.as_secs_f64();
    let mut text = format!(
        "# HELP requests_total Requests.\n# TYPE requests_total counter\n\
         requests_total{{code=\"200\"}} {}\nrequests_total{{code=\"500\"}} {}\n\
         # TYPE restarting_total counter\nrestarting_total {}\n\
         # TYPE slow_total counter\nslow_total {}\n\
         # TYPE temperature_celsius gauge\ntemperature_celsius {}\n",
        (t * 7.3) as u64 + 100,
        (t * 7.3) as u64 / 11,
        (t % 13.0) as u64 * 5,
        (t / 5.0) as u64,
        20.0 + 5.0 * (t / 7.0).sin(),
    );
    let observed = (t * 40.0) as u64;
    let within = [(0.1, 3), (0.5, 7), (f64::INFINITY, 10)];
    text += "# TYPE latency_seconds histogram\n";
    for (le, tenths) in within {
        let le = if le.is_finite() { le.to_string() } else { "+Inf".to_owned() };
        text += &format!("latency_seconds_bucket{{le=\"{le}\"}} {}\n", observed * tenths / 10);
    }
    text += &format!("latency_seconds_sum {}\nlatency_seconds_count {observed}\n", observed as f64 * 0.17);
    if (age.as_secs() / FLICKER).is_multiple_of(2) {
        text += "# TYPE flickering gauge\nflickering{job=\"own\"} 1\n";
    }
    if age.as_secs() >= LATE {
        text += &format!("# TYPE late_total counter\nlate_total {}\n", age.as_secs() - LATE + 1);
    }
    text
}
