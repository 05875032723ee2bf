//! Rules that change labels, or drop what has them: Prometheus' `relabel_configs` under the same names.

mod labels;

use md5::{Digest, Md5};
use regex::Regex;
use serde::Deserialize;

pub use labels::{LabelSet, NAME, is_label_name};

/// What a rule does with what its source labels say, joined by the separator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Where `regex` matches, `target_label` becomes `replacement`.
    #[default]
    Replace,
    /// Drops what `regex` does not match.
    Keep,
    /// Drops what `regex` matches.
    Drop,
    /// Drops what is not equal to `target_label`.
    KeepEqual,
    /// Drops what is equal to `target_label`.
    DropEqual,
    /// `target_label` becomes the remainder of a hash divided by `modulus`.
    HashMod,
    /// Labels whose name `regex` matches are copied to the name that `replacement` makes of it.
    LabelMap,
    /// Labels whose name `regex` matches go.
    LabelDrop,
    /// Labels whose name `regex` does not match go.
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    const fn needs_target(self) -> bool {
        !matches!(self, Action::Keep | Action::Drop | Action::LabelMap | Action::LabelDrop | Action::LabelKeep)
    }
}

/// A rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelSpec {
    pub action: Action,
    pub source_labels: Vec<String>,
    pub separator: String,
    /// Of the whole text.
    pub regex: String,
    pub target_label: String,
    /// `$1` or `${name}` stand for what a group of `regex` matched.
    pub replacement: String,
    pub modulus: u64,
}

impl Default for RelabelSpec {
    fn default() -> Self {
        RelabelSpec {
            action: Action::default(),
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: "(.*)".to_owned(),
            target_label: String::new(),
            replacement: "$1".to_owned(),
            modulus: 0,
        }
    }
}

/// A rule ready to use.
#[derive(Debug, Clone)]
pub struct Relabel {
    spec: RelabelSpec,
    regex: Regex,
}

/// All rules of a list, in their order.
///
/// # Errors
/// Which rule cannot be followed, why, and what to write.
pub fn rules(specs: &[RelabelSpec]) -> Result<Vec<Relabel>, String> {
    let rule = |(at, spec)| Relabel::new(spec).map_err(|told| format!("rule {}: {told}", at + 1));
    specs.iter().enumerate().map(rule).collect()
}

/// What the rules make of the labels; `false` where one drops them.
pub fn relabel(rules: &[Relabel], labels: &mut LabelSet<'_>) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Relabel {
    fn new(spec: &RelabelSpec) -> Result<Self, String> {
        let RelabelSpec { action, regex, target_label, modulus, .. } = spec;
        if action.needs_target() && target_label.is_empty() {
            return Err("it has no target_label: write which label it is about".to_owned());
        }
        let is_made = *action == Action::Replace && target_label.contains('$');
        if action.needs_target() && !is_made && !is_label_name(target_label) {
            return Err(format!("target_label `{target_label}` is no name of a label: write letters, digits and `_`"));
        }
        if *action == Action::HashMod && *modulus == 0 {
            return Err("it has no modulus: write by what the hash is divided, as in modulus = 8".to_owned());
        }
        let regex = Regex::new(&format!("^(?s:{regex})$"))
            .map_err(|error| format!("regex `{regex}` cannot be read ({error}): correct it"))?;
        Ok(Relabel { spec: spec.clone(), regex })
    }

    fn source(&self, labels: &LabelSet<'_>) -> String {
        let values: Vec<&str> = self.spec.source_labels.iter().map(|name| labels.get(name)).collect();
        values.join(&self.spec.separator)
    }

    fn apply(&self, labels: &mut LabelSet<'_>) -> bool {
        let target = &self.spec.target_label;
        match self.spec.action {
            Action::Replace => self.replace(labels),
            Action::Keep => return self.regex.is_match(&self.source(labels)),
            Action::Drop => return !self.regex.is_match(&self.source(labels)),
            Action::KeepEqual => return labels.get(target) == self.source(labels),
            Action::DropEqual => return labels.get(target) != self.source(labels),
            Action::HashMod => {
                let remainder = hash(&self.source(labels)) % self.spec.modulus;
                labels.set(target.clone(), remainder.to_string());
            }
            Action::LabelMap => self.map(labels),
            Action::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
            Action::Lowercase => labels.set(target.clone(), self.source(labels).to_lowercase()),
            Action::Uppercase => labels.set(target.clone(), self.source(labels).to_uppercase()),
        }
        true
    }

    fn replace(&self, labels: &mut LabelSet<'_>) {
        let source = self.source(labels);
        let Some(found) = self.regex.captures(&source) else { return };
        let (mut target, mut value) = (String::new(), String::new());
        found.expand(&self.spec.target_label, &mut target);
        found.expand(&self.spec.replacement, &mut value);
        if is_label_name(&target) {
            labels.set(target, value);
        }
    }

    fn map(&self, labels: &mut LabelSet<'_>) {
        let matching = labels.iter().filter(|(name, _)| self.regex.is_match(name));
        let mapped = |(name, value): (&str, &str)| {
            (self.regex.replace(name, &*self.spec.replacement).into_owned(), value.to_owned())
        };
        let mapped: Vec<(String, String)> = matching.map(mapped).collect();
        for (name, value) in mapped {
            labels.set(name, value);
        }
    }
}

