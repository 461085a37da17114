import dataclasses
import math

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from libs.errors import InvalidInput
from libs.lm.digest import weights_digest
from services.trainer import snapshot
from services.trainer.learning import BETAS, EPSILON, Learner, fix_arithmetic

SIZES = {
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 16,
    },
    # Dropout: the random numbers are part of the state.
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "resid_pdrop": 0.3},
}


def learner(schedule, kind="llama"):
    fix_arithmetic(1, schedule.seed)
    config = AutoConfig.for_model(
        kind, vocab_size=64, bos_token_id=0, eos_token_id=0, pad_token_id=None, **SIZES[kind]
    )
    return Learner(AutoModelForCausalLM.from_config(config), schedule)


def batches(number, size=4):
    generator = torch.Generator().manual_seed(9)
    return [torch.randint(0, 64, (size, 16), generator=generator) for _ in range(number)]


def learned(some, rows):
    for batch in rows:
        some.step(batch, num_positions=40)
    return some


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_restored_training_ends_with_the_bits_of_an_undisturbed_one(
    schedule, tmp_path, kind, stop
):
    rows = batches(10)
    whole = learned(learner(schedule, kind), rows)
    snapshot.save(tmp_path, learned(learner(schedule, kind), rows[:stop]).state())
    resumed = learner(schedule, kind)
    resumed.restore(snapshot.load(tmp_path))
    assert resumed.position == 4 * stop
    learned(resumed, rows[stop:])
    assert resumed.losses == whole.losses
    assert weights_digest(resumed.model) == weights_digest(whole.model)


def test_another_seed_gives_other_weights(schedule):
    digests = {
        weights_digest(learner(dataclasses.replace(schedule, seed=seed)).model)
        for seed in (1, 2, 1)
    }
    assert len(digests) == 2


def test_a_repeated_sequence_is_learned(schedule):
    some = learner(schedule)
    losses = learned(some, batches(1) * 10).losses
    assert losses[-1] < losses[0] - 0.5


def test_the_first_loss_is_that_of_transformers(schedule):
    some, (rows,) = learner(schedule), batches(1)
    expected = some.model(input_ids=rows, labels=rows).loss.item()
    assert some.step(rows, num_positions=40) == pytest.approx(expected, abs=1e-5)


def test_a_step_is_adamw_with_decay_on_matrices_only(schedule):
    """Against a step by hand, from the gradient that autograd gives."""
    plain = dataclasses.replace(schedule, max_grad_norm=0.0, warmup_steps=0)
    some, (rows,) = learner(plain), batches(1)
    some.model(input_ids=rows, labels=rows).loss.backward()
    before = {name: each.detach().clone() for name, each in some.model.named_parameters()}
    gradients = {name: each.grad.clone() for name, each in some.model.named_parameters()}
    some.model.zero_grad()
    some.step(rows, num_positions=40)
    rate = plain.learning_rate
    for name, after in some.model.named_parameters():
        decay = plain.weight_decay if after.ndim > 1 else 0.0
        gradient = gradients[name]
        mean = (1 - BETAS[0]) * gradient / (1 - BETAS[0])
        square = (1 - BETAS[1]) * gradient**2 / (1 - BETAS[1])
        expected = before[name] * (1 - rate * decay) - rate * mean / (square.sqrt() + EPSILON)
        torch.testing.assert_close(after, expected, atol=1e-3, rtol=1e-3)


def test_a_diverged_training_is_told_with_its_step(schedule):
    some = learner(dataclasses.replace(schedule, learning_rate=1e30, warmup_steps=0))
    with pytest.raises(InvalidInput, match="diverged at step"):
        learned(some, batches(4))


def test_sequences_longer_than_the_context_are_refused(schedule):
    with pytest.raises(InvalidInput, match="context of 16"):
        learner(dataclasses.replace(schedule, sequence_length=17))


def test_losses_are_finite_numbers_of_nats(schedule):
    losses = learned(learner(schedule), batches(3)).losses
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[0] == pytest.approx(math.log(64), abs=0.3)
