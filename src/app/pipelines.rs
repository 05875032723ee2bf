//! `pipelines`: the graphs drawn, with what goes through them; and the same as rows of `system.pipelines` and
//! `system.drops`.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};

use clap::Args;
use serde_json::{Value, json};

use super::global::{Global, WrongUsage};
use super::remote::Remote;
use super::source::Source;
use crate::flow::StageStats;

/// How long rates are looked at.
const WATCHED: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct PipelinesArgs {
    /// Have a running server read its pipeline files again; what did not change goes on
    #[arg(long)]
    reload: bool,
}

pub(super) fn pipelines(global: &Global, args: &PipelinesArgs) -> anyhow::Result<()> {
    if args.reload {
        let Some(url) = &global.url else {
            let told = "pipelines are read again by the server that runs them: give its address with --url";
            return Err(WrongUsage(told.into()).into());
        };
        let told = Remote::new(url).post("/api/v1/pipelines/reload", &json!({}))?;
        for kind in ["started", "changed", "stopped", "kept"] {
            for name in told[kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
                println!("{kind:<8} {name}");
            }
        }
        return Ok(());
    }
    let source = Source::open(global)?;
    let before = nodes(&source)?;
    let seconds = if matches!(source, Source::There(_)) {
        std::thread::sleep(WATCHED);
        WATCHED.as_secs_f64()
    } else {
        0.0
    };
    print!("{}", drawn(&before, &nodes(&source)?, seconds));
    Ok(())
}

/// A node of a graph, all its shards together.
#[derive(Debug, Clone, PartialEq)]
struct Drawn {
    pipeline: String,
    stage: String,
    kind: String,
    inputs: Vec<String>,
    samples: u64,
    late: u64,
    rows: u64,
    dropped: u64,
    busy: f64,
    queued: u64,
    queue: u64,
    lag: f64,
    put_off: u64,
    failure: Option<String>,
}

fn nodes(source: &Source) -> anyhow::Result<Vec<Drawn>> {
    let (_, batches) = source.sql(
        "SELECT pipeline, stage, kind, inputs, sum(samples) AS samples, sum(late) AS late, sum(rows) AS rows, \
         sum(dropped) AS dropped, sum(busy_seconds) AS busy, max(queued) AS queued, max(queue) AS queue, \
         max(lag_seconds) AS lag, sum(put_off) AS put_off, max(failure) AS failure, min(place) AS place \
         FROM (SELECT *, row_number() OVER () AS place FROM system.pipelines) \
         GROUP BY pipeline, stage, kind, inputs ORDER BY place",
    )?;
    let mut rows = Vec::new();
    let mut writer = arrow::json::ArrayWriter::new(&mut rows);
    writer.write_batches(&batches.iter().collect::<Vec<_>>())?;
    writer.finish()?;
    drop(writer);
    let rows: Vec<Value> = if rows.is_empty() { Vec::new() } else { serde_json::from_slice(&rows)? };
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or_default();
    let node = |row: &Value| Drawn {
        pipeline: text(row, "pipeline"),
        stage: text(row, "stage"),
        kind: text(row, "kind"),
        inputs: text(row, "inputs").split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        samples: number(row, "samples"),
        late: number(row, "late"),
        rows: number(row, "rows"),
        dropped: number(row, "dropped"),
        busy: row["busy"].as_f64().unwrap_or_default(),
        queued: number(row, "queued"),
        queue: number(row, "queue"),
        lag: row["lag"].as_f64().unwrap_or_default(),
        put_off: number(row, "put_off"),
        failure: row["failure"].as_str().map(str::to_owned),
    };
    Ok(rows.iter().map(node).collect())
}

/// The graphs as trees: who has several inputs stands under the first, and names the others.
fn drawn(before: &[Drawn], now: &[Drawn], seconds: f64) -> String {
    let mut text = String::new();
    let mut pipelines: Vec<&str> = now.iter().map(|node| node.pipeline.as_str()).collect();
    pipelines.dedup();
    for pipeline in pipelines {
        let nodes: Vec<&Drawn> = now.iter().filter(|node| node.pipeline == pipeline).collect();
        let _ = writeln!(text, "{pipeline}");
        if let Some(failure) = nodes.iter().find_map(|node| node.failure.as_deref()) {
            let _ = writeln!(text, "FAILED: {failure}");
        }
        let roots: Vec<&Drawn> = nodes.iter().copied().filter(|node| node.inputs.is_empty()).collect();
        for (at, root) in roots.iter().enumerate() {
            let told = Told { before, nodes: &nodes, seconds };
            told.draw(root, "", at + 1 == roots.len(), &mut text);
        }
    }
    if text.is_empty() {
        text.push_str("no pipeline runs\n");
    }
    text
}

struct Told<'d> {
    before: &'d [Drawn],
    nodes: &'d [&'d Drawn],
    seconds: f64,
}

