"""What is taught, and training: that it learns, stops, resumes, survives a full memory, and is tracked."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from mlflow import MlflowClient
from tokenizers import Tokenizer

from deploy.scale import workers
from lib.core import base_models, encoder, errors, files, measures, paths
from lib.finetune import checkpoints, evaluator, pairs, record, training
from lib.tracks import listener_requests
from lib.tracks import synthetic as catalogue
from lib.tracks.moods import GENRES, MOODS, words_of

SHARES = {"request_share": 0.25, "mood_share": 0.3, "artist_share": 0.2, "batch_size": 16, "seed": 1}
TOKENS = 6_000  # of 30,522: they are nearly all that a step of so small a model moves, and a checkpoint holds
RECIPE = training.Recipe(epochs=1, lr=1e-4, warmup=500, patience=9, keep_base=0.0, max_length=32, seed=1)


@pytest.fixture(scope="module")
def data():
    tracks = catalogue.generate(300, seed=1)
    return tracks, listener_requests.generate(tracks, 200, 1)


@pytest.fixture(scope="module")
def taught(data):
    return pairs.make_pairs(*data, 360, **SHARES)


@pytest.fixture(scope="module")
def dev(data):
    return evaluator.RequestEvaluator(*measures.held_out(*data, "dev"))


def small_model():
    """MiniLM's first layer and the commonest of its tokens, which is enough to learn and to forget."""
    model = encoder.load(base_models.find("all-MiniLM-L6-v2"), 32)
    bert = model[0].model
    bert.encoder.layer, bert.config.num_hidden_layers = bert.encoder.layer[:1], 1
    bert.resize_token_embeddings(TOKENS)
    made = json.loads(model.tokenizer.backend_tokenizer.to_str())
    made["model"]["vocab"] = {token: i for token, i in made["model"]["vocab"].items() if i < TOKENS}
    model.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(made))
    return model


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# what is taught


def test_pairs_come_from_the_training_split_alone():
    tracks = catalogue.generate(600, seed=1)
    table = pairs.make_pairs(tracks, listener_requests.generate(tracks, 400, 1), 400, **SHARES)
    known, unseen = tracks[tracks["split"] == "train"], tracks[tracks["split"] != "train"]
    texts = set(table["anchor"]) | set(table["positive"])
    assert not texts & (set(unseen["text"]) | set(unseen["description"]) - set(known["description"]))


def test_no_text_is_twice_in_a_batch_and_a_batch_is_of_one_size(taught):
    for _, batch in taught.groupby("batch"):
        texts = [*batch["anchor"], *batch["positive"]]
        assert len(texts) == len(set(texts)) or set(batch["kind"]) <= {"mood", "artist"}
        assert len(batch) in (len(MOODS), len(GENRES)) or len(batch) <= SHARES["batch_size"]


def test_a_batch_of_moods_has_one_of_each_and_answers_that_name_none(taught):
    moods = taught[taught["kind"] == "mood"]
    assert len(moods) >= 5 * len(MOODS)
    assert (moods.groupby("batch").size() == len(MOODS)).all()
    assert not words_of(moods["positive"], list(MOODS)).any()


def test_a_track_and_three_tags_say_the_same_where_they_can():
    rng = np.random.default_rng(0)
    prose = "A slow song with harp and flute, peaceful."
    assert set(pairs._three("techno, harp, kazoo, flute, peaceful", prose, rng).split(", ")) == {
        "harp",
        "flute",
        "peaceful",
    }


def test_texts_that_meet_again_wait_for_a_later_batch():
    table = pd.DataFrame({"anchor": ["a", "b", "a", "c"], "positive": ["1", "2", "3", "4"], "kind": "x"})
    batches = pairs._batches(table, 2)
    assert [list(batch["anchor"]) for batch in batches] == [["a", "b"], ["a", "c"]]


def test_too_few_tracks_and_shares_beyond_one_are_said(data):
    tracks, requests = data
    with pytest.raises(errors.WorkbookError, match="too few to train on"):
        pairs.make_pairs(tracks.assign(split="test"), requests, 10, **SHARES)
    with pytest.raises(errors.WorkbookError, match=r"request_share 0.7, mood_share 0.3 and artist_share 0.2 exceed 1"):
        pairs.make_pairs(tracks, requests, 10, **SHARES | {"request_share": 0.7})


# training


