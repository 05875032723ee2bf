//! Holds `src/` to the rooms and to what ARCHITECTURE.md says: what Cargo would do, were each room a crate.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// A room and the rooms it may use. `app` may use all; `config` may use, besides these, every room that has a Spec.
const ROOMS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("world", &["model"]),
    ("catalog", &["model", "world"]),
    ("stats", &["model"]),
    ("flow", &["model", "world", "catalog"]),
    ("store", &["model", "world", "catalog"]),
    ("stages", &["model", "flow", "store", "stats"]),
    ("ingest", &["model", "world", "flow", "stats"]),
    ("egress", &["model", "world", "flow", "ingest"]),
    ("query", &["model", "catalog", "store", "stats"]),
    ("insight", &["model", "world", "catalog", "query", "stats"]),
    ("serve", &["query", "insight", "ingest", "flow", "catalog", "model"]),
    ("config", &["model"]),
];
/// Outside crates and the rooms that are their home.
const HOMES: [(&str, &[&str]); 16] = [
    ("sled", &["catalog"]),
    ("datafusion", &["query"]),
    ("datafusion_postgres", &["query", "serve"]),
    ("arrow_flight", &["serve"]),
    ("parquet", &["store"]),
    ("augurs", &["stats"]),
    ("statrs", &["stats"]),
    ("axum", &["serve", "ingest"]),
    ("crossbeam_channel", &["flow"]),
    ("tokio", &["serve", "ingest", "egress", "query", "app"]),
    ("tonic", &["serve"]),
    ("opentelemetry_proto", &["serve", "ingest"]),
    ("prost", &["ingest", "egress", "serve"]),
    ("hyper", &["ingest"]),
    ("redis", &["ingest"]),
    ("tokio_postgres", &["ingest"]),
];
/// Where nothing waits but threads.
const NO_ASYNC: [&str; 7] = ["model", "world", "catalog", "stats", "flow", "store", "stages"];
/// Where clock, disk and chance are asked; everybody else is given them.
const TOUCHES_THE_WORLD: [&str; 3] = ["world", "app", "ingest/system"];
/// Paths that only ask the clock, the disk or chance: their last two names.
const WORLDLY: [&[&str]; 12] = [
    &["SystemTime"],
    &["Instant", "::", "now"],
    &["Timestamp", "::", "now"],
    &["Zoned", "::", "now"],
    &["std", "::", "fs"],
    &["fs", "::"],
    &["File", "::"],
    &["OpenOptions"],
    &["RandomState"],
    &["rand", "::"],
    &["fastrand", "::"],
    &["getrandom"],
];

// --- the rules, over files as (path below the project, text) -----------------------------------------------------

type File = (String, String);

/// Every violation as `path:line: what`.
fn violations(files: &[File]) -> Vec<String> {
    let parsed: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let tests_only: BTreeSet<String> = parsed.iter().flat_map(|source| source.test_modules.clone()).collect();
    let rooms_with_spec: Vec<&str> = parsed.iter().filter(|source| source.has_spec()).map(Source::room).collect();
    let of_tests = |source: &&Source| {
        let module = source.path.trim_end_matches(".rs");
        tests_only.iter().any(|tests| module == tests || module.starts_with(&format!("{tests}/")))
    };
    let mut found = Vec::new();
    for source in parsed.iter().filter(|source| !of_tests(source)) {
        source.check(&rooms_with_spec, &mut found);
    }
    found
}

/// A source file, as tokens without comments and without what only tests see.
struct Source<'t> {
    path: &'t str,
    first_line: &'t str,
    tokens: Vec<Token>,
    /// Files that are there for tests alone, without `.rs`.
    test_modules: Vec<String>,
}

impl<'t> Source<'t> {
    fn new(path: &'t str, text: &'t str) -> Self {
        let (tokens, test_modules) = without_tests(tokens(text));
        let folder = module_folder(path);
        let test_modules = test_modules.into_iter().map(|name| format!("{folder}/{name}")).collect();
        let first_line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
        Source { path, first_line, tokens, test_modules }
    }

    /// The room: the folder below `src/`, or the file of that name; "" for `lib.rs` and `main.rs`.
    fn room(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(self.path);
        let room = below.split('/').next().unwrap_or("");
        if room == "lib.rs" || room == "main.rs" { "" } else { room.trim_end_matches(".rs") }
    }

