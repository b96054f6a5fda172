"""The lake's job: Spark reads the topic of events and writes them into the lake, each once by its id.

    python -m deploy.scale.events.lake          # stands, and writes every 20 s
    python -m deploy.scale.events.lake --once   # writes all that is there, and ends: for a run each hour

The lake itself is the memory: before a batch is written, its ids are compared with those in the lake, in the events'
own hours and in those of the moment before they were received. So an event that comes again is dropped at any time,
after a kill of each part, and even if Spark's checkpoint is lost. A batch's files have the names of its number: a batch
that is repeated writes the same files again.

An event may be received up to `lines.LATE` after its time. Later ones, and lines that are no event, go to `rejected`.

Settings, as environment variables: BROKERS, LAKE, S3 (store.py), CHECKPOINT (a folder), SPARK (master), SOURCE (pykafka
or kafka), LAKE_EVERY (seconds), LAKE_DAYS, and those of tidy.py.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming import StreamingQuery

from deploy.scale.events.source import Kafka, offsets
from deploy.scale.events.store import open_store
from deploy.scale.events.tidy import Tidy
from deploy.scale.events.writer import BUCKETS, Writer

TOPIC = "events"
MOST = 100_000  # messages of a batch
COUNTS = "read long, written long, doubled long, forgotten long, blank long, rejected string"


def write(frame: DataFrame, batch: int) -> None:
    """Write a batch, and print its counts as a line of JSON."""
    query = frame.sparkSession.sparkContext.getLocalProperty("sql.streaming.queryId")
    place, began = os.environ["LAKE"], time.monotonic()

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        writer = Writer(query, batch, TaskContext.get().partitionId(), place)
        for each in batches:
            writer.take(each)
        counts = writer.write()
        names = [column.split()[0] for column in COUNTS.split(", ")]
        yield pa.RecordBatch.from_pylist([{name: counts.get(name, 0) for name in names}])

    # The same bytes are of the same bucket: an event that comes twice is seen by one task.
    bucket = f.get_json_object(f.col("value").cast("string"), "$.id")
    frame = frame.select("value", "partition", "offset", "timestamp").repartition(BUCKETS, bucket)
    tasks = [row.asDict() for row in frame.mapInArrow(task, COUNTS).collect()]
    reasons = sum((Counter(json.loads(counts.pop("rejected"))) for counts in tasks), Counter())
    total = {name: sum(counts[name] for counts in tasks) for name in tasks[0]} if tasks else {}
    stamp = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "batch": batch}
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({**stamp, **total, "rejected": reasons, "seconds": seconds}), flush=True)


def session() -> SparkSession:
    """Start Spark. Its files are temporary; those of a killed one are removed, because they have events in them."""
    folder = Path(os.environ["CHECKPOINT"]).absolute().with_name("spark")
    shutil.rmtree(folder, ignore_errors=True)
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    settings = {
        "spark.local.dir": folder,
        "spark.driver.memory": "1g",
        "spark.driver.extraJavaOptions": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",  # Python does most of the work
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.adaptive.enabled": "false",  # a task's number is that of its bucket
        "spark.sql.streaming.minBatchesToRetain": "10",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
    }
    builder = SparkSession.builder.appName("lake").master(os.environ.get("SPARK", f"local[{BUCKETS},4]"))
    for name, value in settings.items():
        builder = builder.config(name, str(value))
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    spark.dataSource.register(Kafka)
    return spark


def start(spark: SparkSession, once: bool) -> StreamingQuery:
    """Start the query."""
    source = spark.readStream.format(os.environ.get("SOURCE", "pykafka"))
    options = {"subscribe": TOPIC, "startingOffsets": "earliest", "maxOffsetsPerTrigger": MOST}
    stream = source.options(**options).option("kafka.bootstrap.servers", os.environ["BROKERS"]).load()
    every = {"availableNow": True} if once else {"processingTime": f"{os.environ.get('LAKE_EVERY', '20')} seconds"}
    query = stream.writeStream.foreachBatch(write).option("checkpointLocation", os.environ["CHECKPOINT"])
    return query.trigger(**every).start()


def main() -> None:
    """Run the job. It ends with an error if a part is away for long; Supervisor starts it again."""
    parser = argparse.ArgumentParser(prog="python -m deploy.scale.events.lake")
    parser.add_argument("--once", action="store_true", help="write all that is there, and end")
    query, tidy = start(session(), parser.parse_args().once), Tidy(open_store(os.environ["LAKE"]))
    ended = False
    while not ended:
        ended = query.awaitTermination(60)
        place = query.lastProgress and query.lastProgress.sources[0].endOffset
        tidy(offsets(place) if place else {})


if __name__ == "__main__":
    main()
