import pytest

from configs import llava15
from rlaifv_jax.errors import UserError
from rlaifv_jax.plan import make_plan


def test_the_published_round():
    """5,342 pairs in batches of 8: 2,672 steps are four epochs, 167 a quarter of one."""
    plan = make_plan(llava15.get_config(), pairs=5342)
    assert plan.steps == 2672
    assert plan.checkpoint_every == plan.eval_every == 167
    config = llava15.get_config()
    config.update_from_flattened_dict({"train.steps": 0, "train.epochs": 4.0, "checkpoint.every": 0.25})
    by_epochs = make_plan(config, pairs=5342)
    assert abs(by_epochs.steps - 2672) <= 1
    assert by_epochs.checkpoint_every == 167
    assert plan.saves(167)
    assert plan.saves(plan.steps)
    assert not plan.saves(168)


@pytest.mark.parametrize(("key", "value"), [("train.epochs", 0.0), ("checkpoint.every", 0.0)])
def test_impossible_plans_are_refused(key, value):
    config = llava15.get_config()
    config.train.steps = 0
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=key.replace(".", r"\.")):
        make_plan(config, pairs=100)
