"""The decoder against transformers' T5, and decoding against teacher forcing."""

from __future__ import annotations

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from neurosearch.generator.decoder import CodeDecoder, take_t5
from neurosearch.generator.decoder_config import Shape

SIZES = (5, 4, 6)


def tiny_t5(gated: bool) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=11 + sum(SIZES),
        d_model=24,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=3,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu" if gated else "relu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    return T5ForConditionalGeneration(config).eval()


def ours_of(t5: T5ForConditionalGeneration, gated: bool) -> CodeDecoder:
    """The decoder with T5's weights; codes are the last tokens of its vocabulary."""
    decoder = CodeDecoder(SIZES, Shape(24, 3, 8, 32, 2, 0.0, gated), 24).eval()
    take_t5(decoder, t5)
    first = 11
    with torch.no_grad():
        for level, size in enumerate(SIZES):
            rows = slice(first, first + size)
            decoder.heads[level].weight.copy_(t5.lm_head.weight[rows])
            if level + 1 < len(SIZES):
                decoder.embeddings[level].weight.copy_(t5.shared.weight[rows])
            first += size
    return decoder


@pytest.mark.parametrize("gated", [False, True])
def test_logits_are_those_of_transformers(gated: bool) -> None:
    t5 = tiny_t5(gated)
    with torch.no_grad():
        for name, weight in t5.named_parameters():
            if "relative_attention_bias" in name or "layer_norm" in name:
                weight.normal_()
    decoder = ours_of(t5, gated)
    text = torch.randint(1, 11, (4, 7))
    mask = torch.ones(4, 7, dtype=torch.long)
    mask[1, 4:] = 0
    codes = torch.stack([torch.randint(0, n, (4,)) for n in SIZES], dim=1)
    offsets = torch.tensor([11, 16, 20])
    with torch.no_grad():
        memory = t5.encoder(input_ids=text, attention_mask=mask).last_hidden_state
        theirs = t5(input_ids=text, attention_mask=mask, labels=codes + offsets).logits
        mine = decoder(memory, mask.bool(), codes)
    for level, size in enumerate(SIZES):
        first = int(offsets[level])
        torch.testing.assert_close(
            mine[level], theirs[:, level, first : first + size], atol=2e-5, rtol=1e-4
        )


def test_decoding_step_by_step_is_teacher_forcing() -> None:
    torch.manual_seed(1)
    decoder = CodeDecoder(SIZES, Shape(24, 3, 8, 32, 2), 16).eval()
    decoder.distance.data.normal_()
    memory, mask = torch.randn(3, 6, 16), torch.ones(3, 6, dtype=torch.bool)
    mask[2, 2:] = False
    paths = torch.stack([torch.randint(0, n, (3, 4)) for n in SIZES], dim=2)  # 3 queries × 4 beams
    with torch.no_grad():
        stepper = decoder.decoding(memory, mask)
        logp = [stepper.begin().expand(-1, 4, -1)]
        # Beams swap histories at the second step: the cache must follow.
        swap = torch.tensor([[1, 0, 3, 2]] * 3)
        parents = torch.zeros(3, 4, dtype=torch.long)
        logp.append(stepper.advance(parents, paths[:, :, 0]))
        logp.append(stepper.advance(swap, paths[:, :, 1]))
        for beam in range(4):
            came = int(swap[0, beam])
            codes = torch.stack([paths[:, came, 0], paths[:, beam, 1], paths[:, beam, 2]], dim=1)
            wanted = decoder(memory, mask, codes)
            torch.testing.assert_close(logp[2][:, beam], wanted[2].log_softmax(-1))
            wanted = decoder(memory, mask, paths[:, beam])
            torch.testing.assert_close(logp[1][:, beam], wanted[1].log_softmax(-1))
            torch.testing.assert_close(logp[0][:, beam], wanted[0].log_softmax(-1))


def test_what_lies_beyond_a_text_is_not_read() -> None:
    decoder = CodeDecoder(SIZES, Shape(24, 3, 8, 32, 2), 24).eval()
    memory, codes = torch.randn(2, 5, 24), torch.zeros(2, 3, dtype=torch.long)
    mask = torch.tensor([[1, 1, 1, 0, 0]] * 2).bool()
    with torch.no_grad():
        before = decoder(memory, mask, codes)
        memory[:, 3:] = 100.0
        after = decoder(memory, mask, codes)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
