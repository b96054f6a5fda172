"""Batch inference: Ray Data embeds a run's catalogue with a pool of encoders, on this machine or on a cluster.

    python -m deploy.scale.batch outputs/quick --encoders 2
    python -m deploy.scale.batch /shared/outputs/own --encoders 16 --gpus 1 --address 10.0.0.1:6379

The result is the run's index, byte for byte as `make index` writes it. Texts of an existing index are not embedded
again, and a killed job resumes. The machines of a cluster share the run's folder.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import torch

from lib.core.encoder import embed, load
from lib.core.errors import WorkbookError
from lib.core.paths import ROOT, resolve, shown
from lib.core.runs import need
from lib.search.indexing import reindex


class Encoder:
    """One encoder of the pool: a process with the run's model."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = load(Path(folder))

    def __call__(self, chunk: pd.DataFrame) -> dict[str, np.ndarray]:
        """Return the texts' unit vectors, (n, d) float32."""
        return {"vector": embed(self.model, chunk["text"])}


def pool(run: Path, encoders: int, cpus: int, gpus: float):
    """Return the function with which `reindex` embeds: idle encoders take chunks, vectors come back in order."""
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False  # reindex shows its own

    def encode(chunks: Iterator[pd.Series]) -> Iterator[np.ndarray]:
        blocks = [chunk.to_frame("text") for chunk in chunks]
        if not blocks:
            return
        vectors = ray.data.from_pandas(blocks).map_batches(
            Encoder,
            fn_constructor_args=(str(run / "model"), cpus),
            batch_size=None,  # whole chunks: their vectors have the same bits as in one process
            batch_format="pandas",
            compute=ray.data.ActorPoolStrategy(size=encoders),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for batch in vectors.iter_batches(batch_size=None, batch_format="numpy"):
            yield batch["vector"]

    return encode


def _check_room(cpus: int, gpus: float) -> None:
    """Raise WorkbookError if no machine has room for an encoder: the job would wait for ever."""
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        most = max(node["Resources"].get(name, 0) for node in ray.nodes())
        if needed > most:
            raise WorkbookError(f"an encoder needs {needed:g} {name}s, but no machine has more than {most:g}.")


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than one")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Return 0 if the index is written, 1 after an error in one line."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.batch", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--encoders", type=_count, default=2, help="processes that embed (default: %(default)s)")
    parser.add_argument("--cpus", type=_count, default=1, help="threads of each (default: %(default)s)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each, or a share of one (default: %(default)s)")
    parser.add_argument("--address", help="address of a Ray cluster (default: this machine)")
    args = parser.parse_args(argv)
    try:
        run = resolve(args.run)
        need(run, "tracks.parquet", "model", "index")
        settings = {} if args.address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        code = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        with ray.init(args.address, runtime_env=code, log_to_driver=False, logging_level="error", **settings):
            _check_room(args.cpus, args.gpus)
            n = reindex(run, encode=pool(run, args.encoders, args.cpus, args.gpus))
    except (WorkbookError, ConnectionError, ray.exceptions.RayError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Indexed {n:,} tracks in {shown(run)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
