"""How good the change points are that `plimsoll changepoints` finds in the noise of real benchmarks.

    python3 benches/accuracy/changepoints.py --data DIR --scorer FILE --binary PATH [--out TABLE.md]

`--data` holds `asis.csv` (rows as they were measured), `shuffled.csv` and `*.labels.json`, `--scorer` is changepoint_score.py, which
says what its figures mean. Everything is asked of the program's command line with what it ships with: one default for all
series. The halves are those of the cases, by sixes in turn, so that each has all sizes of steps.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

CASES_A_ROUND = 6  # two without a step, and one of each size


def rows_of(binary, file):
    asked = [binary, "changepoints", "--input", file, "--format", "csv"]
    answer = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True)
    return list(csv.DictReader(answer.stdout.splitlines()))


def case_of(series, cases):
    """The case that a series is of, whatever else its name says, such as case{case="case0001"}."""
    if series in cases:
        return series
    named = [case for case in cases if case in series]
    if len(named) != 1:
        sys.exit(f"series {series!r} is of no case, or of several")
    return named[0]


def found_in(binary, file, cases):
    """Rows by case, as the scorer takes them."""
    found = {case: [] for case in cases}
    for row in rows_of(binary, file):
        found[case_of(row["series"], cases)].append(int(float(row["row"])))
    return found


def scored(scorer, labels, found, folder):
    """The scorer's figures for the cases of `labels`."""
    for name, content in (("labels", labels), ("found", {case: found[case] for case in labels})):
        (folder / f"{name}.json").write_text(json.dumps(content))
    asked = [sys.executable, "-B", scorer, folder / "labels.json", folder / "found.json"]
    return json.loads(subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True).stdout)


def half(labels, which):
    return {case: label for at, (case, label) in enumerate(sorted(labels.items())) if at // CASES_A_ROUND % 2 == which}


def table(args, folder):
    yield "| rows | cases | F1 | precision | recall | of 2 % | of 5 % | of 10 % | of 20 % | unchanged series alarmed | false alarms per 1000 rows |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name, rows in (("shuffled", "shuffled"), ("asis", "as measured")):
        labels = json.loads((args.data / f"{name}.labels.json").read_text())
        found = found_in(args.binary, args.data / f"{name}.csv", labels)
        for cases, of in (("all", labels), ("first half", half(labels, 0)), ("second half", half(labels, 1))):
            told = scored(args.scorer, of, found, folder)
            recalls = [f"recall@{size}%" for size in (2, 5, 10, 20)]
            cells = [f"{told[key]:.2f}" for key in ["F1", "precision", "recall", *recalls]]
            cells += [f"{100 * told['with_false_alarm']:.1f} %", f"{told['false_per_1000_rows']:.2f}"]
            yield f"| {rows} | {cases} | " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--scorer", type=pathlib.Path, required=True)
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path("target/release/plimsoll"))
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    args.binary = os.fspath(args.binary.resolve())
    with tempfile.TemporaryDirectory() as folder:
        lines = "\n".join(table(args, pathlib.Path(folder)))
    print(lines)
    if args.out:
        args.out.write_text(lines + "\n")


if __name__ == "__main__":
    main()
