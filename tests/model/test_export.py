"""Adapters go out to peft and come in from TRL; an export is the model that was trained."""

import json
import shutil

import pytest
import torch

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.evaluate import scoring
from ftkit.model import adapter_folder, loading, push
from ftkit.model.export import DTYPES, export


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("FTKIT_HOME", str(tmp_path_factory.mktemp("home")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """method → (run, folder): adapters trained here for a moment, at rates that move them far."""
    made = {}

    def train(method, **changes):
        key = method, *changes.items()
        if key not in made:
            folder = tmp_path_factory.mktemp("saved") / method
            lab = ft.Experiment(data="translation", probes=())
            run = lab.run(method=method, max_steps=12, eval_steps=99, precision="fp32",
                          out=folder, **changes)
            made[key] = run, folder
        return made[key]

    return train


def logits(model, tokenizer):
    ids = tokenizer("The cat sat on the mat.", return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**{k: v for k, v in ids.items() if k != "token_type_ids"}).logits


def greedy(model, tokenizer, prompts):
    """What transformers' own `generate` writes, prompt by prompt."""
    out = []
    for ids in (torch.tensor([prompt]) for prompt in prompts):
        made = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                              max_new_tokens=12, pad_token_id=tokenizer.pad_token_id)
        out.append(made[0, ids.shape[1]:].tolist())
    return out


def prompts_of(tokenizer, n=50):
    from ftkit.data import encoding

    return encoding.prompts(ft.records("translation", "test")[:n], tokenizer)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_trained_here_loads_in_peft_alone(trained, method):
    import peft
    import transformers

    run, folder = trained(method)
    base = transformers.AutoModelForCausalLM.from_pretrained(loading.tiny_path(),
                                                             dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = logits(model, tokenizer)
    if method == "lora":  # qlora's was trained on a rounded base, which peft alone does not have
        assert torch.allclose(theirs, logits(run.model, tokenizer), atol=1e-4, rtol=0)
    with model.disable_adapter():
        assert not torch.allclose(theirs, logits(model, tokenizer), atol=0.1)


def test_an_adapter_trained_by_trl_loads_here(tmp_path):
    import peft
    import trl
    from datasets import Dataset

    model, tokenizer = loading.load("tiny")
    rows = [{"prompt": r["instruction"], "completion": " " + r["output"]}
            for r in ft.records("translation")[:32]]
    trainer = trl.SFTTrainer(
        model, trl.SFTConfig(str(tmp_path / "trl"), max_steps=3, learning_rate=1e-2, use_cpu=True,
                             report_to="none", save_strategy="no", bf16=False,
                             disable_tqdm=True),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    here, words = ft.load(str(tmp_path / "adapter"))
    assert torch.allclose(logits(here, words), logits(trainer.model, tokenizer), atol=1e-5)
    plain, _ = ft.load("tiny")
    assert not torch.allclose(logits(here, words), logits(plain, words), atol=1e-2)
    run = ft.Experiment(model=str(tmp_path / "adapter"), data="translation", probes=()).run(
        method="full", max_steps=1, precision="fp32", learning_rate=1e-9)
    assert torch.allclose(logits(run.model, words), logits(here, words), atol=1e-3)


def test_a_merged_model_writes_the_same_tokens_in_transformers_as_unmerged(trained, tmp_path):
    import transformers

    run, folder = trained("lora")
    out = export(folder, tmp_path / "merged")
    merged = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    prompts = prompts_of(tokenizer)
    assert len(prompts) == 50
    assert greedy(merged, tokenizer, prompts) == greedy(run.model, run.tokenizer, prompts)
    assert logits(merged, tokenizer).sub(logits(run.model, tokenizer)).abs().max() < 1e-4


def test_an_adapter_over_8_bits_is_merged_into_the_weights_it_was_trained_on(trained, tmp_path):
    run, folder = trained("qlora", load_in_8bit=True)
    merged, tokenizer = ft.load(str(export(folder, tmp_path / "merged")))
    (folder / "ftkit_run.json").unlink()  # unknown: the base as it is
    other, _ = ft.load(str(export(folder, tmp_path / "other")))
    ids = tokenizer("The cat sat on the mat.", return_tensors="pt").input_ids
    with torch.no_grad():
        trained_on = run.model.train()(ids).logits  # where activations are not rounded on a CPU
    assert logits(merged, tokenizer).sub(trained_on).abs().max() < 1e-3
    assert logits(other, tokenizer).sub(trained_on).abs().max() > 1e-2


def test_a_qlora_adapter_is_merged_into_the_base_it_was_trained_on(trained, tmp_path):
    run, folder = trained("qlora")
    merged, tokenizer = ft.load(str(export(folder, tmp_path / "merged")))
    trained_on = logits(run.model, tokenizer)
    assert logits(merged, tokenizer).sub(trained_on).abs().max() < 0.3  # bf16 inside
    (folder / "ftkit_run.json").rename(tmp_path / "recipe")  # unknown: the base as it is
    other, _ = ft.load(str(export(folder, tmp_path / "other")))
    shutil.move(tmp_path / "recipe", folder / "ftkit_run.json")
    assert logits(other, tokenizer).sub(trained_on).abs().max() > 1


def test_the_card_states_the_recipe_the_data_and_the_results(trained, tmp_path):
    run, folder = trained("lora")
    text = (export(folder, tmp_path / "merged", "bf16") / "README.md").read_text()
    assert f"sha256 `{run.data['sha256']}`" in text and "method=lora" in text
    assert f"| val\\_loss | {run.before['val_loss']:.2f} |" in text
    assert str(loading.tiny_path().parent) not in text


def test_an_adapter_has_a_card_that_says_what_was_done(trained):
    from huggingface_hub import ModelCard

    run, folder = trained("lora")
    card = ModelCard.load(folder / "README.md")
    assert card.data.to_dict() == {"base_model": "tiny", "library_name": "peft",
                                   "pipeline_tag": "text-generation", "tags": ["ftkit"]}
    assert f"sha256 `{run.data['sha256']}`" in card.text and "More Information" not in card.text


class Hub:
    """What a push asks of the hub."""

    def __init__(self, error=None):
        self.asked, self.error = [], error

    def create_repo(self, name, **how):
        self.asked.append((name, how))
        if self.error:
            raise self.error

    def upload_folder(self, **how):
        self.asked.append(how)


def test_a_push_uploads_weights_and_card_and_keeps_what_is_private(trained, tmp_path, ftkit):
    folder, hub = export(trained("lora")[1], tmp_path / "merged"), Hub()
    assert push.push(folder, "me/mine", api=hub) == "https://huggingface.co/me/mine"
    (name, how), sent = hub.asked
    assert (name, how["private"], sent["folder_path"]) == ("me/mine", True, folder)
    assert sent["ignore_patterns"] == ["ftkit_run.json"]
    with pytest.raises(UserError, match="did not take me/mine: no route. Check"):
        push.push(folder, "me/mine", api=Hub(OSError("no route")))
    with pytest.raises(UserError, match="base of the adapter is tiny.*ftkit export"):
        push.push(trained("lora")[1], "me/mine", api=hub)
    status, _, err = ftkit("push", tmp_path, "me/mine")
    assert status == 2 and "has no weights; expected a folder" in " ".join(err.split())


@pytest.mark.parametrize("damage", [{"config": "x"}, {"data": {"rows": "x"}}, {"seconds": None},
                                    {"versions": []}, {"trainable_parameters": "x"}, {"after": 5}])
def test_a_damaged_recipe_costs_the_recipe_and_not_the_export(trained, tmp_path, damage):
    _, folder = trained("lora")
    shutil.copytree(folder, tmp_path / "damaged")
    recipe = json.loads((folder / "ftkit_run.json").read_text()) | damage
    (tmp_path / "damaged" / "ftkit_run.json").write_text(json.dumps(recipe))
    out = export(tmp_path / "damaged", tmp_path / "merged")
    assert "no complete ftkit_run.json" in (out / "README.md").read_text()


def test_the_dtype_is_that_of_the_file(trained, tmp_path):
    from safetensors import safe_open

    _, folder = trained("lora")
    out = export(folder, tmp_path / "half", "bf16")
    with safe_open(out / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_evaluation_of_an_export_is_that_of_the_run(trained, tmp_path):
    run, folder = trained("lora")
    merged, tokenizer = ft.load(str(export(folder, tmp_path / "merged")))
    rows = ft.records("translation", "validation")[:20]
    assert scoring.answers(merged, tokenizer, rows) == scoring.answers(
        run.model, run.tokenizer, rows)


def broken(folder, tmp_path, **changes):
    out = tmp_path / "broken"
    shutil.copytree(folder, out)
    about = json.loads((out / adapter_folder.CONFIG).read_text())
    about = {k: v for k, v in (about | changes).items() if v is not ...}
    (out / adapter_folder.CONFIG).write_text(json.dumps(about))
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_merge_that_is_not_finite_is_not_exported(trained, tmp_path, dtype):
    out = broken(trained("lora")[1], tmp_path, lora_alpha=float("nan"))
    with pytest.raises(ValueError, match="merged: .* are nan or infinite"):
        export(out, tmp_path / "merged", dtype)
    assert not (tmp_path / "merged").exists()


def test_an_adapter_of_tiny_is_found_by_name_on_another_machine(trained, tmp_path):
    out = broken(trained("lora")[1], tmp_path,
                 base_model_name_or_path="/elsewhere/ftkit/model/tiny")
    assert adapter_folder.base_of(out) == "tiny"
    ft.load(str(out))


def test_the_command_line_exports_and_says_what_is_wrong(ftkit, trained, tmp_path):
    _, folder = trained("lora")
    status, out, err = ftkit("export", folder, tmp_path / "merged", "--dtype", "bf16", "--json")
    assert status == 0 and json.loads(out)["bytes"] > 4e6
    for words, said in (([folder, tmp_path / "merged"], "not an empty folder"),
                        ([tmp_path / "nothing", tmp_path / "x"], "no folder"),
                        ([folder, tmp_path / "x", "--dtype", "int8"], "fp32, bf16, fp16")):
        status, out, err = ftkit("export", *words)
        assert status == 2 and said in err and "Traceback" not in err
    assert not (tmp_path / "x").exists()


def test_an_adapter_names_its_base_so_that_others_find_it(trained, tmp_path, monkeypatch):
    _, folder = trained("lora")
    about = json.loads((folder / adapter_folder.CONFIG).read_text())
    assert about["base_model_name_or_path"] == "tiny"
    for text in (path.read_text("utf-8", "replace") for path in folder.iterdir()):
        assert str(loading.tiny_path()) not in text
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    home = tmp_path / "home" / "models" / "smollm2"
    shutil.copytree(loading.tiny_path(), home)
    cached = tmp_path / "models--me--toy" / "snapshots" / "abc"
    shutil.copytree(loading.tiny_path(), cached)
    for location, name in ((str(home), adapter_folder.SMOLLM2), (str(cached), "me/toy"),
                           ("me/toy", "me/toy"), (str(tmp_path), str(tmp_path.resolve()))):
        assert adapter_folder.portable(location) == name
    assert loading.locate(adapter_folder.SMOLLM2) == str(home)


def test_a_base_that_moved_with_its_adapter_is_found_beside_it(trained, tmp_path):
    base = tmp_path / "elsewhere" / "my-model"
    shutil.copytree(loading.tiny_path(), base)
    out = broken(trained("lora")[1], tmp_path, base_model_name_or_path="/gone/my-model")
    with pytest.raises(ValueError, match="base named in .* cannot be found"):
        ft.load(str(out))
    shutil.move(base, tmp_path / "my-model")
    assert adapter_folder.base_of(out) == str(tmp_path / "my-model")
    ft.load(str(out))


def test_an_adapter_over_an_adapter_is_loaded_over_it_and_exported(trained, tmp_path):
    run, folder = trained("lora")
    lab = ft.Experiment(model=str(folder), data="translation", probes=())
    second = lab.run(method="lora", max_steps=3, precision="fp32", eval_steps=99,
                     out=tmp_path / "second")
    assert second.before["val_loss"] == pytest.approx(run.after["val_loss"], abs=1e-3)
    assert adapter_folder.base_of(tmp_path / "second") == str(folder)
    here, words = ft.load(str(tmp_path / "second"))
    assert torch.allclose(logits(here, words), logits(second.model, words), atol=1e-3)
    merged, _ = ft.load(str(export(tmp_path / "second", tmp_path / "merged")))
    assert torch.allclose(logits(merged, words), logits(here, words), atol=1e-3)


def test_an_adapter_over_a_model_tuned_in_memory_is_saved_merged(trained, tmp_path):
    run, _ = trained("lora")
    second = ft.Experiment((run.model, run.tokenizer), data="translation", probes=()).run(
        method="lora", max_steps=2, precision="fp32", eval_steps=99, out=tmp_path / "out")
    assert any("saved as a whole model" in note for note in second.notes)
    here, words = ft.load(str(tmp_path / "out"))
    assert not adapter_folder.is_adapter(tmp_path / "out")
    assert torch.allclose(logits(here, words), logits(second.model, words), atol=1e-3)


def test_an_adapter_of_plain_peft_trains_on(tmp_path):
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(loading.tiny_path(),
                                                             dtype=torch.float32)
    torch.manual_seed(0)
    made = peft.get_peft_model(base, peft.LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False,
        task_type="CAUSAL_LM"))
    made.save_pretrained(tmp_path / "plain")
    here, words = ft.load(str(tmp_path / "plain"))
    assert torch.allclose(logits(here, words), logits(made, words), atol=1e-5)
    run = ft.Experiment(model=str(tmp_path / "plain"), data="translation", probes=()).run(
        method="lora", max_steps=6, precision="fp32", eval_steps=99, out=tmp_path / "on")
    assert run.after["val_loss"] < run.before["val_loss"]
    again, _ = ft.load(str(tmp_path / "on"))
    assert torch.allclose(logits(again, words), logits(run.model, words), atol=1e-3)
