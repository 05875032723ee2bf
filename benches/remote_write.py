"""Prometheus remote write: plimsoll beside VictoriaMetrics, the same requests on the same machine in one run.

    python3 benches/remote_write.py [--hosts 100] [--hours 6] [--noise dec2] [--rounds 3] [--skip-victoria] [--out TABLE.md]

The devops load as Prometheus would send it: version 1.0, up to 2,000 samples a request, each with all labels of its series,
snappy. The requests are made and packed before the first server starts. How servers are run and measured is
`benches/ingest.py`. Needs python3 with numpy and pyarrow (for snappy); Debian's package victoria-metrics for the comparison.
"""

import argparse
import mmap
import pathlib
import signal
import sys
import tempfile

import numpy as np
import pyarrow

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source

import devops
import ingest

SAMPLES_A_REQUEST = 2000
HEADERS = {
    "Content-Type": "application/x-protobuf",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def of_bytes(number, content):
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


class Template:
    """One time series message a series, end to end, and where in them values and times are."""

    def __init__(self, series, ms):
        times = varint(ms)
        sample = b"\x09" + bytes(8) + b"\x10" + times
        parts, ends, at = [], [], 0
        for labels in series:
            told = b"".join(of_bytes(1, of_bytes(1, name) + of_bytes(2, value)) for name, value in sorted(labels))
            parts.append(of_bytes(1, told + of_bytes(2, sample)))
            at += len(parts[-1])
            ends.append(at)
        self.bytes, self.ends = np.frombuffer(b"".join(parts), np.uint8), ends
        self.times = np.array(ends)[:, None] + np.arange(-len(times), 0)
        self.values = np.array(ends)[:, None] + np.arange(-len(times) - 9, -len(times) - 1)

    def filled(self, values, ms):
        """The messages of one time, each of its own bytes."""
        out = self.bytes.copy()
        out[self.values] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
        out[self.times] = np.frombuffer(varint(ms), np.uint8)
        whole = out.tobytes()
        return [whole[start:end] for start, end in zip([0, *self.ends], self.ends)]


def series_of(hosts, seed):
    """Labels of each series, in the order of the values of `devops.ticks`."""
    chance = np.random.default_rng(seed)
    series = []
    for host in range(hosts):
        head = devops.labels(host, chance).split(",")
        tags = [tuple(text.encode() for text in pair.split("=")) for pair in head[1:]]
        series += [[(b"__name__", f"cpu_usage_{field}".encode()), *tags] for field in devops.FIELDS]
    return series


def write_load(path, args):
    """Makes and packs all requests into a file; what was sent, for `ingest.measure`."""
    template = Template(series_of(args.hosts, args.seed), devops.START * 1000)
    sums, bodies, waiting, ticks = np.zeros(args.hosts * len(devops.FIELDS)), [], [], int(args.hours * 3600 / args.step)
    with open(path, "wb", buffering=1 << 22) as out:

        def send(messages):
            start = out.tell()
            out.write(pyarrow.compress(b"".join(messages), codec="snappy", asbytes=True))
            bodies.append((start, out.tell()))

        for tick, (_, values) in enumerate(devops.ticks(ticks, args.hosts, args.step, args.noise, args.seed)):
            sums += values
            waiting += template.filled(values, (devops.START + tick * args.step) * 1000)
            while len(waiting) >= SAMPLES_A_REQUEST:
                send(waiting[:SAMPLES_A_REQUEST])
                del waiting[:SAMPLES_A_REQUEST]
        if waiting:
            send(waiting)
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    by_field = sums.reshape(args.hosts, len(devops.FIELDS)).sum(axis=0)
    truth = {f"cpu_usage_{field}": (ticks * args.hosts, float(total)) for field, total in zip(devops.FIELDS, by_field)}
    last = devops.START + (ticks - 1) * args.step + 1
    return ingest.Load(content, bodies, ticks * sums.size, truth, devops.START, last, "/api/v1/write", HEADERS)


def parsed():
    parser = argparse.ArgumentParser(description="Measures Prometheus remote write, beside VictoriaMetrics.")
    devops.arguments(parser)
    parser.set_defaults(hours=6.0)
    parser.add_argument("--noise", choices=devops.NOISES, default="dec2", help="of the values (default dec2)")
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--skip-victoria", action="store_true", help="measure plimsoll alone")
    parser.add_argument("--rounds", type=int, default=1, help="measure so often and show medians (default 1)")
    parser.add_argument("--folder", help="where data directories are made (default: the temporary folder)")
    parser.add_argument("--out", metavar="FILE", help="write the table here, too")
    return parser.parse_args()


def main():
    args = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    binaries = [args.binary or ingest.release_binary()] + ([] if args.skip_victoria else [ingest.victoria_binary()])
    facts = ingest.machine(binaries)
    with tempfile.TemporaryDirectory(prefix="remote-write-", dir=args.folder) as folder:
        load = write_load(pathlib.Path(folder) / "load", args)
        systems = [ingest.Plimsoll(binaries[0], pipelines, "interval") for pipelines in (True, False)]
        systems += [ingest.Victoria(binary) for binary in binaries[1:]]
        runs = ingest.measure_in_turn(systems, load, args.rounds, folder)
    medians = {system: ingest.median_of(measured) for system, measured in runs.items()}
    rounds = "one round" if args.rounds == 1 else f"medians of {args.rounds} rounds"
    text = (
        f"### {args.hosts} hosts, {args.hours:g} h, every {args.step} s, `{args.noise}`\n\n"
        f"{load.samples:,} samples in {len(load.bodies):,} requests of up to {SAMPLES_A_REQUEST:,} over"
        f" {ingest.CONNECTIONS} connections, {len(load.bytes) / load.samples:.0f} bytes a sample on the wire; {rounds}.\n\n"
        f"{ingest.table(medians)}\n\n{ingest.held_against(systems, medians)}\n\nMeasured on:\n\n{facts}\n"
    )
    print(text, end="")
    if args.out:
        pathlib.Path(args.out).write_text(text)
    sys.exit(0 if all(m["right"] for m in medians.values()) else 1)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
