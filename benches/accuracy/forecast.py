"""How good what `plimsoll forecast` and `plimsoll capacity` say of the future is, beside statsforecast and simple lines.

    python3 benches/accuracy/forecast.py --data DIR --scorers DIR [--binary PATH] [--rivals MSTL AutoETS] [--out TABLE.md]
                                         [--skip m4 services capacity]

`--data` holds `m4-hourly/` (train.csv, test.csv) and `services/` (a folder a service: metrics.csv.gz), `--scorers` fc_score.py,
which says what its figures mean. Everything is asked of the program's command line with what it ships with: seasons are found,
and one way suits all series. Services are hourly means, a week ahead from several days; a service or series of each half is of
that half throughout. Rivals are run where statsforecast can be imported, their compilation not counted. Needs numpy.
"""

import argparse
import csv
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

sys.dont_write_bytecode = True  # so that a run leaves nothing in the source
sys.path.insert(0, os.fspath(pathlib.Path(__file__).resolve().parent.parent))

import ingest

DAY = 24
WEEK = 7 * DAY
START = np.datetime64("2026-01-05T00:00:00")
ORIGINS = (21, 28, 35)  # days of a service that are seen
M4_AHEAD = 48
CAPACITY_AHEAD = 14 * DAY
CAPACITY_DAYS = (21, 28, 31)
LIMIT = 100.0  # every series of the capacity question is scaled to it
WITHIN = 0.2  # of the true time


# What is asked of whom


def asked(binary, command, *arguments):
    answer = subprocess.run([binary, command, *map(str, arguments), "--format", "csv"], check=True, stdout=subprocess.PIPE, text=True)
    return list(csv.DictReader(answer.stdout.splitlines()))


