"""A real language model: fetched, fine-tuned on the hand-written set, read by plain peft."""

import json
import subprocess
import sys

import pytest

from ftkit.model import rounding

pytestmark = pytest.mark.smollm2

PLAIN_PEFT = """
import sys, torch, transformers, peft
folder, base = sys.argv[1:]
ids = transformers.AutoTokenizer.from_pretrained(folder)("Name a color.", return_tensors="pt")
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
with torch.no_grad():
    untuned = model(**ids).logits
    tuned = peft.PeftModel.from_pretrained(model, folder).eval()(**ids).logits
torch.save((untuned, tuned), folder + "/logits.pt")
"""


def test_smollm2_is_there_whole_and_says_where_it_came_from(smollm2_home, monkeypatch):
    from ftkit.model import download

    monkeypatch.setenv("FTKIT_HOME", str(smollm2_home))
    folder = download.find("smollm2")
    assert download.fetch("smollm2") == folder  # a second time is free
    about = json.loads((folder / "SOURCE.json").read_text())
    assert about["model"] == "SmolLM2-135M-Instruct" and about["licence"] == "Apache-2.0"
    assert not list(folder.parent.glob(".*")), "something half-made was left"


def test_a_step_of_nearly_nothing_leaves_the_bf16_loss_where_it_was(smollm2_home, monkeypatch):
    """Weights halfway between two numbers of bf16 would tip over, and the loss would fall."""
    import torch

    from ftkit.data import schema
    from ftkit.experiment.experiment import Experiment
    from ftkit.model import loading

    monkeypatch.setenv("FTKIT_HOME", str(smollm2_home))
    model, _ = loading.load("smollm2")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert rounding.halfway(model.parameters(), torch.bfloat16) == 0
    assert all(torch.equal(p, p.bfloat16().float()) for p in model.parameters())
    records = schema.records("handwritten")[:4]
    run = Experiment("smollm2", records, val=records, probes=()).run(
        method="full", precision="bf16", learning_rate=1e-8, warmup_steps=0, max_steps=1,
        batch_size=4)
    assert abs(run.change("val_loss")) < 0.05 and run.notes == []


@pytest.mark.slow
def test_a_lora_run_learns_and_its_adapter_gives_the_same_logits_in_plain_peft(
        smollm2_home, tmp_path, monkeypatch, ftkit):
    import torch

    from ftkit.experiment.experiment import Experiment

    monkeypatch.setenv("FTKIT_HOME", str(smollm2_home))
    runs, train = [], Experiment.run

    def keep(self, *args, **options):  # the command line lets go of the model
        runs.append(train(self, *args, **options))
        return runs[-1]

    monkeypatch.setattr(Experiment, "run", keep)
    out = tmp_path / "adapter"
    status, told, err = ftkit(
        "run", "--model", "smollm2", "--data", "handwritten", "--method", "lora", "--max-steps",
        "20", "--batch-size", "4", "--eval-steps", "20", "--probe", "none", "--out", out, "--json")
    assert status == 0, err
    found = json.loads(told)
    assert found["after"]["val_loss"] < found["before"]["val_loss"]
    assert len(found["history"]) == 20 and found["model"] == "smollm2"
    assert found["trainable_parameters"] < 0.03 * found["total_parameters"]

    run = runs[0]
    with torch.no_grad():
        ours = run.model(**run.tokenizer("Name a color.", return_tensors="pt")).logits
    subprocess.run([sys.executable, "-c", PLAIN_PEFT, out, smollm2_home / "models" / "smollm2"],
                   check=True, timeout=300)
    untuned, tuned = torch.load(out / "logits.pt")
    assert (ours - tuned).abs().max() < 1e-4
    assert (untuned - tuned).abs().max() > 1e-2, "the adapter changes nothing"
