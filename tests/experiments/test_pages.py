"""Pages of results: every number is that of a file, and what does not hold is said."""

import gzip
import json
import random
import re
import shutil
from pathlib import Path

import pytest

from experiments import norm_dose, norms, pages
from experiments.claims_table import claims_page, read_models, write_claims_page
from experiments.copied import (
    LARGEST_ARCHIVE,
    LARGEST_PICTURE,
    PNG,
    copy_results,
    model_of,
    refuse_name,
)
from experiments.pages import listed, numbers_of, write_pages
from experiments.recorded import read_record
from experiments.table import BY_NAME, SAID
from experiments.written import RECORD
from secondary_sinks.errors import RunFolderError, SinkError
from tests.experiments.records import record_of

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def made(tmp_path):
    """Results of two experiments: one holds, one does not."""
    for name, outcome in ((norms.NAME, "supported"), (norm_dose.NAME, "contradicted")):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(record_of(name, outcome)))
        (folder / "data.csv").write_text("a\n1\n")
        (folder / "cells.csv").write_text("a\n" + "1\n" * 40_000)
        (folder / "figure.png").write_bytes(b"\x89PNG")
    out = tmp_path / "pages" / "m"
    copy_results([tmp_path / "results"], out)
    write_pages(out)
    write_claims_page(out.parent)
    return out


def test_numbers_are_those_of_the_file_and_the_page_says_what_does_not_hold(made):
    page = (made / "norms.md").read_text()
    assert "share of sinks: 0.812 [0.688, 0.938]; 12 sinks, 4 texts" in page
    assert r"because \| of \*this\*" in page
    assert "The claim below is supported." in page
    assert "[data/norms/verdict.json](data/norms/verdict.json)" in page
    assert "**contradicted**" in (made / "norm_dose.md").read_text()
    index = (made / "index.md").read_text()
    assert re.findall(r"\| (supported|contradicted) \|", index) == ["supported", "contradicted"]


@pytest.mark.parametrize(("layer", "told"), [(2, "**not in middle layers**"), (15, "as the paper")])
def test_the_index_says_whether_sinks_arise_in_the_middle(made, layer, told):
    folder = made / "data" / "sink_levels"
    folder.mkdir()
    (folder / "data.csv").write_text(f"model,l_start,lifetime,count\nm,{layer},3,9\n")
    record = record_of("sink_levels")
    record["provenance"]["model"] = {"n_layers": 30}
    for name in ("sink_levels", "norms", "norm_dose"):
        (made / "data" / name / RECORD).write_text(json.dumps(record))
    write_pages(made)
    index = (made / "index.md").read_text()
    assert f"arise at layer {layer} of 30" in index
    assert told in index


def test_a_page_of_several_claims_counts_their_outcomes(made):
    path = made / "data" / "norms" / RECORD
    record = json.loads(path.read_text())
    record.pop("sha256", None)
    few = record["verdict"] | {"outcome": "inconclusive"}
    path.write_text(json.dumps(record | {"further": [few, few, few]}))
    write_pages(made)
    told = "Of the 4 claims below, 1 is supported and 3 are inconclusive."
    assert told in (made / "norms.md").read_text()
    path.write_text(json.dumps(record | {"computed_before": "It was another."}))
    write_pages(made)
    page = (made / "norms.md").read_text()
    assert "**Computed before a change of the method.**" in page
    assert "claim below is" not in page


def test_what_had_no_number_is_not_testable_on_every_page(made):
    record = record_of("norms", "inconclusive")
    record["verdict"] |= {"value": None, "low": None, "high": None}
    (made / "data" / "norms" / RECORD).write_text(json.dumps(record))
    write_pages(made)
    page = (made / "norms.md").read_text()
    assert "**not testable**" in page
    assert "| a claim | not testable |  | because" in page
    assert re.findall(r"\| (inconclusive|not testable) \|", (made / "index.md").read_text()) == [
        "not testable"
    ]


def test_a_page_names_the_ways_to_ablate_that_its_tables_hold(made):
    folder = made / "data" / "norms"
    (folder / "data.csv").write_text("edit,a\nzero,1\nmean:twins,1\n")
    (folder / "targets.csv").write_text("edit,a\nsink,1\n")
    with gzip.open(folder / "cells.csv.gz", "wt") as file:
        file.write("edit\nresample:2\nzero\n")
    write_pages(made)
    told = "column `edit` of the tables): `resample:2`, `zero`, `mean:twins`."
    assert told in (made / "norms.md").read_text()
    assert "Ways to ablate" not in (made / "norm_dose.md").read_text()


def test_large_tables_stay_away_and_links_lead_to_files(made):
    assert not (made / "data" / "norms" / "cells.csv").exists()
    for page in made.glob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            assert (made / target).is_file()


