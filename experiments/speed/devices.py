"""Trainings and encoding by one and by several processes, a GPU each, in one run.

The same global batch whatever the number of processes: their losses and dev scores are those of
one process up to rounding, which is what `loss` and `dev` give the largest differences of. Networks
are without dropout, which each process would draw for its own share of a batch. Steps are counted
without the first ones, validations and resume points; encoding from the start of the processes to
the end, and by what it writes in a second once it has begun. As CSV in results/devices.csv.

    python experiments/speed/devices.py data=home_depot +processes=[1,2]  # NEUROSEARCH_DATA is set
    python experiments/speed/devices.py data=home_depot +only=colbert +scale=4  # larger batches
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, open_dict

from neurosearch import app  # noqa: F401  (registers the resolvers of the config)
from neurosearch.core.artifact import Artifact
from neurosearch.core.distributed import barrier, build_together
from neurosearch.core.machine import git_commit, hardware
from neurosearch.core.runtime import Runtime
from neurosearch.encoder.base import encode_resumably
from neurosearch.nn.pretrained import local_folder
from neurosearch.task.base import build
from neurosearch.training.curves import curves_of

COPIES = {"cuda": 16, "cpu": 1}  # of the catalogue: a GPU encodes one in less than a second
KEYS = ("case", "precision", "processes", "batch", "hardware")  # of a line
STEPS = {"cuda": 60, "cpu": 6}
BATCHES = {"cuda": (4096, 1024, 128, 4096), "cpu": (64, 32, 4, 64)}  # of the trainings below
DENSE = ["retriever=dense", "encoder@retriever.encoder=biencoder"]
LATE = ["retriever=late_interaction", "negatives@retriever.encoder.negatives=in_batch"]
CROSS = ["retriever=reranked", "retriever@retriever.retriever=dense"]
GENERATOR = ["retriever=generative", "retriever.generator.shape.dropout=0"]


@dataclass
class Line:
    """A line of the CSV.

    Attributes:
        batch: texts, queries or examples of a step, over all processes.
        rate: of those, a second.
        gain: rate over that of one process.
        loss, dev: largest difference to one process, of any step logged and any validation.
    """

    case: str
    precision: str
    processes: int
    batch: int
    rate: float
    gain: float
    loss: float | None = None
    dev: float | None = None


def write(name: str, keys: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    """The rows into results/<name>, in place of earlier ones that are equal in `keys`."""
    path = Path(__file__).parent / "results" / name
    measured = {tuple(str(row[key]) for key in keys) for row in rows}
    if path.exists():
        with path.open(newline="") as handle:
            there = list(csv.DictReader(handle))
        rows = [row for row in there if tuple(row[key] for key in keys) not in measured] + rows
    with path.open("w", newline="") as handle:
        table = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def steady(folder: Path) -> str:
    """MiniLM without dropout."""
    shutil.copytree(local_folder("sentence-transformers/all-MiniLM-L6-v2"), folder)
    told = json.loads((folder / "config.json").read_text())
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps({**told, **off}))
    return str(folder)


def trainings(
    config: Any, model: str, device: str, scale: int
) -> dict[str, tuple[Artifact[Any], int]]:
    """The artifacts that are trained, and the examples of a step."""
    sizes = [scale * size for size in BATCHES[device]]
    biencoder, colbert, cross, generator = sizes
    encoder, reranker = "retriever.encoder", "retriever.reranker"
    made = {
        "bi-encoder": [*DENSE, f"{encoder}.model={model}", f"{encoder}.batch_size={biencoder}"],
        "colbert": [*LATE, f"{encoder}.model={model}", f"{encoder}.batch_size={colbert}"],
        "cross-encoder": [*CROSS, f"{reranker}.model={model}", f"{reranker}.batch_queries={cross}"],
        "generator": [
            *GENERATOR,
            f"retriever.generator.encoder.model={model}",
            f"retriever.generator.batch_size={generator}",
        ],
    }
    found = {}
    for name, overrides in made.items():
        composed = config(overrides)
        data, query = build(composed, "data").dataset(), build(composed, "query")
        schedule = {"most_steps": STEPS[device], "validations": 3, "patience": 0, "epochs": 100}
        retriever = build(composed, "retriever")
        if name == "cross-encoder":
            part = retriever.reranker
            part = replace(part, schedule=replace(part.schedule, **schedule))
            trained = part.trained(data, query, retriever.retriever)
        elif name == "generator":
            part = retriever.generator
            part = replace(part, schedule=replace(part.schedule, **schedule))
            trained = part.trained(data, retriever.tokenizer.semantic_ids(data))
        else:
            part = retriever.encoder
            trained = replace(part, schedule=replace(part.schedule, **schedule)).trained(data)
        found[name] = trained, sizes[list(made).index(name)]
    return found


def difference(one: Any, other: Any, metric: str) -> float:
    """The largest between two curves, which have the same steps."""
    pairs = zip(one[metric], other[metric], strict=True)
    return max(abs(a - b) for (_, a), (_, b) in pairs)


@dataclass(frozen=True)
class Encoded(Artifact[Any]):
    """A catalogue's texts, several times, encoded as product embeddings are."""

    kind: ClassVar[str] = "encoded"
    embeddings: Any

    def build(self, folder: Path, runtime: Runtime) -> dict[str, Any]:
        encoder = self.embeddings.encoder
        catalogue = runtime.get(self.embeddings.data).catalogue
        texts = catalogue.all_texts(encoder.fields, encoder.separator)
        live = self.embeddings.live(runtime).for_products()
        texts *= COPIES[runtime.torch_device().type]
        live.encode(texts[:256])
        barrier()
        start = time.perf_counter()
        encode_resumably(live, "", texts, folder, runtime, "products")
        return {"texts": len(texts), "texts a second": len(texts) / (time.perf_counter() - start)}


