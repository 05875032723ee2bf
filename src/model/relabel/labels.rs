//! The labels of one series while they are worked on.

use std::borrow::Cow;

/// The metric's name among the labels, while rules see it as one.
pub const NAME: &str = "__name__";

/// Names and values; an empty value is no label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSet<'t>(Vec<(Cow<'t, str>, Cow<'t, str>)>);

impl<'t> LabelSet<'t> {
    /// The value of a label, empty where there is none.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).map_or("", |at| &self.0[at].1)
    }

    /// Whether there is a label of that name, be it empty.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    /// Adds a label that is not there yet.
    pub fn push(&mut self, name: impl Into<Cow<'t, str>>, value: impl Into<Cow<'t, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Sets a label; an empty value takes it away.
    pub fn set(&mut self, name: impl Into<Cow<'t, str>>, value: impl Into<Cow<'t, str>>) {
        let (name, value) = (name.into(), value.into());
        match (self.find(&name), value.is_empty()) {
            (Some(at), true) => {
                self.0.remove(at);
            }
            (Some(at), false) => self.0[at].1 = value,
            (None, true) => {}
            (None, false) => self.0.push((name, value)),
        }
    }

    /// Gives a label another name.
    pub fn rename(&mut self, from: &str, to: String) {
        if let Some(at) = self.find(from) {
            self.0[at].0 = to.into();
        }
    }

    pub fn retain(&mut self, mut keeps: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keeps(name));
    }

    /// Without empty ones, by name: a series looks the same however its labels came.
    pub fn normalize(&mut self) {
        self.0.retain(|(_, value)| !value.is_empty());
        self.0.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn to_owned_pairs(&self) -> Vec<(String, String)> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Letters, digits and `_`, not a digit first.
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
