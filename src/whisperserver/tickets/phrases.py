"""What a ticket's draft says, in French and in English; and what callers say that tells nothing."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What a draft says in one language.

    pleasantries: words that open a sentence without saying anything. introduction: how a caller says a name;
    such a sentence is not what the call is about.
    """

    call: str
    at: str
    colon: str
    extension: str
    party: str
    unknown_party: str
    directions: dict[str, str]
    duration: str
    language: str
    languages: dict[str, str]
    interrupted: str
    transcript: str
    silence: str
    cut: str
    agent: str
    automatic: str
    reviewed: str
    pleasantries: frozenset[str]
    introduction: re.Pattern[str]


def _set_of(words: str) -> frozenset[str]:
    return frozenset(words.split())


FRENCH = Words(
    call="Appel",
    at="%d/%m/%Y à %H:%M",
    colon=" :",
    extension="Poste",
    party="Correspondant",
    unknown_party="numéro inconnu",
    directions={"inbound": "appel reçu", "outbound": "appel émis", "internal": "appel interne"},
    duration="Durée",
    language="Langue",
    languages={"fr": "français", "en": "anglais"},
    interrupted="Enregistrement interrompu : une partie de l'appel manque.",
    transcript="Transcription",
    silence="(aucune parole)",
    cut="(la suite est dans WhisperAgent)",
    agent="Technicien",
    automatic="Transcription automatique (modèle {model})",
    reviewed=", relue par {reviewer} à {time}",
    pleasantries=_set_of(
        "ah allo allô alors ben bon bonjour bonsoir bah donc euh hein heu oui non ouais ok salut merci"
        " madame monsieur voilà - –"
    ),
    introduction=re.compile(r"(?:\w+, )?(?i:ici|c['’]est|je suis|je m['’]appelle|mon nom est) [A-ZÀ-Þ]"),
)

ENGLISH = Words(
    call="Call",
    at="%Y-%m-%d at %H:%M",
    colon=":",
    extension="Extension",
    party="Other party",
    unknown_party="unknown number",
    directions={"inbound": "call received", "outbound": "call made", "internal": "internal call"},
    duration="Duration",
    language="Language",
    languages={"fr": "French", "en": "English"},
    interrupted="The recording was interrupted: a part of the call is missing.",
    transcript="Transcript",
    silence="(nothing was said)",
    cut="(the rest is in WhisperAgent)",
    agent="Technician",
    automatic="Automatic transcription (model {model})",
    reviewed=", reviewed by {reviewer} at {time}",
    pleasantries=_set_of(
        "ah alright good morning afternoon evening er hello hey hi mm no oh ok okay please right so thank"
        " thanks uh um well yeah yes you - –"
    ),
    introduction=re.compile(r"(?:\w+, )?(?i:this is|my name is|i am|i['’]m|it['’]s|it is) [A-Z]"),
)

LANGUAGES = {"fr": FRENCH, "en": ENGLISH}
