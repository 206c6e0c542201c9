"""Writers: asked once, within budgets, resumed; a local model is transformers' own."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from neurosearch.core.errors import InputError
from neurosearch.core.runtime import Runtime
from neurosearch.writer.endpoint import Endpoint
from neurosearch.writer.local import Local
from neurosearch.writer.recorded import Recorded
from neurosearch.writer.template import Template


class Service(http.server.BaseHTTPRequestHandler):
    """Repeats the prompt; fails for prompts that name a fault."""

    asked: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body)
        prompt = body["messages"][-1]["content"]
        if "hang" in prompt:
            time.sleep(1)
        status = 400 if "refuse" in prompt else 200
        text = f"{prompt}!{body.get('seed', '')}"
        answer: Any = {"choices": [{"message": {"content": text}}], "usage": {"total_tokens": 7}}
        if "garbage" in prompt:
            answer = {"choices": []}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"<html>" if "html" in prompt else json.dumps(answer).encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Service.asked.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_a_text_is_paid_for_once(url: str, runtime: Runtime) -> None:
    writer = Endpoint(model="m", endpoint=url, system="Be brief.", most_tokens=5)
    assert writer.write(["a", "b", "a"], runtime) == [["a!"], ["b!"], ["a!"]]
    assert [body["messages"][0]["content"] for body in Service.asked] == ["Be brief."] * 2
    assert Service.asked[0]["max_tokens"] == 5 and "seed" not in Service.asked[0]
    assert replace(writer, budget=0, timeout=9.0).write(["b"], runtime) == [["b!"]]
    assert len(Service.asked) == 2  # kept, whatever may be spent
    writer.write(["b"], runtime, is_live=True)
    assert len(Service.asked) == 3
    for other in (replace(writer, system=""), replace(writer, model="n")):
        other.write(["a"], runtime)
    assert len(Service.asked) == 5  # other questions


def test_samples_differ_by_their_seed(url: str, runtime: Runtime) -> None:
    writer = Endpoint(model="m", endpoint=url, temperature=0.7, seed=5)
    assert writer.write(["a"], runtime, samples=3) == [["a!5", "a!6", "a!7"]]
    assert writer.write(["a"], runtime, samples=2) == [["a!5", "a!6"]]
    assert len(Service.asked) == 3


@pytest.mark.parametrize(
    "limits, message",
    [
        ({"budget": 3}, r"about 2 texts are new, 2 were spent before, writer\.budget=3"),
        ({"budget_tokens": 100}, r"about 130 tokens are new, 14 were spent before"),
        ({"budget_seconds": 0.0}, r"writer\.budget_seconds=0\.0; nothing was asked"),
    ],
)
def test_budgets_are_checked_first(
    limits: dict[str, Any], message: str, url: str, runtime: Runtime
) -> None:
    writer = Endpoint(model="m", endpoint=url)
    writer.write(["hang 1", "hang 2"], runtime)
    with pytest.raises(InputError, match=message):
        replace(writer, **limits).write(["hang 1", "abc", "abd"], runtime)
    assert len(Service.asked) == 2


@pytest.mark.parametrize(
    "fault, message",
    [
        ("garbage", "no text came back"),
        ("html", "Expecting value"),
        ("refuse", "400"),
        ("hang", "timed out"),
    ],
)
def test_a_fault_is_one_line_and_nothing_is_lost(
    fault: str, message: str, url: str, runtime: Runtime
) -> None:
    writer = Endpoint(model="m", endpoint=url, timeout=0.5)
    with pytest.raises(InputError, match=rf"{message}.*; 2 texts are kept") as caught:
        writer.write(["a", "b", fault, "c"], runtime)
    assert "\n" not in str(caught.value)
    spent = len(Service.asked)
    assert writer.write(["a", "b", "c"], runtime) == [["a!"], ["b!"], ["c!"]]
    assert len(Service.asked) == spent + 1
    # A share of failures may be allowed; a failure is asked again.
    assert writer.write([fault, "d", "e", "f"], runtime, failures=0.3)[0] == [""]
    with pytest.raises(InputError):
        writer.write([fault], runtime)


def test_seconds_end_it_on_the_way(url: str, runtime: Runtime) -> None:
    """Before the first text nothing is known of how long one takes."""
    writer = Endpoint(model="m", endpoint=url, budget_seconds=0.5)
    with pytest.raises(InputError, match=r"budget_seconds=0\.5 are over; 2 texts are kept"):
        writer.write(["a", "hang", "b", "c"], runtime)
    assert len(Service.asked) == 2


def test_without_a_model(runtime: Runtime, tmp_path: Path) -> None:
    assert Template("x {prompt}").write(["a"], runtime, samples=2) == [["x a", "x a"]]
    with pytest.raises(InputError, match=r"does not say where \{prompt\} goes"):
        Template("x")
    path = tmp_path / "texts.jsonl"
    rows = [{"prompt": "a", "text": " one "}, {"prompt": "a", "text": "two"}]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert Recorded(str(path)).write(["a"], runtime, samples=2) == [["one", "two"]]
    with pytest.raises(InputError, match=r"1 prompts lack texts, first 0 of 1 texts of 'b'"):
        Recorded(str(path)).write(["a", "b"], runtime)
    for number, (line, message) in enumerate(
        [("{", "no prompt and text"), ('{"prompt": 1, "text": ""}', "must be strings")]
    ):
        bad = tmp_path / f"bad{number}.jsonl"
        bad.write_text(json.dumps(rows[0]) + "\n" + line)
        with pytest.raises(InputError, match=rf"bad{number}\.jsonl:2: .*{message}"):
            Recorded(str(bad)).check(runtime)


def test_a_local_model_is_transformers_own(tiny_model: str, tmp_path: Path, runtime) -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
    from transformers import PreTrainedTokenizerFast as Fast

    tokenizer = Fast(tokenizer_file=f"{tiny_model}/tokenizer.json", eos_token="[SEP]")
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=2, eos_token_id=3, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    writer = Local(model=str(tmp_path), system="short", most_tokens=6)
    (greedy,) = writer.write(["red mug"], runtime)
    network = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = tokenizer("system short user red mug ", return_tensors="pt")["input_ids"]
    theirs = network.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    assert greedy == [tokenizer.decode(theirs, skip_special_tokens=True).strip()]
    drawn = replace(writer, temperature=1.5)
    (first,) = drawn.write(["red mug"], runtime, samples=3)
    assert len(set(first)) > 1
    assert drawn.write(["red mug"], runtime, samples=3, is_live=True) == [first]
