"""What is wrong on this PC, and how to mend it: one finding a check, in the order a call goes.

`wa doctor` prints them, bundle.py packs them. A check looks and changes nothing: no key is pinned, no folder
made, nothing recorded. What cannot be looked at (no server, no sound system) is one finding, and the checks
that hang on it are left out. Each place on the line has its checks in a module of its own.
"""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from whisperagent.doctor import pc, queue, server, sound
from whisperagent.doctor.findings import Finding, failed, looked
from whisperagent.errors import ConfigError
from whisperagent.hosts import Listening, autostart, this_pc
from whisperagent.hosts.autostart import Autostart
from whisperagent.i18n import _
from whisperagent.settings import Loaded, Paths, Settings, paths

__all__ = ["Finding", "examine"]


async def examine(
    loaded: Loaded | ConfigError,
    host_of: Callable[[Settings], Listening] = this_pc,
    autostart_of: Callable[[Paths], Autostart] = autostart.this_pc,
) -> AsyncIterator[Finding]:
    """Every finding, as soon as there is one. loaded: the settings, or why they cannot be read."""
    if isinstance(loaded, ConfigError):
        yield failed("config", loaded)
        # The PC is looked at all the same; only nobody knows which server is meant.
        settings, where = Settings(), paths()
    else:
        settings, where = loaded.settings, loaded.paths
        yield pc.config(settings, where)
        yield pc.extension(settings)
    yield looked("home", lambda: pc.home(where))
    yield looked("space", lambda: pc.space(settings, where))
    if settings.recording.local_key or settings.offline.enabled:
        yield looked("local_key", lambda: pc.local_key(where))
    if settings.offline.enabled:
        yield looked("offline", lambda: pc.offline(settings.offline))
    yield looked("agent", lambda: pc.agent(where, datetime.now(UTC)))
    async for finding in sound.examine(settings, host_of):
        yield finding
    yield looked("spool", lambda: queue.spool(where))
    if isinstance(loaded, ConfigError):
        yield Finding("server", "not here", _("the server is not asked while the settings are broken"))
    else:
        async for finding in server.examine(settings, where):
            yield finding
    yield looked("autostart", lambda: pc.at_login(autostart_of(where)))
    yield looked("last_call", lambda: queue.last_call(where))
