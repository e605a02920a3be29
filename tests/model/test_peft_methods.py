"""Every method of the PEFT family is peft's, in numbers, in gradients, in words and on disk."""

import copy

import peft
import pytest
import torch
import transformers

import ftkit as ft
from ftkit.base import messages
from ftkit.base.config import LEARNING_RATES, METHODS, Config
from ftkit.data import encoding
from ftkit.engine import generation, packed_batch, packed_loss
from ftkit.model import loading, peft_methods

FAMILY = {
    "lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa"}, "olora": {"init_lora_weights": "olora"},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "ia3": {"method": "ia3"}, "ia3 on named layers": {
        "method": "ia3", "target_modules": "q_proj,down_proj"},
    "prompt_tuning": {"method": "prompt_tuning"}, "prefix_tuning": {"method": "prefix_tuning"},
}
each = pytest.mark.parametrize("name", FAMILY)


@pytest.fixture(scope="module")
def examples(base):
    return [ft.encode(record, base[1]) for record in ft.records("tasks")[:4]]


def adapted(base, name, moved=True):
    """A model of the family; `moved` as if trained, so that zeros at the start hide nothing."""
    torch.manual_seed(0)
    model = loading.adapt(copy.deepcopy(base), Config(**{"method": "lora"} | FAMILY[name]))
    if moved:
        for p in model.parameters():
            if p.requires_grad:
                p.data += 0.02 * torch.randn_like(p)
    return model.eval()


def one_by_one(model, examples):
    """Sum of the loss and its gradients by the model's own forward, one example at a time."""
    model.zero_grad()
    total = 0.0
    for e in examples:
        labels = torch.tensor([e["labels"]])
        out = model(input_ids=torch.tensor([e["input_ids"]]), labels=labels)
        total = total + out.loss * (labels[:, 1:] != -100).sum()
    total.backward()
    return total.item(), gradients(model)


def gradients(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@each
def test_loss_and_gradients_equal_the_plain_forward_of_peft(base, examples, name):
    model = adapted(base[0], name)
    wanted, wanted_gradients = one_by_one(model, examples)
    model.zero_grad()
    made = packed_loss.loss_sum(model, packed_batch.pack(examples))
    made.backward()
    assert made.item() == pytest.approx(wanted, rel=1e-5)
    torch.testing.assert_close(gradients(model), wanted_gradients, rtol=1e-3, atol=1e-4)


@each
def test_answers_are_what_repeated_forward_passes_give(base, name):
    model, tokenizer = adapted(base[0], name), base[1]
    prompts = encoding.prompts(ft.records("tasks")[:4], tokenizer)
    wanted = []
    for prompt in prompts:
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(8):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
                if ids[-1] == tokenizer.eos_token_id:
                    break
        wanted.append(ids[len(prompt):])
    assert generation.generate(model, prompts, 8, tokenizer.eos_token_id) == wanted


@each
def test_probes_are_scored_behind_virtual_tokens_too(base, name):
    model, tokenizer = adapted(base[0], name, moved=False), base[1]
    probe = {"ability": "a", "prompt": "The capital of France is"}
    begin = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    ids = begin + tokenizer(probe["prompt"], add_special_tokens=False)["input_ids"]
    first = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
    right = probe | {"answer": tokenizer.decode([first])}
    wrong = probe | {"answer": " purple"}
    longer = probe | {"prompt": probe["prompt"] * 2, "answer": " purple"}  # padding in the batch
    assert ft.probe_scores(model, tokenizer, [right, wrong, longer]) == {"a": 1 / 3}


def by_hand(shapes, name, hidden, inner, layers, kv, virtual=20, r=8):
    """Trained numbers by the papers' own arithmetic."""
    if name == "prompt_tuning":
        return virtual * hidden
    if name == "prefix_tuning":
        return virtual * layers * 2 * kv
    if name == "ia3":
        return layers * (kv + kv + inner)  # keys, values, what enters the last MLP matrix
    if name == "ia3 on named layers":
        return layers * (hidden + inner)
    lora = sum(r * (n_in + n_out) for n_in, n_out in shapes)
    return lora + (sum(n_out for _, n_out in shapes) if name == "dora" else 0)


@each
def test_the_count_of_trained_parameters_is_the_formulas_and_pefts(base, name):
    model, config = adapted(base[0], name), base[0].config
    shapes = [(m.in_features, m.out_features) for n, m in base[0].named_modules()
              if isinstance(m, torch.nn.Linear) and n != "lm_head"]
    kv = config.num_key_value_heads * config.head_dim
    wanted = by_hand(shapes, name, config.hidden_size, config.intermediate_size,
                     config.num_hidden_layers, kv)
    assert loading.count(model) == model.get_nb_trainable_parameters()
    assert loading.count(model)[0] == wanted


@pytest.mark.parametrize("name", [n for n in FAMILY if "tuning" not in n])
def test_training_starts_at_the_base(base, examples, name):
    model = adapted(base[0], name, moved=False)
    wanted = ft.loss_on(base[0], examples)
    assert ft.loss_on(model, examples) == pytest.approx(wanted, abs=2e-3)


@each
def test_a_saved_adapter_comes_back_by_pefts_own_loader(base, examples, name, tmp_path):
    model = adapted(base[0], name)
    loading.save(model, base[1], tmp_path)
    back = peft.PeftModel.from_pretrained(copy.deepcopy(base[0]), tmp_path)
    assert ft.loss_on(back, examples) == pytest.approx(ft.loss_on(model, examples), abs=1e-3)
    assert abs(ft.loss_on(back, examples) - ft.loss_on(base[0], examples)) > 0.005


@each
def test_each_field_reaches_peft(base, name):
    asked = peft_methods.request(base[0], Config(**{"method": "lora"} | FAMILY[name]))
    made = adapted(base[0], name).peft_config["default"]
    assert made.peft_type == asked.peft_type
    if asked.peft_type == "LORA":
        fields = FAMILY[name]
        assert (made.use_dora, made.use_rslora) == (name == "dora", name == "rslora")
        assert made.init_lora_weights == fields.get("init_lora_weights", True)


def test_rslora_scales_by_the_root_of_the_rank(base):
    model = loading.adapt(copy.deepcopy(base[0]), Config(method="lora", r=16, use_rslora=True))
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.lora.Linear)]
    assert layers and all(m.scaling["default"] == 16 / 16**0.5 for m in layers)


