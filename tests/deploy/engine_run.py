#!/usr/bin/env python3
"""One engine over many texts: writes a row a text, as .npy, in the order of their ids, and prints
figures as one JSON line. Run by test_engines.py in an environment that has the engine.

usage: engine_run.py spark|ray URL TEXTS.jsonl OUT.npy"""

import json
import os
import pathlib
import sys
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATHS = [str(ROOT / "python"), str(ROOT / "examples")]
sys.path[:0] = PATHS
# The engines' own processes need the same modules and the same Python.
os.environ["PYTHONPATH"] = os.pathsep.join(PATHS)
os.environ["PYSPARK_PYTHON"] = sys.executable
OBJECT_STORE_BYTES = 256 * 1024 * 1024  # not a third of the machine
OPTIONS = {"connections": 4, "batch_tokens": 512, "patience_s": 120.0}


def by_spark(url, rows):
    import spark_embed
    from pyspark.sql import SparkSession

    spark = (SparkSession.builder.master("local[2]").appName("orthrus").config("spark.ui.enabled", "false")
             .config("spark.sql.execution.arrow.maxRecordsPerBatch", "2000").getOrCreate())
    frame = spark.createDataFrame([(r["id"], r["text"]) for r in rows], "id long, text string").repartition(8)
    found = [(r["id"], r["vector"]) for r in spark_embed.embed(frame, url, **OPTIONS).collect()]
    spark.stop()
    return found


def by_ray(url, rows):
    import ray
    import ray_embed

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=OBJECT_STORE_BYTES)
    dataset = ray.data.from_items(rows)
    found = [(r["id"], r["vector"]) for r in ray_embed.embed(dataset, url, actors=1, **OPTIONS).take_all()]
    ray.shutdown()
    return found


def main():
    engine, url, texts, out = sys.argv[1:]
    rows = [json.loads(line) for line in open(texts, encoding="utf-8")]
    start = time.monotonic()
    found = {"spark": by_spark, "ray": by_ray}[engine](url, rows)
    seconds = time.monotonic() - start
    ids = [row for row, _ in found]
    assert len(ids) == len(set(ids)), "a row is doubled"
    assert sorted(ids) == [r["id"] for r in rows], "a row is missing"
    np.save(out, np.array([vector for _, vector in sorted(found, key=lambda item: item[0])], np.float32))
    print(json.dumps({"engine": engine, "texts": len(rows), "seconds": round(seconds, 2),
                      "texts_per_s": round(len(rows) / seconds, 1)}))


if __name__ == "__main__":
    main()
