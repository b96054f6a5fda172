"""The batch runner: parameters refused before anything runs, runs that fail, stop, die and resume."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager

from lib.core import errors, files, paths, runs
from lib.workbook import cli, parameters, report, runner

FIRST, SECOND = "01_first", "02_second"


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Path:
    """A workbook of two small notebooks in a folder of its own; returns the run's folder."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    stages = {FIRST: runs.Stage((), ("a.json",), ()), SECOND: runs.Stage(("a.json",), ("b.json",), ())}
    monkeypatch.setattr(runs, "STAGES", stages)
    monkeypatch.setattr(report, "summary", lambda run: "summary")
    monkeypatch.setattr(report, "write", lambda run, record: (run / "report.html").write_text(record["status"]))
    notebook(tmp_path, FIRST, 'n = 1  # a number\nrun_dir = ""', write("a.json", "n"))
    notebook(tmp_path, SECOND, 'word = "x"  # a text\nrun_dir = ""', write("b.json", "word"))
    (tmp_path / "p.yaml").write_text(f"run_dir: {tmp_path / 'run'}\n")
    return tmp_path / "run"


def write(name: str, value: str) -> str:
    return f"import pathlib\npathlib.Path(run_dir, '{name}').write_text(str({value}))"


def notebook(tmp_path: Path, name: str, declared: str, code: str) -> None:
    v4 = nbformat.v4
    cells = [
        v4.new_code_cell(declared, metadata={"tags": ["parameters"]}),
        v4.new_markdown_cell("## The work"),
        v4.new_code_cell(code),
    ]
    made = v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    )
    (tmp_path / "notebooks").mkdir(exist_ok=True)
    nbformat.write(made, tmp_path / "notebooks" / f"{name}.ipynb")


def run(where: Path, *more: str) -> int:
    return cli.main(["run", str(where.parent / "p.yaml"), *more])


def record(where: Path) -> dict:
    return json.loads((where / "run.json").read_text())


# parameter files


def refused(tmp_path, text: str, *sets: str) -> str:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(errors.WorkbookError) as error:
        parameters.read(file, list(sets))
    assert str(error.value).startswith((str(file), *sets))
    return str(error.value)


def test_a_catalogue_in_place_of_a_parameter_file_is_sent_to_the_import(tmp_path):
    (tmp_path / "songs.csv").write_text("title,artist\n")
    for path in (tmp_path, tmp_path / "songs.csv"):
        with pytest.raises(errors.WorkbookError, match="make import FILE="):
            parameters.read(path, [])


def test_bad_parameter_files_are_refused_by_name(tmp_path):
    assert "(a tab: indent with spaces)" in refused(tmp_path, "seed: 7\n\tepochs: 3\n")
    assert 'duplicate key "seed"' in refused(tmp_path, "seed: 7\nseed: 8\n")
    assert "'epoch' (did you mean 'epochs'?)" in refused(tmp_path, "epoch: 3\n")
    assert "epochs is 'three', but must be a whole number" in refused(tmp_path, "epochs: three\n")
    assert "epochs is True" in refused(tmp_path, "epochs: true\n")
    assert "lr is 'fast', but must be a number" in refused(tmp_path, "", "lr=fast")
    assert "batch_size is 0, but must be between 2 and" in refused(tmp_path, "batch_size: 0\n")
    assert "lr is nan, but must be between 1e-08 and 0.1" in refused(tmp_path, "lr: .nan\n")
    assert "encoder is 'int8', but must be one of torch, onnx, static" in refused(tmp_path, "encoder: int8\n")
    assert "units holds ['s']; everything in it must be text" in refused(tmp_path, "units: {duration_ms: [s]}\n")
    assert "infer_moods holds 3" in refused(tmp_path, "infer_moods: [calm, 3]\n")
    assert "write key=value" in refused(tmp_path, "", "lr")
    assert "Quote a value that has spaces" in refused(tmp_path, "", "columns={title:")
    assert "write lines of `key: value`" in refused(tmp_path, "- a\n- b\n")
    assert "no notebook has a parameter 1" in refused(tmp_path, "1: 2\n")
    assert "not valid YAML" in refused(tmp_path, f"seed: {'[' * 3000}{']' * 3000}\n")
    assert "not valid YAML" in refused(tmp_path, f"seed: 1{'0' * 5000}\n")


