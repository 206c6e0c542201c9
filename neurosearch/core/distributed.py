"""Building one artifact by several processes, one a device: runtime=ddp.

Recipes are plain data, so a process needs no more than the artifact and its folder. All of them run
the artifact's `build`, which asks `world` for its share of the work; what it returns, and whatever
is to be written once, is rank 0's. Under Lightning they are the processes of its DDP strategy.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import threading
from dataclasses import replace
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosearch.core.errors import InputError

if TYPE_CHECKING:
    from neurosearch.core.artifact import Artifact
    from neurosearch.core.runtime import Runtime

OUTCOME, FAULT = "outcome.json", "fault.txt"


def world() -> tuple[int, int]:
    """(this process's rank, number of processes)."""
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def barrier() -> None:
    """Wait for all processes."""
    if world()[1] > 1:
        import torch.distributed as dist

        dist.barrier()


def build_together(artifact: Artifact[Any], folder: Path, runtime: Runtime) -> Any:
    """What `artifact.build` returns, run by `runtime.devices` processes.

    Raises InputError where one of them does.
    """
    from torch import multiprocessing
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    device = runtime.torch_devices()[0]
    made = folder / "processes"  # a killed attempt's goes with the next one's
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    # A search's trial is looked up by Hydra's overrides, which these processes don't have.
    alone = replace(runtime, pruner=None)
    given = (artifact, folder, alone, str(made), _free_port(), device.type, dict(os.environ))
    try:
        run: Any = multiprocessing.start_processes  # type: ignore[attr-defined]
        run(_one, args=given, nprocs=runtime.devices, start_method="forkserver")
        return json.loads((made / OUTCOME).read_text(encoding="utf-8"))
    except (ProcessExitedException, ProcessRaisedException):
        if (made / FAULT).exists():
            raise InputError((made / FAULT).read_text(encoding="utf-8")) from None
        raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """A killed training leaves no processes: these are the fork server's children, not its own."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _one(
    rank: int,
    artifact: Artifact[Any],
    folder: Path,
    runtime: Runtime,
    made: str,
    port: int,
    device: str,
    environment: dict[str, str],
) -> None:
    """A process: joins the others, builds its share."""
    os.environ.update(environment)  # a fork server keeps the one that it was started with
    threading.Thread(target=_end_with_parent, daemon=True).start()
    processes = runtime.devices
    named = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": processes}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0}
    os.environ.update({key: str(value) for key, value in {**named, **ranks}.items()})
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    import torch
    import torch.distributed as dist

    if device == "cuda":
        torch.cuda.set_device(rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=rank, world_size=processes)
    single = replace(
        runtime,
        device=f"cuda:{rank}" if device == "cuda" else device,
        threads=max(1, runtime.cpu_threads // processes),
        progress=runtime.progress and rank == 0,
    )
    try:
        outcome = artifact.build(folder, single)
    except InputError as error:
        Path(made, FAULT).write_text(str(error), encoding="utf-8")
        sys.exit(1)
    if rank == 0:
        Path(made, OUTCOME).write_text(json.dumps(outcome), encoding="utf-8")
    dist.destroy_process_group()
