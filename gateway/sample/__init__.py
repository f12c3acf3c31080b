"""A sample model: a real HTTP server with a small language model behind it, for demonstrations, tests and benchmarks.

    python -m gateway.sample --port 8090            OpenAI at /v1, Anthropic at /v1/messages

It needs no account and no download: it writes from a table of word sequences learnt from the public-domain texts in
`corpus/` (`learn.py`). The same request with the same `seed` gives the same answer; another prompt gives another text.
This package imports nothing of the gateway, and the gateway nothing of it: they meet over HTTP only.

    learn.py      corpus -> ngrams.json         python -m gateway.sample.learn
    text.py       the table, and writing from it
    modes.py      the model names and what each does
    openai.py     /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models
    anthropic.py  /v1/messages, /v1/messages/count_tokens
    server.py     ASGI: routing, pacing, faults; the only file that sends

What a call does is chosen by the model's name (`modes.py` has the list):

    sample                 writes 40 to 120 words, one each --token-interval-ms
    sample-fast            the same without any pause: the upstream of benchmarks
    sample-mixed           as fast, but prose, code, JSON with UUIDs, CSV, base64 or Chinese, by the prompt
    sample-slow            ten times slower
    sample-echo            says the last user message, word by word          (sample-echo-chars: character by character)
    sample-decode          says the last user message after base64-decoding it, so that an answer can hold what the
                           prompt does not                                   (sample-decode-chars)
    sample-large-N         writes at least N kB
    sample-tools           calls the first tool given; arguments follow its schema and the user's words
    sample-reasoning       thinks first (reasoning_content, thinking blocks)
    sample-refusal         declines (refusal field, stop reason "refusal")
    sample-n               as sample; every model honors `n`, `logprobs`, `top_logprobs`, `stop` and the token limits
    sample-error-S         answers with status S (400 to 599) and the dialect's error body
    sample-stall-first     takes the request and never answers
    sample-stall           stops half-way and keeps the connection open
    sample-cut             closes the connection in the middle of a frame or body
    sample-json            answers in JSON although a stream was asked for
    sample-drift           says it is another model                          (sample-drift-late: from half-way on)
    sample-unknown-event   adds an event, or a field, that no SDK knows
    sample-gzip            answers with gzip, whatever was asked for
    sample-redirect        answers 307 to another host
"""
