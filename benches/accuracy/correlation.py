"""Which pairs `plimsoll correlate` calls related, where it is known: unrelated ones, and planted ones.

    python3 benches/accuracy/correlation.py --data DIR [--binary PATH] [--out TABLE.md] [--windows N] [--days 2 3]

DIR holds a folder a service with `metrics.csv.gz`. Unrelated: pairs of different services, one of each moved by ten days against
the other; the share that is flagged is what is false. Planted: a series and, in a service of its own, what it was some steps (0 to
12) before, times a factor of either sign, with noise as strong as it, or twice as strong (signal to noise 1 and 0.5, of variances
without the time of day); the share that is found with the right lag counts. Windows are drawn by seed; each has seven days of history.
Needs numpy.
"""

import argparse
import csv
import gzip
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source
sys.path.insert(0, os.fspath(pathlib.Path(__file__).resolve().parent.parent))

import ingest

STEP = 300
DAY = 86400 // STEP
HISTORY = 7 * DAY
MOVED = 10 * DAY
LAG_MAX = 12


def read(data):
    """Rows by service: a column a metric."""
    services = {}
    for file in sorted(data.glob("*/metrics.csv.gz")):
        with gzip.open(file, "rt", newline="") as text:
            _, *rows = csv.reader(text)
        services[file.parent.name] = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows])
    return services


def related(args, folder, days, columns):
    """What is flagged of columns, `group|name` each, in their last rows."""
    file = folder / "window.csv"
    length = len(next(iter(columns.values())))
    times = np.datetime64("2026-01-05T00:00:00") + np.arange(length) * np.timedelta64(STEP, "s")
    with file.open("w", newline="") as text:
        out = csv.writer(text)
        out.writerow(["time", *columns])
        out.writerows(zip(times, *columns.values()))
    asked = [args.binary, "correlate", "--input", file, "--window", f"{days}d", "--across", "|", "--limit", "1000000", "--format", "csv"]
    answer = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True)
    return {(row["series_a"], row["series_b"]): float(row["lag"]) / STEP for row in csv.DictReader(answer.stdout.splitlines())}


def varies(column, rows):
    window = column[-rows:]
    middle = np.nanmedian(window)
    return np.isfinite(window).sum() >= 100 and np.mean(np.abs(window - middle) > 1e-12 * abs(middle)) >= 0.05


def unrelated(args, folder, services, days, chance):
    """Pairs flagged and pairs compared, of windows ten days apart."""
    flagged = compared = 0
    rows = days * DAY
    for _ in range(args.windows):
        length = min(len(values) for values in services.values())
        end = int(chance.integers(HISTORY + rows, length - MOVED))
        columns, groups = {}, {}
        for at, (service, values) in enumerate(services.items()):
            moved = end + (MOVED if at % 2 else 0)
            for metric in range(values.shape[1]):
                columns[f"{service}|{metric}"] = values[moved - rows - HISTORY : moved, metric]
                groups[f"{service}|{metric}"] = at % 2
        found = related(args, folder, days, columns)
        # Those of services that were not moved against each other may be related.
        flagged += sum(groups[a] != groups[b] for a, b in found)
        usable = [groups[name] for name, column in columns.items() if varies(column, rows)]
        compared += sum(usable) * (len(usable) - sum(usable))
    return flagged, compared


def planted(args, folder, services, days, strength, chance):
    """Pairs planted, found, and found with their lag."""
    count = hits = exact = 0
    rows = days * DAY
    for _ in range(args.windows):
        length = min(len(values) for values in services.values())
        end = int(chance.integers(HISTORY + rows + LAG_MAX, length))
        columns, wanted = {}, {}
        for service, values in services.items():
            for metric in range(values.shape[1]):
                whole = values[end - rows - HISTORY - LAG_MAX : end, metric]
                source = whole[LAG_MAX:]
                if not varies(source, rows):
                    continue
                lag = int(chance.integers(0, LAG_MAX + 1))
                noise = spread(source) / np.sqrt(strength) * chance.normal(size=len(source))
                name = f"{service}-{metric}"
                columns[f"{name}|source"] = source
                columns[f"{name}+|copy"] = chance.choice([-3.0, 2.0]) * (whole[LAG_MAX - lag : len(whole) - lag] + noise)
                wanted[f"{name}|source", f"{name}+|copy"] = lag
        found = related(args, folder, days, columns)
        count += len(wanted)
        for pair, lag in wanted.items():
            hits += pair in found
            exact += found.get(pair) == lag
    return count, hits, exact


def spread(column):
    """Standard deviation without the time of day, what lies far off clipped."""
    days = column[: len(column) // DAY * DAY].reshape(-1, DAY)
    rest = (days - np.nanmean(days, axis=0)).ravel()
    middle = np.nanmedian(rest)
    far = 6 * max(1.4826 * np.nanmedian(np.abs(rest - middle)), 1e-9 * np.nanstd(rest))
    return float(np.nanstd(np.clip(rest, middle - far, middle + far)))


def main():
    parser = argparse.ArgumentParser(description="Which pairs `plimsoll correlate` calls related.")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--windows", type=int, default=6, help="of each length (default 6)")
    parser.add_argument("--days", type=int, nargs="+", default=[2, 3], help="of a window (default 2 3)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="write the table here, too")
    args = parser.parse_args()
    args.binary = args.binary or ingest.release_binary()
    services = read(args.data)
    lines = ["| window | unrelated, flagged | planted, signal to noise | found | found with its lag |", "|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        folder = pathlib.Path(folder)
        for days in args.days:
            chance = np.random.default_rng(args.seed)
            flagged, compared = unrelated(args, folder, services, days, chance)
            for strength in (1.0, 0.5):
                count, hits, exact = planted(args, folder, services, days, strength, chance)
                lines.append(f"| {days} days | {flagged / compared:.2%} of {compared} | {strength} | {hits / count:.1%} of {count} | {exact / count:.1%} |")
                print(lines[-1], file=sys.stderr)
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