def test_training_moves_the_encoder_and_lowers_the_loss(taught, dev, tmp_path):
    model = small_model()
    before, base = weights(model), dev(model)
    history = training.train(model, taught, dev, RECIPE._replace(epochs=2), tmp_path)
    loss = history["loss"].dropna()
    assert loss.iloc[-12:].mean() < loss.iloc[:12].mean()
    assert (weights(model) - before).abs().max() > 1e-4
    measured = history["dev nDCG@10"].dropna()
    assert measured.iloc[0] == pytest.approx(base["nDCG@10"], abs=1e-6) and len(measured) >= training.EVALUATIONS
    best = measured[measured >= measured.iloc[1:].max() - checkpoints.NOISE].index.max()
    assert torch.allclose(weights(model), checkpoints_mean(tmp_path, history["step"][best]), atol=1e-6)
    last = max(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert [p.parent for p in tmp_path.glob("checkpoint-*/optimizer.pt")] == [last]
    used = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    foretold = training.estimate(model, taught, dev, 2)["disk"]  # with one optimiser more, while the next is written
    assert used < foretold < 1.5 * used


def checkpoints_mean(folder, last: int) -> torch.Tensor:
    kept = [p for p in folder.glob("checkpoint-*") if int(p.name.split("-")[1]) <= last]
    assert kept
    return torch.stack([weights(encoder.load(p)) for p in kept]).mean(0)


def test_checkpoints_up_to_the_best_are_kept_and_of_equally_good_ones_the_last_is_best():
    log = [{"step": i, "eval_nDCG@10": v} for i, v in ((0, 0.2), (5, 0.401), (9, 0.394), (14, 0.38))]
    assert checkpoints.up_to_the_best(log, {5, 9, 14}) == [5, 9]
    assert checkpoints.up_to_the_best(log, {5, 14}) == [5]
    assert checkpoints.up_to_the_best(log, {9, 14}) == [9, 14]
    assert checkpoints.up_to_the_best([], set()) == []


def test_the_average_with_the_base_is_an_average(taught, dev, tmp_path):
    base, whole, half = small_model(), small_model(), small_model()
    training.train(whole, taught, dev, RECIPE, tmp_path / "whole")
    training.train(half, taught, dev, RECIPE._replace(keep_base=0.5), tmp_path / "half")
    assert torch.allclose(weights(half), (weights(base) + weights(whole)) / 2, atol=1e-5)
    kept = small_model()
    training.train(kept, taught, dev, RECIPE._replace(keep_base=1.0), tmp_path / "kept")
    assert torch.equal(weights(kept), weights(base))  # what the verdict of a harmful training advises


class Scripted(evaluator.RequestEvaluator):
    """A dev metric that does what a test needs at each measurement."""

    def __init__(self, act):
        self.act, self.calls, self.primary_metric = act, 0, measures.MAIN
        self.greater_is_better = True

    def __call__(self, model, *_, **__):
        self.calls += 1
        return {measures.MAIN: self.act(self.calls)}


def test_training_stops_when_the_dev_metric_gains_nothing(taught, tmp_path):
    steps = taught["batch"].nunique() * 4
    history = training.train(
        small_model(), taught, Scripted(lambda call: 0.5), RECIPE._replace(epochs=4, patience=2), tmp_path
    )
    assert history["step"].max() < steps


def test_an_interrupt_keeps_the_mean_of_the_checkpoints_up_to_the_best(taught, tmp_path, capsys):
    measured = {1: 0.1, 2: 0.2, 3: 0.4, 4: 0.3}

    def act(call):
        if call == 5:
            raise KeyboardInterrupt
        return measured[call]

    model = small_model()
    before = weights(model)
    training.train(model, taught, Scripted(act), RECIPE, tmp_path)
    steps = sorted(int(p.name.split("-")[1]) for p in tmp_path.glob("checkpoint-*"))
    assert len(steps) == 3 and f"the checkpoints up to step {steps[1]}" in capsys.readouterr().out
    assert torch.allclose(weights(model), checkpoints_mean(tmp_path, steps[1]), atol=1e-6)
    assert not torch.allclose(weights(model), before, atol=1e-4)


def test_patience_is_remembered_by_a_training_that_goes_on(taught, tmp_path):
    """A measurement without a gain, an end, then another: that is a patience of two."""

    class Killed(BaseException):
        pass

    def killed_at_the_fourth(call):
        if call == 4:
            raise Killed
        return 0.5

    recipe = RECIPE._replace(epochs=4, patience=2)
    with pytest.raises(Killed):
        training.train(small_model(), taught, Scripted(killed_at_the_fourth), recipe, tmp_path)
    history = training.train(small_model(), taught, Scripted(lambda call: 0.5), recipe, tmp_path)
    assert history["step"].max() == 3 * taught["batch"].nunique()
    assert list(history["dev nDCG@10"].dropna()) == [0.5] * 4


def two_epochs(where: Path) -> torch.Tensor:
    """A short training. -> the weights that it ends with"""
    tracks = catalogue.generate(300, seed=1)
    requests = listener_requests.generate(tracks, 200, 1)
    taught = pairs.make_pairs(tracks, requests, 160, **SHARES)
    dev = evaluator.RequestEvaluator(*measures.held_out(tracks, requests, "dev"))
    model = small_model()
    training.train(model, taught, dev, RECIPE._replace(epochs=2), where)
    return weights(model)


APART = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_training
test_training.two_epochs(Path(sys.argv[2]))
"""


def test_a_killed_training_ends_as_one_that_was_never_stopped(tmp_path, capsys):
    command = [sys.executable, "-c", APART, str(paths.ROOT / "tests"), str(tmp_path / "killed")]
    killed = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while len(list((tmp_path / "killed").glob("checkpoint-*/trainer_state.json"))) < 2 and time.time() < deadline:
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() == -9
    again = two_epochs(tmp_path / "killed")
    assert "Going on from checkpoint-" in capsys.readouterr().out
    assert torch.allclose(two_epochs(tmp_path / "whole"), again, atol=1e-5)


def test_a_half_written_checkpoint_and_another_training_are_not_gone_on_from(tmp_path):
    (tmp_path / "checkpoint-3").mkdir(parents=True)
    files.write_json(tmp_path / "of.json", {"signature": "this"})
    assert checkpoints.resumable(tmp_path, "this") is None  # no trainer_state.json: not whole
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"a": {}')
    assert checkpoints.resumable(tmp_path, "this") is None  # nor is half a file
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text("{}")
    assert checkpoints.resumable(tmp_path, "this").name == "checkpoint-4"
    assert checkpoints.resumable(tmp_path, "other") is None and not list(tmp_path.glob("checkpoint-*"))


def test_where_memory_runs_out_the_batch_is_halved_and_the_result_is_the_same(
    taught, dev, tmp_path, monkeypatch, capfd
):
    """The loss fails as CUDA does for more than eight texts at a time: in PyTorch's words, or in the driver's."""
    few = taught[taught["batch"] < 6]
    assert few.groupby("batch").size().max() > 8
    whole = small_model()
    expected = training.train(whole, few, dev, RECIPE, tmp_path / "whole")
    real = training._loss

    class Full(training.MultipleNegativesRankingLoss):
        def __init__(self, model, error):
            super().__init__(model)
            self.error = error

        def forward(self, *_):
            raise self.error

    def small(model, micro):
        if micro is None:
            return Full(model, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        return Full(model, torch.AcceleratorError("CUDA error: out of memory")) if micro > 8 else real(model, micro)

    monkeypatch.setattr(training, "_loss", small)
    assert training.estimate(small_model(), few, dev, 1)["seconds"] > 0
    halved = small_model()
    found = training.train(halved, few, dev, RECIPE, tmp_path / "halved")
    assert "the effective batch stays" in "".join(capfd.readouterr())
    assert np.allclose(found["loss"].dropna(), expected["loss"].dropna(), atol=1e-3)
    assert torch.allclose(weights(halved), weights(whole), atol=1e-4)


# several workers


@pytest.fixture(scope="module")
def even(taught):
    """Twelve batches that two workers can halve: of them no pair is left out."""
    size = taught.groupby("batch")["batch"].transform("size")
    kept = taught[size % 2 == 0]
    return kept[kept["batch"].isin(kept["batch"].unique()[:12])].reset_index(drop=True)


@pytest.fixture(scope="module")
def alone(even, dev, tmp_path_factory):
    """What one worker makes of them: the folder of the base, the history and the weights."""
    folder = tmp_path_factory.mktemp("alone")
    model = small_model()
    model.save_pretrained(str(folder / "base"))
    history = training.train(model, even, dev, RECIPE._replace(epochs=2), folder / "checkpoints")
    return folder / "base", history, weights(model)


def assert_same(history: pd.DataFrame, found: torch.Tensor, alone) -> None:
    """But for rounding, which Adam enlarges where a weight has next to no gradient.

    Measured: 9e-5 of the way that the weights went, after one step as after twenty, on MiniLM; 1e-6 of the loss.
    """
    base, expected, whole = alone
    start = weights(encoder.load(base, 32))
    assert np.allclose(history, expected, rtol=0, atol=1e-3, equal_nan=True)
    assert (found - whole).norm() < 1e-3 * (whole - start).norm()


def together(base, even, dev, folder) -> tuple[pd.DataFrame, torch.Tensor]:
    model = encoder.load(base, 32)
    history = workers.train(2, model, even, dev, RECIPE._replace(epochs=2), folder)
    return history, weights(model)


def test_two_workers_reach_what_one_reaches(even, dev, alone, tmp_path, capsys):
    assert_same(*together(alone[0], even, dev, tmp_path / "checkpoints"), alone)
    said = capsys.readouterr().out
    assert "24/24" in said and "Traceback" not in said
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoints"]
    one = encoder.load(alone[0], 32)  # and who trains the same again takes what they ended with
    history = training.train(one, even, dev, RECIPE._replace(epochs=2), tmp_path / "checkpoints")
    assert "training:" not in capsys.readouterr().err
    assert_same(history, weights(one), alone)


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import pandas as pd
import test_training as t
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
dev = t.evaluation.RequestEvaluator(pd.read_parquet(folder / "tracks"), pd.read_parquet(folder / "requests"))
t.together(base, pd.read_parquet(folder / "even"), dev, folder / "checkpoints")
"""


def test_workers_end_with_the_process_that_started_them_and_the_next_go_on(even, dev, alone, tmp_path, capsys):
    for name, table in (("even", even), ("tracks", dev.tracks), ("requests", dev.requests)):
        table.to_parquet(tmp_path / name)
    script = TOGETHER.format(tests=str(paths.ROOT / "tests"))
    command = [sys.executable, "-c", script, str(alone[0]), str(tmp_path)]
    killed = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(tmp_path.glob("checkpoints/checkpoint-*/trainer_state.json")) and time.time() < deadline:
        time.sleep(0.02)
    started = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    assert killed.wait() == -9
    assert len(started) >= 3 and not psutil.wait_procs(started, timeout=30)[1]
    assert not (tmp_path / "checkpoints" / checkpoints.RESULT).exists()
    found = together(alone[0], even, dev, tmp_path / "checkpoints")
    assert "Going on from checkpoint-" in capsys.readouterr().out
    assert_same(*found, alone)


def test_a_batch_is_shared_in_equal_parts_and_what_is_over_is_another_pair_each_time():
    assert training._parts([5, 6, 7, 8], 1, 3) == [[5, 6, 7, 8]]
    assert training._parts([5, 6, 7, 8], 2, 3) == [[5, 6], [7, 8]]
    shared = [training._parts(list(range(11)), 4, turn) for turn in range(11)]
    assert all([len(part) for part in parts] == [2, 2, 2, 2] for parts in shared)
    left_out = [set(range(11)) - {row for part in parts for row in part} for parts in shared]
    assert [sum(row in out for out in left_out) for row in range(11)] == [3] * 11


def test_more_workers_than_a_batch_has_pairs_are_refused(taught, dev, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "get_world_size", lambda: 19)
    with pytest.raises(errors.WorkbookError, match=r"19 workers cannot share a batch of \d+ pairs"):
        training.train(small_model(), taught, dev, RECIPE, tmp_path)


def test_the_estimate_leaves_the_encoder_alone_and_warns_of_hours(taught, dev):
    model = small_model()
    before = weights(model).clone()
    expected = training.estimate(model, taught, dev, 3)
    assert expected["steps"] == 3 * taught["batch"].nunique() and expected["seconds"] > 0
    assert torch.equal(before, weights(model))
    assert training.warning(expected) == ""
    if encoder.device() == "cpu":
        assert training.warning(expected | {"seconds": 7 * 3600}).startswith("WARNING: about 7 hours on this CPU")


def test_a_training_is_tracked_and_its_card_says_what_it_is(tmp_path):
    history = pd.DataFrame({"step": [0, 5], "loss": [np.nan, 0.5], "dev nDCG@10": [0.2, 0.3]})
    used = {"base_model": "all-MiniLM-L6-v2", "lr": 1e-4}
    run = record.track(tmp_path / "mlflow.db", "quick", used, history, {"dev MRR": 0.4})
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_run(run).data
    assert found.params["lr"] == "0.0001" and found.metrics["dev MRR"] == 0.4
    assert [m.value for m in client.get_metric_history(run, "dev nDCG_10")] == [0.2, 0.3]
    card = record.model_card(used, {"tracks.parquet": "abc"}, {"dev MRR": 0.4})
    assert "| lr | 0.0001 |" in card and "| dev MRR | 0.400 |" in card and "| tracks.parquet | abc |" in card
