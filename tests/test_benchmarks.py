"""The benchmarks run; their times are not judged here."""

import re
import subprocess

from lib import runs


def said(python: str, script: str, *options: str) -> str:
    command = [python, str(runs.ROOT / "benchmarks" / script), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_benchmark_of_search(python):
    out = said(python, "index.py", "--quick")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| 5,000")]
    assert rows[0][1] == "exact" and rows[0][5] == "1" and rows[0][7] == "1"  # recall, without and with a filter
    assert len(rows) == 2


def test_the_benchmark_of_encoders(python, small_run):
    """Its vectors are those of sentence-transformers, to 1e-4."""
    out = said(python, "encoders.py", str(small_run), "--quick")
    for way in ("SentenceTransformer.encode", "torch", "onnx", "onnx-int8"):
        assert len(re.findall(rf"^\| {way} \|", out, re.MULTILINE)) == 2
    assert float(re.search(r"SentenceTransformer.encode: (.+)$", out, re.MULTILINE)[1]) < 1e-4
