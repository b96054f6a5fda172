"""Fine-tuning: pairs, training, interrupts and resumes, a full memory, several workers, the record."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from mlflow import MlflowClient
from small_models import small_model
from transformers import TrainerCallback

from deploy.scale import workers
from lib.core import encoder, errors, files, measures, paths
from lib.finetune import checkpoints, estimate, evaluator, moods, pairs, record, training
from lib.tracks import listener_requests
from lib.tracks import synthetic as catalogue
from lib.tracks.moods import GENRES, MOODS, words_of

SHARES = {"request_share": 0.25, "mood_share": 0.3, "artist_share": 0.2, "batch_size": 16, "seed": 1}
RECIPE = training.Recipe(epochs=1, lr=1e-2, warmup=0.1, patience=9, keep_base=0.0, max_length=32, seed=1)
LONGER = RECIPE._replace(epochs=6, lr=1e-3)  # there is time to kill it between two checkpoints


@pytest.fixture(scope="module")
def data():
    tracks = catalogue.generate(300, seed=1)
    return tracks, listener_requests.generate(tracks, 200, 1)


@pytest.fixture(scope="module")
def table(data):
    return pairs.make_pairs(*data, 360, **SHARES)


@pytest.fixture(scope="module")
def dev(data):
    return evaluator.RequestEvaluator(*measures.held_out(*data, "dev"))


def weights(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# pairs


def test_pairs_come_from_the_training_split_alone():
    tracks = catalogue.generate(600, seed=1)
    table = pairs.make_pairs(tracks, listener_requests.generate(tracks, 400, 1), 400, **SHARES)
    trained, unseen = tracks[tracks["split"] == "train"], tracks[tracks["split"] != "train"]
    texts = set(table["anchor"]) | set(table["positive"])
    assert not texts & (set(unseen["text"]) | set(unseen["description"]) - set(trained["description"]))


def test_no_text_is_twice_in_a_batch_and_batches_have_one_size(table):
    for _, batch in table.groupby("batch"):
        texts = [*batch["anchor"], *batch["positive"]]
        assert len(texts) == len(set(texts)) or set(batch["kind"]) <= {"mood", "artist"}
        assert len(batch) in (len(MOODS), len(GENRES)) or len(batch) <= SHARES["batch_size"]


def test_a_batch_of_moods_has_one_pair_for_each_and_positives_that_name_none(table):
    batches = table[table["kind"] == "mood"]
    assert len(batches) >= 5 * len(MOODS)
    assert (batches.groupby("batch").size() == len(MOODS)).all()
    assert not words_of(batches["positive"], list(MOODS)).any()


def test_three_tags_are_those_that_the_prose_has():
    rng = np.random.default_rng(0)
    prose = "A slow song with harp and flute, peaceful."
    three = pairs._three("techno, harp, kazoo, flute, peaceful", prose, rng)
    assert set(three.split(", ")) == {"harp", "flute", "peaceful"}


def test_a_pair_with_a_repeated_text_waits_for_a_later_batch():
    table = pd.DataFrame({"anchor": ["a", "b", "a", "c"], "positive": ["1", "2", "3", "4"], "kind": "x"})
    batches = pairs._batches(table, 2)
    assert [list(batch["anchor"]) for batch in batches] == [["a", "b"], ["a", "c"]]


def test_too_few_tracks_and_shares_above_one_are_errors(data):
    tracks, requests = data
    with pytest.raises(errors.WorkbookError, match="too few to train on"):
        pairs.make_pairs(tracks.assign(split="test"), requests, 10, **SHARES)
    message = r"request_share 0.7, mood_share 0.3 and artist_share 0.2 sum to more than 1"
    with pytest.raises(errors.WorkbookError, match=message):
        pairs.make_pairs(tracks, requests, 10, **SHARES | {"request_share": 0.7})


# moods


def test_terms_and_requests_for_moods_share_no_word_with_the_test_split():
    rng = np.random.default_rng(0)
    texts = [*moods.TERMS.index, *(text for _ in range(60) for text in moods.requests(rng))]
    for mood in MOODS.values():
        for word in [*mood.words["dev"], *mood.words["test"]]:
            assert not [text for text in texts if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text.casefold())]
    assert not words_of(pd.Series(moods.TERMS.index), list(MOODS)).any()  # a term says how it sounds, not the mood


def test_most_terms_of_a_description_suit_one_mood():
    texts, sums = moods.describe(200, np.random.default_rng(0))
    assert sums.shape == (200, moods.TERMS.shape[1]) and all(2 <= text.count(", ") + 1 <= 7 for text in texts)
    assert np.median(sums.max(axis=1)) > 2 and abs(np.median(sums)) < 0.5


@pytest.mark.slow
def test_refining_moods_moves_requests_and_holds_descriptions(data, monkeypatch):
    monkeypatch.setattr(moods, "LR", 3e-3)  # so small a model learns little in so few steps
    model, prose = small_model(), data[0]["description"].tolist()
    texts, sums = moods.describe(200, np.random.default_rng(5))
    names = [f"{mood} music" for mood in moods.TERMS]
    before = [encoder.embed(model, part) for part in (texts, names, prose)]
    losses = moods.refine(model, prose, 60, seed=1)
    after = [encoder.embed(model, part) for part in (texts, names, prose)]
    assert len(losses) == 60 and np.mean(losses[-10:]) < 0.98 * np.mean(losses[:10])
    agree = [np.corrcoef((described @ asked.T).ravel(), sums.ravel())[0, 1] for described, asked, _ in (before, after)]
    assert agree[1] > agree[0] + 0.05
    moved = [1 - (old * new).sum(axis=1).mean() for old, new in zip(before, after, strict=True)]
    assert moved[1] > 3 * moved[2]
    assert moods.refine(model, prose, 0, seed=1) == []


# training


def test_texts_of_similar_length_are_encoded_together_with_the_same_loss(table, monkeypatch):
    monkeypatch.setitem(encoder.BATCH, "cpu", 64)
    model, few = small_model(), table[table["kind"] == "prose and tags"]
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    losses, gradients, tokens = [], [], []
    for kind in (training.MultipleNegativesRankingLoss, training.RankingLoss):
        sizes = []
        hook = model[0].register_forward_pre_hook(
            lambda _, given, sizes=sizes: sizes.append(given[0]["input_ids"].numel())
        )
        loss = kind(model, **both)([model.preprocess(few[side].tolist()) for side in ("anchor", "positive")], None)
        model.zero_grad()
        loss.backward()
        hook.remove()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        tokens.append(sum(sizes))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5) and torch.allclose(*gradients, atol=1e-5)
    assert tokens[1] < tokens[0]


@pytest.mark.slow
def test_training_changes_the_encoder_and_lowers_the_loss(table, dev, tmp_path):
    model = small_model()
    before, base = weights(model), dev(model)
    history = training.train(model, table, dev, RECIPE._replace(epochs=2), tmp_path)
    loss = history["loss"].dropna()
    assert loss.iloc[-12:].mean() < loss.iloc[:12].mean()
    assert (weights(model) - before).abs().max() > 1e-4
    measured = history["dev nDCG@10"].dropna()
    assert measured.iloc[0] == pytest.approx(base["nDCG@10"], abs=1e-6) and len(measured) >= training.EVALUATIONS
    best = measured[measured >= measured.iloc[1:].max() - checkpoints.NOISE].index.max()
    assert torch.allclose(weights(model), mean_of_checkpoints(tmp_path, history["step"][best]), atol=1e-6)
    last = max(tmp_path.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert [p.parent for p in tmp_path.glob("checkpoint-*/optimizer.pt")] == [last]
    used = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    # The estimate counts one optimiser more, which exists while the next checkpoint is written.
    assert used < estimate.estimate_training(model, table, dev, RECIPE._replace(epochs=2)).disk < 1.5 * used


def mean_of_checkpoints(folder, last: int) -> torch.Tensor:
    averaged = [p for p in folder.glob("checkpoint-*") if int(p.name.split("-")[1]) <= last]
    assert averaged
    return torch.stack([weights(encoder.load(p)) for p in averaged]).mean(0)


def test_the_last_of_equally_good_checkpoints_is_the_best(tmp_path):
    history = pd.DataFrame({"step": [0, 5, 9, 14], "loss": np.nan, "dev nDCG@10": [0.2, 0.401, 0.394, 0.38]})
    assert checkpoints.up_to_the_best(history) == [5, 9]
    assert checkpoints.up_to_the_best(history[history["step"] != 9]) == [5]
    assert checkpoints.up_to_the_best(history[history["step"] != 5]) == [9, 14]
    assert checkpoints.up_to_the_best(training.history_of([])) == []
    for step in (5, 14):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert [p.name for p in checkpoints.to_average(tmp_path, history)] == ["checkpoint-5"]


@pytest.mark.slow
def test_the_result_is_averaged_with_the_base(table, dev, tmp_path):
    base, whole, half = small_model(), small_model(), small_model()
    training.train(whole, table, dev, RECIPE, tmp_path / "whole")
    training.train(half, table, dev, RECIPE._replace(keep_base=0.5), tmp_path / "half")
    assert torch.allclose(weights(half), (weights(base) + weights(whole)) / 2, atol=1e-5)
    same = small_model()
    training.train(same, table, dev, RECIPE._replace(keep_base=1.0), tmp_path / "same")
    assert torch.equal(weights(same), weights(base))  # the advice if a training does harm


@pytest.mark.parametrize(("warmup", "expected"), [(0.1, 2), (3, 3), (500, 500)])
def test_the_warm_up_is_a_share_of_the_steps_or_a_number_of_steps(warmup, expected, table, dev, tmp_path):
    """A number of steps stays as it is, even if the training is shorter."""
    trainer = training.Trainer(small_model(), table, dev, RECIPE._replace(warmup=warmup), tmp_path, ())
    assert trainer.args.get_warmup_steps(table["batch"].nunique()) == expected


class Scripted(evaluator.RequestEvaluator):
    """A dev metric that a test scripts: `act` returns the value of each measurement."""

    def __init__(self, act):
        self.act, self.calls, self.primary_metric = act, 0, measures.MAIN
        self.greater_is_better = True

    def __call__(self, model, *_, **__):
        self.calls += 1
        return {measures.MAIN: self.act(self.calls)}


@pytest.mark.slow
def test_training_stops_if_the_dev_metric_does_not_improve(table, tmp_path):
    steps = table["batch"].nunique() * 4
    recipe = RECIPE._replace(epochs=4, patience=2)
    history = training.train(small_model(), table, Scripted(lambda call: 0.5), recipe, tmp_path)
    assert history["step"].max() < steps


@pytest.mark.slow
def test_an_interrupt_keeps_the_mean_of_the_checkpoints_up_to_the_best(table, tmp_path, capsys):
    measured = {1: 0.1, 2: 0.2, 3: 0.4, 4: 0.3}

    def act(call):
        if call == 5:
            raise KeyboardInterrupt
        return measured[call]

    model = small_model()
    before = weights(model)
    training.train(model, table, Scripted(act), RECIPE, tmp_path)
    steps = sorted(int(p.name.split("-")[1]) for p in tmp_path.glob("checkpoint-*"))
    assert len(steps) == 3 and f"the checkpoints up to checkpoint-{steps[1]}" in capsys.readouterr().out
    assert torch.allclose(weights(model), mean_of_checkpoints(tmp_path, steps[1]), atol=1e-6)
    assert not torch.allclose(weights(model), before, atol=1e-4)


def test_an_interrupt_before_the_first_checkpoint_keeps_the_weights(table, tmp_path, capsys):
    def interrupt(call):
        raise KeyboardInterrupt

    model = small_model()
    before = weights(model)
    history = training.train(model, table, Scripted(interrupt), RECIPE, tmp_path)
    assert history.empty and "keeping the present weights" in capsys.readouterr().out
    assert torch.equal(weights(model), before)


@pytest.mark.slow
def test_a_resumed_training_remembers_its_patience(table, tmp_path):
    """A measurement without a gain, a kill, and another one: together they are a patience of two."""

    class Killed(BaseException):
        pass

    def killed_at_the_fourth(call):
        if call == 4:
            raise Killed
        return 0.5

    recipe = RECIPE._replace(epochs=4, patience=2)
    with pytest.raises(Killed):
        training.train(small_model(), table, Scripted(killed_at_the_fourth), recipe, tmp_path)
    history = training.train(small_model(), table, Scripted(lambda call: 0.5), recipe, tmp_path)
    assert history["step"].max() == 3 * table["batch"].nunique()
    assert list(history["dev nDCG@10"].dropna()) == [0.5] * 4


def two_epochs(folder: Path, *callbacks) -> torch.Tensor:
    """Run a short training on one thread and return its final weights.

    Another number of threads rounds sums in another order, which Adam enlarges to 1.4e-5 here. This process may have
    more threads than a new one: numba, which UMAP uses, sets the number for OpenMP and so for PyTorch.
    """
    tracks = catalogue.generate(300, seed=1)
    requests = listener_requests.generate(tracks, 200, 1)
    table = pairs.make_pairs(tracks, requests, 160, **SHARES)
    dev = evaluator.RequestEvaluator(*measures.held_out(tracks, requests, "dev"))
    model, threads = small_model(), torch.get_num_threads()
    torch.set_num_threads(1)
    training.train(model, table, dev, RECIPE._replace(epochs=2), folder, *callbacks)
    torch.set_num_threads(threads)
    return weights(model)


class Killer(TrainerCallback):
    """Kill the process between the second and the third of four checkpoints."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step > 0.6 * state.max_steps:
            os.kill(os.getpid(), signal.SIGKILL)


