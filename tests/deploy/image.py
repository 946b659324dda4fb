"""Builds docker/Dockerfile where there is no container engine and no registry: buildah in a chroot,
on a base image that debootstrap makes. Runs it in a mount namespace of its own."""

import json
import os
import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ("buildah", "debootstrap", "unshare", "chroot")


def missing():
    """Why no image can be built here, or None."""
    if os.geteuid() != 0:
        return "not root"
    absent = [tool for tool in TOOLS if not shutil.which(tool)]
    if absent:
        return f"not installed: {' '.join(absent)}"
    done = subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
                          capture_output=True, text=True, check=False)
    return f"mounts are refused: {done.stderr.strip()}" if done.returncode else None


class Builder:
    """Images in a storage of their own, under folder."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "buildah.log"
        # Made before anything is mounted in it, and never walked by a recursive chown or chmod.
        self.base_root = folder / "base"

    def buildah(self, *arguments):
        command = ["buildah", "--root", self.folder / "root", "--runroot", self.folder / "run",
                   "--storage-driver", "vfs", *arguments]
        done = subprocess.run([str(c) for c in command], cwd=ROOT, text=True, check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)
        with self.log.open("a") as log:
            log.write(f"$ {command}\n{done.stdout}{done.stderr}\n")
        assert done.returncode == 0, f"{arguments[0]}: {(done.stdout + done.stderr)[-3000:]}"
        return done.stdout.strip()

    def make_base(self, name="debian:bookworm-slim"):
        done = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", self.base_root],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:]
        # What debootstrap leaves and the published image has not; else it would count as saved.
        for left in (*self.base_root.glob("var/cache/apt/archives/*.deb"),
                     *self.base_root.glob("var/lib/apt/lists/*_*"),
                     *self.base_root.glob("var/cache/apt/*.bin")):
            left.unlink()
        container = self.buildah("from", "scratch")
        self.buildah("add", container, f"{self.base_root}/", "/")
        self.buildah("config", "--cmd", "bash", container)
        self.buildah("commit", "--format", "docker", "--rm", container, name)

    def build(self, name, **arguments):
        given = [f"--build-arg={key}={value}" for key, value in arguments.items()]
        self.buildah("bud", "--isolation", "chroot", "--pull-never", "--format", "docker",
                     "-f", "docker/Dockerfile", "-t", name, *given, ".")

    def remove(self):
        """Takes everything away again; refuses while anything is still mounted inside."""
        mounted = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                   if line.split()[1].startswith(f"{self.folder}/")]
        assert not mounted, f"still mounted: {mounted}"
        shutil.rmtree(self.folder)

    def config(self, name):
        return json.loads(self.buildah("inspect", "--type", "image", name))["Docker"]["config"]

    def unpack(self, name):
        """(container, its root folder)."""
        container = self.buildah("from", "--pull-never", name)
        return container, pathlib.Path(self.buildah("mount", container))


def bytes_on_disk(folder):
    return int(subprocess.run(["du", "--summarize", "--one-file-system", "--block-size=1", folder],
                              capture_output=True, text=True, check=True).stdout.split()[0])


# Private mounts, gone with the process: the root bound on itself, /proc, then all of it read-only.
ENTER = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
user=$2
root=$1
shift 2
exec chroot --userspec="$user" "$root" "$@"
"""


def run(root, config, command=None, **environment):
    """Starts the image's own command (or another one) as its user on a read-only root."""
    variables = dict(line.split("=", 1) for line in config["Env"])
    variables.update(environment)
    command = command or [*config["Entrypoint"], *config["Cmd"]]
    return subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-euc", ENTER, "sh",
         str(root), config["User"], *command],
        env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True)