@pytest.mark.parametrize("path", ["~nosuchuser/x", "loop", "a\0b"])
@pytest.mark.parametrize("command", ["serve --run", "promote", "index", "compare x", "run", "import", "playground"])
def test_a_path_that_leads_nowhere_is_an_error_in_a_line(tmp_path, capsys, monkeypatch, command, path):
    (tmp_path / "loop").symlink_to("pool")
    (tmp_path / "pool").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    assert cli.main([*command.split(), path if path != "loop" else str(tmp_path / path)]) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("value", ["a; touch x", "my run", "it's", 'a"`touch x`"', "~/runs"])
@pytest.mark.parametrize("command", ["run PARAMS", "promote RUN", "index RUN", "import FILE", "ask TEXT"])
def test_make_passes_a_value_on_as_one_word(tmp_path, command, value):
    program, (target, name) = tmp_path / "workbook", command.split()
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    make = ["make", "-s", "-o", ".venv/.ready", target, f"{name}={value}", f"BIN={tmp_path}"]
    ran = subprocess.run(make, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    # Before `ask`, make promotes or makes a run where there is none.
    assert f"{target}|{value}|" in ran.stdout and not (paths.ROOT / "x").exists()


def test_uninstall_leaves_the_runs(tmp_path):
    where = tmp_path / "a folder with spaces"
    cache, run = where / "home/.cache/music-workbook/model", where / "outputs/quick"
    for folder in (where / ".venv", cache, run):
        folder.mkdir(parents=True)
    shutil.copy(paths.ROOT / "Makefile", where)
    environment = os.environ | {"HOME": str(where / "home"), "XDG_CACHE_HOME": ""}
    subprocess.run(["make", "uninstall"], cwd=where, env=environment, check=True)
    assert run.exists() and not (where / ".venv").exists() and not cache.parent.exists()


def test_help_has_every_command_under_a_heading():
    shown = subprocess.run(["make", "help"], cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    parts = [part.splitlines() for part in shown.split("\n\n")]
    assert all(not part[0].startswith(" ") and part[1:] for part in parts[1:])
    targets = re.findall(r"^([a-z-]+):.*## ", (paths.ROOT / "Makefile").read_text(), re.M)
    assert [line.split()[1] for part in parts for line in part if line.startswith("  make ")] == targets


def test_params_lists_every_parameter_once_a_notebook(capsys):
    """The list has all that the notebooks declare, each with its default and a meaning."""
    assert cli.main(["params"]) == 0
    parts = dict(part.split("\n", 1) for part in capsys.readouterr().out.strip().split("\n\n"))
    assert [title.split()[0] for title in parts] == sorted(p.stem for p in paths.NOTEBOOKS.glob("*.ipynb"))
    for title, lines in parts.items():
        names = [line.split()[0] for line in lines.splitlines()]
        assert names == [*parameters.declared(title.split()[0])]
        assert all(len(re.split(r"  +", line.strip(), maxsplit=2)) == 3 for line in lines.splitlines())


@pytest.mark.parametrize("closed", ["", "<&- >&- 2>&-"])
def test_the_command_line_runs_in_any_locale_and_without_a_terminal(tmp_path, closed):
    shell = f"{sys.executable} -m lib.workbook serve --run '…' {closed}; echo $? > {tmp_path}/status"
    own = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run(shell, shell=True, cwd=paths.ROOT, env=os.environ | own, capture_output=True, text=True)
    assert (tmp_path / "status").read_text() == "1\n" and "Traceback" not in ran.stderr
    assert closed or ran.stderr.startswith("error: there is no ")


@pytest.mark.parametrize("content", ["[]", "{", '{"stages": 3}', '{"stages": {"01_tracks": 5}}', "{}"])
def test_a_damaged_record_is_an_error_in_a_line(tmp_path, capsys, content):
    (tmp_path / "run.json").write_text(content)
    assert cli.main(["run", f"run_dir={tmp_path}"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and "run.json is damaged" in said


def test_a_missing_parameter_file_names_those_there_are(tmp_path, capsys):
    assert cli.main(["run", str(tmp_path / "none.yaml")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "params/quick.yaml" in said


def test_a_missing_catalogue_is_refused_before_anything_runs(tmp_path):
    assert "catalogue: there is no file" in refused(tmp_path, "catalogue: nowhere.csv\n")


def test_numbers_are_read_as_people_write_them():
    quick = paths.ROOT / "params/quick.yaml"
    assert parameters.read(quick, ["lr=3e-5"])["lr"] == 3e-5
    assert parameters.read(quick, ["max_missing=1"])["max_missing"] == 1


def test_every_parameter_file_of_ours_is_valid(tmp_path):
    mine = tmp_path / "mine.csv"
    mine.write_text("title\n")
    for file in (paths.ROOT / "params").glob("*.yaml"):
        assert (
            parameters.read(file, [f"catalogue={mine}"])["run_dir"]
            == f"outputs/{'own' if 'own' in file.stem else file.stem}"
        )


def test_gpu_yaml_has_the_seeds_values():
    gpu = parameters.read(paths.ROOT / "params/gpu.yaml", [])
    assert [gpu[k] for k in ("base_model", "batch_size", "epochs", "lr", "warmup")] == [
        "all-mpnet-base-v2",
        64,
        15,
        3e-5,
        500,
    ]


# running, and running again


def test_a_run_passes_each_notebook_only_its_own_parameters(tiny, capsys):
    assert run(tiny, "n=5") == 0
    assert (tiny / "a.json").read_text() == "5" and (tiny / "b.json").read_text() == "x"
    cells = [cell for cell in nbformat.read(tiny / f"{SECOND}.ipynb", 4).cells if cell.metadata.get("tags")]
    assert [cell.source for cell in cells] == [f"word = 'x'  # a text\nrun_dir = '{tiny}'"]  # shown once
    assert record(tiny)["status"] == "done" and (tiny / "report.html").exists()


def finish(folder: Path, status: str = "done") -> Path:
    """Write what a run needs to be opened: a record, and one file."""
    folder.mkdir(parents=True)
    files.write_json(folder / "run.json", {"status": status, "parameters": {"run_dir": "x", "n": 5}})
    (folder / "a.json").write_text("of the run")
    return folder


def test_a_notebook_opens_the_current_run_else_the_newest_finished_one_else_the_tour(tmp_path, monkeypatch):
    monkeypatch.delenv(runs.NAMED, raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert runs.find("") == tmp_path / "outputs/tour"
    older, newer = finish(tmp_path / "outputs/older"), finish(tmp_path / "outputs/newer")
    finish(tmp_path / "outputs/unfinished", "running")
    os.utime(older / "run.json", (1, 1))
    assert runs.find("") == newer and runs.find("outputs/mine") == tmp_path / "outputs/mine"
    files.point(tmp_path / "outputs/current", older)
    assert runs.find("") == older
    monkeypatch.setenv(runs.NAMED, "outputs/tour")
    assert runs.find("") == tmp_path / "outputs/tour"


def test_a_notebook_changes_nothing_in_a_finished_run(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(runs.NAMED, raising=False)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    made = finish(tmp_path / "outputs/mine")
    run = runs.start("", "a.json")
    assert run != made and (run / "a.json").read_text() == "of the run" and runs.parameters(run) == {"n": 5}
    assert "outputs/mine is finished: it is shown here and stays as it is" in capsys.readouterr().out
    files.write_json(run / "a.json", "of the notebook")
    assert (run / "a.json").read_text() != (made / "a.json").read_text() == "of the run"
    with pytest.raises(errors.WorkbookError, match=r"has no b\.json"):  # it is not made with a notebook's defaults
        runs.start("", "b.json")
    assert runs.start(str(made), "a.json") == made


def test_nothing_changed_runs_nothing(tiny, capsys):
    assert run(tiny) == 0
    before = (tiny / f"{FIRST}.ipynb").stat().st_mtime_ns
    assert run(tiny) == 0
    assert capsys.readouterr().out.count("up to date") == 2 and (tiny / f"{FIRST}.ipynb").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected"),
    [(["word=y"], [SECOND]), (["n=2"], [FIRST, SECOND]), (["--fresh"], [FIRST, SECOND])],
)
def test_only_what_changed_runs_again(tiny, capsys, change, expected):
    run(tiny)
    capsys.readouterr()
    assert run(tiny, *change) == 0
    out = capsys.readouterr().out
    assert [name for name in (FIRST, SECOND) if f"{name}: up to date" not in out] == expected


def test_a_changed_benchmark_or_encoder_to_compare_runs_again(tmp_path):
    mine, model = tmp_path / "mine.csv", tmp_path / "other" / "model"
    model.mkdir(parents=True)
    given = [f"benchmark={mine}", f"others=[{model.parent}]"]
    mine.write_text("query,track_ids\n")
    values = parameters.read(paths.ROOT / "params" / "quick.yaml", given)

    def key() -> str:
        return runner.stage_key(tmp_path, "05_model_performance", values)

    first = key()
    (model.parent / "report.html").write_text("of no matter")
    assert key() == first
    (model / "config.json").write_text("{}")
    second = key()
    mine.write_text("query,track_ids\nrain,t0000001\n")
    assert len({first, second, key()}) == 3


def test_a_damaged_output_is_made_again(tiny, capsys):
    run(tiny)
    (tiny / "b.json").write_text("broken")
    assert run(tiny) == 0 and (tiny / "b.json").read_text() == "x"


@pytest.mark.slow
def test_long_work_prints_a_line_a_minute_where_no_terminal_shows_a_bar(tiny, capsys):
    """The runner passes a line on while its cell still runs; the bar of the notebook itself stays in the notebook."""
    code = """
import time
from lib.core import progress
progress.EVERY = 0.5
bar = progress.Progress(total=20, desc="training", unit="step")
for _ in range(20):
    bar.set_postfix(loss=0.25)
    bar.update()
    time.sleep(0.1)
"""
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', code + write("b.json", "word"))
    assert run(tiny) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("… training: ")]
    assert len(lines) >= 2 and "of 20 steps, loss=0.25, 0 min left" in lines[0]
    assert f"[2/2] {SECOND} …" in captured.out


def test_a_warning_of_a_notebook_reaches_the_terminal(tiny, capsys):
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', 'print("all well\\nWARNING: about 9 hours")')
    run(tiny)
    said = capsys.readouterr().err
    assert "WARNING: about 9 hours" in said and "all well" not in said


def test_a_failing_cell_is_named_and_the_run_resumes(tiny, capsys):
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', "1 / 0")
    assert run(tiny) == 1
    said = capsys.readouterr().err
    assert (
        "error: 02_second, cell" in said
        and "(The work): ZeroDivisionError: division by zero" in said
        and "Traceback" not in said
    )
    assert run(tiny, "--traceback") == 1
    assert "Traceback" in capsys.readouterr().err
    now = record(tiny)
    assert (
        now["status"] == "failed"
        and now["stages"][SECOND]["status"] == "failed"
        and now["stages"][FIRST]["status"] == "done"
    )
    assert (
        "ZeroDivisionError" in (tiny / f"{SECOND}.partial.ipynb").read_text()
        and not (tiny / f"{SECOND}.ipynb").exists()
    )
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', write("b.json", "word"))
    assert run(tiny) == 0 and "01_first: up to date" in capsys.readouterr().out
    assert not (tiny / f"{SECOND}.partial.ipynb").exists() and "error" not in record(tiny)


def test_a_killed_kernel_is_named(tiny, capsys):
    notebook(
        tiny.parent,
        SECOND,
        'word = "x"  # a text\nrun_dir = ""',
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert run(tiny) == 1
    assert "02_second" in (said := capsys.readouterr().err) and "kernel died" in said
    assert record(tiny)["stages"][SECOND]["status"] == "failed"


# kernels that do not start


@pytest.mark.parametrize(
    "argv", [[shutil.which("false")], ["/no/such/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]]
)
def test_a_kernelspec_of_another_python_is_not_used(tiny, monkeypatch, argv):
    """Jupyter takes the first kernelspec `python3` on its path; the runner takes the Python that runs it."""
    spec = tiny.parent / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tiny.parent / "jupyter"))
    assert KernelSpecManager().get_kernel_spec("python3").argv == argv
    notebook(tiny.parent, FIRST, 'n = 1\nrun_dir = ""', "import sys\n" + write("a.json", "sys.executable"))
    assert run(tiny) == 0 and (tiny / "a.json").read_text() == sys.executable


def test_a_kernelspec_of_another_name_is_not_needed(tiny):
    """JupyterLab writes the name of the user's kernel into a notebook that the user saves."""
    file = tiny.parent / "notebooks" / f"{FIRST}.ipynb"
    file.write_text(file.read_text().replace('"python3"', '"my-venv"'))
    assert run(tiny) == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit(1)", "died"),
        ("raise ValueError('a broken one')", "died before replying to kernel_info: ValueError: a broken one"),
        ("import time\ntime.sleep(60)", "didn't respond in 2 seconds"),
    ],
)
def test_a_kernel_that_does_not_start_is_an_error_in_one_line(tiny, monkeypatch, capfd, code, reason):
    """A module of the kernel's name, in the folder of the notebooks, stands for a kernel that is broken."""
    monkeypatch.setattr(runner, "START_LIMIT", 2)
    assert run(tiny) == 0
    notebook(tiny.parent, SECOND, 'word = "y"  # a text\nrun_dir = ""', write("b.json", "word"))
    launcher = tiny.parent / "notebooks" / "ipykernel_launcher.py"
    launcher.write_text(code)
    assert run(tiny) == 1
    error = capfd.readouterr().err
    assert error.startswith(f"error: {SECOND}: the kernel of {sys.executable} did not start: ") and reason in error
    assert error.count("\n") == 1 and "make clean" in error, error
    assert record(tiny)["stages"][SECOND]["status"] == "failed"
    launcher.unlink()
    assert run(tiny) == 0 and (tiny / "b.json").read_text() == "y"


DRIVER = """
import signal, sys
from pathlib import Path
from lib.core import paths, runs
from lib.workbook import cli, report
signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell started the tests with &, it is ignored
paths.NOTEBOOKS = Path(sys.argv[1]).parent / "notebooks"
runs.STAGES = {"01_first": runs.Stage((), ("a.json",), ()), "02_second": runs.Stage(("a.json",), ("b.json",), ())}
report.summary, report.write = lambda run: "summary", lambda run, record: None
sys.exit(cli.main(["run", *sys.argv[1:]]))
"""


def start(tiny: Path, python: str) -> subprocess.Popen:
    """The runner as a process of its own, caught while the second notebook sleeps."""
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', "import time\ntime.sleep(60)")
    process = subprocess.Popen(
        [python, "-c", DRIVER, str(tiny.parent / "p.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for _ in range(300):
        time.sleep(0.1)
        partial = tiny / f"{SECOND}.partial.ipynb"
        if partial.exists() and '"running"' in partial.read_text() and "sleep" in partial.read_text():
            return process
    process.kill()
    raise AssertionError(process.communicate())


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_so_and_resumes(tiny, python, capsys, sent):
    process = start(tiny, python)
    os.kill(process.pid, sent)
    _out, said = process.communicate(timeout=120)
    assert process.returncode == 1 and "error: stopped" in said and "Traceback" not in said, said
    now = record(tiny)
    assert (now["status"], now["stages"][SECOND]["status"], now["stages"][FIRST]["status"]) == (
        "stopped",
        "stopped",
        "done",
    )
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', write("b.json", "word"))
    assert run(tiny) == 0 and "01_first: up to date" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_run_is_seen_and_resumes(tiny, python, capsys):
    process = start(tiny, python)
    busy = run(tiny)
    assert busy == 1 and "another process works in" in capsys.readouterr().err
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert record(tiny)["status"] == "running" and record(tiny)["pid"] == process.pid
    notebook(tiny.parent, SECOND, 'word = "x"  # a text\nrun_dir = ""', write("b.json", "word"))
    assert run(tiny) == 0 and "01_first: up to date" in capsys.readouterr().out
    assert record(tiny)["status"] == "done"


# a folder that cannot be written, a disk that is full


def test_outputs_that_cannot_be_written(tiny, capsys):
    (tiny.parent / "file").write_text("in the way")
    assert run(tiny, f"run_dir={tiny.parent / 'file' / 'run'}") == 1
    said = capsys.readouterr().err
    assert "cannot write to" in said and "Choose a folder you may write to" in said


@pytest.mark.parametrize("place", [".", "notebooks", "lib/core", "/"])
def test_a_run_does_not_overwrite_the_workbook(tiny, capsys, place):
    assert run(tiny, f"run_dir={place}") == 1
    assert "is the workbook's own" in capsys.readouterr().err


def test_a_full_disk(tiny, capsys):
    disk = tiny.parent / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (not root)")
    try:
        (disk / "kept.json").write_text("{}")
        notebook(
            tiny.parent,
            FIRST,
            'n = 1\nrun_dir = ""',
            "from lib.core import files, paths\nfiles.write_json(paths.resolve(run_dir) / 'a.json', 'x' * 200_000)",
        )
        assert run(tiny, f"run_dir={disk}") == 1
        said = capsys.readouterr().err
        assert "No space left on device" in said and "Free some space" in said and "Traceback" not in said
        assert (disk / "kept.json").read_text() == "{}" and not (disk / "a.json").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# the real thing


def test_the_small_run_left_what_a_run_leaves(small_run):
    now = record(small_run)
    assert now["status"] == "done" and all(stage["seconds"] > 0 for stage in now["stages"].values())
    for stage in runs.STAGES.values():
        assert all((small_run / name).exists() for name in stage.writes)
    assert "torch" in now["packages"] and now["parameters"]["n_tracks"] == 400
    assert not list(small_run.glob("*.tmp")) and not list(small_run.glob(".*.tmp"))


def test_a_machine_without_git_has_no_revision(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert runner.revision() == "unknown"
