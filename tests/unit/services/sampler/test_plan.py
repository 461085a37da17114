import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidInput
from services.sampler.plan import Plan, PlanSpec, Source, Starved, Weighting, make_plan


def source(labels, lengths):
    return Source(labels=np.array(labels), lengths=np.array(lengths))


def spec(budget, weighting=Weighting.CLUSTER_CLIP, **parameters):
    return PlanSpec(weighting=weighting, budget_tokens=budget, **parameters)


def planned(*arguments):
    found = make_plan(*arguments)
    assert isinstance(found, Plan)
    return found


def test_the_figure_of_the_paper_in_tokens():
    # A(5) B(1) C(3), two tokens a passage with its separator, clip 2: 8 draws are 16 tokens.
    target = source([0] * 5 + [1] + [2] * 3, [2] * 9)
    found = planned(spec(16, clip=2), target)
    assert np.bincount(target.labels[found.draws]).tolist() == [3, 2, 3]
    assert found.ends.tolist() == list(range(2, 17, 2))
    assert found.allocation.clipped.tolist() == [False, True, False]


def test_the_last_draw_is_cut_at_the_budget():
    found = planned(spec(25), source([0, 0, 0], [10, 10, 10]))
    assert found.ends.tolist() == [10, 20, 25]


def test_proportional_walks_one_permutation_of_everything():
    found = planned(spec(40, Weighting.PROPORTIONAL), Source.unclustered(np.full(40, 1)))
    assert sorted(found.draws.tolist()) == list(range(40))


def test_uniform_repeats_a_small_cluster_beyond_the_clip():
    target = source([0] + [1] * 99, [1] * 100)
    found = planned(spec(100, Weighting.UNIFORM, clip=2), target)
    assert np.bincount(target.labels[found.draws]).tolist() == [50, 50]


def test_a_budget_above_the_clip_is_starved_and_says_what_would_do():
    found = make_plan(spec(1000, clip=5), source([0, 1], [60, 60]))
    assert found == Starved(
        reason="Not enough text: the budget is 1,000 tokens, but with every document drawn at "
        "most 5 times there are 600; a clip of 9 would do."
    )


def test_replay_counts_against_its_own_clip():
    replay = Source.unclustered(np.array([5]))
    found = make_plan(spec(100, clip=2, replay_share=0.5), source([0], [50]), replay)
    assert isinstance(found, Starved)
    assert found.reason.startswith("Not enough replay: the budget is 50 tokens")


def test_no_passages_are_starved():
    found = make_plan(spec(1), Source.unclustered(np.zeros(0, dtype=np.int64)))
    assert isinstance(found, Starved)
    assert "nothing to draw from" in found.reason


def test_a_share_without_replay_is_refused():
    with pytest.raises(InvalidInput, match="needs replay tokens"):
        make_plan(spec(10, replay_share=0.5), source([0], [50]))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"budget_tokens": 0}, "budget_tokens must lie in"),
        ({"budget_tokens": 2**44}, "budget_tokens must lie in"),
        ({"clip": 0}, "clip must lie in"),
        ({"clip": 2**32 - 1}, "clip must lie in"),
        ({"replay_share": 1.0}, "replay_share must lie in"),
        ({"replay_share": -0.1}, "replay_share must lie in"),
        ({"replay_share": float("nan")}, "replay_share must lie in"),
    ],
)
def test_absurd_parameters_are_refused(parameters, expected):
    with pytest.raises(InvalidInput, match=expected):
        PlanSpec(**{"weighting": Weighting.UNIFORM, "budget_tokens": 10} | parameters)


def test_target_and_replay_have_nothing_in_common_but_the_seed():
    same = np.full(100, 1)
    target, replay = Source.unclustered(same), Source.unclustered(same)
    found = planned(spec(100, replay_share=0.5, seed=3), target, replay)
    drawn = found.draws[found.is_replay] - 100
    assert found.draws[~found.is_replay].tolist() != drawn.tolist()


@st.composite
def worlds(draw):
    lengths = st.lists(st.integers(1, 30), min_size=1, max_size=20)
    target = draw(lengths)
    labels = draw(st.lists(st.integers(0, 4), min_size=len(target), max_size=len(target)))
    replay = draw(lengths)
    share = draw(st.floats(0.05, 0.95))
    clip = draw(st.integers(1, 4))
    # As much as the tighter of both sides allows, or less.
    most = min(clip * sum(target) / (1 - share), clip * sum(replay) / share)
    budget = draw(st.integers(1, max(1, int(most) - 1)))
    chosen = spec(budget, clip=clip, replay_share=share, seed=draw(st.integers(0, 9)))
    return chosen, source(labels, target), Source.unclustered(np.array(replay))


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_every_prefix_keeps_the_replay_share_and_nothing_exceeds_the_clip(world):
    chosen, target, replay = world
    found = planned(*world)
    lengths = np.diff(found.ends, prepend=0)
    longest = max(target.lengths.max(), replay.lengths.max())
    of_replay = np.cumsum(np.where(found.is_replay, lengths, 0))
    assert np.abs(of_replay - chosen.replay_share * found.ends).max() <= longest + 1
    assert found.ends[-1] == chosen.budget_tokens
    assert (lengths > 0).all()
    counts = np.bincount(found.draws, minlength=len(target.lengths) + len(replay.lengths))
    assert counts.max() <= chosen.clip
    assert (found.draws[found.is_replay] >= len(target.lengths)).all()
    assert (found.draws[~found.is_replay] < len(target.lengths)).all()
