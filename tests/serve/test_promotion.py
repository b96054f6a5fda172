"""Promotion and rollback of a run."""

import shutil

import pytest

from lib.core import errors, files, runs
from lib.serve import promotion
from lib.workbook import cli


def test_promote_and_rollback(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(promotion, "ROOT", tmp_path)
    monkeypatch.setattr(promotion, "check", lambda run: (runs.need(run, "model", "index"), "0" * 64)[1])
    first, second, empty = (tmp_path / name for name in ("a", "b", "empty"))
    empty.mkdir()
    for run in (first, second):
        for part in ("model", "index"):
            (run / part).mkdir(parents=True)
    assert cli.main(["rollback"]) == 1 and "nothing to go back to" in capsys.readouterr().err
    current = tmp_path / "outputs/current"
    for run in (first, second):
        assert cli.main(["promote", str(run)]) == 0
        assert current.resolve() == run
    assert cli.main(["promote", str(empty)]) == 1 and "has no model" in capsys.readouterr().err
    for run in (first, second):
        assert cli.main(["rollback"]) == 0
        assert current.resolve() == run
    files.point(tmp_path / "outputs/previous", second)
    assert cli.main(["rollback"]) == 1 and "is served already" in capsys.readouterr().err


def test_a_run_is_checked_before_it_is_promoted(small_run, tmp_path):
    assert len(promotion.check(small_run)) == 64
    broken = tmp_path / "broken"
    shutil.copytree(small_run, broken)
    vectors = broken / "index" / "vectors.npy"
    whole = vectors.read_bytes()
    vectors.write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(errors.WorkbookError, match=r"is damaged: vectors\.npy of index/ changed"):
        promotion.check(broken)
    vectors.write_bytes(b"half")
    with pytest.raises(errors.WorkbookError, match="is damaged"):
        promotion.check(broken)
