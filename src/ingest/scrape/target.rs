//! A target: where it is asked, and the labels of all its series, after the rules for targets.

use url::Url;

use super::spec::PrometheusSpec;
use crate::ingest::http_client::{parse_url, shown_text};
use crate::model::relabel::{LabelSet, Relabel, is_label_name, relabel};

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const PATH: &str = "__metrics_path__";
const PARAM: &str = "__param_";
/// Labels that begin so are for the rules alone.
const RESERVED: &str = "__";

/// Where to ask, and whose series they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `host:port`.
    pub address: String,
    pub url: Url,
    /// By name.
    pub labels: Vec<(String, String)>,
}

/// A target as it is written: `host:port`, or a whole address.
struct Place {
    address: String,
    scheme: String,
    path: String,
    params: Vec<(String, String)>,
}

impl Place {
    fn read(text: &str, spec: &PrometheusSpec) -> Result<Place, String> {
        if !text.contains("://") {
            let address = format!("http://{text}");
            let url = parse_url(&address).map_err(|_| no_place(text))?;
            if url.path() != "/" || url.query().is_some() || !url.username().is_empty() || text.ends_with('/') {
                return Err(no_place(text));
            }
            let (scheme, path) = (spec.scheme.name().to_owned(), spec.path.clone());
            return Ok(Place { address: text.to_owned(), scheme, path, params: Vec::new() });
        }
        let url = parse_url(text)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{}` has a user in it: write it as basic_auth", url.host_str().unwrap_or_default()));
        }
        let address = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
        let path = if url.path() == "/" { spec.path.clone() } else { url.path().to_owned() };
        let params = url.query_pairs().into_owned().collect();
        Ok(Place { address, scheme: url.scheme().to_owned(), path, params })
    }
}

fn no_place(text: &str) -> String {
    let text = shown_text(text);
    format!("`{text}` is no target: write host:port, as in \"localhost:9100\", or an address with http://")
}

impl Target {
    /// Of a target as it is written; `None` where a rule drops it. `job` is the label of that name where nobody says.
    pub fn of(text: &str, job: &str, spec: &PrometheusSpec, rules: &[Relabel]) -> Result<Option<Target>, String> {
        let place = Place::read(text, spec)?;
        let written = spec.params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        let written = written.map(|(name, value)| (name.clone(), value.clone()));
        let mut params: Vec<(String, String)> = written.chain(place.params).collect();
        let mut labels = LabelSet::default();
        labels.set("job", job);
        spec.labels.iter().for_each(|(name, value)| labels.set(name.clone(), value.clone()));
        labels.set(ADDRESS, place.address);
        labels.set(SCHEME, place.scheme);
        labels.set(PATH, place.path);
        for (name, value) in params.iter().rev() {
            labels.set(format!("{PARAM}{name}"), value.clone());
        }
        if !relabel(rules, &mut labels) {
            return Ok(None);
        }
        let made: Vec<(&str, &str)> =
            labels.iter().filter_map(|(name, value)| Some((name.strip_prefix(PARAM)?, value))).collect();
        for (name, value) in made {
            match params.iter_mut().find(|(known, _)| known == name) {
                Some((_, first)) => *first = value.to_owned(),
                None => params.push((name.to_owned(), value.to_owned())),
            }
        }
        let url = url(labels.get(SCHEME), labels.get(ADDRESS), labels.get(PATH), &params)?;
        let address = address(&url);
        if labels.get("instance").is_empty() {
            labels.set("instance", address.clone());
        }
        labels.retain(|name| !name.starts_with(RESERVED) && is_label_name(name));
        labels.normalize();
        Ok(Some(Target { address, url, labels: labels.to_owned_pairs() }))
    }
}

fn url(scheme: &str, address: &str, path: &str, params: &[(String, String)]) -> Result<Url, String> {
    if address.is_empty() {
        return Err("relabel leaves no `__address__`: keep it, or drop the target".to_owned());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = parse_url(&format!("{scheme}://{address}{slash}{path}"))?;
    if !params.is_empty() {
        url.query_pairs_mut().extend_pairs(params);
    }
    Ok(url)
}

/// `host:port`, the port also where it is the usual one.
fn address(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::relabel::rules;

    /// Address and labels of the one target of a source `src`.
    fn target(written: &str) -> Result<Option<(String, String)>, String> {
        let spec: PrometheusSpec = toml::from_str(written).unwrap_or_else(|error| panic!("{written}: {error}"));
        let found = Target::of(&spec.targets[0], "src", &spec, &rules(&spec.relabel).unwrap())?;
        let labels = |target: &Target| -> Vec<String> {
            target.labels.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        Ok(found.map(|target| (target.url.to_string(), labels(&target).join(","))))
    }

    #[test]
    fn a_target_is_asked_where_its_labels_say() {
        let table: [(&str, &str, &str); 12] = [
            ("targets=['h:9100']", "http://h:9100/metrics", "instance=h:9100,job=src"),
            ("targets=['h']", "http://h/metrics", "instance=h:80,job=src"),
            ("targets=['h']\nscheme='https'", "https://h/metrics", "instance=h:443,job=src"),
            ("targets=['[::1]:9100']", "http://[::1]:9100/metrics", "instance=[::1]:9100,job=src"),
            ("targets=['h:1']\npath='/x/y'", "http://h:1/x/y", "instance=h:1,job=src"),
            ("targets=['https://h/own?a=1&b=x y']", "https://h/own?a=1&b=x+y", "instance=h:443,job=src"),
            ("targets=['http://h:1']", "http://h:1/metrics", "instance=h:1,job=src"),
            ("targets=['h:1']\nlabels={job='db',env='p',__tmp='z'}", "http://h:1/metrics", "env=p,instance=h:1,job=db"),
            (
                "targets=['h:1']\nparams={module=['a','b']}",
                "http://h:1/metrics?module=a&module=b",
                "instance=h:1,job=src",
            ),
            // As a probe of another's is written.
            (
                "targets=['http://site/']\nparams={module=['m']}\n[[relabel]]\nsource_labels=['__address__']\ntarget_label='__param_target'\n\
                 [[relabel]]\nsource_labels=['__param_target']\ntarget_label='instance'\n[[relabel]]\ntarget_label='__address__'\nreplacement='prober:9115'\n\
                 [[relabel]]\ntarget_label='__metrics_path__'\nreplacement='/probe'",
                "http://prober:9115/probe?module=m&target=site",
                "instance=site,job=src",
            ),
            (
                "targets=['h:1']\nparams={module=['a','b']}\n[[relabel]]\ntarget_label='__param_module'\nreplacement='c'\n\
                 [[relabel]]\ntarget_label='__scheme__'\nreplacement='https'",
                "https://h:1/metrics?module=c&module=b",
                "instance=h:1,job=src",
            ),
            (
                "targets=['h:1']\n[[relabel]]\nsource_labels=['__address__']\nregex='(.*):.*'\ntarget_label='host'",
                "http://h:1/metrics",
                "host=h,instance=h:1,job=src",
            ),
        ];
        for (written, url, labels) in table {
            assert_eq!(target(written).unwrap(), Some((url.to_owned(), labels.to_owned())), "{written}");
        }
        let dropped = "targets=['h:1']\n[[relabel]]\naction='drop'\nsource_labels=['__address__']\nregex='h:.*'";
        assert_eq!(target(dropped).unwrap(), None);
    }

    #[test]
    fn what_is_no_target_says_so() {
        let table = [
            ("targets=['h:1/metrics']", "write host:port"),
            ("targets=['']", "write host:port"),
            ("targets=['h:x']", "write host:port"),
            ("targets=['u:S3@h:1']", "`h:1` is no target: write host:port"),
            ("targets=['ftp://h']", "neither http nor https"),
            ("targets=['http://u:S3@h']", "basic_auth"),
            ("targets=['http://u:S3@h:x']", "`http://h:x` is no address"),
            ("targets=['h:1']\n[[relabel]]\ntarget_label='__address__'\nreplacement=''", "no `__address__`"),
            ("targets=['h:1']\n[[relabel]]\ntarget_label='__scheme__'\nreplacement='gopher'", "neither http nor https"),
        ];
        for (written, reason) in table {
            let error = target(written).unwrap_err();
            assert!(error.contains(reason) && !error.contains("S3"), "{written}: {error}");
        }
    }
}
