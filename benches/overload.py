"""Senders at three times what the server can take: what they are told, what it costs, and that nothing acknowledged is lost.

    python3 benches/overload.py [--binary PATH] [--memory 512MiB] [--seconds 30] [--factor 3] [--out TABLE.md]

The server has one core of its own and the senders the others, so that the senders can outrun it. First one sender at a
time finds out what the server takes; then, for the given time, so many times that is due at fixed times over 64
connections (an open loop: who is late does not send less). Each sender has a host of its own with ten fields, and every
request holds one second of it, a row a millisecond, so that the count of each host's second tells whether an acknowledged
request is there whole. Then the load stops, and the time until a single
request is answered as before is taken. At the end the counts are held against what was acknowledged. Needs two cores.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import ingest

ROWS, FIELDS = 1000, 10
SAMPLES = ROWS * FIELDS
CONNECTIONS = 64
START = 1_767_225_600  # 2026-01-01T00:00:00Z, in seconds
SECOND = b"SSSSSSSSSS"  # stands for a second in a body
CALIBRATION_S = 5.0
ALL_CORES = os.sched_getaffinity(0)
RECOVERED_S = 0.25  # a single request answered within this is an answer as before


def body(sender):
    """Rows of one second, which is written as SECOND."""
    lines = []
    for row in range(ROWS):
        fields = ",".join(f"f{field}={(row * 7 + field * 13) % 100}i" for field in range(FIELDS))
        lines.append(f"load,host=web-{sender:02d},rack=r{sender % 20} {fields} {SECOND.decode()}{row:03d}\n")
    return "".join(lines).encode()


def of_second(template, second):
    return template.replace(SECOND, str(second).encode())


class Sender:
    """One connection that is made anew when it breaks."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def send(self, payload, timeout=60):
        """Status and Retry-After; 0 where the connection broke."""
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
            self.connection.request("POST", "/write?precision=ms", body=payload)
            answer = self.connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("Retry-After")
        except (OSError, http.client.HTTPException):
            if self.connection is not None:
                self.connection.close()
            self.connection = None
            return 0, None


def sending(port, sender, first, every_s, seconds, results):
    """Sends one second of data after the other, each when it is due; those that are overdue go at once."""
    template, connection = body(sender), Sender(port)
    told, acknowledged, slowest = {}, [], 0.0
    began = time.monotonic()
    second, due = first, began + every_s * sender / CONNECTIONS
    while (now := time.monotonic()) - began < seconds:
        if now < due:
            time.sleep(due - now)
        before = time.monotonic()
        status, retry = connection.send(of_second(template, second))
        slowest = max(slowest, time.monotonic() - before)
        if status in (429, 503) and retry is None:
            status = -status  # a refusal that does not say when to come again
        told[status] = told.get(status, 0) + 1
        if status == 204:
            acknowledged.append((sender, second))
        second += 1
        due += every_s
    results.put((told, acknowledged, slowest))


