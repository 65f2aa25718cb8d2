"""How much memory a process has used at most, from Linux's own account of it."""

import pathlib


def high_water_mark(process: str = "self") -> int:
    """Largest resident memory so far of a process, by its number, in bytes.

    Not `resource.getrusage`, whose maximum a program inherits from the one that started it.
    """
    status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
