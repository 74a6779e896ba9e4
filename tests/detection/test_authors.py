"""The authors' released lines: read with every fault named, labelled anew, written, compared."""

import json
import math
import time

import pytest

from secondary_sinks import detect, observe
from secondary_sinks.detection import compare, find_levels, read_released, relabel, write_released
from secondary_sinks.errors import DetectionError
from secondary_sinks.testing.planted import Plant, plant
from secondary_sinks.types import SinkTable
from tests.detection.test_levels import deepseek
from tests.detection.traces import sink

PRIMARY = {"layer": list(range(4, 47)), "token_id": 151646, "sink_type": "bos_sink"}


def entry(lifetime=23, label="cliff", l_start=22, token_id=220):
    return {
        "layer": list(range(l_start, l_start + lifetime)),
        "token_id": token_id,
        "sink_type": label,
    }


def line(index=0, prompt=100, length=5000, **sinks):
    record = {"candidate_sinks": {"0": PRIMARY} | {pos[1:]: s for pos, s in sinks.items()}}
    record |= {"sample_index": index, "prompt_len": prompt, "response_len": length - prompt}
    return json.dumps(record | {"full_text_len": length})


def read(*lines, **options):
    return read_released("\n".join(lines) + "\n", "file.jsonl", **options)


def test_a_line_is_read_as_it_stands():
    found = read(line(7, _900=entry(), _800=entry(3, "noise"), _1=PRIMARY))
    got = [(s.text_id, s.pos, s.kind, s.label, s.l_start, s.lifetime) for s in found.sinks.sinks]
    assert got == [
        ("7", 0, "primary", "bos_sink", 4, 43),
        ("7", 1, "primary_like", "bos_sink", 4, 43),
        ("7", 800, "noise", "noise", 22, 3),
        ("7", 900, "secondary", "secondary", 22, 23),
    ]
    first = found.sinks.sinks[0]
    assert (first.criterion, first.token, first.censored) == ("paper", "[151646]", "unknown")
    assert math.isnan(first.norm_max)
    assert (found.lines["7"].prompt_len, found.lines["7"].full_text_len) == (100, 5000)


def test_cliff_and_secondary_are_one_label():
    sinks = read(line(0, _900=entry(label="cliff"), _950=entry(label="secondary"))).sinks
    assert [s.label for s in sinks.of_kind("secondary").sinks] == ["secondary", "secondary"]


def test_gaps_are_no_part_of_a_lifetime():
    gap = {"layer": [22, 23, 30], "token_id": 5, "sink_type": "noise"}
    got = read(line(0, _900=gap)).sinks.sinks[1]
    assert (got.l_start, got.l_end, got.lifetime, got.segments) == (22, 30, 3, "22-23, 30")


def test_labels_follow_the_number_of_layers():
    """48 layers: 33 make a primary one, 5 to 32 a secondary one."""
    lines = line(0, _900=entry(4, "cliff"), _950=entry(5, "noise"), _960=entry(33, "cliff", 10))
    given, anew = read(lines).sinks, read(lines, n_layers=48).sinks
    assert [s.label for s in given.sinks[1:]] == ["secondary", "noise", "secondary"]
    assert [s.label for s in anew.sinks[1:]] == ["noise", "secondary", "bos_sink"]
    assert [s.kind for s in anew.sinks] == ["primary", "noise", "secondary", "primary_like"]
    assert anew.sinks[0].censored == "none"
    again = relabel(given, 48)
    assert [s.label for s in again.sinks] == [s.label for s in anew.sinks]


def test_a_repeated_line_counts_once():
    found = read(line(0, _900=entry()), line(1, _901=entry()), line(0, _900=entry()))
    assert (found.n_repeated, list(found.lines)) == (1, ["0", "1"])


def test_the_same_index_with_other_content_is_another_text():
    found = read(line(0, _900=entry()), "", line(0, _901=entry()))
    assert list(found.lines) == ["0", "0 (line 3)"]


