//! What the numbers mean, as its users ask: objectives, regressions, capacity, forecasts of files, and jobs through restarts.

use std::fmt::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::tempdir;

use crate::clients::{has, python};
use crate::support::{Ran, Server, number, plimsoll, program, run, sql, until};

const START: i64 = 1_700_000_000;

/// Writes lines of a file and imports it.
fn imported(data: &Path, lines: &str) {
    let file = data.with_extension("lp");
    std::fs::write(&file, lines).unwrap();
    plimsoll(data, &["import", file.to_str().unwrap()]).ending(0);
}

fn with_config(data: &Path, config: &Path, args: &[&str]) -> Ran {
    plimsoll(data, &[&["--config", config.to_str().unwrap()], args].concat())
}

#[test]
fn an_objective_burns_while_requests_fail() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    // A day of ten requests a second; in the last half hour a fifth of them fails.
    let (mut lines, mut errors) = (String::new(), 0);
    for minute in 0..1440_i64 {
        let time = (START + minute * 60) * 1_000_000_000;
        errors += if minute >= 1410 { 120 } else { 0 };
        writeln!(lines, "http,status=500 requests_total={errors} {time}").unwrap();
        writeln!(lines, "http,status=200 requests_total={} {time}", minute * 600 - errors).unwrap();
    }
    imported(&data, &lines);
    let config = folder.path().join("slo.toml");
    let text = "[[slo]]\nname = \"checkout\"\nobjective = 99.9\nwindow = \"30d\"\n\
                availability = { total = \"http_requests_total\", errors_where = \"status >= '500'\" }\n";
    std::fs::write(&config, text).unwrap();
    let end = jiff::Timestamp::from_second(START + 1440 * 60).unwrap().to_string();
    let ran = with_config(&data, &config, &["slo", "--at", &end, "--format", "json"]).ending(3);
    let rows: Vec<Value> = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((rows.len(), rows[0]["alert"].as_str(), rows[0]["violated"].as_bool()), (1, Some("page"), Some(true)));
    let share = 1.0 - 30.0 * 120.0 / (1439.0 * 600.0);
    assert!((rows[0]["sli"].as_f64().unwrap() - share * 100.0).abs() < 1e-6, "{rows:?}");
    assert!(rows[0]["told"].as_str().unwrap().contains("is spent"), "{rows:?}");
    // Before it, all was well; and every hour tells how the budget went.
    let before = jiff::Timestamp::from_second(START + 1400 * 60).unwrap().to_string();
    with_config(&data, &config, &["slo", "--at", &before, "--alerting"]).ending(0);
    let from = jiff::Timestamp::from_second(START + 1380 * 60).unwrap().to_string();
    let every = ["slo", "--from", &from, "--to", &end, "--every", "10m", "--format", "json"];
    let rows: Vec<Value> = serde_json::from_slice(&with_config(&data, &config, &every).ending(3).stdout).unwrap();
    let left: Vec<f64> = rows.iter().map(|row| row["budget_remaining"].as_f64().unwrap()).collect();
    assert!(left.len() >= 6 && left.is_sorted_by(|a, b| a >= b) && left[0] == 1.0, "{left:?}");
    // The table says it of now, when nothing is known of the window any more.
    let rows = with_config(&data, &config, &["sql", "SELECT slo, alert FROM slo", "--format", "csv"]).ending(0).text();
    assert!(["slo,alert\n", "slo,alert\ncheckout,none\n"].contains(&&*rows), "{rows}");
    std::fs::write(&config, "[[slo]]\nname = \"a\"\nobjective = 101\navailability = { up = \"up\" }\n").unwrap();
    let told = with_config(&data, &config, &["slo"]).ending(2).stderr;
    assert!(told.contains("slo.toml:3: slo `a`: objective"), "{told}");
}

