"""Many clients at once beside a load: how long their statements take, and how much slower samples come in meanwhile.

    python3 benches/clients.py [--clients 64] [--seconds 120] [--rate 200000] [--hosts 100] [--hours 24] [--panels 200]
                               [--pause 0] [--cache BYTES] [--binary PATH] [--out TABLE.md]

The server holds the load of `devops.py`, merged, and takes `--rate` samples a second of another measurement all the while.
Clients ask what dashboards do: one of `--panels` statements each time (TSBS queries of random hosts and spans, the same for
all), over HTTP, `--pause` seconds after the last. First the load alone, then one client beside it, then all of them; the load is sent as fast
as it is taken, up to the rate. `benches/README.md` says more. Needs numpy.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops
import ingest
import queries

FIELDS = 10
TICKS_A_BODY = 10
PROCESSES = 4


def panels(args):
    """The statements of the dashboards."""
    chance = np.random.default_rng(11)
    asked = [query for query in queries.QUERIES if query.name not in ("high-cpu-all", "lastpoint")]
    told = [asked[at % len(asked)] for at in range(args.panels)]
    return [queries.sql_of(query, query.choose(chance, args), "plimsoll") for query in told]


def load(port, rate, stop, counted):
    """Sends samples until it is told to stop; how many were taken is counted."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    fields = [",".join(f"f{field}={(host * 7 + field * 3) % 100}" for field in range(FIELDS)) for host in range(100)]
    template = "\n".join(f"net,host=host_{host} {fields[host]} @" for host in range(100)).encode() + b"\n"
    a_body = 100 * FIELDS * TICKS_A_BODY
    started, sent, now = time.monotonic(), 0, time.time_ns()
    while not stop.is_set():
        # Of the clock, so that they are never refused; ten milliseconds from tick to tick.
        body = b"".join(template.replace(b"@", str(now + tick * 1_000_000).encode()) for tick in range(TICKS_A_BODY))
        now = max(now + TICKS_A_BODY * 1_000_000, time.time_ns())
        connection.request("POST", "/write", body)
        answer = connection.getresponse()
        answer.read()
        if answer.status == 204:
            sent += a_body
            counted.value = sent
        elif answer.status in (429, 503):
            time.sleep(0.05)
        else:
            raise RuntimeError(f"the load was answered with {answer.status}")
        ahead = sent / rate - (time.monotonic() - started)
        if ahead > 0:
            time.sleep(ahead)


def client(port, statements, seed, until, told, pause):
    chance = np.random.default_rng(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    took, failed = [], []
    while time.time() < until:
        statement = statements[int(chance.integers(len(statements)))]
        started = time.perf_counter()
        connection.request("GET", f"/api/v1/sql?format=arrow&q={urllib.parse.quote(statement)}")
        answer = connection.getresponse()
        body = answer.read()
        took.append((time.perf_counter() - started) * 1e3)
        if answer.status != 200:
            failed.append(body[:200].decode(errors="replace"))
        if pause:
            time.sleep(pause * chance.uniform(0.5, 1.5))
    told.append((took, failed))


def some_clients(port, statements, seeds, until, queue, pause):
    told = []
    threads = [threading.Thread(target=client, args=(port, statements, seed, until, told, pause)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.put(told)


def ask(port, statements, clients, seconds, pause):
    """Milliseconds of all statements, and what failed."""
    queue, until = multiprocessing.Queue(), time.time() + seconds
    shares = [range(share, clients, PROCESSES) for share in range(min(PROCESSES, clients))]
    processes = [
        multiprocessing.Process(target=some_clients, args=(port, statements, share, until, queue, pause))
        for share in shares
    ]
    for process in processes:
        process.start()
    told = [one for _ in processes for one in queue.get()]
    for process in processes:
        process.join()
    return sorted(ms for took, _ in told for ms in took), [fault for _, failed in told for fault in failed]


def beside(port, args, work):
    """What `work` gives beside a load, and the samples a second that were taken meanwhile."""
    stop, counted = multiprocessing.Event(), multiprocessing.Value("q", 0)
    sender = multiprocessing.Process(target=load, args=(port, args.rate, stop, counted))
    sender.start()
    time.sleep(1)
    before, started = counted.value, time.monotonic()
    given = work()
    rate = (counted.value - before) / (time.monotonic() - started)
    stop.set()
    sender.join()
    return given, rate


def resident_mb(server):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main():
    parser = argparse.ArgumentParser(description="Many clients beside a load.")
    devops.arguments(parser)
    parser.add_argument("--noise", choices=devops.NOISES, default="int", help="of the values (default int)")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120, help="for all clients (default 120)")
    parser.add_argument("--rate", type=int, default=200_000, help="samples a second of the load (default 200000)")
    parser.add_argument("--panels", type=int, default=200, help="different statements (default 200)")
    parser.add_argument("--pause", type=float, default=0, help="seconds between statements of a client, on average")
    parser.add_argument("--cache", help="`query.cache` of the server, as in 0B")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--out", help="write the table here, too")
    args = parser.parse_args()
    binary = args.binary or ingest.release_binary()
    statements = panels(args)
    with tempfile.TemporaryDirectory(prefix="clients-") as place:
        ours = ingest.Plimsoll(binary, False, "interval")
        data = pathlib.Path(place) / "plimsoll"
        with ours.serve(data) as server:
            queries.fill(server, args)
            ours.merge_and_stop(server)
        with queries.environment(**({"PLIMSOLL__QUERY__CACHE": args.cache} if args.cache else {})), ours.serve(data) as server:
            _, alone = beside(server.port, args, lambda: time.sleep(15))
            (one, failed_one), beside_one = beside(server.port, args, lambda: ask(server.port, statements, 1, 15, args.pause))
            (all_, failed), beside_all = beside(server.port, args, lambda: ask(server.port, statements, args.clients, args.seconds, args.pause))
            memory = resident_mb(server)
            cache = json.loads(ingest.get(server.port, "/performance/cache/stats"))[0]
    median = statistics.median(one)
    p99 = all_[int(len(all_) * 0.99)]
    rows = [
        ("load alone", "", "", "", f"{alone:,.0f}", 0),
        ("1 client", f"{len(one):,}", f"{median:.1f}", f"{one[int(len(one) * 0.99)]:.1f}", f"{beside_one:,.0f}", len(failed_one)),
        (f"{args.clients} clients", f"{len(all_):,}", f"{statistics.median(all_):.1f}", f"{p99:.1f}", f"{beside_all:,.0f}", len(failed)),
    ]
    lines = ["| | statements | median ms | p99 ms | samples/s taken | failed |", "|---|---:|---:|---:|---:|---:|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    lines += ["", f"p99 of all to the median of one: {p99 / median:.1f}; memory at most {memory:.0f} MB; answers kept: {cache}"]
    lines += [f"- failed: {fault}" for fault in sorted(set(failed + failed_one))[:5]]
    text = "\n".join(lines) + "\n\nMeasured on:\n\n" + ingest.machine([binary])
    print(text)
    if args.out:
        pathlib.Path(args.out).write_text(text + "\n")
    sys.exit(bool(failed or failed_one))


if __name__ == "__main__":
    main()