def written(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def long_csv(path, histories):
    """One row a value, an hour apart."""
    rows = ((name, f"{START + np.timedelta64(at, 'h')}Z", repr(float(value))) for name, values in histories.items() for at, value in enumerate(values))
    return written(path, ["series", "time", "value"], rows)


def name_in(series, names):
    """The name that a series is of, whatever else its own says, such as value{series="H1"}."""
    if series in names:
        return series
    named = [part for part in series.replace('"', " ").split() if part in names]
    if len(named) != 1:
        sys.exit(f"series {series!r} is of no history, or of several")
    return named[0]


def ours(args, folder, histories, steps):
    file = long_csv(folder / "histories.csv", histories)
    began = time.perf_counter()
    rows = asked(args.binary, "forecast", "--input", file, "--horizon", steps)
    took = time.perf_counter() - began
    lines = {name: np.full((steps, 3), np.nan) for name in histories}
    for row in rows:
        lines[name_in(row["series"], histories)][int(row["step"]) - 1] = [float(row[key]) for key in ("mean", "lo", "hi")]
    return lines, took


def simple(line):
    """A line without an interval."""

    def of(args, folder, histories, steps):
        began = time.perf_counter()
        lines = {name: np.column_stack([line(values, steps), np.full((steps, 2), np.nan)]) for name, values in histories.items()}
        return lines, time.perf_counter() - began

    return of


def seasonal_naive(values, steps):
    return np.resize(values[-DAY:], steps)


def hour_of_day(values, steps):
    return np.resize(np.median(values[-WEEK:].reshape(-1, DAY), axis=0), steps)


def straight(values, steps):
    at = np.arange(len(values))
    return np.polyval(np.polyfit(at, values, 1), np.arange(len(values), len(values) + steps))


def rival(model):
    """A model of statsforecast on two processes."""

    def of(args, folder, histories, steps):
        import pandas
        from statsforecast import StatsForecast

        def run(histories, jobs):
            parts = [pandas.DataFrame({"unique_id": name, "ds": np.arange(len(values)), "y": values}) for name, values in histories.items()]
            frame = pandas.concat(parts)
            began = time.perf_counter()
            return StatsForecast(models=[model()], freq=1, n_jobs=jobs).forecast(df=frame, h=steps, level=[95]), time.perf_counter() - began

        run(dict(list(histories.items())[:2]), 1)
        frame, took = run(histories, 2)
        columns = [column for column in frame.reset_index().columns if column not in ("unique_id", "ds", "index")]
        grouped = frame.reset_index().groupby("unique_id")
        return {name: part.sort_values("ds")[columns[:3]].to_numpy() for name, part in grouped}, took

    return of


def rivals(names):
    try:
        from statsforecast.models import MSTL, AutoETS
    except ImportError:
        return {}
    known = {
        "MSTL": ("statsforecast MSTL(24, 168) + AutoETS", rival(lambda: MSTL([DAY, WEEK], trend_forecaster=AutoETS(model="ZZN")))),
        "AutoETS": ("statsforecast AutoETS(24)", rival(lambda: AutoETS(season_length=DAY))),
    }
    return dict(known[name] for name in names)


# How good it is


def half(names, which):
    return [name for at, name in enumerate(sorted(names)) if at % 2 == which]


def m4_rows(path):
    with path.open() as file:
        rows = list(csv.reader(file))
    return rows[0], {row[0]: [cell for cell in row[1:] if cell not in ("", "NA")] for row in rows[1:]}


def m4(args, folder):
    header, train = m4_rows(args.data / "m4-hourly" / "train.csv")
    test_header, test = m4_rows(args.data / "m4-hourly" / "test.csv")
    histories = {name: np.array(cells, float) for name, cells in train.items()}
    yield f"| M4 hourly, {len(train)} series, {M4_AHEAD} h | sMAPE | MASE | OWA | OWA of the halves | coverage of 95 % | MSIS | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    ways = {"ours": ours, "seasonal naive": simple(seasonal_naive), "hour of day, median of 7 days": simple(hour_of_day), **rivals(args.rivals)}
    for way, lines_of in ways.items():
        lines, took = lines_of(args, folder, histories, M4_AHEAD)
        told = [m4_scored(args, folder, header, test_header, train, test, lines, names) for names in (list(train), half(train, 0), half(train, 1))]
        coverage, msis = (f"{told[0][key]:.{digits}f}" if told[0][key] is not None else "" for key, digits in (("coverage", 3), ("MSIS", 2)))
        cells = [f"{told[0]['sMAPE']:.2f}", f"{told[0]['MASE']:.3f}", f"{told[0]['OWA']:.3f}", f"{told[1]['OWA']:.3f}, {told[2]['OWA']:.3f}"]
        yield f"| {way} | " + " | ".join([*cells, coverage, msis, f"{took:.1f}"]) + " |"


def m4_scored(args, folder, header, test_header, train, test, lines, names):
    files = [written(folder / f"{kind}.csv", of, [[name, *cells[name]] for name in names]) for kind, of, cells in (("train", header, train), ("test", test_header, test))]
    shown = ([name, step + 1, *("" if np.isnan(cell) else repr(float(cell)) for cell in row)] for name in names for step, row in enumerate(lines[name]))
    files.append(written(folder / "lines.csv", ["id", "h", "mean", "lo", "hi"], shown))
    answer = subprocess.run([sys.executable, "-B", args.scorers / "fc_score.py", *files], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout)


def hourly(args):
    """Hourly means of all metrics, by service."""
    found = {}
    for file in sorted((args.data / "services").glob("*/metrics.csv.gz")):
        with gzip.open(file, "rt") as text:
            rows = list(csv.reader(text))
        values = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows[1:]])
        means = np.nanmean(values[: len(values) // 12 * 12].reshape(-1, 12, values.shape[1]), axis=1)
        found[file.parent.name] = {f"{file.parent.name}-{name}": means[:, at] for at, name in enumerate(rows[0][1:])}
    return found


def scale(history):
    """What errors are measured in: the mean change from one day to the next."""
    return np.mean(np.abs(history[DAY:] - history[:-DAY]))


def services(args, folder):
    found = hourly(args)
    histories, coming = {}, {}
    for name, values in (series for service in found.values() for series in service.items()):
        for days in ORIGINS:
            history = values[: days * DAY]
            if scale(history) > 0:
                histories[f"{name}-{days}"], coming[f"{name}-{days}"] = history, values[days * DAY :][:WEEK]
    yield f"| services, {len(histories)} hourly histories, {WEEK} h | median MASE | of the halves | mean MASE | coverage of 95 % | median MSIS | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    ways = {"ours": ours, "seasonal naive": simple(seasonal_naive), "hour of day, median of 7 days": simple(hour_of_day), "straight line": simple(straight), **rivals(args.rivals)}
    halves = [[name for name in histories if name.split("-")[0] in half(found, which)] for which in (0, 1)]
    for way, lines_of in ways.items():
        lines, took = lines_of(args, folder, histories, WEEK)
        mase = {name: np.mean(np.abs(coming[name] - line[:, 0])) / scale(histories[name]) for name, line in lines.items()}
        cells = [f"{np.median(list(mase.values())):.3f}", ", ".join(f"{np.median([mase[name] for name in of]):.3f}" for of in halves), f"{np.mean(list(mase.values())):.3f}"]
        yield f"| {way} | " + " | ".join([*cells, *interval_cells(histories, coming, lines), f"{took:.1f}"]) + " |"


def interval_cells(histories, coming, lines):
    if any(np.isnan(line).any() for line in lines.values()):
        return ["", ""]
    held, scores = [], []
    for name, (_, low, high) in ((name, line.T) for name, line in lines.items()):
        came = coming[name]
        held.append(np.mean((came >= low) & (came <= high)))
        missed = np.maximum(low - came, 0) + np.maximum(came - high, 0)
        scores.append(np.mean(high - low + 2 / 0.05 * missed) / scale(histories[name]))
    return [f"{np.mean(held):.3f}", f"{np.median(scores):.2f}"]


# When a limit is met


def cases(args):
    """(kind, history, what comes, limit) with a limit over 0 that the history does not meet."""
    chance = np.random.default_rng(args.seed)
    at = np.arange(60 * DAY)
    for turn in range(args.disks):
        days = (21, 28, 35)[turn % 3]
        kind, values = disk(turn, at, days * DAY, chance)
        history, coming = values[: days * DAY], values[days * DAY :][:CAPACITY_AHEAD]
        step = int(chance.integers(DAY, CAPACITY_AHEAD - 12))
        met = max(np.mean(coming[step - 12 : step + 12]), history.max() * 1.0001, coming[:DAY].max() * 1.0001)
        yield f"filling disks, {kind}", history, coming, met
        yield "filling disks, limit later than asked", history, coming, coming.max() + chance.uniform(0.1, 0.6) * np.ptp(coming)
    for turn in range(args.disks):
        days = (21, 28, 35)[turn % 3]
        values = still(turn, at, chance)
        history, coming = values[: days * DAY], values[days * DAY :][:CAPACITY_AHEAD]
        yield "walks and noise", history, coming, max(history.max(), coming.max()) + chance.uniform(0.02, 0.3) * np.ptp(history)
    yield from of_services(args)


def disk(turn, at, seen, chance):
    """A disk that fills, by the hour."""
    rate, phase = chance.uniform(0.02, 0.2), chance.uniform()
    kind = ["evenly", "by day", "on workdays", "with steps", "with clean-ups", "ever faster"][turn % 6]
    wave = np.sin(2 * np.pi * (at / DAY + phase))
    period = (DAY, WEEK)[turn // 6 % 2]
    speeds = {"by day": 1 + 0.9 * wave, "with steps": 1 + 0.9 * wave, "on workdays": np.where(at // DAY % 7 < 5, 1.3, 0.25) * (1 + 0.5 * wave)}
    speeds["ever faster"] = 1 + 0.3 * (at / (35 * DAY) - 0.5)
    values = 20 + np.cumsum(rate * speeds.get(kind, np.ones(len(at))))
    if kind == "with steps":
        for _ in range(3):
            values = values + np.where(at >= chance.integers(DAY, seen - DAY), chance.uniform(-2, 2) * rate * DAY, 0)
    if kind == "with clean-ups":
        values = values + (at % period / period - 0.5) * rate * period * chance.uniform(0.3, 0.8)
    return kind, values + chance.normal(0, rate * DAY * chance.uniform(0.02, 0.5), len(at))


def still(turn, at, chance):
    """What goes nowhere of its own."""
    noise = chance.normal(size=len(at))
    if turn % 5 == 0:
        return 200 + np.cumsum(noise)
    if turn % 5 == 1:
        for hour in range(1, len(at)):
            noise[hour] += 0.97 * noise[hour - 1]
        return 100 + noise
    return 100 + (noise if turn % 5 == 2 else 8 * np.sin(2 * np.pi * at / DAY) + 2 * noise if turn % 5 == 3 else chance.standard_t(3, len(at)))


def of_services(args):
    """Levels that were never reached before, and such that are not reached for two weeks."""
    for values in (values for service in hourly(args).values() for values in service.values()):
        for days in CAPACITY_DAYS:
            history, coming = values[: days * DAY], values[days * DAY :][:CAPACITY_AHEAD]
            before, most = max(history.max(), coming[:DAY].max()), coming.max()
            if np.ptp(history) == 0 or before <= 0:
                continue
            if most > before:
                yield "services, a level new to them", history, coming, (before + most) / 2
            yield "services, a level not reached", history, coming, max(before, most) + 0.1 * (max(before, most) - history.min())


def capacity(args, folder):
    """A warning is a p50: that it is more likely than not that the limit is met within the two weeks asked for."""
    asked_of = {f"c{at}": case for at, case in enumerate(cases(args))}
    file = long_csv(folder / "capacity.csv", {name: history * (LIMIT / limit) for name, (_, history, _, limit) in asked_of.items()})
    began = time.perf_counter()
    rows = asked(args.binary, "capacity", "--input", file, "--limit", LIMIT, "--horizon", CAPACITY_AHEAD)
    took = time.perf_counter() - began
    told = {name_in(row["series"], asked_of): [steps_of(row[key], asked_of[name_in(row["series"], asked_of)][1]) for key in ("p10", "p50", "p90")] for row in rows}
    kinds = {}
    for name, (kind, _, coming, limit) in asked_of.items():
        met = np.flatnonzero(coming >= limit)
        kinds.setdefault(kind, []).append((met[0] + 1 if len(met) else None, told.get(name, [None] * 3)))
    yield f"| time to a limit, at most {CAPACITY_AHEAD} h ahead ({took:.1f} s) | met | p50 within {WITHIN:.0%} | p10 to p90 holds it | not met | false warnings |"
    yield "|---|---:|---:|---:|---:|---:|"
    everything = [answer for answers in kinds.values() for answer in answers]
    disks = [answer for kind, answers in kinds.items() if kind.startswith("filling") for answer in answers]
    for kind, answers in [*kinds.items(), ("all filling disks", disks), ("all", everything)]:
        yield f"| {kind} | " + " | ".join(capacity_cells(answers)) + " |"


def steps_of(cell, history):
    """Hours ahead, from a count of steps or a time; none where it says none."""
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        end = START + np.timedelta64(len(history) - 1, "h")
        return float((np.datetime64(cell.removesuffix("Z")) - end) / np.timedelta64(1, "h"))


def capacity_cells(answers):
    met = [(true, said) for true, said in answers if true]
    quiet = [said for true, said in answers if not true]
    near = sum(said[1] is not None and abs(said[1] - true) <= WITHIN * true for true, said in met)
    held = sum(said[0] is not None and said[0] <= true <= (said[2] or np.inf) for true, said in met)
    false = sum(said[1] is not None for said in quiet)
    share = lambda part, whole: f"{part / len(whole):.1%}" if whole else ""
    return [str(len(met)), share(near, met), share(held, met), str(len(quiet)), share(false, quiet)]


def main():
    parser = argparse.ArgumentParser(description="How good what `plimsoll forecast` and `plimsoll capacity` say of the future is.")
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--scorers", type=pathlib.Path, required=True)
    parser.add_argument("--binary", help="plimsoll to measure (default: cargo build --release)")
    parser.add_argument("--rivals", nargs="*", default=["MSTL"], choices=["MSTL", "AutoETS"], help="of statsforecast; AutoETS(24) takes minutes")
    parser.add_argument("--disks", type=int, default=240, help="made-up series of each kind (default 240)")
    parser.add_argument("--seed", type=int, default=7, help="of what is made up (default 7)")
    parser.add_argument("--skip", nargs="+", default=[], choices=["m4", "services", "capacity"])
    parser.add_argument("--out", type=pathlib.Path, help="write the tables here, too")
    args = parser.parse_args()
    args.binary = args.binary or ingest.release_binary()
    lines = []
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        for part in (m4, services, capacity):
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
