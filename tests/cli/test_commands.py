"""The command line: one JSON object out, one sentence when the request is wrong."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types

import malformed
import pytest
from helpers import ROOT, numbers, start

from ftkit.base.progress_bar import Bar
from ftkit.cli import options, terminal_text

pytestmark = pytest.mark.quick

STAR = {"id", "config", "trainable_parameters", "total_parameters", "before", "after", "history",
        "tokens", "supervised_tokens", "seconds", "tokens_per_second", "peak_memory_bytes",
        "predicted_memory_bytes", "end", "stopped", "machine", "versions", "data"}
FAST = ["--max-steps", "3", "--batch-size", "4", "--precision", "fp32"]
GOOD = numbers(20)


class Screen(io.StringIO):
    def isatty(self):
        return True


def jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def assert_one_sentence(status, out, err):
    assert status == 2, (out, err)
    assert not out and err.startswith("ftkit: ") and err.count("\n") == 1, (out, err)
    assert "Traceback" not in err and "Error:" not in err


# ------------------------------------------------------------------------------- ftkit run


@pytest.mark.heavy
def test_run_prints_one_json_object_and_progress_on_stderr(home):
    done = start("run", "--data", "translation", *FAST, "--json",
                 env=os.environ | {"FTKIT_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() >= STAR and len(done.stdout.splitlines()) == 1
    assert found["config"]["max_steps"] == 3 and found["config"]["method"] == "full"
    assert [row["step"] for row in found["history"]] == [1, 2, 3]
    assert found["before"].keys() == found["after"].keys() == {"val_loss", "general_loss"}
    assert found["data"].keys() >= {"name", "rows", "sha256"}
    assert "step 3, loss" in done.stderr and "100%" in done.stderr
    assert (home / "runs" / found["id"] / "rows.jsonl").exists()


@pytest.mark.heavy
def test_run_reports_to_a_person_in_a_table_and_a_sentence(ftkit, tmp_path, home):
    data = jsonl(tmp_path / "mine.jsonl", GOOD)
    status, out, err = ftkit("run", "--data", data, *FAST, "--probe", "none", "--quiet")
    assert status == 0 and not err
    assert "(18 records)" in out and "val_loss" in out
    assert "loss fell from" in out or "loss rose from" in out


def test_a_wrong_address_is_reported_before_the_lessons_are_copied(ftkit, tmp_path):
    status, out, err = ftkit("lab", tmp_path / "mine", "--ip", "999.1.1.1", "--no-browser")
    assert_one_sentence(status, out, err)
    assert "--ip is '999.1.1.1'" in err and not (tmp_path / "mine").exists()


def test_a_pipe_is_read_once():
    records = "".join(json.dumps(record) + "\n" for record in GOOD)
    done = start("check", "/dev/stdin", input=records)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("20 rows, 0 errors")


def test_a_closed_output_and_a_full_log_cost_nothing(home):
    done = subprocess.run(f"{sys.executable} -m ftkit runs >&-", shell=True, cwd=ROOT,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    device = os.open("/dev/full", os.O_WRONLY)
    full = types.SimpleNamespace(write=lambda text: os.write(device, b"x"))
    Bar("training", stream=full)(0.5, "loss 1.23")
    os.close(device)


LIGHT = ["--help", "run --help", "check {data}", "runs", "drill --list", "memory --models",
         "memory --model 7.5B --gpu 24GB"]


def test_commands_that_train_nothing_import_no_heavy_package(tmp_path, home):
    code = """
import contextlib, io, json, sys
from ftkit.cli.main import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    names = {name.partition(".")[0] for name in sys.modules}
    print(json.dumps([words, status, sorted(names & set(json.loads(sys.argv[2])))]))
