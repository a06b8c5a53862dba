"""The least that is possible for each group of measurements, and what stands between."""

LIMITS = {  # by group
    "throughput": (
        "``dd`` reads, writes and syncs once. A put also encrypts, runs BLAKE3 over each chunk (to find changed ones "
        "later) and over each image (for the network), and syncs each pad and its name before the journal tells of it: "
        "128 times for 512 MiB. A get decrypts, and authenticates, every block."
    ),
    "memory": (
        "20 uploads of 4 MiB pads hold 40 of them, plain and sealed, and up to five wait: 180 MiB; a get holds 24, plain "
        "and sealed: 192 MiB. Python and the libraries are 40 MiB. The rest is memory that the C library keeps for "
        "itself."
    ),
    "index": (
        "A block needs a record that it is reserved, one that it is written, and its share of the next checkpoint; the "
        "ids, the fingerprint and the digest alone are 64 bytes, 88 as text."
    ),
    "latency": (
        "One reservation, then as many rounds of 20 writes as the pads need. What is left is the last image, which names "
        "the others and so is sent after them, and the time of the processor."
    ),
    "far": "The same. A call that fails waits a random quarter of a second at most, while others go on.",
    "starting": (
        "Python alone. Typer, which builds the commands, and the modules of the command line are the rest; the libraries "
        "of networks are loaded when one is used."
    ),
    "server": (
        "20 threads that send ready images with ``requests``. A put makes those images meanwhile, reserves, and journals."
    ),
    "objects": (
        "20 threads that send ready images with obstore, or read them. A put makes those images meanwhile and journals, a "
        "get opens them; rclone does as much with its files. It does not sync them: its get is measured until ``sync`` has, "
        "and until it ends."
    ),
    "rivals": (
        "The same work, as others do it, until all its bytes are on the disk: borg, restic and anthill sync them, and after "
        "each command ``sync`` is run. The rows that say *until it ends* are of the commands alone."
    ),
    "tree": "One ``fsync`` for each group of files that share a pad, and a ``stat`` and a read for each.",
    "values": (
        "A put that is durable cannot end before one ``fsync`` of a pad, one of its folder and two of the journal (what "
        "will be written, what was). ``put_many`` shares them among all values; sealing and recording each value is the "
        "rest."
    ),
    "callers": ("Each thread alone ends a put in two calls of the network. Values that are put at once share pads and records."),
    "update": (
        "The fingerprints of all chunks must be made again to know which one changed; one full pad and a small one are sent."
    ),
    "processor": "Sending with ``requests``, AES-GCM and two passes of BLAKE3. The rest is signing, journal and threads.",
}
