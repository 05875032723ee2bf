"""Runs the notebooks of this folder over the sample recording: a store of its own, a server over it, a kernel each.

    python3 queries/notebooks/run.py [--plimsoll PROGRAM] [--out DIR]

Ends with 1 where a cell fails, or a notebook has fewer pictures than it should. With --out, the notebooks are written
there with what they answered; `--out queries/notebooks` renews those that are kept. Needs all of `requirements.txt`.
"""

import argparse
import asyncio
import base64
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import nbclient
import nbformat
from jupyter_client import AsyncKernelManager
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
RECORDING = ROOT / "data" / "recording.parquet"
PICTURES = {"explore-history": 4, "anomalies-and-correlations": 5, "capacity-forecast": 4}
KEPT_MAX = 400_000  # bytes that a notebook in this folder may have
SECONDS = 300  # that a cell may take


class Failed(Exception):
    """What is wrong, to be said without a trace."""


def pictures(notebook):
    """The outputs that hold a picture."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data for output in outputs if "image/png" in output.get("data", {})]


def read(name):
    """A notebook as it is kept: valid, small, with its pictures."""
    path = HERE / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        raise Failed(f"{path.name} is no valid notebook: {str(error)[:200]}") from None
    if path.stat().st_size > KEPT_MAX:
        raise Failed(f"{path.name} has {path.stat().st_size} bytes: more than {KEPT_MAX}")
    if len(pictures(notebook)) < PICTURES[name]:
        raise Failed(f"{path.name} is kept without its pictures: run with --out {HERE}")
    return notebook


class Server:
    """`plimsoll serve` over a store of the recording, on a free port. It collects nothing: answers stay the same."""

    def __init__(self, program, folder):
        self.data = folder / "plimsoll-data"
        self.log = folder / "serve.log"
        known = {name: value for name, value in os.environ.items() if not name.startswith("PLIMSOLL_")}
        quiet = {**known, "PLIMSOLL__COLLECT__SYSTEM": "false", "PLIMSOLL__COLLECT__OWN": "false"}
        of_store = [program, "--data", str(self.data)]
        for words in (["import", str(RECORDING)], ["compact"]):
            ran = subprocess.run([*of_store, *words], env=quiet, capture_output=True, text=True)
            if ran.returncode != 0:
                raise Failed(f"{program} {' '.join(words)}: {ran.stderr}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*of_store, "serve", "--listen", "127.0.0.1:0"], env=quiet, stderr=log)

    def __enter__(self):
        until = time.monotonic() + 60
        while not (told := re.search(r"listens on (http://\S+)", self.log.read_text())):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise Failed(f"the server does not listen: {self.log.read_text()}")
            time.sleep(0.05)
        self.url = told[1]
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def fault(cell, error):
    """What a cell says that failed, or what happened to it."""
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback))
            return f"{output.ename}: {output.evalue}\n{trace}"
    return f"{error}\n{cell.source}"


async def run(name, notebook, server, program, folder):
    """Executes a notebook in place."""
    environment = {
        **os.environ,
        "PLIMSOLL_URL": server.url,
        "PLIMSOLL_DATA": str(server.data),
        "PLIMSOLL_BIN": program,
        # Nobody's own settings, and nothing left behind.
        **{name: str(folder / "kernel") for name in ("IPYTHONDIR", "MPLCONFIGDIR", "JUPYTER_CONFIG_DIR")},
    }
    # Over sockets in the folder: nobody else can listen.
    sockets = str(folder / f"{name[:7]}.json")
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", connection_file=sockets)
    begun = []
    client = nbclient.NotebookClient(
        notebook,
        km=kernel,
        timeout=SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=lambda cell, cell_index: begun.append(cell_index),
    )
    try:
        await client.async_execute(env=environment)
    except (
        nbclient.exceptions.CellExecutionError,
        nbclient.exceptions.CellTimeoutError,
        nbclient.exceptions.DeadKernelError,
    ) as error:
        cell = notebook.cells[begun[-1]]
        raise Failed(f"{name}.ipynb, cell {begun[-1] + 1} ({cell.id}): {fault(cell, error)}") from None
    finally:
        await kernel.shutdown_kernel(now=True)
    found = len(pictures(notebook))
    if found < PICTURES[name]:
        raise Failed(f"{name}.ipynb has {found} pictures of {PICTURES[name]}")
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                print(f"{name}.ipynb, cell {number} says: {output.text}", file=sys.stderr)


def smaller(picture):
    """The same with a palette: a third of the bytes."""
    packed = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode()


def write(path, notebook):
    for data in pictures(notebook):
        data["image/png"] = smaller(data["image/png"])
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plimsoll", default=str(ROOT / "target" / "release" / "plimsoll"), metavar="PROGRAM")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.plimsoll)
    if not os.path.exists(program):
        raise Failed(f"there is no {program}: --plimsoll names the program")
    # What is renewed need not be as it should be.
    is_renewed = arguments.out and arguments.out.resolve() == HERE
    kept = {
        name: nbformat.read(HERE / f"{name}.ipynb", as_version=4) if is_renewed else read(name) for name in PICTURES
    }
    with tempfile.TemporaryDirectory(prefix="plimsoll-notebooks-") as folder:
        folder = pathlib.Path(folder)
        with Server(program, folder) as server:
            for name, notebook in kept.items():
                started = time.monotonic()
                asyncio.run(run(name, notebook, server, program, folder))
                print(f"{name}: {len(pictures(notebook))} pictures, {time.monotonic() - started:.1f} s")
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, notebook in kept.items():
            write(arguments.out / f"{name}.ipynb", notebook)
    if is_renewed:
        for name in PICTURES:
            read(name)


if __name__ == "__main__":
    # So that the server is stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Failed as failed:
        sys.exit(f"run.py: {failed}")
