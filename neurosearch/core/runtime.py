"""Runtime: where and how work is done. Nothing in it may change a result's fingerprint."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from neurosearch.core.artifact import Artifact
from neurosearch.core.errors import InputError
from neurosearch.core.machine import log
from neurosearch.core.stopping import check_stopped
from neurosearch.core.store import Store

T = TypeVar("T")
GRAPHS = ("auto", "on", "off")
SPREADS = ("shards", "replicas")


def _share_of_cores() -> int:
    cores = len(os.sched_getaffinity(0))
    asked = re.match(r"\s*0*([1-9]\d*)\s*(,|$)", os.environ.get("OMP_NUM_THREADS", ""))
    return min(int(asked[1]), cores) if asked else cores


@dataclass
class Runtime:
    """Devices, threads, progress, and the artifact store.

    Attributes:
        outputs: root of artifacts/, jobs/ and tables/.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`…
        threads: CPU threads; None takes every core this process may run on, or OMP_NUM_THREADS of
            them, which joblib sets for jobs that share a machine. `devices` share them.
        tokens_per_batch: padded tokens a batch of an encoder holds; None for 2,048 on a CPU (the
            fastest of 1,024 to 16,384 on two cores with AVX-512) and 65,536 on a GPU.
        checkpoint_seconds: seconds between the resume points of a training.
        graphs: CUDA graphs of what is bound by launching kernels: `auto` (where there is CUDA),
            `on`, `off`. Results are equal.
        spread: an index on several GPUs: `shards` hold a part of the vectors each, `replicas` hold
            all of them.
        java_memory: heap of the Lucene process.
        devices: processes that build what can be shared (`Artifact.spreads`), one a device.
        profile: write where a job's time goes beside its record.
        remote: address of a store that machines share (`remote.Remote`); None for none.
        encoders: what a server puts in front of live encoders (`serving.encoding`); None for
            nothing.
        pruner: ends trainings of a search that are behind (`pruning.Pruner`); None for none.
    """

    outputs: Path
    device: str = "auto"
    threads: int | None = None
    tokens_per_batch: int | None = None
    checkpoint_seconds: float = 60.0
    graphs: str = "auto"
    spread: str = "shards"
    java_memory: str = "2g"
    progress: bool = True
    devices: int = 1
    profile: bool = False
    pruner: Any = None
    remote: str | None = None
    encoders: Any = None
    _store: Store | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.outputs = Path(self.outputs).expanduser().absolute()
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise InputError(
                f"runtime.device must be auto, cpu, cuda or cuda:N, not {self.device!r}"
            )
        for key, known in (("graphs", GRAPHS), ("spread", SPREADS)):
            if getattr(self, key) not in known:
                given = f"{getattr(self, key)!r}"
                raise InputError(f"runtime.{key} must be one of {', '.join(known)}, not {given}")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"runtime.threads must be at least 1, not {self.threads}")
        if self.devices < 1:
            raise InputError(f"runtime.devices must be at least 1, not {self.devices}")
        if self.threads is None:
            self.threads = _share_of_cores()
        if self.graphs == "on":  # refused before any work
            self.captures(self.torch_device())

    @property
    def store(self) -> Store:
        if self._store is None:
            self._store = Store(self.outputs / "artifacts", self)
        return self._store

    def get(self, artifact: Artifact[T]) -> T:
        """The artifact's value: reused where it is there, else built.

        Args:
            artifact: a node of the build graph.

        Returns:
            What `artifact.load` returns; loaded once a process.
        """
        return self.store.get(artifact)

    @property
    def cpu_threads(self) -> int:
        assert self.threads is not None
        return self.threads

    def torch_device(self) -> Any:
        """The torch device, with torch's thread count set.

        Returns:
            A `torch.device`.

        Raises:
            InputError: if absent.
        """
        import torch

        torch.set_num_threads(self.cpu_threads)
        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"runtime.device={self.device}, but torch sees no CUDA device")
        return torch.device(name)

    def captures(self, device: Any) -> bool:
        """Whether work on a device is captured as CUDA graphs.

        Args:
            device: a torch device.

        Returns:
            True on a GPU, unless `graphs` is `off`.

        Raises:
            InputError: `graphs` is `on` and the device is no GPU.
        """
        if self.graphs == "on" and device.type != "cuda":
            raise InputError(f"runtime.graphs=on needs CUDA, and the device is {device.type}")
        return self.graphs != "off" and device.type == "cuda"

    def torch_devices(self) -> list[Any]:
        """`devices` of them: GPUs from the first one on, or the CPU as often.

        Returns:
            `devices` torch devices.

        Raises:
            InputError: there are fewer GPUs.
        """
        import torch

        first = self.torch_device()
        if self.devices == 1 or first.type != "cuda":
            return [first] * self.devices
        there = torch.cuda.device_count()
        if self.devices > there:
            raise InputError(f"runtime.devices={self.devices}, but torch sees {there} GPUs")
        return [torch.device("cuda", number) for number in range(self.devices)]

    def batch_budget(self, device: Any) -> int:
        """Padded tokens a batch on `device`.

        Args:
            device: a torch device.

        Returns:
            Tokens, padding included.
        """
        return self.tokens_per_batch or (65_536 if device.type == "cuda" else 2_048)

    def say(self, message: str) -> None:
        """Tell the user, and the job's log.

        Args:
            message: one line.
        """
        log.info(message)

    @contextmanager
    def progressing(self, what: str, total: int) -> Iterator[Any]:
        """A progress bar on stderr; call the yielded function with the number of items done.

        Where stderr is no terminal, a line is logged every tenth instead.

        Args:
            what: is done, such as `encoding products`.
            total: items.

        Returns:
            A context that yields the function.
        """
        if self.progress and sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            columns = [progress.TextColumn(what), progress.BarColumn()]
            columns += [progress.MofNCompleteColumn(), progress.TimeRemainingColumn()]
            with progress.Progress(*columns, console=Console(stderr=True)) as bar:
                task = bar.add_task(what, total=total)

                def draw(done: int) -> None:
                    check_stopped()
                    bar.advance(task, done)

                yield draw
            return
        state = {"done": 0, "next": total / 10}

        def advance(done: int) -> None:
            check_stopped()
            state["done"] += done
            if self.progress and state["done"] >= state["next"]:
                log.info("%s: %s of %s", what, f"{state['done']:,}", f"{total:,}")
                state["next"] = state["done"] + total / 10

        yield advance
