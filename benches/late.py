"""What late data costs the disk: bytes written for a load in order, and for the same with a part of it a day late.

    python3 benches/late.py [--hours 72] [--late 24] [--share 0.01] [--head SIZE] [--out TABLE.md]

Each run sends the load of `devops.py` over one connection to a fresh server, waits until its CPU stands still, stops it and
merges all that can be merged. In the late runs a share of the lines, drawn by chance, comes `--late` hours after its time,
between lines that are in time; those still out at the end come then. Bytes are counted by the kernel for the process
(`wchar`: all it handed to write calls). `benches/README.md` says what each row means. Needs python3 with numpy.
"""

import argparse
import collections
import contextlib
import os
import pathlib
import re
import signal
import sys
import tempfile
import time

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops
import ingest

HOSTS = 100
STEP = 10  # seconds
TICKS_A_BODY = 50
BODIES_AT_ONCE = 8  # 67 minutes of the load
# Longer than the store takes to look at its head again: it flushes one that is full before more comes. With the smallest
# head it does so every hour or two of the load, nearly as `head_age` would have it if the load came at its own pace.
PAUSE_SECONDS = 0.4
# Bytes written with late data, times those without.
WRITTEN_MAX = 2.0


class Server(ingest.Server):
    """A process whose written bytes are known to its end."""

    handed = stored = 0

    def see_written(self):
        with contextlib.suppress(OSError):
            io = pathlib.Path(f"/proc/{self.process.pid}/io").read_text()
            self.handed, self.stored = (int(re.search(rf"^{name}: (\d+)", io, re.MULTILINE)[1]) for name in ("wchar", "write_bytes"))

    def reap(self):
        # Between its end and the moment it is reaped its counters stand still.
        if self.process.returncode is None and os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self.see_written()
        return super().reap()


def bodies(args, share):
    """(body, samples) in the order in which they are sent; the share of lines that is late comes late."""
    chance = np.random.default_rng(args.seed + 1)
    out, lines = collections.deque(), []  # late lines by the tick at which they come
    after = int(args.late * 3600 / STEP)
    count = int(args.hours * 3600 / STEP)
    for tick, (text, _) in enumerate(devops.ticks(count, HOSTS, STEP, args.noise, args.seed)):
        is_late = chance.random(HOSTS) < share
        for late, line in zip(is_late, text.splitlines(keepends=True)):
            (out.append((tick + after, line)) if late else lines.append(line))
        while out and out[0][0] <= tick:
            lines.append(out.popleft()[1])
        if (tick + 1) % TICKS_A_BODY == 0:
            yield b"".join(lines), len(lines) * len(devops.FIELDS)
            lines = []
    lines.extend(line for _, line in out)
    if lines:
        yield b"".join(lines), len(lines) * len(devops.FIELDS)


def at_once(bodies):
    """Loads of several bodies each."""
    taken = []
    for body in bodies:
        taken.append(body)
        if len(taken) == BODIES_AT_ONCE:
            yield ingest.load_of([body for body, _ in taken], sum(samples for _, samples in taken))
            taken = []
    if taken:
        yield ingest.load_of([body for body, _ in taken], sum(samples for _, samples in taken))


def measure(system, args, share, folder):
    """One run: what the table shows, by name."""
    data, samples, port = folder / "data", 0, ingest.free_port()
    m = {}
    with Server(system.command(data, "serve", "--listen", f"127.0.0.1:{port}"), port, data) as server:
        for load in at_once(bodies(args, share)):
            ingest.send(load, server.port, connections=1)
            samples += load.samples
            time.sleep(PAUSE_SECONDS)
        server.settle()
        server.see_written()
        m["settled"] = server.handed
        found = sum(count for count, _ in system.found(server, None).values())
        server.stop()
    compact = Server(system.command(data, "compact"), 0, data)
    try:
        compact.wait_until_ended()
    finally:
        compact.end()
    m["samples"], m["stopped"], m["compacted"] = samples, server.handed, compact.handed
    m["all"], m["stored"] = server.handed + compact.handed, server.stored + compact.stored
    m["cpu"] = server.cpu_reaped + compact.cpu_reaped
    m["bytes"] = ingest.folder_bytes(data)
    # Files of all tables are numbered in one row.
    m["files"] = max(int(path.stem) for path in data.rglob("*.parquet"))
    wanted = int(args.hours * 3600 / STEP) * HOSTS * len(devops.FIELDS)
    m["faults"] = [f"{count} samples {what}, wanted {wanted}" for what, count in (("sent", samples), ("held", found)) if count != wanted]
    return m


