"""The Lucene child process: one JSON request a line in, one JSON answer a line out.

Run by path, so that nothing of this package (polars, torch's threads) shares a process with
the JVM. Arguments: index folder, Anserini's jar, JAVA_HOME, JVM library, heap size.
"""

import json
import os
import sys
from typing import Any


def open_searcher(index: str, jar: str, home: str, library: str, memory: str) -> tuple[Any, Any]:
    """Anserini's SimpleSearcher over white-space tokens, and pyjnius' autoclass."""
    os.environ["JAVA_HOME"] = home
    os.environ["JVM_PATH"] = library
    import jnius_config

    jnius_config.add_classpath(jar)
    jnius_config.add_options(f"-Xmx{memory}", "--enable-native-access=ALL-UNNAMED")
    from jnius import autoclass

    analyzer = autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")()
    searcher = autoclass("io.anserini.search.SimpleSearcher")(index)
    searcher.set_analyzer(analyzer)
    return searcher, autoclass


class Answerer:
    """Holds the searcher, the boosts and the Lucene classes."""

    def __init__(self, searcher: Any, autoclass: Any, settings: dict[str, Any]) -> None:
        self.searcher = searcher
        self.autoclass = autoclass
        searcher.set_bm25(settings["k1"], settings["b"])
        self.boosts = settings["boosts"]
        self.generator = autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")()
        self.fields = autoclass("java.util.HashMap")()
        as_float = autoclass("java.lang.Float")
        for name, weight in self.boosts.items():
            self.fields.put(name, as_float(weight))

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["pool"] is not None:
            hits = self.searcher.search(self._pooled(request), request["k"])
        elif self.boosts:
            hits = self.searcher.search_fields(request["query"], self.fields, request["k"])
        else:
            hits = self.searcher.search(request["query"], request["k"])
        return {"rows": [hit.docid for hit in hits], "scores": [hit.score for hit in hits]}

    def _pooled(self, request: dict[str, Any]) -> Any:
        builder = self.autoclass("org.apache.lucene.search.BooleanQuery$Builder")
        occur = self.autoclass("org.apache.lucene.search.BooleanClause$Occur")
        boost = self.autoclass("org.apache.lucene.search.BoostQuery")
        term = self.autoclass("org.apache.lucene.index.Term")
        term_query = self.autoclass("org.apache.lucene.search.TermQuery")
        analyzer = self.searcher.get_analyzer()
        words = builder()
        for name, weight in (self.boosts or {"contents": 1.0}).items():
            bag = self.generator.buildQuery(name, analyzer, request["query"])
            words.add(boost(bag, weight), occur.SHOULD)
        pool = builder()
        for row in request["pool"]:
            pool.add(term_query(term("id", row)), occur.SHOULD)
        both = builder()
        both.add(words.build(), occur.MUST)
        both.add(pool.build(), occur.FILTER)
        return both.build()


def main() -> None:
    """Answer until standard input ends."""
    # The JVM and its loggers write to descriptor 1: keep the answers on one of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    searcher, autoclass = open_searcher(*sys.argv[1:6])
    answerer = None
    for line in sys.stdin:
        request = json.loads(line)
        if answerer is None:
            answerer = Answerer(searcher, autoclass, request)
            answers.write("{}\n")
        else:
            answers.write(json.dumps(answerer.answer(request)) + "\n")
    # The JVM's own shutdown can take a second; nothing is left to save.
    answers.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