    fn is(&self, at: usize, texts: &[&str]) -> bool {
        let here = self.tokens.get(at..at + texts.len());
        here.is_some_and(|tokens| tokens.iter().zip(texts).all(|(token, text)| token.text == *text))
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Whether a path starts here: not `a::HERE`, not `.here`.
    fn starts_path(&self, at: usize) -> bool {
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        let goes_on = |text: &str| (is_name(text) && text != "use") || text == ">";
        let is_rooted = before == "::" && at.checked_sub(2).is_none_or(|before| !goes_on(self.text(before)));
        before != "." && (before != "::" || is_rooted)
    }

    fn has_spec(&self) -> bool {
        (0..self.tokens.len()).any(|at| self.is(at, &["pub", "struct"]) && self.text(at + 2).ends_with("Spec"))
    }

    fn check(&self, rooms_with_spec: &[&str], found: &mut Vec<String>) {
        if !self.first_line.starts_with("//!") {
            found.push(format!("{}:1: no `//!` line says what the file is for", self.path));
        }
        let mut add = |at: usize, what: String| found.push(format!("{}:{}: {what}", self.path, self.tokens[at].line));
        for (at, room) in self.rooms_named() {
            if !self.may_use(&room, rooms_with_spec) {
                add(at, format!("`{}` may not use `{room}`", self.room()));
            }
        }
        for at in 0..self.tokens.len() {
            self.check_crate(at, &mut add);
            self.check_world(at, &mut add);
            self.check_async(at, &mut add);
            if self.text(at) == "unsafe" {
                add(at, "unsafe".into());
            }
        }
    }

    fn may_use(&self, other: &str, rooms_with_spec: &[&str]) -> bool {
        let room = self.room();
        if room.is_empty() || room == "app" || room == other {
            return true;
        }
        let table = ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, uses)| uses);
        table.contains(&other) || (room == "config" && rooms_with_spec.contains(&other))
    }

    /// Rooms that paths from the crate's root name, with the token that names them: `crate::room`, `crate::{room, …}`,
    /// `super::super::room`, `plimsoll::room`.
    fn rooms_named(&self) -> Vec<(usize, String)> {
        let mut named = Vec::new();
        for at in 0..self.tokens.len() {
            let is_root = matches!(self.text(at), "crate" | "plimsoll") && self.starts_path(at);
            if is_root && self.text(at + 1) == "::" {
                self.first_names(at + 2, &mut named);
            }
            if self.text(at) == "super" && self.starts_path(at) {
                let supers = (at..).step_by(2).take_while(|&at| self.is(at, &["super", "::"])).count();
                if supers > 0 && supers >= self.depth(at) {
                    self.first_names(at + 2 * supers, &mut named);
                }
            }
        }
        named
    }

    /// The first names of a path's rest: one, or those of a `{…}` group.
    fn first_names(&self, at: usize, named: &mut Vec<(usize, String)>) {
        if self.text(at) != "{" {
            // What the root itself defines is no room; a `*` takes them all.
            let room = self.text(at);
            if room == "*" || ROOMS.iter().any(|(name, _)| *name == room) || room == "app" {
                named.push((at, room.to_owned()));
            }
            return;
        }
        let end = closing(&self.tokens, at);
        let mut inner = at + 1;
        while inner < end {
            self.first_names(inner, named);
            let mut depth = 0_usize;
            while inner < end && (depth > 0 || self.text(inner) != ",") {
                match self.text(inner) {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                inner += 1;
            }
            inner += 1;
        }
    }

    /// How many modules stand around a token.
    fn depth(&self, at: usize) -> usize {
        let file = module_folder(self.path).split('/').count() - 1;
        let opens = |&start: &usize| self.text(start) == "mod" && self.text(start + 2) == "{";
        file + (0..at).filter(opens).filter(|&start| closing(&self.tokens, start + 2) > at).count()
    }

    fn check_crate(&self, at: usize, add: &mut impl FnMut(usize, String)) {
        let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == self.text(at)) else { return };
        let by_datafusion = at >= 2 && self.is(at - 2, &["datafusion", "::"]);
        let before = at.checked_sub(1).map_or("", |before| self.text(before));
        let is_used = self.text(at + 1) == "::" || matches!(before, "use" | "extern" | "crate");
        if (by_datafusion || (self.starts_path(at) && is_used)) && !homes.contains(&self.room()) {
            add(at, format!("`{name}` away from its home ({})", homes.join(", ")));
        }
    }

    fn check_world(&self, at: usize, add: &mut impl FnMut(usize, String)) {
        let below = self.path.strip_prefix("src/").unwrap_or(self.path);
        let is_home = |home: &&str| below.strip_prefix(*home).is_some_and(|rest| rest.starts_with(['/', '.']));
        if self.room().is_empty() || TOUCHES_THE_WORLD.iter().any(is_home) {
            return;
        }
        let is_worldly = |path: &&&[&str]| {
            self.is(at, path)
                && (path[0] != "fs" || self.starts_path(at))
                && (path[0] != "rand" || self.starts_path(at))
        };
        if let Some(path) = WORLDLY.iter().find(is_worldly) {
            add(at, format!("`{}`: only `world` asks the time, touches a file or draws a number", path.concat()));
        }
    }

    fn check_async(&self, at: usize, add: &mut impl FnMut(usize, String)) {
        let is_async = self.text(at) == "async" || self.is(at, &[".", "await"]);
        if is_async && NO_ASYNC.contains(&self.room()) {
            add(at, format!("async in `{}`", self.room()));
        }
    }
}

