"""The peak of a subprocess's resident memory.

Not ``getrusage``'s ``ru_maxrss``: a process inherits that from the one that started it, here a test process of any size.
"""

# an expression, in bytes, for the script of a subprocess (Linux)
PEAK = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024'