def test_a_sink_in_a_prompt_that_texts_share_counts_once():
    """Ten answers to one question: the sink in the question is the same one ten times."""
    lines = [line(i, 103, 3000 + i, _25=entry(22), _900=entry(23 - i % 2)) for i in range(10)]
    lines.append(line(10, 104, 3000, _25=entry(22)))
    found = read(*lines)
    secondary = found.sinks.of_kind("secondary").sinks
    assert [s.copy_of for s in secondary if s.pos == 25] == [""] + ["0"] * 9 + [""]
    assert not any(s.copy_of for s in secondary if s.pos == 900)
    levels = find_levels(found.sinks, n_texts=11, resamples=0)
    assert (levels.n_sinks, levels.n_copies) == (12, 9)


def test_the_same_text_under_another_index_counts_once():
    found = read(line(0, _900=entry()), line(1, _900=entry()))
    assert [s.copy_of for s in found.sinks.of_kind("secondary").sinks] == ["", "0"]


def test_the_deepseek_table_has_one_creation_layer():
    points, texts = deepseek(1)
    sinks = [{} for _ in range(300)]
    for pos, ((l_start, lifetime), text) in enumerate(zip(points, texts, strict=True), start=200):
        sinks[int(text)][f"_{pos}"] = entry(lifetime, l_start=l_start)
    found = read(*(line(i, 100, 5000 + i, **given) for i, given in enumerate(sinks)))
    assert (len(found.lines), len(found.sinks.of_kind("secondary").sinks)) == (300, 270)
    levels = find_levels(found.sinks, n_texts=300, resamples=0)
    assert {level.l_start for level in levels.levels} == {22}
    assert [(level.l_start_low, level.l_start_high) for level in levels.levels] == [(22, 22)]


FAULTS = {
    "broken": ('{"candidate_sinks": ', "broken JSON"),
    "a list": ("[1]", "expected a JSON object, got list"),
    "no sinks": (
        json.dumps({"sample_index": 0}),
        "prompt_len is missing; give a file of detections",
    ),
    "sinks a list": (
        line().replace('"candidate_sinks": {', '"candidate_sinks": [], "x": {'),
        "obj",
    ),
    "index a word": (line("seven"), "sample_index must be a whole number, got 'seven'"),
    "index a truth": (line(True), "sample_index must be a whole number, got True"),
    "length negative": (line(0, -1), "prompt_len must be a whole number, got -1"),
    "prompt too long": (line(0, 6000, 5000), "response_len must be a whole number, got -1000"),
    "pos a word": (line(0, _x=entry()), "'x' is not a position"),
    "pos negative": (line(0, **{"_-3": entry()}), "'-3' is not a position"),
    "pos too late": (line(0, _5000=entry()), "'5000' is not a position in a text of 5000 tokens"),
    "pos twice": (line(0, _00=entry()), "one position is given twice"),
    "entry a list": (line(0, _9=[1]), "position 9: expected an object"),
    "unknown type": (
        line(0, _9=entry(label="peak")),
        "unknown sink_type 'peak'; expected one of secondary, cliff",
    ),
    "no type": (line(0, _9={"layer": [1], "token_id": 2}), "sink_type None"),
    "no token": (line(0, _9={"layer": [1], "sink_type": "noise"}), "token_id is missing"),
    "no layers": (line(0, _9=entry() | {"layer": []}), "layer must be a list of ascending layers"),
    "layers fall": (line(0, _9=entry() | {"layer": [5, 4]}), "ascending layers, got [5, 4]"),
    "layers twice": (line(0, _9=entry() | {"layer": [5, 5]}), "ascending layers, got [5, 5]"),
    "layers words": (line(0, _9=entry() | {"layer": ["5"]}), "ascending layers, got ['5']"),
    "layer too late": (line(0, _9=entry(26)), "layer 47 in a model of 47 layers"),
}


