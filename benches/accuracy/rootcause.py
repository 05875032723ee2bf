"""Which service it was: `explain` on the PetShop cases, beside what is known of them.

    python3 benches/accuracy/rootcause.py --data DIR --binary PATH --scorer rca_score.py [--out DIR]

DIR holds `low_traffic` and `high_traffic` of PetShop (Hardt et al. 2024, github.com/amazon-science/petshop-root-cause-analysis):
each with `noissue/metrics.csv`, which is the baseline of all its cases, `train/issue_*/metrics.csv` and `target.json`, and
`graph.csv`, who calls whom. A case becomes two wide CSV files, a column for each series that both have, named
`service|metric_statistic`; the program groups by what is before the bar. Ranks, answers and tables stay in `--out`. The
scorer says in how many cases the cause was first, or among the first three or five. Needs nothing but Python.
"""

import argparse
import csv
import json
import pathlib
import subprocess
import sys
import tempfile

TRAFFIC = ("low", "high")
BAR = "|"
HEADERS = 3  # rows that name a column: service, metric, statistic
SHOWN = ("AC1", "AC3", "AC5", "Avg5", "MRR")


def read_metrics(path):
    """Times as written, and cells by name of the series; an empty cell is a gap."""
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    _, *columns = zip(*rows[:HEADERS])
    samples = rows[HEADERS + 1 :]  # one more row names the time
    series = {}
    for at, (service, metric, statistic) in enumerate(columns, start=1):
        assert BAR not in service, f"{path}: a service is called {service}"
        series[f"{service}{BAR}{metric}_{statistic}"] = [row[at] for row in samples]
    return [row[0] for row in samples], series


def read_graph(path):
    """Callees by caller."""
    with open(path, newline="") as file:
        (_, *names), *rows = csv.reader(file)
    return {caller: [name for name, cell in zip(names, cells) if float(cell) > 0] for caller, *cells in rows}


def write_wide(path, times, series, names):
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["time", *names])
        stamps = (f"{float(time):.0f}" for time in times)
        out.writerows(zip(stamps, *(series[name] for name in names)))


def write_graph(path, graph):
    """A JSON string is a TOML string, too."""
    lines = [f"{json.dumps(caller)} = {json.dumps(callees)}" for caller, callees in graph.items() if callees]
    path.write_text("\n".join(["[calls]", *lines]) + "\n")


def explain(binary, baseline, incident, graph):
    """Services, the likeliest first."""
    command = [binary, "explain", "--baseline", baseline, "--incident", incident, "--group-by", BAR, "--format", "csv"]
    if graph:
        command += ["--graph", graph]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {ran.stderr.strip()}")
    rows = sorted(csv.DictReader(ran.stdout.splitlines()), key=lambda row: int(row["rank"]))
    return [row["group"] for row in rows]


def cases(traffic):
    """Folders of the cases, by name, in order of their number."""
    folders = sorted((traffic / "train").glob("issue_*"), key=lambda folder: int(folder.name.rpartition("_")[2]))
    return {folder.name.rpartition("_")[2]: folder for folder in folders}


def convert(traffic, out):
    """Writes the files of all cases; by case its two, and that of the graph."""
    out.mkdir(parents=True, exist_ok=True)
    graph = out / "graph.toml"
    write_graph(graph, read_graph(traffic / "graph.csv"))
    normal_times, normal = read_metrics(traffic / "noissue" / "metrics.csv")
    files = {}
    for case, folder in cases(traffic).items():
        times, series = read_metrics(folder / "metrics.csv")
        names = [name for name in normal if name in series]
        files[case] = out / f"{case}-baseline.csv", out / f"{case}-incident.csv"
        write_wide(files[case][0], normal_times, normal, names)
        write_wide(files[case][1], times, series, names)
    return files, graph


def causes(traffic):
    read = {case: json.loads((folder / "target.json").read_text()) for case, folder in cases(traffic).items()}
    return {case: [target["root_cause"]["node"]] for case, target in read.items()}


def score(scorer, truth, ranks):
    ran = subprocess.run([sys.executable, scorer, truth, ranks], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout)


def place(ranked, cause):
    """Where the cause is, from 1; a dash where it is not."""
    places = [at for at, name in enumerate(ranked, start=1) if name in cause]
    return str(places[0]) if places else "-"


def main():
    parser = argparse.ArgumentParser(description="Which service it was: `explain` on the PetShop cases.")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with low_traffic and high_traffic")
    parser.add_argument("--binary", required=True, help="program to run, such as target/release/plimsoll")
    parser.add_argument("--scorer", type=pathlib.Path, required=True, help="rca_score.py")
    parser.add_argument("--out", type=pathlib.Path, help="keep files, ranks and table here (default: nowhere)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rootcause-") as place_:
        out = args.out or pathlib.Path(place_)
        text = table(args, out)
        (out / "table.md").write_text(text + "\n")
    print(text)


def table(args, out):
    lines = [f"| traffic | graph | cases | {' | '.join(SHOWN)} | places of the cause |", "|---|---|" + "---:|" * 6 + "---|"]
    for name in TRAFFIC:
        traffic = args.data / f"{name}_traffic"
        files, calls = convert(traffic, out / name)
        cause = causes(traffic)
        truth = out / f"truth_{name}.json"
        truth.write_text(json.dumps(cause))
        for title, graph in (("nograph", None), ("graph", calls)):
            ranks = {case: explain(args.binary, *pair, graph) for case, pair in files.items()}
            ranked = out / f"ranks_{name}_{title}.json"
            ranked.write_text(json.dumps(ranks))
            scores = score(args.scorer, truth, ranked)
            places = " ".join(place(ranks[case], cause[case]) for case in cause)
            numbers = " | ".join(f"{scores[key]:.3f}" for key in SHOWN)
            lines.append(f"| {name} | {'yes' if graph else 'no'} | {scores['n']} | {numbers} | {places} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
