"""Help-desk telephone phrases in English and French, as a small random grammar.

A template is plain text with ``(a|b|c)`` for a choice (an empty branch is allowed),
``{name}`` for a named slot ({me} is the speaker's name and {you} the other party's), and
``<...>`` for digits: each ``d`` becomes a random digit, so
``<dddd>`` gives "4217" and ``<0d dd dd dd dd>`` gives "06 12 34 56 78".  Digits are always
spoken one by one ("4217" is heard as four two one seven).

Sentences are split into train and held-out by a hash of their text, so a held-out sentence
is never in the training data, whatever the seed.
"""

import hashlib
import random
import re

SLOTS = {
    "en": {
        "name": "Alice|David|Emma|Henry|Julia|Kevin|Laura|Martin|Nicole|Oscar|Peter|Sarah",
        "device": "printer|computer|screen|keyboard|mouse|phone|headset|laptop|scanner|router",
        "team": "support|accounting|sales|marketing|the help desk",
        "since": "| since this morning| since yesterday| since Monday",
        "task": "open my mailbox|read my email|print the report|connect to the network"
        "|find my password|change my password|access my account|join the meeting"
        "|save my file|open the report",
        "object": "printer|password|account|mailbox|phone|network|computer|badge",
        "when": "in ten minutes|in five minutes|tomorrow|tomorrow morning|this afternoon|on Monday",
        "please": "|, please",
    },
    "fr": {
        "name": "Antoine|Camille|Claire|Hélène|Isabelle|Julien|Lucas|Marie|Nicolas|Paul|Sophie|Thomas",
        "masc": "ordinateur|écran|clavier|téléphone|casque|scanner",
        "my": "mon ordinateur|mon imprimante|mon écran|mon clavier|mon téléphone|mon casque"
        "|mon scanner|ma souris|ma tablette",
        "My": "Mon ordinateur|Mon imprimante|Mon écran|Mon clavier|Mon téléphone|Mon casque"
        "|Mon scanner|Ma souris|Ma tablette",
        "your": "votre ordinateur|votre imprimante|votre écran|votre clavier|votre téléphone"
        "|votre casque|votre scanner|votre souris|votre tablette",
        "team": "la comptabilité|le support|le service informatique|le service commercial",
        "since": "| depuis hier| depuis ce matin| depuis lundi",
        "task": "ouvrir ma boîte mail|lire mes messages|imprimer le rapport|me connecter au réseau"
        "|changer mon mot de passe|trouver mon dossier|accéder à mon compte"
        "|rejoindre la réunion|ouvrir mon dossier|imprimer mes messages",
        "when": "dans dix minutes|dans cinq minutes|demain|demain matin|cet après-midi|lundi",
        "please": "|, s'il vous plaît",
    },
}

