"""A million active series: many hosts with many metrics each, one sample a minute, then some hosts replaced by new ones.

    python3 benches/million.py [--series 1000000] [--rounds 10] [--churn 3] [--runs shipped,log] [--out TABLE.md]

Each run starts the server on a fresh directory and a free port of 127.0.0.1, sends the rounds over two connections, asks
its questions, ends the server with SIGKILL, starts it again on what it left and asks the same again. The run `shipped`
has the settings as they come, but for pipelines (`--pipelines` lets them run) and the server's own metrics; the run `log`
has a head so large that nothing is flushed, so that the start reads every sample from the log. Needs python3 with numpy.
"""

import argparse
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import pathlib
import re
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import ingest

HOSTS = 100
LINES_A_BODY = 10_000
CONNECTIONS = 2
START = 1_767_225_600  # 2026-01-01T00:00:00Z, in seconds
ASKED = 5  # times each question is asked; the median counts
# What the table is held against, at a million series.
PEAK_MB_MAX = 1200
REQUEST_S_MAX = 2.0
REPLAY_S_MAX = 10.0

RUNS = {
    "shipped": "",
    "log": 'head = "64GB"\nhead_age = "1d"\n',
}


class Server(ingest.Server):
    ready_seconds_max = 600

    def resident_mb(self):
        """Most and present resident memory, in MB (10^6 bytes)."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 / 1e6 for name in ("VmHWM", "VmRSS"))


# The load.


class Fleet:
    """Hosts with metrics each, whose values walk. A churned host comes back under a new name with all its series."""

    def __init__(self, series, seed=1):
        self.metrics = max(1, series // HOSTS)
        self.chance = np.random.default_rng(seed)
        self.names = [f"web-{host:03d}" for host in range(HOSTS)]
        self.values = self.chance.integers(0, 1000, HOSTS * self.metrics)
        self.known = HOSTS * self.metrics

    def churn(self, share, generation):
        """Replaces a share of the hosts; how many series are new."""
        replaced = range(0, HOSTS, max(1, round(1 / share)))
        for host in replaced:
            self.names[host] = f"web-{host:03d}-{generation}"
        self.known += len(replaced) * self.metrics
        return len(replaced) * self.metrics

    def bodies(self, minute):
        """One sample of each series at that minute, some hosts' at a time."""
        self.values = np.abs(self.values + self.chance.integers(-5, 6, self.values.size))
        stamp = f"{START + minute * 60}000000000"
        # A body holds whole hosts' stretches of metrics, as agents send them.
        for host, name in enumerate(self.names):
            for first in range(0, self.metrics, LINES_A_BODY):
                last = min(self.metrics, first + LINES_A_BODY)
                values = self.values[host * self.metrics + first : host * self.metrics + last]
                tags = f",host={name},region=r{host // 25} value=%di {stamp}\n"
                lines = "".join(f"app_metric_{metric:05d}{tags}" for metric in range(first, last))
                yield (lines % tuple(values.tolist())).encode(), last - first


@dataclass
class Sent:
    samples: int = 0
    seconds: float = 0.0
    answers: list = field(default_factory=list)  # seconds of each request
    held: int = 0  # answers that said: later


def send(bodies, port, sent):
    """Posts bodies over connections that stay open; one refused for now is sent again."""
    lock = threading.Lock()

    def work():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
            while True:
                with lock:
                    body, samples = next(bodies, (None, 0))
                if body is None:
                    return
                while not post(connection, body):
                    with lock:
                        sent.held += 1
                with lock:
                    sent.samples += samples

    def post(connection, body):
        started = time.monotonic()
        connection.request("POST", "/write", body=body)
        answer = connection.getresponse()
        told = answer.read()
        sent.answers.append(time.monotonic() - started)
        if answer.status == 503 and answer.headers.get("Retry-After"):
            time.sleep(float(answer.headers["Retry-After"]))
            return False
        if answer.status != 204:
            raise SystemExit(f"/write answered {answer.status}: {told[:300].decode(errors='replace')}")
        return True

    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        for done in [pool.submit(work) for _ in range(CONNECTIONS)]:
            done.result()
    sent.seconds += time.monotonic() - started


# Questions.

QUESTIONS = {
    "one series": "SELECT time, value FROM metrics WHERE metric = 'app_metric_00007_value' AND host = 'web-042'",
    "one metric's table": "SELECT host, value FROM app_metric_00007_value WHERE host = 'web-042'",
    "system.labels": "SELECT * FROM system.labels ORDER BY values DESC LIMIT 5",
    "system.series, ten": "SELECT * FROM system.series LIMIT 10",
    "count(*)": "SELECT count(*) AS n FROM metrics",
}


