"""Put a journal into databroker's MongoDB catalog: `mongo_databroker.py JOURNAL`.

Prints the CRC-32 of each frame that `table(fill=True)` gives, as JSON. It is a process of its own,
since databroker changes every Tiled client of its process.
"""

import json
import sys
import zlib
from pathlib import Path


def main() -> None:
    from databroker import Broker
    from databroker.mongo_normalized import MongoAdapter
    from tiled.client import from_context
    from tiled.client.context import Context
    from tiled.server.app import build_app

    from bluesky_em.files import journal_reader

    adapter = MongoAdapter.from_mongomock()
    insert = adapter.get_serializer()
    run = journal_reader.read(Path(sys.argv[1]))
    for name, document in run:
        insert(name, document)
    with Context.from_app(build_app(adapter)) as context:
        table = Broker(from_context(context))[run[0][1]["uid"]].table(fill=True)
        print(json.dumps([zlib.crc32(frame.tobytes()) for frame in table["eels"]]))


if __name__ == "__main__":
    main()