#[test]
fn a_slower_build_is_told_by_name_with_exit_code_3() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let file = |name: &str| folder.path().join(name).display().to_string();
    for (name, command) in [("old.json", "sleep 0.1"), ("new.json", "sleep 0.3"), ("same.json", "sleep 0.1")] {
        // The metric is named after what runs: `BUILD` hides which.
        let script = folder.path().join("build.sh");
        std::fs::write(&script, command).unwrap();
        let told = format!("sh {}", script.display());
        plimsoll(&data, &["benchmark", "--command", &told, "--runs", "12", "--save", &file(name)]).ending(0);
    }
    plimsoll(&data, &["regress", "baseline", "v1", "--input", &file("old.json"), "--label", "commit=abc"]).ending(0);
    let test = |input: &str, code: i32| -> (Vec<Value>, String) {
        let ran = plimsoll(
            &data,
            &["regress", "test", "v1", "--input", &file(input), "--min-effect", "100%", "--format", "json"],
        );
        let ran = ran.ending(code);
        (serde_json::from_slice(&ran.stdout).unwrap(), ran.stderr)
    };
    let (rows, told) = test("new.json", 3);
    let worse: Vec<&Value> = rows.iter().filter(|row| row["verdict"] == "regression").collect();
    assert!(worse.len() == 1 && worse[0]["metric"].as_str().unwrap().contains("build.sh"), "{rows:?}");
    assert!(told.contains("build.sh") && told.contains("slower"), "{told}");
    let (rows, _) = test("same.json", 0);
    assert!(rows.iter().all(|row| row["verdict"] != "regression"), "{rows:?}");
    let told = plimsoll(&data, &["regress", "test", "v2", "--input", &file("new.json")]).ending(2).stderr;
    assert!(told.contains("there is no baseline `v2`"), "{told}");
    // What tests found is a table, once there is a store.
    imported(&data, "m v=1 1700000000000000000\n");
    let found = sql(&data, "SELECT count(*) FROM regressions WHERE baseline = 'v1' AND verdict = 'regression'");
    assert_eq!(number(&found), 1.0);
    // Bit by bit, where no run is far from the one before.
    let history: String =
        (0..40).map(|run| format!("latency,{}\n", 100.0 + f64::from(run) + f64::from(run * 7 % 5))).collect();
    std::fs::write(file("history.csv"), format!("metric,value\n{history}")).unwrap();
    let told = plimsoll(&data, &["regress", "trend", "--input", &file("history.csv")]).ending(3).stderr;
    assert!(told.contains("latency rises by"), "{told}");
}

#[test]
fn an_autoscaler_is_printed_that_kubernetes_takes() {
    let folder = tempdir().unwrap();
    let data = folder.path().join("data");
    let now = crate::support::now_seconds();
    let line = |n: i64| format!("system cpu_usage_percent={} {}000000000\n", 40 + n % 30, now - (2016 - n) * 300);
    imported(&data, &(0..2016).map(line).collect::<String>());
    let rows: Vec<Value> =
        serde_json::from_slice(&plimsoll(&data, &["capacity", "cpu", "--format", "json"]).ending(0).stdout).unwrap();
    assert_eq!((rows.len(), rows[0]["resource"].as_str()), (1, Some("cpu")), "{rows:?}");
    assert!((rows[0]["peak"].as_f64().unwrap() - 69.0).abs() < 1e-9 && rows[0]["limit"] == 90.0, "{rows:?}");
    let manifest = folder.path().join("hpa.yaml");
    let hpa = ["capacity", "cpu", "--hpa", "--deployment", "web", "--namespace", "shop"];
    let text = plimsoll(&data, &hpa).ending(0).text();
    assert!(text.starts_with("apiVersion: autoscaling/v2\n") && text.contains("name: web"), "{text}");
    std::fs::write(&manifest, &text).unwrap();
    python("kubernetes_validate, yaml", "hpa_validate.py", &[&manifest.display().to_string()]);
    let hours: Value =
        serde_json::from_slice(&plimsoll(&data, &["capacity", "cpu", "--schedule"]).ending(0).stdout).unwrap();
    assert_eq!(hours.as_object().map(serde_json::Map::len), Some(1), "{hours}");
    let told = plimsoll(&data, &["capacity", "nothing"]).ending(2).stderr;
    assert!(told.contains("there is no resource or metric `nothing`"), "{told}");
    let file = folder.path().join("disk.csv");
    let rows: String = (0..300).map(|hour| format!("{},{}\n", START + hour * 3600, 20.0 + 0.1 * hour as f64)).collect();
    std::fs::write(&file, format!("time,value\n{rows}")).unwrap();
    let ahead = ["capacity", "--input", file.to_str().unwrap(), "--limit", "60", "--horizon", "300"];
    let text = plimsoll(&data, &ahead).ending(0).text();
    let row: Vec<&str> = text.lines().nth(1).unwrap().split(',').collect();
    // 20 + n / 10 is 60 at n = 400: the hundred-and-first step after 300 rows.
    assert!((row[7].parse::<i64>().unwrap() - 101).abs() <= 10, "{text}");
}

