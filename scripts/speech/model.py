"""The Whisper network (same parameter names as transformers' WhisperModel) and its tokeniser.

It is written out here, rather than taken from transformers, so that training can crop the
position tables and feed short windows; export.py loads the weights into the real
WhisperForConditionalGeneration, which is what gets converted.
"""

import math

import grammar
import torch
from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers.models.whisper.modeling_whisper import sinusoids

# --- tokeniser ---------------------------------------------------------------------------
# Released multilingual Whisper models have 51865 tokens, and CTranslate2 before 4.8 takes a model
# for multilingual only if it has at least that many.  The model is trained with its real tokens
# only (text, specials, timestamps); export.py spreads them over the 51865 ids.
FULL_SIZE = 51865
FULL_EOT = 50257
WHISPER_LANGS = list(_LANGUAGE_CODES)[:99]  # faster-whisper lists "yue" last: only large-v3 has it
FULL_SPECIALS = (
    ["<|endoftext|>", "<|startoftranscript|>"]
    + [f"<|{code}|>" for code in WHISPER_LANGS]
    + [
        "<|translate|>",
        "<|transcribe|>",
        "<|startoflm|>",
        "<|startofprev|>",
        "<|nospeech|>",
        "<|notimestamps|>",
    ]
)
TRAINED_SPECIALS = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|fr|>",
    "<|transcribe|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
assert FULL_EOT + len(FULL_SPECIALS) + 1501 == FULL_SIZE


