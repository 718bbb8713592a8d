"""Which scripts a tokenizer can really read: to know the letters is not enough where words are spelled with them."""

from collections import Counter

from tokenizers import Tokenizer

from services.domain.text import scripts_of

# A script counts as covered from this share of its common characters on.
MIN_KNOWN = 0.9
# Pieces of three letters or more that a vocabulary needs before it reads a script in words: BERT's English vocabulary
# holds two of Cyrillic, 26,000 of Latin.
MIN_PIECES = 500


def _legacy(codec: str, leads: range) -> str:
    """Characters of the rows `leads` of a national two-byte code, which were filled by frequency of use."""
    pairs = (bytes((lead, trail)).decode(codec, "ignore") for lead in leads for trail in range(0xA1, 0xFF))
    return "".join(pairs)


# Characters written one by one: each must be a token of its own.
_CHARACTERS = {
    "han": _legacy("gb2312", range(0xB0, 0xD8)),  # level 1 of GB 2312: the 3,755 most used
    "hangul": _legacy("euc_kr", range(0xB0, 0xC9)),  # the 2,350 syllables of KS X 1001
}
# Letters of scripts that spell words: all must be known, and the vocabulary must hold words made of them.
_ALPHABETS = {
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "devanagari": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "thai": "กขคฆงจฉชซญดตถทธนบปผฝพฟภมยรลวศสหอฮ",
    "hiragana": "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん",
    "katakana": "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン",
}


def common_characters(script: str) -> str:
    """The characters in common use of a script that is written one by one: "han" or "hangul"."""
    return _CHARACTERS[script]


def covered_scripts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Scripts, named as `scripts_of` names them, whose texts the vocabulary reads in tokens that carry meaning."""
    # A copy, since padding would count as tokens.
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = _unknown(tokenizer)
    pieces = _words_by_script(tokenizer)
    characters = [script for script, common in _CHARACTERS.items() if _known(tokenizer, common, unknown) >= MIN_KNOWN]
    alphabets = [
        script
        for script, letters in _ALPHABETS.items()
        if pieces[script] >= MIN_PIECES and _known(tokenizer, letters, unknown) >= MIN_KNOWN
    ]
    return tuple(sorted(characters + alphabets))


def _unknown(tokenizer: Tokenizer) -> set[int]:
    """Ids that stand for what the vocabulary does not hold."""
    ids = (tokenizer.token_to_id(token) for token in ("[UNK]", "<unk>"))
    return {id_ for id_ in ids if id_ is not None}


def _known(tokenizer: Tokenizer, characters: str, unknown: set[int]) -> float:
    """Share of the characters that are one token each, and not the unknown one."""
    encodings = tokenizer.encode_batch(list(characters), add_special_tokens=False)
    known = sum(len(encoding.ids) == 1 and encoding.ids[0] not in unknown for encoding in encodings)
    return known / len(characters)


def _words_by_script(tokenizer: Tokenizer) -> Counter[str]:
    """How many pieces of at least three letters the vocabulary holds of each script."""
    counts: Counter[str] = Counter()
    for piece in tokenizer.get_vocab():
        word = piece.removeprefix("##").removeprefix("▁")
        if len(word) < 3 or not word.isalpha():
            continue
        shares = scripts_of(word)
        if len(shares) == 1:
            counts.update(shares.keys())
    return counts
