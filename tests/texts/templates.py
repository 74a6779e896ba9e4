"""Chat templates that leave something out, in the ways in which published ones do."""

from tests.tiny import TEMPLATE

R1 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}{% else %}"
    "{% set c = m['content'] %}{% if '</think>' in c and not keep_thinking %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}<|Assistant|>{{ c }}{% endif %}{% endfor %}"
)
"""Cuts the reasoning of the assistant, unless it is told not to."""
LAST_ONLY = "<s>{{ messages[-1]['content'] }}"
CUTTING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'][:20] }}{% endfor %}"
STRIPPING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | trim }} {% endfor %}"
LOWER = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | lower }}{% endfor %}"
REASONING = (
    "{% for m in messages %}{{ m['role'] }}: {% if m.reasoning_content %}<think>\n"
    "{{ m.reasoning_content | trim }}\n</think>\n\n{% endif %}{{ m['content'] | trim }}{% endfor %}"
)
TOOLS = (
    "{% for m in messages %}{{ m['role'] }}: {{ m.content }}{% for c in m.tool_calls %}"
    "{{ c.function | tojson }}{% endfor %}{% endfor %}"
)
PARTS = "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] }}{% endfor %}{% endfor %}"
SYSTEM_LATE = (
    "{% for m in messages[1:] %}{% if loop.last %}{{ messages[0]['content'] }} {% endif %}"
    "[{{ m['content'] }}]{% endfor %}"
)
USER_ONLY = (
    "assistant{% for m in messages if m['role'] == 'user' %}user: {{ m.content }}{% endfor %}"
)
PLAIN = TEMPLATE
