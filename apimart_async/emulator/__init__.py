"""The services of contract.md on loopback: for tests and for a first try without a key.

```python
async with Emulator() as emulator:
    async with AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client:
        ...
    assert not emulator.ledger.billed_more_than_once
```

It stands apart: it shares no code with the rest of the package, so that one misreading of the contract
cannot hide in both.

Prompts choose what the edits look like. A prompt with *star*, *sunset*, *snow*, *cyberpunk* or *neon*,
*watercolour*, *pencil* or *sketch*, *black and white* (and a few relatives of these words) gets that look;
any other gets colours of its own. A prompt with *moderated* becomes a task that fails in content moderation
and is free.

It never fetches an address. A picture is one of its own uploads or results, or a `data:` URL; any other
address is drawn as a placeholder that says so. It calls no webhook.

Things go wrong on purpose where `Fault` says so: given at the start, changed through `Emulator.faults`, read
from a file with `load_faults`, or over HTTP while it runs: `GET`, `POST` and `DELETE /emulator/faults`. What
was really executed and billed is in `Emulator.ledger` and at `GET /emulator/ledger`. Neither path needs a
key.
"""

from __future__ import annotations

from .faults import Fault, Faults, load_faults
from .ledger import Entry, Ledger
from .server import Emulator
from .service import SeenRequest

__all__ = ["Emulator", "Entry", "Fault", "Faults", "Ledger", "SeenRequest", "load_faults"]