/// `src/store/wal.rs` → `src/store/wal`, `src/store/mod.rs` → `src/store`, `src/lib.rs` → `src`: where the files of its
/// modules are.
fn module_folder(path: &str) -> &str {
    let module = path.trim_end_matches(".rs");
    ["/mod", "/lib", "/main"].iter().find_map(|end| module.strip_suffix(end)).unwrap_or(module)
}

// --- tokens: as much of Rust's grammar as the rules need ---------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// Names, marks (`::` is one) and `""` for each literal text; comments are left out.
fn tokens(text: &str) -> Vec<Token> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), text, 1);
    while let Some(letter) = rest.chars().next() {
        let length = token_length(rest);
        let (token, after) = rest.split_at(length);
        let is_comment = token.starts_with("//") || token.starts_with("/*");
        if !letter.is_whitespace() && !is_comment {
            let is_text =
                token.ends_with(['"', '#']) && token.contains('"') || token.len() > 1 && token.ends_with('\'');
            tokens.push(Token { text: if is_text { "\"\"".into() } else { token.to_owned() }, line });
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Bytes of the token, comment or blank that `text` starts with.
fn token_length(text: &str) -> usize {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    let name = |from: usize| {
        let part = |letter: char| letter.is_alphanumeric() || letter == '_';
        text[from..].find(|letter| !part(letter)).map_or(text.len(), |at| from + at)
    };
    let letter = text.chars().next().map_or(1, char::len_utf8);
    let raw = text.trim_start_matches(['b', 'c']);
    let hashes = raw.strip_prefix('r').map_or(0, |raw| raw.len() - raw.trim_start_matches('#').len());
    if text.starts_with("//") {
        text.find('\n').unwrap_or(text.len())
    } else if text.starts_with("/*") {
        block_comment(text)
    } else if text.len() - raw.len() <= 1 && raw.starts_with('r') && raw[1 + hashes..].starts_with('"') {
        until(text.len() - raw.len() + hashes + 2, &format!("\"{}", "#".repeat(hashes)))
    } else if text.starts_with('"') || text.starts_with("b\"") || text.starts_with("c\"") {
        quoted(text, '"')
    } else if text.starts_with('\'') || text.starts_with("b'") {
        let is_letter = text.starts_with("b'") || text[1..].starts_with('\\') || text[1..].chars().nth(1) == Some('\'');
        if is_letter { quoted(text, '\'') } else { name(1).max(1) }
    } else if text.starts_with("::") {
        2
    } else if text.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
        name(0)
    } else {
        letter
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut letters = text.char_indices().skip_while(|(_, letter)| *letter != quote).skip(1);
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' {
            letters.next();
        } else if letter == quote {
            return at + 1;
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The token that closes the bracket at `open`.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Leaves out each item behind a `#[cfg(test)]`, and names the modules among them that are files of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        match test_item(&tokens, at) {
            Some(item) => {
                let names = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
                let module = item.clone().find(|&at| names(at) == "mod" && names(at + 2) == ";");
                modules.extend(module.map(|at| names(at + 1).to_owned()));
                at = item.end;
            }
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    (kept, modules)
}

fn test_item(tokens: &[Token], at: usize) -> Option<Range<usize>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let cfg = ["#", "[", "cfg", "("].iter().enumerate().all(|(place, part)| text(at + place) == *part);
    let is_test = cfg && (text(at + 4) == "test" || (text(at + 4) == "all" && text(at + 6) == "test"));
    if !is_test {
        return None;
    }
    let mut end = at;
    while text(end) == "#" {
        end = closing(tokens, end + 1) + 1;
    }
    loop {
        match text(end) {
            "" | ";" => return Some(at..(end + 1).min(tokens.len())),
            "{" => return Some(at..(closing(tokens, end) + 1).min(tokens.len())),
            "(" | "[" => end = closing(tokens, end) + 1,
            _ => end += 1,
        }
    }
}

// --- ARCHITECTURE.md ---------------------------------------------------------------------------------------------

/// Paths in backticks that name nothing: those that start at the project's top (`src/…`, `pipelines/…`) or, with an
/// ending, in a room (`store/wal.rs`).
fn missing_paths(text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut missing = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let path = word.trim_end_matches('/');
            let first = path.split('/').next().unwrap_or("");
            let is_room = ROOMS.iter().any(|(room, _)| *room == first) || first == "app";
            let candidates = match first {
                "src" | "pipelines" | "queries" | "data" | "benches" | "tests" | ".ci" => vec![path.to_owned()],
                _ if is_room && word.contains('/') => vec![format!("src/{path}"), format!("src/{path}.rs")],
                _ if !path.contains(['/', '*', ' ']) && [".md", ".toml"].iter().any(|end| path.ends_with(end)) => {
                    vec![path.to_owned(), format!("pipelines/{path}")]
                }
                _ => continue,
            };
            let is_pattern = path.contains(['*', ' ', '<', '…', '{', '(']) || path.contains("NAME");
            if !is_pattern && !candidates.iter().any(|path| exists(path)) {
                missing.push(format!("ARCHITECTURE.md:{}: there is no `{word}`", number + 1));
            }
        }
    }
    missing
}

