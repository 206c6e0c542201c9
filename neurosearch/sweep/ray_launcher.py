"""A sweep's jobs as tasks of a Ray cluster (Moritz et al. 2018): `hydra/launcher=ray`.

Hydra's own plugin wants a cloudpickle older than joblib's; this needs Ray alone. Machines need the
same code and data, and a store that they share: a folder, or `store.remote`. A job whose node dies
runs again elsewhere and resumes from what is built.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import (
    JobReturn,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from neurosearch.core.errors import InputError

log = logging.getLogger("neurosearch")
PASSED = ("NEUROSEARCH_", "HF_", "AWS_", "OMP_")  # variables that jobs see on every node


class RayLauncher(Launcher):  # type: ignore[misc]
    """Attributes:
    address: of a running cluster; None starts one on this machine.
    cpus, gpus: that a job takes of its node.
    retries: of a job whose node died.
    """

    def __init__(
        self, address: str | None = None, cpus: float = 1, gpus: float = 0, retries: int = 3
    ) -> None:
        self.address, self.cpus, self.gpus, self.retries = address, cpus, gpus, retries
        self._config: DictConfig | None = None
        self._context: HydraContext | None = None
        self._task: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what jobs are started with.

        Args:
            hydra_context: of the sweep.
            task_function: that runs a job.
            config: of the sweep.
        """
        self._config, self._context, self._task = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs, as many at a time as the cluster has room for.

        Args:
            job_overrides: of each job.
            initial_job_idx: number of the first one.

        Returns:
            What each job returned, in order.

        Raises:
            InputError: Ray is missing, or the cluster does not answer.
        """
        assert self._config is not None
        try:
            import ray
        except ImportError as error:
            message = "hydra/launcher=ray needs the package ray: pip install 'neurosearch[ray]'"
            raise InputError(message) from error
        setup_globals()
        hydra = self._config.hydra
        configure_log(hydra.hydra_logging, hydra.verbose)
        Path(str(hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        try:
            ray.init(address=self.address, include_dashboard=False, log_to_driver=True)
        except ConnectionError as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"hydra.launcher.address={self.address}: {reason}") from error
        nodes = len(ray.nodes())
        log.info("%d jobs on a Ray cluster of %d nodes", len(job_overrides), nodes)
        needs = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": self.retries}
        remote = ray.remote(**needs)(executed)
        passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED)}
        state, cwd = Singleton.get_state(), str(Path.cwd())
        try:
            started = []
            for number, overrides in enumerate(job_overrides, initial_job_idx):
                log.info("\t#%d : %s", number, " ".join(filter_overrides(overrides)))
                words = number, list(overrides), self._context, self._config, self._task
                started.append(remote.remote(*words, state, passed, cwd))
            returned: list[JobReturn] = ray.get(started)
        finally:
            ray.shutdown()
        return returned


def executed(
    number: int,
    overrides: list[str],
    context: HydraContext,
    config: DictConfig,
    task: TaskFunction,
    state: Mapping[Any, Any],
    variables: Mapping[str, str],
    cwd: str,
) -> JobReturn:
    """One job, on whichever node.

    Args:
        number: of the job.
        overrides: of the job.
        context, config, task: of the sweep.
        state: Hydra's singletons.
        variables: of the environment that the sweep was started in.
        cwd: where the sweep was started; paths are relative to it.

    Returns:
        What the job returned.
    """
    os.environ.update(variables)
    if Path(cwd).is_dir():
        os.chdir(cwd)
    setup_globals()
    Singleton.set_state(dict(state))
    whole = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(whole):
        whole.hydra.job.id, whole.hydra.job.num = f"{whole.hydra.job.name}_{number}", number
    HydraConfig.instance().set_config(whole)
    places = {"job_dir_key": "hydra.sweep.dir", "job_subdir_key": "hydra.sweep.subdir"}
    return run_job(hydra_context=context, config=whole, task_function=task, **places)
