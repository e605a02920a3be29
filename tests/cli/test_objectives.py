"""`ftkit run --objective`: post-training on one's own data, and what is said of unusable input."""

import json
import sys

import pytest

from ftkit.cli import options
from ftkit.experiment import rewards, store

PROMPTS = [{"prompt": f"Say the word number {n}.", "answer": f"number {n}"} for n in range(12)]
REWARDS = '''
def words(answer, record):
    return len(answer.split()) % 3

def wrong_key(answer, record):
    return record["answer"] == answer

def none(answer, record):
    return float("nan") if answer != record["output"] else 1.0

def same(answer, record):
    return 1
'''
FAST = ["--probe", "none", "--max-steps", 3, "--batch-size", 2, "--precision", "fp32", "--quiet",
        "--learning-rate", 1e-3]
DRAWN = [*FAST, "--num-generations", 3, "--max-completion-length", 5]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS)))
    (tmp_path / "my_rewards.py").write_text(REWARDS)
    yield tmp_path
    sys.modules.pop("my_rewards", None)
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]


@pytest.mark.parametrize("objective, loss_type", [
    ("dpo", "sigmoid"), ("ipo", "ipo"), ("kto", "kto"), ("orpo", "orpo"), ("simpo", "simpo")])
def test_objectives_on_pairs_train_and_store_their_measures(ftkit, folder, objective, loss_type):
    status, out, err = ftkit("run", "--objective", objective, *FAST, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["config"]["loss_type"] == loss_type and found["data"]["name"] == "preferences"
    assert {"margin", "accuracy", "chosen"} <= found["history"][-1].keys()
    assert "the same run is stored" in ftkit("run", "--objective", objective, *FAST)[2]


def test_a_reward_of_ones_own_is_interrupted_resumed_and_exported(ftkit, folder, monkeypatch):
    from ftkit.experiment import preferences

    def stop(row):
        if row["step"] == 2:
            raise KeyboardInterrupt

    words = ["run", "--objective", "grpo", "--data", "prompts.jsonl", "--reward",
             "my_rewards:words", *DRAWN]
    whole = json.loads(ftkit(*words, "--json")[1])
    lab = preferences.GRPO("my_rewards:words", data="prompts.jsonl", probes=["none"][1:])
    config = options.config(options.parse(list(map(str, words))))
    part = lab.run(config, save_steps=0, on_row=stop, live=False)
    status, out, err = ftkit("run", "--resume", part.id, "--out", "tuned", "--json", "--quiet")
    assert status == 0, err
    found = json.loads(out)
    for mine, yours in zip(found["history"], whole["history"], strict=True):
        assert {"reward", "kl", "entropy", "length", "dead"} <= mine.keys()
        for key in ("reward", "kl", "entropy", "length", "loss"):
            assert mine[key] == pytest.approx(yours[key], abs=1e-6), key
    assert ftkit("export", "tuned", "merged")[0] in (0, 2) and (folder / "tuned").is_dir()
    assert store.load_run(part.id).data["held_still"]["reward"].startswith("my_rewards:words ")


def test_distillation_from_a_teacher_lowers_the_divergence(ftkit, folder):
    words = ["run", "--objective", "rloo", "--data", "prompts.jsonl", "--reward",
             "my_rewards:words", *DRAWN, "--beta", 0.05, "--out", "teacher"]
    assert ftkit(*words)[0] == 0
    status, out, err = ftkit("run", "--objective", "distill", "--teacher", "teacher", "--data",
                             "prompts.jsonl", *FAST, "--lmbda", 0, "--beta", 0, "--max-steps", 8,
                             "--json")
    rows = json.loads(out)["history"]
    assert status == 0 and rows[0]["kl"] > 0, err
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[0]["on_policy"] == 0


def test_a_reward_that_never_differs_is_a_note(ftkit, folder):
    status, out, err = ftkit("run", "--objective", "grpo", "--data", "prompts.jsonl", "--reward",
                             "my_rewards:same", *DRAWN)
    assert status == 0 and "earned the same reward in every step" in out, err


WRONG = {
    "--objective dpo --data prompts.jsonl": "DPO needs preference records, but prompts.jsonl",
    "--objective grpo --data prompts.jsonl": "--objective grpo needs --reward",
    "--objective distill": "--objective distill needs --teacher",
    "--objective sft --reward exact": "--reward belongs to --objective grpo or rloo",
    "--objective ppo": "objective is 'ppo'; expected one of sft, dpo",
    "--num-generations 4": "objective sft does not use num_generations",
    "--objective kto --loss-type ipo": "objective kto means kto",
    "--objective dpo --ranks 2": "cannot be combined with --ranks",
    "--objective grpo --reward exakt": "reward is 'exakt'; expected exact, contains, number",
    "--objective grpo --reward my_rewards:gone": "my_rewards has no function gone",
    "--objective grpo --reward nowhere:f": "importing nowhere raised ModuleNotFoundError",
    "--objective grpo --reward my_rewards:wrong_key":
        "the reward wrong_key raised KeyError: 'answer' (my_rewards.py, line 6)",
    "--objective grpo --data prompts.jsonl --reward my_rewards:none": "none returned NaN",
}


@pytest.mark.parametrize("line", WRONG)
def test_unusable_input_gets_one_sentence_and_status_2(ftkit, folder, line):
    drawn = DRAWN if "grpo" in line else FAST
    status, out, err = ftkit("run", *line.split(), *drawn)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("ftkit: ") and WRONG[line] in err


def test_memory_knows_every_objective(ftkit, folder):
    for objective in ("dpo", "ipo", "kto", "orpo", "simpo", "grpo", "rloo", "distill"):
        status, out, err = ftkit("memory", "--objective", objective, "--json")
        assert status == 0 and json.loads(out)["per_gpu"]["peak"] > 0, err


def test_the_checks_pay_what_they_say():
    record = {"instruction": "2 + 1,000?", "output": "It is 1,002."}
    assert rewards.exact("it is 1,002", record) == 1 and rewards.exact("1002", record) == 0
    assert rewards.number("So: 1002", record) == 1 and rewards.number("1002 or 7", record) == 0
    assert rewards.number("none", record) == 0
    assert rewards.contains("I say it is 1,002. Or 7.", record) == 1
    assert rewards.contains("paris", {"instruction": "", "output": "Par"}) == 0