// --- the project as it is ----------------------------------------------------------------------------------------

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<File> {
    fn walk(folder: &Path, files: &mut Vec<File>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let below = path.strip_prefix(project()).unwrap().to_string_lossy().replace('\\', "/");
                files.push((below, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    walk(&project().join("src"), &mut files);
    files.sort();
    files
}

#[test]
fn the_source_keeps_to_its_rooms() {
    let files = sources();
    assert!(files.len() > 50, "only {} files of src/ were found", files.len());
    let found = violations(&files);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_folder_of_the_source_is_a_room_of_the_table() {
    for (path, _) in sources() {
        let room = Source::new(&path, "").room().to_owned();
        let known = room.is_empty() || room == "app" || ROOMS.iter().any(|(name, _)| *name == room);
        assert!(known, "{path}: `{room}` is no room: add it to ARCHITECTURE.md and here");
    }
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    // Listed in an order in which each uses only those before it.
    let mut ready: Vec<&str> = Vec::new();
    while ready.len() < ROOMS.len() {
        let next =
            ROOMS.iter().find(|(room, uses)| !ready.contains(room) && uses.iter().all(|used| ready.contains(used)));
        ready.push(next.expect("a room that uses only rooms before it").0);
    }
}

#[test]
fn paths_in_the_architecture_text_exist() {
    let Ok(text) = std::fs::read_to_string(project().join("ARCHITECTURE.md")) else {
        eprintln!("skipped: there is no ARCHITECTURE.md yet");
        return;
    };
    let missing = missing_paths(&text, &|path| project().join(path).exists());
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

// --- the checker itself, on planted files ------------------------------------------------------------------------

fn of(path: &str, text: &str) -> Vec<String> {
    violations(&[(path.to_owned(), text.to_owned())])
}

#[test]
fn each_planted_violation_is_found_at_its_line() {
    let cases = [
        ("src/model/a.rs", "use crate::store::Store;", "`model` may not use `store`"),
        ("src/stats/a.rs", "use crate::{model::Span, query};", "`stats` may not use `query`"),
        ("src/query/a.rs", "use crate::{model::{Span, Kind}, serve::{self, Server}};", "`query` may not use `serve`"),
        ("src/store/a.rs", "fn f() { crate::stages::pipeline::run(); }", "`store` may not use `stages`"),
        ("src/store/a.rs", "pub use crate::flow::Stage as S;", "`store` may not use `flow`"),
        ("src/store/mod.rs", "use super::stages::Door;", "`store` may not use `stages`"),
        ("src/store/a.rs", "use super::super::stages::Door;", "`store` may not use `stages`"),
        ("src/store/segment/a.rs", "use super::super::super::serve::Server;", "`store` may not use `serve`"),
        ("src/model/a.rs", "use crate::*;", "`model` may not use `*`"),
        ("src/model/a.rs", "macro_rules! m { () => { $crate::store::x() } }", "`model` may not use `store`"),
        ("src/ingest/a.rs", "use plimsoll::store::Store;", "`ingest` may not use `store`"),
        ("src/config/a.rs", "use crate::serve::Limits;", "`config` may not use `serve`"),
        ("src/ingest/a.rs", "fn f(app: crate::app::Node) {}", "`ingest` may not use `app`"),
        ("src/store/a.rs", "use sled::Db;", "`sled` away from its home (catalog)"),
        ("src/serve/a.rs", "use datafusion::prelude::*;", "`datafusion` away from its home (query)"),
        ("src/query/a.rs", "use parquet::file::reader::FileReader;", "`parquet` away from its home (store)"),
        ("src/query/a.rs", "use datafusion::parquet::file::reader::FileReader;", "`parquet` away from its home"),
        ("src/app/a.rs", "use ::augurs::ets::AutoETS;", "`augurs` away from its home (stats)"),
        ("src/query/a.rs", "let n = statrs::distribution::Normal::new(0.0, 1.0);", "`statrs` away from its home"),
        ("src/app/a.rs", "fn f(r: axum::Router) {}", "`axum` away from its home (serve, ingest)"),
        ("src/store/a.rs", "use crossbeam_channel::bounded;", "`crossbeam_channel` away from its home (flow)"),
        ("src/store/a.rs", "#[tokio::main]", "`tokio` away from its home (serve, ingest, egress, query, app)"),
        ("src/store/a.rs", "let t = std::time::SystemTime::now();", "`SystemTime`: only `world`"),
        ("src/store/a.rs", "let t = Instant::now();", "`Instant::now`: only `world`"),
        ("src/stats/a.rs", "let t = jiff::Timestamp::now();", "`Timestamp::now`: only `world`"),
        ("src/store/a.rs", "use std::fs;", "`std::fs`: only `world`"),
        ("src/store/a.rs", "fs::write(path, bytes)?;", "`fs::`: only `world`"),
        ("src/ingest/csv.rs", "let file = File::open(path)?;", "`File::`: only `world`"),
        ("src/ingest/systematic.rs", "let file = File::open(path)?;", "`File::`: only `world`"),
        ("src/stages/a.rs", "let n: u8 = rand::random();", "`rand::`: only `world`"),
        ("src/flow/a.rs", "async fn f() {}", "async in `flow`"),
        ("src/catalog/a.rs", "let n = task.await;", "async in `catalog`"),
        ("src/stages/a.rs", "let task = async move { 1 };", "async in `stages`"),
        ("src/world/a.rs", "let n = unsafe { *p };", "unsafe"),
    ];
    for (path, line, told) in cases {
        let text = format!("//! For something.\n\n/* a comment /* in one */\n */\n{line}\n");
        let found = of(path, &text);
        let [first, ..] = &found[..] else { panic!("{path}: nothing found in {line}") };
        assert!(first.starts_with(&format!("{path}:5: {told}")), "{line}: {found:?}");
    }
    assert_eq!(of("src/model/a.rs", "\nuse std::fmt;\n//! Late.\n").len(), 1, "no purpose line first");
    assert_eq!(of("src/model/a.rs", "").len(), 1, "an empty file has no purpose");
}

#[test]
fn a_path_against_the_table_put_into_the_source_is_found() {
    for (path, line, told) in [
        ("src/store/flush.rs", "use crate::serve::Server;", "`store` may not use `serve`"),
        ("src/stats/mod.rs", "use crate::{model::Span, store::Store};", "`stats` may not use `store`"),
    ] {
        let mut files = sources();
        let before = violations(&files).len();
        let (_, text) = files.iter_mut().find(|(file, _)| file == path).unwrap_or_else(|| panic!("no {path}"));
        text.push_str(line);
        let found = violations(&files);
        assert_eq!(found.len(), before + 1, "{found:?}");
        assert!(found.iter().any(|violation| violation.starts_with(path) && violation.ends_with(told)), "{found:?}");
    }
}

#[test]
fn what_is_allowed_is_left_alone() {
    let cases = [
        ("src/stages/a.rs", "use crate::store::Store;"),
        ("src/store/a.rs", "use super::super::model::Span;"),
        ("src/store/segment/a.rs", "use super::super::wal::Wal; use super::super::stages::Local;"),
        ("src/store/a.rs", "use super::flow; mod inner { use super::super::stages; }"),
        ("src/store/a.rs", "pub(crate) fn f() {} pub(in crate::store) fn g() {}"),
        ("src/app/a.rs", "use crate::{serve, store::Store}; let t = std::fs::read(path);"),
        ("src/main.rs", "fn main() { plimsoll::app::run(); }"),
        ("src/model/a.rs", "/// [`crate::store::Store`] keeps it.\n// crate::store\nlet s = \"crate::store::x\";"),
        (
            "src/model/a.rs",
            "let s = r#\"unsafe \" crate::store::x\"#; let c = '\"'; let u = \"unsafe\"; let l: &'static str;",
        ),
        ("src/model/a.rs", "#[cfg(test)]\nmod tests { use crate::store::Store; fn f() { std::fs::read(p); } }"),
        ("src/model/a.rs", "#[cfg(test)] #[allow(x)] pub(crate) fn f(a: [u8; 2]) -> u8 { crate::store::x() }"),
        ("src/store/a.rs", "use crate::store::parquet::reader; fn f() { self.tokio::<u8>(); }"),
        ("src/store/a.rs", "let sled = 1; let f = disk.fs; let offset = offs::fs::x();"),
        ("src/ingest/system.rs", "let text = std::fs::read_to_string(path);"),
        ("src/ingest/system/cpu.rs", "let text = std::fs::read_to_string(path);"),
        ("src/serve/a.rs", "async fn f() { tokio::spawn(g()).await; }"),
        ("src/query/a.rs", "use datafusion::error::Result;"),
        ("src/store/a.rs", "use parquet::arrow::ArrowWriter;"),
    ];
    for (path, line) in cases {
        assert_eq!(of(path, &format!("//! For something.\n{line}\n")), Vec::<String>::new(), "{path}: {line}");
    }
}

#[test]
fn only_what_tests_see_is_left_out() {
    let after = "//! A.\n#[cfg(test)]\nuse crate::model::Span;\nuse crate::store::Store;\n";
    assert_eq!(of("src/model/a.rs", after), ["src/model/a.rs:4: `model` may not use `store`"]);
    let after = "//! A.\n#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::store::Store;\n";
    assert_eq!(of("src/model/a.rs", after), ["src/model/a.rs:4: `model` may not use `store`"]);
    let file = |path: &str, text: &str| (path.to_owned(), format!("//! A.\n{text}\n"));
    let tests = file("src/ingest/system/tests.rs", "use crate::store::Store;");
    assert_eq!(violations(&[file("src/ingest/system.rs", "mod tests;"), tests.clone()]).len(), 1);
    assert_eq!(violations(&[file("src/ingest/system.rs", "#[cfg(test)]\nmod tests;"), tests]).len(), 0);
}

#[test]
fn configuration_may_use_the_rooms_that_have_a_spec() {
    let file = |path: &str, text: &str| (path.to_owned(), format!("//! A.\n{text}\n"));
    let user = file("src/config/a.rs", "use crate::stages::WindowSpec;");
    assert_eq!(violations(&[user.clone(), file("src/stages/a.rs", "pub struct Window;")]).len(), 1);
    assert_eq!(violations(&[user, file("src/stages/a.rs", "pub struct WindowSpec;")]).len(), 0);
}

#[test]
fn a_path_that_is_not_there_is_told() {
    let exists = |path: &str| ["src/store/wal.rs", "src/store", "pipelines/default.toml", "README.md"].contains(&path);
    let text = "`src/store/wal.rs` `store/wal.rs` `store/wal` `src/store/` `pipelines/default.toml` `queries/*.sql` \
                `README.md` `samples/YYYY-MM/N.parquet` `a/b` `default.toml`\n\
                `src/store/gone.rs` and `store/gone.rs` and `pipelines/gone.toml` and `GONE.md`";
    let missing = missing_paths(text, &exists);
    let told = ["src/store/gone.rs", "store/gone.rs", "pipelines/gone.toml", "GONE.md"];
    assert_eq!(missing, told.map(|path| format!("ARCHITECTURE.md:2: there is no `{path}`")));
}