def test_every_row_of_a_large_table_is_there_compressed_and_linked(made):
    with gzip.open(made / "data" / "norms" / "cells.csv.gz", "rt") as file:
        assert file.read() == "a\n" + "1\n" * 40_000
    assert "[cells.csv.gz](data/norms/cells.csv.gz)" in (made / "norms.md").read_text()


def test_a_file_that_is_too_large_even_so_is_named_on_its_page(tmp_path):
    folder = tmp_path / "results" / norms.NAME
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record_of(norms.NAME)))
    digits = random.Random(1).randbytes(LARGEST_ARCHIVE + 1).hex()
    rows = (digits[at : at + 64] for at in range(0, len(digits), 64))
    (folder / "cells.csv").write_text("\n".join(["a", *rows]) + "\n")
    out = tmp_path / "pages"
    assert copy_results([tmp_path / "results"], out) == [str(folder / "cells.csv")]
    write_pages(out)
    assert "Too large for these pages: cells.csv." in (out / "norms.md").read_text()
    assert [path.name for path in (out / "data" / "norms").iterdir()] == [RECORD]


HOME = "/home/somebody"


def test_no_folder_of_this_machine_is_on_a_page_or_in_its_files(tmp_path):
    asked = {
        "model": f"{HOME}/models/small.gguf",
        "texts": f"{HOME}/my.jsonl",
        "file": "small.gguf",
    }
    asked |= {"sha256": "0f" * 32}
    made = {"asked": asked, "command": f"python --model {HOME}/small.gguf", "commit": "a" * 40}
    made |= {"texts": [{"text_id": "t", "n_tokens": 1200, "fed": "secret"}], "options": {"few": 1}}
    failed = f"FileError: {HOME}/deep/er/cells.csv is missing"
    for name, more in (
        (norms.NAME, {}),
        (norm_dose.NAME, {"failed": failed, "traceback": f'File "{HOME}/all.py", line 3'}),
    ):
        folder = tmp_path / "results" / name
        folder.mkdir(parents=True)
        record = record_of(name) | {"provenance": made} | more
        (folder / RECORD).write_text(json.dumps(record))
    out = tmp_path / "docs"
    name = model_of([tmp_path / "results"])
    assert name == "small.gguf"
    copy_results([tmp_path / "results"], out / name)
    write_pages(out / name)
    write_claims_page(out)
    written = {path: path.read_text() for path in out.rglob("*.*") if path.is_file()}
    assert len(written) == 6
    for path, content in written.items():
        assert HOME not in content, path
        assert "secret" not in content
    page = written[out / name / "norms.md"]
    assert "small.gguf, sha256 0f0f0f0f0f0f" in page
    assert "- Texts: my.jsonl: 1 text, 1,200 tokens" in page
    assert "- Code: commit aaaaaaaaaaaa" in page
    assert "`python -m experiments.norms --model small.gguf --texts my.jsonl --few 1`" in (page)
    assert "cells.csv is missing" in written[out / name / "norm_dose.md"].replace("\\", "")


@pytest.mark.parametrize(
    "change",
    [{"model": {"n_layers": 3, "weights_sha256": "other"}}, {"texts": [{"tokens_sha256": "x"}]}],
    ids=["weights", "texts"],
)
def test_results_of_other_weights_or_texts_are_not_mixed(change, tmp_path):
    for name, more in ((norms.NAME, {}), (norm_dose.NAME, change)):
        folder = tmp_path / name
        folder.mkdir()
        record = record_of(name)
        record["provenance"] |= more
        (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match="other weights or texts than those of norms: norm_do"):
        copy_results([tmp_path], tmp_path / "out")


def in_folder(folder, name, **change):
    """A folder with one experiment."""
    record = record_of(name)
    record["provenance"] |= change
    (folder / name).mkdir(parents=True)
    (folder / name / RECORD).write_text(json.dumps(record))
    return folder


def test_experiments_on_other_texts_come_from_folders_of_their_own(tmp_path):
    texts = [{"text_id": "a", "n_tokens": 400, "tokens_sha256": "x"}]
    whole = in_folder(tmp_path / "whole", norms.NAME)
    asked = json.loads((whole / norms.NAME / RECORD).read_text())["provenance"]["asked"]
    few = {"texts": texts, "asked": asked | {"every": 2, "max_tokens": 400}}
    short = in_folder(tmp_path / "short", norm_dose.NAME, **few)
    copy_results([whole, short], tmp_path / "out")
    write_pages(tmp_path / "out")
    words = "one in 2, first 400 tokens of each: 1 text, 400 tokens"
    assert words in (tmp_path / "out" / "norm_dose.md").read_text()
    assert words not in (tmp_path / "out" / "norms.md").read_text()
    index = (tmp_path / "out" / "index.md").read_text()
    assert words in index
    assert 'OPTIONS="--every 2 --max-tokens 400"' in index


