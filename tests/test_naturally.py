"""What one writes without looking it up: it works, or fails at once with the remedy."""

import inspect
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from secondary_sinks import (
    Edit,
    Effects,
    Thresholds,
    ablate,
    bundled_corpus,
    detect,
    load_model,
    measures,
    necessity,
    observe,
    plot,
    progress,
    read_texts,
    recompute,
    replay,
    sweep_metric,
    tokenize,
)
from secondary_sinks.errors import (
    DetectionError,
    EditError,
    HookError,
    MeasureError,
    ModelError,
    TextError,
    TraceError,
)
from secondary_sinks.notebook import Session
from secondary_sinks.observation.layers import check_trace
from secondary_sinks.testing import Plant, plant
from secondary_sinks.texts import Text
from secondary_sinks.types import as_cell, as_traces
from tests.tiny import save_tiny

PLANTS = [Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))]


def unchecked(function):
    """A function without the tests' own checks of its arguments, as users call it."""
    return inspect.unwrap(function)


@pytest.fixture(scope="module")
def planted():
    planted = plant(PLANTS)
    return planted.model, planted.tokens


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A model with a tokenizer."""
    return load_model(save_tiny(tmp_path_factory.mktemp("tiny")), device="cpu")


def test_a_string_is_fed_as_everywhere_else(spoken):
    trace = observe(spoken, "The mill stood.")
    assert torch.equal(trace.tokens, Session(spoken, "The mill stood.").trace.tokens)
    assert "".join(trace.token_strings).endswith("The mill stood.")


def test_several_texts_give_several_traces(spoken):
    texts = ["The mill.", "A river ran by it."]
    traces = observe(spoken, texts)
    assert [trace.text_id for trace in traces] == ["text 0", "text 1"]
    for text, trace in zip(texts, traces, strict=True):
        assert torch.equal(trace.norm, observe(spoken, text).norm)
    ids = [trace.tokens.tolist() for trace in traces]
    assert [one.text_id for one in observe(spoken, ids, text_id="mill")] == ["mill 0", "mill 1"]


def test_a_bad_text_among_several_is_named_before_the_first_pass(spoken):
    with pytest.raises(TextError, match="'text 1' has 0 token"):
        observe(spoken, ["The mill.", ""], progress=lambda done, total: pytest.fail("a pass"))
    with pytest.raises(TextError, match="give several texts as a list"):
        observe(spoken, torch.ones(2, 5, dtype=torch.long))


TURNS = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hello."}]


def test_texts_of_a_file_and_conversations_are_observed_as_they_are(spoken, tmp_path):
    lines = [{"id": "talk", "messages": TURNS}, {"text": "The mill stood."}]
    (tmp_path / "my.jsonl").write_text("\n".join(map(json.dumps, lines)))
    texts = read_texts(tmp_path / "my.jsonl")
    assert repr(texts) == "[Text('talk': 2 messages), Text('line-2': 15 characters)]"
    fed = tokenize(texts[0], spoken.tokenizer)
    assert repr(fed) == f"TokenizedText('talk': {len(fed.tokens)} tokens, chat)"
    traces = observe(spoken, texts)
    assert [trace.text_id for trace in traces] == ["talk", "line-2"]
    for given in (texts[0], fed, TURNS):
        assert torch.equal(observe(spoken, given).tokens, traces[0].tokens)
    assert [trace.text_id for trace in observe(spoken, [TURNS, TURNS])] == ["text 0", "text 1"]
    assert observe(spoken, fed, text_id="mine").text_id == "mine"


@pytest.mark.parametrize("given", [{"text": "a"}, 3.5, object()])
def test_what_is_no_text_is_refused_with_what_is(spoken, given):
    with pytest.raises(TextError, match=r"expected (a text|token ids).*; give "):
        observe(spoken, given)


def test_messages_are_checked_as_those_of_a_file(spoken):
    with pytest.raises(TextError, match=r"text 'text'.*role"):
        observe(spoken, [{"rle": "user", "content": "Hello"}])


def test_tokenize_names_what_was_swapped(spoken):
    with pytest.raises(TextError, match="expected a text of read_texts, got str; observe"):
        tokenize("The mill.", spoken.tokenizer)
    text = bundled_corpus("introduction")[0]
    with pytest.raises(TextError, match=r"a tokenizer, got HookedTr.*; use tokenize\(text, model"):
        tokenize(text, spoken)


def test_one_edit_needs_no_list(planted):
    model, tokens = planted
    trace, edit = observe(model, tokens), Edit(pos=20, layer=3)
    assert torch.equal(replay(model, trace, edit).mass, replay(model, trace, [edit]).mass)
    assert len(recompute(model, trace, edit).cells) == 1
    assert len(sweep_metric(model, trace, edit, lambda logits: logits[0, -1, 5], at=-1)) == 1
    for wrong in ("zero", [edit, "zero"], 3):
        with pytest.raises(EditError, match=r"expected an Edit, got .*; expected like Edit\("):
            unchecked(as_cell)(wrong)


def test_a_text_in_place_of_its_trace_is_refused_with_the_remedy(planted):
    model, tokens = planted
    for given in (tokens, "a text", [tokens], 3):
        with pytest.raises(TraceError, match=r"got (Tensor|str|int); measure the text first"):
            unchecked(as_traces)(given)
    with pytest.raises(TraceError, match=r"got Tensor; measure the text first: trace = observe"):
        unchecked(check_trace)(model, tokens)
    trace = observe(model, tokens)
    assert as_traces(trace) == as_traces(iter([trace])) == [trace]


def test_a_metric_that_reads_what_was_not_recorded_is_told_so(planted):
    model, tokens = planted
    trace, names = observe(model, tokens), ["blocks.7.hook_resid_post"]
    for wanted in ("blocks.6.hook_resid_post", ("resid_post", 7)):
        with pytest.raises(HookError, match=r"was not recorded; add its full name.*resid_post'\]"):
            sweep_metric(
                model,
                trace,
                Edit(pos=20, layer=3),
                lambda logits, cache, name=wanted: cache[name].norm(),
                names=names,
            )


def test_plot_draws_whatever_has_a_method_plot(planted):
    model, tokens = planted
    trace = observe(model, tokens)
    answer = necessity(model, trace, detect(trace), layers=3)
    assert plot(answer).to_json() == answer.plot().to_json()


def test_a_threshold_stands_alone(planted):
    model, tokens = planted
    trace = observe(model, tokens)
    milder, same = detect(trace, aligned=0.8), detect(trace, Thresholds(aligned=0.8))
    assert milder.thresholds == same.thresholds == Thresholds(aligned=0.8)
    assert milder.to_frame().equals(same.to_frame())
    with pytest.raises(DetectionError, match="unknown threshold 'algned'; did you mean 'aligned'"):
        detect(trace, algned=0.8)
    with pytest.raises(DetectionError, match="threshold 'aligned' is nan"):
        detect(trace, aligned=float("nan"))


def test_a_name_in_the_place_of_a_model_is_refused_with_the_remedy(planted):
    model, tokens = planted
    trace = observe(model, tokens)
    for use in (observe, check_trace):
        given = tokens if use is observe else trace
        with pytest.raises(ModelError, match=r"got str; load it first: load_model\('gpt2'\)"):
            unchecked(use)("gpt2", given)
        with pytest.raises(ModelError, match="expected a hooked model, got Linear"):
            unchecked(use)(torch.nn.Linear(2, 2), given)


@pytest.mark.parametrize("chunk", [2.5, True, "3", 0])
def test_a_chunk_is_a_whole_number(planted, chunk):
    with pytest.raises(MeasureError, match=r"chunk is .*; expected a whole number of at least 1"):
        unchecked(observe)(*planted, chunk=chunk)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda written, hook: written[:, :3], "hook_mlp_out' returned torch.float32"),
        (lambda written, hook: written.half(), "returned torch.float16"),
        (lambda written, hook: 0.0, "returned float"),
    ],
)
def test_a_hook_returns_what_it_got_in_form(planted, change, match):
    with pytest.raises(HookError, match=match):
        observe(*planted, hooks=[("blocks.3.hook_mlp_out", change)])


def test_a_name_is_not_empty(planted):
    for given in ({"text_id": ""}, {"tokens": [planted[1], planted[1]], "text_id": ""}):
        with pytest.raises(TextError, match="text_id is ''; expected a name"):
            observe(planted[0], **{"tokens": planted[1], **given})


@pytest.mark.parametrize("first", [-3, 0, True])
def test_a_text_is_cut_to_a_number_of_tokens(first):
    with pytest.raises(TextError, match=r"first is .*; expected a whole number of at least 1"):
        Text(text_id="t", plain="abc", first=first)


def test_a_device_of_torch_is_a_device(spoken, tmp_path):
    model = load_model(save_tiny(tmp_path), device=torch.device("cpu"))
    assert torch.equal(model.W_E, spoken.W_E)


def test_a_cache_stands_for_its_trace(planted):
    model, tokens = planted
    _, cache = model.run_with_cache(tokens[None])
    found = detect(cache, tokens)
    assert [sink.pos for sink in found] == [sink.pos for sink in detect(observe(model, tokens))]
    with pytest.raises(DetectionError, match=r"use detect\(cache, tokens\)"):
        detect(cache)
    with pytest.raises(DetectionError, match="tokens with a cache only"):
        detect(observe(model, tokens), tokens)


def test_one_layer_and_several_texts_to_ablate(planted):
    model, tokens = planted
    other = tokens[:40].clone()
    other[1] = tokens[2]  # what begins as an earlier text does has no controls
    traces = observe(model, [tokens, other])
    sinks = detect(traces)
    apart = [ablate(model, trace, sinks, layers=[3]) for trace in traces]
    steps = []
    together = ablate(model, traces, sinks, layers=3, progress=lambda *step: steps.append(step))
    assert repr([*together]) == repr([*Effects.join(apart)])
    assert steps == [(done + 1, 16) for done in range(16)]
    assert set(necessity(model, traces, sinks, layers=3).cells["layer"]) == {3}


SHAPES = {
    "attention_mass": (3, 5, 5),
    "head_mass": (3, 5, 5),
    "paid_attention": (3, 5, 5),
    "virtual_mass": (3, 5, 5),
    "local_mass": (5,),
    "is_ordinary": (5, 4),
    "typical_token": (5, 4),
    "norm_ratio": (5, 4),
    "deviation_ratio": (5, 4),
    "massive_activations": (5, 4),
    "matrix_entropy": (5, 4),
    "prefix_entropies": (5, 4),
    "value_drain": (5, 3, 4),
    "mean_score": (5, 3, 4),
    "received_from_qk": (5, 3, 4),
    "mass_from_qk": (5, 3, 4),
}
"""Measures of one text, and the shape of their first tensor."""


@pytest.mark.parametrize("name", SHAPES)
def test_a_batch_is_refused_and_not_averaged(name):
    measure = unchecked(getattr(measures, name))
    batch = torch.ones(2, *SHAPES[name])
    given = {one.name: one for one in inspect.signature(measure).parameters.values()}
    tensors = [batch for one in given.values() if "Tensor" in str(one.annotation)]
    more = {"scale": 1.0} if "scale" in given else {}
    more |= {one: [0] for one in ("keys", "lengths") if one in given and len(tensors) == 1}
    with pytest.raises(MeasureError, match="of one text: measure one text of a batch at a time"):
        measure(*tensors[:2], **more)


@pytest.fixture
def notebook(monkeypatch):
    """A pretended kernel, in which every moment takes a second; gives the pages it shows."""
    pages, clock = [], iter(range(10_000))

    class Handle:
        def update(self, page):
            pages.append(page.data)

    def display(page, display_id):
        pages.append(page.data)
        return Handle()

    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    shown = SimpleNamespace(display=display, HTML=lambda data: SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    return pages


def test_a_notebook_shows_a_bar_after_two_seconds_and_takes_it_away(planted, notebook):
    observe(*planted)
    assert len(notebook) == 8  # seven of eight layers come after the second second, then it goes
    assert notebook[0].startswith("observe <progress")
    assert "2 of 8" in notebook[0]
    assert notebook[-1] == ""


def test_functions_that_call_each_other_show_one_bar(planted, notebook):
    model, tokens = planted
    trace = observe(model, tokens)
    notebook.clear()
    ablate(model, trace, detect(trace), layers=3)
    assert {page.split(" ")[0] for page in notebook} == {"ablate", ""}


def test_no_bar_where_progress_is_told_or_there_is_no_notebook(planted, notebook, monkeypatch):
    observe(*planted, progress=lambda done, total: None)
    monkeypatch.delitem(sys.modules, "IPython")
    observe(*planted)
    assert notebook == []
