"""What a new user brings along: a table of pandas, a large file, Chinese with emoji."""

import json
import os
import random
import shutil
import subprocess
import sys

import pytest

TOPICS = ["the tides", "a refund", "bread", "Vienna", "the moon", "a contract", "tea", "rust"]


def rows(n=40):
    return [{"instruction": f"Say something about {t} in {i} words.", "input": "",
             "output": f"Here are {i} words about {t}."}
            for i in range(n) for t in [TOPICS[i % len(TOPICS)]]]


def test_a_table_of_pandas_trains_as_the_same_records_do(home):
    import pandas

    import ftkit as ft

    frame = pandas.DataFrame([row | {"input": None} for row in rows()])
    of_table, of_list = (
        ft.Experiment(data=data, probes=()).run(max_steps=2, precision="fp32", live=False)
        for data in (frame, rows()))
    assert [row["loss"] for row in of_table.rows] == [row["loss"] for row in of_list.rows]


def test_chinese_with_emoji_is_trained_on(tmp_path, home, ftkit):
    path = tmp_path / "中文 😀.jsonl"
    path.write_text("".join(json.dumps({
        "instruction": f"请用一句话介绍{t}。", "input": f"第{i}次 🙏",
        "output": f"{t}很好 👍🏽，谢谢你！"}, ensure_ascii=False) + "\n"
        for i in range(40) for t in [["茶", "月亮", "合同", "面包"][i % 4]]), "utf-8")
    status, out, err = ftkit("run", "--data", path, "--max-steps", 3, "--json")
    assert status == 0 and json.loads(out)["history"][-1]["loss"] > 0, err


def measured(arguments, home) -> tuple[int, str, int]:
    """Status, stderr and peak bytes of `ftkit ARGUMENTS` in a process of its own. Not by
    getrusage: what that says begins at the size of the process that started it."""
    code = ("import sys; from ftkit.cli.main import main; status = main(sys.argv[1:]); "
            "peak = [line for line in open('/proc/self/status') if line.startswith('VmHWM:')]; "
            "print(peak[0].split()[1], file=sys.stderr); sys.exit(status)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True,
                          env={**os.environ, "FTKIT_HOME": str(home)}, timeout=500)
    *rest, peak = done.stderr.splitlines()
    return done.returncode, "\n".join(rest), int(peak) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak is read in /proc")
def test_a_large_file_takes_less_memory_than_twice_its_size(tmp_path, home):
    rng, path = random.Random(0), tmp_path / "large.jsonl"
    words = "the sea was calm when a small boat left the old harbor for the island".split()
    with open(path, "w", encoding="utf-8") as file:
        for i in range(120_000):  # short ones, of which dicts would take three times the file
            text = " ".join(rng.choices(words, k=18))
            file.write(json.dumps({"instruction": f"Sum up note {i}.", "input": text,
                                   "output": text[:30]}) + "\n")
    small = tmp_path / "small.jsonl"
    with open(path, encoding="utf-8") as file:  # enough for steps and evaluations of the same size
        small.write_text("".join(file.readline() for _ in range(6_000)), "utf-8")
    size = path.stat().st_size - small.stat().st_size
    for command in (["check"], ["run", "--again", "--max-steps", "2", "--data"]):
        # The peak of the steps varies by 20 MiB, so take the larger of two runs.
        bare = max(measured([*command, str(small)], home)[2] for _ in range(2))
        status, told, peak = measured([*command, str(path)], home)
        assert status == 0, told[-500:]
        print(f"{command[0]}: {(peak - bare) / size:.2f} times the {size / 2**20:.0f} MiB file")
        assert peak - bare < 2 * size


def test_without_a_network_a_model_of_the_hub_comes_from_its_cache_or_is_refused_at_once(
        home, tmp_path, monkeypatch):
    from huggingface_hub import constants

    import ftkit as ft
    from ftkit.model import loading

    def no_address(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_address)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "models--me--toy"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("abc")
    shutil.copytree(loading.tiny_path(), kept / "snapshots" / "abc")
    model, tokenizer = ft.load("me/toy")
    assert model.name_or_path == "me/toy"  # what an adapter names as its base
    assert tokenizer("tea")["input_ids"] == ft.load("tiny")[1]("tea")["input_ids"]
    with pytest.raises(ValueError, match="'me/other': it is not on this machine, and .* cannot be"):
        ft.load("me/other")
