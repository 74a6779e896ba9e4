"""Chat templates are programs that a model brings along: they run apart, and not for ever.

They are rendered by transformers, in its sandbox, in a second process with bounds on time, memory
and the length of what is written. One process serves all texts; it is started when first needed.
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
"""That a template may take for one text."""
BYTES = 2 * 2**30
"""Of address space that the process may have, transformers included."""
START_SECONDS = 180.0
"""That the process may take to start."""
LENGTH = 1_000_000
"""Characters that a template may write beyond four times those it is given."""
_RESERVED = set(inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters)


def render_template(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
) -> str:
    """What the chat template of a tokenizer writes for messages; `variables` are given to it.

    Raises `TextError` for a template that fails, that takes too long, too much memory or writes
    too much, and for a variable that it does not have.
    """
    content = list(messages)
    if type(tokenizer).apply_chat_template is not PreTrainedTokenizerBase.apply_chat_template:
        return _by_itself(tokenizer, content, variables)
    template = _template(tokenizer)
    _check_names(template, variables)
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


def _by_itself(tokenizer: Any, messages: list[Any], variables: Mapping[str, Any]) -> str:
    """What a tokenizer writes whose class has a way of its own: code of a library, no template."""
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **variables))
    except Exception as error:
        raise TextError(str(error) or type(error).__name__) from error


def _template(tokenizer: Any) -> str:
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several, and none that is the default
        raise TextError(str(error)) from error


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The special tokens by the names that templates know them by."""
    return {name: _plain(token) for name, token in tokenizer.special_tokens_map.items()}


def _plain(token: Any) -> Any:
    return [str(one) for one in token] if isinstance(token, list | tuple) else str(token)


def _check_names(template: str, variables: Mapping[str, Any]) -> None:
    for name in variables.keys() - {"add_generation_prompt"}:
        if name in _RESERVED or not re.search(rf"\b{re.escape(name)}\b", template):
            raise TextError(f"it has no option {name!r}; its text says which it has")


class _Worker:
    """The process, with the pipes to it."""

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
        """The answer to a request; the process is ended where it does not answer in time."""
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
        """Whether it can be asked by this process."""
        return self.owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


_LOCK = threading.Lock()
_KEPT: list[_Worker] = []


def _worker() -> _Worker:
    """The process of this one, started anew where there is none."""
    if not _KEPT or not _KEPT[0].alive():
        _close()
        _KEPT.append(_Worker())
        started = {"template": "", "messages": [{}], "variables": {}, "most": 0}
        answer = _KEPT[0].ask(started, START_SECONDS)
        if "error" in answer:
            raise TextError(f"the process that renders chat templates did not start: {answer}")
    return _KEPT[0]


@atexit.register
def _close() -> None:
    while _KEPT:
        worker = _KEPT.pop()
        if worker.owner == os.getpid():
            worker.close()
