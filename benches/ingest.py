"""Ingest over HTTP: plimsoll beside VictoriaMetrics, the same bodies on the same machine in one run.

    python3 benches/ingest.py [--hours 24] [--noise int dec2 float] [--recording FILE.parquet] [--rounds 3] [--connections 2]
                              [--skip-victoria] [--out TABLE.md]

Each server starts on a fresh directory and a free port of 127.0.0.1, takes the whole load, is left alone until its CPU
stands still, is asked for its counts and sums, stopped, and merged into as few files as it makes. `benches/README.md`
says what each column means. Needs python3 with numpy (for a recording pyarrow, too); Debian's package victoria-metrics
for the comparison.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import mmap
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
LINES_A_BODY = 5000
CONNECTIONS = 2
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
STILL_SECONDS = 5.0
STILL_CPU_SECONDS = 0.05
SETTLE_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 120.0
# Settings come from this script alone.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PLIMSOLL")}
# What the tables are held against: samples a CPU second while loading, times those of VictoriaMetrics, and memory.
RATE_RATIO_MIN = {"interval": 2.0, "always": 1.3}
PEAK_MB_MAX = 300
FAULTS_TOLD = 5



# The load: bodies to send, and what a server must say of them afterwards.


@dataclass
class Load:
    bytes: mmap.mmap  # or bytes
    bodies: list  # (from, to) in `bytes`
    samples: int
    truth: dict  # metric -> (samples, sum)
    first: int  # seconds
    last: int
    path: str = "/write"
    connections: int = CONNECTIONS
    headers: dict = field(default_factory=lambda: {"Content-Type": "text/plain; charset=utf-8"})


def read_load(path):
    """Cuts a file into bodies and counts and adds up what is in it. Names must need no escapes."""
    with open(path, "rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    values, bodies, lines, start, times = {}, [], 0, 0, set()
    for line in iter(text.readline, b""):
        head, fields, stamp = line.split(b" ")
        measurement = head.split(b",", 1)[0]
        columns = values.setdefault(measurement, {})
        for pair in fields.split(b","):
            name, value = pair.split(b"=")
            columns.setdefault(name, []).append(float(value.rstrip(b"i")))
        times.add(int(stamp))
        lines += 1
        if lines % LINES_A_BODY == 0:
            bodies.append((start, text.tell()))
            start = text.tell()
    if start < len(text):
        bodies.append((start, len(text)))
    truth = {
        f"{measurement.decode()}_{name.decode()}": (len(column), float(np.sum(column)))
        for measurement, columns in values.items()
        for name, column in columns.items()
    }
    samples = sum(count for count, _ in truth.values())
    return Load(text, bodies, samples, truth, min(times) // 10**9, max(times) // 10**9 + 1)


def load_of(bodies, samples):
    """Bodies made in memory, for `send`."""
    ends = [0, *np.cumsum([len(body) for body in bodies]).tolist()]
    return Load(b"".join(bodies), list(zip(ends, ends[1:])), samples, {}, 0, 0)


def recorded_lines(path, out):
    """Writes a recording (columns metric, labels as JSON, time, value) as line protocol, a line a sample, by time.

    The name's first word becomes the measurement, the rest the field. What would need escapes becomes `_`. Of several
    values of a series at one time one is written: the systems differ in what they make of them.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(path).sort_by([("time", "ascending")])
    heads, written = {}, {}

    def head_of(metric, labels):
        measurement, _, name = metric.partition("_")
        pairs = ((key, re.sub(r"[ ,=\\\"]", "_", value)) for key, value in json.loads(labels).items() if value)
        return f"{measurement}{''.join(f',{key}={value}' for key, value in pairs)} {name or 'value'}="

    for batch in table.to_batches(max_chunksize=1 << 16):
        metrics, labels = batch.column("metric").to_pylist(), batch.column("labels").to_pylist()
        times = batch.column("time").cast("int64").to_pylist()
        lines = []
        for metric, label, time_ms, value in zip(metrics, labels, times, batch.column("value").to_pylist()):
            key = (metric, label)
            if not np.isfinite(value) or written.get(key) == time_ms:
                continue
            written[key] = time_ms
            if key not in heads:
                heads[key] = head_of(metric, label)
            lines.append(f"{heads[key]}{value!r} {time_ms}000000\n")
        out.write("".join(lines).encode())


# Processes: started, watched, and ended whatever happens.


