"""An S3 endpoint on this machine's disk: a stand-in for S3, for the broker and the lake of one machine.

    python -m deploy.scale.events.objects outputs/scale/objects 8088

localbucket keeps buckets as folders. The broker needs more of S3 than that: a write under a condition (If-Match), a
write that is on disk when it is acknowledged, and a listing that reads the folder of its prefix only. It checks no
credentials, so it listens on loopback only. Elsewhere S3, MinIO or another store takes its place: the setting S3.
"""

import os
import sys
import threading
import xml.etree.ElementTree as ET
from functools import lru_cache
from http.server import ThreadingHTTPServer
from pathlib import Path

from localbucket import TEMP_PREFIX, S3Handler, etag_matches, object_etag, stat_signature

BUCKETS = ("lake", "tansu")  # made at the start
LOCK = threading.Lock()


class Handler(S3Handler):
    """localbucket's handler of a request, with conditions, fsync and listings by prefix."""

    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement

    def log_message(self, *_):
        """Keep no log of requests."""

    def _put(self, bucket: str, key: str) -> None:
        if key.endswith("/"):  # the mark of a folder, which pyarrow sets after it has deleted a file
            self._read_body()
            self._send(200, headers={"ETag": '""'})
        else:
            super()._put(bucket, key)

    def _write_object(self, bucket: str, key: str, write) -> str:
        def durable(file) -> str:
            etag = write(file)
            file.flush()
            os.fsync(file.fileno())
            return etag

        target, expected = self._object_path(bucket, key), self.headers.get("If-Match")
        if expected is None:
            etag = super()._write_object(bucket, key, durable)
        else:
            with LOCK:
                if not target.is_file() or not etag_matches(expected, object_etag(target)):
                    raise self._precondition_failed_error()
                etag = super()._write_object(bucket, key, durable)
        folder = os.open(target.parent, os.O_RDONLY)  # the name is durable, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return etag

    def _list_entries(self, bucket_dir, prefix, delimiter, marker, marker_is_prefix, max_keys):
        base = prefix[: prefix.rfind("/") + 1]
        if ".." in base.split("/"):
            return [], [], False, ""
        if marker and not marker.startswith(base):
            if marker > base:
                return [], [], False, ""
            marker = base
        contents, commons, truncated, last = super()._list_entries(
            bucket_dir / base, prefix[len(base) :], delimiter, marker[len(base) :], marker_is_prefix, max_keys
        )
        contents = [(base + key, path) for key, path in contents if path.exists()]
        return contents, [base + common for common in commons], truncated, last[:2] + base + last[2:] if last else ""

    def _add_list_entries(self, root, contents, commons, encode):
        root.extend(_entry(encode(key), path, stat_signature(path)) for key, path in contents)
        super()._add_list_entries(root, [], commons, encode)


@lru_cache(maxsize=20_000)
def _entry(key: str, path: Path, signature: tuple) -> ET.Element:
    """Return an object's entry in a listing. The broker lists all its batches for each fetch."""
    root = ET.Element("entries")
    S3Handler._add_list_entries(None, root, [(key, path)], [], str)
    return root[0]


class Server(ThreadingHTTPServer):
    """A server with a thread for each connection."""

    request_queue_size = 128


def main(root: Path, port: int) -> None:
    """Serve the buckets in a folder, forever."""
    for bucket in BUCKETS:
        (root / bucket).mkdir(parents=True, exist_ok=True)
    for left in root.rglob(f"{TEMP_PREFIX}*"):  # of writes that a kill interrupted
        if left.is_file():
            left.unlink()
    Handler.data_root = root.resolve()
    Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
