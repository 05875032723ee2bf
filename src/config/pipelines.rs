//! Pipeline files: parsed and checked.

use std::ops::Range;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, parse};
use super::settings::PipelineSettings;
use crate::stages::PipelineSpec;

/// The pipeline that runs where the settings name none.
pub const DEFAULT_PIPELINE: &str = include_str!("../../pipelines/default.toml");

/// Reads a pipeline file's text.
///
/// # Errors
/// Every fault at once, with its line.
pub fn read_pipeline(file: &str, text: &str) -> Result<PipelineSpec, ConfigFaults> {
    // A stage that does not read is left out whole, and so are faults that only its absence makes.
    let (spec, mut faults) = parse::<PipelineSpec>(file, text, |text, at| {
        let stages = stages(text);
        let stage = stages.iter().find(|stage| stage.contains(&at));
        stage.map_or_else(|| line_around(text, at), Clone::clone)
    });
    let Some(spec) = spec else { return Err(ConfigFaults(faults)) };
    let unread: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    let is_read = |stage: &Range<usize>| {
        let lines = line_at(text, stage.start)..=line_at(text, stage.end);
        !unread.iter().any(|line| lines.contains(line))
    };
    let starts: Vec<usize> = stages(text).into_iter().filter(is_read).map(|stage| stage.start).collect();
    for fault in spec.faults().into_iter().filter(|fault| unread.is_empty() || !fault.of_absence) {
        let from = fault.stage.and_then(|stage| starts.get(stage).copied()).unwrap_or(0);
        faults.push(ConfigFault { file: file.to_owned(), line: line_of(text, from, &fault.at), error: fault.error });
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(spec) } else { Err(ConfigFaults(faults)) }
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where each `[[stages]]` begins and ends.
fn stages(text: &str) -> Vec<Range<usize>> {
    let starts: Vec<usize> = text.match_indices("[[stages]]").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..text[..end].trim_end().len().max(start)).collect()
}

/// All pipelines that the settings ask for; `read` gives a file's text.
pub fn read_pipelines(
    settings: &PipelineSettings,
    read: impl Fn(&str) -> std::io::Result<String>,
) -> Result<Vec<PipelineSpec>, ConfigFaults> {
    if settings.off {
        return Ok(Vec::new());
    }
    if settings.files.is_empty() {
        return Ok(vec![read_pipeline("pipelines/default.toml", DEFAULT_PIPELINE)?]);
    }
    let (mut specs, mut faults): (Vec<PipelineSpec>, Vec<ConfigFault>) = (Vec::new(), Vec::new());
    for file in &settings.files {
        match read(file) {
            Err(error) => faults.push(ConfigFault {
                file: file.clone(),
                line: 0,
                error: format!("cannot be read ({error}): check `files` under [pipelines]"),
            }),
            Ok(text) => match read_pipeline(file, &text) {
                Err(of_file) => faults.extend(of_file.0),
                Ok(spec) if specs.iter().any(|other| other.name == spec.name) => faults.push(ConfigFault {
                    file: file.clone(),
                    line: line_of(&text, 0, &spec.name),
                    error: format!("another pipeline is named `{}`: rename one", spec.name),
                }),
                Ok(spec) => specs.push(spec),
            },
        }
    }
    if faults.is_empty() { Ok(specs) } else { Err(ConfigFaults(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_pipeline_has_no_fault() {
        assert_eq!(read_pipeline("default", DEFAULT_PIPELINE).unwrap().stages.len(), 5);
    }

    #[test]
    fn faults_name_stage_line_and_remedy() {
        let cases = [
            ("name = \"p\"\nstages = []\n", "p.toml:2: there is no stage"),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\nfrom = \"gone\"\napply.window = { every = \"1h\" }\n",
                "p.toml:4: stage `a` follows `gone`, which is no stage before it: leave `from` out",
            ),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { evry = \"1h\" }\n",
                "p.toml:4: unknown field `evry`, expected `every`",
            ),
            (
                "name = \"p\"\n[[stages]]\nname = \"a\"\napply.windw = { every = \"1h\" }\n",
                "p.toml:4: unknown variant `windw`, expected one of `compress`, `window`, `anomaly`, `correlate`",
            ),
            (
                "name = \"p\"\nshards = 2\n[[stages]]\nname = \"a\"\napply.correlate = { threshold = 2.0 }\n",
                "p.toml:5: stage `a`: threshold = 2 cannot be",
            ),
        ];
        let two = "name = \"p\"\n[[stages]]\nname = \"a\"\napply.window = { evry = \"1h\" }\n\
                   [[stages]]\nname = \"b\"\nfrom = \"a\"\napply.anomaly = { threshold = -1.0 }\n";
        let told: Vec<String> = read_pipeline("p.toml", two).unwrap_err().0.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("p.toml:4: unknown field"), "{told:?}");
        assert!(told[1].starts_with("p.toml:8: stage `b`: threshold"), "{told:?}");
        for (text, told) in cases {
            let faults = read_pipeline("p.toml", text).unwrap_err().to_string();
            assert!(faults.contains(told), "{faults}");
        }
    }
}
