"""Both services, APIMart and AppleRouter, on loopback, for tests and for a first try without a key.

```python
async with Emulator() as emulator:
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        ...
    assert not emulator.ledger.billed_more_than_once
```

It shares no code with the rest of the package, so that one misreading of the contract cannot hide in both.

The prompt selects the edit: *star* or *night*, *sunset*, *snow*, *watercolour*, *pencil* or *sketch*,
*black and white*, or a synonym of one of these, selects that filter; any other prompt recolours the image in
two tones of its own. A prompt with *moderated* becomes a task that fails in content moderation and is free.

It never fetches a URL. An input image is one of its own uploads or results, or a `data:` URL; a foreign URL
becomes a placeholder image that says so. It calls a `webhook` on loopback alone, again after
10, 30 and 60 seconds where that fails.

`Fault` describes failures to inject: at the start, through `Emulator.faults`, from a file with `load_faults`,
or over HTTP: `GET`, `POST` and `DELETE /emulator/faults`. `RateLimit` describes a limit on requests,
`ModelSpec` a model with a schema, and whether it honours idempotency keys. Every execution and its cost is in
`Emulator.ledger` and at `GET /emulator/ledger`. Both paths need the key.
"""

from __future__ import annotations

import importlib

try:
    importlib.import_module("PIL")
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "apimart_async.emulator needs Pillow: pip install '.[emulator]' in the clone", name=_missing.name
    ) from _missing

from .catalogue import ModelSpec
from .faults import Fault, Faults, load_faults
from .ledger import Entry, Ledger
from .mirror import Mirror
from .rate_limit import RateLimit
from .server import Emulator
from .service import SeenRequest

__all__ = [
    "Emulator",
    "Entry",
    "Fault",
    "Faults",
    "Ledger",
    "Mirror",
    "ModelSpec",
    "RateLimit",
    "SeenRequest",
    "load_faults",
]
