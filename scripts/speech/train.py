"""The training loop and its losses."""

import math
import time

import numpy as np
import torch
import torch.distributed as dist
from torch.nn import functional


def make_batch(maker, key, frames, size, anywhere):
    """Features, offsets, decoder inputs and all the targets of one batch.

    anywhere: the windows are placed anywhere in the 30 s, so that all positions and all
    timestamps are learnt on short windows; otherwise they begin the 30 s.
    """
    maker.rng.seed(key)
    rng, tok = maker.rng, maker.tok
    mels, offsets, dec_offsets, seqs, phones = [], [], [], [], []
    long = frames > 600
    for _ in range(size):
        kinds = [40, 20, 34, 6] if long else [60, 0, 37, 3]
        kind = rng.choices(["call", "dense", "short", "silence"], kinds)[0]
        offset = 2 * rng.choice([0, rng.randrange(0, 1500 - frames // 2)]) if anywhere else 0
        dec = 0 if long else rng.choice([0, rng.randrange(0, 300)])
        mel, lang, segments, ph = maker.window(frames, offset, kind)
        history = (0.3 if anywhere else 0.5) if long else 0.0
        seqs.append((*maker.tokens(lang, segments, offset, history, long and offset == 0), kind == "silence"))
        mels.append(mel)
        offsets.append(offset // 2)
        dec_offsets.append(dec)
        phones.append(ph)
    length = max(len(s[0]) for s in seqs) - 1
    x = np.full((size, length), tok.special["<|endoftext|>"], dtype=np.int64)
    y = np.full((size, length), -100, dtype=np.int64)
    spans = np.full((size, length, 2), -1.0, dtype=np.float32)
    for b, (seq, places, skip, silent) in enumerate(seqs):
        n = len(seq) - 1
        x[b, :n] = seq[:-1]
        y[b, skip:n] = seq[skip + 1 :]
        for k in range(skip, n):  # the query that predicts a token looks at that token's audio
            if places[k + 1] is not None:
                spans[b, k] = places[k + 1]
        if silent:
            y[b, skip] = tok.special["<|nospeech|>"]
        y[b, skip + 1] = -100  # <|transcribe|> is given
        if seq[skip + 3] == tok.special["<|notimestamps|>"]:
            y[b, skip + 2] = -100  # given as well
    return [
        torch.from_numpy(np.ascontiguousarray(a))
        for a in (np.stack(mels), np.array(offsets), np.array(dec_offsets), x, y, spans, np.stack(phones))
    ]


def decoder_loss(tok, logits, y):
    """Cross entropy; a timestamp's target is spread a little over its neighbours."""
    logp = functional.log_softmax(logits.float(), -1)
    begin = tok.timestamp_begin
    stamps = y >= begin
    loss = functional.nll_loss(logp[~stamps], y[~stamps], reduction="sum")
    if stamps.any():
        lp, t = logp[stamps], y[stamps]
        for shift, weight in ((-2, 0.05), (-1, 0.15), (0, 0.6), (1, 0.15), (2, 0.05)):
            loss = loss + weight * functional.nll_loss(
                lp, (t + shift).clamp(begin, tok.size - 1), reduction="sum"
            )
    return loss / len(y), (logp.argmax(-1) == y)[~stamps].float().mean()


def guide_loss(attention, spans, even):
    """How little of the guided heads' attention falls on the token's own audio.

    even: how far the attention is from an even one over that audio.  Word timestamps come from
    normalised attention: with sharp peaks, the frames between them would fall to any token.
    """
    slack = 1.0 if even else 2.0
    want = spans[..., 1] >= 0
    attention, spans = attention.transpose(1, 2)[want].float(), spans[want]
    at = torch.arange(attention.shape[-1])
    inside = ((at >= spans[:, :1] - slack) & (at <= spans[:, 1:] + slack)).float()[:, None]
    if not even:
        return -torch.log((attention * inside).sum(-1) + 1e-4).mean()
    inside = inside / inside.sum(-1, keepdim=True).clamp(min=1)
    return -(inside * torch.log(attention + 1e-5)).sum(-1).mean()


def train(
    model,
    maker,
    *,
    steps,
    minutes,
    frames,
    size,
    lr,
    warmup,
    seed,
    weights,
    anywhere=True,
    pad_stride=0,
    even=False,
    min_lr=0.02,
    rank=0,
    world=1,
    save=None,
):
    """Adam until the steps or the minutes are over (the learning rate follows the first to end)."""
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    t0, seen = time.time(), []
    phone_weight, guide_weight = weights
    for step in range(steps):
        clock = torch.tensor(max(step / steps, (time.time() - t0) / 60 / minutes if minutes else 0))
        if world > 1:
            dist.broadcast(clock, 0)
        frac = clock.item()
        if frac >= 1:
            break
        factor = min(1, (step + 1) / warmup) * (min_lr + (1 - min_lr) * 0.5 * (1 + math.cos(math.pi * frac)))
        for g in opt.param_groups:
            g["lr"] = lr * factor
        mel, offsets, dec_offsets, x, y, spans, phones = make_batch(
            maker, f"{seed}-{frames}-{step}-{rank}", frames, size, anywhere
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            memory, bias = model.encoder(mel, offsets, pad_stride)
            hidden, guided = model.decoder(x, memory, dec_offsets, bias)
            logits = model.logits(hidden[y != -100])
        loss, acc = decoder_loss(model.tok, logits, y[y != -100])
        phone = functional.cross_entropy(
            model.phones(memory[:, : phones.shape[1]].float()).flatten(0, 1),
            phones.flatten(),
            ignore_index=-1,
        )
        guide = guide_loss(guided, spans, even)
        opt.zero_grad(set_to_none=True)
        (loss + phone_weight * phone + guide_weight * guide).backward()
        if world > 1:
            flat = torch.cat([p.grad.flatten() for p in params])
            dist.all_reduce(flat)
            flat /= world
            for p, g in zip(params, flat.split([p.numel() for p in params]), strict=True):
                p.grad.copy_(g.view_as(p))
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        model.pin_channel()
        seen.append((loss.item(), phone.item(), guide.item(), acc.item()))
        if rank == 0 and step % 50 == 49:
            a = np.mean(seen[-50:], axis=0)
            print(
                f"step {step + 1} {time.time() - t0:.0f}s lr {lr * factor:.5f} loss {a[0]:.3f} "
                f"phonemes {a[1]:.3f} guide {a[2]:.3f} text accuracy {a[3]:.4f}",
                flush=True,
            )
        if rank == 0 and save and step % 100 == 99:
            torch.save(model.state_dict(), save)
    if rank == 0 and save:
        torch.save(model.state_dict(), save)