def test_the_data_of_pages_give_the_same_pages(made, tmp_path):
    """So that an experiment can be added to pages whose results are gone."""
    kept, again = tmp_path / "kept", tmp_path / "again" / made.name
    shutil.copytree(made / "data", kept)
    copy_results([kept], again)
    write_pages(again)
    write_claims_page(again.parent)
    before, after = (
        {path.relative_to(place): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (made, again)
    )
    assert any(path.suffix == ".gz" for path in before)
    assert before == after


def test_each_choice_of_texts_is_a_row_of_what_was_looked_at(tmp_path):
    """Else the numbers of some pages would seem to be of the texts of others."""
    out = tmp_path / "pages" / "m"
    texts = [{"text_id": "a", "n_tokens": 400, "tokens_sha256": "x"}]
    copy_results(
        [
            in_folder(tmp_path / "whole", norms.NAME),
            in_folder(tmp_path / "short", norm_dose.NAME, texts=texts),
        ],
        out,
    )
    write_claims_page(out.parent)
    rows = (out.parent / "index.md").read_text().split("## What was looked at")[1]
    assert rows.count("\n| ") == 3, "a head and two rows"
    assert "1 text, 400 tokens" in rows


def test_the_command_of_a_page_gives_the_options_of_its_experiment(tmp_path):
    """`make results` has no such options, and would make other numbers."""
    whole = in_folder(tmp_path / "whole", norm_dose.NAME, options={"layer": 3, "mask": True})
    copy_results([whole], tmp_path / "out")
    write_pages(tmp_path / "out")
    made = (tmp_path / "out" / "norm_dose.md").read_text().split("## What made this")[1]
    assert "`python -m experiments.norm_dose --model" in made
    assert "--layer 3 --mask`" in made
    assert "make results" not in made


def test_folders_of_other_weights_or_the_same_experiment_are_refused(tmp_path):
    whole = in_folder(tmp_path / "whole", norms.NAME)
    again = in_folder(tmp_path / "again", norms.NAME)
    other = {"model": {"n_layers": 3, "weights_sha256": "other"}}
    changed = in_folder(tmp_path / "changed", norm_dose.NAME, **other)
    out = tmp_path / "out"
    with pytest.raises(RunFolderError, match=r"norms: in .*whole' and in .*again'"):
        copy_results([whole, again], out)
    with pytest.raises(RunFolderError, match="of different weights"):
        copy_results([whole, changed], out)
    copy_results([whole], out)
    with pytest.raises(RunFolderError, match="is where these pages keep their data"):
        copy_results([out / "data", changed], out)
    assert (out / "data" / norms.NAME / RECORD).is_file()


@pytest.mark.parametrize("name", ["", "..", "a b", "a: b", "a/b", "-a"])
def test_a_name_that_no_folder_or_contents_can_have_is_refused(name):
    with pytest.raises(RunFolderError, match="cannot be the name of a model's pages"):
        refuse_name(name)


def test_the_contents_of_the_site_have_all_pages_of_results():
    """Else: python -m experiments.pages with --site mkdocs.yml."""
    site = (RESULTS.parents[1] / "mkdocs.yml").read_text("utf-8")
    assert listed(site, RESULTS) == site
    pages = {str(path.relative_to(RESULTS.parent)) for path in RESULTS.rglob("*.md")}
    assert set(re.findall(r"- (results/.*\.md)\n", site)) == pages


def test_pictures_have_captions(made):
    page = (made / "norms.md").read_text()
    told = r"shows \*this\*"
    place = "data/norms/figure.png"
    assert f"[![{told}]({place})]({place})\n\n*{told}*\n" in page


def test_a_picture_that_is_too_large_is_named(tmp_path):
    folder = tmp_path / "results" / norms.NAME
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps(record_of(norms.NAME)))
    (folder / "figure.png").write_bytes(PNG + bytes(LARGEST_PICTURE + 1 - len(PNG)))
    (folder / "small.png").write_bytes(PNG + bytes(LARGEST_PICTURE - len(PNG)))
    assert copy_results([tmp_path / "results"], tmp_path / "out") == [str(folder / "figure.png")]


def test_where_nothing_was_measured_the_index_says_why(made):
    record = record_of("norms", "inconclusive", value=float("nan"), why="too few sinks")
    (made / "data" / "norms" / RECORD).write_text(json.dumps(record))
    write_pages(made)
    assert "| not testable | too few sinks |" in (made / "index.md").read_text()


def test_without_results_it_is_said(tmp_path):
    with pytest.raises(
        RunFolderError, match=r"has no results; run python -m experiments.all first"
    ):
        copy_results([tmp_path], tmp_path / "out")