APART = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_finetune
test_finetune.two_epochs(Path(sys.argv[2]), test_finetune.Killer())
"""


@pytest.mark.slow
def test_a_killed_training_ends_like_an_uninterrupted_one(tmp_path, capsys):
    command = [sys.executable, "-c", APART, str(paths.ROOT / "tests"), str(tmp_path / "killed")]
    assert subprocess.run(command, cwd=paths.ROOT, capture_output=True).returncode == -signal.SIGKILL
    assert len(checkpoints.complete_ones(tmp_path / "killed")) == 2
    again = two_epochs(tmp_path / "killed")
    message = capsys.readouterr().out
    assert "Resuming from checkpoint-" in message
    whole = two_epochs(tmp_path / "whole")
    difference = (whole - again).abs()
    assert torch.allclose(whole, again, atol=1e-5), f"{message}{difference.max()}, {(difference > 1e-5).sum()} weights"


def test_an_incomplete_checkpoint_or_another_training_is_not_resumed(tmp_path):
    (tmp_path / "checkpoint-3").mkdir(parents=True)
    files.write_json(tmp_path / "signature.json", {"signature": "this"})
    assert checkpoints.resumable(tmp_path, "this") is None  # without trainer_state.json
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text('{"a": {}')
    assert checkpoints.resumable(tmp_path, "this") is None  # half of that file
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text("{}")
    assert checkpoints.resumable(tmp_path, "this").name == "checkpoint-4"
    assert checkpoints.resumable(tmp_path, "other") is None and not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.slow
def test_a_full_memory_halves_the_batch_and_the_result_is_the_same(table, dev, tmp_path, monkeypatch, capfd):
    """The loss fails as CUDA does for more than eight texts at a time: with PyTorch's message, or the driver's."""
    few = table[table["batch"] < 6]
    assert few.groupby("batch").size().max() > 8
    whole = small_model()
    expected = training.train(whole, few, dev, RECIPE, tmp_path / "whole")
    real = training.Trainer.get_default_loss

    class Full(training.MultipleNegativesRankingLoss):
        def __init__(self, model, error):
            super().__init__(model)
            self.error = error

        def forward(self, *_):
            raise self.error

    def small(self, model):
        if self.micro is None:
            return Full(model, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        driver = torch.AcceleratorError("CUDA error: out of memory")
        return Full(model, driver) if self.micro > 8 else real(self, model)

    monkeypatch.setattr(training.Trainer, "get_default_loss", small)
    assert estimate.estimate_training(small_model(), few, dev, RECIPE).seconds > 0
    halved = small_model()
    history = training.train(halved, few, dev, RECIPE, tmp_path / "halved")
    assert "a batch still has" in "".join(capfd.readouterr())
    assert np.allclose(history["loss"].dropna(), expected["loss"].dropna(), atol=1e-3)
    assert torch.allclose(weights(halved), weights(whole), atol=1e-4)


# several workers


@pytest.fixture(scope="module")
def even(table):
    """Twelve batches that two workers can halve, so no pair is left out."""
    size = table.groupby("batch")["batch"].transform("size")
    halved = table[size % 2 == 0]
    return halved[halved["batch"].isin(halved["batch"].unique()[:12])].reset_index(drop=True)


@pytest.fixture(scope="module")
def alone(even, dev, tmp_path_factory):
    """The same training in one process: the folder of the base, the history and the weights."""
    folder = tmp_path_factory.mktemp("alone")
    model = small_model()
    model.save_pretrained(str(folder / "base"))
    history = training.train(model, even, dev, LONGER, folder / "checkpoints")
    return folder / "base", history, weights(model)


def assert_same(history: pd.DataFrame, result: torch.Tensor, alone) -> None:
    """Compare but for rounding, which Adam enlarges where a weight has next to no gradient.

    Measured on MiniLM, after one step as after twenty: 9e-5 of the distance that the weights moved; 1e-6 of the loss.
    """
    base, expected, whole = alone
    start = weights(encoder.load(base, 32))
    assert np.allclose(history, expected, rtol=0, atol=1e-3, equal_nan=True)
    assert (result - whole).norm() < 1e-3 * (whole - start).norm()


def together(base, even, dev, folder) -> tuple[pd.DataFrame, torch.Tensor]:
    model = encoder.load(base, 32)
    history = workers.train(2, model, even, dev, LONGER, folder)
    return history, weights(model)


TOGETHER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import pandas as pd
import test_finetune as t
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
dev = t.evaluator.RequestEvaluator(pd.read_parquet(folder / "tracks"), pd.read_parquet(folder / "requests"))
t.together(base, pd.read_parquet(folder / "even"), dev, folder / "checkpoints")
"""


