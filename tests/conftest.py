"""What all tests share: checks of shapes, models that are loaded once, the order of a run."""

import transformer_lens  # noqa: F401 - before the hook, under which Python finds no compiled files

from tests.shapes import check_shapes

check_shapes("secondary_sinks")

import functools  # noqa: E402
import gc  # noqa: E402
import os  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

gc.freeze()  # the libraries' objects, nearly a million, are not searched for garbage again
gc.set_threshold(100_000)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for processes that tests start
torch.set_num_threads(1)  # tiny tensors, and as many workers as cores: threads would only wait
# The same examples in every run, so that a change is judged by itself; others, and more of them, in
# each run with HYPOTHESIS=explore, as someone who looks for faults wants it.
hypothesis.settings.register_profile("same", derandomize=True, max_examples=40)
hypothesis.settings.register_profile("explore")
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS", "same"))

START_WITH = {
    group: number
    for number, group in enumerate(
        (
            "real",
            "tests/sweeps/test_kills.py",
            "tests/sweeps/test_ray.py",
            "tests/browser/test_notebook.py",
            "tests/test_docs.py",
            "tests/causal/test_edits_exact.py",
            "tests/models/test_families.py",
        )
    )
}
"""Groups of tests that take longest, so that one process does not end long after the other."""


def pytest_addoption(parser):
    parser.addoption("--margins", action="store_true", help="print how near floats come to bounds")


def pytest_configure(config):
    if config.getoption("--margins"):
        from tests import margins

        margins.install(config)


def pytest_collection_modifyitems(items):
    """What takes longest begins."""
    items.sort(key=lambda item: START_WITH.get(group_of(item.nodeid), len(START_WITH)))


def pytest_collection_finish():
    gc.freeze()  # all tests and what they import, which stay to the end too


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One process more than there are cores: some tests wait for processes that they start."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file stays in one process, and so do all files with tests of the real weights."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return Groups(config, log)


def group_of(nodeid):
    """The tests that share a process: those of a file, or of all files that read real weights."""
    file = nodeid.partition("::")[0]
    return "real" if file in files_with_real_weights() else file


@functools.cache
def files_with_real_weights():
    root = Path(__file__).parent
    found = (file for file in root.rglob("test_*.py") if "mark.real" in file.read_text("utf-8"))
    return {file.relative_to(root.parent).as_posix() for file in found}


@pytest.fixture(scope="session")
def smollm2():
    """SmolLM2-135M-Instruct, loaded once."""
    from secondary_sinks import load_model

    return load_model("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def smollm2_original():
    """The Hugging Face model that `smollm2` was made from."""
    from transformers import AutoModelForCausalLM

    from secondary_sinks.models.gguf.cache import converted_folder, embedded_gguf

    folder = converted_folder(embedded_gguf())
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


@pytest.fixture(scope="session")
def real_tokens(smollm2):
    """The shortest bundled text, through the chat template."""
    from secondary_sinks import bundled_corpus, tokenize

    texts = [tokenize(text, smollm2.tokenizer) for text in bundled_corpus()]
    return min((text.tokens for text in texts), key=len)


@pytest.fixture(scope="session")
def real_trace(smollm2, real_tokens):
    """A trace of that text."""
    from secondary_sinks import observe

    return observe(smollm2, real_tokens, text_id="shortest")
