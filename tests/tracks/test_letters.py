"""Misread letters: every usual mistake is seen, and no good title is blamed."""

import pandas as pd
import pytest

from lib.tracks.letters import misread

GOOD = [
    *("Björk", "Đường về nhà", "Mötley Crüe", "Žluťoučký kůň", "Sigur Rós", "Ágætis byrjun", "ÞÓR", "Queensrÿche"),
    *(
        "Déjà vu",
        "NÃO",
        "L’été indien",
        "Кино",
        "宇多田",
        "Łódź",
        "İstanbul",
        "Señorita",
        "“Heroes”",
        "µ-Ziq",
        "½ Full",
    ),
    *("Ænima", "¥€$", "ABBA · Gold", "São Paulo", "É o Tchan", "강남스타일", "שלום עליכם", "يا مسافر", "Σ’ αγαπώ"),
]


def test_good_titles_are_not_blamed():
    assert set(misread(pd.Series(GOOD))) == {""}


@pytest.mark.parametrize(
    ("written", "read", "titles"),
    [
        ("utf-8", "cp1252", ["Björk", "Группа крови", "Don’t stop"]),
        ("utf-8", "latin-1", ["Björk", "Группа крови", "“Heroes”"]),
        ("utf-8", "cp1251", ["Björk", "Группа крови"]),
        ("utf-8", "mac_roman", ["Björk", "Группа крови"]),
        ("cp1251", "latin-1", ["Группа крови", "Что такое осень", "Прогулки по воде"]),
        ("cp932", "latin-1", ["残酷な天使のテーゼ", "さくら（独唱）"]),
        ("gb18030", "latin-1", ["月亮代表我的心", "朋友", "青花瓷"]),
        ("cp949", "latin-1", ["강남스타일", "벚꽃 엔딩"]),
        ("cp1253", "latin-1", ["Ζορμπάς", "Μάνος Χατζιδάκις"]),
        ("mac_roman", "cp1252", ["Déjà vu", "Beyoncé"]),
    ],
)
def test_misread_titles_are_repaired(written, read, titles):
    """A few misread titles among good ones are seen, and their true letters are known."""
    wrong = [title.encode(written).decode(read) for title in titles]
    assert misread(pd.Series([*wrong, *GOOD])).tolist() == [*titles, *[""] * len(GOOD)]