# Agent phrases, caller phrases, and phrases that either party says.
TEMPLATES = {
    "en": {
        "agent_open": [
            "Hello, help desk, {me} speaking.",
            "Good (morning|afternoon), this is {me} from {team}.",
            "Hello, this is {me}, how can I help you?",
        ],
        "caller_open": [
            "Hello {you}, this is {me}.",
            "Good (morning|afternoon), my name is {me}( and I work in (accounting|sales|marketing)|).",
            "Hello, my name is {me}.",
        ],
        "agent": [
            "How can I help you( today|)?",
            "What is your (name|extension|phone number|ticket number|email address){please}?",
            "Can you spell your name{please}?",
            "Did you (restart|unplug|check) the {device}?",
            "Please (restart|unplug|check|turn off) (your|the) {device}( and wait one minute|).",
            "Can you (restart|unplug|check) (your|the) {device}{please}?",
            "What color is the light?",
            "I am creating a (new |)ticket for your {object}.",
            "I am (resetting|checking) your (password|account|mailbox) now.",
            "Your ticket number is <ddddd>.",
            "The ticket <ddddd> is (open|closed|urgent).",
            "Your new extension is <dddd>.",
            "Please hold the line.",
            "One moment, please.",
            "I will transfer you to ({team}|{name}).",
            "I will call you back {when}.",
            "A technician will (come|call you back) {when}.",
            "Is there anything else?",
            "You are welcome( {you}|).",
            "Does it work now?",
        ],
        "caller": [
            "I am calling about (my|the) {object}.",
            "I have a problem with (my|the) {device}{since}.",
            "My {device} does not work( any more|){since}.",
            "(My|The) {device} (is broken|is very slow|is frozen|will not start"
            "|makes a strange noise){since}.",
            "I cannot {task}{since}.",
            "I can not {task} from home.",
            "I (lost|forgot) my (password|badge|phone|headset|laptop).",
            "Can you (reset my password|unlock my account|send someone|call me back|help me"
            "|check my account|close the ticket){please}?",
            "My extension is <dddd>.",
            "My phone number is <ddd dddd>.",
            "My ticket number is <ddddd>.",
            "You can call me back (on extension <dddd>|{when}).",
            "The light is (green|red|blue).",
            "The screen is (green|red|blue|black).",
            "Yes, I did.",
            "No, not yet.",
            "It works now( {you}|).",
            "It still does not work.",
            "It is (very |)urgent.",
            "Thank you (very much|for your help)( {you}|).",
            "I need a new {device}{please}.",
        ],
        "both": [
            "Yes, please.",
            "No, thank you.",
            "All right.",
            "Very good.",
            "I understand.",
        ],
        "agent_close": ["Have a nice day( {you}|).", "Goodbye( {you}|)."],
        "caller_close": ["Thank you, goodbye( {you}|).", "Goodbye( {you}|)."],
    },
    "fr": {
        "agent_open": [
            "Bonjour, service informatique, {me} à l'appareil.",
            "Bonjour, ici {me} (du support|de la comptabilité|du service informatique).",
            "Bonjour, ici {me}, comment puis-je vous aider ?",
        ],
        "caller_open": [
            "Bonjour {you}, ici {me}.",
            "Bonjour, je m'appelle {me}( et je travaille (à la comptabilité|au service commercial)|).",
        ],
        "agent": [
            "Comment puis-je vous aider( aujourd'hui|) ?",
            "Quel est votre (nom|poste|numéro de téléphone|numéro de ticket){please} ?",
            "Pouvez-vous épeler votre nom{please} ?",
            "Avez-vous (redémarré|débranché|vérifié) {your} ?",
            "Pouvez-vous (redémarrer|débrancher|vérifier) {your}{please} ?",
            "Il faut (redémarrer|débrancher|vérifier) {your}( et attendre une minute|).",
            "De quelle couleur est le voyant ?",
            "Je crée un (nouveau |)ticket pour {your}.",
            "Je (réinitialise|vérifie) votre (mot de passe|compte|boîte mail) maintenant.",
            "Votre numéro de ticket est le <ddddd>.",
            "Le ticket <ddddd> est (ouvert|fermé|urgent).",
            "Votre nouveau poste est le <dddd>.",
            "Ne quittez pas{please}.",
            "Un instant{please}.",
            "Je vous transfère (à la comptabilité|au service commercial|au support|à {name}).",
            "Je vous rappelle {when}.",
            "Un technicien (va passer|vous rappelle) {when}.",
            "Avez-vous besoin d'autre chose ?",
            "Je vous en prie( {you}|).",
            "Est-ce que ça marche maintenant ?",
        ],
        "caller": [
            "J'appelle pour {my}.",
            "J'ai un problème avec {my}{since}.",
            "{My} ne (marche|fonctionne) plus{since}.",
            "{My} (est en panne|ne démarre plus|fait un bruit bizarre|est hors service){since}.",
            "Je n'arrive plus à {task}{since}.",
            "Je ne peux pas {task} de chez moi.",
            "J'ai (perdu|oublié) (mon mot de passe|mon badge|mon téléphone|mon casque|ma tablette).",
            "Pouvez-vous (réinitialiser mon mot de passe|débloquer mon compte|envoyer quelqu'un"
            "|me rappeler|m'aider|vérifier mon compte|fermer le ticket){please} ?",
            "Mon poste est le <dddd>.",
            "Mon numéro est le <0d dd dd dd dd>.",
            "Mon numéro de ticket est le <ddddd>.",
            "Vous pouvez me rappeler (au poste <dddd>|{when}).",
            "Le voyant est (vert|rouge|bleu).",
            "Mon écran est (vert|rouge|bleu|noir).",
            "Oui, c'est fait.",
            "Non, pas encore.",
            "Ça marche maintenant( {you}|).",
            "Ça ne marche toujours pas.",
            "C'est (très |)urgent.",
            "Merci (beaucoup|pour votre aide)( {you}|).",
            "J'ai besoin d'un nouveau (clavier|casque|téléphone|badge|mot de passe){please}.",
        ],
        "both": [
            "Oui, bien sûr.",
            "Non, merci.",
            "D'accord.",
            "Très bien.",
            "Je comprends.",
        ],
        "agent_close": ["Bonne journée( {you}|).", "Au revoir( {you}|)."],
        "caller_close": ["Merci, au revoir( {you}|).", "Bonne journée( {you}|)."],
    },
}

