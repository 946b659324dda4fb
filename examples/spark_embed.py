#!/usr/bin/env python3
"""Embeds a column of a Spark DataFrame with a fleet of orthrus servers.

    spark-submit examples/spark_embed.py --url http://orthrus:8080 --input in.parquet --output out.parquet

Every task keeps one client, so it keeps its connections; the servers say with 429 how fast they are,
and tasks that are tried again by Spark give the same rows again."""

import argparse


def embedder(url, text="text", vector="vector", **options):
    """A function for DataFrame.mapInPandas: each part of rows with a column of vectors."""

    def run(parts):
        from orthrus_client import Client

        with Client(url, **options) as client:
            for rows in parts:
                yield rows.assign(**{vector: list(client.embed(rows[text].tolist()))})

    return run


def embed(frame, url, text="text", vector="vector", **options):
    """The frame with a column of array<float>; options are those of orthrus_client.Client."""
    from pyspark.sql.types import ArrayType, FloatType, StructField, StructType

    schema = StructType([*frame.schema.fields, StructField(vector, ArrayType(FloatType()), False)])
    return frame.mapInPandas(embedder(url, text, vector, **options), schema)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--input", required=True, help="Parquet with a column of texts")
    parser.add_argument("--output", required=True)
    parser.add_argument("--text", default="text", help="that column")
    args = parser.parse_args()
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("orthrus").getOrCreate()
    embed(spark.read.parquet(args.input), args.url, args.text).write.parquet(args.output)
    spark.stop()


if __name__ == "__main__":
    main()