"""
    heavy = ["torch", "transformers", "peft", "bitsandbytes", "matplotlib", "pandas",
             "datasets", "tokenizers", "huggingface_hub", "IPython", "ipywidgets"]
    data = str(jsonl(tmp_path / "mine.jsonl", GOOD))
    commands = [line.format(data=data).split() for line in LIGHT]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(commands), json.dumps(heavy)],
                          env=os.environ | {"FTKIT_HOME": str(home)}, cwd=ROOT,
                          capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        words, status, imported = json.loads(line)
        assert (status in (0, 3), imported) == (True, []), (words, done.stderr)


def test_every_field_of_config_is_an_option(ftkit):
    import dataclasses

    from ftkit.base.config import Config

    _, out, _ = ftkit("run", "--help")
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in out
    for option in ("--model", "--data", "--val", "--probe", "--max-steps", "--out", "--json"):
        assert option in out


@pytest.mark.heavy
def test_val_probe_and_out_do_what_they_say(ftkit, tmp_path, home):
    data = jsonl(tmp_path / "mine.jsonl", GOOD)
    val, probe = jsonl(tmp_path / "v.jsonl", GOOD[:4]), jsonl(tmp_path / "facts.jsonl", GOOD[4:8])
    out = tmp_path / "adapter"
    status, said, err = ftkit("run", "--data", data, "--val", val, "--probe", probe, "--probe",
                              "general", "--method", "lora", *FAST, "--out", out, "--json")
    assert status == 0, err
    found = json.loads(said)
    assert found["after"].keys() == {"val_loss", "facts_loss", "general_loss"}
    assert found["data"]["rows"] == 20 and found["saved_to"] == str(out)
    assert (out / "adapter_model.safetensors").exists()
    assert_one_sentence(*ftkit("run", "--data", data, "--out", out))


@pytest.mark.heavy
@pytest.mark.parametrize("words, told", [
    ((), "expected one such as lab"),
    (("mock",), "no command 'mock'. The mock interview is `ftkit drill --interview`"),
    (("compare", "a", "b"), "no command 'compare'. `ftkit runs ID ID`"),
    (("rn",), "no command 'rn'; did you mean run"),
    (("run", "--learning-rte", "1"), "unknown option --learning-rte; did you mean --learning-rate"),
    (("run", "more"), "'more' is one word too many"),
    (("run", "--epochs"), "--epochs: expected one argument"),
    (("run", "--learning-rate", "fast"), "learning_rate is 'fast'; expected a number"),
    (("run", "--learning-rate", "nan"), "learning_rate is nan"),
    (("run", "--method", "loro"), "expected one of full, lora, qlora"),
    (("run", "--batch-size", "0"), "batch_size is 0"),
    (("run", "--packing", "maybe"), "packing is 'maybe'; expected true or false"),
    (("run", "--data", "translaton"), "did you mean translation"),
    (("run", "--probe", "generol"), "did you mean general"),
    (("run", "--data", "nowhere.jsonl"), "no such file"),
    (("run", "--data", "."), "ftkit: "),
    (("run", "--model", "tinny"), "no model 'tinny'; expected tiny"),
    (("run", "--max-length", "100000"), "max_length is 100000, longer"),
    (("check", "nowhere.jsonl"), "no such file"),
    (("check", "nowhere.jsonl", "--max-length", "x"), "--max-length is 'x'"),
    (("runs", "1999"), "'1999' names no run"),
    (("fetch", "smolm2"), "did you mean smollm2"),
    (("lab", "--port", "x"), "--port is 'x'"),
    (("run", "--torchrun", ""), "torchrun is empty"),
    (("run", "--probe", " "), "probes is empty"),
    (("run", "--bs", "4"), "did you mean --batch-size"),
    (("run", "--out", "/dev/null/out"), "cannot be written (Not a directory)"),
    (("run", "--out", "x" * 300), "cannot be written (File name too long)"),
    (("run", "--model", "x" * 300), "File name too long"),
    (("check", "x" * 300), "File name too long"),
    (("check", "/dev/zero"), "a device; expected a data file"),
    (("drill", "--export", "/nowhere/x.csv"), "'/nowhere/x.csv': No such file or directory"),
    (("memory", "--model", "0"), "the shape of '0' is not known"),
    (("memory", "--model", "1e400"), "the shape of '1e400' is not known"),
])
def test_a_wrong_request_is_one_sentence_and_status_2(ftkit, home, words, told):
    status, out, err = ftkit(*words)
    assert_one_sentence(status, out, err)
    assert told in err
    assert not home.exists()


@pytest.mark.parametrize("case", malformed.CASES, ids=lambda case: case.name)
def test_a_malformed_file_trains_nothing_and_writes_nothing(case, ftkit, tmp_path, home):
    path = case.write(tmp_path)
    before = sorted(tmp_path.iterdir())
    status, out, err = ftkit("run", "--data", path, "--json", "--out", tmp_path / "out")
    assert_one_sentence(status, out, err)
    assert str(path) in err
    if case.line and case.content.strip():
        assert f"line {case.line}" in err
    assert not home.exists() and sorted(tmp_path.iterdir()) == before


def test_bad_data_is_reported_before_torch_is_loaded(tmp_path, home):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"instruction": "a", "output": ""}\n')
    code = ("import sys; from ftkit.cli.main import main; "
            "status = main(['run', '--data', sys.argv[1]]); "
            "print(status, 'torch' in sys.modules, 'transformers' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True,
                          check=True)
    assert done.stdout.split() == ["2", "False", "False"]


@pytest.mark.heavy
def test_a_record_too_long_for_max_length_trains_nothing(ftkit, tmp_path, home):
    records = [*GOOD, {"instruction": "word " * 300, "input": "", "output": "end"}]
    status, out, err = ftkit("run", "--data", jsonl(tmp_path / "long.jsonl", records),
                             "--val", jsonl(tmp_path / "v.jsonl", GOOD), "--max-length", "64",
                             "--quiet")
    assert_one_sentence(status, out, err)
    assert "line 21" in err and not home.exists()


@pytest.mark.heavy
def test_a_long_record_in_the_validation_part_is_reported_by_its_line(ftkit, tmp_path, home):
    path = malformed.TOO_LONG.write(tmp_path)
    status, out, err = ftkit("run", "--data", path, "--quiet")
    assert_one_sentence(status, out, err)
    assert f"{path} line {malformed.TOO_LONG.line}" in err and not home.exists()


@pytest.mark.heavy
def test_ctrl_c_keeps_the_rows_so_far_and_says_where(home):
    words = "run --data translation --max-steps 5000 --batch-size 4 --eval-steps 5000 --json"
    child = subprocess.Popen(
        [sys.executable, "-m", "ftkit", *words.split()], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # A shell starts what it puts in the background deaf to Ctrl-C, and so its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        wait_for_rows(home, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=120)
    finally:
        child.kill()
    assert child.returncode == 130, err
    found = json.loads(out)
    assert found["stopped"].startswith("interrupted after step")
    kept = home / "runs" / found["id"]
    assert str(kept) in err and "Traceback" not in err
    assert len((kept / "rows.jsonl").read_text().splitlines()) == len(found["history"]) > 0


def wait_for_rows(home, child, seconds=120):
    until = time.time() + seconds
    while time.time() < until and child.poll() is None:
        if any(path.stat().st_size for path in home.glob("runs/*/rows.jsonl")):
            return
        time.sleep(0.05)
    child.kill()
    pytest.fail("no row was written: " + child.communicate()[1])


def test_a_failure_of_ours_is_status_1_and_one_line(ftkit, monkeypatch, home):
    from ftkit.experiment import experiment

    def breaks(*args, **options):
        raise RuntimeError("something deep\nwith details")

    monkeypatch.setattr(experiment, "Experiment", breaks)
    status, out, err = ftkit("run")
    assert status == 1 and not out
    assert err == "ftkit: RuntimeError: something deep (FTKIT_DEBUG=1 shows where)\n"
    monkeypatch.setenv("FTKIT_DEBUG", "1")
    status, out, err = ftkit("run")
    assert status == 1 and "Traceback" in err


def test_a_value_error_from_a_library_is_no_mistake_of_the_user(ftkit, monkeypatch, home):
    from ftkit.experiment import experiment

    monkeypatch.setattr(experiment, "Experiment", lambda **options: json.loads("{"))
    assert ftkit("run")[0] == 1


# ------------------------------------------------------------------- check, runs, doctor, fetch


def test_check_gives_the_json_of_the_audit(ftkit, tmp_path, home):
    records = [*GOOD, GOOD[0], {"instruction": "Say it.", "input": "", "output": ""}]
    path, other = jsonl(tmp_path / "mine.jsonl", records), jsonl(tmp_path / "test.jsonl", GOOD[:3])
    status, out, err = ftkit("check", path, "--against", other, "--json")
    found = json.loads(out)
    assert status == 2 and err.startswith(f"ftkit: {path} line 22, field 'output': empty")
    assert found.keys() == {"rows", "errors", "warnings", "duplicates", "near_duplicates",
                            "lengths", "leaks", "suspected", "mend", "notes"}
    assert "--skip --dedup --against" in found["mend"]["command"] and found["mend"]["lost"] == 5
    assert found["rows"] == 22 and found["duplicates"] == 1 and found["leaks"] == 4
    assert [e["row"] for e in found["errors"]] == [22]
    assert not home.exists()


@pytest.mark.heavy
def test_check_of_a_good_file_is_status_0_and_counts_tokens_on_request(ftkit, tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", GOOD)
    status, out, err = ftkit("check", path)
    assert status == 0 and not err and out.startswith("20 rows, 0 errors")
    status, out, err = ftkit("check", path, "--model", "tiny", "--json")
    assert status == 0 and json.loads(out)["lengths"]["response_tokens"]["max"] >= 2


def test_check_takes_a_sample_by_its_name(ftkit):
    status, out, _ = ftkit("check", "translation", "--against", "translation")
    assert status == 0 and "translation.train.jsonl" in out


def test_check_lists_each_error_once_and_counts_them(ftkit, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"output": 1}\n{}\nnot json\n')
    status, out, err = ftkit("check", path)
    listed = out.count("\nerror line")
    assert status == 2 and listed >= 3
    assert err == f"ftkit: {path} has {listed} errors, listed in the report\n"
    path.write_text('{"instruction": "a", "output": 1}\n')
    _, out, err = ftkit("check", path)
    assert out.startswith("1 row, 1 error, 0 warnings") and err.endswith("has 1 error, listed in "
                                                                         "the report\n")


def test_check_reports_what_all_rows_have_once_and_what_to_do(ftkit, tmp_path):
    path = tmp_path / "desk.csv"
    path.write_text("Frage,Antwort\n" + "Where?,Here.\n" * 42)
    _, out, _ = ftkit("check", path)
    told = [line for line in out.splitlines() if line.startswith(("error", "..."))]
    assert len(told) == 1 and told[0].startswith("error line 2 and 41 more lines: no known field")
    assert "expected instruction and output" in told[0]
    path.write_text("bad,instruction,output\n" + "".join(
        f"x,{'' if n % 2 else 'Why?'},{'' if n % 3 else 'So.'}\n" for n in range(60)))
    _, out, err = ftkit("check", path)
    listed = [line for line in out.splitlines() if line.startswith("error")]
    assert len(listed) == 2 and "has 70 errors" in err, (listed, err)


def test_unused_fields_are_listed_in_the_order_of_the_file(tmp_path):
    from ftkit.data import audit

    names = [f"column {n}" for n in (7, 3, 9, 1, 8, 2)]
    path = jsonl(tmp_path / "wide.jsonl", [GOOD[0] | dict.fromkeys(names, "x")])
    told = [problem["field"] for problem in audit.check(path)["warnings"]]
    assert told == names


def test_several_runs_end_with_what_differs(ftkit, home):
    some_runs(2)
    ids = [run["id"] for run in json.loads(ftkit("runs", "--json")[1])["runs"]]
    status, out, err = ftkit("runs", *ids)
    assert status == 0, err
    assert "differ" in out.splitlines()[-1] and "seed" in out.splitlines()[-1]
    assert "differ" not in ftkit("runs", ids[0])[1]
    assert ftkit("runs", ids[0], ids[0])[0] == 0


def test_a_run_of_few_steps_says_how_to_train_longer():
    from ftkit.base.config import Config
    from ftkit.cli import main

    def told(steps, **fields):
        run = types.SimpleNamespace(stopped=None, last_step=steps, config=Config(**fields))
        return main._short(run)

    assert "only 3 steps" in told(3)[0] and "--epochs 20" in told(3)[0]
    assert told(10) == told(3, max_steps=3) == []


def test_a_cut_answer_shows_that_it_is_cut(home):
    from ftkit.cli import main

    long = "one " * 40
    run = types.SimpleNamespace(samples=[
        {"prompt": "short?", "reference": long, "step": step, "answer": long[:60]}
        for step in (0, 9)])
    told = "\n".join(main._samples(run))
    assert told.count("…") == 1 and "short?" in told and long[:59] in told


@pytest.mark.heavy
def test_runs_lists_what_was_run_and_shows_one_again(ftkit, tmp_path, home):
    status, out, _ = ftkit("runs")
    assert status == 0 and "No runs" in out and not home.exists()
    assert json.loads(ftkit("runs", "--json")[1]) == {"runs": []}
    data = jsonl(tmp_path / "mine.jsonl", GOOD)
    _, told, _ = ftkit("run", "--data", data, *FAST, "--probe", "none", "--quiet", "--json")
    first = json.loads(told)
    _, out, _ = ftkit("runs")
    assert first["id"] in out and "max_steps=3" in out
    again = json.loads(ftkit("runs", first["id"], "--json")[1])["runs"]
    assert again == [first]
    assert first["id"] in ftkit("runs", first["id"][:-1])[1]


@pytest.mark.heavy
def test_the_same_run_is_reported_from_the_store_and_trained_only_again(ftkit, tmp_path, home):
    words = ("run", "--data", jsonl(tmp_path / "mine.jsonl", GOOD), *FAST, "--probe", "none",
             "--quiet", "--json")
    first = json.loads(ftkit(*words)[1])
    status, out, err = ftkit(*words)
    assert status == 0 and json.loads(out) == first
    assert f"stored as {first['id']}, so nothing was trained; --again" in err
    assert json.loads(ftkit(*words, "--seed", "1")[1])["id"] != first["id"]
    anew = json.loads(ftkit(*words, "--again")[1])
    assert anew["id"] != first["id"] and anew["config"] == first["config"]
    assert len(list((home / "runs").iterdir())) == 3
    status, _, err = ftkit(*words, "--out", tmp_path / "tuned")
    assert status == 0 and re.search(r"is stored as \S+, but without its weights", err)
    assert (tmp_path / "tuned").is_dir()


def some_runs(n: int):
    from ftkit.base.config import Config
    from ftkit.experiment import store
    from ftkit.experiment.run import Run

    for number in range(n):
        config = Config(seed=number, learning_rate=1e-3, max_steps=3, precision="bf16",
                        target_modules=("all-linear", "q_proj,k_proj,v_proj,o_proj")[number % 2],
                        method=("full", "lora")[number % 2])
        store.add(Run(f"20260101-0000{number:02}-abcd", config, "tiny", {"name": "tasks"}, 3,
                      rows=[{"step": 1, "loss": 1.0}] * 3,
                      before={"val_loss": 9.0, "general_loss": 2.0},
                      after={"val_loss": 1 / (number + 1), "general_loss": 2.0 + number}))


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_of_runs_fits_the_terminal(ftkit, home, monkeypatch, columns):
    some_runs(25)
    monkeypatch.setenv("COLUMNS", str(columns))
    _, out, _ = ftkit("runs")
    assert max(map(len, out.splitlines())) <= columns
    said = " ".join(out.split())
    assert "all with model=tiny, data=tasks" in said and "5 more: --limit 25" in said
    assert out.count("precision=bf16") == 1, "what all runs share is said once"
    assert out.count("20260101-") == 20
    if columns == 120:
        row = next(line for line in out.splitlines() if "000024-abcd" in line)
        assert "9.00 → 0.04" in row and "seed=24" in row


def test_runs_are_chosen_and_sorted(ftkit, home):
    some_runs(6)
    for words, seeds in (("", [0, 1, 2, 3, 4, 5]), ("--limit 2", [4, 5]),
                         ("--where method=lora --sort -val_loss --limit 2", [1, 3])):
        found = json.loads(ftkit("runs", "--json", *words.split())[1])["runs"]
        assert [run["config"]["seed"] for run in found] == seeds
    for words, told in ((("--where", "los<1"), "no run has 'los'"),
                        (("--where", "val_loss<low"), "expected a number"),
                        (("--sort", "los"), "no run has 'los'"),
                        (("--limit", "0"), "whole number"), (("2026", "--limit", "2"), "Leave")):
        status, out, err = ftkit("runs", *words)
        assert_one_sentence(status, out, err)
        assert told in err


def test_lines_break_at_words_and_a_pipe_gets_them_whole():
    from ftkit.cli import terminal_text

    text = "precision=bf16 and " * 10
    assert terminal_text.wrapped(text, None) == text
    lines = terminal_text.wrapped(text, 40).splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(" ".join(lines).split()) == text.strip()
    assert all(word in ("precision=bf16", "and") for word in " ".join(lines).split())


@pytest.mark.heavy
def test_doctor_finds_this_machine_well_enough_to_run_these_tests(ftkit, home):
    status, out, err = ftkit("doctor", "--json")
    found = json.loads(out)
    names = {check["name"]: check for check in found["checks"]}
    assert names["torch"]["found"] and names["python"]["state"] == "ok"
    assert names["tiny"]["state"] == names["device"]["state"] == "ok"
    assert all(check["advice"] for check in found["checks"] if check["state"] == "bad")
    assert (status == 0) == found["ok"] and not err
    assert found["can_run"]["full"] < found["can_run"]["lora"] < found["can_run"]["qlora"]
    assert not home.exists()


def test_doctor_reports_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    from ftkit.cli import doctor

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FTKIT_HOME", str(tmp_path / "file" / "home"))
    found = doctor._disk()
    assert found["state"] == "bad" and "set FTKIT_HOME" in found["advice"]


def test_doctor_says_what_to_do_about_a_damaged_model(ftkit, tmp_path, monkeypatch):
    from ftkit.model import loading

    tiny = loading.tiny_path()
    monkeypatch.setenv("FTKIT_TINY", str(tmp_path))
    shutil.copy(tiny / "SHA256", tmp_path)
    whole = (tiny / "model.safetensors").read_bytes()
    for weights, state in ((None, 1), (whole[:-1] + b"x", 1), (whole, 0)):
        if weights:
            (tmp_path / "model.safetensors").write_bytes(weights)
        status, out, _ = ftkit("doctor")
        assert status == state and ("BAD  tiny" in out) == ("-> install ftkit again" in out) == (
            state == 1)


def test_doctor_says_what_to_do_about_a_package_that_is_too_old(ftkit, monkeypatch):
    from importlib import metadata

    real = metadata.version
    monkeypatch.setattr(metadata, "version",
                        lambda name: "0.1" if name == "peft" else real(name))
    status, out, _ = ftkit("doctor")
    assert status == 1 and "peft" in out and "pip install 'peft>=" in out


def test_version_and_help_are_no_errors(ftkit):
    from ftkit import __version__

    assert ftkit("--version") == (0, f"ftkit {__version__}\n", "")
    status, out, _ = ftkit("--help")
    assert status == 0 and all(name in out for name in (
        "lab", "doctor", "run", "check", "fetch", "runs"))


def test_help_has_bold_headings_and_breaks_no_word_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(terminal_text, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pytest.raises(SystemExit):
        options.parse(["lab", "--help"])
    out = capsys.readouterr().out
    assert f"{terminal_text.BOLD}options{terminal_text.END}:" in out and "./ftkit-lessons)" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal_text.BOLD not in options.parser().format_help()


def test_nothing_stays_of_a_bar_that_never_moved():
    screen = Screen()
    bar = Bar("memory", stream=screen)
    bar.say("simulating")
    bar.close()
    assert screen.getvalue().split("\r")[-1].strip() == ""
    moved = Bar("training", stream=(screen := Screen()))
    moved(0.5, "loss 1.23")
    moved.close()
    assert "50%" in screen.getvalue().split("\r")[-1]


def test_a_closed_pipe_is_no_traceback():
    done = subprocess.run(f"{sys.executable} -m ftkit run --help | head -1", shell=True,
                          cwd=ROOT, capture_output=True, text=True)
    assert not done.stderr
