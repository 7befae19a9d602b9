"""From trained weights to the CTranslate2 folder that faster-whisper loads."""

import json
import shutil
import tempfile
from pathlib import Path

import ctranslate2
import torch
from model import CONFIG, FULL_EOT, FULL_SIZE, FULL_SPECIALS, WHISPER_LANGS
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

FILLER_LOGIT = -30.0  # see TinyWhisper.pin_channel


def _filler(i):
    """A short name for an id that no text uses.

    Id 50256 has the empty name, as in OpenAI's multilingual vocabulary: recent CTranslate2 tells
    a multilingual model by that token, older versions by the size of the vocabulary.
    """
    if i == FULL_EOT - 1:
        return ""
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    name = ""
    while i:
        i, r = divmod(i, 36)
        name = digits[r] + name
    return "~" + name


def whisper_tokenizer(bpe, with_fillers):
    """The BPE with Whisper's ids: text from 0, specials from 50257 (timestamps are implied)."""
    state = json.loads(bpe.to_str())["model"]
    vocab = dict(state["vocab"])
    if with_fillers:
        vocab.update({_filler(i): i for i in range(len(vocab), FULL_EOT)})
    vocab.update({t: FULL_EOT + i for i, t in enumerate(FULL_SPECIALS)})
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m) for m in state["merges"]]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in FULL_SPECIALS])
    return tok


def to_transformers(model, tok, alignment_heads):
    """The trained network as a WhisperForConditionalGeneration with 51865 tokens."""
    eot = FULL_EOT
    special = {t: eot + i for i, t in enumerate(FULL_SPECIALS)}
    blank = [tok.bpe.token_to_id("Ġ")]
    config = WhisperConfig(
        vocab_size=FULL_SIZE,
        tie_word_embeddings=True,
        scale_embedding=False,
        bos_token_id=eot,
        eos_token_id=eot,
        pad_token_id=eot,
        decoder_start_token_id=special["<|startoftranscript|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **CONFIG,
    )
    hf = WhisperForConditionalGeneration(config)
    state = {"model." + k: v for k, v in model.state_dict().items() if not k.startswith("phones.")}
    old = state["model.decoder.embed_tokens.weight"]
    new = torch.zeros(FULL_SIZE, old.shape[1])
    new[:, 0] = FILLER_LOGIT
    new[tok.full_ids()] = old
    new[special["<|translate|>"]] = new[special["<|transcribe|>"]]
    state["model.decoder.embed_tokens.weight"] = new
    state["proj_out.weight"] = new
    hf.load_state_dict(state)
    hf.tie_weights()
    hf.generation_config = GenerationConfig(
        bos_token_id=eot,
        eos_token_id=eot,
        pad_token_id=eot,
        decoder_start_token_id=special["<|startoftranscript|>"],
        # Unlike OpenAI's models the end of text may come first, so silence gives no text.
        suppress_tokens=[],
        begin_suppress_tokens=blank,
        alignment_heads=alignment_heads,
        lang_to_id={f"<|{c}|>": special[f"<|{c}|>"] for c in WHISPER_LANGS},
        task_to_id={t: special[f"<|{t}|>"] for t in ("translate", "transcribe")},
        no_timestamps_token_id=special["<|notimestamps|>"],
        is_multilingual=True,
        return_timestamps=False,
        max_length=448,
    )
    return hf.eval()


def export(model, tok, alignment_heads, out_dir, quantization="int8"):
    """Write out_dir: model.bin, config.json, vocabulary.json, tokenizer.json, preprocessor_config.json."""
    out = Path(out_dir)
    with tempfile.TemporaryDirectory() as temporary:
        hf_dir = Path(temporary)
        to_transformers(model, tok, alignment_heads).save_pretrained(hf_dir)
        whisper_tokenizer(tok.bpe, True).save(str(hf_dir / "tokenizer.json"))
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>"}
        (hf_dir / "tokenizer_config.json").write_text(json.dumps(kind))
        shutil.rmtree(out, ignore_errors=True)
        ctranslate2.converters.TransformersConverter(temporary).convert(str(out), quantization=quantization)
    whisper_tokenizer(tok.bpe, False).save(str(out / "tokenizer.json"), pretty=False)
    features = {
        "feature_size": 80,
        "sampling_rate": 16000,
        "hop_length": 160,
        "chunk_length": 10,
        "n_fft": 400,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(features))
    for name in ("vocabulary.json", "config.json"):  # as written they are mostly indentation
        content = json.loads((out / name).read_text("utf-8"))
        (out / name).write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), "utf-8")
