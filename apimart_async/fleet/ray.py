"""The jobs of a Ray dataset as shards of a fleet: Ray restarts its actors and repeats lost shards."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from apimart_async.fleet.fleet import Fleet

# A shard waits nearly all the time. Actors that held all CPUs of a cluster would leave none for reading.
_CPUS: Final = 0.25


class Dataset(Protocol):
    """The methods of ``ray.data.Dataset`` in use."""

    # Its further parameters have other types in each version.
    repartition: Any
    map_batches: Any


D = TypeVar("D", bound=Dataset)


class ShardActor:
    """An actor that runs shards.

    Its call is synchronous: the event loop of an asynchronous actor would also have to deliver results.

    Args:
        fleet: Plain data; the key comes from the environment of the node.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def __call__(self, rows: Any) -> Any:  # noqa: ANN401 tables of pyarrow, which may not be installed
        """Run the rows of a table as a shard, and return a table of their results."""
        pyarrow: Any = importlib.import_module("pyarrow")
        results = self._fleet.run_shard(rows.to_pylist())
        texts = ("id", "status", "task_id")
        columns: dict[str, Any] = {name: [result[name] for result in results] for name in texts}
        columns["paths"] = [result["paths"] for result in results]
        columns["cost"] = [result["cost"] for result in results]
        columns["error"] = [result["error"] and result["error"]["message"] for result in results]
        columns["result"] = [json.dumps(result, default=str) for result in results]
        types = {"paths": pyarrow.list_(pyarrow.string()), "cost": pyarrow.float64()}
        # Fixed types: in a shard without errors, or without costs, the values show none.
        schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in columns])
        return pyarrow.table(columns, schema=schema)


def run_with_ray(fleet: Fleet, dataset: D, actors: int, shard: int) -> D:
    """Return the dataset of the results; see ``Fleet.ray``."""
    for name, number in (("actors", actors), ("shard", shard)):
        if number < 1:
            raise InvalidArgumentError(f"{name} must be a whole number above 0, not {number!r}.")
    try:
        strategy = importlib.import_module("ray.data").ActorPoolStrategy
    except ImportError:
        raise InvalidArgumentError("Fleet.ray needs Ray: install the extra 'ray' of this package.") from None
    # One block is one call of an actor: larger blocks would leave other actors without work.
    shards: D = dataset.repartition(target_num_rows_per_block=shard).map_batches(
        ShardActor,
        fn_constructor_args=(fleet,),
        batch_size=shard,
        batch_format="pyarrow",
        compute=strategy(size=actors),
        num_cpus=_CPUS,
    )
    return shards
