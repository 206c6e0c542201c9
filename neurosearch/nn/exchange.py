"""Networks as ONNX files, in fewer bits, and how ONNX Runtime and OpenVINO compute them.

A file holds all that makes vectors of tokens: network, pooling, layers, scaling. Texts are padded
to the longest of a batch; the mask is an input, so padding changes nothing, except where 8-bit
ranges are taken anew from each input (`int8`): there a text is an input of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosearch.core.errors import InputError, first_line
from neurosearch.nn.text_encoder import Batch, TextTower, padded
from neurosearch.nn.tokens import Tokens

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "vectors"
QUANTISED = ["MatMul", "Gemm"]
PARITY = 1e-4  # of the largest number
CALIBRATED = 8  # texts of a batch while ranges are learnt


class Vectors(nn.Module):
    """A tower as a function of two tensors."""

    def __init__(self, tower: TextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        vectors: Tensor = self.tower(Batch(tokens, mask, None, None, 0))
        return vectors


class TokenVectors(nn.Module):
    """A ColBERT tower as a function of two tensors: B×T×D unit vectors, padding's included."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states = self.tower.tower.states(Batch(tokens, mask, None, None, 0))[1]
        return nn.functional.normalize(self.tower.projection(states).float(), dim=-1)


class PairScores(nn.Module):
    """A cross-encoder as a function of three tensors: B scores of pairs."""

    inputs = (*INPUTS, "token_type_ids")

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        scores: Tensor = self.tower.scores(self.tower.outputs(tokens, mask, segments))
        return scores