impl Told<'_> {
    fn draw(&self, node: &Drawn, indent: &str, is_last: bool, text: &mut String) {
        let (branch, below) = if is_last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let _ = writeln!(text, "{indent}{branch}{}", self.line(node, indent.chars().count()));
        let indent = format!("{indent}{below}");
        let behind: Vec<&&Drawn> =
            self.nodes.iter().filter(|other| other.inputs.first() == Some(&node.stage)).collect();
        for (at, next) in behind.iter().enumerate() {
            self.draw(next, &indent, at + 1 == behind.len(), text);
        }
    }

    fn line(&self, node: &Drawn, indent: usize) -> String {
        let also: Vec<&str> = node.inputs.iter().skip(1).map(String::as_str).collect();
        let also = if also.is_empty() { String::new() } else { format!(" (and from {})", also.join(", ")) };
        let mut line =
            format!("{:<width$} {:<9}{also}", node.stage, node.kind, width = 24_usize.saturating_sub(indent));
        let was = self.before.iter().find(|other| other.pipeline == node.pipeline && other.stage == node.stage);
        let rate = |of: fn(&Drawn) -> f64| was.map_or(0.0, |was| (of(node) - of(was)) / self.seconds);
        if self.seconds > 0.0 {
            let (samples, rows) = (rate(|node| node.samples as f64), rate(|node| node.rows as f64));
            let _ =
                write!(line, " {samples:>10.0} samples/s {rows:>8.1} rows/s {:>4.0} % busy", rate(|n| n.busy) * 100.0);
        } else {
            let _ = write!(line, " {:>10} samples {:>8} rows", node.samples, node.rows);
        }
        let _ = write!(line, "  queue {}/{}  lag {:.1} s", node.queued, node.queue, node.lag);
        let more = [("late", node.late), ("dropped", node.dropped), ("put off", node.put_off)];
        more.iter().filter(|(_, count)| *count > 0).for_each(|(what, count)| {
            let _ = write!(line, "  {count} {what}");
        });
        line
    }
}

pub(super) fn stage_rows(stages: &[StageStats]) -> RecordBatch {
    let text =
        |of: fn(&StageStats) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(stages.iter().map(of))) };
    let number =
        |of: fn(&StageStats) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(stages.iter().map(of))) };
    let share =
        |of: fn(&StageStats) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(stages.iter().map(of))) };
    let inputs: ArrayRef = Arc::new(StringArray::from_iter_values(stages.iter().map(|stage| stage.inputs.join(","))));
    let watermarks: TimestampNanosecondArray = stages.iter().map(|stage| stage.watermark).collect();
    let failed = stages.iter().map(|stage| Some(stage.failure.is_some())).collect::<BooleanArray>();
    let failed: ArrayRef = Arc::new(failed);
    let failures: ArrayRef = Arc::new(stages.iter().map(|stage| stage.failure.as_deref()).collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([
        ("pipeline", text(|stage| &stage.pipeline), false),
        ("stage", text(|stage| &stage.stage), false),
        ("kind", text(|stage| stage.kind), false),
        ("inputs", inputs, false),
        ("shard", number(|stage| stage.shard as u64), false),
        ("samples", number(|stage| stage.samples), false),
        ("batches", number(|stage| stage.batches), false),
        ("late", number(|stage| stage.late), false),
        ("rows", number(|stage| stage.rows), false),
        ("dropped", number(|stage| stage.dropped.values().sum()), false),
        ("busy_seconds", share(|stage| stage.busy_seconds), false),
        ("queued", number(|stage| stage.queued), false),
        ("queue", number(|stage| stage.queue), false),
        ("lag_seconds", share(|stage| stage.lag_seconds), false),
        ("watermark", Arc::new(watermarks.with_timezone("UTC")), true),
        ("put_off", number(|stage| stage.put_off), false),
        ("failed", failed, false),
        ("failure", failures, true),
    ])
    .expect("columns of one length")
}

pub(super) fn drop_rows(stages: &[StageStats]) -> RecordBatch {
    let drops: Vec<(&StageStats, &str, u64)> = stages
        .iter()
        .flat_map(|stage| stage.dropped.iter().map(move |(reason, &count)| (stage, *reason, count)))
        .collect();
    let text = |of: &dyn Fn(&(&StageStats, &str, u64)) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(drops.iter().map(of)))
    };
    let shards: ArrayRef = Arc::new(UInt64Array::from_iter_values(drops.iter().map(|drop| drop.0.shard as u64)));
    let samples: ArrayRef = Arc::new(UInt64Array::from_iter_values(drops.iter().map(|drop| drop.2)));
    RecordBatch::try_from_iter([
        ("pipeline", text(&|drop| drop.0.pipeline.clone())),
        ("stage", text(&|drop| drop.0.stage.clone())),
        ("shard", shards),
        ("reason", text(&|drop| drop.1.to_owned())),
        ("samples", samples),
    ])
    .expect("columns of one length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(stage: &str, inputs: &[&str], samples: u64) -> Drawn {
        Drawn {
            pipeline: "p".into(),
            stage: stage.into(),
            kind: "window".into(),
            inputs: inputs.iter().map(|&name| name.to_owned()).collect(),
            samples,
            late: 0,
            rows: 0,
            dropped: 0,
            busy: 0.0,
            queued: 1,
            queue: 2,
            lag: 0.25,
            put_off: 0,
            failure: None,
        }
    }

    #[test]
    fn a_graph_is_drawn_as_a_tree() {
        let graph =
            |samples| vec![node("live", &[], samples), node("a", &["live"], samples), node("b", &["live", "a"], 0)];
        let text = drawn(&graph(10), &graph(30), 2.0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].starts_with("└─ live") && lines[1].contains("10 samples/s"), "{text}");
        assert!(lines[2].starts_with("   ├─ a") && lines[2].contains("queue 1/2  lag 0.2 s"), "{text}");
        assert!(lines[3].starts_with("   └─ b") && lines[3].contains("(and from a)"), "{text}");
        assert_eq!(drawn(&[], &[], 0.0), "no pipeline runs\n");
    }
}
