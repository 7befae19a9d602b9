#!/usr/bin/env python3
"""Make the tiny Whisper model from nothing: speech by espeak-ng, training, CTranslate2 folder.

    make_model.py --work DIR --out DIR [--processes N]

DIR of --work keeps the cache of synthetic speech and the checkpoints; a stage whose checkpoint is
there is not done again.  About an hour with two CPU cores.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SEED = 1
SENTENCES = 8000  # synthesised per language
TEXT_TOKENS = 900

# A, B: windows of 5 s and 10 s anywhere in the 30 s.  C: whole windows of 30 s.  D to G: what
# faster-whisper feeds the model with chunk_length 10: 10 s of sound, then zeros up to 30 s (of
# which every tenth position is computed).
# weights: of the phoneme loss on the encoder and of the attention guide on the decoder.
# (steps are those that the delivered model took, in time-limited runs of two processes)
PADDED = {"anywhere": False, "pad_stride": 10}
STAGES = {
    "A": {"steps": 2650, "frames": 500, "size": 32, "lr": 2.5e-3, "warmup": 100, "weights": (1.0, 0.5)}
    | {"min_lr": 0.15},
    "B": {"steps": 850, "frames": 1000, "size": 14, "lr": 1.8e-3, "warmup": 30, "weights": (0.5, 0.5)}
    | {"min_lr": 0.5},
    "C": {"steps": 500, "frames": 3000, "size": 6, "lr": 1.3e-3, "warmup": 30, "weights": (0.3, 0.5)}
    | {"min_lr": 0.55, "anywhere": False},
    "D": {"steps": 400, "frames": 1000, "size": 14, "lr": 1.5e-3, "warmup": 30, "weights": (0.4, 0.5)}
    | {"min_lr": 0.85, **PADDED},
    "E": {"steps": 600, "frames": 1000, "size": 14, "lr": 1.4e-3, "warmup": 30, "weights": (0.4, 0.3)}
    | {"min_lr": 0.65, "even": True, **PADDED},
    "F": {"steps": 2155, "frames": 1000, "size": 16, "lr": 1.15e-3, "warmup": 30, "weights": (0.3, 0.15)}
    | {"min_lr": 0.015, "even": True, **PADDED},
    "G": {"steps": 300, "frames": 1000, "size": 16, "lr": 2e-4, "warmup": 10, "weights": (0.3, 0.15)}
    | {"min_lr": 0.02, "even": True, **PADDED},
}


def tokenizer():
    import grammar
    from model import CompactTokens, train_bpe

    rng = random.Random(SEED)
    return CompactTokens(
        train_bpe([grammar.sample(lang, rng) for lang in ("en", "fr") for _ in range(SENTENCES)], TEXT_TOKENS)
    )


def load(cache, tok, checkpoint=None):
    import torch
    from model import TinyWhisper

    torch.manual_seed(SEED)
    model = TinyWhisper(tok, cache.n_phones)
    if checkpoint:
        model.load_state_dict(torch.load(checkpoint))
    return model


def stage(name, work, rank, world, store, start, scale):
    """One training process of a stage."""
    import torch
    import torch.distributed as dist
    from data import Cache, WindowMaker
    from train import train

    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    cache, tok = Cache(work / "cache.npz"), tokenizer()
    opts = dict(STAGES[name])
    opts["size"] //= world
    opts["steps"] = max(2, int(opts["steps"] * scale))
    train(
        load(cache, tok, start),
        WindowMaker(cache, tok, rank),
        minutes=None,
        seed=SEED,
        rank=rank,
        world=world,
        save=work / f"stage{name}.part.pt",
        **opts,
    )


def run_stage(name, work, world, start, scale):
    """All processes of a stage; returns the checkpoint."""
    done = work / f"stage{name}.pt"
    if not done.exists():
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            # keep freed memory: page faults cost much otherwise
            "MALLOC_MMAP_THRESHOLD_": "2000000000",
            "MALLOC_TRIM_THRESHOLD_": "4000000000",
            "MALLOC_TOP_PAD_": "200000000",
        }
        command = [sys.executable, __file__, "--work", work, "--processes", str(world), "--scale", str(scale)]
        command += ["--stage", name, "--start", start or ""]
        with tempfile.TemporaryDirectory() as tmp:
            command += ["--store", Path(tmp) / "store"]
            processes = [subprocess.Popen([*command, "--rank", str(rank)], env=env) for rank in range(world)]
            codes = [process.wait() for process in processes]
        if any(codes):
            raise SystemExit(f"stage {name} failed")
        (work / f"stage{name}.part.pt").replace(done)
    return done


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--work", type=Path, default="work")
    ap.add_argument("--out", default="model")
    ap.add_argument("--processes", type=int, default=2)
    ap.add_argument("--scale", type=float, default=1.0, help="0.01 for a quick trial of the whole job")
    ap.add_argument("--stage", help=argparse.SUPPRESS)
    ap.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    ap.add_argument("--store", help=argparse.SUPPRESS)
    ap.add_argument("--start", help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.stage:
        stage(args.stage, args.work, args.rank, args.processes, args.store, args.start, args.scale)
    else:
        make(args.work, args.out, args.processes, args.scale)


def make(work, out, processes, scale):
    from data import Cache, build_cache
    from export import export
    from model import ALIGNMENT_HEADS

    work.mkdir(parents=True, exist_ok=True)
    cache = work / "cache.npz"
    if not cache.exists():
        build_cache(cache, max(300, int(SENTENCES * scale)), SEED, processes)
    checkpoint = None
    for name in STAGES:
        checkpoint = run_stage(name, work, processes, checkpoint, scale)
    tok = tokenizer()
    model = load(Cache(cache), tok, checkpoint).eval()
    export(model, tok, ALIGNMENT_HEADS, out, quantization="int8_float16")


if __name__ == "__main__":
    main()
