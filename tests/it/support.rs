//! What the tests share: running the program, a server of it, asking both, and where the data sets are.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Looks until something is so; panics where it takes too long.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// What a start, a stop or a command may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(240);
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The program, with none of the caller's settings.
pub fn program(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PLIMSOLL")) {
        command.env_remove(name);
    }
    command.env("PLIMSOLL_DATA", data);
    command.env("PLIMSOLL__COLLECT__SYSTEM", "false").env("PLIMSOLL__COLLECT__OWN", "false");
    // A machine that builds and tests is busy: sources would be paused.
    command.env("PLIMSOLL__GOVERNOR__ENABLED", "false");
    command
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The same, after a look at the exit code.
    #[track_caller]
    pub fn ending(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }
}

/// Runs a command on a data directory.
#[track_caller]
pub fn plimsoll(data: &Path, args: &[&str]) -> Ran {
    plimsoll_with(data, args, &[], b"")
}

/// The same with more of an environment and something on stdin.
#[track_caller]
pub fn plimsoll_with(data: &Path, args: &[&str], environment: &[(&str, &str)], stdin: &[u8]) -> Ran {
    let mut command = program(data);
    command.args(args).envs(environment.iter().copied());
    run(command, stdin)
}

/// Runs any command to its end, feeding it `stdin`.
#[track_caller]
pub fn run(mut command: Command, stdin: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    // A command that does not read its stdin to the end breaks the pipe: its own choice.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let status = wait(&mut child, &format!("{command:?}"));
    Ran {
        code: status.code(),
        stdout: out.join().unwrap(),
        stderr: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("a pipe that reads");
        bytes
    })
}

/// Waits for the end of a process, and ends it where it takes too long.
#[track_caller]
fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what} did not end within {PATIENCE:?}");
        }
        std::thread::sleep(LOOK);
    }
}

/// Rows of a statement over a data directory that no other process has open.
#[track_caller]
pub fn sql(data: &Path, statement: &str) -> Vec<Value> {
    let ran = plimsoll(data, &["sql", "--format", "json", statement]);
    assert_eq!(ran.code, Some(0), "{statement}: {}", ran.stderr);
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The one number that a statement gives.
#[track_caller]
pub fn number(rows: &[Value]) -> f64 {
    let [row] = rows else { panic!("not one row: {rows:?}") };
    let columns: Vec<&Value> = row.as_object().unwrap().values().collect();
    let [value] = columns[..] else { panic!("not one column: {row}") };
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    #[track_caller]
    pub fn ending(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// A way to ask a server; a thread may have its own.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    agent: ureq::Agent,
    log: Arc<Mutex<String>>,
}

impl Client {
    /// What the server has said on stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answered {
        self.get_with(path, &[])
    }

    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.call().and_then(answered);
        answer.unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.log()))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answered {
        let answer = self.agent.delete(format!("{}{path}", self.url)).call().and_then(answered);
        answer.unwrap_or_else(|error| panic!("DELETE {path}: {error}\n{}", self.log()))
    }

    #[track_caller]
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answered {
        self.try_post(path, headers, body).unwrap_or_else(|error| panic!("POST {path}: {error}\n{}", self.log()))
    }

    /// `Err` where no whole answer came, as while the server is being killed.
    pub fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answered, ureq::Error> {
        let mut request = self.agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answered(request.send(body)?)
    }

    /// Lines that must be taken whole.
    #[track_caller]
    pub fn write(&self, lines: &str) {
        self.post("/write", &[], lines.as_bytes()).ending(204);
    }

    #[track_caller]
    pub fn sql(&self, statement: &str) -> Vec<Value> {
        let answer = self.post("/api/v1/sql", &[], statement.as_bytes());
        assert_eq!(answer.status, 200, "{statement}: {}", answer.text());
        match answer.json() {
            Value::Array(rows) => rows,
            other => panic!("no array: {other}"),
        }
    }
}

/// A running `plimsoll serve` on a free port; ended when dropped.
pub struct Server {
    child: Child,
    pub client: Client,
    reader: Option<JoinHandle<()>>,
}

impl std::ops::Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    #[track_caller]
    pub fn start(data: &Path) -> Server {
        Server::start_with(data, &[])
    }

    /// With settings from the environment, as in `("PLIMSOLL__STORE__SYNC", "always")`.
    #[track_caller]
    pub fn start_with(data: &Path, environment: &[(&str, &str)]) -> Server {
        let mut command = program(data);
        command.args(["serve", "--listen", "127.0.0.1:0"]).envs(environment.iter().copied());
        Server::of(command)
    }

    /// A command that serves in the end.
    #[track_caller]
    pub fn of(mut command: Command) -> Server {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (told, address) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
                if let Some(url) = line.strip_prefix("plimsoll listens on ").and_then(|rest| rest.split(' ').next()) {
                    // Nobody waits for a second address.
                    let _ = told.send(url.to_owned());
                }
            }
        });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        // The sender goes when stderr ends: a program that ends early is seen at once.
        let url = address.recv_timeout(PATIENCE);
        let client = Client { url: url.clone().unwrap_or_default(), agent, log };
        let server = Server { child, client, reader: Some(reader) };
        if let Err(error) = url {
            panic!("the server says no address ({error}): {}", server.log());
        }
        server
    }

    /// Number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process is there.
    pub fn is_up(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL: it ends with no chance to write anything.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and the wait for an orderly end; what it said.
    #[track_caller]
    pub fn stop(mut self) -> String {
        let status = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status().unwrap();
        assert!(status.success(), "SIGTERM did not reach the server");
        let status = wait(&mut self.child, "the server told to stop");
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        assert_eq!(status.code(), Some(0), "the server ends in order: {}", self.log());
        self.log()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn answered(mut response: ureq::http::Response<ureq::Body>) -> Result<Answered, ureq::Error> {
    let header = response.headers().get("content-type");
    let content_type = header.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    let body = response.body_mut().with_config().limit(u64::MAX).read_to_vec()?;
    Ok(Answered { status: response.status().as_u16(), content_type, body })
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// Now, in seconds since 1970.
pub fn now_seconds() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The public data sets, where they are.
pub fn shared_data() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("PLIMSOLL_SHARED_DATA").map_or_else(default, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: no data sets in {} (PLIMSOLL_SHARED_DATA names another folder)", folder.display());
    None
}

/// More of what takes long.
pub fn thorough() -> bool {
    std::env::var_os("PLIMSOLL_THOROUGH").is_some_and(|value| value == "1")
}

/// Numbers that repeat with their seed (splitmix64).
pub struct Chance(u64);

impl Chance {
    /// Of `PLIMSOLL_SEED`, else of the clock; printed, so that a failure can be repeated.
    pub fn new(what: &str) -> Self {
        let given = std::env::var("PLIMSOLL_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| now_seconds().unsigned_abs());
        eprintln!("{what}: PLIMSOLL_SEED={seed}");
        Chance(seed)
    }

    pub fn of_seed(seed: u64) -> Self {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
