"""A kernel's own process: real ones, without a gateway."""

import asyncio
import json
import shutil

import pytest

from lib.core.files import read_json, write_json
from lib.serve import kernels, notebook

LOADED = """# GET /loaded
import sys
heavy = "torch", "transformers", "sentence_transformers", "scipy", "sklearn", "matplotlib", "numba", "papermill"
print(json.dumps({"heavy": [name for name in heavy if name in sys.modules], "code": recommender.__file__}))"""
REQUEST = {"text": "sad songs", "history": ["calm piano"], "explain": True}


@pytest.mark.parametrize(("form", "heavy"), [("onnx-int8", []), ("torch", ["torch"])])
def test_a_kernel_imports_pytorch_only_for_its_form(small_run, tmp_path, form, heavy):
    run = shutil.copytree(small_run, tmp_path / "run")
    write_json(run / "index/index.json", read_json(run / "index/index.json") | {"encoder": form})

    async def answers():
        startup, endpoints = notebook.read(run)
        kernel = kernels.Kernel()
        try:
            await kernel.start(startup, endpoints | {"GET /loaded": {"": LOADED}}, 100)
            request = json.dumps({"body": json.dumps(REQUEST)})
            return await kernel.answer("POST /recommend", [request], 60), await kernel.answer("GET /loaded", ["{}"], 60)
        finally:
            await kernel.stop()

    kernels.FORKS.set_forkserver_preload(kernels.PRELOAD)
    [reply], [loaded] = asyncio.run(answers())
    tracks = json.loads(reply.body)["tracks"]
    assert reply.status == 200 and len(tracks) == 5 and all(track["why"]["words"] for track in tracks)
    assert json.loads(loaded.body)["heavy"][: len(heavy) or 1] == heavy
