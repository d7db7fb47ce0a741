"""Is a client of language models to be trusted with a stream? A matrix of faults, and a certificate.

The client is asked for streamed answers by a server on this machine that does what providers and networks do on bad days, and
is judged by what it tells. Each row of the matrix is ``pass``; ``FAIL``; ``HANGS``; ``SILENT``, the worst, where it passes a
broken answer for a whole one; or ``n/a``. ``rxstream certify`` is this as a command.

**A function** takes a `Question`, and gives an iterator or, as an async function, an async one::

    async def client(question):
        async with my_client(base_url=question.base_url, timeout=question.timeout) as http:
            async for token in http.stream(question.model, question.prompt):
                yield token

    # rxstream certify my_module:client

It yields text, or dicts with any of these keys: ``{"text": "…"}``, ``{"tool_call": {"name": "…", "arguments": "{…}"}}`` for a
call that is whole, ``{"usage": {"input_tokens": 7, "output_tokens": 12}}`` of which the last counts, ``{"finish": "stop"}``,
``{"retract": 0}`` to take back all text from that character on. If it ends, it says that the answer is complete; if it
raises, that it is not. It is cancelled as a task is, by `asyncio.CancelledError`; an iterator that is not async is closed
when it has just given something. What it cannot do, also a dialect that it does not speak, is a `NotImplementedError`.

**A command** finds the question in its environment: ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY``, or ``ANTHROPIC_BASE_URL`` and
``ANTHROPIC_API_KEY``; and ``RXSTREAM_CERTIFY_BASE_URL``, ``…_DIALECT``, ``…_MODEL``, ``…_PROMPT``, ``…_API_KEY``, ``…_TIMEOUT``,
``…_TOOLS``. It writes the text to its standard output as it comes, or pieces as above as JSON Lines. Exit status 0 says that the
answer is complete, any other that it is not. It is cancelled by an interrupt.

What both are told to do is to give up after ``timeout`` seconds without progress, and nothing else.
"""

from __future__ import annotations

from rxstream.testing.certify._certificate import Certificate, Result, certify
from rxstream.testing.certify._client import Piece, Question
from rxstream.testing.certify._rows import ROWS, Row

__all__ = ["ROWS", "Certificate", "Piece", "Question", "Result", "Row", "certify"]
