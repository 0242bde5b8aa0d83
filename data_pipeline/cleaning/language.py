"""Language identification by py3langid (Lui and Baldwin 2012), whose package contains its model."""

from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import cache
from importlib.util import find_spec
from typing import Any

from sesame.configs.errors import ConfigError, CorpusError

LANGUAGES = """
af=Afrikaans afr, am=Amharic amh, an=Aragonese arg, ar=Arabic ara, as=Assamese asm, az=Azerbaijani aze,
be=Belarusian bel by, bg=Bulgarian bul, bn=Bengali ben, br=Breton bre, bs=Bosnian bos, ca=Catalan cat, cs=Czech ces
cze cz, cy=Welsh cym, da=Danish dan dk, de=German deu ger Deutsch, dz=Dzongkha dzo, el=Greek ell gre gr, en=English
eng us uk gb, eo=Esperanto epo, es=Spanish spa sp, et=Estonian est ee, eu=Basque eus baq, fa=Persian fas per Farsi
ir, fi=Finnish fin, fo=Faroese fao, fr=French fra fre, ga=Irish gle ie, gl=Galician glg, gu=Gujarati guj, he=Hebrew
heb iw il, hi=Hindi hin in, hr=Croatian hrv, ht=Haitian hat, hu=Hungarian hun, hy=Armenian hye arm, id=Indonesian
ind in, is=Icelandic isl, it=Italian ita, ja=Japanese jpn jp, jv=Javanese jav, ka=Georgian kat geo, kk=Kazakh kaz
kz, km=Khmer khm kh, kn=Kannada kan, ko=Korean kor kr, ku=Kurdish kur, ky=Kyrgyz kir kg, la=Latin lat,
lb=Luxembourgish ltz lu, lo=Lao lao, lt=Lithuanian lit, lv=Latvian lav, mg=Malagasy mlg, mk=Macedonian mkd,
ml=Malayalam mal, mn=Mongolian mon, mr=Marathi mar, ms=Malay msa my, mt=Maltese mlt, nb=Norwegian nob no Bokmal,
ne=Nepali nep np, nl=Dutch nld dut, nn=Norwegian nno no Nynorsk, no=Norwegian nor, oc=Occitan oci, or=Odia ori
Oriya, pa=Punjabi pan, pl=Polish pol, ps=Pashto pus af, pt=Portuguese por br, qu=Quechua que, ro=Romanian ron rum,
ru=Russian rus, rw=Kinyarwanda kin, se=Sami sme, si=Sinhala sin lk, sk=Slovak slk, sl=Slovenian slv si, sq=Albanian
sqi alb al, sr=Serbian srp rs, sv=Swedish swe se, sw=Swahili swa, ta=Tamil tam, te=Telugu tel, th=Thai tha,
tl=Tagalog tgl Filipino ph, tr=Turkish tur, ug=Uyghur uig, uk=Ukrainian ukr ua, ur=Urdu urd pk, vi=Vietnamese vie
vn, vo=Volapuk vol, wa=Walloon wln, xh=Xhosa xho, zh=Chinese zho chi cn tw, zu=Zulu zul
"""
NAMES = {code: names for code, _, names in (each.partition("=") for each in " ".join(LANGUAGES.split()).split(", "))}
"""Code -> name of the language, and other codes that users may write: ISO 639-2, countries."""
SUGGESTIONS = 3
"""Codes in the error message for an unknown one."""
SAMPLE_CHARACTERS = 1000
"""From the middle of a text; more do not make the result surer, only slower."""


def check(codes: Iterable[str]) -> None:
    """Check that the languages can be identified.

    Raises:
        CorpusError: the package is not installed.
        ConfigError: the package does not know one of the codes.
    """
    if find_spec("py3langid") is None:
        raise CorpusError("clean.languages needs a package that is not installed; pip install 'sesame[language]'")
    known = sorted({code for code, _ in _identifier().rank("")})
    for unknown in (code for code in codes if code not in known):
        similar = sorted(known, key=lambda code: -_similarity(unknown, code))[:SUGGESTIONS]
        listed = ", ".join(f"{code} ({NAMES[code].split()[0]})" if code in NAMES else code for code in similar)
        raise ConfigError(
            f"clean.languages: py3langid has no language with the code '{unknown}' (ISO 639-1); similar codes: {listed}"
        )


def language(text: str) -> str:
    """Return the code of the most likely language."""
    start = max(0, (len(text) - SAMPLE_CHARACTERS) // 2)
    return str(_identifier().classify(text[start : start + SAMPLE_CHARACTERS])[0])


@cache
def _identifier() -> Any:
    import py3langid

    return py3langid


def _similarity(asked: str, code: str) -> float:
    """2 if ``asked`` is another name of the language, else the share of equal letters."""
    names = [code, *NAMES.get(code, "").lower().split()]
    asked = asked.lower().split("-")[0].split("_")[0]
    return 2.0 if asked in names else max(SequenceMatcher(None, asked, name).ratio() for name in names)
