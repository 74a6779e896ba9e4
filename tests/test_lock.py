"""The lock file: every package has one version, and hashes of all its files."""

import re
from pathlib import Path

import pytest

LOCK = (Path(__file__).parents[1] / "requirements.lock").read_text()
PACKAGES = re.findall(r"^(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", LOCK, re.MULTILINE)


def test_the_file_holds_nothing_but_versions_and_their_hashes():
    assert len(PACKAGES) > 150
    rest = [line for line in LOCK.splitlines() if not line.startswith(("#", "    --hash=sha256:"))]
    assert [f"{pin} \\" for pin, _ in PACKAGES] == rest
    names = [pin.partition("==")[0] for pin, _ in PACKAGES]
    assert names == sorted(set(names))


@pytest.mark.parametrize(("pin", "hashes"), PACKAGES, ids=[pin for pin, _ in PACKAGES])
def test_a_version_is_exact_and_its_hashes_are_whole_and_different(pin, hashes):
    assert re.fullmatch(r"[a-z0-9.-]+==[0-9][a-z0-9.]*", pin)
    found = re.findall(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?\n", hashes)
    assert len(found) == len(set(found)) == hashes.count("\n")


def test_torch_can_be_the_build_for_cpus_or_one_of_the_index():
    (hashes,) = [hashes for pin, hashes in PACKAGES if pin.startswith("torch==")]
    assert hashes.count("sha256:") > 20, "a file per platform and Python"
    assert LOCK.count("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b") == 1
