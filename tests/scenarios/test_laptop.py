"""An operator at a laptop: the program over HTTP, the function keys, the real worker behind it."""

import os
import subprocess
import sys
from collections.abc import Callable

from common.queues import POISON_QUEUE
from local.functions_host.process import PROJECT_ROOT, HostProcess
from local.services.feed import SyntheticFeed
from tests.patience import PATIENCE
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World, assert_conserved, put_back_often, until

type Operate = Callable[..., subprocess.CompletedProcess[str]]


def at(host: HostProcess, key: str) -> Operate:
    """Return a laptop that knows the app's address and the key of one function."""

    def operate(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments, "--by", "ann"],
            cwd=PROJECT_ROOT,
            env={
                "LUMEN_SENTINEL_URL": host.url,
                "LUMEN_SENTINEL_KEY": key,
                "PATH": os.environ["PATH"],
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return operate


def give_up_one(world: World) -> None:
    """Let a run send all of its chunks but one, which the host gives up."""
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    first, *others = world.messages()
    producer.terminate()
    world.take_all()
    for text in others:
        world.put(text)
    world.put(put_back_often(first), queue=POISON_QUEUE)


def test_a_laptop_finds_and_repairs_what_is_wrong(new_world: NewWorld) -> None:
    """With the reading key it sees what is wrong; it takes the acting key to repair it."""
    world = new_world(SyntheticFeed(700), proxied=True)
    give_up_one(world)
    host = world.cloud.start_host()
    until(lambda: len(world.kept()) == 1, "the message is kept")
    kept = world.kept()[0].count
    until(lambda: world.fates()[0].accepted == len(world.expected) - kept, "the rest is accepted")

    host_key = at(host, host.host_key)  # opens both, as the acting key's value on both does
    reader = at(host, host.function_keys["read"])
    seen = reader("status")
    assert (seen.returncode, seen.stderr) == (1, "")
    assert "the feed is DEGRADED" in seen.stdout
    (name,) = [record.name for record in world.kept()]
    assert name in reader("poison", "list").stdout
    refused = reader("poison", "replay", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "does not take the key" in refused.stderr

    done = host_key("poison", "replay", name[:-1], "--note", "role given")
    assert (done.returncode, done.stderr) == (0, "")
    assert "replayed" in done.stdout
    world.deliver_all()
    assert_conserved(world)
    world.wait_until_healthy()
    assert reader("status").returncode == 0
    assert "ann: poison replay" in reader("acts").stdout