#[test]
fn the_series_of_a_file_are_forecast_without_a_store() {
    let folder = tempdir().unwrap();
    let not_there = folder.path().join("not-there");
    let file = folder.path().join("hours.csv");
    let value = |hour: i64| 100.0 + 30.0 * (hour as f64 / 24.0 * std::f64::consts::TAU).sin();
    let rows: String = (0..336).map(|hour| format!("{},{},{hour}\n", START + hour * 3600, value(hour))).collect();
    std::fs::write(&file, format!("time,wave,line\n{rows}")).unwrap();
    let ask = |further: &[&str], code: i32| {
        plimsoll(&not_there, &[&["forecast", "--input", file.to_str().unwrap()], further].concat()).ending(code)
    };
    let text = ask(&["--horizon", "48"], 0).text();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0].join(","), "series,step,time,mean,lo,hi,model");
    assert_eq!(rows.len(), 1 + 2 * 48);
    for row in rows.iter().filter(|row| row[0] == "wave") {
        let (step, mean) = (row[1].parse::<i64>().unwrap(), row[3].parse::<f64>().unwrap());
        assert!((mean - value(335 + step)).abs() < 2.0, "{row:?}");
        assert!(row[4].parse::<f64>().unwrap() <= mean && mean <= row[5].parse::<f64>().unwrap(), "{row:?}");
    }
    assert_eq!(ask(&["--horizon", "2d"], 0).text(), text);
    for (further, told) in [
        (&["--horizon", "x"][..], "neither a number of steps nor a length"),
        (&["--horizon", "0"], "0 steps"),
        (&["--level", "20"], "write a percentage"),
    ] {
        assert!(ask(further, 2).stderr.contains(told), "{further:?}");
    }
    assert!(!not_there.exists());
}

const JOBS: &str = "[[job]]\nname = \"ahead\"\nevery = \"1s\"\ncatch_up = \"all\"\n\
                    forecast = { metric = \"load_v\", horizon = \"3s\" }\n\
                    [[job]]\nname = \"further\"\nevery = \"1s\"\ncatch_up = \"all\"\n\
                    forecast = { metric = \"load_v\", horizon = \"9s\" }\n\
                    [[job]]\nname = \"count\"\nevery = \"1s\"\ncatch_up = \"all\"\n\
                    sql = \"SELECT count(*) AS value FROM load\"\ninto = \"rows_stored\"\n";

