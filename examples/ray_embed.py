#!/usr/bin/env python3
"""Embeds a column of a Ray Dataset with a fleet of orthrus servers.

    python examples/ray_embed.py --url http://orthrus:8080 --input in.parquet --output out/

Every actor keeps one client and with it its connections; the servers say with 429 how fast they are."""

import argparse


class Embedder:
    """A callable class for Dataset.map_batches with batch_format="numpy"."""

    def __init__(self, url, text="text", vector="vector", **options):
        from orthrus_client import Client

        self.client = Client(url, **options)
        self.text, self.vector = text, vector

    def __call__(self, batch):
        batch[self.vector] = self.client.embed([str(text) for text in batch[self.text]])
        return batch


def embed(dataset, url, text="text", vector="vector", actors=2, batch_size=1024, **options):
    """The dataset with a column of vectors; options are those of orthrus_client.Client."""
    return dataset.map_batches(Embedder, fn_constructor_args=(url, text, vector),
                               fn_constructor_kwargs=options, concurrency=actors,
                               batch_size=batch_size, batch_format="numpy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--input", required=True, help="Parquet with a column of texts")
    parser.add_argument("--output", required=True, help="a folder of Parquet files")
    parser.add_argument("--text", default="text", help="that column")
    args = parser.parse_args()
    import ray

    embed(ray.data.read_parquet(args.input), args.url, args.text).write_parquet(args.output)


if __name__ == "__main__":
    main()
