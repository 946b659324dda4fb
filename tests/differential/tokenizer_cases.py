"""Random tokenizer.json files and texts: parts of every kind that model/text knows, put together at random."""

import base64
import json
import random
import struct

SPACES = list(" \t\n\r\v\f\0\x1c\x7f\x85\xa0\u1680\u2003\u2028\u202f\u3000\ufeff\u200b\xad\ufffd")
WORDS = """the of and Embedding unaffable naïve Ångström İstanbul ΌΔΟΣ straße Ελλάδα московский שָׁלוֹם العَرَبِيَّة हिन्दी
தமிழ் ไทย 한국어 日本語 東京 ガギグ ﬁnance Ⅷ ǅ ẞ don't we'll 3.14 ½ ① #1 c++ </s> <s> <mask> [CLS] [SEP] [MASK] [UNK] ▁a Ġ x</w> ##ing
e\u0301 a\u0323\u0301 \u0344 \u0f73 \u1e69 \u212b 👩‍👩‍👧 🏳️‍🌈 👍🏽 🇩🇪 క్ష क्षि \u1100\u1161\u11a8 \U0001d15e""".split()
RANGES = [
    (0x20, 0x7F), (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x250, 0x370), (0x370, 0x530), (0x530, 0x860), (0x8A0, 0xE00),
    (0xE00, 0x1100), (0x1100, 0x1200), (0x1200, 0x1AB0), (0x1AB0, 0x1E00), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x2C00, 0x3100),
    (0x4E00, 0x4F00), (0xA000, 0xAC00), (0xAC00, 0xD7B0), (0xF900, 0xFB00), (0xFB00, 0x10000), (0x10000, 0x12000),
    (0x1D100, 0x1D200), (0x1D400, 0x1D800), (0x1E000, 0x1E030), (0x1E900, 0x1E960), (0x1F100, 0x1FB00), (0x20000, 0x20100),
    (0x2F800, 0x2FA20), (0xE0000, 0xE01F0),
]  # fmt: skip
MARKS = [0x0300, 0x0301, 0x0315, 0x0316, 0x0323, 0x0327, 0x0334, 0x0345, 0x034F, 0x05B0, 0x064B, 0x094D, 0x0F71, 0x0F72, 0x0F73,
         0x0F81, 0x1DFB, 0x302E, 0x3099, 0x1D165, 0x1D16D, 0x0344, 0x200D, 0x093F, 0x0DDD]  # fmt: skip


