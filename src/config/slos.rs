//! `[[slo]]`, of the settings or of a file of their own: what is wrong with them, by file and line.

use serde::Deserialize;

use super::faults::{ConfigFault, ConfigFaults, line_around, line_of, openings, parse};
use crate::insight::slo::{Slo, SloSpec};

/// What each begins with, in two brackets.
pub(super) const SLO: &str = "slo";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    slo: Vec<SloSpec>,
}

/// The objectives of a file that has nothing else.
///
/// # Errors
/// Everything that is wrong with any of them, at once.
pub fn read_slos(file: &str, text: &str) -> Result<Vec<Slo>, ConfigFaults> {
    let (read, mut faults) = parse::<File>(file, text, line_around);
    let specs = read.map_or_else(Vec::new, |read| read.slo);
    match Slo::from_specs(&specs) {
        Ok(slos) if faults.is_empty() => Ok(slos),
        _ => {
            faults.extend(slo_faults(file, text, &specs));
            faults.sort_by_key(|fault| fault.line);
            Err(ConfigFaults(faults))
        }
    }
}

/// What is wrong with values of theirs.
pub(super) fn slo_faults(file: &str, text: &str, specs: &[SloSpec]) -> Vec<ConfigFault> {
    let places = openings(text, SLO);
    let fault = |fault: crate::insight::slo::Fault| {
        let from = places.get(fault.place).copied().unwrap_or(0);
        let line = match line_of(text, from, fault.key) {
            0 => line_of(text, from, SLO),
            line => line,
        };
        ConfigFault { file: file.to_owned(), line, error: fault.to_string() }
    };
    Slo::from_specs(specs).err().unwrap_or_default().into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_wrong_with_objectives_is_told_with_its_line() {
        let text = "[[slo]]\nname = \"a\"\nobjective = 101\navailability = { up = \"up\" }\n\n[[slo]]\nname = \"b\"\nobjectiv = 99\n\
                    [[slo]]\nname = \"c\"\nobjective = 99\n";
        let told = read_slos("s.toml", text).unwrap_err().to_string();
        for part in ["s.toml:3: slo `a`: objective", "s.toml:8: unknown field `objectiv`"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(read_slos("d.toml", crate::insight::slo::DEFAULT_SLOS).unwrap().len(), 10);
    }
}