@pytest.mark.parametrize("fields, words", [
    ({"method": "qlora", "init_lora_weights": "pissa"}, "which are quantized"),
    ({"method": "qlora", "use_dora": True, "load_in_8bit": True}, "DoRA on a base in 4"),
    ({"method": "lora", "init_lora_weights": "orthogonal", "r": 3}, "even r"),
    ({"method": "lora", "target_modules": "attention"}, "q_proj"),
    ({"method": "ia3", "target_modules": "attention"}, "q_proj"),
])
def test_for_a_request_that_contradicts_itself_the_error_says_what_to_do(base, fields, words):
    with pytest.raises(ValueError, match=words):
        loading.adapt(copy.deepcopy(base[0]), Config(**fields))


def test_a_state_space_model_gets_lora_where_peft_can_adapt_it():
    def mamba():
        return transformers.MambaForCausalLM(transformers.MambaConfig(
            vocab_size=100, hidden_size=32, num_hidden_layers=2, state_size=4))

    made = loading.adapt(mamba(), Config(method="lora"))
    adapted_layers = {name.split(".")[-4] for name, p in made.named_parameters() if p.requires_grad}
    assert adapted_layers == {"in_proj", "x_proj", "dt_proj"}
    with pytest.raises(ValueError, match="cannot adapt.* some of dt_proj, embeddings, in_proj, l"):
        loading.adapt(mamba(), Config(method="lora", target_modules="out_proj"))


def test_a_run_goes_on_from_what_can_be_merged_and_says_what_cannot(base):
    model = adapted(base[0], "ia3")
    lab = ft.Experiment(model=(model, base[1]), data=ft.records("tasks")[:32],
                        val=ft.records("tasks")[:4], probes=())
    plain, _ = lab.fresh_model(Config())
    assert not hasattr(plain, "peft_config")
    lab.model = (adapted(base[0], "prompt_tuning"), base[1])
    with pytest.raises(ValueError, match="cannot be merged"):
        lab.run(max_steps=1, live=False)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("full", "qlora")])
def test_a_run_of_each_method_trains_and_says_why_it_is_slow(method, capsys):
    messages.say_once.cache_clear()
    lab = ft.Experiment(data=ft.records("tasks")[:64], val=ft.records("tasks")[:16], probes=())
    run = lab.run(method=method, max_steps=6, eval_steps=100, live=False)
    assert run.config.learning_rate == LEARNING_RATES["tiny"][method]
    assert run.after["val_loss"] < run.before["val_loss"]
    told = "virtual tokens" in capsys.readouterr().err
    assert told == ("tuning" in method)
