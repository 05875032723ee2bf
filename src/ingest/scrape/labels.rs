//! Labels as they are written in settings.

use crate::model::relabel::is_label_name;

/// What is wrong with the name of a label as it is written: the key, and what to write.
pub(in crate::ingest) fn label_fault(name: &str) -> Option<(&'static str, String)> {
    let told = || format!("`{}` is no name of a label: write letters, digits and `_`", name.escape_debug());
    (!is_label_name(name)).then(|| ("labels", told()))
}
