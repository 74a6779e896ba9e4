"""Child processes that sweep a planted model through the command line, and can be killed.

A server (the `forkserver` of the standard library) imports this module once and plants the model;
every child is a process of its own, forked from it, so that a kill and a new start take no longer
than the sweep.
"""

import json
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers.pre_tokenizers import WhitespaceSplit

import secondary_sinks.cli.sweep_app
import secondary_sinks.cli.work  # noqa: F401  what a command imports late, once for all
from secondary_sinks.cli.entry import run
from secondary_sinks.models.original.sources import Source
from secondary_sinks.sweeps import config as sweep_config
from secondary_sinks.sweeps import executors
from secondary_sinks.sweeps.executors import InProcess
from secondary_sinks.sweeps.tasks import unit_key
from secondary_sinks.testing import Plant, plant

N_TEXTS, N_LAYERS = 6, 4
EDITS = ("zero", "mean", "patch:twin")


def planted():
    """A small model with a sink, whose tokenizer reads ids in words."""
    found = plant(
        [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=12, forming=(2,))],
        n_layers=N_LAYERS,
        n_pos=48,
    )
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({str(n): n for n in range(found.model.cfg.d_vocab)}, "0")
    )
    words.pre_tokenizer = WhitespaceSplit()
    found.model.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
    return found


torch.set_num_threads(1)
PLANTED = planted()


def write_texts(path, n=N_TEXTS):
    """Texts that differ before the planted sink, so that it is another one in each."""
    rows = []
    for number in range(n):
        ids = PLANTED.tokens.tolist()
        ids[2:11] = ids[2 + number : 11] + ids[2 : 2 + number]
        rows.append(json.dumps({"id": f"t{number}", "text": " ".join(map(str, ids))}))
    path.write_text("\n".join(rows) + "\n")
    return path


class Logging(InProcess):
    """Writes the key of every unit to a file before it is computed; may be busy for seconds."""

    def __init__(self, log, busy=False):
        super().__init__(lambda spec: PLANTED.model)
        self.log, self.busy = log, busy

    def run(self, tasks):
        for task in tasks:
            if self.busy:
                note(self.log, ["busy"])
                torch.ones(6000, 6000) @ torch.ones(6000, 6000)
            keys = [unit_key(task.key, unit, task.ordinary) for unit in task.units]
            note(self.log, keys)
            yield from super().run([task])


def note(log, keys):
    """Append lines with one write, which a kill cannot tear."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, "".join(f"{key}\n" for key in keys).encode())
    os.close(handle)


def found_as_planted(name, revision):
    """Where the planted model comes from, in place of `resolve`, which knows no such name."""
    return Source(name=name, kind="object", path=name, revision=revision)


def sweep_in_child(texts, out, log, said, options, limit, busy):
    """What a child does: `secondary-sinks ablate planted ...` with its words in a file."""
    # As a terminal starts it: what a shell runs in the background ignores interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with said.open("w") as words:
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    executors.executor_named = lambda name, address: Logging(log, busy)
    sweep_config.resolve = found_as_planted
    edits = [word for edit in EDITS for word in ("--edit", edit)]
    words = ["ablate", "planted", "--texts", str(texts), "--out", str(out), *edits, *options]
    code = run(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.sweeps.children"])


def start_server():
    """Wait until the server has imported what children need."""
    child = CONTEXT.Process(target=os.getpid)
    child.start()
    child.join()


def start(place, out, number=0, options=(), limit=None, busy=False):
    """Start a child; the process, its log of computed units, and what it says."""
    log, said = Path(place) / f"computed-{number}", Path(place) / f"said-{number}"
    said.write_text("")
    log.write_text("")
    texts = Path(place) / "texts.jsonl"
    child = CONTEXT.Process(
        target=sweep_in_child, args=(texts, out, log, said, options, limit, busy)
    )
    child.start()
    return child, log, said
