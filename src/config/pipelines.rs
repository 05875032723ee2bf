//! Pipeline files: parsed and checked.

use super::faults::{ConfigFault, ConfigFaults, line_of, parse};
use super::settings::PipelineSettings;
use crate::stages::PipelineSpec;

/// The pipeline that runs where the settings name none.
pub const DEFAULT_PIPELINE: &str = include_str!("../../pipelines/default.toml");

/// Reads a pipeline file's text.
///
/// # Errors
/// Every fault at once, with its line.
pub fn read_pipeline(file: &str, text: &str) -> Result<PipelineSpec, ConfigFaults> {
    let spec: PipelineSpec = parse(file, text)?;
    let faults: Vec<ConfigFault> = spec
        .faults()
        .into_iter()
        .map(|fault| ConfigFault { file: file.to_owned(), line: line_of(text, &fault.at), error: fault.error })
        .collect();
    if faults.is_empty() { Ok(spec) } else { Err(ConfigFaults(faults)) }
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
                    line: line_of(&text, &spec.name),
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
                "p.toml:4: stage `a`: threshold = 2 cannot be",
            ),
        ];
        for (text, told) in cases {
            let faults = read_pipeline("p.toml", text).unwrap_err().to_string();
            assert!(faults.contains(told), "{faults}");
        }
    }
}
