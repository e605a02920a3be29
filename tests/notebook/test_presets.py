"""Each preset of the what-if panel shows on the embedded model what it says it shows."""

import pytest

import ftkit as ft
from ftkit.notebook.presets import PRESETS
from ftkit.report.diagnose import diagnose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Preset → its run, on the data that the panel has by default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTKIT_HOME", str(tmp_path_factory.mktemp("home")))
        lab = ft.Experiment(data="translation", eval_records=48)
        return {name: lab.run(ft.Config(eval_steps=20).but(**preset.changes), live=False)
                for name, preset in PRESETS.items()}


def kinds(run) -> list[str]:
    return [finding.kind for finding in diagnose(run)]


def test_too_high_destroys_the_model_and_too_low_underfits(runs):
    high = runs["learning rate too high"]
    assert high.change("val_loss") > 0 and high.change("general_loss") > 1
    assert "underfitting" in kinds(runs["learning rate too low"])


def test_forgetting_is_seen_and_replay_takes_part_of_it_away(runs):
    forgot, replayed = runs["forgetting"], runs["replay against forgetting"]
    assert forgot.change("val_loss") < 0 and "forgetting" in kinds(forgot)
    assert replayed.change("general_loss") < forgot.change("general_loss")


def test_lora_needs_the_higher_learning_rate(runs):
    same, higher = runs["LoRA at the learning rate of full"], runs["LoRA as full"]
    assert higher.after["val_loss"] < same.after["val_loss"]
