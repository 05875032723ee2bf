"""The devops load: what a fleet of hosts reports about its processors, as line protocol.

The kind of load that TSBS (the Time Series Benchmark Suite) calls cpu-only: each host has ten labels that name it and
ten fields, one row a host every ten seconds, each value a random walk within [0, 100]. The same arguments give the same
bytes.

    python3 benches/devops.py OUT.lp [--hosts 100] [--hours 24] [--step 10] [--noise int|dec2|float] [--seed 1]
"""

import argparse

import numpy as np

FIELDS = ("user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
REGIONS = {
    "ap-northeast-1": "ac", "ap-southeast-1": "ab", "ap-southeast-2": "ab", "eu-central-1": "ab", "eu-west-1": "abc",
    "sa-east-1": "abc", "us-east-1": "abce", "us-west-1": "ab", "us-west-2": "abc",
}  # fmt: skip
SYSTEMS = ("Ubuntu15.10", "Ubuntu16.04LTS", "Ubuntu16.10")
TEAMS = ("CHI", "LON", "NYC", "SF")
ENVIRONMENTS = ("production", "staging", "test")
START = 1_767_225_600  # 2026-01-01T00:00:00Z, in seconds

# How a value is rounded and written, by the name of its noise.
NOISES = {"int": (np.floor, "%di"), "dec2": (lambda values: np.round(values, 2), "%r"), "float": (lambda values: values, "%r")}


def labels(host, chance):
    """The part of a line before its fields."""
    region = chance.choice(list(REGIONS))
    zone = chance.choice(list(REGIONS[region]))
    return (
        f"cpu,hostname=host_{host},region={region},datacenter={region}{zone},rack={chance.integers(100)},"
        f"os={chance.choice(SYSTEMS)},arch={chance.choice(['x64', 'x86'])},team={chance.choice(TEAMS)},"
        f"service={chance.integers(20)},service_version={chance.integers(2)},"
        f"service_environment={chance.choice(ENVIRONMENTS)}"
    )


def ticks(count, hosts=100, step=10, noise="int", seed=1, start=START):
    """What all hosts report at each of `count` times: the lines, a host each, and the values in them."""
    chance = np.random.default_rng(seed)
    rounded, written = NOISES[noise]
    fields = ",".join(f"usage_{field}={written}" for field in FIELDS)
    lines = "".join(f"{labels(host, chance)} {fields} NANOS\n" for host in range(hosts))
    values = chance.uniform(0, 100, hosts * len(FIELDS))
    for tick in range(count):
        values = np.clip(values + chance.normal(0, 1, values.size), 0, 100)
        nanos = f"{start + tick * step}000000000"
        told = rounded(values)
        yield (lines.replace("NANOS", nanos) % tuple(told.tolist())).encode(), told


def generate(out, hosts=100, hours=24.0, step=10, noise="int", seed=1):
    """Writes the load to the open binary file `out`."""
    for lines, _ in ticks(int(hours * 3600 / step), hosts, step, noise, seed):
        out.write(lines)


def arguments(parser):
    parser.add_argument("--hosts", type=int, default=100, help="hosts, each of ten series (default 100)")
    parser.add_argument("--hours", type=float, default=24.0, help="hours of history (default 24)")
    parser.add_argument("--step", type=int, default=10, help="seconds from row to row (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of the random walks (default 1)")


def main():
    parser = argparse.ArgumentParser(description="Writes the devops load as line protocol.")
    parser.add_argument("out", metavar="OUT.lp")
    arguments(parser)
    parser.add_argument("--noise", choices=NOISES, default="int", help="whole numbers, two decimals, or all digits")
    args = parser.parse_args()
    with open(args.out, "wb", buffering=1 << 22) as out:
        generate(out, args.hosts, args.hours, args.step, args.noise, args.seed)


if __name__ == "__main__":
    main()
