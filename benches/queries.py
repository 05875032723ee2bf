"""The TSBS devops queries: plimsoll beside DuckDB, ClickHouse (chdb) and VictoriaMetrics, the same data on the same machine
in one run.

    python3 benches/queries.py [--hosts 100] [--hours 24] [--runs 15] [--only NAME...] [--skip duckdb chdb victoria] [--binary PATH]
                               [--out TABLE.md]

Every system holds the load of `devops.py` at rest: plimsoll's server (one answering from samples alone, one with the
summaries of its files) and VictoriaMetrics took it over HTTP and were merged,
DuckDB and chdb have it as a table of their own, a column a field. Each query is asked once to warm up and then `--runs`
times, of the same random hosts and spans for all; the median counts, and all rows are fetched. Answers are compared.
`benches/README.md` says more. Needs numpy, pyarrow, duckdb and chdb from PyPI, and Debian's victoria-metrics.
"""

import argparse
import contextlib
import http.client
import io
import json
import math
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
import urllib.parse

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops
import ingest

FIELDS = [f"usage_{field}" for field in devops.FIELDS]
LABELS = ["hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version", "service_environment"]
HOUR = 3600
CORES = len(os.sched_getaffinity(0))
RAW, OURS = "plimsoll, samples alone", "plimsoll"


@contextlib.contextmanager
def environment(**names):
    """Set for those that are started meanwhile."""
    ingest.ENVIRONMENT.update(names)
    yield
    for name in names:
        del ingest.ENVIRONMENT[name]


