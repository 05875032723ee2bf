"""How good what `plimsoll anomalies` finds is, beside a plain z-score and a detector that says nothing.

    python3 benches/accuracy/anomalies.py --data DIR --scorers DIR [--binary PATH] [--out TABLE.md] [--skip nab services noise]

`--data` holds `nab/` (data, labels.json) and `services/` (a folder a service: metrics.csv.gz, labels.json), `--scorers` nab_score.py and
services_score.py, which say what their figures mean. Everything is asked of the program's command line with what it ships with:
one method and one threshold for all series. False alarms are counted on seeded noise in which there is nothing to find.
Needs numpy.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source
sys.path.insert(0, os.fspath(pathlib.Path(__file__).resolve().parent.parent))

import ingest

DAY = 86400
PLAIN = ["--method", "zscore", "--threshold", "3"]
# What is measured, by name: further arguments of the program.
WAYS = {"ours": [], "z-score over a day": PLAIN, "null": None}
FALSE_A_DAY = 58 * 10**-2.4  # as README states it


def rows_of(binary, file, *arguments):
    asked = [binary, "anomalies", "--input", file, "--format", "csv", *arguments]
    answer = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True)
    return list(csv.DictReader(answer.stdout.splitlines()))


def scored(scorer, *arguments):
    answer = subprocess.run([sys.executable, "-B", scorer, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def written(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def nab(args, folder):
    """Alarms of single series, scored as NAB does."""
    data, labels = args.data / "nab" / "data", args.data / "nab" / "labels.json"
    yield "| NAB, %d series | score | episode F1 | precision | recall | false episodes a series and day |" % len(list(data.rglob("*.csv")))
    yield "|---|---:|---:|---:|---:|---:|"
    for way, arguments in WAYS.items():
        scores = folder / "nab" / way.replace(" ", "-")
        for file in sorted(data.rglob("*.csv")):
            of_file = day(arguments, file) if arguments else arguments
            rows = rows_of(args.binary, file, *(of_file or []))
            flags = [(row["time"], row["value"], "0" if arguments is None else row["anomaly"]) for row in rows]
            written(scores / file.relative_to(data), ["timestamp", "value", "anomaly_score"], flags)
        told = scored(args.scorers / "nab_score.py", "score", "--data", data, "--labels", labels, "--scores", scores, "--threshold", 0.5)
        told = told["standard"]
        yield f"| {way} | {told['nab']:.1f} | {told['ep_f1']:.3f} | {told['ep_precision']:.2f} | {told['ep_recall']:.2f} | {told['ep_false_per_series_day']:.3f} |"


def day(arguments, file):
    """As many values as there are in a day of a file."""
    with file.open() as lines:
        times = [np.datetime64(row["timestamp"]) for row in csv.DictReader(lines)]
    step = float(np.median(np.diff(times).astype("timedelta64[s]").astype(float)))
    return [*arguments, "--window", str(int(max(24, round(DAY / step))))]


def services(args, folder):
    """One score a time over all metrics of a service."""
    data = args.data / "services"
    yield "| services | event F1 | precision | recall | false episodes a service and day | mean AUC-PR |"
    yield "|---|---:|---:|---:|---:|---:|"
    ways = {"ours": lambda file: grouped(args, file), "mean of min(z over a day, 10) at 3": lambda file: mean_z(args, file)}
    ways["null"] = lambda file: [(row[0], 0.0) for row in grouped(args, file)]
    for way, rows in ways.items():
        scores = folder / "services" / way.split()[0]
        for file in sorted(data.glob("*/metrics.csv.gz")):
            written(scores / f"{file.parent.name}.csv", ["time", "score"], rows(file))
        threshold = {"ours": 1.25, "null": 0.5}.get(way, 3.0)
        told = scored(args.scorers / "services_score.py", data, scores, "--threshold", threshold)
        cells = [told["F1"], told["precision"], told["recall"], told["false_episodes_per_day"], told["auc_pr"]]
        yield f"| {way} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"


def grouped(args, file):
    return [(row["time"], row["score"]) for row in rows_of(args.binary, file, "--group")]


def mean_z(args, file):
    """What a plain z-score of each metric comes to where they are averaged."""
    sums = {}
    for row in rows_of(args.binary, file, *PLAIN, "--window", "288"):
        sums.setdefault(row["time"], []).append(min(abs(float(row["score"] or 0)), 10.0))
    return [(time, float(np.mean(scores))) for time, scores in sums.items()]


def series_of(kind, count, step, chance):
    """Noise in which there is nothing to find."""
    normal = chance.normal(size=count)
    phase = 2 * np.pi * (np.arange(count) * step % DAY) / DAY
    if kind.startswith("autoregressive"):
        share = float(kind.split()[1])
        for at in range(1, count):
            normal[at] += share * normal[at - 1]
        return normal
    return {
        "Gaussian": lambda: normal,
        "Student t, 3 degrees": lambda: chance.standard_t(3, count),
        "a day, Gaussian": lambda: 10 * np.sin(phase) + normal,
        "a day, Student t": lambda: 10 * np.sin(phase) + chance.standard_t(3, count),
        "random walk": lambda: np.cumsum(normal),
        "counter, 200 a step": lambda: chance.poisson(200, count) / step,
        "counter, 3 a step": lambda: chance.poisson(3, count).astype(float),
        "lognormal": lambda: np.exp(normal),
    }[kind]()


KINDS = [
    "Gaussian", "Student t, 3 degrees", "a day, Gaussian", "a day, Student t", "autoregressive 0.9", "random walk",
    "counter, 200 a step", "counter, 3 a step", "lognormal",
]


def noise(args, folder):
    """False episodes a series and day."""
    yield f"| seeded noise, false episodes a series and day (stated: at most {FALSE_A_DAY:.2f}) | 5 min | 1 min | z-score over a day, 5 min | z-score over a day, 1 min |"
    yield "|---|---:|---:|---:|---:|"
    worst = 0.0
    for kind in KINDS:
        rates = {}
        for step, days, count in ((300, 42, 20), (60, 21, 12)):
            chance = np.random.default_rng(args.seed)
            length = days * DAY // step
            columns = [series_of(kind, length, step, chance) for _ in range(count)]
            times = np.datetime64("2026-01-01T00:00:00") + np.arange(length) * np.timedelta64(step, "s")
            file = folder / "noise.csv"
            written(file, ["time", *(f"s{at}" for at in range(count))], zip(times, *columns))
            for way, arguments in (("ours", []), ("plain", [*PLAIN, "--window", str(DAY // step)])):
                alarms = sum(row["anomaly"] == "1" for row in rows_of(args.binary, file, *arguments))
                rates[way, step] = alarms / (count * days)
        worst = max(worst, rates["ours", 300], rates["ours", 60])
        cells = [rates[way, step] for way in ("ours", "plain") for step in (300, 60)]
        yield f"| {kind} | " + " | ".join(f"{rate:.3f}" for rate in cells) + " |"
    yield ""
    yield f"Worst {worst:.3f}, {worst / FALSE_A_DAY:.1f} times what is stated."


def main():
    parser = argparse.ArgumentParser(description="How good what `plimsoll anomalies` finds is.")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--scorers", type=pathlib.Path, required=True)
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--seed", type=int, default=3, help="of the noise (default 3)")
    parser.add_argument("--skip", nargs="+", default=[], choices=["nab", "services", "noise"])
    parser.add_argument("--out", type=pathlib.Path, help="write the tables here, too")
    args = parser.parse_args()
    args.binary = args.binary or ingest.release_binary()
    lines = []
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        for part in (nab, services, noise):
            if part.__name__ in args.skip:
                continue
            for line in part(args, pathlib.Path(folder)):
                print(line, flush=True)
                lines.append(line)
            print()
            lines.append("")
    if args.out:
        args.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