def report(
    name: str,
    precision: str,
    counts: list[int],
    runtime: Runtime,
    artifact: Artifact[Any],
    batch: int,
) -> None:
    """Build an artifact by so many processes, and write a line for each count."""
    for source in artifact.inputs():
        runtime.store.ensure(source)
    first: tuple[float, Any] | None = None
    for processes in counts:
        with tempfile.TemporaryDirectory() as folder:
            facts = build_together(artifact, Path(folder), replace(runtime, devices=processes))
            curves = curves_of(Path(folder) / "curves.csv")
        rate = facts["steps a second"] * batch if batch else facts["texts a second"]
        first = first or (rate, curves)
        line = Line(name, precision, processes, batch, round(rate, 1), round(rate / first[0], 2))
        if batch:
            line.loss = round(difference(first[1], curves, "loss"), 5)
            line.dev = round(difference(first[1], curves, "dev nDCG@10"), 5)
        print(line, flush=True)
        where = {"hardware": hardware(), "commit": git_commit()}
        write("devices.csv", KEYS, [{**asdict(line), **where}])


def main() -> None:
    """Measure, and write each line as it comes."""
    own = [word for word in sys.argv[1:] if word.startswith("+")]
    given = [word for word in sys.argv[1:] if not word.startswith("+")]
    settings = DictConfig({"processes": [1, 2], "only": "", "scale": 1})
    for word in own:
        key, _, value = word[1:].partition("=")
        with open_dict(settings):
            settings.merge_with_dotlist([f"{key}={value}"])

    def config(overrides: list[str]) -> Any:
        return compose("config", [*overrides, *given])

    with initialize_config_module("neurosearch.conf", version_base="1.3"):
        base = config([])
        runtime = build(base, "runtime")
        device = runtime.torch_device().type
        with tempfile.TemporaryDirectory() as folder:
            cases = trainings(config, steady(Path(folder) / "steady"), device, settings.scale)
            for name, (artifact, batch) in cases.items():
                if settings.only in name:
                    report(name, base.precision, settings.processes, runtime, artifact, batch)
        encoder = build(config(["retriever=dense"]), "retriever").encoder
        embeddings = encoder.product_embeddings(build(base, "data").dataset())
        if settings.only in "encoding":
            report("encoding", base.precision, settings.processes, runtime, Encoded(embeddings), 0)


if __name__ == "__main__":
    main()
