"""A stage that is far too slow, for ten minutes: memory stays flat, senders are told to come later, the lag shows.

    python3 benches/bounded.py [--minutes 10] [--rate 20000] [--binary PLIMSOLL]

Starts a server with `memory = "512MiB"` and a pipeline whose first stage lets RATE samples a second through, sends as fast as
it takes it over two connections, and looks once a second at what is resident and at `system.pipelines`. Then everything that
was acknowledged is counted. Needs python3 alone.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PIPELINE = """name = "slowed"
lateness = "0s"
[[stages]]
name = "slow"
apply.throttle = {{ samples_per_second = {rate} }}
[[stages]]
name = "minutes"
inputs = ["slow"]
apply.window = {{ every = "1m" }}
"""
SERIES = 1000


def parsed():
    parser = argparse.ArgumentParser(description="Slows a stage and watches memory, refusals and lag.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--binary", default=str(REPOSITORY / "target/release/plimsoll"))
    return parser.parse_args()


def sql(port, statement):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/api/v1/sql", statement)
    answer = connection.getresponse()
    body = answer.read()
    return json.loads(body) if answer.status == 200 else None


class Sender(threading.Thread):
    def __init__(self, port, number, until):
        super().__init__(daemon=True)
        self.port, self.number, self.until = port, number, until
        self.acknowledged = self.refused = self.without_retry = 0

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        second = 1_767_225_600
        while time.monotonic() < self.until:
            lines = "".join(f"m,s={n},c={self.number} v={second % 97} {second}000000000\n" for n in range(SERIES))
            while time.monotonic() < self.until:
                connection.request("POST", "/write", lines, {"X-Plimsoll-Source": f"sender-{self.number}"})
                answer = connection.getresponse()
                answer.read()
                if answer.status == 204:
                    self.acknowledged += SERIES
                    break
                self.refused += 1
                self.without_retry += answer.getheader("Retry-After") is None
                time.sleep(0.2)
            second += 1


def resident(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", text).group(1)) / 1024


def main():
    args = parsed()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "p.toml").write_text(PIPELINE.format(rate=args.rate))
        (folder / "s.toml").write_text(f'memory = "512MiB"\n[pipelines]\nfiles = ["{folder}/p.toml"]\n'
                                       "[collect]\nsystem = false\nown = false\n[governor]\nenabled = false\n")
        command = [args.binary, "--data", str(folder / "data"), "--config", str(folder / "s.toml"), "serve",
                   "--listen", "127.0.0.1:0"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        port = next(int(found.group(1)) for line in server.stderr
                    if (found := re.search(r"listens on http://127.0.0.1:(\d+)", line)))
        threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
        began = time.monotonic()
        senders = [Sender(port, number, began + args.minutes * 60) for number in range(2)]
        [sender.start() for sender in senders]
        watched, lags, queues = [], [], []
        while any(sender.is_alive() for sender in senders):
            time.sleep(1)
            watched.append(resident(server.pid))
            if len(watched) % 10 == 0:
                rows = sql(port, "SELECT max(lag_seconds) AS lag, max(queued) AS queued FROM system.pipelines")
                lags.append(rows[0]["lag"])
                queues.append(rows[0]["queued"])
        acknowledged = sum(sender.acknowledged for sender in senders)
        counted = sql(port, "SELECT count(*) AS n FROM m_v")[0]["n"]
        settled = watched[min(60, len(watched) // 4):]
        tenth = max(1, len(settled) // 10)
        print(f"{args.minutes:g} minutes, a stage of {args.rate} samples/s; acknowledged {acknowledged}, stored {counted}")
        print(f"resident without file pages: {min(settled):.0f} to {max(settled):.0f} MB behind the first minute, "
              f"first tenth {sum(settled[:tenth]) / tenth:.0f}, last tenth {sum(settled[-tenth:]) / tenth:.0f}")
        print(f"refused {sum(s.refused for s in senders)} times with 503, {sum(s.without_retry for s in senders)} without "
              f"Retry-After; lag {min(lags):.1f} to {max(lags):.1f} s, queue up to {max(queues)}")
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=300)
        sys.exit(0 if acknowledged == counted else 1)


main()