@pytest.mark.parametrize(("bad", "named"), FAULTS.values(), ids=FAULTS)
def test_every_fault_is_named_with_file_and_line(bad, named):
    with pytest.raises(DetectionError) as caught:
        read(line(0), "", bad, n_layers=47)
    assert str(caught.value).startswith("file.jsonl:3: ")
    assert named in str(caught.value)


@pytest.mark.parametrize("twice", ['"sample_index": 7', '"candidate_sinks": {}'])
def test_a_key_that_stands_twice_is_refused(twice):
    with pytest.raises(DetectionError, match=r"file.jsonl:1: .*key '\w+' appears twice"):
        read("{" + twice + ", " + line()[1:])


def test_a_position_that_stands_twice_is_refused():
    inner = json.dumps(entry())
    with pytest.raises(DetectionError, match="key '900' appears twice"):
        read(line(_900=entry()).replace('"900"', f'"900": {inner}, "900"'))


def test_a_line_of_many_candidates_takes_time_by_their_number_only():
    many = {f"_{pos}": entry(1, l_start=pos % 50) for pos in range(1, 4000)}
    began = time.process_time()
    found = read(line(0, 1, 5000, **many), line(1, 1, 5000, **many))
    assert time.process_time() - began < 5, "it took 8 s when each one looked at all"
    assert sum(sink.copy_of == "0" for sink in found.sinks.sinks) == 4000


def test_a_file_without_lines_is_refused():
    with pytest.raises(DetectionError, match="holds no detections"):
        read("", " ")


def test_what_is_written_reads_back_the_same():
    lines = [line(0, _900=entry(), _9=entry(3, "noise")), line(1), line(2, _700=entry(30))]
    found = read(*lines)
    lengths = {name: (ln.prompt_len, ln.full_text_len) for name, ln in found.lines.items()}
    written = write_released(found.sinks, lengths, 48)
    again = read_released(written, "written")
    assert again.lines == found.lines
    assert json.loads(written.splitlines()[0])["candidate_sinks"]["900"]["sink_type"] == "secondary"


def test_our_own_detection_is_written_in_their_format():
    plants = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,), dies=12)]
    planted = plant(plants, n_layers=26)
    trace = observe(planted.model, planted.tokens)
    paper, joint = (detect(trace, criterion=name) for name in ("paper", "joint"))
    for table in (paper, joint):
        again = read_released(write_released(table, {"text": (10, 64)}, 26), "ours", 26).sinks
        got = [(s.pos, s.layers, s.label) for s in again.sinks]
        assert got == [
            (s.pos, s.layers, "bos_sink" if s.pos == 0 else "secondary") for s in table.sinks
        ]


def test_two_tables_side_by_side():
    one = SinkTable(sinks=(sink(pos=9, l_start=4, lifetime=4), sink(pos=5)))
    other = SinkTable(sinks=(sink(pos=9, l_start=6, lifetime=4, kind="noise"), sink("b", 3)))
    frame = compare(one, other, ("theirs", "ours"))
    assert frame[["text_id", "pos", "found"]].to_numpy().tolist() == [
        ["a", 5, "theirs"],
        ["a", 9, "both"],
        ["b", 3, "ours"],
    ]
    both = frame.iloc[1]
    assert (both["shared"], both["overlap"]) == (2, 2 / 6)
    assert (both["kind_theirs"], both["kind_ours"], both["l_start_ours"]) == (
        "secondary",
        "noise",
        6,
    )
    assert math.isnan(frame.iloc[0]["lifetime_ours"])
    assert frame.iloc[0]["label_ours"] == "none"


def test_tables_without_a_common_text_are_not_compared():
    with pytest.raises(DetectionError, match="share no text_id"):
        compare(SinkTable(sinks=(sink("a"),)), SinkTable(sinks=(sink("b"),)))
    assert list(compare(SinkTable(sinks=()), SinkTable(sinks=())))[:3] == [
        "text_id",
        "pos",
        "token_id",
    ]
