//! Files and stdout: a thread that writes lines, and tries again where that fails.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::lines::{Known, header, write_lines};
use super::{Print, locked};
use crate::flow::{Courier, FileSpec, LineFormat, Names, Outbox};
use crate::world::{Disk, FileAppend, World};

/// Samples and rows that are made lines at a time.
const AT_ONCE: usize = 10_000;
const WAIT: Duration = Duration::from_secs(60);
/// Between one try and the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes whole lines.
trait Pen: Send {
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;

    /// Makes durable what was written.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread that writes what its outbox holds.
struct Writing {
    sink: String,
    pen: Arc<Mutex<dyn Pen>>,
    outbox: Arc<Outbox>,
    thread: Option<JoinHandle<()>>,
}

pub(super) fn open_file(
    sink: &str,
    spec: &FileSpec,
    names: Names,
    outbox: Arc<Outbox>,
    world: &World,
) -> io::Result<Box<dyn Courier>> {
    let pen = RolledFile { spec: spec.clone(), disk: world.disk.clone(), file: None, len: 0 };
    open(sink, pen, spec.format, names, outbox)
}

pub(super) fn open_stdout(sink: &str, print: Print, names: Names, outbox: Arc<Outbox>) -> io::Result<Box<dyn Courier>> {
    open(sink, Printed(print), LineFormat::Ndjson, names, outbox)
}

fn open(
    sink: &str,
    pen: impl Pen + 'static,
    format: LineFormat,
    names: Names,
    outbox: Arc<Outbox>,
) -> io::Result<Box<dyn Courier>> {
    let pen: Arc<Mutex<dyn Pen>> = Arc::new(Mutex::new(pen));
    let (writing, taken, name) = (pen.clone(), outbox.clone(), sink.to_owned());
    let thread = std::thread::Builder::new().name(format!("sink-{sink}"));
    let thread = thread.spawn(move || run(&name, &writing, format, Known::new(names), &taken))?;
    Ok(Box::new(Writing { sink: sink.to_owned(), pen, outbox, thread: Some(thread) }))
}

fn run(sink: &str, pen: &Mutex<dyn Pen>, format: LineFormat, mut known: Known, outbox: &Outbox) {
    let mut lines = Vec::new();
    while let Some(taken) = outbox.wait(AT_ONCE, WAIT) {
        lines.clear();
        taken.iter().for_each(|(_, parcel)| write_lines(parcel, format, &mut known, &mut lines));
        if !written(sink, pen, &lines, outbox) {
            return;
        }
        taken.iter().for_each(|(number, _)| outbox.done(*number));
    }
}

/// Tries until it is written; false where the outbox was closed before.
fn written(sink: &str, pen: &Mutex<dyn Pen>, lines: &[u8], outbox: &Outbox) -> bool {
    let mut failed = false;
    loop {
        let wrote = locked(pen).write(lines);
        outbox.set_troubled(wrote.is_err());
        match wrote {
            Ok(()) => return true,
            Err(error) if !failed => tracing::warn!(sink, %error, "a sink cannot write: it tries again"),
            Err(_) => {}
        }
        failed = true;
        if !outbox.pause(PAUSE) {
            return false;
        }
    }
}

impl Courier for Writing {
    fn settle(&mut self) {
        if let Err(error) = locked(&self.pen).sync() {
            tracing::warn!(sink = self.sink, %error, "what a sink wrote may not be on the disk yet");
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.outbox.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.settle();
    }
}

struct Printed(Print);

impl Pen for Printed {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        (self.0)(lines)
    }
}

/// A file that is set aside when it is large: `out`, `out.1`, `out.2`, the last being the oldest.
struct RolledFile {
    spec: FileSpec,
    disk: Arc<dyn Disk>,
    file: Option<Arc<dyn FileAppend>>,
    len: u64,
}

impl RolledFile {
    fn aside(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.spec.path.clone();
        }
        let mut name = self.spec.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn folder(&self) -> &Path {
        match self.spec.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Goes on with the file that is there. A line that a crash cut off is ended, so that it spoils no other.
    fn open(&mut self) -> io::Result<Arc<dyn FileAppend>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        self.disk.create_dir_all(self.folder())?;
        let there = match self.disk.open(&self.spec.path) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = self.disk.go_on(&self.spec.path)?;
        self.len = there.as_ref().map_or(0, |there| there.len());
        if let Some(there) = there.filter(|there| !there.is_empty()) {
            let mut last = [0];
            there.read_exact_at(there.len() - 1, &mut last)?;
            if last != *b"\n" {
                file.append(b"\n")?;
                self.len += 1;
            }
        } else {
            file.append(header(self.spec.format))?;
            self.disk.sync_dir(self.folder())?;
        }
        self.file = Some(file.clone());
        Ok(file)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        if self.spec.keep == 0 {
            return self.disk.remove(&self.spec.path);
        }
        for number in (0..self.spec.keep).rev() {
            match self.disk.rename(&self.aside(number), &self.aside(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.disk.sync_dir(self.folder())
    }
}

impl Pen for RolledFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut file = self.open()?;
        if self.len >= self.spec.size.as_u64() {
            self.set_aside()?;
            file = self.open()?;
        }
        // After half a write it is opened anew, which ends the line.
        file.append(lines).inspect_err(|_| self.file = None)?;
        self.len += lines.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.sync())
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;
    use crate::flow::{Haste, Overflow, Parcel};
    use crate::model::{Batch, Labels, SeriesDef, SeriesId, Timestamp};
    use crate::world::{Loss, SimClock, SimDisk};

    fn file(disk: &SimDisk, size: u64, keep: u32) -> RolledFile {
        let spec = FileSpec { path: "/out/a.ndjson".into(), format: LineFormat::Ndjson, size: ByteSize::b(size), keep };
        RolledFile { spec, disk: Arc::new(disk.clone()), file: None, len: 0 }
    }

    fn text(disk: &SimDisk, path: &str) -> String {
        String::from_utf8(disk.open(Path::new(path)).unwrap().read_all().unwrap()).unwrap()
    }

    #[test]
    fn a_large_file_is_set_aside_and_the_oldest_goes() {
        let disk = SimDisk::new();
        let mut pen = file(&disk, 4, 2);
        ["one\n", "two\n", "three\n", "four\n"].iter().for_each(|line| pen.write(line.as_bytes()).unwrap());
        assert_eq!(text(&disk, "/out/a.ndjson"), "four\n");
        assert_eq!(text(&disk, "/out/a.ndjson.1"), "three\n");
        assert_eq!(text(&disk, "/out/a.ndjson.2"), "two\n");
        assert_eq!(disk.list(Path::new("/out")).unwrap().len(), 3);
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next() {
        let disk = SimDisk::new();
        file(&disk, 1000, 1).write(b"whole\nhal").unwrap();
        file(&disk, 1000, 1).write(b"next\n").unwrap();
        assert_eq!(text(&disk, "/out/a.ndjson"), "whole\nhal\nnext\n");
    }

    #[test]
    fn what_is_put_in_the_outbox_is_in_the_file_and_durable_after_settling() {
        let disk = SimDisk::new();
        let clock = Arc::new(SimClock::at(Timestamp::from_nanos(0)));
        let world = World::simulated(clock, Arc::new(disk.clone()), 1);
        let outbox = Arc::new(Outbox::new(1 << 20, Overflow::Wait, Arc::new(Haste::default())));
        let names: Names = Arc::new(|_| SeriesDef::new("m", Labels::default()));
        let spec = file(&disk, 1 << 20, 1).spec;
        let mut courier = open_file("s", &spec, names, outbox.clone(), &world).unwrap();
        for at in 0..10 {
            let mut batch = Batch::default();
            batch.push(SeriesId(0), Timestamp::from_nanos(at), at as f64);
            outbox.put(Parcel::Samples(Arc::new(batch)));
        }
        outbox.settle(Duration::from_secs(600));
        courier.settle();
        assert_eq!(outbox.waiting(), 0);
        let after = disk.after_power_loss(Loss::Bytes);
        assert_eq!(text(&after, "/out/a.ndjson").lines().count(), 10);
    }
}
