"""Appends groups to a log as fast as it can and prints each acknowledged end; killed by `test_kill.py` at any moment.

`append_for_kill.py FOLDER LIFE`: record `sequence` of this life is `payload(life, sequence)`.
"""

import os
import sys
from hashlib import blake2b
from pathlib import Path

from edge.storage.files import OsDisk
from edge.storage.log import SegmentLog

SEGMENT_BYTES = 64 * 1024


def payload(life: int, sequence: int) -> bytes:
    """Different in every life, of 8 to 400 bytes."""
    digest = blake2b(b"%d %d" % (life, sequence), digest_size=32).digest()
    head = life.to_bytes(4, "little") + sequence.to_bytes(4, "little")
    return head + digest * (digest[0] % 12)


def main() -> None:
    """Until killed."""
    folder, life = Path(sys.argv[1]), int(sys.argv[2])
    log = SegmentLog.open(OsDisk(folder, create=True), create=True, segment_bytes=SEGMENT_BYTES)
    os.write(1, b"%d\n" % log.durable_sequence)
    group = 0
    while True:
        group += 1
        for _ in range(1 + group * 7919 % 13):
            log.stage(life % 256, payload(life, log.next_sequence))
        os.write(1, b"%d\n" % log.commit())
        log.work()


if __name__ == "__main__":
    main()
