//! Runs a command in a process group of its own, reads what it prints up to a bound, and ends all of it when dropped.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe::Receiver;

use super::ExecSpec;
use crate::ingest::SourceError;

/// Bytes of stderr that are kept.
const SAID_MAX: usize = 4096;
/// How often it is looked whether a command has ended that has closed its output.
const LOOK: Duration = Duration::from_millis(5);

/// What is run.
pub(super) struct Program {
    command: Vec<String>,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
    output_max: usize,
    output_told: String,
    killed: Killed,
}

/// Commands that were killed and whose end nobody has seen yet.
type Killed = Arc<Mutex<Vec<Child>>>;

/// How a command ended.
pub(super) struct Ended {
    pub out: Vec<u8>,
    pub code: Option<i32>,
    status: ExitStatus,
    said: Vec<u8>,
}

impl Program {
    pub fn new(spec: &ExecSpec) -> Self {
        Program {
            command: spec.command.clone(),
            env: spec.env.clone().into_iter().collect(),
            dir: spec.dir.clone(),
            output_max: usize::try_from(spec.output_max.as_u64()).unwrap_or(usize::MAX),
            output_told: spec.output_max.display().si().to_string(),
            killed: Killed::default(),
        }
    }

    pub fn name(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Runs it to its end. Dropped before, it ends the command and all of its process group.
    pub async fn run(&self) -> Result<Ended, SourceError> {
        bury(&self.killed);
        let told = |what: String| SourceError::new(format!("command `{}`: {what}", self.name()));
        let no_start = |error: io::Error| told(format!("it cannot be started ({error}): write its whole path"));
        let mut child = self.spawn().map_err(no_start)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut group = Group { child: Some(child), killed: self.killed.clone() };
        let no_output = |error: io::Error| told(format!("what it prints cannot be read ({error})"));
        let read = |pipe: Option<OwnedFd>, most, is_cut| async move {
            match pipe {
                Some(pipe) => read(pipe, most, is_cut).await,
                None => Ok(Some(Vec::new())),
            }
        };
        let out = read(out.map(OwnedFd::from), self.output_max, false);
        let err = read(err.map(OwnedFd::from), SAID_MAX, true);
        let (out, err) = tokio::try_join!(
            async {
                let limit = || {
                    told(format!("it printed more than {}: have it print less, or raise output_max", self.output_told))
                };
                out.await.map_err(no_output)?.ok_or_else(limit)
            },
            async { err.await.map_err(no_output) },
        )?;
        let status = group.end().await.map_err(no_output)?;
        Ok(Ended { out, code: status.code(), status, said: err.unwrap_or_default() })
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(self.name());
        command.args(self.command.iter().skip(1)).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        bury(&self.killed);
    }
}

/// Takes note of the end of those that have ended.
fn bury(killed: &Killed) {
    let mut killed = killed.lock().unwrap_or_else(PoisonError::into_inner);
    killed.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
}

/// A command and all it started.
struct Group {
    /// Not here any more once its end was seen: from then on its number may be another's.
    child: Option<Child>,
    killed: Killed,
}

impl Group {
    /// Waits for the end of a command that has closed its output, so in a moment. What it left behind in its group ends
    /// with it: from pass to pass that would pile up.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        loop {
            let Some(child) = &mut self.child else { return Err(io::ErrorKind::NotFound.into()) };
            if let Some(status) = child.try_wait()? {
                // While one of the group is there its number is nobody else's.
                kill_group(child);
                self.child = None;
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        kill_group(&child);
        self.killed.lock().unwrap_or_else(PoisonError::into_inner).push(child);
    }
}

fn kill_group(leader: &Child) {
    if let Ok(id) = i32::try_from(leader.id()) {
        // Whoever has ended already needs no signal.
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// All of a pipe; `None` where it is more than `most`, or, where it `is_cut`, the first of it.
async fn read(pipe: OwnedFd, most: usize, is_cut: bool) -> io::Result<Option<Vec<u8>>> {
    let receiver = Receiver::from_owned_fd(pipe)?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 8192]);
    loop {
        receiver.readable().await?;
        match receiver.try_read(&mut buffer) {
            Ok(0) => return Ok(Some(bytes)),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if bytes.len() > most && !is_cut {
            return Ok(None);
        }
        bytes.truncate(most);
    }
}

impl Ended {
    /// Why it failed, if it did. Plugins of Nagios tell a state with their exit code, which is no failure.
    pub fn failure(&self, is_plugin: bool) -> Option<String> {
        if self.status.success() || (is_plugin && matches!(self.code, Some(0..=3))) {
            return None;
        }
        let said = String::from_utf8_lossy(&self.said);
        let said = said.lines().map(str::trim).find(|line| !line.is_empty());
        let said = said.map_or(String::new(), |line| format!(": {}", line.chars().take(200).collect::<String>()));
        Some(match (self.code, self.status.signal()) {
            (None, Some(signal)) => format!("it was ended by signal {signal}{said}"),
            (code, _) => format!("it ended with exit code {}{said}", code.unwrap_or(-1)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orphans that were killed are gone as soon as their new parent has looked.
    fn wait_for_end(process: i32) {
        let is_there = || {
            let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            !status.is_empty() && !status.contains(") Z ")
        };
        for _ in 0..2000 {
            if !is_there() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        panic!("the sleeper {process} is still there");
    }

    #[test]
    fn what_is_left_in_the_background_ends_with_the_command() {
        let spec = "command = [\"sh\", \"-c\", \"sleep 300 >/dev/null 2>&1 & echo $!\"]";
        let program = Program::new(&toml::from_str(spec).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(program.run()).unwrap();
        assert_eq!(ended.code, Some(0));
        wait_for_end(String::from_utf8(ended.out).unwrap().trim().parse().unwrap());
    }

    #[test]
    fn what_takes_too_long_ends_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let spec =
            format!("command = [\"sh\", \"-c\", \"sleep 300 & echo $! > child; wait\"]\ndir = {:?}", folder.path());
        let program = Program::new(&toml::from_str(&spec).unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (told, at) = (folder.path().join("child"), || std::fs::read_to_string(folder.path().join("child")));
        let child = runtime.block_on(async {
            let mut run = Box::pin(program.run());
            for _ in 0..2000 {
                let passed = tokio::time::timeout(LOOK, &mut run).await;
                assert!(passed.is_err(), "it sleeps");
                if at().is_ok_and(|text| text.ends_with('\n')) {
                    break;
                }
            }
            drop(run);
            std::fs::read_to_string(told).unwrap().trim().parse::<i32>().unwrap()
        });
        wait_for_end(child);
        for _ in 0..2000 {
            bury(&program.killed);
            if program.killed.lock().unwrap().is_empty() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        panic!("the command itself was not buried");
    }
}