def write_onnx(network: nn.Module, path: Path) -> None:
    """A network of B×T tokens and their mask as an ONNX file, both sizes free.

    Args:
        network: a module called with both, or with what its `inputs` name.
        path: of the file.

    Raises:
        InputError: a package is missing, or the network does something that ONNX does not have.
    """
    _needs("onnx", "onnxscript")
    tokens = torch.ones(3, 9, dtype=torch.long)
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    names = getattr(network, "inputs", INPUTS)
    arguments = (tokens, mask, 1 - mask)[: len(names)]
    free = {
        0: torch.export.Dim("texts", min=1, max=65_536),
        1: torch.export.Dim("tokens", min=2, max=512),
    }
    try:
        with quiet():
            torch.onnx.export(
                network.eval(),
                arguments,
                str(path),
                input_names=list(names),
                output_names=[OUTPUT],
                dynamic_shapes=(free,) * len(names),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # the exporter raises of many kinds
        message = f"{type(network).__name__} can't be written as ONNX ({first_line(error)})"
        raise InputError(message) from error


def check_parity(network: nn.Module, path: Path) -> None:
    """Raise InputError where an ONNX file gives other numbers than the network it was written of.

    Args:
        network: a module, in fp32 on the CPU.
        path: of the file.
    """
    names = getattr(network, "inputs", INPUTS)
    tokens = torch.arange(1, 15).repeat(2, 1)
    mask = torch.ones_like(tokens)
    mask[1, 9:] = 0
    arguments = (tokens, mask, (torch.arange(14) > 6).long().repeat(2, 1))[: len(names)]
    with torch.inference_mode():
        wanted = network(*arguments).numpy()
    inputs = dict(zip(names, (value.numpy() for value in arguments), strict=True))
    found = loaded(path, "onnx", 1)(inputs)
    if wanted.ndim == 3:  # of token vectors, padding's do not count
        wanted, found = wanted[mask.bool().numpy()], found[mask.bool().numpy()]
    off = float(np.abs(wanted - found).max())
    if not off <= PARITY * max(1.0, float(np.abs(wanted).max())):
        raise InputError(f"{path.name}: ONNX Runtime's numbers differ by {off:.2g} from torch's")


def quantised(source: Path, path: Path, precision: str, texts: Iterator[Tokens]) -> None:
    """An ONNX file in fewer bits.

    Args:
        source: in fp32.
        path: to be written.
        precision: `fp16` (weights; computed in fp32 where the CPU has no half), `int8` (weights by
            channel, ranges of activations from each input), `int8_static` (ranges learnt from
            `texts`; the second layers of feed-forwards stay floats, since their inputs have
            outliers).
        texts: batches to learn ranges from.
    """
    _needs("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with quiet():
            half = convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)
        onnx.save(half, str(path))
        return
    ready = path.with_suffix(".ready.onnx")
    try:
        with quiet():
            quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
            how = {"per_channel": True, "weight_type": QuantType.QInt8}
            how |= {"op_types_to_quantize": QUANTISED}
            if precision == "int8":
                quantize_dynamic(str(ready), str(path), **how)
                return

            class Reader(CalibrationDataReader):  # type: ignore[misc]
                def get_next(self) -> dict[str, np.ndarray] | None:
                    some = next(texts, None)
                    return None if some is None else feed(some)

            floats = _after_activations(onnx.load(str(ready)).graph)
            how |= {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8}
            quantize_static(str(ready), str(path), Reader(), nodes_to_exclude=floats, **how)
    finally:
        ready.unlink(missing_ok=True)


def _after_activations(graph: Any) -> list[str]:
    """Names of the products whose input is a feed-forward's wide hidden layer: it narrows."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        weights = [shapes[name] for name in node.input if len(shapes.get(name, ())) == 2]
        if node.op_type in QUANTISED and weights and weights[0][0] > weights[0][1]:
            found.append(node.name)
    return found


def feed(tokens: Tokens) -> dict[str, np.ndarray]:
    """The inputs of a batch.

    Args:
        tokens: of its texts.

    Returns:
        Arrays by the names of INPUTS, B×T int64.
    """
    batch = padded(tokens, torch.device("cpu"))
    assert batch.mask is not None
    return dict(zip(INPUTS, (batch.tokens.numpy(), batch.mask.numpy()), strict=True))


def loaded(path: Path, backend: str, threads: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """A network at work on a CPU.

    Args:
        path: an ONNX file.
        backend: `onnx` or `openvino`.
        threads: that it may use.

    Returns:
        A function from the inputs to its first output.

    Raises:
        InputError: a package is missing, or the file can't be loaded.
    """
    try:
        if backend == "onnx":
            _needs("onnxruntime")
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = threads, 3
            cpu = ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(str(path), options, providers=cpu)
            return lambda inputs: np.asarray(session.run(None, inputs)[0], dtype=np.float32)
        _needs("openvino")
        import openvino

        # Otherwise fp32 networks are computed in bf16 where the CPU has it.
        how = {"EXECUTION_MODE_HINT": "ACCURACY", "PERFORMANCE_HINT": "LATENCY"}
        how |= {"INFERENCE_NUM_THREADS": str(threads)}
        compiled = openvino.Core().compile_model(str(path), "CPU", how)
        return lambda inputs: np.array(compiled(inputs)[0], dtype=np.float32)
    except InputError:
        raise
    except Exception as error:  # both libraries raise of many kinds
        raise InputError(f"{path}: can't be loaded ({first_line(error)})") from None


def _needs(*packages: str) -> None:
    """Raise InputError for what is not installed."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise InputError(f"this needs {' and '.join(missing)}: pip install 'neurosearch[exchange]'")


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn of what is not theirs to mend."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def in_batches(tokens: Tokens, size: int = CALIBRATED) -> Iterator[Tokens]:
    """Texts of similar length together.

    Args:
        tokens: of all texts.
        size: texts of a batch.

    Returns:
        An iterator of batches.
    """
    order = np.argsort(tokens.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield tokens.take(order[start : start + size])


def joined_vectors(
    network: Callable[[dict[str, np.ndarray]], np.ndarray],
    tokens: Tokens,
    batches: Sequence[np.ndarray],
) -> np.ndarray:
    """N×D outputs in the order of the texts.

    Args:
        network: see `loaded`.
        tokens: of all texts.
        batches: rows of each batch.

    Returns:
        N×D float32.
    """
    parts = [network(feed(tokens.take(rows))) for rows in batches]
    vectors = np.concatenate(parts)
    return vectors[np.argsort(np.concatenate(batches))]
