"""Costs stay flat: what ten million samples more cost, and how long a query of one series takes, as the store grows.

    python3 benches/flat.py [--millions 100] [--part 10] [--noise int|dec2|float] [--pipelines] [--out TABLE.md]

Sends the load of `devops.py` in time order over one connection to one server, a part at a time, and after each part
waits until its CPU stands still and asks for one series and one hour, among the newest samples and among older ones. The
lines are made before they are sent, so making them takes the server nothing. `benches/README.md` says what each column
means. Needs python3 with numpy.
"""

import argparse
import datetime
import json
import pathlib
import re
import signal
import statistics
import sys
import tempfile
import time

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops
import ingest

HOSTS = 100
SERIES = HOSTS * len(devops.FIELDS)
STEP = 10  # seconds
HOUR = 3600
TICKS_A_BODY = 50
TICKS_AT_ONCE = 1000  # made, then sent: a million samples
ASKED = 21  # queries of each kind; the median counts
# What the last part may cost, times the first.
GROWTH_MAX = 1.2


def start_of(ticks):
    """Seconds: that of `devops.py`, or a day before now less the load's span where that would reach into the future."""
    latest = int(time.time()) - 86_400 - ticks * STEP
    return min(devops.START, latest - latest % 86_400)


class Sender:
    """Makes lines and sends them; knows what it sent."""

    def __init__(self, args, start):
        self.ticks = devops.ticks(sys.maxsize, HOSTS, STEP, args.noise, args.seed, start)
        self.samples, self.total = 0, 0.0

    def send(self, samples, server):
        """CPU seconds it cost the server, until that stands still."""
        before = server.cpu()
        for count in chunks(samples // SERIES, TICKS_AT_ONCE):
            bodies = []
            for at_once in chunks(count, TICKS_A_BODY):
                lines, values = zip(*(next(self.ticks) for _ in range(at_once)))
                self.total += float(np.sum(values))
                bodies.append(b"".join(lines))
            ingest.send(ingest.load_of(bodies, count * SERIES), server.port, connections=1)
            self.samples += count * SERIES
        server.settle()
        return server.cpu() - before


def chunks(count, size):
    """As many of `size` as fit, and the rest."""
    return [size] * (count // size) + [count % size] * (count % size > 0)


def hour_ms(port, starts, chance):
    """Median milliseconds of a query of one series and one hour, which must give every sample of it."""
    taken = []
    for start in starts:
        field, host = chance.choice(devops.FIELDS), chance.integers(HOSTS)
        since, until = (datetime.datetime.fromtimestamp(at, datetime.timezone.utc).isoformat() for at in (start, start + HOUR))
        statement = (
            f"SELECT time, value FROM metrics WHERE metric = 'cpu_usage_{field}' AND hostname = 'host_{host}'"
            f" AND time >= '{since}' AND time < '{until}'"
        )
        started = time.monotonic()
        rows = json.loads(ingest.get(port, "/api/v1/sql", q=statement, format="json"))
        taken.append((time.monotonic() - started) * 1e3)
        if len(rows) != HOUR // STEP:
            raise SystemExit(f"{len(rows)} rows, sent were {HOUR // STEP}: {statement}")
    return statistics.median(taken)


def resident_mb(server):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def measure(args, system, folder):
    """A row of the table for each part, and what is wrong with what the server holds at the end."""
    data = folder / "data"
    start = start_of(args.millions * 1_000_000 // SERIES)
    sender, rows = Sender(args, start), []
    chance = np.random.default_rng(args.seed)
    with system.serve(data) as server:
        for millions in chunks(args.millions, args.part):
            cpu = sender.send(millions * 1_000_000, server)
            hours = sender.samples // SERIES * STEP // HOUR
            end = start + sender.samples // SERIES * STEP
            older = start + HOUR * chance.integers(0, max(1, hours - 1), ASKED)
            rows.append(
                {
                    "samples": sender.samples,
                    "cpu": cpu * 10 / millions,
                    "newest": hour_ms(server.port, [end - HOUR] * ASKED, chance),
                    "older": hour_ms(server.port, older.tolist(), chance),
                    "rss": resident_mb(server),
                    "files": sum(1 for _ in (data / "samples").rglob("*.parquet")),
                    "bytes": ingest.folder_bytes(data) / sender.samples,
                }
            )
            print(" | ".join(cell(rows[-1]) for _, cell in COLUMNS), file=sys.stderr)
        found = system.found(server, None).values()
        server.stop()
    count, total = sum(count for count, _ in found), sum(total for _, total in found)
    faults = [] if count == sender.samples else [f"{count} samples, sent were {sender.samples}"]
    if abs(total - sender.total) > 1e-9 * sender.total:
        faults.append(f"sum {total!r}, sent was {sender.total!r}")
    return rows, faults


# Telling.

COLUMNS = (
    ("samples", lambda row: f"{row['samples']:,}"),
    ("CPU s for ten million", lambda row: f"{row['cpu']:.2f}"),
    ("newest hour, ms", lambda row: f"{row['newest']:.2f}"),
    ("older hour, ms", lambda row: f"{row['older']:.2f}"),
    ("RSS MB", lambda row: f"{row['rss']:.0f}"),
    ("segments", lambda row: f"{row['files']}"),
    ("bytes a sample, log included", lambda row: f"{row['bytes']:.3f}"),
)


def table(rows):
    lines = ["| " + " | ".join(title for title, _ in COLUMNS) + " |", "|" + "---:|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(cell(row) for _, cell in COLUMNS) + " |" for row in rows])


def held_against(rows, faults):
    lines = [f"- {'**missed**' if faults else 'met'}: count and sum as sent" + "".join(f": {fault}" for fault in faults)]
    for name, title in (("cpu", "CPU of a part"), ("newest", "the newest hour"), ("older", "an older hour")):
        growth = rows[-1][name] / rows[0][name] if rows[0][name] else float("inf")
        met = "met" if growth <= GROWTH_MAX else "**missed**"
        lines.append(f"- {met}: {title}: the last part {growth:.2f} times the first, at most {GROWTH_MAX:g}")
    return "\n".join(lines)


def parsed():
    parser = argparse.ArgumentParser(description="Measures whether costs stay flat as the store grows.")
    parser.add_argument("--millions", type=int, default=100, help="millions of samples in all (default 100)")
    parser.add_argument("--part", type=int, help="millions of samples a row of the table (default a tenth of all)")
    parser.add_argument("--noise", choices=devops.NOISES, default="int", help="of the values (default int)")
    parser.add_argument("--seed", type=int, default=1, help="of the random walks (default 1)")
    parser.add_argument("--pipelines", action="store_true", help="with the default pipelines")
    parser.add_argument("--head", metavar="SIZE", help="as `store.head`: a smaller one is flushed more often")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--folder", help="where the data directory is made (default: the temporary folder)")
    parser.add_argument("--out", metavar="FILE", help="write the table here, too")
    args = parser.parse_args()
    args.part = args.part or max(1, args.millions // 10)
    if not 1 <= args.part <= args.millions:
        parser.error("--part is 1 to --millions")
    return args


def main():
    args = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary = args.binary or ingest.release_binary()
    facts = ingest.machine([binary])
    system = ingest.Plimsoll(binary, args.pipelines, "interval")
    if args.head:
        system.settings += f'head = "{args.head}"\n'
    with tempfile.TemporaryDirectory(prefix="flat-", dir=args.folder) as folder:
        rows, faults = measure(args, system, pathlib.Path(folder))
    head = f", head {args.head}" if args.head else ""
    title = f"{args.millions} million samples of {SERIES:,} series every {STEP} s, `{args.noise}`; {system.name}{head}."
    text = f"{title}\n\n{table(rows)}\n\nHeld against:\n\n{held_against(rows, faults)}\n\nMeasured on:\n\n{facts}\n"
    print(text, end="")
    if args.out:
        pathlib.Path(args.out).write_text(text)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