def without(name):
    return lambda record: record["verdict"].pop(name)


def verdict(**changes):
    return lambda record: record["verdict"].update(changes)


def whole(**changes):
    return lambda record: record.update(changes)


WRONG = {
    "no verdict": (lambda record: record.pop("verdict"), "it has no 'verdict'"),
    "outcome": (verdict(outcome="proven"), "outcome is 'proven'; expected supported"),
    "value": (verdict(value="x"), "verdict.value is 'x'; expected int or float or null"),
    "noun": (verdict(counted=3), "verdict.counted is 3; expected str"),
    "no bound": (without("low"), "verdict has no 'low'"),
    "half an interval": (verdict(high=None), "a lower bound, but no value or upper bound"),
    "further": (whole(further=3), "further is 3; expected a list"),
    "captions": (whole(captions=[1]), "captions is [1]; expected dict"),
    "caption": (whole(captions={"figure": 3}), "figure is 3; expected str"),
    "provenance": (whole(provenance=None), "provenance is None; expected an object"),
    "texts": (lambda record: record["provenance"].update(texts=[None]), "texts[0] is None"),
    "failed": (whole(failed=3), "failed is 3; expected str"),
}


@pytest.mark.parametrize(("change", "named"), WRONG.values(), ids=WRONG)
def test_a_verdict_of_another_shape_is_named(change, named, tmp_path):
    folder = tmp_path / "results" / norms.NAME
    folder.mkdir(parents=True)
    record = record_of(norms.NAME)
    change(record)
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(SinkError, match=r"verdict\.json' is damaged") as error:
        copy_results([tmp_path / "results"], tmp_path / "out")
    assert named in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"name": '])
def test_bytes_that_are_no_verdict_are_named(content, tmp_path):
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(SinkError, match=r"verdict\.json' is damaged"):
        read_record(tmp_path / RECORD)


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xff\xfe\0", b"", b"l_start\nx\n"])
def test_a_table_of_levels_of_another_shape_is_named(content, made):
    folder = made / "data" / "sink_levels"
    folder.mkdir()
    (folder / "data.csv").write_bytes(content)
    (folder / RECORD).write_text(json.dumps(record_of("sink_levels")))
    with pytest.raises(SinkError, match=r"data\.csv' is damaged"):
        write_pages(made)


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("data.csv", b"\0\xff", "invalid start byte"),
        ("data.csv", b"a,b\n1,\0\n", r"character 6 is '\\x00'; expected a table of text"),
        ("data.csv", b"a,b\n1,2\n3\n", "row 3 has 1 cells; expected 2"),
        ("data.csv", b'a,b\n1,"2\n', "unexpected end of data"),
        ("data.csv", b"", "it holds no table"),
        ("figure.png", b"a,b\n", "it is not a picture"),
        (RECORD, b"[]", "expected an object"),
    ],
)
def test_what_is_no_table_or_picture_is_named_before_pages_are_replaced(
    name, content, named, made, capfd
):
    results = made.parents[1] / "results"
    before = {path: path.read_bytes() for path in made.rglob("*.*")}
    (results / norms.NAME / name).write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        pages.main([str(results), "--out", str(made.parent)])
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert re.search(f"error: '.*{name}' is damaged, or was changed .*{named}", said)
    assert {path: path.read_bytes() for path in made.rglob("*.*")} == before


@pytest.mark.parametrize("name", BY_NAME)
def test_every_experiment_says_what_a_page_needs(name):
    question, paper, method, refutation = BY_NAME[name].said().values()
    assert question.endswith("?")
    assert "2512.22213" in paper
    assert min(len(method), len(refutation)) > 20


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("words", [None, ""])
def test_a_constant_that_an_experiment_lacks_is_named(name, words, monkeypatch):
    monkeypatch.setattr(norms, name, words)
    with pytest.raises(SinkError, match=rf"experiments\.norms has no {name}; expected texts"):
        BY_NAME["norms"].said()


MODELS = sorted(folder.parent for folder in RESULTS.glob("*/data"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_the_pages_of_this_repository_are_those_of_their_files(model, tmp_path):
    """Written anew from data, they are the same, so each number on them is one of a file."""
    (tmp_path / "data").symlink_to(model / "data")
    assert model_of([model / "data"]) == model.name
    fresh = write_pages(tmp_path)
    assert len(fresh) > 10
    for page in fresh:
        assert (model / page.name).read_text() == page.read_text()
        if page.stem != "index":
            record = json.loads((model / "data" / page.stem / RECORD).read_text())
            assert numbers_of(record["verdict"]) in page.read_text()


def test_the_claims_of_this_repository_are_those_of_the_files_of_all_models():
    page = claims_page(read_models(RESULTS), RESULTS)
    assert (RESULTS / "index.md").read_text() == page
