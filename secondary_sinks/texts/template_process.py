"""Render chat templates in a separate process, with limits on time, memory and output length.

A chat template is a program that comes with a model. transformers renders it in its sandbox, in a
second process. One process serves all texts; it starts when first needed.
"""

import atexit
import inspect
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from secondary_sinks.errors import TextError

SECONDS = 20.0
"""Time limit for one text."""
BYTES = 2 * 2**30
"""Limit on the address space of the process, transformers included."""
START_SECONDS = 180.0
"""Time limit for the start of the process."""
LENGTH = 1_000_000
"""Maximum number of characters of the output, beyond four times those of the input."""
_RESERVED = {"messages", *inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters}


def render_template(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
) -> str:
    """The output of a tokenizer's chat template for messages, with further `variables`.

    Raises `TextError` for a template that fails, that takes too long, too much memory or writes
    too much, for a variable that it does not have, and for a tokenizer that writes chats by code
    of its own.
    """
    content = list(messages)
    _refuse_own_code(tokenizer)
    template = _template(tokenizer)
    for name in variables.keys() - {"add_generation_prompt"}:
        if name in _RESERVED or not re.search(rf"\b{re.escape(name)}\b", template):
            raise TextError(f"it has no variable {name!r}", "see its text for those that it has")
    request = {
        "template": template,
        "messages": content,
        "variables": {**_special_tokens(tokenizer), **variables},
        "most": LENGTH + 4 * len(json.dumps(content, ensure_ascii=False)),
    }
    with _LOCK:
        answer = _worker().ask(request, SECONDS)
    if "error" in answer:
        raise TextError(str(answer["error"]))
    return str(answer["fed"])


def _refuse_own_code(tokenizer: Any) -> None:
    """Refuse a tokenizer that has no template, but a function: nothing could bound or end it."""
    own = getattr(tokenizer.apply_chat_template, "__func__", None)
    if own is not PreTrainedTokenizerBase.apply_chat_template:
        raise TextError(
            f"{type(tokenizer).__name__} writes chats by code of its own, which runs without "
            "bounds on time and memory",
            "expected a tokenizer with a chat template, as "
            "tokenizer_config.json or chat_template.jinja hold one",
        )


def _template(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates without a default
        raise TextError(str(error)) from error


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The special tokens (strings, or lists of them) by the names that templates use."""
    return {
        name: [str(one) for one in token] if isinstance(token, list | tuple) else str(token)
        for name, token in tokenizer.special_tokens_map.items()
    }


class _Worker:
    """The process and its pipes."""

    def __init__(self) -> None:
        file = str(Path(__file__).with_name("template_worker.py"))
        start = (
            f"import sys; sys.path[:] = {sys.path!r}; sys.argv[1:] = ['{BYTES}']; "
            f"import runpy; runpy.run_path({file!r}, None, '__main__')"
        )
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a request; without one in time, the process is killed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        overdue = threading.Event()

        def end() -> None:
            overdue.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line.endswith("\n"):
            return dict(json.loads(line))
        self.close()
        if overdue.is_set():
            return {"error": f"it takes longer than {seconds:g} s"}
        return {"error": "the process that renders it ended; it may have run out of memory"}

    def alive(self) -> bool:
        """Whether it runs and belongs to this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


_LOCK = threading.Lock()
_WORKERS: list[_Worker] = []


def _worker() -> _Worker:
    """The worker of this process, which is started at first use."""
    if not _WORKERS or not _WORKERS[0].alive():
        _close()
        _WORKERS.append(_Worker())
        started = {"template": "", "messages": [{}], "variables": {}, "most": 0}
        answer = _WORKERS[0].ask(started, START_SECONDS)
        if "error" in answer:
            raise TextError(f"the process that renders chat templates did not start: {answer}")
    return _WORKERS[0]


@atexit.register
def _close() -> None:
    while _WORKERS:
        worker = _WORKERS.pop()
        if worker.owner == os.getpid():
            worker.close()
