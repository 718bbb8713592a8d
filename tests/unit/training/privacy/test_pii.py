"""What is personal is found by form and check digit, and what only looks like it is left."""

from collections import Counter

import pytest

from training.privacy.pii import find, luhn, redact

FOUND = [
    ("mail me at jo.o+x@shop.co.uk please", "mail me at [EMAIL] please"),
    ("打电话13812345678谢谢", "打电话[PHONE]谢谢"),
    ("+86 138-1234-5678", "[PHONE]"),
    ("座机010-12345678", "座机[PHONE]"),
    ("call +44 20 7946 0958 now", "call [PHONE] now"),
    ("call (555) 123-4567", "call [PHONE]"),
    ("身份证11010519491231002X", "身份证[CHINESE_ID]"),
    ("card 4111 1111 1111 1111.", "card [CARD]."),
    ("amex 378282246310005", "amex [CARD]"),
    ("GB82 WEST 1234 5698 7654 32", "[IBAN]"),
    ("from 192.168.0.1 today", "from [IP] today"),
    ("from 2001:db8::1 today", "from [IP] today"),
    ("to 12 Old Mill Road, please", "to [ADDRESS], please"),
    ("北京市海淀区中关村大街27号1101室", "[ADDRESS]"),
    ("for Mrs. Jane Doe", "for [NAME]"),
    ("王先生的包裹", "[NAME]的包裹"),
    ("收件人：李小明", "收件人：[NAME]"),
    ("收件人:李小明", "收件人:[NAME]"),
    ("姓名: 李雷", "姓名: [NAME]"),
    ("欧阳女士的包裹", "[NAME]的包裹"),
    ("for Mrs O'Neill", "for [NAME]"),
    ("电话１３８１２３４５６７８。", "电话[PHONE]。"),
    ("ｍａｉｌ：a＠b.cn", "ｍａｉｌ：[EMAIL]"),
    ("(010)12345678", "[PHONE]"),
    ("座机（０１０）12345678", "座机[PHONE]"),
    ("020 81234567", "[PHONE]"),
    ("中山路12弄3号", "[ADDRESS]"),
    ("12 O'Connell Street", "[ADDRESS]"),
    ("45 West 42nd Street", "[ADDRESS]"),
    ("diners 30569309025904", "diners [CARD]"),
    ("old visa 4222222222222", "old visa [CARD]"),
]
LEFT = [
    "card 4111 1111 1111 1112",
    "身份证110105194912310021",
    "11010519491331002X",
    "GB82 WEST 1234 5698 7654 33",
    "version 1.2.3.999",
    "EAN 4006381333931",
    # Check digits of an article number that are a card's by chance.
    "EAN 6901234567892",
    "GTIN 26901234567898",
    "５号电池",
    "机器人: 红色款",
    "size 10 x 20, 2 for 1",
    "iPhone 15 Pro 256 GB",
    "@home 3 m cable",
    "12:30:15",
    "路由器 5号电池",
    "红色连衣裙 女 2026新款",
]


@pytest.mark.parametrize(("text", "redacted"), FOUND)
def test_what_is_personal_is_redacted(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_personal_is_left(text: str) -> None:
    assert find(text) == []


def test_each_kind_is_counted() -> None:
    counts: Counter[str] = Counter()
    redact("a@b.cn, c@d.cn, 13812345678", counts)
    assert counts == {"EMAIL": 2, "PHONE": 1}


def test_luhn_refuses_each_single_wrong_digit() -> None:
    right = "4111111111111111"
    assert luhn(right)
    for place in range(len(right)):
        assert not luhn(right[:place] + str((int(right[place]) + 1) % 10) + right[place + 1 :])
