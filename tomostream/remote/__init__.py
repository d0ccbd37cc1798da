"""Files and folders that are not on this machine's disks: URLs that fsspec knows, and what may go wrong on the way to them."""
