#!/usr/bin/env python3
"""Loads an OpenAI-compatible server and checks every answer. Standard library only.

  load.py mix URL --clients 32 --seconds 300 --long-tokens 12000 [--pid PID] [--passkey]
  load.py decode URL [--tokens 128]
  load.py chats URL --clients 8 --requests 24 --prompt-tokens 300 --tokens 64 --end-token 2

mix: clients send short chats and long documents until the time is over. Refusals (429, 503) are
counted and obeyed. Every answer is checked: with --passkey each request hides a key of its own,
which must come back (and no other's); without, every distinct request is first asked alone, and
its text must be the same under load, letter by letter.
decode: eight answers one after another against eight at once; prints the ratio.
chats: a fixed number of distinct chats of one size, so many at a time: what two servers can be
compared by (tools/beside_llama.sh). The end token is forbidden, so that all answers are as long.
"""

import argparse
import contextlib
import http.client
import json
import random
import re
import threading
import time
from urllib.parse import urlparse

FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "


class Refused(Exception):
    def __init__(self, after):
        self.after = after


def request(url, path, body=None, timeout=1800):
    place = urlparse(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def get(url, path):
    connection, response = request(url, path)
    with contextlib.closing(connection):
        return json.loads(response.read()) if response.status == 200 else {}


def stream(url, body):
    """The text of a streamed answer, its usage, and the times of its pieces."""
    begun = time.monotonic()
    path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
    connection, response = request(url, path, {**body, "stream": True, "stream_options": {"include_usage": True}})
    try:
        if response.status in (429, 503):
            raise Refused(float(response.getheader("Retry-After") or 1))
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {response.read()[:300]}")
        text, usage, times, done = "", {}, [], False
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                done = True
                break
            chunk = json.loads(data)
            if "error" in chunk:
                raise RuntimeError(chunk["error"])
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", []):
                piece = choice.get("text") or (choice.get("delta") or {}).get("content")
                if piece:
                    times.append(time.monotonic() - begun)
                    text += piece
        if not done:
            raise RuntimeError("the stream broke off")
        return text, usage, times
    finally:
        connection.close()


def percentiles(values):
    values = sorted(values)
    at = lambda share: round(values[min(len(values) - 1, int(share * len(values)))], 3)
    return {"n": len(values), "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1)} if values else {"n": 0}


def passkey_request(rng, tokens):
    key = str(rng.randint(10_000, 99_999))
    filler = FILLER * max(1, int(tokens / 24))
    cut = filler.find(" ", int(len(filler) * rng.random() * 0.8)) + 1
    text = f"{filler[:cut]}The pass key is {key}. Remember it. {key} is the pass key. {filler[cut:]}"
    ask = f"There is a pass key hidden in this text.\n\n{text}\n\nWhat is the pass key? The pass key is"
    return {"messages": [{"role": "user", "content": ask}], "max_tokens": 16, "temperature": 0}, key


def seeded_request(rng, tokens):
    words = " ".join(rng.choice(FILLER.split()) for _ in range(max(4, int(tokens * 0.6))))
    return {
        "messages": [{"role": "user", "content": f"{words}\n\nGo on."}],
        "max_tokens": rng.choice([16, 48]), "temperature": 0.8, "seed": rng.randint(0, 1 << 30),
    }, None


def as_prompt(body):
    """For models without a chat template."""
    messages = body.pop("messages")
    return {**body, "prompt": messages[0]["content"]}


def memory(pid):
    with open(f"/proc/{pid}/status") as status:
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status.read()))
    return {name: int(kib) // 1024 for name, kib in found.items()}


def mix(args):
    rng = random.Random(1)
    make = passkey_request if args.passkey else seeded_request
    sizes = lambda r: args.long_tokens if r.random() < args.long_share else args.short_tokens
    fixed = []
    if not args.passkey:
        for number in range(args.distinct):
            size = args.long_tokens if number % 4 == 0 else args.short_tokens
            body, _ = make(rng, size)
            body = as_prompt(body) if args.no_template else body
            fixed.append((body, stream(args.url, body)[0], size))
        print(f"asked {len(fixed)} requests alone", flush=True)
    end = time.monotonic() + args.seconds
    lock = threading.Lock()
    seen = {"answered": 0, "refused": 0, "wrong": [], "failed": [], "first": {"short": [], "long": []}, "between": [], "tokens": 0, "read": 0, "cached": 0}
    keys = set()

    def client(number):
        own = random.Random(number)
        while time.monotonic() < end:
            if args.passkey:
                size = sizes(own)
                body, key = make(own, size)
                body = as_prompt(body) if args.no_template else body
                with lock:
                    keys.add(key)
            else:
                body, expected, size = own.choice(fixed)
            try:
                text, usage, times = stream(args.url, body)
            except Refused as refusal:
                with lock:
                    seen["refused"] += 1
                time.sleep(min(refusal.after, 10))
                continue
            except Exception as error:
                with lock:
                    seen["failed"].append(repr(error))
                continue
            if args.passkey:
                with lock:
                    others = {found for found in re.findall(r"\d{5}", text) if found != key and found in keys}
                right = not others
                seen.setdefault("retrieved", []).append(key in text)
            else:
                right = text == expected
            with lock:
                seen["answered"] += 1
                seen["tokens"] += usage.get("completion_tokens", 0)
                seen["read"] += usage.get("prompt_tokens", 0)
                seen["cached"] += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                if not right:
                    seen["wrong"].append(text[:80])
                if times:
                    seen["first"]["long" if size == args.long_tokens else "short"].append(times[0])
                    seen["between"] += [b - a for a, b in zip(times, times[1:])]

    begun = time.monotonic()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(args.clients)]
    [thread.start() for thread in threads]
    most, budget, peak = 0, 0, {}
    while any(thread.is_alive() for thread in threads):
        state = get(args.url, "/ready") if not args.other else {}
        most, budget = max(most, state.get("kv_bytes", 0)), state.get("kv_budget_bytes", 0)
        if args.pid:
            peak = memory(args.pid)
        time.sleep(0.25)
    took = time.monotonic() - begun
    result = {
        "clients": args.clients, "seconds": round(took, 1), "answered": seen["answered"], "refused": seen["refused"],
        "wrong": len(seen["wrong"]), "failed": len(seen["failed"]), "examples": (seen["wrong"] + seen["failed"])[:3],
        "tokens_written_per_s": round(seen["tokens"] / took, 1), "tokens_read_per_s": round(seen["read"] / took, 1),
        "cached_share": round(seen["cached"] / max(1, seen["read"]), 3),
        "first_token_s": {kind: percentiles(values) for kind, values in seen["first"].items()},
        "between_tokens_s": percentiles(seen["between"]),
        "kv_most_bytes": most, "kv_budget_bytes": budget, "process_mib": peak,
    }
    if args.passkey:
        found = seen.get("retrieved", [])
        result["passkeys_retrieved"] = f"{sum(found)} of {len(found)}"
    print(json.dumps(result, indent=1))
    if seen["wrong"] or seen["failed"] or most > budget:
        raise SystemExit(1)