_CHOICE = re.compile(r"\(([^()]*)\)")


def from_template(lang, template, rng, names=None):
    """One random sentence of a template; names fixes who is {me} and who is {you}."""
    slots = {**SLOTS[lang], "me": SLOTS[lang]["name"], "you": SLOTS[lang]["name"], **(names or {})}
    text = re.sub(r"\{(\w+)\}", lambda m: "(" + slots[m.group(1)] + ")", template)
    while True:
        m = _CHOICE.search(text)
        if m is None:
            break
        text = text[: m.start()] + rng.choice(m.group(1).split("|")) + text[m.end() :]
    return re.sub(r"<([^>]*)>", lambda m: re.sub("d", lambda _: str(rng.randrange(10)), m.group(1)), text)


def spoken(text):
    """The text as it is given to the synthesiser: digits one by one, groups apart."""
    text = re.sub(r"(?<=\d) (?=\d)", ", ", text)
    return re.sub(r"(?<=\d)(?=\d)", " ", text)


def _variety(template, lang):
    """How many different sentences a template gives (counted by sampling, up to 24)."""
    rng = random.Random(0)
    return len({from_template(lang, template, rng) for _ in range(80)})


_FIXED = {
    (lang, t)
    for lang, roles in TEMPLATES.items()
    for ts in roles.values()
    for t in ts
    if _variety(t, lang) < 12
}


def is_fixed(lang, template):
    """True for a template with too few sentences to hold any out."""
    return (lang, template) in _FIXED


def held_out(lang, template, text):
    """True for the tenth of the sentences that are kept out of training.

    Templates with fewer than a dozen sentences ("Please hold the line.") are never held out.
    """
    if is_fixed(lang, template):
        return False
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), 16) % 10 == 0


def sample(lang, rng, split="train", roles=None):
    """One sentence of the split: 'train', 'test' (held out) or 'any'."""
    roles = roles or list(TEMPLATES[lang])
    pool = [t for r in roles for t in TEMPLATES[lang][r]]
    if split == "test":
        pool = [t for t in pool if (lang, t) not in _FIXED]
    while True:
        template = rng.choice(pool)
        for _ in range(200):
            text = from_template(lang, template, rng)
            if split == "any" or held_out(lang, template, text) == (split == "test"):
                return text
        # No sentence of this template falls in the split: take another template.


def words(lang):
    """All the words of a language's grammar (digits left out)."""
    found = set()
    sources = [t for ts in TEMPLATES[lang].values() for t in ts] + list(SLOTS[lang].values())
    for s in sources:
        s = re.sub(r"\{\w+\}|<[^>]*>", " ", s)
        found.update(w for w in re.split(r"[^\w'-]+", s) if w)
    return sorted(found, key=str.lower)
