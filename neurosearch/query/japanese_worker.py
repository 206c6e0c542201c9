"""The child process that segments Japanese: one JSON text a line in, one JSON list of tokens out.

Run by path, so that nothing of this package shares a process with the JVM. Arguments: Anserini's
jar, JAVA_HOME, JVM library.
"""

import json
import os
import sys


def main() -> None:
    """Answer until the input ends."""
    jar, home, library = sys.argv[1:]
    os.environ["JAVA_HOME"], os.environ["JVM_PATH"] = home, library
    import jnius_config

    jnius_config.add_classpath(jar)
    jnius_config.add_options("-Xmx256m", "--enable-native-access=ALL-UNNAMED")
    from jnius import autoclass

    # What Lucene calls search mode: compounds come with their parts, verbs in their base form.
    analyzer = autoclass("org.apache.lucene.analysis.ja.JapaneseAnalyzer")()
    utils = autoclass("io.anserini.analysis.AnalyzerUtils")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Java prints is no answer
    for line in sys.stdin:
        tokens = [str(token) for token in utils.analyze(analyzer, json.loads(line))]
        answers.write(json.dumps(tokens) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