# Telling.

COLUMNS = (
    ("samples", lambda m: f"{m['samples']:,}"),
    ("MB written until settled", lambda m: f"{m['settled'] / 1e6:.1f}"),
    ("MB written by the server to its end", lambda m: f"{m['stopped'] / 1e6:.1f}"),
    ("MB written by `plimsoll compact`", lambda m: f"{m['compacted'] / 1e6:.1f}"),
    ("MB written, all", lambda m: f"{m['all'] / 1e6:.1f}"),
    ("bytes written a sample", lambda m: f"{m['all'] / m['samples']:.2f}"),
    ("MB that reached the file system's pages", lambda m: f"{m['stored'] / 1e6:.1f}"),
    ("files written", lambda m: f"{m['files']}"),
    ("CPU s, all", lambda m: f"{m['cpu']:.2f}"),
    ("bytes at rest", lambda m: f"{m['bytes']:,}"),
    ("samples held", lambda m: "exact" if not m["faults"] else "WRONG"),
)


def table(runs):
    lines = ["| | " + " | ".join(runs) + " |", "|---|" + "---:|" * len(runs)]
    return "\n".join(lines + [f"| {title} | " + " | ".join(cell(m) for m in runs.values()) + " |" for title, cell in COLUMNS])


def held_against(ratios):
    told = "- {}: {}: {:.2f} times the bytes written in order, at most {:g}"
    return "\n".join(
        told.format("met" if ratio <= WRITTEN_MAX else "**missed**", name, ratio, WRITTEN_MAX) for name, ratio in ratios.items()
    )


def parsed():
    parser = argparse.ArgumentParser(description="Measures how much more is written where data comes late.")
    parser.add_argument("--hours", type=float, default=72.0, help="hours of history (default 72)")
    parser.add_argument("--late", type=float, default=24.0, help="hours by which late lines are late (default 24)")
    parser.add_argument("--share", type=float, default=0.01, help="of the lines that are late (default 0.01)")
    parser.add_argument("--noise", choices=devops.NOISES, default="int", help="of the values (default int)")
    parser.add_argument("--seed", type=int, default=1, help="of the load (default 1)")
    parser.add_argument("--head", metavar="SIZE", default="1MB", help="as `store.head` (default 1MB)")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--folder", help="where data directories are made (default: the temporary folder)")
    parser.add_argument("--out", metavar="FILE", help="write the table here, too")
    return parser.parse_args()


def main():
    args = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binary = args.binary or ingest.release_binary()
    facts = ingest.machine([binary])
    runs, ratios = {}, {}
    for pipelines in (False, True):
        system = ingest.Plimsoll(binary, pipelines, "interval")
        system.settings += f'head = "{args.head}"\n'
        kind = "default pipelines" if pipelines else "no pipelines"
        for name, share in ((f"{kind}, in order", 0.0), (f"{kind}, {args.share:.0%} late", args.share)):
            with tempfile.TemporaryDirectory(prefix="late-", dir=args.folder) as folder:
                runs[name] = measure(system, args, share, pathlib.Path(folder))
            print(f"{name}: {runs[name]['all'] / 1e6:.1f} MB written", file=sys.stderr)
            for fault in runs[name]["faults"]:
                print(f"  WRONG: {fault}", file=sys.stderr)
        in_order, late = (list(runs.values())[at]["all"] for at in (-2, -1))
        ratios[kind] = late / in_order
    title = (
        f"{args.hours:g} hours of {HOSTS} hosts every {STEP} s, `{args.noise}`; late lines by {args.late:g} hours;"
        f" head {args.head}."
    )
    text = f"{title}\n\n{table(runs)}\n\nHeld against:\n\n{held_against(ratios)}\n\nMeasured on:\n\n{facts}\n"
    print(text, end="")
    if args.out:
        pathlib.Path(args.out).write_text(text)
    sys.exit(1 if any(m["faults"] for m in runs.values()) else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
