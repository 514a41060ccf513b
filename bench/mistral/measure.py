"""Measures mistral.rs through its Python package: one prefill of words, then a decode.

Usage: measure.py MODEL.gguf PREFILL_TOKENS DECODE_TOKENS. Threads come from RAYON_NUM_THREADS.
Prints one line of JSON: the speeds, or {"cannot": REASON}.
"""

import json
import os
import random
import sys

import mistralrs

# A prompt is needed before something can be decoded.
LEAST_PROMPT = 16
WORDS = "river stone light under seven green window market letter quiet".split()


def main():
    path, prefill, decode = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        result = measure(path, prefill, decode)
    except (ValueError, RuntimeError) as error:
        # What mistral.rs says of files, formats and lengths that it does not take.
        result = {"cannot": str(error)}
    print(json.dumps(result))


def measure(path, prefill, decode):
    folder, name = os.path.split(path)
    # Nothing of an earlier prompt may be reused, and room for one sequence is enough.
    runner = mistralrs.Runner(
        mistralrs.Which.GGUF(quantized_model_id=folder or ".", quantized_filename=name),
        max_seqs=1,
        prefix_cache_n=0,
    )
    tokens = max(prefill, LEAST_PROMPT if decode else 1)
    longest = runner.max_sequence_length()
    if longest is not None and tokens + decode + 1 > longest:
        return {"cannot": f"mistral.rs ends at {longest} tokens with this file"}
    prompt = text(runner, tokens)
    # The first token of an answer comes from the prefill, so that its time is not the decode's.
    request = mistralrs.CompletionRequest(
        prompt=prompt, model="default", max_tokens=decode + 1, temperature=0.0, ignore_eos=True
    )
    usage = runner.send_completion_request(request).usage
    if usage.prompt_tokens != tokens or usage.completion_tokens != decode + 1:
        raise SystemExit(
            f"{usage.prompt_tokens} tokens read and {usage.completion_tokens} written "
            f"instead of {tokens} and {decode + 1}"
        )
    return {
        "prefill_tok_s": tokens / usage.total_prompt_time_sec if prefill else None,
        "decode_tok_s": decode / usage.total_completion_time_sec if decode else None,
    }


def text(runner, tokens):
    """A text of that many tokens (the package takes texts only)."""
    random.seed(tokens)
    words = " ".join(random.choice(WORDS) for _ in range(tokens))
    for spare in range(8):
        ids = runner.tokenize_text(words, True, None)[: tokens - spare]
        cut = runner.detokenize_text(ids, False)
        for filler in range(8):
            cut_and_filled = cut + " a" * filler
            if len(runner.tokenize_text(cut_and_filled, True, None)) == tokens:
                return cut_and_filled
    raise SystemExit(f"no text of {tokens} tokens found")


main()
