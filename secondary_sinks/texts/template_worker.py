"""The separate process that renders chat templates, with limited memory.

Reads one JSON request per line and writes one JSON answer per line. It imports nothing of this
package, so that it starts quickly.
"""

import contextlib
import json
import sys
from typing import Any


def main(most_bytes: int) -> None:
    """Answer requests until the input ends."""
    replies, sys.stdout = sys.stdout, sys.stderr
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    tokenizer = PreTrainedTokenizerBase()
    with contextlib.suppress(ImportError):  # Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    for line in sys.stdin:
        replies.write(json.dumps(_answer(tokenizer, json.loads(line))) + "\n")
        replies.flush()


def _answer(tokenizer: Any, request: dict[str, Any]) -> dict[str, Any]:
    try:
        fed = tokenizer.apply_chat_template(
            request["messages"],
            chat_template=request["template"],
            tokenize=False,
            **request["variables"],
        )
    except MemoryError:
        return {"error": "it asks for more memory than a template may have"}
    except Exception as error:  # a template can raise anything
        return {"error": str(error) or type(error).__name__}
    if len(fed) > request["most"]:
        return {"error": f"it writes {len(fed):,} characters, expected at most {request['most']:,}"}
    return {"fed": fed}


if __name__ == "__main__":
    main(int(sys.argv[1]))