def ask(port):
    """Median milliseconds of each question, and the answers."""
    times, answers = {}, {}
    for name, statement in QUESTIONS.items():
        taken = []
        for _ in range(ASKED):
            started = time.monotonic()
            answers[name] = json.loads(ingest.get(port, "/api/v1/sql", q=statement, format="json"))
            taken.append(time.monotonic() - started)
        times[name] = sorted(taken)[ASKED // 2] * 1e3
    return times, answers


def gauge(port, name):
    text = ingest.get(port, "/metrics").decode()
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def differences(fleet, sent, answers, rounds):
    """What is wrong with the answers, in words."""
    found = answers["count(*)"][0]["n"]
    faults = [] if found == sent.samples else [f"{found} samples, sent were {sent.samples}"]
    if len(answers["one series"]) != rounds:
        faults.append(f"one series has {len(answers['one series'])} samples, sent were {rounds}")
    values = {row["label"]: row["values"] for row in answers["system.labels"]}
    hosts = fleet.known // fleet.metrics
    if values.get("host") != hosts:
        faults.append(f"the label host has {values.get('host')} values, sent were {hosts}")
    return faults


# Measuring.


def measure(binary, run, args, folder):
    settings = folder / "settings.toml"
    off = "false" if args.pipelines else "true"
    store = f"[store]\n{RUNS[run]}" + f"[collect]\nsystem = false\nown = false\n[pipelines]\noff = {off}\n"
    settings.write_text(store + "[ingest]\nseries_per_source = 100000000\nseries_max = 100000000\n")
    data = folder / "data"

    def serve():
        port = ingest.free_port()
        listen = ["serve", "--listen", f"127.0.0.1:{port}", "--data", str(data), "--config", str(settings)]
        return Server([binary, *listen], port, data)

    m = {}
    fleet, first, steady, churned = Fleet(args.series), Sent(), Sent(), Sent()
    with serve() as server:
        send(fleet.bodies(0), server.port, first)
        send(itertools.chain.from_iterable(fleet.bodies(minute) for minute in range(1, args.rounds)), server.port, steady)
        m["peak_mb"], m["rss_mb"] = server.resident_mb()
        m["cpu"] = server.cpu()
        m["series_bytes"] = gauge(server.port, "plimsoll_series_bytes") / fleet.known
        m["known_bytes"] = gauge(server.port, "plimsoll_ingest_known_bytes") / fleet.known
        for generation in range(args.churn):
            fleet.churn(0.1, generation)
            send(fleet.bodies(args.rounds + generation), server.port, churned)
        m["cpu_all"] = server.cpu()
        times, answers = ask(server.port)
        sent = Sent(sum(part.samples for part in (first, steady, churned)))
        # Those of the host asked for are never replaced.
        m["faults"] = differences(fleet, sent, answers, args.rounds + args.churn)
        m["peak_all_mb"], m["rss_all_mb"] = server.resident_mb()
        m["queries"] = times
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    m["samples"], m["series"] = sent.samples, fleet.known
    m["log"] = ingest.folder_bytes(data / "wal")
    m["bytes"] = ingest.folder_bytes(data)
    answered = sorted(first.answers + steady.answers + churned.answers)
    m["answer_max"], m["answer_p99"] = answered[-1], answered[len(answered) * 99 // 100]
    m["answer_p50"] = answered[len(answered) // 2]
    m["first_s"], m["steady_s"], m["churned_s"] = first.seconds, steady.seconds, churned.seconds
    m["held"] = first.held + steady.held + churned.held
    started = time.monotonic()
    with serve() as server:
        m["ready"] = time.monotonic() - started
        m["replay_peak_mb"], _ = server.resident_mb()
        m["replay_cpu"] = server.cpu()
        m["queries_after"], answers = ask(server.port)
        m["faults"] += [f"after the crash: {fault}" for fault in differences(fleet, sent, answers, args.rounds + args.churn)]
    return m


# Telling.

COLUMNS = (
    ("series", lambda m: f"{m['series']:,}"),
    ("samples", lambda m: f"{m['samples']:,}"),
    ("first round, s", lambda m: f"{m['first_s']:.1f}"),
    ("further rounds, s", lambda m: f"{m['steady_s']:.1f}"),
    ("rounds with churn, s", lambda m: f"{m['churned_s']:.1f}"),
    ("request ms, p50", lambda m: f"{m['answer_p50'] * 1e3:.1f}"),
    ("request ms, p99", lambda m: f"{m['answer_p99'] * 1e3:.1f}"),
    ("request ms, slowest", lambda m: f"{m['answer_max'] * 1e3:.1f}"),
    ("told to wait", lambda m: f"{m['held']}"),
    ("CPU s, before churn", lambda m: f"{m['cpu']:.1f}"),
    ("CPU s, all rounds", lambda m: f"{m['cpu_all']:.1f}"),
    ("peak RSS MB, before churn", lambda m: f"{m['peak_mb']:.0f}"),
    ("peak RSS MB, all", lambda m: f"{m['peak_all_mb']:.0f}"),
    ("RSS MB at the end", lambda m: f"{m['rss_all_mb']:.0f}"),
    ("bytes of memory a series, names and lists", lambda m: f"{m['series_bytes']:.0f}"),
    ("bytes of memory a series, heads of lines", lambda m: f"{m['known_bytes']:.0f}"),
    ("bytes on disk a sample, log included", lambda m: f"{m['bytes'] / m['samples']:.2f}"),
    ("log MB at the kill", lambda m: f"{m['log'] / 1e6:.0f}"),
    ("ready after the kill, s", lambda m: f"{m['ready']:.2f}"),
    ("CPU s of the start", lambda m: f"{m['replay_cpu']:.2f}"),
    ("peak RSS MB of the start", lambda m: f"{m['replay_peak_mb']:.0f}"),
    *(
        (f"ms, {name}: before, after the kill", lambda m, name=name: f"{m['queries'][name]:.1f}, {m['queries_after'][name]:.1f}")
        for name in QUESTIONS
    ),
    ("counts", lambda m: "exact" if not m["faults"] else "WRONG"),
)


def table(runs):
    lines = ["| | " + " | ".join(runs) + " |", "|---|" + "---:|" * len(runs)]
    return "\n".join(lines + [f"| {title} | " + " | ".join(cell(m) for m in runs.values()) + " |" for title, cell in COLUMNS])


def held_against(runs):
    lines = []
    for name, m in runs.items():
        wanted = [
            (not m["faults"], "every count as sent"),
            (m["peak_all_mb"] <= PEAK_MB_MAX, f"peak {m['peak_all_mb']:.0f} MB, at most {PEAK_MB_MAX}"),
            (m["answer_max"] <= REQUEST_S_MAX, f"slowest request {m['answer_max']:.2f} s, at most {REQUEST_S_MAX:g}"),
            (m["ready"] <= REPLAY_S_MAX, f"ready in {m['ready']:.2f} s, at most {REPLAY_S_MAX:g}"),
            (
                m["replay_peak_mb"] <= m["peak_all_mb"],
                f"the start peaks at {m['replay_peak_mb']:.0f} MB, the load at {m['peak_all_mb']:.0f}",
            ),
        ]
        lines += [f"- {'met' if met else '**missed**'}: {name}: {text}" for met, text in wanted]
    return "\n".join(lines)


def parsed():
    parser = argparse.ArgumentParser(description="Measures a million active series.")
    parser.add_argument("--series", type=int, default=1_000_000, help=f"active series, of {HOSTS} hosts (default 1000000)")
    parser.add_argument("--rounds", type=int, default=10, help="samples of each series before the churn (default 10)")
    parser.add_argument("--churn", type=int, default=3, help="rounds in each of which a tenth is new (default 3)")
    parser.add_argument("--runs", default=",".join(RUNS), help="which runs (default both)")
    parser.add_argument("--pipelines", action="store_true", help="with the default pipelines")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--folder", help="where data directories are made (default: the temporary folder)")
    parser.add_argument("--out", metavar="FILE", help="write the tables here, too")
    args = parser.parse_args()
    args.runs = args.runs.split(",")
    if unknown := [run for run in args.runs if run not in RUNS]:
        parser.error(f"no run {unknown[0]}: there are {', '.join(RUNS)}")
    return args


def main():
    args = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary = args.binary or ingest.release_binary()
    facts = ingest.machine([binary])
    runs = {}
    for run in args.runs:
        with tempfile.TemporaryDirectory(prefix="million-", dir=args.folder) as folder:
            runs[run] = measure(binary, run, args, pathlib.Path(folder))
        print(f"{run}: {runs[run]['steady_s']:.0f} s for the steady rounds", file=sys.stderr)
        for fault in runs[run]["faults"]:
            print(f"  WRONG: {fault}", file=sys.stderr)
    title = f"{args.series:,} series of {HOSTS} hosts, {args.rounds} rounds and {args.churn} in which a tenth is new"
    text = f"{title}.\n\n{table(runs)}\n\nHeld against:\n\n{held_against(runs)}\n\nMeasured on:\n\n{facts}\n"
    print(text, end="")
    if args.out:
        pathlib.Path(args.out).write_text(text)
    sys.exit(0 if not any(m["faults"] for m in runs.values()) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