/// The last eight bytes of MD5, so that targets are divided as Prometheus divides them.
fn hash(text: &str) -> u64 {
    let digest = Md5::digest(text);
    digest[8..].iter().fold(0, |hash, &byte| hash << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels and a rule, as `a=1,b=2`; what is left, `None` where it is dropped.
    fn run(labels: &str, rule: &str) -> Option<String> {
        let spec: RelabelSpec = toml::from_str(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let mut set = LabelSet::default();
        for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap();
            set.push(name.to_owned(), value.to_owned());
        }
        if !relabel(&rules(&[spec]).unwrap(), &mut set) {
            return None;
        }
        set.normalize();
        Some(set.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn rules_do_what_they_say() {
        let table: [(&str, &str, Option<&str>); 33] = [
            (
                "a=foo,b=bar",
                "source_labels=['a']\nregex='f(.*)'\ntarget_label='d'\nreplacement='ch${1}-ch${1}'",
                Some("a=foo,b=bar,d=choo-choo"),
            ),
            (
                "a=foo,b=bar",
                "source_labels=['a','b']\nregex='f(.*);(.*)r'\ntarget_label='a'\nreplacement='b${1}${2}m'",
                Some("a=boobam,b=bar"),
            ),
            ("a=foo,b=bar", "source_labels=['a','b']\nseparator='-'\ntarget_label='c'", Some("a=foo,b=bar,c=foo-bar")),
            ("a=foo", "source_labels=['a']\ntarget_label='b'", Some("a=foo,b=foo")),
            // Anchored: no match, nothing done.
            ("a=foo", "source_labels=['a']\nregex='f'\ntarget_label='b'", Some("a=foo")),
            ("a=foo", "source_labels=['a']\nregex='o'\ntarget_label='b'", Some("a=foo")),
            ("a=foo", "source_labels=['a']\nregex='x|foo'\ntarget_label='b'\nreplacement='y'", Some("a=foo,b=y")),
            // An empty replacement takes the label away.
            ("a=foo,b=bar", "source_labels=['a']\ntarget_label='b'\nreplacement=''", Some("a=foo")),
            ("a=foo", "source_labels=['none']\ntarget_label='b'", Some("a=foo")),
            ("a=foo", "target_label='env'\nreplacement='prod'", Some("a=foo,env=prod")),
            ("a=foo", "source_labels=['a']\nregex='(f)(o)'\ntarget_label='b'", Some("a=foo")),
            (
                "a=foo",
                "source_labels=['a']\nregex='(?P<first>f)oo'\ntarget_label='b'\nreplacement='${first}$$'",
                Some("a=foo,b=f$"),
            ),
            // The name of the target is made, too; one that is no name does nothing.
            (
                "a=foo=",
                "source_labels=['a']\nregex='(.*)='\ntarget_label='${1}_x'\nreplacement='1'",
                Some("a=foo=,foo_x=1"),
            ),
            ("a=f-o", "source_labels=['a']\ntarget_label='${1}'\nreplacement='1'", Some("a=f-o")),
            ("a=foo", "action='keep'\nsource_labels=['a']\nregex='f.*'", Some("a=foo")),
            ("a=foo", "action='keep'\nsource_labels=['a']\nregex='f'", None),
            ("a=foo", "action='keep'\nsource_labels=['none']\nregex=''", Some("a=foo")),
            ("a=foo", "action='drop'\nsource_labels=['a']\nregex='f|foo'", None),
            ("a=foo", "action='drop'\nsource_labels=['a']\nregex='f'", Some("a=foo")),
            ("a=foo,b=foo", "action='keepequal'\nsource_labels=['a']\ntarget_label='b'", Some("a=foo,b=foo")),
            ("a=foo,b=bar", "action='keepequal'\nsource_labels=['a']\ntarget_label='b'", None),
            ("a=foo,b=foo", "action='dropequal'\nsource_labels=['a']\ntarget_label='b'", None),
            ("a=foo,b=bar", "action='dropequal'\nsource_labels=['a']\ntarget_label='b'", Some("a=foo,b=bar")),
            // As Prometheus divides: its own tests have these numbers.
            (
                "a=foo,b=bar,c=baz",
                "action='hashmod'\nsource_labels=['c']\ntarget_label='d'\nseparator=';'\nmodulus=1000",
                Some("a=foo,b=bar,c=baz,d=976"),
            ),
            (
                "a=foo\nbar",
                "action='hashmod'\nsource_labels=['a']\ntarget_label='b'\nseparator=';'\nmodulus=1000",
                Some("a=foo\nbar,b=734"),
            ),
            ("x_a=1,x_b=2,c=3", "action='labelmap'\nregex='x_(.+)'", Some("a=1,b=2,c=3,x_a=1,x_b=2")),
            (
                "a=foo,b1=bar,b2=baz",
                "action='labelmap'\nregex='(b.*)'\nreplacement='bar_${1}'",
                Some("a=foo,b1=bar,b2=baz,bar_b1=bar,bar_b2=baz"),
            ),
            ("a=1,b1=2,b2=3", "action='labeldrop'\nregex='b.*'", Some("a=1")),
            ("a=1,b1=2,b2=3", "action='labelkeep'\nregex='b.*'", Some("b1=2,b2=3")),
            ("a=FoO", "action='lowercase'\nsource_labels=['a']\ntarget_label='b'", Some("a=FoO,b=foo")),
            ("a=FoO", "action='uppercase'\nsource_labels=['a']\ntarget_label='a'", Some("a=FOO")),
            ("a=x\ny", "source_labels=['a']\nregex='x.y'\ntarget_label='b'\nreplacement='1'", Some("a=x\ny,b=1")),
            ("a=é", "action='uppercase'\nsource_labels=['a']\ntarget_label='a'", Some("a=É")),
        ];
        for (labels, rule, expected) in table {
            assert_eq!(run(labels, rule).as_deref(), expected, "{labels}\n{rule}");
        }
    }

    #[test]
    fn rules_that_cannot_be_followed_say_why() {
        let table = [
            ("source_labels=['a']", "no target_label"),
            ("action='hashmod'\ntarget_label='a'", "no modulus"),
            ("action='lowercase'\ntarget_label='a-b'", "`a-b` is no name"),
            ("action='lowercase'\ntarget_label='${1}'", "`${1}` is no name"),
            ("target_label='a'\nregex='('", "regex `(` cannot be read"),
        ];
        for (rule, reason) in table {
            let error = rules(&[RelabelSpec::default_keep(), toml::from_str(rule).unwrap()]).unwrap_err();
            assert!(error.contains(reason) && error.starts_with("rule 2: "), "{rule}: {error}");
        }
    }

    impl RelabelSpec {
        fn default_keep() -> Self {
            RelabelSpec { action: Action::Keep, ..RelabelSpec::default() }
        }
    }
}