class Watch(threading.Thread):
    """Looks at the server's memory until it is stopped."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.stopped, self.most, self.most_own = pid, threading.Event(), 0, 0

    def run(self):
        while not self.stopped.wait(0.1):
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            kib = {line.split()[0]: int(line.split()[1]) for line in status.splitlines() if " kB" in line}
            self.most = max(self.most, kib["VmRSS:"] * 1024)
            self.most_own = max(self.most_own, kib["RssAnon:"] * 1024)


def calibrate(port):
    """Requests a second that one sender gets through, and what was acknowledged of them."""
    template, sender, acknowledged = body(0), Sender(port), []
    began, second = time.monotonic(), START
    while time.monotonic() - began < CALIBRATION_S:
        status, _ = sender.send(of_second(template, second))
        if status == 204:
            acknowledged.append((0, second))
            second += 1
        elif status in (429, 503):
            time.sleep(0.1)  # part of what it takes: the sender is as fast as the server allows
        else:
            raise SystemExit(f"the server answered {status} to a single sender")
    return len(acknowledged) / (time.monotonic() - began), acknowledged, second


def counts(server):
    """Samples by host and second."""
    statement = "SELECT host, CAST(time AS BIGINT) / 1000000000 AS s, count(*) AS n FROM metrics WHERE rack IS NOT NULL GROUP BY 1, 2"
    rows = json.loads(ingest.get(server.port, "/api/v1/sql", q=statement, format="json"))
    return {(int(row["host"][4:]), row["s"]): row["n"] for row in rows}


def run(args, memory, folder):
    os.sched_setaffinity(0, ALL_CORES)
    cores = sorted(ALL_CORES)
    if len(cores) < 2:
        raise SystemExit("two cores are needed: one for the server, one for the senders")
    settings, data, port = folder / "settings.toml", folder / "data", ingest.free_port()
    settings.write_text(f'memory = "{memory}"\n[collect]\nsystem = false\n')
    options = ["--listen", f"127.0.0.1:{port}", "--data", str(data), "--config", str(settings)]
    command = ["taskset", "--cpu-list", str(cores[0]), args.binary, "serve", *options]
    with ingest.Server(command, port, data) as server:
        os.sched_setaffinity(0, set(cores[1:]))
        capacity, acknowledged, second = calibrate(server.port)
        rate = capacity * args.factor
        watch = Watch(server.process.pid)
        watch.start()
        results, processes = multiprocessing.Queue(), []
        for sender in range(CONNECTIONS):
            work = (server.port, sender, second, CONNECTIONS / rate, args.seconds, results)
            processes.append(multiprocessing.Process(target=sending, args=work))
        for process in processes:
            process.start()
        told, slowest = {}, 0.0
        for _ in processes:
            of_one, sent, slow = results.get()
            acknowledged += sent
            slowest = max(slowest, slow)
            for status, number in of_one.items():
                told[status] = told.get(status, 0) + number
        for process in processes:
            process.join()
        ended = time.monotonic()
        alone, template, second = Sender(server.port), body(0), max(second for _, second in acknowledged) + 1
        while True:
            before = time.monotonic()
            status, _ = alone.send(of_second(template, second))
            if status == 204:
                acknowledged.append((0, second))
                if time.monotonic() - before < RECOVERED_S:
                    break
            second += 1
            if time.monotonic() - ended > 120:
                raise SystemExit("not as before two minutes after the load stopped")
        recovered = time.monotonic() - ended
        watch.stopped.set()
        watch.join()
        held = counts(server)
    lost = sum(1 for request in acknowledged if held.get(request) != SAMPLES)
    return dict(
        memory=memory,
        capacity=capacity * SAMPLES,
        asked=rate * SAMPLES,
        sent=sum(told.values()),
        told=told,
        acknowledged=len(acknowledged),
        lost=lost,
        peak_mb=watch.most / 1e6,
        own_mb=watch.most_own / 1e6,
        slowest_s=slowest,
        recovered_s=recovered,
    )


def table(rows):
    head = "| memory | taken alone, samples/s | asked for | requests sent | 204 | 429 | 503 | other | lost of the acknowledged | peak MB resident | without the program's code | slowest answer s | as before after s |"
    lines = [head, "|---" * 13 + "|"]
    for row in rows:
        told = row["told"]
        other = sum(number for status, number in told.items() if status not in (204, 429, 503))
        lines.append(
            f"| {row['memory']} | {row['capacity'] / 1e6:.2f} M | {row['asked'] / 1e6:.2f} M | {row['sent']} "
            f"| {told.get(204, 0)} | {told.get(429, 0)} | {told.get(503, 0)} | {other} | {row['lost']} "
            f"| {row['peak_mb']:.0f} | {row['own_mb']:.0f} | {row['slowest_s']:.2f} | {row['recovered_s']:.2f} |"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--memory", action="append", help="budgets, one run each (default 512MiB and 128MiB)")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    args.binary = args.binary or ingest.release_binary()
    rows = []
    for memory in args.memory or ["512MiB", "128MiB"]:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run(args, memory, pathlib.Path(folder)))
            print(json.dumps(rows[-1]), file=sys.stderr)
    print(table(rows))
    if args.out:
        args.out.write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
