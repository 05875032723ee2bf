//! The client against servers of the test's own: what it takes, what it refuses, and what it says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use super::*;

type Answer = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// Answers one request a connection; `{here}` in an answer is its own address. It ends with the test.
fn server(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<Answer> = Arc::new(answer);
    let serve = move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            // The first byte of a handshake is no request either.
            while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.first() != Some(&0x16) {
                match stream.read(&mut buffer) {
                    Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            // Whoever has gone needs no answer.
            let _ = stream.write_all(&answer(&String::from_utf8_lossy(&request)));
        }
    };
    std::thread::Builder::new().name("server of a test".into()).spawn(serve).unwrap();
    address
}

fn plain(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn ask(request: &Request) -> Result<Response, Box<FetchError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fetch_within(request, &World::real(), Duration::from_secs(20)))
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn answers_are_taken_whole_and_without_compression() {
    let address = server(|request| {
        assert!(request.starts_with("GET /") && request.contains("accept-encoding: gzip"), "{request}");
        match request.split(' ').nth(1).unwrap() {
            "/plain?a=b%20c" => plain("200 OK", "x-a: b\r\n", b"hello"),
            "/gzip" => plain("200 OK", "content-encoding: gzip\r\n", &gzip(&[b'a'; 100_000])),
            "/chunks" => {
                b"HTTP/1.1 404 no\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
            }
            path => panic!("{path}"),
        }
    });
    let ask = |path: &str| ask(&Request::get(format!("http://{address}{path}"))).unwrap();
    let response = ask("/plain?a=b%20c");
    assert_eq!((response.status, &*response.body, response.header("x-a")), (200, &b"hello"[..], Some("b")));
    assert!(response.phases.of(Phase::Connect) > Duration::ZERO && response.phases.of(Phase::Tls) == Duration::ZERO);
    assert_eq!(response.phases.total(), Phase::ALL.iter().map(|&phase| response.phases.of(phase)).sum::<Duration>());
    assert_eq!(ask("/gzip").body, [b'a'; 100_000]);
    let response = ask("/chunks");
    assert_eq!((response.status, &*response.body), (404, &b"abcde"[..]));
}

#[test]
fn what_is_larger_than_the_limit_is_refused_also_behind_compression() {
    let address = server(|request| match request.split(' ').nth(1).unwrap() {
        "/gzip" => plain("200 OK", "content-encoding: gzip\r\n", &gzip(&vec![0; 10_000_000])),
        "/broken" => plain("200 OK", "content-encoding: gzip\r\n", b"no gzip"),
        "/br" => plain("200 OK", "content-encoding: br\r\n", b"?"),
        _ => plain("200 OK", "", &[b'a'; 70_000]),
    });
    let told = |path: &str| {
        let request = Request { limit: 65_536, ..Request::get(format!("http://{address}{path}")) };
        ask(&request).unwrap_err().to_string()
    };
    for path in ["/", "/gzip"] {
        assert!(told(path).contains("larger than 64.0 KiB: ask for less, or raise the limit"), "{}", told(path));
    }
    assert!(told("/broken").contains("gzip is broken"));
    assert!(told("/br").contains("compressed as `br`, which was not asked for"));
}

#[test]
fn redirects_are_followed_and_what_proves_who_asks_stays_with_its_host() {
    let other = server(|request| {
        let leaks = ["authorization", "x-token", "secret"].iter().any(|word| request.contains(word));
        plain("200 OK", "", if leaks { b"leaked" } else { b"clean" })
    });
    let address = server(move |request| match request.split(' ').nth(1).unwrap() {
        "/relative" => plain("302 Found", "location: end?x\r\n", b""),
        "/elsewhere" => plain("307 Go", &format!("location: http://{other}/\r\n"), b""),
        "/round" => plain("302 Found", "location: /round\r\n", b""),
        "/file" => plain("302 Found", "location: file:///etc/passwd\r\n", b""),
        // `me:secret` in base64, and the header that was written.
        "/end?x" if request.contains("Basic bWU6c2VjcmV0") && request.contains("x-token: t") => {
            plain("200 OK", "", &request.as_bytes()[..4])
        }
        path => panic!("{path}: {request}"),
    });
    let to = |path: &str, method: Method| Request {
        method,
        headers: vec![("x-token".into(), "t".into())],
        body: b"body".to_vec(),
        redirects: 3,
        ..Request::get(format!("http://me:secret@{address}{path}"))
    };
    let response = ask(&to("/relative", Method::POST)).unwrap();
    assert_eq!((&*response.body, response.redirected), (&b"GET "[..], 1), "a POST that was redirected is asked for");
    assert_eq!(response.url, format!("http://{address}/end?x"), "no password is shown");
    assert_eq!(ask(&to("/elsewhere", Method::GET)).unwrap().body, b"clean");
    let told = ask(&to("/round", Method::GET)).unwrap_err().to_string();
    assert!(told.contains("redirected more than 3 times") && !told.contains("secret"), "{told}");
    assert!(ask(&to("/file", Method::GET)).unwrap_err().told.contains("neither http nor https"));
    let answer = ask(&Request { redirects: 0, ..to("/round", Method::GET) }).unwrap();
    assert_eq!((answer.status, answer.redirected), (302, 0));
}

#[test]
fn errors_say_what_was_asked_in_which_phase_it_failed_and_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = server(|_| Vec::new());
    let ssh = server(|_| b"SSH-2.0-OpenSSH\r\n".to_vec());
    let cut = server(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec());
    let cases = [
        (format!("http://{closed}/x"), Phase::Connect, "refuses connections: check that the server runs there"),
        (format!("http://{silent}/"), Phase::Processing, "closed before the whole answer came"),
        (format!("http://{ssh}/"), Phase::Processing, "the answer is not HTTP"),
        (format!("http://{cut}/"), Phase::Transfer, "the connection broke"),
        (format!("https://{ssh}/"), Phase::Tls, "the server does not speak TLS there"),
        ("ftp://example.org/".to_owned(), Phase::Resolve, "`ftp` is neither http nor https): write one as http://"),
        ("nothing".to_owned(), Phase::Resolve, "is no address"),
        ("http://nothing.invalid/".to_owned(), Phase::Resolve, "the name `nothing.invalid` is not resolved"),
    ];
    for (url, phase, wanted) in cases {
        let error = ask(&Request::get(url.clone())).unwrap_err();
        assert!(error.told.contains(wanted) && error.phase == phase, "{:?}: {error}", error.phase);
        assert!(error.to_string().starts_with(&format!("GET {url}: ")), "{error}");
    }
}

#[test]
fn a_timeout_names_the_phase() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = Request::get(format!("http://{}/", held.local_addr().unwrap()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(fetch_within(&request, &World::real(), Duration::from_millis(50))).unwrap_err();
    assert!(error.told.contains("timeout of 50ms: it was in the phase processing"), "{error}");
    assert!(error.phases.of(Phase::Processing) > Duration::from_millis(20));
}
