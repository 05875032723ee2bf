//! The two encodings of OTLP: requests in, answers out.
//!
//! ```text
//! ExportMetricsServiceResponse   1: partial_success { 1: rejected_data_points, 2: error_message }    empty where all is well
//! google.rpc.Status              1: code, 2: message, 3: details { 1: type URL, 2: RetryInfo }
//! google.rpc.RetryInfo           1: retry_delay { 1: seconds }
//! ```

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use prost::Message;
use serde_json::json;

use super::{Report, weight};
use crate::ingest::gather::shortened;

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// How a request is written, and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpEncoding {
    Protobuf,
    Json,
}

impl OtlpEncoding {
    /// By a `Content-Type`, with or without parameters.
    pub fn of_content_type(name: &str) -> Option<Self> {
        match name.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(OtlpEncoding::Protobuf),
            "application/json" => Some(OtlpEncoding::Json),
            _ => None,
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            OtlpEncoding::Protobuf => "application/x-protobuf",
            OtlpEncoding::Json => "application/json",
        }
    }

    /// The request, and how many exemplars there were beside those in it.
    ///
    /// # Errors
    /// A sentence, where the body is no request, or would take too much memory.
    pub(super) fn decode(self, body: &[u8]) -> Result<(ExportMetricsServiceRequest, u64), String> {
        let (decoded, what) = match self {
            OtlpEncoding::Protobuf => (protobuf_request(body).map(|request| (request, 0)), "protobuf"),
            OtlpEncoding::Json => (weight::check_json(body).and_then(|()| super::json::request(body)), "JSON"),
        };
        decoded.map_err(|error| format!("the body is no ExportMetricsServiceRequest in {what}: {}", shortened(error)))
    }

    /// The answer to a request that was taken, in whole or in part.
    pub fn answer(self, report: &Report) -> Vec<u8> {
        let error_message = report.told.clone();
        let rejected_data_points = i64::try_from(report.refused).unwrap_or(i64::MAX);
        match (self, report.refused) {
            (OtlpEncoding::Protobuf, 0) => Vec::new(),
            (OtlpEncoding::Protobuf, _) => {
                let part = ExportMetricsPartialSuccess { rejected_data_points, error_message };
                ExportMetricsServiceResponse { partial_success: Some(part) }.encode_to_vec()
            }
            (OtlpEncoding::Json, 0) => b"{}".to_vec(),
            (OtlpEncoding::Json, _) => {
                let part =
                    json!({"rejectedDataPoints": rejected_data_points.to_string(), "errorMessage": error_message});
                json!({ "partialSuccess": part }).to_string().into_bytes()
            }
        }
    }

    /// Why a request was not taken, as `google.rpc.Status`; with the seconds after which to send again.
    pub fn status(self, code: u8, message: &str, retry_after_s: Option<u64>) -> Vec<u8> {
        match self {
            OtlpEncoding::Protobuf => {
                let mut out = Vec::new();
                number(&mut out, 1, code.into());
                bytes(&mut out, 2, message.as_bytes());
                if let Some(seconds) = retry_after_s {
                    let mut detail = Vec::new();
                    bytes(&mut detail, 1, RETRY_INFO.as_bytes());
                    bytes(&mut detail, 2, &retry_info(seconds));
                    bytes(&mut out, 3, &detail);
                }
                out
            }
            OtlpEncoding::Json => {
                let detail = |seconds| json!({"@type": RETRY_INFO, "retryDelay": format!("{seconds}s")});
                let mut told = json!({"code": code, "message": message});
                if let Some(seconds) = retry_after_s {
                    told["details"] = json!([detail(seconds)]);
                }
                told.to_string().into_bytes()
            }
        }
    }
}

fn protobuf_request(body: &[u8]) -> Result<ExportMetricsServiceRequest, String> {
    weight::check_protobuf(body)?;
    ExportMetricsServiceRequest::decode(body).map_err(|error| error.to_string())
}

/// `google.rpc.RetryInfo`.
pub fn retry_info(seconds: u64) -> Vec<u8> {
    let (mut delay, mut out) = (Vec::new(), Vec::new());
    number(&mut delay, 1, seconds);
    bytes(&mut out, 1, &delay);
    out
}

fn number(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_what_protobuf_says() {
        let told = OtlpEncoding::Protobuf.status(14, &"x".repeat(200), Some(300));
        // code 14; a message of 200 bytes (varint c8 01); details with the URL of 40 bytes and {1: {1: 300}}.
        assert_eq!(&told[..5], [0x08, 14, 0x12, 0xc8, 0x01]);
        let detail = &told[205..];
        assert_eq!(&detail[..4], [0x1a, 49, 0x0a, 40]);
        assert_eq!(&detail[4..44], RETRY_INFO.as_bytes());
        assert_eq!(&detail[44..], [0x12, 5, 0x0a, 3, 0x08, 0xac, 0x02]);
        let told: serde_json::Value = serde_json::from_slice(&OtlpEncoding::Json.status(3, "no", Some(2))).unwrap();
        assert_eq!(told, json!({"code": 3, "message": "no", "details": [{"@type": RETRY_INFO, "retryDelay": "2s"}]}));
    }

    #[test]
    fn content_types_name_the_encoding() {
        let cases = [
            ("application/x-protobuf", Some(OtlpEncoding::Protobuf)),
            ("Application/JSON; charset=utf-8", Some(OtlpEncoding::Json)),
            ("text/plain", None),
            ("", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(OtlpEncoding::of_content_type(name), wanted, "{name}");
        }
    }
}