def byte_characters():
    """GPT-2's characters for the 256 bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) if byte in plain else chr(256 + rest.index(byte)) for byte in range(256)]


def scalar(rng):
    first, last = rng.choice(RANGES)
    return chr(rng.randrange(first, last))


def piece(rng, special):
    kind = rng.randrange(12)
    if kind == 0:
        return rng.choice(special or ["<s>"])
    if kind == 1:
        return rng.choice(SPACES) * rng.randrange(1, 4)
    if kind in (2, 3, 4):
        word = rng.choice(WORDS)
        return rng.choice([word, word.upper(), word.lower(), word.title()]) + rng.choice(["", " ", " ", "  "])
    if kind == 5:
        return "".join(scalar(rng) for _ in range(rng.randrange(1, 6)))
    if kind == 6:
        return scalar(rng) + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(5)))
    if kind == 7:
        return "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(1, 22)))
    if kind == 8:
        return rng.choice("abcdeg") * rng.randrange(1, 9) + rng.choice(["", " "])
    return "".join(rng.choice("abcdefghij ,.'0A") for _ in range(rng.randrange(1, 12)))


def text(rng, special):
    made = "".join(piece(rng, special) for _ in range(rng.randrange(0, 9)))
    return "".join(c for c in made if not 0xD800 <= ord(c) < 0xE000)


# --- Normalizers ------------------------------------------------------------------------------------------------------------


def double_array(words):
    """A darts-clone trie over {bytes: value}, laid out naively."""
    units = {0: 0}
    used = {0}

    def place(node, entries, at):
        # entries: rests of words that pass through the node, with their values
        labels = sorted({word[0] if word else 0 for word, _ in entries})
        base = 1
        while any((base ^ label) in used for label in labels) or base ^ at >= 1 << 21 or base == 0:
            base += 1
        for label in labels:
            used.add(base ^ label)
        offset = base ^ at
        units[at] = units.get(at, 0) | offset << 10
        for label in labels:
            inner = [(word[1:], value) for word, value in entries if word and word[0] == label]
            if label == 0:
                units[at] |= 1 << 8
                units[base] = 1 << 31 | next(value for word, value in entries if not word)
            else:
                units[base ^ label] = label
                place(label, inner, base ^ label)

    place(0, list(words.items()), 0)
    return [units.get(i, 0) for i in range(max(units) + 256)]


def charsmap(rng):
    sources = ["ﬁ", "Ⅷ", "A", "é", "e\u0301", " ", "\t", "\u3000", "ab", "क्", "\u200d", "¼", "b", "\u0301", "ǆ", "\xad"]
    targets = ["fi", "VIII", "a", "e", "", " ", "  ", "x\u0301", "1⁄4", "क", "日"]
    texts, words = b"", {}
    for source in rng.sample(sources, rng.randrange(1, 8)):
        words[source.encode()] = len(texts)
        texts += rng.choice(targets).encode() + b"\0"
    units = double_array(words)
    blob = struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + texts
    return base64.b64encode(blob).decode()


def normalizer(rng, depth=0):
    kind = rng.randrange(14 if depth < 2 else 12)
    flag = lambda: rng.random() < 0.5
    if kind == 0:
        return {"type": "BertNormalizer", "clean_text": flag(), "handle_chinese_chars": flag(),
                "strip_accents": rng.choice([None, True, False]), "lowercase": flag()}  # fmt: skip
    if kind <= 4:
        return {"type": ["NFC", "NFD", "NFKC", "NFKD"][kind - 1]}
    if kind == 5:
        return {"type": "Lowercase"}
    if kind == 6:
        return {"type": "StripAccents"}
    if kind == 7:
        return {"type": "Strip", "strip_left": flag(), "strip_right": flag()}
    if kind == 8:
        return {"type": "Prepend", "prepend": rng.choice(["▁", "x", " ", "ab", "é"])}
    if kind == 9:
        return {"type": "Precompiled", "precompiled_charsmap": charsmap(rng)}
    if kind == 10:
        return {"type": "Replace", "pattern": {"String": rng.choice([" ", "a", "ab", "``", "é", "\u0301"])},
                "content": rng.choice(["", "▁", " ", "aa", "日本"])}  # fmt: skip
    if kind == 11:
        return {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": rng.choice([" ", "", "▁▁"])}
    return {"type": "Sequence", "normalizers": [normalizer(rng, depth + 1) for _ in range(rng.randrange(0, 4))]}


# --- Pre-tokenizers ---------------------------------------------------------------------------------------------------------


def pretokenizer(rng, depth=0):
    kind = rng.randrange(8 if depth < 2 else 6)
    flag = lambda: rng.random() < 0.5
    if kind <= 2:
        return {"type": ["BertPreTokenizer", "Whitespace", "WhitespaceSplit"][kind]}
    if kind == 3:
        made = {"type": "Metaspace", "replacement": rng.choice(["▁", "▁", "_", "é"])}
        if flag():
            made["prepend_scheme"] = rng.choice(["always", "first", "never"])
            made["split"] = flag()
        elif flag():
            made["add_prefix_space"] = True
            made["str_rep"] = made["replacement"]
        return made
    if kind in (4, 5):
        made = {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag()}
        return {**made, "use_regex": flag()} if flag() else made
    return {"type": "Sequence", "pretokenizers": [pretokenizer(rng, depth + 1) for _ in range(rng.randrange(0, 4))]}


# --- Models -----------------------------------------------------------------------------------------------------------------

SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<mask>"]
LETTERS = list("abcdefghij ,.'0▁Ġ_éA") + ["\u0301", "日", "한", "ᄒ", "ḍ"]


def strings(rng, count):
    found = dict.fromkeys(rng.sample(LETTERS, rng.randrange(6, len(LETTERS))))
    for _ in range(count):
        found["".join(rng.choice(LETTERS) for _ in range(rng.randrange(1, 6)))] = None
    return list(found)


def wordpiece(rng):
    prefix = rng.choice(["##", "##", "▁", "", "@"])
    words = [*SPECIALS]
    for word in strings(rng, 40):
        words += [word] * (rng.random() < 0.8) + [prefix + word] * (rng.random() < 0.7)
    words = list(dict.fromkeys(words))
    rng.shuffle(words)
    return {"type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": rng.choice([100, 100, 5, 0, 1000]),
            "vocab": {word: i for i, word in enumerate(words)}}, words  # fmt: skip


def score(rng):
    """Numbers with few digits, which make ties, and with 16 or 17, which the reference rounds in its way."""
    return rng.choice([-float(rng.randrange(0, 9)), -rng.random() * 12, round(-rng.random() * 12, 3),
                       -struct.unpack("f", struct.pack("f", rng.random() * 12))[0]])  # fmt: skip


def unigram(rng):
    words = SPECIALS + strings(rng, 50)
    fallback = rng.random() < 0.3
    if fallback:
        words += [f"<0x{byte:02X}>" for byte in range(256) if rng.random() < 0.9 or byte > 64]
    return {"type": "Unigram", "unk_id": 0, "vocab": [[word, score(rng)] for word in words],
            **({"byte_fallback": fallback} if rng.random() < 0.7 or fallback else {})}, words  # fmt: skip


def bpe(rng):
    flag = lambda: rng.random() < 0.5
    prefix, suffix = rng.choice([None, None, "", "##"]), rng.choice([None, None, "", "</w>"])
    letters = byte_characters() if rng.random() < 0.4 else rng.sample(LETTERS, rng.randrange(4, len(LETTERS)))
    words = list(dict.fromkeys(
        SPECIALS + letters + [(prefix or "") + c for c in letters] + [c + (suffix or "") for c in letters]
        + [(prefix or "") + c + (suffix or "") for c in letters]))  # fmt: skip
    if rng.random() < 0.3:
        words += [f"<0x{byte:02X}>" for byte in range(256) if rng.random() < 0.97]
    merges = []
    common = [word for word in words if set(word) & set("abcdeĠ▁#")] or words
    for _ in range(rng.randrange(0, 60)):
        left, right = rng.choice(common), rng.choice(common)
        if (left, right) in merges or not right.startswith(prefix or "") or left in SPECIALS or right in SPECIALS:
            continue
        merged = left + right[len(prefix or "") :]
        if len(merged) > 8 or " " in left + right:
            continue
        merges.append((left, right))
        if merged not in words:
            words.append(merged)
            common.append(merged)
    made = {"type": "BPE", "dropout": None, "unk_token": rng.choice([None, "<unk>", "<unk>"]),
            "continuing_subword_prefix": prefix, "end_of_word_suffix": suffix, "fuse_unk": flag(), "byte_fallback": flag(),
            "ignore_merges": flag(), "vocab": {word: i for i, word in enumerate(words)},
            "merges": [f"{a} {b}" for a, b in merges] if flag() else [list(pair) for pair in merges]}  # fmt: skip
    return made, words


# --- The rest ---------------------------------------------------------------------------------------------------------------


def added_tokens(rng, words):
    contents = [word for word in SPECIALS if rng.random() < 0.8]
    contents += [word for word in rng.sample(["abc", "DEF", " x", "y ", "naïve", "[CLS]", "É", "日本", "'s", "  ", "a"], 4)]
    tokens, new = [], len(words)
    for content in contents:
        plain = rng.random() < 0.5
        flag = lambda: not plain and rng.random() < 0.4
        known = content in words
        tokens.append({"id": words.index(content) if known else new, "content": content, "single_word": flag(), "lstrip": flag(),
                       "rstrip": flag(), "normalized": flag(), "special": rng.random() < 0.6})  # fmt: skip
        new += not known
    return tokens


def post_processor(rng, words, depth=0):
    kind = rng.randrange(7 if depth == 0 else 4)
    flag = lambda: rng.random() < 0.5
    pair = lambda word: [word, words.index(word)]
    if kind == 0:
        return None if depth == 0 else {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag(), "use_regex": flag()}
    if kind == 1:
        return {"type": "BertProcessing", "sep": pair("</s>"), "cls": pair("<s>")}
    if kind == 2:
        return {"type": "RobertaProcessing", "sep": pair("</s>"), "cls": pair("<s>"), "trim_offsets": flag(),
                "add_prefix_space": flag()}  # fmt: skip
    if kind == 3:
        token = lambda: [{"SpecialToken": {"id": rng.choice(["<s>", "</s>", "two"]), "type_id": rng.randrange(2)}}
                         for _ in range(rng.randrange(3))]  # fmt: skip
        first, second = ({"Sequence": {"id": name, "type_id": rng.randrange(2)}} for name in "AB")
        return {"type": "TemplateProcessing", "single": [*token(), first, *token()],
                "pair": [*token()[:1], first, *token()[:1], second, *token()[:1]],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [words.index("<s>")], "tokens": ["<s>"]},
                                   "</s>": {"id": "</s>", "ids": [words.index("</s>")], "tokens": ["</s>"]},
                                   "two": {"id": "two", "ids": [words.index("<s>"), words.index("<pad>")],
                                           "tokens": ["<s>", "<pad>"]}}}  # fmt: skip
    if kind == 4:
        return {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag(), "use_regex": flag()}
    trim = {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag(), "use_regex": flag()}
    return {"type": "Sequence", "processors": [trim, post_processor(rng, words, 1)][: rng.randrange(1, 3)]}


def decoder(rng, depth=0):
    kind = rng.randrange(10 if depth == 0 else 8)
    flag = lambda: rng.random() < 0.5
    return [
        lambda: {"type": "WordPiece", "prefix": rng.choice(["##", "▁"]), "cleanup": flag()},
        lambda: {"type": "ByteLevel", "add_prefix_space": flag(), "trim_offsets": flag(), "use_regex": flag()},
        lambda: {"type": "Metaspace", "replacement": "▁", "prepend_scheme": rng.choice(["always", "first", "never"]), "split": flag()},
        lambda: {"type": "BPEDecoder", "suffix": "</w>"},
        lambda: {"type": "Replace", "pattern": {"String": rng.choice(["▁", "a", "##"])}, "content": rng.choice([" ", "", "bb"])},
        lambda: {"type": "Fuse"},
        lambda: {"type": "ByteFallback"},
        lambda: {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
        lambda: None,
        lambda: {"type": "Sequence", "decoders": [d for d in (decoder(rng, 1) for _ in range(rng.randrange(1, 4))) if d]},
    ][kind]()  # fmt: skip


def configuration(rng):
    """A tokenizer.json as a string, and what stands for its special words in texts."""
    model, words = rng.choice([wordpiece, unigram, bpe])(rng)
    added = added_tokens(rng, words)
    made = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": normalizer(rng) if rng.random() < 0.8 else None,
        "pre_tokenizer": pretokenizer(rng) if rng.random() < 0.85 else None,
        "post_processor": post_processor(rng, words), "decoder": decoder(rng), "model": model,
    }  # fmt: skip
    return json.dumps(made, ensure_ascii=rng.random() < 0.5), [token["content"] for token in added]


def case(seed, texts):
    rng = random.Random(seed)
    made, special = configuration(rng)
    return made, [text(rng, special) for _ in range(texts)]
