"""Try ftkit on this machine and print one line for docs/MACHINES.md: `python tests/try_machine.py`.

It runs what a new user runs: the doctor, a check of data, and a fine-tune of the embedded model.
Exit status 1 if something failed.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile


def ftkit(*words, folder: str) -> str:
    env = os.environ | {"FTKIT_HOME": folder, "PYTHONUTF8": "1"}
    done = subprocess.run([sys.executable, "-m", "ftkit", *words], cwd=folder, env=env,
                          capture_output=True, encoding="utf-8", stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"ftkit {' '.join(words)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def main() -> int:
    seen, result = {}, "works"
    with tempfile.TemporaryDirectory() as folder:
        try:
            seen = json.loads(ftkit("run", "--data", "translation", "--max-steps", "60", "--json",
                                    "--quiet", folder=folder))
            if not seen["after"]["val_loss"] < seen["before"]["val_loss"]:
                result = "val_loss does not fall"
            ftkit("check", "translation", folder=folder)
            json.loads(ftkit("doctor", "--json", folder=folder))
        except (RuntimeError, KeyError, ValueError) as error:
            result = f"fails: {' '.join(str(error).split())}"
    machine, versions = seen.get("machine", {}), seen.get("versions", {})
    print(f"| {platform.system()} {platform.release().split('-')[0]} {platform.machine()} | "
          f"{machine.get('name', '?')}, {machine.get('device', '?')} | "
          f"Python {platform.python_version()}, torch {versions.get('torch', '?')} | "
          f"{result} | {datetime.date.today()} |")
    return result != "works"


if __name__ == "__main__":
    sys.exit(main())
