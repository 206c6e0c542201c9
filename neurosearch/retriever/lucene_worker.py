"""The Lucene child process: one JSON request a line in, one JSON answer a line out.

Run by path, so that nothing of this package (polars, torch's threads) shares a process with
the JVM. Arguments: index folder, Anserini's jar, JAVA_HOME, JVM library, heap size.
"""

import json
import os
import sys
from typing import Any


def open_index(index: str, jar: str, home: str, library: str, memory: str) -> tuple[Any, Any]:
    """Lucene's reader of the index, and pyjnius' autoclass."""
    os.environ["JAVA_HOME"] = home
    os.environ["JVM_PATH"] = library
    import jnius_config

    jnius_config.add_classpath(jar)
    jnius_config.add_options(f"-Xmx{memory}", "--enable-native-access=ALL-UNNAMED")
    from jnius import autoclass

    folder = autoclass("java.io.File")(index).toPath()
    directory = autoclass("org.apache.lucene.store.FSDirectory").open(folder)
    return autoclass("org.apache.lucene.index.DirectoryReader").open(directory), autoclass


class Answerer:
    """Holds the searcher and the Lucene classes."""

    def __init__(self, reader: Any, autoclass: Any) -> None:
        self.reader = reader
        self.autoclass = autoclass
        # (pyjnius takes the constructor of a context only.)
        searcher = autoclass("org.apache.lucene.search.IndexSearcher")
        self.searcher = searcher(reader.getContext())
        self.analyzer = autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
        self.similarity = autoclass("org.apache.lucene.search.similarities.BM25Similarity")
        self.generator = autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self.scored = autoclass("io.anserini.search.ScoredDocs")
        # Equal scores in ascending order of the documents' names (see `lucene`).
        field = autoclass("org.apache.lucene.search.SortField")
        kind = autoclass("org.apache.lucene.search.SortField$Type")
        by_name = field("id", kind.STRING_VAL)
        self.order = autoclass("org.apache.lucene.search.Sort")(field.FIELD_SCORE, by_name)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Names (as numbers) and scores of each query's best documents."""
        if "count" in request:
            return {"count": self.reader.numDocs()}
        self.searcher.setSimilarity(self.similarity(request["k1"], request["b"]))
        pool = request["pool"] and self._pool(request["pool"])
        answers = []
        for tokens, weights in request["queries"]:
            query = self._words(tokens, weights, request["boosts"])
            if pool is not None:
                query = self._both(query, pool)
            top = self.searcher.search(query, request["k"], self.order, True)
            hits = self.scored.fromTopDocs(top, self.searcher)
            answers.append([[int(name) for name in hits.docids], list(hits.scores)])
        return {"found": answers}

    def _words(self, tokens: list[str], weights: list[float], boosts: dict[str, float]) -> Any:
        """The bag of words over `contents`, or over boosted fields."""
        if not boosts:
            return self._bag("contents", tokens, weights)
        boost = self.autoclass("org.apache.lucene.search.BoostQuery")
        occur = self.autoclass("org.apache.lucene.search.BooleanClause$Occur")
        words = self.autoclass("org.apache.lucene.search.BooleanQuery$Builder")()
        for name, weight in boosts.items():
            bag = self._bag(name, tokens, weights)
            words.add(boost(bag, weight), occur.SHOULD)
        return words.build()

    def _bag(self, field: str, tokens: list[str], weights: list[float]) -> Any:
        """The weighted tokens in one field: their scores times their weights, summed."""
        if all(weight == int(weight) for weight in weights):  # counts of words: Anserini's own
            pairs = zip(tokens, weights, strict=True)
            text = " ".join(token for token, weight in pairs for _ in range(int(weight)))
            return self.generator.buildQuery(field, self.analyzer, text)
        boost = self.autoclass("org.apache.lucene.search.BoostQuery")
        occur = self.autoclass("org.apache.lucene.search.BooleanClause$Occur")
        term = self.autoclass("org.apache.lucene.index.Term")
        term_query = self.autoclass("org.apache.lucene.search.TermQuery")
        bag = self.autoclass("org.apache.lucene.search.BooleanQuery$Builder")()
        for token, weight in zip(tokens, weights, strict=True):
            bag.add(boost(term_query(term(field, token)), weight), occur.SHOULD)
        return bag.build()

    def _pool(self, names: list[str]) -> Any:
        occur = self.autoclass("org.apache.lucene.search.BooleanClause$Occur")
        term = self.autoclass("org.apache.lucene.index.Term")
        term_query = self.autoclass("org.apache.lucene.search.TermQuery")
        pool = self.autoclass("org.apache.lucene.search.BooleanQuery$Builder")()
        for name in names:
            pool.add(term_query(term("id", name)), occur.SHOULD)
        return pool.build()

    def _both(self, words: Any, pool: Any) -> Any:
        occur = self.autoclass("org.apache.lucene.search.BooleanClause$Occur")
        both = self.autoclass("org.apache.lucene.search.BooleanQuery$Builder")()
        both.add(words, occur.MUST)
        both.add(pool, occur.FILTER)
        return both.build()


def main() -> None:
    """Answer until standard input ends."""
    # The JVM and its loggers write to descriptor 1: keep the answers on one of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answerer = Answerer(*open_index(*sys.argv[1:6]))
    for line in sys.stdin:
        answers.write(json.dumps(answerer.answer(json.loads(line))) + "\n")
    # The JVM's own shutdown can take a second; nothing is left to save.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