@pytest.mark.slow
def test_two_workers_end_with_their_parent_resume_and_reach_the_result_of_one_process(
    even, dev, alone, tmp_path, capsys
):
    for name, part in (("even", even), ("tracks", dev.tracks), ("requests", dev.requests)):
        part.to_parquet(tmp_path / name)
    script = TOGETHER.format(tests=str(paths.ROOT / "tests"))
    command = [sys.executable, "-c", script, str(alone[0]), str(tmp_path)]
    killed = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not list(tmp_path.glob("checkpoints/checkpoint-*/trainer_state.json")) and time.time() < deadline:
        time.sleep(0.02)
    children = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    assert killed.wait() == -9
    assert len(children) >= 3 and not psutil.wait_procs(children, timeout=30)[1]
    assert not (tmp_path / "workers" / "weights.pt").exists()
    folder = tmp_path / "checkpoints"
    result = together(alone[0], even, dev, folder)
    output = capsys.readouterr().out
    assert "Resuming from checkpoint-" in output and "72/72" in output and "Traceback" not in output
    assert_same(*result, alone)
    assert not (tmp_path / "workers").exists()
    one = encoder.load(alone[0], 32)  # one process resumes at the workers' last checkpoint, with no step left
    history = training.train(one, even, dev, LONGER, folder)
    assert "Resuming from checkpoint-72" in capsys.readouterr().out
    assert_same(history, weights(one), alone)


