//! What is pushed besides line protocol: Prometheus text as to a Pushgateway or to VictoriaMetrics, and collectd's JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::state::App;
use super::text::{base64, form, unescaped};
use super::write::{bounds, finish, off_thread, source};
use crate::flow::Intake;
use crate::ingest::{Brief, Gather, Known, Labelled, ReadError, read_collectd, read_prometheus};
use crate::model::Timestamp;

/// `POST` and `PUT /metrics/job/{job}[/{label}/{value}…]`: samples get the time of arrival, unless they have their own, and
/// the labels of the path. Nothing is replaced: what was pushed before is history.
pub(super) async fn gateway(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    uri: Uri,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let labels = labels_of_path(uri.path()).map_err(bad_request)?;
    prometheus(&app, labels, None, client, headers, content).await?;
    // As the Pushgateway does, and some clients insist on it.
    Ok(StatusCode::OK.into_response())
}

/// `POST /api/v1/import/prometheus?extra_label=name=value&timestamp=ms`.
pub(super) async fn import(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let (mut labels, mut time) = (Vec::new(), None);
    for (name, value) in form(query.as_deref().unwrap_or_default()) {
        match name.as_str() {
            "extra_label" => {
                labels.push(extra_label(&value).map_err(bad_request)?);
            }
            "timestamp" => {
                let millis =
                    value.parse().map_err(|_| bad_request(format!("timestamp `{value}`: write milliseconds")))?;
                time = Some(Timestamp::from_millis(millis));
            }
            _ => {}
        }
    }
    prometheus(&app, labels, time, client, headers, content).await
}

/// `POST /collectd`.
pub(super) async fn collectd(
    State(app): State<Arc<App>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let intake = app.sources.source(&source(&headers, client));
    let known = app.known.clone();
    off_thread(&app, headers, content, move |app, text| {
        app.known.age((app.now)());
        gathered(app, &*intake, known, |gather| read_collectd(&text, gather))
    })
    .await
}

async fn prometheus(
    app: &Arc<App>,
    labels: Vec<(String, String)>,
    time: Option<Timestamp>,
    client: SocketAddr,
    headers: HeaderMap,
    content: Body,
) -> Result<Response, ApiError> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok()).unwrap_or_default();
    if said.contains("protobuf") {
        let told = "the body is protobuf: push text, as with `.Format(expfmt.NewFormat(expfmt.TypeTextPlain))` in Go";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, told));
    }
    let intake = Labelled { inner: app.sources.source(&source(&headers, client)), labels };
    off_thread(app, headers, content, move |app, text: Bytes| {
        let time = time.unwrap_or_else(|| (app.now)().floor(1_000_000));
        // Names as they are written stand for other series under other labels.
        gathered(app, &intake, Arc::new(Known::default()), |gather| {
            read_prometheus(&mut &text[..], time, gather).map(|_| ())
        })
    })
    .await
}

fn gathered(
    app: &App,
    intake: &dyn Intake,
    known: Arc<Known>,
    read: impl FnOnce(&mut Gather<'_>) -> Result<(), ReadError>,
) -> Result<Response, ApiError> {
    let mut gather = Gather::sharing(intake, bounds(app), known).keeping(app.limits.retention.clone(), (app.now)());
    let done = read(&mut gather).and_then(|()| gather.flush().map_err(ReadError::from));
    app.meters.samples.fetch_add(gather.accepted(), Ordering::Relaxed);
    done.map_err(|error| match error {
        ReadError::Refused(refusal) => refusal.into(),
        ReadError::Json(error) => bad_request(format!("the body is no JSON as it must be: {}", Brief(error))),
        other => bad_request(other.to_string()),
    })?;
    finish(app, gather)
}

fn bad_request(told: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, told)
}

/// The labels in `/metrics/job/NAME/LABEL/VALUE…`. A label whose name ends with `@base64` has a value in base64.
fn labels_of_path(path: &str) -> Result<Vec<(String, String)>, String> {
    let form = "write /metrics/job/NAME/LABEL/VALUE, or LABEL@base64/VALUE";
    let rest = path.strip_prefix("/metrics/").unwrap_or(path);
    let words: Vec<String> = rest.split('/').map(unescaped).collect();
    let pairs = words.chunks_exact(2);
    // A slash at the end is no label.
    if !matches!(pairs.remainder(), []) && !pairs.remainder().iter().all(String::is_empty) {
        return Err(format!("the label `{}` has no value: {form}", pairs.remainder().join("/")));
    }
    if words.first().is_none_or(|first| first != "job" && first != "job@base64") {
        return Err(format!("the path names no job: {form}"));
    }
    pairs.map(|pair| label(&pair[0], &pair[1]).map_err(|told| format!("{told}: {form}"))).collect()
}

fn label(name: &str, value: &str) -> Result<(String, String), String> {
    let (name, value) = match name.strip_suffix("@base64") {
        None => (name, value.to_owned()),
        Some(name) => {
            let plain = base64(value).and_then(|bytes| String::from_utf8(bytes).ok());
            (name, plain.ok_or_else(|| format!("`{value}` is no base64 of a text"))?)
        }
    };
    check_name(name)?;
    if name == "job" && value.is_empty() {
        return Err("the job has no name".to_owned());
    }
    Ok((name.to_owned(), value))
}

/// The label in `extra_label=NAME=VALUE`.
fn extra_label(text: &str) -> Result<(String, String), String> {
    let form = "write extra_label=NAME=VALUE";
    let (name, value) = text.split_once('=').ok_or_else(|| format!("extra_label `{}`: {form}", Brief(text)))?;
    check_name(name).map_err(|told| format!("{told}: {form}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Letters, digits and `_`, not a digit first; names with two `_` in front are Prometheus' own, as `__name__`.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain =
        |(at, byte): (usize, u8)| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
    if name.is_empty() || name.starts_with("__") || !name.bytes().enumerate().all(is_plain) {
        return Err(format!("`{}` is no name of a label", Brief(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_labels_have_names_that_labels_may_have() {
        assert_eq!(extra_label("a_1=x=y"), Ok(("a_1".to_owned(), "x=y".to_owned())));
        for text in ["__name__=zz", "=x", "a", "a-b=x", "1a=x", "é=x", "__a=x"] {
            assert!(extra_label(text).unwrap_err().ends_with("write extra_label=NAME=VALUE"), "{text}");
        }
    }

    #[test]
    fn a_path_names_labels() {
        let cases = [
            ("/metrics/job/batch", "job=batch"),
            ("/metrics/job/batch/", "job=batch"),
            ("/metrics/job/a%20b/instance/web-1", "job=a b,instance=web-1"),
            ("/metrics/job@base64/L3Zhci90bXA/path@base64/=", "job=/var/tmp,path="),
            ("/metrics/job/", "the job has no name: write /metrics/job/NAME/LABEL/VALUE"),
            ("/metrics/instance/web-1", "the path names no job: write"),
            ("/metrics/job/a/b", "the label `b` has no value"),
            ("/metrics/job/a/5xx/1", "`5xx` is no name of a label"),
            ("/metrics/job/a/__name__/up", "`__name__` is no name of a label"),
            ("/metrics/job/a/x@base64/%", "`%` is no base64 of a text"),
        ];
        for (path, wanted) in cases {
            let told = labels_of_path(path).map_or_else(
                |error| error,
                |labels| labels.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(","),
            );
            assert!(told.starts_with(wanted), "{path}: {told}");
        }
    }
}
