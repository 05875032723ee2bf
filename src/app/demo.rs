//! `demo`: the sample recording, the default pipeline, the report. Needs nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::global::Global;
use super::node::{Node, settings};
use super::print::Printer;
use super::report::{REPORTS, run, sections};
use super::serve;
use super::source::Source;
use crate::flow::Sources;
use crate::ingest::{Columns, CsvMapping, Gather, TimeBounds};
use crate::store::ParquetInput;

/// A machine that compiles and takes load, every 2 s; `data/README.md` says how it was made.
const RECORDING: &[u8] = include_bytes!("../../data/recording.parquet");

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Leave the server up
    #[arg(long)]
    serve: bool,
    /// Address and port of the server
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDR")]
    listen: String,
}

pub(super) fn demo(global: &Global, args: &DemoArgs, printer: &mut Printer) -> anyhow::Result<()> {
    let folder = Folder::new(&std::env::temp_dir());
    let node = Node::open_to_write(&folder.0, settings(global)?)?;
    let samples = load(&node)?;
    let version = env!("CARGO_PKG_VERSION");
    let mut out = std::io::stdout();
    writeln!(
        out,
        "plimsoll {version}: {samples} samples of the sample recording, in a store of their own that ends with this run"
    )?;
    let source = Source::of(node)?;
    for (_, text) in REPORTS {
        run(&source, &sections(text, &Default::default())?, printer)?;
    }
    let forecast = "SELECT time, mean, lo, hi, model FROM forecast('system_memory_used_percent', '10m') WHERE step % 6 = 0 ORDER BY step LIMIT 10";
    printer.title("Memory, the ten minutes after the recording (percent, 95 % interval)")?;
    let (schema, batches) = source.sql(forecast)?;
    printer.rows(&schema, &batches)?;
    writeln!(
        out,
        "\nTry next:\n  \
         plimsoll import FILE…                        your own metrics: CSV, line protocol, Prometheus text, NDJSON, Parquet\n  \
         plimsoll sql \"SELECT * FROM metrics LIMIT 5\"  SQL over them; without a statement, type them\n  \
         plimsoll report                              the reports there are\n  \
         plimsoll serve                               take metrics over HTTP, and this machine's own\n  \
         plimsoll demo --serve                        this recording, left up for questions"
    )?;
    let Source::Here { node, .. } = source else { return Ok(()) };
    if args.serve {
        {
            let global = global.clone();
            serve::run(*node, &args.listen, move || settings(&global))
        }
    } else {
        node.close()
    }
}

fn load(node: &Node) -> anyhow::Result<u64> {
    let bounds = TimeBounds::new(node.world.clock.now(), node.settings.ingest.future_max, None);
    let intake = node.doors.source("demo");
    let mut gather = Gather::new(&*intake, bounds);
    let input = ParquetInput::of_bytes(RECORDING)?;
    let schema = input.schema.clone();
    let mut columns = Columns::new(&schema, &CsvMapping::default(), "recording")?;
    for batch in input {
        columns.read(&batch?, &mut gather)?;
    }
    gather.flush()?;
    // So that the stages say what they have found.
    node.store.flush()?;
    Ok(gather.accepted())
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Self {
        Folder(parent.join(format!("plimsoll-demo-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