def test_a_batch_is_split_in_equal_parts_and_leaves_out_other_pairs_each_turn():
    assert workers.parts([5, 6, 7, 8], 1, 3) == [[5, 6, 7, 8]]
    assert workers.parts([5, 6, 7, 8], 2, 3) == [[5, 6], [7, 8]]
    turns = [workers.parts(list(range(11)), 4, turn) for turn in range(11)]
    assert all([len(part) for part in parts] == [2, 2, 2, 2] for parts in turns)
    left_out = [set(range(11)) - {row for part in parts for row in part} for parts in turns]
    assert [sum(row in out for out in left_out) for row in range(11)] == [3] * 11


def test_more_workers_than_pairs_in_a_batch_are_refused(table, dev, tmp_path):
    with pytest.raises(errors.WorkbookError, match=r"19 workers cannot share a batch of \d+ pairs"):
        workers.train(19, small_model(), table, dev, RECIPE, tmp_path / "checkpoints")
    assert not list(tmp_path.iterdir())


# the estimate and the record


def test_the_estimate_leaves_the_weights_alone_and_warns(table, dev):
    model, recipe = small_model(), RECIPE._replace(epochs=3)
    before = weights(model).clone()
    expected = estimate.estimate_training(model, table, dev, recipe)
    assert expected.steps == 3 * table["batch"].nunique() and expected.seconds > expected.steps * expected.step > 0
    assert torch.equal(before, weights(model))
    assert estimate.warnings(expected, recipe) == ""
    long = estimate.warnings(expected, recipe._replace(warmup=500))
    assert long.startswith(f"WARNING: the warm-up of 500 steps is longer than the training of {expected.steps}")
    if encoder.device() == "cpu":
        hours = estimate.warnings(expected._replace(seconds=7 * 3600), recipe)
        assert hours.startswith("WARNING: about 7 hours on this CPU") and "\n" not in hours


