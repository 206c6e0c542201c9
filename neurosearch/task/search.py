"""`task=search task.text="red mixer"`: the system's best products for one query."""

from __future__ import annotations

from dataclasses import dataclass

from neurosearch.core.bounds import setting
from neurosearch.task.answer import answer
from neurosearch.task.base import Job, Task


@dataclass(frozen=True)
class Search(Task):
    """`text`: of the query. `k`: how many products are printed."""

    text: str
    k: int = setting(10, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.text.strip():
            raise self.error("text", "is empty: say task.text='red mixer', for example")

    def run(self, job: Job) -> None:
        products = answer(
            job.retriever, job.dataset, self.text, self.k, job.processing, job.runtime
        )
        print(f"{job.retriever.label()}: {self.text}")
        for rank, score, product, title in products.iter_rows():
            print(f"{rank:>4}  {score:>9.4f}  {product}  {title}")
        if products.is_empty():
            print("no product has a word of the query")
