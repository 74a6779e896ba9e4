"""The options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated, get_args

import typer

from secondary_sinks.cli import complete
from secondary_sinks.cli.options import NAMED_PATH, whole

Model = Annotated[
    str,
    typer.Argument(
        help="smollm2-135m, an alias that `models` lists, a local folder in Hugging Face format, a "
        "GGUF file, or a hub name; for the hub also NAME@REVISION.",
        autocompletion=complete.paths(complete.MODELS),
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MODEL...",
        help="An alias from `models`, a local folder in Hugging Face format, a GGUF file, or a hub "
        "name; for the hub also NAME@REVISION. `run` and `detect` take one, the sweeps several. "
        "Required, here or in --config.",
        autocompletion=complete.paths(complete.MODELS),
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        **NAMED_PATH,
        help="Folder for the results. The same command resumes it. Required, here or in --config.",
    ),
]
NEEDED = tuple(get_args(one)[1] for one in (Models, Out))
"""Options that must be given, but may be given in --config: so they have no default."""
Config = Annotated[
    Path | None,
    typer.Option(
        **NAMED_PATH, help="YAML or TOML file with these options; command-line options override it."
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="JSON Lines file with 'text', 'prompt' and 'output', or 'messages' in each line; a "
        ".txt file; hf:NAME:split:column, a data set of the hub or a folder saved by datasets; "
        "bundled:introduction (default), ten short texts; or bundled:claims, 33 longer texts "
        "that begin differently. Repeatable.",
        autocompletion=complete.paths(complete.TEXTS),
    ),
]
Inline = Annotated[
    list[str] | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="A text itself, in quotes. Repeatable. They are called 'text 1', 'text 2' and so on, "
        "from 1; positions and layers count from 0.",
    ),
]
Limit = Annotated[int | None, whole("Take the first texts only. Default: all.", least=1)]
MaxTokens = Annotated[
    int | None, whole("Take the first tokens of each text only. Default: all.", least=1)
]
Feed = Annotated[
    str | None,
    typer.Option(
        help="How texts become tokens: auto (default: token ids stored by `generate`, else chat "
        "for conversations, else raw), chat (the model's chat template), chat:NAME=VALUE (with a "
        "template option), raw, or chat:lossy and raw:lossy, which accept that content is dropped.",
        autocompletion=complete.words(complete.FEEDS),
    ),
]
Criterion = Annotated[
    str | None,
    typer.Option(
        help="How sinks are found: joint (default), or paper, the rule of the paper's scripts.",
        autocompletion=complete.words(complete.CRITERIA),
    ),
]
Edits = Annotated[
    list[str] | None,
    typer.Option(
        help="zero; twins (the mean over the same token elsewhere, where it is not a sink); "
        "mean (over ordinary tokens); resample:SEED; others that `secondary-sinks edits` lists. "
        "Repeatable, or separated by commas. Default: zero,twins.",
        autocompletion=complete.lists(complete.EDITS),
    ),
]
Ask = Annotated[
    str | None,
    typer.Option(
        help="Causal questions to answer too, separated by commas, or all; `secondary-sinks "
        "questions` lists them; circuit stands for the last five. Their cost is printed first. "
        "Default: none.",
        autocompletion=complete.lists(complete.QUESTIONS),
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(metavar="RANGES", help="Layers that are edited, such as 0-11,20. Default: all."),
]
Sites = Annotated[
    list[str] | None,
    typer.Option(
        help="Where layers are edited; `secondary-sinks edits` lists the sites. Repeatable. "
        "Default: mlp_out.",
        autocompletion=complete.words(complete.SITES),
    ),
]
ThresholdsGiven = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=NUMBER",
        help="Detection threshold, such as outlying=4. Repeatable.",
        autocompletion=complete.words(complete.THRESHOLDS),
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cuda, mps or cpu. Default: the fastest available.",
        autocompletion=complete.words(complete.DEVICES),
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="float32, bfloat16 or float16. Default: float32.",
        autocompletion=complete.words(complete.DTYPES),
    ),
]
NDevices = Annotated[
    int | None, whole("Number of GPUs to spread one model over. Default: 1.", least=1)
]
Revision = Annotated[
    str | None,
    typer.Option(
        help="Branch, tag or commit of a model on the hub; a sweep takes several, as A,B,C."
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code", help="Run Python code from the model's repository; read it first."
    ),
]
Bridge = Annotated[
    bool,
    typer.Option("--bridge", help="Load as TransformerBridge (TransformerLens 4 always does)."),
]
SkipCheck = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Skip a check at load: original, patterns, causality or chunks. Repeatable.",
        autocompletion=complete.words(complete.CHECKS),
    ),
]
Seed = Annotated[
    int | None,
    whole("Recorded in run.json. Random edits carry their own seed, as in resample:3."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Print the plan and an estimate of its time; load nothing."),
]
LogFormat = Annotated[
    str,
    typer.Option(
        help="Progress on standard error: text (bars, on a terminal only), or json, one line per "
        "event.",
        autocompletion=complete.words(complete.LOG_FORMATS),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", help="Print no progress and no tables, only where the results are."),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace what --out holds of other inputs; cells with the same inputs are kept.",
    ),
]


def shared(
    models: Models = None,
    out: Out = None,
    config: Config = None,
    texts: Texts = None,
    text: Inline = None,
    limit: Limit = None,
    max_tokens: MaxTokens = None,
    feed: Feed = None,
    threshold: ThresholdsGiven = None,
    device: Device = None,
    dtype: Dtype = None,
    n_devices: NDevices = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    bridge: Bridge = False,
    skip_check: SkipCheck = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    log_format: LogFormat = "text",
    json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Options of `run`, `detect`, `ablate`, `patch` and `scale`, in the order of their help."""
