"""A field of Config, or an optimizer, that is declared in one place is everywhere.

Each test adds a declaration to a copy of the package and asks the copy in another process.
"""

import json
import os
import subprocess
import sys

import pytest
from helpers import ROOT

FIELDS = '''
    lora_bias: bool = option(
        False, "also train a bias in B", group="Method", changes="start memory",
        used_by=LORA, elsewhere="LoraConfig",
        tip="Also trains a bias with each B matrix of LoRA. Usual: off.",
    )
    dust: float = option(
        0.0, "a knob of this test", low=0.0, high=9.0, group="Data", changes="updates",
        usual=(0.0, 1.0, 2.0), sft_only=True, tip="A knob of this test. Usual: 0 to 2.",
    )
'''
OPTIMIZERS = '''
def _rmsprop(groups, learning_rate):
    import torch

    return torch.optim.RMSprop(groups, lr=learning_rate)


OPTIMIZERS["rmsprop"] = Optimizer(_rmsprop, numbers=1, elsewhere="rmsprop")
OPTIMIZERS["rms"] = Optimizer(_rmsprop, numbers=1)
'''
START = '''
import json, ftkit as ft
from ftkit.cli import options
from ftkit.notebook import to_script, widgets, what_if
lab = ft.Experiment(data=[{"instruction": f"Name {n}.", "input": "", "output": f"number {n}"}
                          for n in range(24)], probes=())
SHORT = dict(max_steps=1, batch_size=4, max_length=64, precision="fp32")
def memory(**fields):
    return ft.memory(model="tiny", **{**SHORT, "method": "lora", **fields})
found = {}
'''


def ask(folder, name, old, new, script):
    """The JSON of `found` after `script` has run on a copy of ftkit with one file changed."""
    package = folder / "ftkit"
    (package / "base").mkdir(parents=True)
    (folder / "data_samples").symlink_to(ROOT / "data_samples")
    for path in (ROOT / "ftkit").iterdir():
        if path.name != "base":
            (package / path.name).symlink_to(path)
    for path in (ROOT / "ftkit" / "base").iterdir():
        (package / "base" / path.name).symlink_to(path)
    text = (ROOT / "ftkit" / "base" / name).read_text("utf-8")
    assert text.count(old) == 1
    (package / "base" / name).unlink()
    (package / "base" / name).write_text(text.replace(old, new), "utf-8")
    asked = subprocess.run(
        [sys.executable, "-c", START + script + "\nprint('found', json.dumps(found))"],
        env=os.environ | {"PYTHONPATH": str(folder), "FTKIT_HOME": str(folder / "home")},
        cwd=folder, capture_output=True, text=True, timeout=300)
    assert asked.returncode == 0, asked.stderr
    return json.loads(asked.stdout.rpartition("found ")[2])