class Server:
    """A server process on a port, with its data in a directory."""

    ready_seconds_max = 30

    def __init__(self, command, port, data):
        self.port, self.data = port, data
        self.log = tempfile.TemporaryFile()
        self.cpu_reaped = self.peak_mb = 0
        # A session of its own: Ctrl-C reaches this script alone, which then ends it.
        self.process = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def __enter__(self):
        try:
            self.wait_until_ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def wait_until_ready(self):
        deadline = time.monotonic() + self.ready_seconds_max
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                get(self.port, "/health")
                return
            if self.reap():
                break
            time.sleep(0.02)
        self.log.seek(0)
        raise SystemExit(f"{self.process.args[0]} did not start:\n{self.log.read().decode(errors='replace')}")

    def reap(self):
        """Whether the process has ended; then its CPU seconds are known exactly."""
        if self.process.returncode is None:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid == 0:
                return False
            self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_reaped = usage.ru_utime + usage.ru_stime
        return True

    def cpu(self):
        """User and system seconds of all its threads so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND

    def see_peak(self):
        """Notes the most memory that was resident at once, in MB (10^6 bytes)."""
        with contextlib.suppress(OSError):
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
            for kb in re.findall(r"VmHWM:\s+(\d+) kB", status):
                self.peak_mb = max(self.peak_mb, int(kb) * 1024 / 1e6)

    def settle(self):
        """Waits until the CPU stands still, or long enough; seconds waited."""
        started = time.monotonic()
        seen = [(started, self.cpu())]
        while time.monotonic() - started < SETTLE_SECONDS_MAX:
            time.sleep(0.25)
            seen.append((time.monotonic(), self.cpu()))
            old = [cpu for at, cpu in seen if at <= seen[-1][0] - STILL_SECONDS]
            if old and seen[-1][1] - old[-1] <= STILL_CPU_SECONDS:
                break
        return time.monotonic() - started

    def stop(self):
        """Asks it to end, and waits."""
        self.see_peak()
        self.process.send_signal(signal.SIGTERM)
        self.wait_until_ended()

    def wait_until_ended(self):
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while not self.reap():
            self.see_peak()
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.process.args[0]} did not end within {STOP_SECONDS_MAX:.0f} s")
            time.sleep(0.02)
        if self.process.returncode != 0:
            self.log.seek(0)
            told = self.log.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{self.process.args[0]} ended with {self.process.returncode}:\n{told}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def get(port, path, **query):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path)
        answer = connection.getresponse()
        body = answer.read()
    if answer.status // 100 != 2:
        raise SystemExit(f"{path} answered {answer.status}: {body[:500].decode(errors='replace')}")
    return body


def folder_bytes(folder):
    """Lengths of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# Sending.


@dataclass
class Sent:
    seconds: float
    answers: list = field(default_factory=list)  # seconds from a body's first byte to its acknowledgement
    held: int = 0  # answers that said: later


def send(load, port, connections=None):
    """Posts every body over connections that are never opened again. A body is sent again only where it was refused."""
    connections = connections or load.connections
    queue, sent, faults = iter(load.bodies), Sent(0), []
    lock, text = threading.Lock(), memoryview(load.bytes)

    def post(connection, body):
        while True:
            started = time.monotonic()
            connection.request("POST", load.path, body=body, headers=load.headers)
            answer = connection.getresponse()
            told = answer.read()
            if answer.will_close:
                raise RuntimeError(f"the server closed the connection with {answer.status}")
            later = answer.headers.get("Retry-After")
            if answer.status in (429, 503) and later:
                with lock:
                    sent.held += 1
                time.sleep(float(later))
                continue
            if answer.status // 100 != 2:
                raise RuntimeError(f"{load.path} answered {answer.status}: {told[:300].decode(errors='replace')}")
            with lock:
                sent.answers.append(time.monotonic() - started)
            return

    def work():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            with contextlib.closing(connection):
                connection.connect()
                connection.auto_open = 0
                while not faults:
                    with lock:
                        span = next(queue, None)
                    if span is None:
                        return
                    post(connection, text[span[0] : span[1]])
        except Exception as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(connections)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent.seconds = time.monotonic() - started
    if faults:
        raise SystemExit(f"sending failed: {faults[0]}")
    return sent


# The systems.


