//! The notebooks of `queries/notebooks/`, executed over the sample recording, with their pictures.
//!
//! Without what they need they are skipped, but not in CI.

use std::path::Path;
use std::process::Command;

use tempfile::tempdir;

use crate::clients::has;
use crate::support::{Server, program, run, until};

const NEEDED: &str = "import nbclient, nbformat, ipykernel, matplotlib, PIL, requests, polars, pandas, duckdb, pyarrow";

#[test]
fn notebooks_run_from_top_to_bottom() {
    if !has("what notebooks need (queries/notebooks/requirements.txt)", "python3", &["-W", "ignore", "-c", NEEDED]) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("queries/notebooks/run.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["--plimsoll", env!("CARGO_BIN_EXE_plimsoll")]);
    run(command, b"").ending(0);
}

/// Segments and files that a pin names.
fn files(pin: &serde_json::Value) -> Vec<String> {
    let tables = pin["tables"].as_object().unwrap();
    let files = tables.values().flat_map(|files| files.as_array().unwrap());
    files.map(|file| file.as_str().unwrap().to_owned()).collect()
}

#[test]
fn pinned_files_stay_while_the_store_goes_on() {
    let folder = tempdir().unwrap();
    let mut command = program(folder.path());
    command.args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Server::of(command);
    let json = [("content-type", "application/json")];
    server.write("cpu,host=a usage=1 1700000000000000000");
    let first = server.post("/api/v1/pins", &json, b"{}").ending(200).json();
    assert_eq!(first["tables"]["samples"].as_array().map(Vec::len), Some(1), "{first}");
    assert_eq!(first["tables"]["series"].as_array().map(Vec::len), Some(1));
    assert!(files(&first).iter().all(|file| Path::new(file).is_file()));
    // Later ones are merged with them, and what is merged goes but for what is pinned.
    let mut later = Vec::new();
    for n in 1..12 {
        server.write(&format!("cpu,host=a usage={n} {}", 1_700_000_000_000_000_000_i64 + n * 1_000_000_000));
        later.push(server.post("/api/v1/pins", &json, b"{\"keep\": \"10m\"}").ending(200).json());
    }
    let held = server.get("/api/v1/pins").ending(200).json();
    assert_eq!(held.as_array().map(Vec::len), Some(12));
    for pin in &later {
        server.delete(&format!("/api/v1/pins/{}", pin["pin"])).ending(200);
    }
    assert!(files(&first).iter().all(|file| Path::new(file).is_file()), "the first is still held");
    let path = format!("/api/v1/pins/{}", first["pin"]);
    server.delete(&path).ending(200);
    let told = server.delete(&path).ending(400).text();
    assert!(told.contains("GET /api/v1/pins"), "{told}");
    // One whose time is over lets go by itself.
    server.post("/api/v1/pins", &json, b"{\"keep\": \"50ms\"}").ending(200);
    until("it is let go of", || server.get("/api/v1/pins").ending(200).json().as_array().is_some_and(Vec::is_empty));
    let told = server.post("/api/v1/pins", &json, b"{\"keep\": \"2d\"}").ending(400).text();
    assert!(told.contains("a day at most"), "{told}");
    // A page in a browser cannot ask for it unasked.
    server.post("/api/v1/pins", &[], b"{}").ending(415);
}
