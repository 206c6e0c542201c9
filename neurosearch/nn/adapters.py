"""Low-rank adapters (LoRA, Hu et al. 2022) on text encoders: read from PEFT's folders, and trained.

PEFT itself computes them; an adapter that is only used is merged into the weights, so that nothing
is slower for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurosearch.core.errors import InputError, first_line
from neurosearch.nn.pretrained import check_weights
from neurosearch.nn.sentence_folder import ADAPTER

SCALE = 2  # of an update, times its rank: LoRA's alpha


def merged(network: Any, folder: Path) -> Any:
    """`network` with the adapter of `folder` in its weights.

    Raises:
        InputError: PEFT is missing, or the adapter is damaged, pickled, or of another network.
    """
    from safetensors import safe_open

    peft, path = _peft(str(folder)), folder / "adapter_model.safetensors"
    if not path.is_file():
        raise InputError(f"{path}: no such file; {ADAPTER} is there")
    check_weights(folder)
    try:
        wrapped = peft.PeftModel.from_pretrained(network, str(folder))
        with safe_open(path, framework="pt") as stored:
            # PEFT only warns of weights that go nowhere, and leaves the network as it was.
            strange = set(stored.keys()) ^ set(peft.get_peft_model_state_dict(wrapped))
        if strange:
            raise ValueError(f"{sorted(strange)[0]} is there, or in the network, only")
        return wrapped.merge_and_unload()
    except Exception as error:  # of many kinds, some of many lines
        reason = first_line(error)
        raise InputError(f"{folder}: the adapter does not fit ({reason})") from None


def with_adapter(network: Any, rank: int) -> Any:
    """`network` with a fresh adapter of this rank on all its linear layers; the rest is frozen."""
    peft = _peft("encoder.lora")
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules="all-linear")
    return peft.get_peft_model(network, config)


def _peft(where: str) -> Any:
    try:
        import peft
    except ImportError:
        raise InputError(f"{where}: needs peft: pip install peft") from None
    return peft
