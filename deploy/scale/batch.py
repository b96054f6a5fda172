"""The batch inferencer: a run's catalogue embedded by Ray Data, with a pool of encoders, here or on a cluster.

    python -m deploy.scale.batch outputs/quick --encoders 2
    python -m deploy.scale.batch /shared/outputs/own --encoders 16 --gpus 1 --address 10.0.0.1:6379

It leaves the index of the run, byte for byte as `make index` would write it. Texts that an index there has already
are not embedded again, and one that was killed goes on where it was. The machines of a cluster share the run's folder.
"""

from __future__ import annotations

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
    """One of the pool: a process with the run's model."""

    def __init__(self, folder: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self.model = load(Path(folder))

    def __call__(self, chunk: pd.DataFrame) -> dict[str, np.ndarray]:
        """Texts -> their unit vectors, (n, d) float32."""
        return {"vector": embed(self.model, chunk["text"])}


def pool(run: Path, encoders: int, cpus: int, gpus: float):
    """What `build_index` embeds with: chunks go to whichever encoder is free, vectors come back in order."""
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    ray.data.DataContext.get_current().enable_progress_bars = False  # build_index has its own

    def encode(chunks: Iterator[pd.Series]) -> Iterator[np.ndarray]:
        blocks = [chunk.to_frame("text") for chunk in chunks]
        if not blocks:
            return
        vectors = ray.data.from_pandas(blocks).map_batches(
            Encoder,
            fn_constructor_args=(str(run / "model"), cpus),
            batch_size=None,  # a chunk as it is: so its vectors have the same bits as in one process
            batch_format="pandas",
            compute=ray.data.ActorPoolStrategy(size=encoders),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        for batch in vectors.iter_batches(batch_size=None, batch_format="numpy"):
            yield batch["vector"]

    return encode


def _need_room(cpus: int, gpus: float) -> None:
    """Raises WorkbookError where an encoder would wait for ever: no machine has what it wants."""
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        most = max(node["Resources"].get(name, 0) for node in ray.nodes())
        if wanted > most:
            raise WorkbookError(f"an encoder wants {wanted:g} {name}s, and no machine here has more than {most:g}.")


def _count(said: str) -> int:
    if int(said) < 1:
        raise argparse.ArgumentTypeError(f"{said} is less than one")
    return int(said)


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when the index is there, 1 with one line on why not."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.batch", description=__doc__.split("\n\n")[0])
    parser.add_argument("run", help="its folder")
    parser.add_argument("--encoders", type=_count, default=2, help="processes that embed (default: %(default)s)")
    parser.add_argument("--cpus", type=_count, default=1, help="threads of each (default: %(default)s)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each, or a share of one (default: %(default)s)")
    parser.add_argument("--address", help="a Ray cluster's; without it, this machine")
    args = parser.parse_args(argv)
    try:
        run = resolve(args.run)
        need(run, "tracks.parquet", "model", "index")
        settings = {} if args.address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        code = {"env_vars": {"PYTHONPATH": str(ROOT)}}
        with ray.init(args.address, runtime_env=code, log_to_driver=False, logging_level="error", **settings):
            _need_room(args.cpus, args.gpus)
            n = reindex(run, encode=pool(run, args.encoders, args.cpus, args.gpus))
    except (WorkbookError, ConnectionError, ray.exceptions.RayError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{n:,} tracks are indexed in {shown(run)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