@pytest.mark.parametrize(
    ("seconds", "line"),
    [
        (0.9, "training is 3.0 times slower than estimated, about 5 min left: other programs may be using"),
        (0.1, "training is 3.0 times faster than estimated, about 0 min left"),
        (0.4, ""),
    ],
)
def test_one_line_reports_a_pace_unlike_the_estimate(seconds, line, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    pace = estimate.Pace(estimate.Estimate(steps=400, step=0.3, seconds=120.0, memory=0, disk=0))
    pace.on_train_begin(None, None, None)
    for step in range(1, 400):
        if step == 100:
            now[0] += 3600  # a measurement does not count
            pace.on_evaluate(None, None, None)
        now[0] += seconds
        pace.on_step_end(None, SimpleNamespace(global_step=step, max_steps=400), None)
    output = capsys.readouterr().out
    assert output.startswith(f"… {line}") if line else not output
    assert output.count("\n") == bool(line)


def test_a_training_is_recorded_and_its_card_shows_the_recipe(tmp_path):
    history = pd.DataFrame({"step": [0, 5], "loss": [np.nan, 0.5], "dev nDCG@10": [0.2, 0.3]})
    used = {"base_model": "all-MiniLM-L6-v2", "lr": 1e-4, "tracks.parquet": "abc"}
    run = record.track(tmp_path / "mlflow.db", "quick", used, history, {"dev MRR": 0.4})
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    data = client.get_run(run).data
    assert data.params["lr"] == "0.0001" and data.metrics["dev MRR"] == 0.4
    assert [m.value for m in client.get_metric_history(run, "dev nDCG_10")] == [0.2, 0.3]
    card = record.model_card(used, {"dev MRR": 0.4})
    assert card.startswith("---\nlibrary_name") and "base_model: all-MiniLM-L6-v2" in card
    assert "| lr | 0.0001 |" in card and "| dev MRR | 0.400 |" in card and "| tracks.parquet | abc |" in card
