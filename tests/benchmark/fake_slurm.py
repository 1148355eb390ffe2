"""Slurm's commands as far as submitit uses them, for one machine: installed under the name of each in a folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("sbatch", "srun", "sacct", "squeue", "scancel", "scontrol")
STATE = Path(os.environ.get("FAKE_SLURM", ""))


def install(folder: Path) -> None:
    """Write the commands into ``folder/bin``; what they do is kept in ``folder``, which FAKE_SLURM must name."""
    (folder / "bin").mkdir(parents=True)
    for name in NAMES:
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        script.chmod(0o755)


def sbatch(file: str) -> None:
    text = Path(file).read_text()
    if "--partition=nowhere" in text:
        sys.exit("sbatch: error: invalid partition specified: nowhere")
    number = str(4711 + len(list(STATE.glob("*.sbatch"))))
    script = STATE / f"{number}.sbatch"
    script.write_text(text)
    (STATE / f"{number}.variables").write_text("\n".join(name for name in os.environ if name.startswith("SLURM_")))
    array = re.search(r"--array=0-(\d+)", text)
    for index in range(int(array[1]) + 1) if array else [None]:
        queue(number if index is None else f"{number}_{index}")
    print(f"Submitted batch job {number}")


def queue(name: str) -> None:
    (STATE / f"{name}.state").write_text("PENDING")
    with (STATE / f"{name}.log").open("a") as log:
        subprocess.Popen(
            [sys.executable, __file__, "node", name.partition("_")[0], name],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def queue_again(name: str) -> None:
    """Do what Slurm does with a preempted job a little later; in a process that ends at once."""
    subprocess.run([sys.executable, __file__, "queue", name], check=True)


def preempt(name: str, folder: Path) -> None:
    """End a job in favour of another, without a grace time."""
    (folder / f"{name}.preempted").touch()
    os.killpg(int((folder / f"{name}.pid").read_text()), signal.SIGKILL)


def node(number: str, name: str) -> None:
    """Run a job, again each time that it has been queued again."""
    task = name.partition("_")[2]
    identity = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task} if task else {}
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_NTASKS": "1", **identity}
    while True:
        (STATE / f"{name}.state").write_text("RUNNING")
        done = subprocess.Popen(["bash", STATE / f"{number}.sbatch"], env=environment, start_new_session=True)
        (STATE / f"{name}.pid").write_text(str(done.pid))
        code = done.wait()
        if not (STATE / f"{name}.requeue").exists():
            break
        (STATE / f"{name}.requeue").unlink()
    if (mark := STATE / f"{name}.preempted").exists():
        mark.unlink()
        (STATE / f"{name}.state").write_text("PREEMPTED")
        return
    (STATE / f"{name}.state").write_text("COMPLETED" if code == 0 else "FAILED")


def srun(*words: str) -> None:
    """Become the command, its output where --output and --error say."""
    at = words.index("--error") + 2
    options = dict(zip(words[1:at:2], words[2:at:2], strict=True))
    ids = {"%A": "SLURM_ARRAY_JOB_ID", "%a": "SLURM_ARRAY_TASK_ID", "%j": "SLURM_JOB_ID"}
    for descriptor, option in ((1, "--output"), (2, "--error")):
        path = options[option].replace("%t", "0")
        for mark, variable in ids.items():
            path = path.replace(mark, os.environ.get(variable, ""))
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.execvp(words[at], words[at:])


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for file in sorted(STATE.glob("*.state")):
        print(f"{file.stem}|{file.read_text()}|n1")


def squeue(*_: str) -> None:
    """List jobs with their states, ended ones too; tests take out of the queue what ``<job>.absent`` names."""
    if (STATE / "squeue.refuses").exists():
        sys.exit("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    for file in sorted(STATE.glob("*.state")):
        if not file.with_suffix(".absent").exists():
            print(f"{file.stem}|{file.read_text().split()[0]}")


def scancel(name: str, flag: str = "", number: str = "SIGTERM") -> None:
    """Signal all processes of a job."""
    for file in STATE.glob(f"{name}*.pid") if "_" not in name else [STATE / f"{name}.pid"]:
        if not flag:
            file.with_suffix(".state").write_text("CANCELLED by 0")
        try:
            os.killpg(int(file.read_text()), getattr(signal, f"SIG{number.removeprefix('SIG')}"))
            if not flag:
                time.sleep(0.5)
                os.killpg(int(file.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            pass


def scontrol(verb: str, name: str) -> None:
    assert verb == "requeue"
    (STATE / f"{name}.requeue").touch()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