class Query:
    """What is asked: by name, and for one choice of hosts and span."""

    def __init__(self, name, fields=(), hosts=0, hours=0, by=(), function="max", every=60):
        self.name, self.fields, self.hosts, self.hours = name, list(fields), hosts, hours
        self.by, self.function, self.every = by, function, every

    def choose(self, chance, args):
        """Hosts and span for one run."""
        hosts = sorted(chance.choice(args.hosts, self.hosts, replace=False).tolist()) if self.hosts else []
        hours = self.hours or args.hours
        latest = int((args.hours - hours) * HOUR // 60)
        start = devops.START + int(chance.integers(0, latest + 1)) * 60
        if self.every == HOUR:
            start -= start % HOUR
        return [f"host_{host}" for host in hosts], start, start + int(hours * HOUR)


QUERIES = [
    Query("single-groupby-1-1-1", FIELDS[:1], hosts=1, hours=1),
    Query("single-groupby-5-8-1", FIELDS[:5], hosts=8, hours=1),
    Query("cpu-max-all-8", FIELDS, hosts=8, hours=8, every=HOUR),
    Query("double-groupby-1", FIELDS[:1], hours=12, by=("hostname",), function="avg", every=HOUR),
    Query("double-groupby-5", FIELDS[:5], hours=12, by=("hostname",), function="avg", every=HOUR),
    Query("double-groupby-all", FIELDS, hours=12, by=("hostname",), function="avg", every=HOUR),
    Query("high-cpu-all", FIELDS, hours=12),
    Query("lastpoint", FIELDS),
    Query("groupby-orderby-limit", FIELDS[:1], hours=12),
]
ROWS = {"high-cpu-all", "lastpoint"}  # those that give rows rather than groups


def sql_of(query, choice, dialect):
    """The statement as a user of the system would write it."""
    hosts, start, end = choice
    moment = {
        "plimsoll": lambda at: f"'{np.datetime64(at, 's')}Z'",
        "duckdb": lambda at: f"TIMESTAMP '{np.datetime64(at, 's')}'",
        "chdb": lambda at: f"toDateTime({at}, 'UTC')",
    }[dialect]
    unit = "minute" if query.every == 60 else "hour"
    bucket = {"chdb": f"toStartOf{unit.capitalize()}(time)"}.get(dialect, f"date_trunc('{unit}', time)")
    span = f"time >= {moment(start)} AND time < {moment(end)}"
    if query.name == "high-cpu-all":
        return f"SELECT * FROM cpu WHERE usage_user > 90.0 AND {span}"
    if query.name == "lastpoint":
        if dialect == "chdb":
            return "SELECT * FROM cpu ORDER BY hostname, time DESC LIMIT 1 BY hostname"
        return "SELECT DISTINCT ON (hostname) * FROM cpu ORDER BY hostname, time DESC"
    values = ", ".join(f"{query.function}({field}) AS {field}" for field in query.fields)
    if query.name == "groupby-orderby-limit":
        return f"SELECT {bucket} AS bucket, {values} FROM cpu WHERE time < {moment(end)} GROUP BY bucket ORDER BY bucket DESC LIMIT 5"
    names = ", ".join(f"'{host}'" for host in hosts)
    of_hosts = f"hostname IN ({names}) AND " if hosts else ""
    keys = ", ".join(["bucket", *query.by])
    columns = ", ".join([f"{bucket} AS bucket", *query.by])
    return f"SELECT {columns}, {values} FROM cpu WHERE {of_hosts}{span} GROUP BY {keys} ORDER BY {keys}"


def comparable(table, query):
    """Rows of an Arrow table in one order: times in seconds, numbers rounded."""
    rows = []
    names = [name for name in table.column_names if name != "tags_id"]
    if query.name in ROWS:
        names = ["time", "hostname", *FIELDS]
    for row in table.select(names).to_pylist():
        cells = []
        for value in row.values():
            if hasattr(value, "timestamp"):
                stamp = value if value.tzinfo else value.replace(tzinfo=__import__("datetime").timezone.utc)
                cells.append(int(stamp.timestamp()))
            elif isinstance(value, (bytes, bytearray)):
                cells.append(value.decode())
            elif isinstance(value, float):
                cells.append(float(f"{value:.9g}"))
            else:
                cells.append(value)
        rows.append(tuple(cells))
    return sorted(rows, key=str)


# The systems: each takes a query and a choice, and gives an Arrow table.


class Plimsoll:
    def __init__(self, server, name):
        self.server, self.name = server, name
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    def ask(self, query, choice):
        q = urllib.parse.quote(sql_of(query, choice, "plimsoll"))
        self.connection.request("GET", f"/api/v1/sql?format=arrow&q={q}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{query.name}: {body[:500].decode(errors='replace')}")
        return body

    def table(self, answer):
        import pyarrow.ipc

        table = pyarrow.ipc.open_stream(io.BytesIO(answer)).read_all()
        decoded = [column.cast("string") if str(column.type).startswith("dictionary") else column for column in table.columns]
        return pyarrow.table(decoded, names=table.column_names)


class Duckdb:
    name = "DuckDB"

    def __init__(self, columns, folder):
        import duckdb

        self.connection = duckdb.connect(str(folder / "cpu.duckdb"), config={"threads": CORES})
        self.connection.register("columns", columns)
        self.connection.execute("SET TimeZone='UTC'")
        self.connection.execute("CREATE TABLE cpu AS SELECT * FROM columns ORDER BY hostname, time")
        self.connection.unregister("columns")
        self.connection.execute("CHECKPOINT")

    def ask(self, query, choice):
        return self.connection.execute(sql_of(query, choice, "duckdb")).to_arrow_table()

    def table(self, answer):
        return answer


class Chdb:
    name = "ClickHouse (chdb)"

    def __init__(self, columns, folder):
        import pyarrow.parquet
        from chdb import session

        path = folder / "cpu.parquet"
        pyarrow.parquet.write_table(columns, path)
        self.session = session.Session(str(folder / "chdb"))
        fields = ", ".join(f"{field} Float64" for field in FIELDS)
        labels = ", ".join(f"{label} LowCardinality(String)" for label in LABELS)
        self.session.query("CREATE DATABASE IF NOT EXISTS d ENGINE = Atomic")
        self.session.query("USE d")
        self.session.query(f"CREATE TABLE cpu (time DateTime('UTC'), {labels}, {fields}) ENGINE = MergeTree ORDER BY (hostname, time)")
        self.session.query(f"INSERT INTO cpu SELECT * FROM file('{path}', Parquet)")
        self.session.query("OPTIMIZE TABLE cpu FINAL")

    def ask(self, query, choice):
        statement = f"{sql_of(query, choice, 'chdb')} SETTINGS max_threads = {CORES}, output_format_arrow_string_as_string = 1"
        return self.session.query(statement, "ArrowStream").bytes()

    def table(self, answer):
        import pyarrow.ipc

        table = pyarrow.ipc.open_stream(io.BytesIO(answer)).read_all()
        moments = {"bucket", "time"}
        decoded = []
        for name, column in zip(table.column_names, table.columns):
            if str(column.type).startswith("dictionary"):
                column = column.cast("string")
            if name in moments and "timestamp" not in str(column.type):
                column = column.cast("int64").cast("timestamp[s]")
            decoded.append(column)
        return pyarrow.table(decoded, names=table.column_names)


class Victoria:
    name = "VictoriaMetrics"

    def __init__(self, server):
        self.server = server
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    @staticmethod
    def can(query):
        return query.name not in ROWS and query.name != "groupby-orderby-limit"

    def ask(self, query, choice):
        hosts, start, end = choice
        names = "|".join(f"cpu_{field}" for field in query.fields)
        of_hosts = f",hostname=~'{'|'.join(hosts)}'" if hosts else ""
        step = query.every
        by = ", ".join(["__name__", *query.by])
        text = f"{query.function}({query.function}_over_time({{__name__=~'{names}'{of_hosts}}}[{step}s]) keep_metric_names) by ({by})"
        # A point of theirs covers what is up to it, with its own time: so each is the last moment of its bucket.
        asked = {"query": text, "start": start + step - 0.001, "end": end - 0.001, "step": step, "nocache": 1}
        self.connection.request("GET", f"/api/v1/query_range?{urllib.parse.urlencode(asked)}")
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{query.name}: {body[:500].decode(errors='replace')}")
        return body

    def rows(self, answer, query):
        """As `comparable`: by bucket and label, a value a field."""
        rows = {}
        for series in json.loads(answer)["data"]["result"]:
            field = series["metric"]["__name__"].removeprefix("cpu_")
            label = tuple(series["metric"][name] for name in query.by)
            for at, value in series["values"]:
                bucket = int(math.floor(at)) // query.every * query.every
                rows.setdefault((bucket, *label), {})[field] = float(f"{float(value):.9g}")
        return sorted(((*key, *(fields[name] for name in query.fields)) for key, fields in rows.items()), key=str)


def columns_of(args):
    """The load as an Arrow table: time, labels, fields."""
    import pyarrow

    chance = np.random.default_rng(args.seed)
    texts = [dict(pair.split("=") for pair in devops.labels(host, chance).split(",")[1:]) for host in range(args.hosts)]
    count = int(args.hours * HOUR / args.step)
    told = [values for _, values in devops.ticks(count, args.hosts, args.step, args.noise, args.seed)]
    values = np.stack(told).reshape(count, args.hosts, len(FIELDS))
    seconds = devops.START + np.arange(count) * args.step
    data = {"time": pyarrow.array(np.repeat(seconds, args.hosts), pyarrow.timestamp("s"))}
    for label in LABELS:
        data[label] = pyarrow.array(np.tile(np.array([text[label] for text in texts]), count))
    for at, field in enumerate(FIELDS):
        data[field] = pyarrow.array(values[:, :, at].reshape(-1).astype(float))
    return pyarrow.table(data)


def measure(systems, args):
    """Milliseconds by query and system, and what was not alike."""
    times, faults = {}, []
    for query in QUERIES:
        if args.only and query.name not in args.only:
            continue
        chance = np.random.default_rng(7)
        choices = [query.choose(chance, args) for _ in range(args.runs + 1)]
        answers = {}
        for system in systems:
            if not getattr(system, "can", lambda _: True)(query):
                continue
            answers[system.name] = system, system.ask(query, choices[0])
            taken = []
            for choice in choices[1:]:
                started = time.perf_counter()
                system.ask(query, choice)
                taken.append((time.perf_counter() - started) * 1e3)
            times.setdefault(query.name, {})[system.name] = statistics.median(taken)
        rows = {
            name: system.rows(answer, query) if hasattr(system, "rows") else comparable(system.table(answer), query)
            for name, (system, answer) in answers.items()
        }
        (first, wanted), *others = rows.items()
        for name, found in others:
            if found != wanted:
                differing = next(((a, b) for a, b in zip(wanted, found) if a != b), None)
                faults.append(f"{query.name}: {first} has {len(wanted)} rows, {name} {len(found)}; first other: {differing}")
        print(f"{query.name}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in times[query.name].items()), file=sys.stderr)
    return times, faults


def told(systems, times):
    """The table, and the ratios to the best of the others."""
    names = [system.name for system in systems]
    lines = ["| ms | " + " | ".join(names) + " | samples alone to the best | to the best |", "|---|" + "---:|" * (len(names) + 2)]
    ratios = []
    for query, of_query in times.items():
        others = [ms for name, ms in of_query.items() if name not in (RAW, OURS)]
        ratio = [of_query[ours] / min(others) if others else math.nan for ours in (RAW, OURS)]
        ratios.append(ratio)
        cells = [f"{of_query[name]:.1f}" if name in of_query else "–" for name in names]
        lines.append(f"| {query} | " + " | ".join(cells) + f" | {ratio[0]:.2f} | {ratio[1]:.2f} |")
    if not any(math.isnan(ratio) for both in ratios for ratio in both):
        means = [math.exp(statistics.fmean(map(math.log, of_one))) for of_one in zip(*ratios)]
        lines.append("| geometric mean |" + " |" * len(names) + f" {means[0]:.2f} | {means[1]:.2f} |")
    return "\n".join(lines)


def fill(server, args):
    """Sends the load."""
    bodies, lines = [], []
    samples = 0
    for text, values in devops.ticks(int(args.hours * HOUR / args.step), args.hosts, args.step, args.noise, args.seed):
        lines.append(text)
        samples += len(values)
        if len(lines) * args.hosts >= ingest.LINES_A_BODY:
            bodies.append(b"".join(lines))
            lines = []
    bodies.append(b"".join(lines))
    ingest.send(ingest.load_of([body for body in bodies if body], samples), server.port, 1)


def main():
    parser = argparse.ArgumentParser(description="Queries of plimsoll beside other systems.")
    devops.arguments(parser)
    parser.add_argument("--noise", choices=devops.NOISES, default="int", help="of the values (default int)")
    parser.add_argument("--runs", type=int, default=15, help="of each query (default 15)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these queries")
    parser.add_argument("--skip", nargs="+", default=[], choices=["duckdb", "chdb", "victoria"], help="without these")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--out", help="write the table here, too")
    args = parser.parse_args()
    binary = args.binary or ingest.release_binary()
    columns = columns_of(args) if {"duckdb", "chdb"} - set(args.skip) else None
    with tempfile.TemporaryDirectory(prefix="queries-") as place, contextlib.ExitStack() as stack:
        place = pathlib.Path(place)
        systems = []
        ours = ingest.Plimsoll(binary, False, "interval")
        with ours.serve(place / "plimsoll") as server:
            fill(server, args)
            ours.merge_and_stop(server)
        shutil.copytree(place / "plimsoll", place / "raw")
        # Answers that are kept are no measure of anything.
        with environment(PLIMSOLL__QUERY__CACHE="0B"):
            systems.append(Plimsoll(stack.enter_context(ours.serve(place / "plimsoll")), OURS))
            with environment(PLIMSOLL__QUERY__SUMMARIES="false"):
                systems.insert(0, Plimsoll(stack.enter_context(ours.serve(place / "raw")), RAW))
        if "duckdb" not in args.skip:
            systems.append(Duckdb(columns, place))
        if "chdb" not in args.skip:
            systems.append(Chdb(columns, place))
        if "victoria" not in args.skip:
            victoria = ingest.Victoria("victoria-metrics")
            server = stack.enter_context(victoria.serve(place / "victoria"))
            fill(server, args)
            ingest.get(server.port, "/internal/force_flush")
            ingest.get(server.port, "/internal/force_merge")
            server.settle()
            systems.append(Victoria(server))
        times, faults = measure(systems, args)
        text = told(systems, times)
    text += "\n\n" + ("All answers are alike." if not faults else "\n".join(f"- **not alike**: {fault}" for fault in faults))
    text += "\n\nMeasured on:\n\n" + ingest.machine([binary])
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text(text + "\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