class Plimsoll:
    def __init__(self, binary, pipelines, sync):
        self.binary, self.pipelines, self.sync = binary, pipelines, sync
        self.name = f"plimsoll, {'default pipelines' if pipelines else 'no pipelines'}, sync {sync}"
        # Its own collector is off: what it finds on the machine is not in the load.
        off = "false" if pipelines else "true"
        self.settings = f'[collect]\nsystem = false\nown = false\n[pipelines]\noff = {off}\n[store]\nsync = "{sync}"\n'

    def command(self, data, *words):
        config = data.with_name("settings.toml")
        config.write_text(self.settings)
        return [self.binary, *words, "--data", str(data), "--config", str(config)]

    def serve(self, data):
        port = free_port()
        return Server(self.command(data, "serve", "--listen", f"127.0.0.1:{port}"), port, data)

    def found(self, server, _load):
        statement = "select metric, count(*) as samples, sum(value) as total from metrics group by metric"
        rows = json.loads(get(server.port, "/api/v1/sql", q=statement, format="json"))
        return {row["metric"]: (row["samples"], row["total"]) for row in rows}

    def merge_and_stop(self, server):
        """CPU seconds it took beside the server's own, and the peak in MB."""
        server.stop()
        compact = Server(self.command(server.data, "compact"), 0, server.data)
        try:
            compact.wait_until_ended()
        finally:
            compact.end()
        return compact.cpu_reaped, compact.peak_mb


class Victoria:
    name = "VictoriaMetrics"

    def __init__(self, binary):
        self.binary = binary

    def serve(self, data):
        port = free_port()
        # Without the long retention it drops history of more than a month ago.
        options = [f"-storageDataPath={data}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=100y"]
        return Server([self.binary, *options], port, data)

    def found(self, server, load):
        get(server.port, "/internal/force_flush")
        metrics = "{__name__=~'.+'}" + f"[{load.last - load.first + 1}s]"

        def of_each_metric(function):
            query = f"sum({function}({metrics}) keep_metric_names) by (__name__)"
            body = get(server.port, "/api/v1/query", query=query, time=load.last, nocache=1)
            rows = json.loads(body)["data"]["result"]
            return {row["metric"]["__name__"]: float(row["value"][1]) for row in rows}

        counts, sums = of_each_metric("count_over_time"), of_each_metric("sum_over_time")
        return {metric: (int(count), sums[metric]) for metric, count in counts.items()}

    def merge_and_stop(self, server):
        get(server.port, "/internal/force_flush")
        get(server.port, "/internal/force_merge")
        time.sleep(0.5)
        while re.search(rb"^vm_active_force_merges [1-9]", get(server.port, "/metrics"), re.MULTILINE):
            time.sleep(0.1)
        server.settle()
        server.stop()
        return 0.0, 0.0


def differences(truth, found):
    """What is wrong with an answer, in words. Sums may differ by the order in which they were added."""
    faults = [f"{metric}: not in the load" for metric in found.keys() - truth.keys()]
    for metric, (count, total) in truth.items():
        have_count, have_total = found.get(metric, (0, 0.0))
        if have_count != count:
            faults.append(f"{metric}: {have_count} samples, sent were {count}")
        elif abs(have_total - total) > 1e-9 * max(1.0, abs(total)):
            faults.append(f"{metric}: sum {have_total!r}, sent was {total!r}")
    return faults


# Measuring.