def test_a_field_declared_in_config_is_everywhere(tmp_path):
    seed = "    seed: int = option("
    found = ask(tmp_path, "config.py", seed, FIELDS + seed, '''
from ftkit.distributed import launch
from ftkit.experiment import preferences
args = options.parse(["run", "--method", "lora", "--lora-bias", "--dust", "1"])
found["line"] = str(options.config(args))
run_options = options.parser()._subparsers._group_actions[0].choices["run"]
found["help"] = {group.title: [action.dest for action in group._group_actions]
                 for group in run_options._action_groups}
panel = ft.what_if(lab, config=ft.Config(**SHORT))
found["tabs"] = {title: [row.name for row in box.children]
                 for title, box in panel.controls.boxes.items()}
found["knobs"] = list(panel.launcher.knob.options)
found["gray"] = panel.controls.fields["lora_bias"].disabled
panel.wait()  # its forecast imports transformers and simulates, too, in another thread
run = lab.run(ft.Config(method="full", lora_bias=True, **SHORT), live=False)
found["notes"] = run.notes
plain, bias, dusty = (lab.run(ft.Config(method="lora", **fields, **SHORT), live=False)
                      for fields in ({}, {"lora_bias": True}, {"dust": 1.0}))
found["trained"] = [plain.trainable_parameters, bias.trainable_parameters]
found["causes"] = [ft.compare(plain, other).cause for other in (bias, dusty)]
found["none"] = ft.compare(run, lab.run(ft.Config(method="full", **SHORT), live=False)).cause
folder = to_script.export(lab, ft.Config(method="lora", lora_bias=True, dust=2.0, **SHORT), "run")
found["script"] = (folder / "train.py").read_text("utf-8").splitlines()[1]
found["adapter"] = json.loads((folder / "adapter" / "adapter_config.json").read_text("utf-8"))
from ftkit.memory_use import footprint
simulated = footprint._traced.cache_info().misses
found["memory"] = [memory(**fields).peak
                   for fields in ({}, {"dust": 1.0}, {"lora_bias": True})]
found["simulations"] = footprint._traced.cache_info().misses - simulated
for act in (lambda: launch._followed(ft.Config(dust=1.0)),
            lambda: preferences.DPO().encode(None, preferences.DPOConfig(dust=1.0))):
    try:
        act()
    except ValueError as error:
        found.setdefault("refused", []).append(str(error))
''')
    assert found["line"] == "method=lora lora_bias=True dust=1.0"
    assert "lora_bias" in found["help"]["method (names as in peft)"]
    assert "dust" in found["help"]["model and data"]
    assert "lora_bias" in found["tabs"]["Method"] and "dust" in found["tabs"]["Data"]
    assert "dust" in found["knobs"] and found["gray"] is True
    assert "lora_bias had no effect: method is full" in found["notes"]
    assert found["trained"][1] > found["trained"][0], "peft was not asked for it"
    assert found["causes"] == ["lora_bias", "dust"] and found["none"] is None
    assert found["script"] == "# Left out, because TRL has no counterpart: dust"
    assert found["adapter"]["lora_bias"] is True
    plain, dust, bias = found["memory"]
    assert plain == dust < bias and found["simulations"] == 2
    assert len(found["refused"]) == 2 and all("dust is 1.0" in text for text in found["refused"])


@pytest.mark.parametrize("name", ["rmsprop", "rms"])
def test_an_optimizer_declared_in_optimizers_is_everywhere(tmp_path, name):
    path = ROOT / "ftkit" / "base" / "optimizers.py"
    found = ask(tmp_path, "optimizers.py", path.read_text("utf-8"),
                path.read_text("utf-8") + OPTIMIZERS, f'''
NAME = {name!r}
found["line"] = str(options.config(options.parse(["run", "--optim", NAME])))
found["panel"] = NAME in [value for _, value in widgets.field_control("optim").options]
runs = [lab.run(ft.Config(method=method, optim=optim, **SHORT), live=False)
        for method in ("full", "lora") for optim in ("adamw_torch", NAME)]
found["causes"] = [ft.compare(*runs[:2]).cause, ft.compare(*runs[2:]).cause]
found["memory"] = [[memory(method=m, optim=o).states["optimizer"] for o in ("adamw_torch", NAME)]
                   for m in ("full", "lora")]
found["peaks"] = [memory(optim=o).peak for o in ("adamw_torch", NAME)]
found["scripts"] = [to_script.script(lab, ft.Config(optim=NAME, **SHORT), library, 1)
                    for library in to_script.LIBRARIES]
''')
    assert found["line"] == f"optim={name}" and found["panel"]
    assert found["causes"] == ["optim", "optim"]
    assert all(mine * 2 == adamw for adamw, mine in found["memory"])
    assert found["peaks"][0] > found["peaks"][1]
    for script in found["scripts"]:
        if name == "rmsprop":
            assert "optim='rmsprop'" in script
        else:
            assert "optim='" not in script and script.splitlines()[1].endswith("optim=rms")
