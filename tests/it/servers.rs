//! Real servers that tests start: found, run in a folder of their own on a free port, ended when dropped.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::{Client, Server, program};

/// What a thing that takes a pass or a few may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Looks until two things are the same; tells both where they never are.
#[track_caller]
pub fn agree<T: PartialEq + std::fmt::Debug>(what: &str, mut ours: impl FnMut() -> T, mut theirs: impl FnMut() -> T) {
    let start = Instant::now();
    loop {
        let (one, other) = (ours(), theirs());
        if one == other {
            return;
        }
        assert!(start.elapsed() < SOON, "{what}: ours {one:?}, theirs {other:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The program that is asked for, or `None` where it is missing and that is allowed.
pub fn found(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = all.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing");
        eprintln!("skipped: there is no {name}");
    }
    found
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The output of a command that must go well.
#[track_caller]
pub fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&stdout).trim_end().to_owned()
}

/// A process that ends with the test, however that ends.
pub struct Running(pub Child);

impl Running {
    /// Tells it to stop with a signal, and waits until it has.
    pub fn stop(&mut self, signal: &str) {
        let pid = self.0.id().to_string();
        // It may have ended by itself.
        let _ = Command::new("kill").args([&format!("-{signal}"), &pid]).stderr(Stdio::null()).status();
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < SOON, "a server does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn wait_for_port(port: u16, child: &mut Running, log: &Path) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.0.try_wait().unwrap();
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(ended.is_none(), "the server ended: {}", log());
        assert!(start.elapsed() < SOON, "the server takes no connections: {}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A cluster of PostgreSQL in a folder of its own, where everybody is trusted unless told otherwise.
pub struct Postgres {
    folder: TempDir,
    bin: PathBuf,
    pub port: u16,
    process: Option<Running>,
    settings: Vec<String>,
}

impl Postgres {
    pub fn start(settings: &[&str]) -> Option<Postgres> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
        folders.sort();
        folders.reverse();
        let bin = found("initdb", &folders)?.parent().unwrap().to_owned();
        let folder = tempdir().unwrap();
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut server = Postgres { folder, bin, port: free_port(), process: None, settings };
        if let Some((user, group)) = server_user() {
            std::os::unix::fs::chown(server.folder.path(), Some(user), Some(group)).unwrap();
        }
        let data = server.data();
        output(server.as_server("initdb").arg("-D").arg(data).args(["-A", "trust", "-U", "postgres", "--no-sync"]));
        server.up();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program of PostgreSQL as the user that may run it: the server refuses root.
    fn as_server(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = server_user() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts it, again after [`Postgres::down`].
    pub fn up(&mut self) {
        let log = self.folder.path().join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.as_server("postgres");
        command.arg("-D").arg(self.data()).args(["-k", self.folder.path().to_str().unwrap()]);
        let port = format!("port={}", self.port);
        let own = ["listen_addresses=127.0.0.1", "fsync=off", "autovacuum=off", "jit=off", &port];
        for setting in own.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        let mut process = Running(child);
        wait_for_port(self.port, &mut process, &log);
        self.process = Some(process);
        let start = Instant::now();
        while !self.client("psql", "postgres").args(["-c", "SELECT 1"]).output().unwrap().status.success() {
            assert!(start.elapsed() < SOON, "it answers nothing: {}", std::fs::read_to_string(&log).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it at once, sessions and all.
    pub fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Immediate, as after a crash: the postmaster ends its children, which SIGKILL would leave behind.
            process.stop("QUIT");
        }
    }

    /// A client of it, on a database.
    pub fn client(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command.env("PGDATABASE", database).env("PGAPPNAME", "test");
        command
    }

    /// What psql says of statements, each in a transaction of its own: rows as lines, columns parted by `|`.
    #[track_caller]
    pub fn psql(&self, database: &str, statements: &[&str]) -> String {
        let mut command = self.client("psql", database);
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        for statement in statements {
            command.args(["-c", statement]);
        }
        output(&mut command)
    }

    /// A session that goes on: it takes statements at its stdin.
    pub fn session(&self, database: &str) -> Running {
        let mut command = self.client("psql", database);
        command.args(["-X", "-A", "-t", "-q"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.spawn().unwrap())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.down();
    }
}

/// The user and group that the server runs as, where the tests run as root.
fn server_user() -> Option<(u32, u32)> {
    let id = |flag: &str, user: &[&str]| -> Option<u32> {
        let told = Command::new("id").arg(flag).args(user).output().ok()?;
        String::from_utf8_lossy(&told.stdout).trim().parse().ok()
    };
    if id("-u", &[])? != 0 {
        return None;
    }
    Some((id("-u", &["postgres"])?, id("-g", &["postgres"])?))
}

/// A Redis of its own that keeps nothing.
pub struct Redis {
    folder: TempDir,
    pub port: u16,
    program: PathBuf,
    process: Option<Running>,
    settings: Vec<String>,
}

impl Redis {
    pub fn start(settings: &[&str]) -> Option<Redis> {
        let program = found("redis-server", &[])?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let folder = tempdir().unwrap();
        let mut server = Redis { folder, port: free_port(), program, process: None, settings };
        server.up();
        Some(server)
    }

    pub fn up(&mut self) {
        let log = self.folder.path().join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--enable-debug-command", "yes"]).args(&self.settings);
        let child = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().unwrap();
        let mut process = Running(child);
        wait_for_port(self.port, &mut process, &log);
        self.process = Some(process);
    }

    /// Ends it at once.
    pub fn down(&mut self) {
        self.process = None;
    }

    /// What redis-cli says of a command.
    #[track_caller]
    pub fn cli(&self, words: &[&str]) -> String {
        output(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words))
    }

    /// A number of `INFO`.
    #[track_caller]
    pub fn info(&self, key: &str) -> f64 {
        let text = self.cli(&["INFO", "all"]);
        let line = text.lines().find_map(|line| line.trim_end().strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no {key} in {text}"))
    }
}

/// `plimsoll serve` with settings.
#[track_caller]
pub fn serve(data: &Path, settings: &str) -> Server {
    let file = data.join("settings.toml");
    std::fs::write(&file, settings).unwrap();
    let mut command = program(&data.join("store"));
    command.arg("--config").arg(file).args(["serve", "--listen", "127.0.0.1:0"]);
    Server::of(command)
}

/// The latest value of a series, where there is one.
pub fn latest(server: &Client, metric: &str, of: &str) -> Option<f64> {
    let tables = server.sql(&format!("SELECT 1 AS one FROM system.metrics WHERE metric = '{metric}'"));
    if tables.is_empty() {
        return None;
    }
    let rows =
        server.sql(&format!("SELECT value FROM metrics WHERE metric = '{metric}' AND {of} ORDER BY time DESC LIMIT 1"));
    rows.first().map(|row| row["value"].as_f64().unwrap())
}

/// The row of `system.collectors` of a source.
pub fn collector(server: &Client, id: &str) -> Value {
    let rows = server.sql(&format!("SELECT * FROM system.collectors WHERE id = '{id}'"));
    rows.into_iter().next().unwrap_or_else(|| panic!("no source {id}"))
}

/// Looks until a source is in a state of health, and tells its row.
#[track_caller]
pub fn until_health(server: &Client, id: &str, health: &[&str]) -> Value {
    let start = Instant::now();
    loop {
        let row = collector(server, id);
        if health.contains(&row["health"].as_str().unwrap()) {
            return row;
        }
        assert!(start.elapsed() < SOON, "not {health:?}: {row}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An authority and a certificate of it for `127.0.0.1`: paths of the authority's, the certificate and its key.
pub fn certificate(folder: &Path) -> Option<[PathBuf; 3]> {
    found("openssl", &[])?;
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
    let (request, leaf, key) = (path("leaf.csr"), path("leaf.pem"), path("leaf.key"));
    std::fs::write(folder.join("leaf.ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let openssl = |arguments: &[&str]| drop(output(Command::new("openssl").args(arguments)));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&authority[..], &new_key].concat());
    openssl(&[&["req", "-subj", "/CN=test server", "-keyout", &key, "-out", &request][..], &new_key].concat());
    let extensions = path("leaf.ext");
    let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial"];
    openssl(&[&sign[..], &["-extfile", &extensions, "-out", &leaf]].concat());
    if let Some((user, group)) = server_user() {
        let files = [folder, Path::new(&leaf), Path::new(&key)];
        files.into_iter().for_each(|file| std::os::unix::fs::chown(file, Some(user), Some(group)).unwrap());
    }
    Some([ca.into(), leaf.into(), key.into()])
}