def measure(system, load, folder):
    """One run: what the table shows, by name."""
    data = folder / "data"
    with system.serve(data) as server:
        before = server.cpu()
        sent = send(load, server.port)
        cpu_load = server.cpu() - before
        settling = server.settle()
        cpu_settled = server.cpu() - before
        faults = differences(load.truth, system.found(server, load))
        cpu_merge, peak_merge = system.merge_and_stop(server)
        cpu_all = server.cpu_reaped + cpu_merge
    at_rest = folder_bytes(data)
    answers = sorted(sent.answers)
    return {
        "wall": sent.seconds,
        "cpu_load": cpu_load,
        "cpu_settled": cpu_settled,
        "cpu_all": cpu_all,
        "rate_load": load.samples / max(cpu_load, 1 / TICKS_A_SECOND),
        "rate_settled": load.samples / max(cpu_settled, 1 / TICKS_A_SECOND),
        "rate_all": load.samples / cpu_all,
        "answer_p50": answers[len(answers) // 2] * 1e3,
        "answer_p99": answers[len(answers) * 99 // 100] * 1e3,
        "peak_mb": max(server.peak_mb, peak_merge),
        "bytes": at_rest,
        "bytes_a_sample": at_rest / load.samples,
        "bytes_caches": folder_bytes(data / "cache") / load.samples,
        "settling": settling,
        "held": sent.held,
        "faults": faults,
    }


def measure_in_turn(systems, load, rounds, folder):
    """Every system once a round, every second round backwards, so that a machine that slows down slows all."""
    runs = {system.name: [] for system in systems}
    for turn in range(rounds):
        for system in systems if turn % 2 == 0 else reversed(systems):
            with tempfile.TemporaryDirectory(prefix="ingest-", dir=folder) as place:
                run = measure(system, load, pathlib.Path(place))
            runs[system.name].append(run)
            told = f"{run['wall']:.1f} s wall, {run['cpu_settled']:.1f} s CPU, {run['bytes_a_sample']:.3f} bytes a sample"
            print(f"round {turn + 1}: {system.name}: {told}, settled in {run['settling']:.0f} s", file=sys.stderr)
            for fault in run["faults"][:FAULTS_TOLD]:
                print(f"  WRONG: {fault}", file=sys.stderr)
            if len(run["faults"]) > FAULTS_TOLD:
                print(f"  and {len(run['faults']) - FAULTS_TOLD} more", file=sys.stderr)
    return runs


def median_of(runs):
    """The median of each number over the rounds; whether all rounds were right."""
    names = [name for name in runs[0] if name != "faults"]
    return {name: statistics.median(run[name] for run in runs) for name in names} | {
        "right": not any(run["faults"] for run in runs)
    }


# Telling.

COLUMNS = (
    ("wall s", lambda m: f"{m['wall']:.1f}"),
    ("CPU s, load", lambda m: f"{m['cpu_load']:.2f}"),
    ("CPU s, settled", lambda m: f"{m['cpu_settled']:.2f}"),
    ("CPU s, all", lambda m: f"{m['cpu_all']:.2f}"),
    ("samples a CPU s, load", lambda m: thousands(m["rate_load"])),
    ("samples a CPU s, settled", lambda m: thousands(m["rate_settled"])),
    ("samples a CPU s, all", lambda m: thousands(m["rate_all"])),
    ("answer ms, p50", lambda m: f"{m['answer_p50']:.1f}"),
    ("answer ms, p99", lambda m: f"{m['answer_p99']:.1f}"),
    ("peak RSS MB", lambda m: f"{m['peak_mb']:.0f}"),
    ("bytes at rest", lambda m: f"{m['bytes']:,.0f}"),
    ("bytes a sample", lambda m: f"{m['bytes_a_sample']:.3f}"),
    ("counts and sums", lambda m: "exact" if m["right"] else "WRONG"),
)


def thousands(number):
    return f"{number / 1e3:,.0f}k"


def table(medians):
    lines = ["| | " + " | ".join(medians) + " |", "|---|" + "---:|" * len(medians)]
    lines += [f"| {title} | " + " | ".join(cell(m) for m in medians.values()) + " |" for title, cell in COLUMNS]
    return "\n".join(lines)


def held_against(systems, medians):
    """The targets, met or missed."""
    lines = []

    def line(met, text):
        lines.append(f"- {'met' if met else '**missed**'}: {text}")

    victoria = medians.get(Victoria.name)
    # Its caches are no samples.
    theirs_at_rest = victoria and victoria["bytes_a_sample"] - victoria["bytes_caches"]
    for system in systems:
        if system.name == Victoria.name:
            continue
        name, m = system.name, medians[system.name]
        line(m["right"], f"{name}: every count and sum as sent")
        line(m["peak_mb"] <= PEAK_MB_MAX, f"{name}: peak {m['peak_mb']:.0f} MB, at most {PEAK_MB_MAX}")
        if victoria:
            parts = ("load", "settled", "all")
            ratios = {part: m[f"rate_{part}"] / victoria[f"rate_{part}"] for part in parts}
            told = ", ".join(f"{ratio:.2f} {part}" for part, ratio in ratios.items())
            least = RATE_RATIO_MIN[system.sync]
            line(ratios["settled"] >= least, f"{name}: {told} times the samples a CPU second of {Victoria.name}, at least {least}")
            if not system.pipelines:
                told = f"{m['bytes_a_sample']:.3f} bytes a sample, {Victoria.name} {theirs_at_rest:.3f} beside its caches"
                line(m["bytes_a_sample"] <= theirs_at_rest, f"{name}: {told}")
    held = {name: m["held"] for name, m in medians.items() if m["held"]}
    lines += [f"- {name} asked the sender to wait {count:.0f} times" for name, count in held.items()]
    return "\n".join(lines)


def machine(binaries):
    """The machine and the versions, a line each."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    facts = [
        f"CPU: {cpu.group(1) if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} cores; {memory:.0f} GiB memory",
        f"kernel: {platform.release()}",
        *(f"{pathlib.Path(binary).name} {version(binary)}" for binary in binaries),
        f"source: {commit or 'not a checkout'}",
        f"python {platform.python_version()}, numpy {np.__version__}",
        f"date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "load of the machine before the first run, 1 and 5 minutes: {:.2f}, {:.2f}".format(*os.getloadavg()),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def version(binary):
    """What the program says of itself or, where it says nothing, the package it came in."""
    packages = ["dpkg-query", "-W", "-f", "${Version} (Debian)", pathlib.Path(binary).name]
    for command in [[binary, "--version"], packages]:
        with contextlib.suppress(OSError):
            told = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT).stdout.strip()
            if told:
                return told.split(maxsplit=1)[-1] if command[0] == binary else told
    return "of unknown version"


# The command line.


def release_binary():
    subprocess.run(["cargo", "build", "--release"], cwd=REPOSITORY, check=True)
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--format-version", "1"], cwd=REPOSITORY, check=True, capture_output=True
    )
    return os.path.join(json.loads(metadata.stdout)["target_directory"], "release", "plimsoll")


def victoria_binary():
    binary = shutil.which("victoria-metrics")
    if not binary:
        raise SystemExit(
            "victoria-metrics is not installed: `apt-get install victoria-metrics` on Debian or Ubuntu,"
            " or leave it out with --skip-victoria"
        )
    return binary


def parsed():
    parser = argparse.ArgumentParser(description="Measures ingest over HTTP, beside VictoriaMetrics.")
    devops.arguments(parser)
    parser.add_argument(
        "--noise", nargs="*", choices=devops.NOISES, default=list(devops.NOISES), help="of the values; a load each (default all)"
    )
    parser.add_argument("--recording", metavar="FILE", help="and a load of what this Parquet file holds")
    parser.add_argument("--load", metavar="FILE", help="send this line protocol (times in ns) instead of making one")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--skip-victoria", action="store_true", help="measure plimsoll alone")
    parser.add_argument("--rounds", type=int, default=1, help="measure so often and show medians (default 1)")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=f"send over so many (default {CONNECTIONS})")
    parser.add_argument("--folder", help="where data directories are made (default: the temporary folder)")
    parser.add_argument("--out", metavar="FILE", help="write the tables here, too")
    return parser.parse_args()


def loads(args, folder):
    """Names of the loads and files of line protocol, each made when it is its turn."""
    if args.load:
        yield "the file given", args.load
        return
    path = os.path.join(folder, "load.lp")
    for noise in args.noise:
        with open(path, "wb", buffering=1 << 22) as out:
            devops.generate(out, args.hosts, args.hours, args.step, noise, args.seed)
        yield f"{args.hosts} hosts, {args.hours:g} h, every {args.step} s, `{noise}`", path
    if args.recording:
        with open(path, "wb", buffering=1 << 22) as out:
            recorded_lines(args.recording, out)
        yield f"recording `{pathlib.Path(args.recording).name}`", path


def section(args, name, load, systems, medians):
    rounds = "one round" if args.rounds == 1 else f"medians of {args.rounds} rounds"
    title = f"{load.samples:,} samples in bodies of {LINES_A_BODY:,} lines over {load.connections} connections; {rounds}."
    return f"### {name}\n\n{title}\n\n{table(medians)}\n\n{held_against(systems, medians)}\n\n"


def main():
    args = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binaries = [args.binary or release_binary()] + ([] if args.skip_victoria else [victoria_binary()])
    facts = machine(binaries)
    text, right = "", True
    with tempfile.TemporaryDirectory(prefix="ingest-", dir=args.folder) as folder:
        for name, path in loads(args, folder):
            print(name, file=sys.stderr)
            load = read_load(path)
            load.connections = args.connections
            systems = [Plimsoll(binaries[0], pipelines, sync) for pipelines in (True, False) for sync in ("interval", "always")]
            systems += [Victoria(binary) for binary in binaries[1:]]
            runs = measure_in_turn(systems, load, args.rounds, folder)
            medians = {system: median_of(measured) for system, measured in runs.items()}
            text += section(args, name, load, systems, medians)
            right = right and all(m["right"] for m in medians.values())
    text += f"Measured on:\n\n{facts}\n"
    print(text, end="")
    if args.out:
        pathlib.Path(args.out).write_text(text)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