def decode(args):
    bodies = [
        {"messages": [{"role": "user", "content": f"Tell me a long story about the number {n}."}], "max_tokens": args.tokens, "temperature": 0.8, "seed": n}
        for n in range(8)
    ]

    def one(body, out):
        out.append(stream(args.url, body)[1]["completion_tokens"])

    def measure(together):
        out, begun = [], time.monotonic()
        threads = [threading.Thread(target=one, args=(body, out)) for body in bodies]
        for thread in threads:
            thread.start()
            together or thread.join()
        [thread.join() for thread in threads]
        return sum(out) / (time.monotonic() - begun)

    one(bodies[0], [])
    rounds = [(measure(False), measure(True)) for _ in range(args.rounds)]
    alone, together = (sorted(values)[len(values) // 2] for values in zip(*rounds))
    print(json.dumps({"alone_tok_s": round(alone, 1), "eight_tok_s": round(together, 1), "ratio": round(together / alone, 2)}))


def chats(args):
    # The same chats in every run of one seed; no two begin alike, so that no cache helps.
    rng, words = random.Random(args.seed), FILLER.replace(".", "").split()
    # The template and the words around take about 40 tokens.
    text = lambda n: f"{rng.randint(0, 1 << 30)} " + " ".join(rng.choice(words) for _ in range(max(1, args.prompt_tokens - 40))) + f" ({n}) Go on."
    bodies = [
        {"messages": [{"role": "user", "content": text(n)}], "max_tokens": args.tokens, "temperature": 0, "logit_bias": {str(args.end_token): -100}}
        for n in range(args.requests)
    ]
    left, lock, seen = list(reversed(bodies)), threading.Lock(), {"first": [], "between": [], "took": [], "read": 0, "written": 0, "failed": []}

    def client():
        while True:
            with lock:
                if not left:
                    return
                body = left.pop()
            begun = time.monotonic()
            try:
                _, usage, times = stream(args.url, body)
            except Exception as error:
                with lock:
                    seen["failed"].append(repr(error))
                continue
            with lock:
                seen["took"].append(time.monotonic() - begun)
                seen["first"] += times[:1]
                seen["between"] += [b - a for a, b in zip(times, times[1:])]
                seen["read"] += usage["prompt_tokens"]
                seen["written"] += usage["completion_tokens"]

    begun = time.monotonic()
    threads = [threading.Thread(target=client) for _ in range(args.clients)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    took = time.monotonic() - begun
    print(json.dumps({
        "seconds": round(took, 2), "answered": len(seen["took"]), "failed": seen["failed"][:3],
        "prompt_tokens": seen["read"], "written_tokens": seen["written"],
        "requests_per_s": round(len(seen["took"]) / took, 3), "first_token_s": percentiles(seen["first"]),
        "between_tokens_s": percentiles(seen["between"]), "whole_s": percentiles(seen["took"]),
    }))
    if seen["failed"]:
        raise SystemExit(1)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(dest="command", required=True)
loaded = commands.add_parser("mix")
loaded.add_argument("url")
loaded.add_argument("--clients", type=int, default=32)
loaded.add_argument("--seconds", type=float, default=60)
loaded.add_argument("--short-tokens", type=int, default=60)
loaded.add_argument("--long-tokens", type=int, default=12_000)
loaded.add_argument("--long-share", type=float, default=0.1)
loaded.add_argument("--distinct", type=int, default=16, help="different requests without --passkey")
loaded.add_argument("--passkey", action="store_true")
loaded.add_argument("--no-template", action="store_true", help="plain completions, for models without a chat template")
loaded.add_argument("--pid", type=int)
loaded.add_argument("--other", action="store_true", help="the server is not ours: it has no /ready with its memory")
decoded = commands.add_parser("decode")
decoded.add_argument("url")
decoded.add_argument("--tokens", type=int, default=128)
decoded.add_argument("--rounds", type=int, default=3)
chatted = commands.add_parser("chats")
chatted.add_argument("url")
chatted.add_argument("--clients", type=int, default=8)
chatted.add_argument("--requests", type=int, default=24)
chatted.add_argument("--prompt-tokens", type=int, default=300)
chatted.add_argument("--tokens", type=int, default=64)
chatted.add_argument("--end-token", type=int, default=2, help="2 for SmolLM2")
chatted.add_argument("--seed", type=int, default=1)
arguments = parser.parse_args()
{"mix": mix, "decode": decode, "chats": chats}[arguments.command](arguments)
