"""Personal data in free text, English and Chinese: found by form, and by check digits wherever the form has them.

Patterns and check digits rather than a model: they run on any machine at the speed of the log, and each finding can be
explained. What has no form of its own (a name without a title, an address without a street word) is not found.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾萧田董潘袁蔡蒋余于杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪"
    "范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛阎段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_DOUBLE_SURNAMES = "欧阳|上官|司马|诸葛|司徒|皇甫|尉迟|公孙|慕容|令狐|夏侯|东方"
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_STREET = "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Boulevard|Blvd|Court|Crescent|Terrace|Way|Square|Close"


@dataclass(frozen=True)
class Found:
    """Personal data at [start, end) of a text, in characters."""

    kind: str
    start: int
    end: int


def luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    # Shorter than 16 none but Visa's old ones begin so: the rest are article numbers (China's begin with 69).
    long_enough = 16 <= len(digits) <= 19 or (len(digits) == 13 and digits[0] == "4")
    return long_enough and len(set(digits)) > 1 and luhn(digits)


def _short_card(text: str) -> bool:
    return luhn(re.sub(r"\D", "", text))


def _chinese_id(text: str) -> bool:
    """GB 11643-1999: a day of birth that there was, and a check digit by ISO 7064 MOD 11-2."""
    try:
        date(int(text[6:10]), int(text[10:12]), int(text[12:14]))
    except ValueError:
        return False
    return _ID_CHECKS[sum(w * int(digit) for w, digit in zip(_ID_WEIGHTS, text, strict=False)) % 11] == text[17].upper()


def _iban(text: str) -> bool:
    """ISO 13616: moved round and letters as numbers, the remainder by 97 is 1."""
    plain = text.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _phone(text: str) -> bool:
    return 8 <= sum(c.isdigit() for c in text) <= 15


def _always(text: str) -> bool:
    return True


# In this order: what is found first keeps its place. Digits and letters beside a number make it another number.
_KINDS: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("EMAIL", r"[\w.+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}", _always),
    ("IBAN", r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])", _iban),
    ("CHINESE_ID", r"(?<!\d)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?!\d)", _chinese_id),
    ("CARD", r"(?<![\dA-Za-z])[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\dA-Za-z])", _card),
    (
        "CARD",
        r"(?<![\dA-Za-z])(?:3[47]\d{2}[ -]?\d{6}[ -]?\d{5}|3[068]\d{2}[ -]?\d{6}[ -]?\d{4})(?![\dA-Za-z])",
        _short_card,
    ),
    ("IP", r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])", _ip),
    ("IP", r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])", _ip),
    ("PHONE", r"(?<!\d)(?:(?:\+|00)?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?!\d)", _phone),
    ("PHONE", r"(?<![\d+])\+\d[\d ()-]{6,17}\d(?!\d)", _phone),
    ("PHONE", r"(?<![\d.-])(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\d.-])", _phone),
    ("PHONE", r"(?<![\d.-])(?:0\d{2,3}[- ]|\(0\d{2,3}\) ?)\d{7,8}(?![\d.-])", _phone),
    (
        "ADDRESS",
        rf"\b\d{{1,5}}[A-Za-z]? (?:[A-Z]['’][A-Z][a-z]+ |[A-Z][a-z]+ |\d+(?:st|nd|rd|th) ){{1,3}}(?:{_STREET})\b\.?",
        _always,
    ),
    (
        "ADDRESS",
        r"(?:[\u4e00-\u9fff]{2,8}?[省市区县]){0,4}[\u4e00-\u9fff]{1,8}?[路街道巷弄](?:\d+弄)?\d+号(?:\d+[\u4e00-\u9fff]{1,2})*",
        _always,
    ),
    ("NAME", r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.? (?:[A-Z]['’])?[A-Z][a-z]+(?:[ -](?:[A-Z]['’])?[A-Z][a-z]+)?", _always),
    ("NAME", rf"(?:{_DOUBLE_SURNAMES}|[{_SURNAMES}])[\u4e00-\u9fff]{{0,2}}?(?:先生|女士|小姐)", _always),
    (
        "NAME",
        r"(?:(?<=收件人:)|(?<=收货人:)|(?<=姓名:)|(?<=收件人: )|(?<=收货人: )|(?<=姓名: )|(?<=我叫))"
        r"[\u4e00-\u9fff]{2,3}",
        _always,
    ),
)
_PATTERNS = tuple((kind, re.compile(pattern), check) for kind, pattern, check in _KINDS)


# Signs as a Chinese keyboard writes them (１３８, ＠) are read as the plain ones; one character stays one.
_PLAIN = {0xFF01 + place: 0x21 + place for place in range(94)} | {0x3000: 0x20}


def find(text: str) -> list[Found]:
    """What is personal in a text, by place; no two overlap."""
    text = text.translate(_PLAIN)
    taken: list[Found] = []
    for kind, pattern, check in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if all(end <= one.start or start >= one.end for one in taken) and check(match.group()):
                taken.append(Found(kind, start, end))
    return sorted(taken, key=lambda one: one.start)


def redact(text: str, counts: Counter[str] | None = None) -> str:
    """The text with [KIND] in place of what is personal; `counts` takes how many of each kind there were."""
    parts, at = [], 0
    for one in find(text):
        parts += [text[at : one.start], f"[{one.kind}]"]
        at = one.end
        if counts is not None:
            counts[one.kind] += 1
    return "".join([*parts, text[at:]])
