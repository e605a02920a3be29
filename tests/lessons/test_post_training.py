"""What lessons 20a to 20d train with: reward model, PPO, the tool environment, the clinic of RL."""

import dataclasses
import random

import pytest
import torch

import ftkit as ft
from ftkit.base.errors import UserError
from ftkit.data import encoding
from ftkit.experiment import preferences
from ftkit.lessons.bugs import rl_runs
from ftkit.lessons.by_hand import ppo, reward_model, tool_use


@pytest.fixture(scope="module")
def base():
    return ft.load("tiny")


@pytest.fixture(scope="module")
def pairs(base):
    return preferences.pair_examples(ft.records("preferences")[:32], base[1])


# ----------------------------------------------------------------- reward model and PPO


def test_a_score_does_not_depend_on_the_padding(base, pairs):
    scorer = reward_model.Scorer(base[0])
    torch.nn.init.normal_(scorer.head.weight)
    examples = [pairs[0][0], pairs[1][1], pairs[2][1]]
    with torch.no_grad():
        alone = torch.cat([scorer([example]) for example in examples])
        assert torch.allclose(scorer(examples), alone, atol=1e-4)
        last = base[0](torch.tensor([examples[0]["input_ids"]]),
                       output_hidden_states=True).hidden_states[-1][0, -1]
        assert torch.allclose(scorer.head(last)[0], alone[0], atol=1e-4)


def test_a_reward_model_starts_without_a_preference_and_learns_its_pairs(base, pairs):
    assert reward_model.margins(reward_model.Scorer(base[0]), pairs).abs().max() == 0
    trained = reward_model.train(base[0], pairs, steps=12)
    assert (reward_model.margins(trained, pairs) > 0).float().mean() > 0.8


def test_a_critic_predicts_before_each_answer_token(base, pairs):
    critic = reward_model.Scorer(base[0])
    torch.nn.init.normal_(critic.head.weight)
    examples = [pairs[0][0], pairs[1][1]]
    with torch.no_grad():
        found = ppo.values(critic, examples)
        for row, example in zip(found, examples, strict=True):
            asked = example["labels"].count(encoding.NO_LOSS)
            for t in range(asked, len(example["labels"])):
                before = {"input_ids": example["input_ids"][:t]}
                assert torch.allclose(row[t - asked], critic([before])[0], atol=1e-4)


def test_ppo_trains_a_copy_and_reports_each_step(base):
    weights = [p.clone() for p in base[0].parameters()]
    policy, rows = ppo.train(lambda answer, record: float(len(answer) % 2), *base,
                             ft.records("to_negative")[:8], steps=2, batch_size=4)
    assert [row["step"] for row in rows] == [1, 2] and rows[0]["kl"] == 0
    assert all(map(torch.equal, weights, base[0].parameters()))
    assert not all(map(torch.equal, weights, policy.parameters()))


# ----------------------------------------------------------------- tools


@pytest.mark.parametrize("call, said", [
    ("add six seven", "thirteen"), ("add ten ten", "twenty"), ("add twenty one", "error"),
    ("find Anna", "four"), ("find Nobody", "error"), ("add six", "error"), ("six", "error"),
    ("", "error"), ("add six Anna", "error")])
def test_the_environment_answers_calls_and_nothing_else(call, said):
    assert tool_use.use(call, {"table": {"Anna": "four"}}) == said


def test_a_right_call_gives_the_right_answer_and_tables_differ():
    records = tool_use.questions(100)
    assert all(tool_use.use(r["call"], r) == r["output"] for r in records)
    assert len({r["table"]["Anna"] for r in records}) > 10
    assert records == tool_use.questions(100) != tool_use.questions(100, seed=1)


def test_only_the_tokens_of_the_policy_are_labeled(base):
    _, tokenizer = base
    record = tool_use.questions(1)[0]
    call, answer = (tokenizer(f" {text}", add_special_tokens=False)["input_ids"] + [2]
                    for text in (record["call"], record["output"]))
    episode = tool_use.assemble(tokenizer, record, call, answer)
    labels = tool_use.example(episode)["labels"]
    assert [token for token in labels if token != encoding.NO_LOSS] == call + answer
    assert tool_use.right(episode) == 1 and episode.result == record["output"]
    shown = tokenizer.decode([token for token, writer in zip(
        episode.ids, episode.writers, strict=True) if writer in (tool_use.QUESTION, tool_use.TOOL)])
    assert f"Tool: {record['output']}" in shown and record["instruction"] in shown


def test_a_list_that_contains_the_answer_is_not_right():
    record = {"output": "six", "instruction": "?", "table": {}}
    made = [tool_use.Episode(record, "", "", answer, [], []) for answer in
            ("six", "Six.", "six or seven", "seven", "find six", "")]
    assert [tool_use.right(episode) for episode in made] == [1, 1, 0, 0, 0, 0]
    assert tool_use.measures(made)["lists"] == pytest.approx(1 / 6)


# ----------------------------------------------------------------- how RL fails


def short(**options):
    return rl_runs.train(rl_runs.Settings(steps=2, **options), seed=1).rows


def test_in_a_healthy_run_sampler_and_trainer_agree_and_nothing_is_clipped_at_first():
    for row in short():
        assert row["mismatch"] < 1e-4 and row["clipped"] == 0


@pytest.mark.parametrize("prompt", ["{} Answer:", "System: Be brief.\n{}",
                                    "User: Hello.\nAssistant: Hello.\n{}"])
def test_another_template_shows_as_a_mismatch_before_the_first_update(prompt):
    assert short(prompt=prompt)[0]["mismatch"] > 0.01


def test_an_old_copy_shows_as_a_mismatch_that_grows():
    first, second = short(refresh=12)
    assert first["mismatch"] < 1e-4 < second["mismatch"]


@pytest.mark.parametrize("shift", [1, 2, -1])
def test_displaced_log_probabilities_are_clipped_before_anything_has_changed(shift):
    assert short(shift=shift)[0]["clipped"] > 0


def test_a_checker_that_accepts_nothing_makes_every_group_dead():
    assert {row["dead"] for row in short(reward="equal to the reference in lower case")} == {1.0}


def test_eleven_cases_in_a_row_have_eleven_causes_with_drawn_parameters():
    assert len(rl_runs.CAUSES) == 11
    for cause in rl_runs.CAUSES.values():
        drawn = [cause.draw(random.Random(seed)) for seed in range(8)]
        assert all(rl_runs.Settings(**options) != rl_runs.Settings() for options in drawn)
        assert set(cause.also) <= set(rl_runs.CAUSES)
        assert cause.name == "healthy" or len({str(options) for options in drawn}) > 1


def test_a_case_is_read_named_and_repaired(capsys, monkeypatch, home):
    cause = rl_runs.CAUSES["wrong_old"]
    quick = dataclasses.replace(cause, draw=lambda rng: {"shift": 1, "steps": 1})
    case = rl_runs.Case(0, quick)
    assert "RL case 0" in repr(case) and "clipped" in case.ask("clipped") + "clipped"
    assert not case.guess("healthy") and case.guess("wrong_old")
    assert "clipped at step 1" in case.repair(steps=1, learning_rate=1e-5).text
    with pytest.raises(UserError, match="reading is 'loss'; expected one of exact match"):
        case.ask("loss")
    with pytest.raises(UserError, match="repair takes fields of the settings"):
        case.repair(rate=1)
