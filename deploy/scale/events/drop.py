"""Drop one answer from all caches of the tier, so that the next such request is computed anew."""

from contextlib import suppress

import redis

from deploy.scale.cache import PATIENCE, TTL
from deploy.scale.client import Tier
from deploy.scale.events import hints
from deploy.scale.registry import Version
from lib.core.errors import WorkbookError
from lib.core.files import read_json
from lib.serve import contract


def drop(tier: Tier, body: str) -> str:
    """Drop the served version's answer to a request. Return what happened, in one line.

    Redis loses it first, so that no worker takes it from there again. Then a hint reaches the workers, and each has its
    Varnish drop it too. A worker that misses the hint keeps the answer until its time is over (`TTL` in cache.py).

    Args:
        body: of POST /recommend.

    Raises:
        WorkbookError: it is no such body.
    """
    from deploy.scale import api  # not at the top: it loads the whole worker
    from deploy.scale.events import personal

    request = contract.parse(body.encode(), personal.RecommendRequest)
    if isinstance(request, contract.Answer):
        raise WorkbookError(request.content.error.message)
    version = Version(**read_json(tier.home / "served.json"))
    served = api.Served(version, None, f"{version.model[:16]}:{version.index[:16]}")
    wish = api.canonical(request)
    keys = [api.key(served, wish, pooled) for pooled in (False, True)]  # and the tracks for sessions and trends
    with suppress(redis.RedisError), redis.Redis(port=tier.ports.redis, socket_timeout=PATIENCE) as shared:
        shared.delete(*keys)  # without Redis there is nothing to delete
    for key in keys:
        hints.tell("drop", key, tier.hints())
    return f"The answer {keys[0]} is dropped. A worker that misses the hint keeps it for {TTL} s at most."
