"""The preview of `workbook import`, and the parameter file that it writes."""

import json

import pytest

from lib.core import errors
from lib.core.paths import ROOT
from lib.tracks import importing, preview
from lib.workbook import cli, parameters

SONGS = [
    {"name": f"Song {i}", "artists": [{"name": "Ana"}, {"name": "Uli"}], "length": f"3:{i:02}", "energy": i / 40}
    for i in range(40)
]


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A JSON file of forty songs; parameter files are written beside it."""
    monkeypatch.setattr(preview, "ROOT", tmp_path)
    (tmp_path / "params").mkdir()
    path = tmp_path / "Été: my songs.json"
    path.write_text(json.dumps([*SONGS, {"name": "", "artists": [], "length": "", "energy": None}]), encoding="utf-8")
    return path


def load(file, **given):
    return importing.import_catalogue(
        str(file), **{"columns": {}, "units": {}, "reading": {}, "rename_moods": {}, "max_tracks": 0, "seed": 7} | given
    )


def test_the_preview_names_columns_units_tracks_and_losses(file):
    lines = preview.text(load(file))
    assert "JSON" in lines and "41 rows → 40 tracks" in lines
    for row in ("title.*name.*100%.*Song 0", "artist.*artists.name.*Ana, Uli", "duration_ms.*length.*m:ss.*180000"):
        assert any(part in lines for part in row.split(".*"))
    assert "Rows left out: 1." in lines and "row 41: no title, description or tags" in lines
    assert max(map(len, lines.splitlines())) < 200


def test_moods_in_other_languages_are_translated_and_unread_columns_have_a_hint(file):
    table = file.with_name("lieder.csv")
    table.write_text("Titel;Stimmung;Was für eine\nBlauer Raum;Traurig;x\nDas Meer;ruhig;y\nRot;grell;z\n", "utf-8")
    catalogue = load(table)
    lines = preview.text(catalogue)
    assert "--column OURS='Was für eine'" in lines and "traurig → sad, ruhig → calm." in lines
    assert "not in lib/tracks/moods.yaml: grell." in lines
    path = preview.write_parameters(catalogue, {})
    moods = parameters.read(path, [])["rename_moods"]
    assert moods == {"traurig": "sad", "ruhig": "calm"}
    assert load(table, rename_moods=moods).tracks["mood"].tolist() == ["sad", "calm", "grell"]


def test_the_parameter_file_gives_the_same_tracks(file):
    catalogue = load(file)
    path = preview.write_parameters(catalogue, {})
    values = parameters.read(path, [])
    assert path.name == "été-my-songs.yaml" and values["catalogue"] == str(file)
    assert values["columns"] == {"title": "name", "artist": "artists.name", "energy": "energy", "duration_ms": "length"}
    assert values["units"] == {"energy": "0-1", "duration_ms": "m:ss"}
    again = load(file, **{key: values[key] for key in ("columns", "units", "reading", "rename_moods", "max_tracks")})
    assert again.tracks.equals(catalogue.tracks)


def test_an_edited_parameter_file_is_kept(file):
    path = preview.write_parameters(load(file), {})
    assert preview.write_parameters(load(file), {}) == path  # unchanged: written again
    path.write_text(path.read_text() + "epochs: 3\n")
    with pytest.raises(errors.WorkbookError, match="differs from this import"):
        preview.write_parameters(load(file), {})
    assert path.read_text().endswith("epochs: 3\n")


def test_a_catalogue_never_takes_the_name_of_the_workbooks_own_runs(file):
    assert preview.write_parameters(load(file.rename(file.with_name("current.json"))), {}).name == "my-current.yaml"


def test_the_command_prints_the_preview_and_names_the_file(file, capsys, monkeypatch):
    monkeypatch.chdir(file.parent)
    assert cli.main(["import", file.name]) == 0  # relative to where the user is
    assert capsys.readouterr().out.rstrip().endswith("make run PARAMS=" + str(file.parent / "params/été-my-songs.yaml"))
    assert cli.main(["import", "no-such-file.csv"]) == 1
    assert capsys.readouterr().err.startswith("error: ") and not (ROOT / "params/no-such-file.yaml").exists()


def test_a_file_without_usual_names_is_imported_with_an_option(file, capsys):
    table = file.with_name("unusual.csv")
    table.write_text("Lied-X,Wer-X,Stimmung\n" + "".join(f"Song {i} at sea,Band {i},fröhlich\n" for i in range(30)))
    assert cli.main(["import", str(table)]) == 1
    assert capsys.readouterr().err.rstrip().endswith('with make: IMPORT="--column title=NAME".')
    assert cli.main(["import", str(table), "--column", "title"]) == 1
    assert "--column title: write our column, =, and yours" in capsys.readouterr().err
    assert cli.main(["import", str(table), "--column", "title=Lied-X"]) == 0
    assert "fröhlich → happy." in capsys.readouterr().out


def test_the_preview_says_that_a_run_would_stop(file):
    file.write_text(json.dumps([*SONGS[:5], *[{"name": "", "artists": []}] * 6]), encoding="utf-8")
    assert preview.next_step(load(file).record, "params/x.yaml").startswith("More than half of the rows are left out")
