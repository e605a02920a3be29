"""The configurations under `## In practice, 2026` are built and take two steps, on the embedded
model. All run in one process that cannot reach the hub; practice.py says what is replaced."""

import json
import subprocess
import sys

import lesson_files
import practice
import pytest
from helpers import ROOT, others_later

LESSONS = [source.name[:2] for source in lesson_files.SOURCES
           if lesson_files.practice_block(lesson_files.cells_of(source))]

LORA = '''
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

model_id = "Qwen/Qwen3-8B-Base"
# train.jsonl: {"prompt": [{"role": "user", "content": "..."}],
#               "completion": [{"role": "assistant", "content": "..."}]}
data = load_dataset("json", data_files="train.jsonl", split="train")
trainer = SFTTrainer(
    model_id,
    args=SFTConfig(
        output_dir="lora", learning_rate=2e-4, num_train_epochs=2, max_length=1024,
        per_device_train_batch_size=16, gradient_accumulation_steps=4, packing=True, bf16=True,
        optim="paged_adamw_8bit", use_liger_kernel=True,
        model_init_kwargs={"attn_implementation": "flash_attention_2", "dtype": "bfloat16"},
    ),
    train_dataset=data,
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
)
trainer.train()
print("saved", trainer.save_model("lora"))
'''
GOOD = {
    "LoRA": LORA,
    "QLoRA and DPO": '''
import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import DPOConfig, DPOTrainer

model_id = "Qwen/Qwen3-8B"
# {"prompt": "...", "chosen": "...", "rejected": "..."}
data = load_dataset("json", data_files="train.jsonl", split="train")
model = AutoModelForCausalLM.from_pretrained(
    model_id, device_map="auto",
    quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                           bnb_4bit_compute_dtype=torch.bfloat16))
trainer = DPOTrainer(model, args=DPOConfig(output_dir="dpo", beta=0.1), train_dataset=data,
                     peft_config=LoraConfig(target_modules="all-linear"))
''',
    "no training": "answer = 6 * 7\nassert answer == 42\n",
}
BAD = {
    "an argument that was removed": (LORA.replace("bf16", "warm_up_share"), "warm_up_share"),
    "a file without a record": (LORA.replace('"content"', "content"), "show one record"),
    "another model of the hub": (
        'from transformers import AutoConfig\nAutoConfig.from_pretrained("gpt2")\n',
        "offline mode"),
}


@pytest.fixture(scope="module")
def results(request, tmp_path_factory):
    """Name of a block -> what practice.py says of it."""
    folder = tmp_path_factory.mktemp("blocks")
    files = {}
    for name, block in (GOOD | {name: block for name, (block, _) in BAD.items()}).items():
        files[name] = folder / f"{name}.py"
        files[name].write_text(block, "utf-8")
    of_lessons = test_the_configuration_of_a_lesson_is_built_and_trains
    asked = [item.callspec.params["lesson"] for item in request.session.items
             if getattr(item, "function", None) is of_lessons]
    names = [*map(str, files.values()), *asked]
    done = subprocess.run([sys.executable, practice.__file__, *names], cwd=ROOT, text=True,
                          capture_output=True, timeout=500)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = {row["block"]: row for row in rows}
    assert len(found) == len(names), done.stderr[-2000:]
    return found | {name: found[str(path)] for name, path in files.items()}


@pytest.mark.parametrize("lesson", others_later(LESSONS, now=("02", "05", "20")))
def test_the_configuration_of_a_lesson_is_built_and_trains(results, lesson):
    assert results[lesson]["error"] is None, results[lesson]["error"]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_block_runs_and_its_trainer_takes_two_steps(results, name):
    assert results[name]["error"] is None, results[name]["error"]
    assert results[name]["steps"] == (2 if "trainer" in GOOD[name] else 0)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_block_is_found(results, name):
    assert BAD[name][1] in (results[name]["error"] or "")
