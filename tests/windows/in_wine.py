"""What test_wine.py runs in Windows' own Python: one command, one JSON document for each line of stdout.

look              what the host shows of the softphone, each change of it, until it has come and gone
record SECONDS    both sides: a line for each block, then the marks and how the sides were heard
listen SECONDS    the samples of every recording device, by its name, in hexadecimal
doctor            the devices, and the ways to hear and to see
alone             the answer of this Windows to a process loopback
"""

import dataclasses
import json
import os
import sys
import time

from whisperagent.hosts.wasapi import CAPTURE, Com, Sound, in_words
from whisperagent.hosts.windows import WindowsHost
from whisperagent.settings import Detection, Settings

POLL_S = 0.05


def main(command: str, seconds: float = 0.0) -> None:
    if command == "alone":
        alone()
    elif command == "listen":
        listen(seconds)
    else:
        host = WindowsHost(Settings(detection=Detection(poll_s=0.1)))
        {"look": lambda: look(host), "doctor": lambda: doctor(host), "record": lambda: record(host, seconds)}[
            command
        ]()
        host.close()


def say(**document: object) -> None:
    print(json.dumps(document), flush=True)


def look(host: WindowsHost) -> None:
    seen = None
    came = False
    while not came or (seen is not None and seen.process):
        signals = host.signals()
        came = came or signals.process
        if signals != seen:
            seen = signals
            say(**dataclasses.asdict(signals))
        time.sleep(POLL_S)


def record(host: WindowsHost, seconds: float) -> None:
    source = host.open()
    end = host.clock() + seconds
    while host.clock() < end:
        while block := source.read():
            say(side=block.side, at=block.at - source.began, pcm=block.pcm.hex())
        time.sleep(POLL_S)
    capture = [host.capture.agent, host.capture.caller]
    say(marks=[[mark.kind, mark.note] for mark in source.marks()], capture=capture)
    source.close()


def listen(seconds: float) -> None:
    com = Com()
    with com.entered():
        sound = Sound(com)
        names = {one.id: one.name for one in sound.endpoints() if one.flow == CAPTURE}
        streams = {name: sound.microphone(id) for id, name in names.items()}  # noqa: A001
        heard: dict[str, list[str]] = {name: [] for name in streams}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for name, stream in streams.items():
                heard[name] += (pcm.hex() for pcm, _at in stream.read())
            time.sleep(POLL_S)
        for stream in streams.values():
            stream.close()
    say(**{name: "".join(pcm) for name, pcm in heard.items()})


def doctor(host: WindowsHost) -> None:
    say(
        devices=[dataclasses.asdict(device) for device in host.devices()],
        ways={way.name: [way.available, way.why] for way in host.caller_ways() + host.signal_ways()},
    )


def alone() -> None:
    com = Com()
    with com.entered():
        try:
            com.process_client(os.getpid())
        except (com.Error, OSError) as problem:
            say(refused=in_words(problem))
        else:
            say(refused="")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
