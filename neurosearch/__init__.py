"""NeuroSearch: which product-search system is better, by how much, at what cost.

The public names are imported when they are first used, so `import neurosearch` is instant.
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "neurosearch.comparison": ("Comparison", "compare", "gain"),
    "neurosearch.core.errors": ("InputError",),
    "neurosearch.core.runtime": ("Runtime",),
    "neurosearch.data.amazon_reviews": ("AmazonReviews",),
    "neurosearch.data.beir": ("Beir",),
    "neurosearch.data.esci": ("Esci",),
    "neurosearch.data.home_depot": ("HomeDepot",),
    "neurosearch.data.pictures": ("Pictures",),
    "neurosearch.data.shop": ("Shop",),
    "neurosearch.data.tables": ("TableFiles",),
    "neurosearch.data.wands": ("Wands",),
    "neurosearch.encoder.biencoder.recipe": ("BiEncoder",),
    "neurosearch.encoder.colbert.recipe": ("ColBERT",),
    "neurosearch.encoder.hashing": ("Hashing",),
    "neurosearch.encoder.sentence": ("Sentence",),
    "neurosearch.encoder.splade.published": ("PublishedSplade",),
    "neurosearch.encoder.splade.recipe": ("Splade",),
    "neurosearch.engine.opensearch": ("OpenSearch",),
    "neurosearch.engine.postgres": ("Postgres",),
    "neurosearch.engine.qdrant": ("Qdrant",),
    "neurosearch.engine.qdrant_edge": ("QdrantEdge",),
    "neurosearch.evaluation.catalogue": ("CatalogueProtocol",),
    "neurosearch.evaluation.gain": ("LabelGain", "NumericGain"),
    "neurosearch.evaluation.judged": ("JudgedProtocol",),
    "neurosearch.evaluation.latency": ("LatencyProtocol",),
    "neurosearch.explainer.extractive": ("Extractive",),
    "neurosearch.explainer.grounded": ("Grounded",),
    "neurosearch.fusion.combmnz": ("CombMNZ",),
    "neurosearch.fusion.combsum": ("CombSUM",),
    "neurosearch.fusion.convex": ("Convex",),
    "neurosearch.fusion.rrf": ("RRF",),
    "neurosearch.generator.dense_prefix": ("DensePrefix",),
    "neurosearch.generator.t5": ("T5",),
    "neurosearch.generator.t5_scratch": ("ScratchT5",),
    "neurosearch.index.flat": ("Flat",),
    "neurosearch.index.gpu_flat": ("GpuFlat",),
    "neurosearch.index.hnsw": ("HNSW",),
    "neurosearch.index.inverted": ("Inverted",),
    "neurosearch.index.ivf": ("IVF",),
    "neurosearch.index.multivector": ("MultiVector",),
    "neurosearch.live": ("search", "serve"),
    "neurosearch.loss.infonce": ("InfoNCE",),
    "neurosearch.negatives.in_batch": ("InBatch",),
    "neurosearch.negatives.retrieved": ("Retrieved",),
    "neurosearch.query.chain": ("Chain",),
    "neurosearch.query.none": ("NoProcessing",),
    "neurosearch.query.normalize": ("Normalize",),
    "neurosearch.query.rewrite": ("Rewrite",),
    "neurosearch.query.spelling": ("Spelling",),
    "neurosearch.query.stopwords": ("Stopwords",),
    "neurosearch.query.synonyms": ("Synonyms",),
    "neurosearch.query.tags": ("Tags",),
    "neurosearch.query.translations": ("Translations",),
    "neurosearch.query.words": ("Words",),
    "neurosearch.reranker.biencoder": ("BiEncoderReranker",),
    "neurosearch.reranker.cross_encoder.recipe": ("CrossEncoder",),
    "neurosearch.reranker.lambdamart": ("LambdaMART",),
    "neurosearch.reranker.published": ("Published",),
    "neurosearch.retriever.bm25": ("BM25",),
    "neurosearch.retriever.bm25_tuned": ("TunedBM25",),
    "neurosearch.retriever.dense": ("Dense",),
    "neurosearch.retriever.engine": ("EngineHybrid", "EngineVectors", "EngineWords"),
    "neurosearch.retriever.expanded": ("Expanded", "Expansion"),
    "neurosearch.retriever.feedback": ("Feedback",),
    "neurosearch.retriever.generative": ("Generative",),
    "neurosearch.retriever.hybrid": ("Hybrid",),
    "neurosearch.retriever.hyde": ("Hyde",),
    "neurosearch.retriever.late_interaction": ("LateInteraction",),
    "neurosearch.retriever.multiphase": ("Multiphase",),
    "neurosearch.retriever.oracle": ("Oracle",),
    "neurosearch.retriever.random": ("Random",),
    "neurosearch.retriever.reranked": ("Reranked",),
    "neurosearch.retriever.run_file": ("RunFile",),
    "neurosearch.retriever.sparse": ("Sparse",),
    "neurosearch.retriever.vector_feedback": ("VectorFeedback",),
    "neurosearch.serving.server": ("ServerSettings",),
    "neurosearch.tokenizer.hkmeans": ("HKMeans",),
    "neurosearch.tokenizer.mmq.recipe": ("MMQ",),
    "neurosearch.tokenizer.rqkmeans": ("RQKMeans",),
    "neurosearch.tokenizer.rqvae.recipe": ("RQVAE",),
    "neurosearch.training.schedule": ("Schedule",),
    "neurosearch.writer.endpoint": ("Endpoint",),
    "neurosearch.writer.local": ("Local",),
    "neurosearch.writer.recorded": ("Recorded",),
    "neurosearch.writer.template": ("Template",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        close = get_close_matches(name, _MODULE_OF, n=3, cutoff=0.5)
        hint = f" (is it {' or '.join(close)}?)" if close else ""
        raise AttributeError(f"module 'neurosearch' has no attribute {name!r}{hint}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({"__version__", *_MODULE_OF})
