"""The arguments of Lightning's Trainer."""

from selector.experiment import build_experiment
from tests.support import compose


def test_any_argument_of_lightnings_trainer_is_passed_on() -> None:
    cfg = compose("+trainer.limit_train_batches=3", "+trainer.deterministic=true", "trainer.accumulate_grad_batches=2")
    trainer = build_experiment(cfg).trainer
    assert trainer["limit_train_batches"] == 3
    assert trainer["deterministic"] is True
    assert trainer["accumulate_grad_batches"] == 2
    assert trainer["precision"] == "32-true"