def train_bpe(texts, size):
    """A byte-level BPE like Whisper's, on the grammar's sentences."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # Digits apart, so that no token holds two of them.
    tok.train_from_iterator((" " + grammar.spoken(t) for t in texts), trainer)
    return tok


class CompactTokens:
    """Token ids of the training vocabulary: text, trained specials, 1501 timestamps."""

    def __init__(self, bpe):
        self.bpe = bpe
        self.n_text = bpe.get_vocab_size()
        self.special = {t: self.n_text + i for i, t in enumerate(TRAINED_SPECIALS)}
        self.timestamp_begin = self.n_text + len(TRAINED_SPECIALS)
        self.size = self.timestamp_begin + 1501

    def encode(self, text):
        return self.bpe.encode(text).ids

    def encode_with_offsets(self, text):
        """Ids and the span of characters of each (a leading space is not in the span)."""
        e = self.bpe.encode(text)
        return e.ids, e.offsets

    def timestamp(self, tick):
        return self.timestamp_begin + tick

    def full_ids(self):
        """For each compact id, its id among the 51865."""
        return (
            list(range(self.n_text))
            + [FULL_EOT + FULL_SPECIALS.index(t) for t in TRAINED_SPECIALS]
            + list(range(FULL_SIZE - 1501, FULL_SIZE))
        )


# --- network -----------------------------------------------------------------------------
CONFIG = {
    "d_model": 80,
    "encoder_layers": 4,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 320,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 320,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}


# Cross-attention heads that are taught where in the audio each token is, in the last decoder
# layer: they steer the decoder early in training, and give the word timestamps afterwards.
GUIDED_HEADS = 2
ALIGNMENT_HEADS = [[CONFIG["decoder_layers"] - 1, h] for h in range(GUIDED_HEADS)]


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.q_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x, memory=None, causal=False, keep=0, bias=None):
        """keep: how many heads to return the attention of; bias: added to the score of each key."""
        memory = x if memory is None else memory

        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(memory)), split(self.v_proj(memory))
        kept = None
        if keep or (not causal and memory.shape[1] <= 700):  # faster than the fused kernel on a CPU
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            weights = torch.softmax(scores if bias is None else scores + bias.to(scores.dtype), -1)
            kept = weights[:, :keep]
            y = weights @ v
        else:
            mask = None if bias is None else bias.to(q.dtype).expand(q.shape[2], -1)
            y = functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        return (y, kept) if keep else y


class Layer(nn.Module):
    def __init__(self, dim, heads, ffn, cross):
        super().__init__()
        self.self_attn = Attention(dim, heads)
        self.self_attn_layer_norm = nn.LayerNorm(dim)
        if cross:
            self.encoder_attn = Attention(dim, heads)
            self.encoder_attn_layer_norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, ffn)
        self.fc2 = nn.Linear(ffn, dim)
        self.final_layer_norm = nn.LayerNorm(dim)

    def forward(self, x, memory=None, bias=None):
        """With a memory (decoder), also returns the cross-attention of the guided heads."""
        cross = memory is not None
        x = x + self.self_attn(self.self_attn_layer_norm(x), causal=cross, bias=None if cross else bias)
        kept = None
        if cross:
            y, kept = self.encoder_attn(self.encoder_attn_layer_norm(x), memory, keep=GUIDED_HEADS, bias=bias)
            x = x + y
        x = x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        return x if kept is None else (x, kept)


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c["d_model"]
        self.conv1 = nn.Conv1d(c["num_mel_bins"], d, 3, padding=1)
        self.conv2 = nn.Conv1d(d, d, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(c["max_source_positions"], d)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(
            Layer(d, c["encoder_attention_heads"], c["encoder_ffn_dim"], False)
            for _ in range(c["encoder_layers"])
        )
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, mel, offsets, pad_stride=0):
        """Returns the states and (with pad_stride) the bias of the keys, else None.

        pad_stride: the window goes on with zeros up to 30 s, but only every pad_stride-th
        position of them is computed, and counts for all that it stands for (exact if 1).
        """
        x = self.frontend(mel)
        positions = offsets[:, None] + torch.arange(x.shape[1])
        bias = None
        if pad_stride:
            pads = torch.arange(x.shape[1] + int(torch.randint(pad_stride, ())), 1500, pad_stride)
            empty = self.frontend(torch.zeros(1, mel.shape[1], 16))[:, 4:5]
            bias = torch.cat([torch.zeros(x.shape[1]), torch.full((len(pads),), math.log(pad_stride))])
            positions = torch.cat([positions, pads.expand(len(x), -1)], 1)
            x = torch.cat([x, empty.expand(len(x), len(pads), -1)], 1)
        x = x + self.embed_positions(positions)
        for layer in self.layers:
            x = layer(x, bias=bias)
        return self.layer_norm(x), bias

    def frontend(self, mel):
        return functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)


class Decoder(nn.Module):
    def __init__(self, c, vocab):
        super().__init__()
        d = c["d_model"]
        self.embed_tokens = nn.Embedding(vocab, d)
        self.embed_positions = nn.Embedding(c["max_target_positions"], d)
        self.layers = nn.ModuleList(
            Layer(d, c["decoder_attention_heads"], c["decoder_ffn_dim"], True)
            for _ in range(c["decoder_layers"])
        )
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, tokens, memory, offsets, bias=None):
        x = self.embed_tokens(tokens) + self.embed_positions(offsets[:, None] + torch.arange(tokens.shape[1]))
        for layer in self.layers:
            x, guided = layer(x, memory, bias)
        return self.layer_norm(x), guided


class TinyWhisper(nn.Module):
    """Encoder, decoder, and a phoneme head on the encoder that is dropped after training."""

    def __init__(self, tok, n_phones, config=CONFIG):
        super().__init__()
        d = config["d_model"]
        self.tok = tok
        self.encoder = Encoder(config)
        self.decoder = Decoder(config, tok.size)
        self.phones = nn.Linear(d, n_phones)
        for m in self.modules():
            if isinstance(m, (nn.Linear, nn.Conv1d)):
                nn.init.xavier_uniform_(m.weight)
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        table = sinusoids(config["max_source_positions"], d)
        self.encoder.embed_positions.weight.data.copy_(table)
        nn.init.normal_(self.decoder.embed_positions.weight, std=0.02)
        emb = self.decoder.embed_tokens.weight.data
        nn.init.normal_(emb, std=d**-0.5)
        # A timestamp starts as the encoder's position of that time: the decoder only has to copy it.
        emb[tok.timestamp_begin :] = 0.15 * torch.cat([table, table[-1:]])
        self.pin_channel()

    @torch.no_grad()
    def pin_channel(self):
        """Keep output channel 0 at one, and at zero in all trained tokens.

        The tokens that only fill up the 51865 get a very negative value there, hence a
        probability of zero, without ever being part of the training.
        """
        self.decoder.layer_norm.weight[0] = 0
        self.decoder.layer_norm.bias[0] = 1
        self.decoder.embed_tokens.weight[:, 0] = 0

    def logits(self, hidden):
        return functional.linear(hidden, self.decoder.embed_tokens.weight)
