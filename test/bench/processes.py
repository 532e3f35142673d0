"""What /proc tells of a process: its CPU time and its memory."""
import os
import threading

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """utime + stime of all threads; librdkafka's in a worker are among them. In steps of 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_seconds_exactly(pid):
    """The same from the scheduler's own count, in nanoseconds, of the threads that are alive."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total / 1e9


def memory_kb(pid, name):
    """A value of /proc/PID/status: VmHWM counts shared buffers that were touched, RssAnon does not."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise KeyError(name)


def private_kb(pid):
    """Memory that nobody else has: slow to find out (it walks the page tables), so not while loading."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                total += int(line.split()[1])
    return total


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class MemoryWatch:
    """Samples the anonymous memory of processes that come and go, as "pids" is set, every 50 ms."""

    def __init__(self):
        self.pids = []
        self.peak_kb = 0
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()

    def _watch(self):
        while not self._ends.wait(0.05):
            for pid in list(self.pids):
                try:
                    self.peak_kb = max(self.peak_kb, memory_kb(pid, "RssAnon"))
                except (FileNotFoundError, ProcessLookupError, KeyError):
                    pass