/// Every scheduled second from the first run to the last is one run, and each has one effect.
#[test]
fn jobs_run_once_for_each_time_through_a_stop_and_a_kill() {
    let folder = tempdir().unwrap();
    let config = folder.path().join("jobs.toml");
    std::fs::write(&config, JOBS).unwrap();
    let data = folder.path().join("data");
    let start = || {
        let mut command = program(&data);
        command.args(["--config", config.to_str().unwrap(), "serve", "--listen", "127.0.0.1:0"]);
        Server::of(command)
    };
    let write = |server: &Server| {
        let now = crate::support::now_seconds();
        for back in 0..40 {
            server.write(&format!("load v={} {}000000000", back % 5, now - back));
        }
    };
    let done = |server: &Server| {
        number(&server.sql("SELECT count(*) FROM jobs WHERE state = 'done' AND job = 'count'")) as u64
    };
    let server = start();
    write(&server);
    until("three runs", || done(&server) >= 3);
    server.kill();
    thread::sleep(Duration::from_secs(2));
    let server = start();
    until("eight runs", || done(&server) >= 8);
    server.stop();
    thread::sleep(Duration::from_secs(2));
    let server = start();
    write(&server);
    until("fourteen runs, and forecasts that were held against what came", || {
        write(&server);
        let scored = "SELECT count(*) FROM forecast_accuracy WHERE job = 'ahead' AND steps > 0";
        done(&server) >= 14 && number(&server.sql(scored)) > 0.0
    });
    let runs = server.sql(
        "SELECT job, count(*) AS n, count(DISTINCT scheduled) AS times, \
         date_part('epoch', max(scheduled)) - date_part('epoch', min(scheduled)) + 1 AS seconds, \
         sum(CASE WHEN state IN ('done', 'started', 'planned') THEN 0 ELSE 1 END) AS others FROM jobs GROUP BY job ORDER BY job",
    );
    assert_eq!(runs.len(), 3, "{runs:?}");
    for run in &runs {
        let count = |name: &str| run[name].as_f64().unwrap();
        assert_eq!((count("n"), count("others")), (count("times"), 0.0), "{run}");
        assert_eq!(count("n"), count("seconds"), "no second was lost: {run}");
    }
    let effects = server.sql("SELECT count(*) AS n, count(DISTINCT time) AS times FROM rows_stored");
    assert_eq!(effects[0]["n"], effects[0]["times"], "{effects:?}");
    // A forecast for each done run, and no two for one time.
    let issued = server.sql("SELECT count(DISTINCT issued) AS n FROM forecasts WHERE job = 'ahead'");
    let twice = server
        .sql("SELECT count(*) AS n FROM (SELECT issued, time, job, count(*) AS c FROM forecasts GROUP BY 1, 2, 3) WHERE c > 1");
    assert!(issued[0]["n"].as_u64() >= Some(3), "{issued:?}");
    // Two jobs at one time leave each other's be.
    let both = server
        .sql("SELECT count(*) AS n FROM (SELECT issued FROM forecasts GROUP BY issued HAVING count(DISTINCT job) = 2)");
    assert!(both[0]["n"].as_u64() >= Some(3), "{both:?}");
    assert_eq!(twice[0]["n"].as_u64(), Some(0));
    server.stop();
}

#[test]
fn a_job_that_is_interrupted_keeps_what_it_forecast_by_then() {
    if !has("kill", "sh", &["-c", "kill -l"]) {
        return;
    }
    let folder = tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("jobs.toml"));
    let text = "[[job]]\nname = \"ahead\"\nevery = \"1h\"\nforecast = { metric = \"load_v\", horizon = \"1h\" }\n";
    std::fs::write(&config, text).unwrap();
    let mut lines = String::new();
    let now = crate::support::now_seconds();
    for (host, minute) in (0..400).flat_map(|host| (0..240).map(move |minute| (host, minute))) {
        let value = (minute * 7919 + host) % 17;
        writeln!(lines, "load,host=h{host} v={value} {}000000000", now - (240 - minute) * 60).unwrap();
    }
    imported(&data, &lines);
    let script = format!(
        "\"$0\" --data '{}' --config '{}' jobs run ahead & p=$!; \
         while kill -0 $p 2>/dev/null; do sleep 0.2; n=$((n+1)); [ $n = 25 ] && kill -INT $p; done; wait $p",
        data.display(),
        config.display()
    );
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_plimsoll")]);
    let ran = run(command, b"");
    let kept = number(&sql(&data, "SELECT count(DISTINCT series) FROM forecasts"));
    match ran.code {
        Some(0) => assert_eq!(kept, 400.0, "it was quicker than its end"),
        Some(1) => {
            assert!(ran.stderr.contains("what they gave is kept"), "{}", ran.stderr);
            assert!(kept < 400.0, "{kept}: {}", ran.stderr);
        }
        other => panic!("{other:?}: {}", ran.stderr),
    }
    with_config(&data, &config, &["jobs", "run", "ahead"]).ending(0);
    assert_eq!(number(&sql(&data, "SELECT count(DISTINCT series) FROM forecasts")), 400.0);
    let told = with_config(&data, &config, &["jobs", "run", "none"]).ending(2).stderr;
    assert!(told.contains("there is no job `none`"), "{told}");
}
